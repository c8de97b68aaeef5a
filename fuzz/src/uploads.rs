//! The serving side. Whatever the server passes on or makes up: nothing is served without a word of the master that is
//! fresh by this device's own clock and agrees with its own roster, everything is answered once, and nothing is held for
//! ever.

use crate::{Bytes, Counter, keep_time};
use bailiwick::state::chain::LogTip;
use bailiwick::state::conn::ConnId;
use bailiwick::state::time::Time;
use bailiwick::state::uploads::{Asked, Effect, Uploads, UploadsConfig};
use bailiwick::wire::frame::{ChunkRange, within_limits};
use bailiwick::wire::ids::{ContentId, GroupId, Hash, Position};
use bailiwick::wire::log::Head;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const CONN: ConnId = ConnId(1);

struct World {
    uploads: Uploads,
    random: Counter,
    now: Time,
    config: UploadsConfig,
    is_master: bool,
    reachable: bool,
    fresh_for: Duration,
    /// The membership that this device's roster has.
    roster: u8,
    /// Chunks that wait, by request.
    open: BTreeMap<u64, BTreeSet<u32>>,
    /// Nonces, with when each was drawn; the newest is the one that is awaited.
    nonces: Vec<([u8; 16], Time)>,
    awaited: Option<([u8; 16], Time)>,
    /// A good head that names a membership, with when its nonce was drawn.
    heads: Vec<(u8, Time)>,
    /// The newest moment at which a head was asked for that the own roster agreed with.
    fresh_at: Option<Time>,
}

/// Bytes are steps.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let config = UploadsConfig { held_max: 4, ..UploadsConfig::default() };
    let is_master = bytes.once_in(32);
    let mut world = World {
        uploads: Uploads::new(config, is_master),
        random: Counter::default(),
        now: Time(0),
        config,
        is_master,
        reachable: false,
        fresh_for: Duration::from_secs(180),
        roster: 0,
        open: BTreeMap::new(),
        nonces: Vec::new(),
        awaited: None,
        heads: Vec::new(),
        fresh_at: None,
    };
    let mut next = 0;
    while let Some(step) = bytes.next() {
        world.now = Time(world.now.0 + bytes.pause());
        world.pass_time();
        world.step(step, &mut bytes, &mut next);
        world.drain();
        world.pass_time();
        let held = world.open.len();
        assert!(held <= world.config.held_max, "more is held than may be");
        assert!(held == 0 || world.uploads.poll_timeout().is_some(), "nothing is held for ever");
    }
}

impl World {
    fn pass_time(&mut self) {
        let now = self.now;
        for _ in 0..64 {
            if self.uploads.poll_timeout().is_none_or(|at| at > now) {
                return;
            }
            self.uploads.tick(now, &mut self.random);
            self.drain();
        }
        keep_time(&mut self.uploads, now, Uploads::poll_timeout, |_, _| {});
    }

    fn tip(&self) -> LogTip {
        LogTip { membership: Hash([self.roster; 32]), ..LogTip::START }
    }

    fn step(&mut self, step: u8, bytes: &mut Bytes<'_>, next: &mut u64) {
        let now = self.now;
        match step % 12 {
            0..=2 => {
                *next += 1;
                let (first, count) = (bytes.below(8) as u32, 1 + bytes.below(4) as u32);
                let range = ChunkRange { first, count, ..ChunkRange::one(ContentId([1; 16]), 0, 9) };
                self.open.insert(*next, (first..first + count).collect());
                let asked = Asked { conn: CONN, straight: false, request: *next, ranges: vec![range] };
                self.uploads.request(now, &mut self.random, asked);
            }
            3 => {
                self.reachable = !bytes.once_in(4);
                self.awaited = None;
                self.uploads.master_reachable(now, &mut self.random, self.reachable);
            }
            4..=6 => {
                let newest = self.nonces.last().map(|(nonce, _)| *nonce);
                let old = bytes.one(&self.nonces).map(|(nonce, _)| *nonce);
                let nonce = if bytes.once_in(4) { old } else { newest }.unwrap_or([0xee; 16]);
                let membership = if bytes.once_in(4) { bytes.byte() % 4 } else { self.roster };
                let at = Position { generation: 1, revision: 1 };
                let head = Head {
                    group: GroupId([0; 32]),
                    at,
                    header: Hash([0; 32]),
                    membership: Hash([membership; 32]),
                    nonce,
                };
                if let Some((_, drawn)) = self.awaited.take_if(|(awaited, _)| *awaited == nonce) {
                    self.heads.push((membership, drawn));
                }
                self.agree();
                let tip = self.tip();
                self.uploads.head_came(now, &mut self.random, head, &tip);
            }
            7 => {
                self.roster = bytes.byte() % 4;
                self.agree();
                let tip = self.tip();
                self.uploads.roster_changed(now, &mut self.random, &tip);
            }
            8 if bytes.once_in(3) => {
                (self.reachable, self.awaited) = (false, None);
                self.uploads.master_away();
            }
            9 => {
                let request = bytes.below(*next + 2);
                let count = if bytes.once_in(8) { bytes.number() as u32 } else { bytes.below(4) as u32 };
                let range =
                    ChunkRange { first: bytes.number() as u32, count, ..ChunkRange::one(ContentId([1; 16]), 0, 9) };
                // What comes from the server is checked before it comes here.
                if !within_limits(&[range]) {
                    return;
                }
                if let Some(chunks) = self.open.get_mut(&request) {
                    let over: BTreeSet<u32> = range.chunks().map(|(_, index, _)| index).collect();
                    chunks.retain(|index| !over.contains(index));
                    self.open.retain(|_, chunks| !chunks.is_empty());
                }
                self.uploads.cancel(CONN, request, &[range]);
            }
            10 if bytes.once_in(8) => {
                self.open.clear();
                self.uploads.forget_held(CONN);
            }
            11 if bytes.once_in(4) => {
                self.fresh_for = Duration::from_millis(10_000 + bytes.number() % 2_592_000 * 1_000);
                self.uploads.set_fresh_for(self.fresh_for);
            }
            _ => self.uploads.tick(now, &mut self.random),
        }
    }

    /// Heads that the roster agrees with now make this device as fresh as their nonces.
    fn agree(&mut self) {
        let roster = self.roster;
        let newest = self.heads.iter().filter(|(membership, _)| *membership == roster).map(|(_, drawn)| *drawn).max();
        self.fresh_at = self.fresh_at.max(newest);
    }

    fn drain(&mut self) {
        while let Some(effect) = self.uploads.poll_effect() {
            match effect {
                Effect::AskFreshness(nonce) => {
                    assert!(self.reachable && !self.is_master, "nobody to ask");
                    assert!(self.nonces.iter().all(|(other, _)| *other != nonce), "a nonce is drawn once");
                    self.nonces.push((nonce, self.now));
                    self.awaited = Some((nonce, self.now));
                }
                Effect::Serve(asked) => {
                    let fresh = self.fresh_at.is_some_and(|at| self.now.since(at) < self.fresh_for);
                    assert!(self.is_master || fresh, "served without a fresh word");
                    self.answered(&asked);
                }
                Effect::Refuse(asked, _) => self.answered(&asked),
                Effect::Stop { straight } => {
                    let fresh = self.fresh_at.is_some_and(|at| self.now.since(at) < self.fresh_for);
                    assert!(!self.is_master && !straight && !fresh, "stopped though the word is good");
                }
            }
        }
    }

    fn answered(&mut self, asked: &Asked) {
        let chunks: BTreeSet<u32> =
            asked.ranges.iter().flat_map(ChunkRange::chunks).map(|(_, index, _)| index).collect();
        assert_eq!(self.open.remove(&asked.request), Some(chunks), "answered once, without what was cancelled");
    }
}

/// A request that waits for a word and is served; a roster that is behind; a word that grows old.
pub fn seeds() -> Vec<Vec<u8>> {
    let reachable = vec![3, 0, 0];
    let ask = vec![0, 0, 0, 1];
    let word = vec![4, 0, 0, 0, 0];
    let behind = vec![4, 0, 0, 0, 3, 1];
    let caught_up = vec![7, 0, 1];
    let night = vec![11, 252, 0];
    let cancel = vec![9, 0, 1, 0, 1, 0];
    vec![
        [&[0][..], &reachable, &ask, &word, &ask].concat(),
        [&[0][..], &reachable, &ask, &behind, &caught_up, &ask].concat(),
        [&[0][..], &reachable, &ask, &word, &night, &night, &ask, &word].concat(),
        [&[0][..], &reachable, &ask, &cancel, &word].concat(),
        [&[31][..], &ask, &ask].concat(),
    ]
}
