//! Fuzz targets: every decoder of bytes from outside, and every machine under inputs in any order. Each module has one
//! `run`, which takes what the fuzzer gives, and `seeds`, from which the fuzzer begins.

pub mod authority;
pub mod backup;
pub mod cache;
pub mod downloads;
pub mod golden;
pub mod heap;
pub mod import;
pub mod link;
pub mod local;
pub mod member;
pub mod paths;
pub mod patterns;
pub mod replica;
pub mod requests;
pub mod router;
pub mod signed;
pub mod uploads;
pub mod wire;
pub mod words;

use bailiwick::state::random::Random;
use bailiwick::state::time::Time;
use std::fs;
use std::path::Path;

/// Puts what a target begins from into its corpus.
pub fn sow(target: &str, seeds: Vec<Vec<u8>>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).expect("a folder for the corpus");
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed).expect("a seed in it");
    }
}

/// What the fuzzer gives, read piece by piece.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next byte; nothing at the end.
    pub fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next byte; zero at the end.
    pub fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// A number below `end`; zero at the end.
    pub fn below(&mut self, end: u64) -> u64 {
        let low = self.byte();
        let high = if end > 256 { self.byte() } else { 0 };
        (u64::from(high) << 8 | u64::from(low)) % end
    }

    /// Once in so many.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == times - 1
    }

    /// A number that is small, or at one of the edges where arithmetic breaks.
    pub fn number(&mut self) -> u64 {
        const EDGES: [u64; 8] =
            [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1, 1 << 52, u32::MAX as u64, u32::MAX as u64 + 1, 1 << 31];
        match self.byte() {
            small @ 0..=247 => u64::from(small),
            edge => EDGES[usize::from(edge - 248)],
        }
    }

    /// The next bytes, as many as a byte says.
    pub fn some(&mut self) -> &'a [u8] {
        let length = self.below(512).min(self.0.len() as u64) as usize;
        let (some, rest) = self.0.split_at(length);
        self.0 = rest;
        some
    }

    /// How much time passes: nothing, milliseconds, seconds, or a night.
    pub fn pause(&mut self) -> u64 {
        match self.byte() {
            none @ 0..=99 => u64::from(none % 3),
            few @ 100..=179 => u64::from(few - 99) * 25,
            some @ 180..=249 => u64::from(some - 179) * 500,
            250..=252 => 120_000,
            253 | 254 => 600_000,
            255 => 8 * 3_600_000,
        }
    }

    /// One of these.
    pub fn one<'b, T>(&mut self, of: &'b [T]) -> Option<&'b T> {
        let place = self.byte();
        of.get(usize::from(place) % of.len().max(1))
    }

    /// Takes one of these out.
    pub fn take<T>(&mut self, from: &mut Vec<T>) -> Option<T> {
        let place = self.byte();
        if from.is_empty() { None } else { Some(from.remove(usize::from(place) % from.len())) }
    }
}

/// Calls `tick` whenever a machine says so, up to `now`. One that is due again at once, over and over, would keep a
/// processor busy for ever.
pub fn keep_time<M>(machine: &mut M, now: Time, due: impl Fn(&M) -> Option<Time>, mut tick: impl FnMut(&mut M, Time)) {
    for _ in 0..64 {
        if due(machine).is_none_or(|at| at > now) {
            return;
        }
        tick(machine, now);
    }
    panic!("it is due again and again at {now:?}");
}

/// Random bytes that count up: no two draws are the same.
#[derive(Default)]
pub struct Counter(pub u64);

impl Random for Counter {
    fn fill(&mut self, out: &mut [u8]) {
        self.0 += 1;
        let hash = bailiwick::wire::ids::Hash::of(&self.0.to_le_bytes());
        out.iter_mut().zip(hash.0.iter().cycle()).for_each(|(to, from)| *to = *from);
    }
}
