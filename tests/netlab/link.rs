//! A link between two namespaces that takes time, loses packets, and can be broken while it is used.
//!
//! At each end is a TUN device; for each direction packets are carried from one to the other: a rate with a queue
//! before it that holds so much and no more, then a delay. What is lost follows from a seed.

use crate::packet::ends;
use crate::space::Space;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tappers::{Interface, linux::Tun};

/// Bytes of a packet, at most.
const PACKET_BYTES_MAX: usize = 65_536;
/// What a link does to packets, in each direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// How long a packet is under way.
    pub(crate) delay: Duration,
    /// By how much more, at most. Packets stay in their order.
    pub(crate) jitter: Duration,
    /// Bytes a second.
    pub(crate) rate: u64,
    /// How long a packet waits for those before it, at most; what would wait longer is lost.
    pub(crate) queue: Duration,
}

impl Shape {
    /// A quarter of 50 ms: a way between two clients passes two links, there and back.
    pub(crate) fn home(rate: u64) -> Shape {
        let ms = Duration::from_millis;
        Shape { delay: Duration::from_micros(12_500), jitter: ms(1), rate, queue: ms(100) }
    }
}

/// What does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hole {
    /// Anything.
    All,
    /// IPv4, or IPv6.
    V4,
    V6,
    /// Packets between these two, either way.
    Between(IpAddr, IpAddr),
    /// Packets of more bytes.
    Larger(usize),
    /// One of so many, by chance.
    OneOf(u32),
}

impl Hole {
    fn takes(&self, packet: &[u8], dice: &mut Dice) -> bool {
        let ends = ends(packet);
        match *self {
            Hole::All => true,
            Hole::V4 => ends.is_some_and(|(from, _)| from.is_ipv4()),
            Hole::V6 => ends.is_some_and(|(from, _)| from.is_ipv6()),
            Hole::Between(one, other) => ends == Some((one, other)) || ends == Some((other, one)),
            Hole::Larger(bytes) => packet.len() > bytes,
            Hole::OneOf(many) => dice.below(many) == 0,
        }
    }
}

/// Packets from one address to another that a link has taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    from: IpAddr,
    to: IpAddr,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// When the last one was.
    pub(crate) last: Option<Instant>,
}

/// What is done to packets now.
#[derive(Debug, Default)]
struct Care {
    holes: Vec<Hole>,
    counted: Option<Counted>,
}

impl Care {
    /// Says whether a packet goes on.
    fn takes(&mut self, packet: &[u8], dice: &mut Dice) -> bool {
        if let Some(counted) = self.counted.as_mut().filter(|of| ends(packet) == Some((of.from, of.to))) {
            counted.packets += 1;
            counted.bytes += packet.len() as u64;
            counted.last = Some(Instant::now());
        }
        !self.holes.iter().any(|hole| hole.takes(packet, dice))
    }
}

/// See the module. It goes when this is dropped, and its two interfaces with it.
pub(crate) struct Link {
    care: Arc<Mutex<Care>>,
    ends: [(Arc<Space>, String); 2],
    threads: Vec<JoinHandle<()>>,
}

impl Link {
    /// Between an interface in one namespace and one in another.
    pub(crate) fn new(ends: [(Arc<Space>, String); 2], shape: Shape, seed: u64) -> Link {
        let care = Arc::new(Mutex::new(Care::default()));
        let [left, right] = ends.each_ref().map(|(space, name)| {
            let tun = space.within(|| Tun::create_named(Interface::new(name).expect("a name")).expect("a TUN device"));
            space.ip(&format!("link set {name} up"));
            Arc::new(tun)
        });
        let mut threads = Vec::new();
        for (way, from, to) in [(0, &left, &right), (1, &right, &left)] {
            let (sender, receiver) = channel();
            let way = Way { shape, dice: Dice(seed << 1 | way), free: Instant::now(), last: Instant::now() };
            let (from, to, care) = (from.clone(), to.clone(), care.clone());
            threads.push(std::thread::spawn(move || way.take(&from, &care, &sender)));
            threads.push(std::thread::spawn(move || give(&to, &receiver)));
        }
        Link { care, ends, threads }
    }

    /// From now on this does not pass.
    pub(crate) fn dig(&self, hole: Hole) {
        lock(&self.care).holes.push(hole);
    }

    /// From now on packets from one address to another are counted, before what becomes of them.
    pub(crate) fn count(&self, from: IpAddr, to: IpAddr) {
        lock(&self.care).counted = Some(Counted { from, to, packets: 0, bytes: 0, last: None });
    }

    /// What was counted.
    pub(crate) fn counted(&self) -> Counted {
        lock(&self.care).counted.expect("something is counted")
    }

    /// Everything passes again.
    pub(crate) fn mend(&self) {
        lock(&self.care).holes.clear();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Who reads from a device that is gone is told.
        self.ends.iter().for_each(|(space, name)| space.ip(&format!("link del {name}")));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn lock(care: &Mutex<Care>) -> MutexGuard<'_, Care> {
    care.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One direction.
struct Way {
    shape: Shape,
    dice: Dice,
    /// When the last bit of the last packet has left.
    free: Instant,
    /// When the last packet arrives.
    last: Instant,
}

impl Way {
    /// Takes packets from a device until it is gone.
    fn take(mut self, from: &Tun, care: &Mutex<Care>, under_way: &Sender<(Instant, Vec<u8>)>) {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        loop {
            match from.recv(&mut buffer) {
                Ok(bytes) => {
                    let packet = &buffer[..bytes];
                    let goes_on = lock(care).takes(packet, &mut self.dice);
                    let arrives = self.arrives(bytes).filter(|_| goes_on);
                    if arrives.is_some_and(|at| under_way.send((at, packet.to_vec())).is_err()) {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// When a packet of so many bytes that is sent now arrives, if it does.
    fn arrives(&mut self, bytes: usize) -> Option<Instant> {
        let now = Instant::now();
        let start = self.free.max(now);
        let jitter = Duration::from_micros(self.dice.below(self.shape.jitter.as_micros() as u32 + 1).into());
        if start - now > self.shape.queue {
            return None;
        }
        self.free = start + Duration::from_nanos(bytes as u64 * 1_000_000_000 / self.shape.rate);
        self.last = self.last.max(self.free + self.shape.delay + jitter);
        Some(self.last)
    }
}

/// Gives packets to a device, each at its time.
fn give(to: &Tun, under_way: &Receiver<(Instant, Vec<u8>)>) {
    for (at, packet) in under_way {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        // A device that is full, or gone, loses what comes.
        let _ = to.send(&packet);
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, max: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed >> 33) % u64::from(max)) as u32
    }
}
