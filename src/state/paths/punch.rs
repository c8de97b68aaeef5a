//! One attempt of two devices to reach each other: pings to every address that the other one offered, and to those its
//! own pings come from. An address whose pong came lets packets pass both ways.

use super::PathsConfig;
use super::candidates::{reach, usable};
use super::tried::Checked;
use crate::state::time::Time;
use crate::wire::envelope::PathOffer;
use crate::wire::limits::CANDIDATES_MAX;
use crate::wire::probe::ProbeToken;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Addresses that pings came from and no offer named, at most: a symmetric NAT shows one.
const UNOFFERED_MAX: usize = 4;
/// Pings to an address that come fast, one after the other, before they come slowly.
const FAST_PINGS: u32 = 10;
/// Pause between two of those.
const FAST: Duration = Duration::from_millis(100);
/// Pause between two of the others.
const SLOW: Duration = Duration::from_millis(500);
/// A farther address that answers waits so long for a nearer one to do so.
const NEARER_WAIT: Duration = Duration::from_millis(30);

const _: () = assert!(CANDIDATES_MAX + UNOFFERED_MAX < 1 << 16, "a ping's number holds the address's index");

/// An address of the other device.
#[derive(Debug)]
struct Check {
    address: SocketAddr,
    offered: bool,
    pings: u32,
    due: Time,
    /// Whether a ping came from there.
    heard: bool,
    /// When the first pong came.
    answered: Option<Time>,
    /// A dial went there and failed.
    refused: bool,
}

impl Check {
    fn new(now: Time, address: SocketAddr, offered: bool) -> Check {
        Check { address, offered, pings: 0, due: now, heard: false, answered: None, refused: false }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Attempt {
    /// What pings to this device have to say.
    pub(super) token: ProbeToken,
    /// Since when, and if the other device began anew meanwhile, since then.
    since: Time,
    until: Time,
    theirs: Option<ProbeToken>,
    checks: Vec<Check>,
    /// Whether pings of the other device came in.
    heard: bool,
    /// The dial that is under way, or led to a connection whose other end has not said hello.
    pub(super) dialing: Option<(u64, SocketAddr)>,
    /// What the last dial ended with.
    pub(super) dial_error: Option<String>,
}

/// A ping to be sent.
pub(super) struct Ping {
    pub(super) to: SocketAddr,
    pub(super) token: ProbeToken,
    pub(super) number: u32,
}

/// How an attempt ended that came to nothing. The texts are for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// No offer came back.
    #[error(
        "the other device does not answer: it went away a moment ago, is busy with others, or runs an older bailiwick"
    )]
    NoOffer,
    /// The offer that came back was empty.
    #[error(
        "the other device uses the server alone: its person wants that (--relay-only), or nobody could reach its addresses"
    )]
    RelayOnly,
    /// This device has no straight ways.
    #[error("this device uses the server alone; it does otherwise when it is started with --relay-only=false")]
    Off,
    /// Nothing came in.
    #[error(
        "no packet passes between the two; if their NATs are the reason, a port that is forwarded to either device lets them, \
         if a firewall is, a rule in it for UDP"
    )]
    Nothing,
    /// The same, and this device's NAT is of the kind that is hard to pass.
    #[error(
        "no packet passes between the two; this device's NAT seems to give another port to each destination (symmetric): let its router \
         map ports (UPnP, NAT-PMP or PCP), or forward a UDP port to this device"
    )]
    OwnNat,
    /// Nothing could come in.
    #[error("one of the two has IPv4 addresses alone and the other one IPv6 addresses alone: only the server has both")]
    NoCommonFamily,
    /// Pings came in, and no pong.
    #[error("packets pass in one direction alone; a firewall or a NAT of one of the two networks drops the others")]
    OneWay,
    /// Packets pass, but no connection came of it.
    #[error("packets pass, and no connection comes of them: {0}")]
    NoConnection(String),
    /// It is seen on the local network, and dials there failed.
    #[error("it does not answer on this network: it may be off, or a firewall of one of the two drops UDP: {0}")]
    NotNear(String),
    /// There was a connection.
    #[error("the direct connection broke off; another one is tried while something is to be fetched")]
    Broke,
    /// As many as are allowed are there.
    #[error(
        "there are as many direct connections, or attempts at some, as this device makes at a time; it is tried again"
    )]
    TooMany,
    /// This device has none.
    #[error("this device has no address at which others could reach it")]
    NoCandidates,
}

impl Attempt {
    pub(super) fn new(now: Time, token: ProbeToken, config: &PathsConfig) -> Attempt {
        Attempt {
            token,
            since: now,
            until: now.after(config.punch_for),
            theirs: None,
            checks: Vec::new(),
            heard: false,
            dialing: None,
            dial_error: None,
        }
    }

    /// The other device's offer came: it has all the time from now on.
    pub(super) fn offered(&mut self, now: Time, offer: &PathOffer, loopback: bool, config: &PathsConfig) {
        let began_anew = self.theirs.replace(offer.token).is_some_and(|token| token != offer.token);
        self.until = self.until.max(now.after(config.punch_for));
        let offered = usable(offer.candidates.iter().copied(), loopback);
        if began_anew {
            // Where it was before says nothing of where it is now.
            self.since = now;
            self.checks.clear();
            self.dialing = None;
        }
        for address in offered {
            self.check(now, address, true, CANDIDATES_MAX);
        }
    }

    /// When it began.
    pub(super) fn since(&self) -> Time {
        self.since
    }

    /// Whether the other device has said nothing yet.
    pub(super) fn is_unanswered(&self) -> bool {
        self.theirs.is_none()
    }

    /// Whether an offer came that names no address.
    fn is_declined(&self) -> bool {
        self.theirs.is_some() && self.checks.is_empty()
    }

    /// Of those that were offered, and of the others, so many each.
    fn check(&mut self, now: Time, address: SocketAddr, offered: bool, max: usize) {
        if let Some(known) = self.checks.iter_mut().find(|check| check.address == address) {
            // Its pings may come before its offer.
            known.offered |= offered;
            return;
        }
        let alike = self.checks.iter().filter(|check| check.offered == offered).count();
        if alike < max {
            self.checks.push(Check::new(now, address, offered));
        }
    }

    /// A ping with this device's token came: its sender is to be pinged there, too, and at once, for what was sent before
    /// may have met a closed NAT (RFC 8445, section 7.3.1.4).
    pub(super) fn pinged(&mut self, now: Time, from: SocketAddr) {
        self.heard = true;
        self.check(now, from, false, UNOFFERED_MAX);
        if let Some(check) = self.checks.iter_mut().find(|check| check.address == from)
            && !std::mem::replace(&mut check.heard, true)
            && check.answered.is_none()
        {
            check.due = now;
        }
    }

    /// The addresses to which pings went.
    pub(super) fn pinged_addresses(&self) -> impl Iterator<Item = SocketAddr> + Clone {
        self.checks.iter().filter(|check| check.pings > 0).map(|check| check.address)
    }

    /// What was found of each address.
    pub(super) fn checked(&self) -> Vec<Checked> {
        let checked = |check: &Check| Checked {
            address: check.address,
            offered: check.offered,
            pings: check.pings,
            answered: check.answered.map(|at| at.since(self.since)),
            refused: check.refused,
        };
        self.checks.iter().map(checked).collect()
    }

    /// A pong came. Counts only from where the ping went.
    pub(super) fn ponged(&mut self, now: Time, from: SocketAddr, token: ProbeToken, number: u32) {
        let check = self.checks.get_mut((number >> 16) as usize);
        if let Some(check) = check.filter(|check| check.address == from && self.theirs == Some(token)) {
            check.answered.get_or_insert(now);
        }
    }

    /// The pings that are due, to addresses that may get one.
    pub(super) fn pings(&mut self, now: Time, mut may: impl FnMut(IpAddr) -> bool) -> Vec<Ping> {
        let Some(token) = self.theirs else { return Vec::new() };
        let mut pings = Vec::new();
        for (index, check) in self.checks.iter_mut().enumerate().filter(|(_, check)| check.due <= now) {
            if !may(check.address.ip()) {
                check.due = now.after(SLOW);
                continue;
            }
            pings.push(Ping { to: check.address, token, number: (index as u32) << 16 | (check.pings & 0xffff) });
            check.pings += 1;
            check.due = now.after(if check.pings < FAST_PINGS { FAST } else { SLOW });
        }
        pings
    }

    /// The address to dial: the nearest that answers, unless a nearer one may do so in a moment.
    pub(super) fn address(&self, now: Time) -> Option<SocketAddr> {
        let open = || self.checks.iter().filter(|check| !check.refused);
        let first = open().filter_map(|check| check.answered).min()?;
        let nearest_of_all = open().filter_map(|check| reach(&check.address)).min();
        let answered = open().filter(|check| check.answered.is_some());
        let best = answered.min_by_key(|check| (reach(&check.address), check.answered))?;
        let is_nearest = reach(&best.address) <= nearest_of_all;
        (is_nearest || now.since(first) >= NEARER_WAIT).then_some(best.address)
    }

    /// Since when an address answers.
    pub(super) fn answered_since(&self) -> Option<Time> {
        self.checks.iter().filter(|check| !check.refused).filter_map(|check| check.answered).min()
    }

    /// A dial to an address came to nothing.
    pub(super) fn refused(&mut self, address: SocketAddr, why: String) {
        self.dialing = None;
        self.dial_error = Some(why);
        if let Some(check) = self.checks.iter_mut().find(|check| check.address == address) {
            check.refused = true;
        }
    }

    /// The connection that a dial led to is over, and the other device did not say hello on it. Dials of others than this
    /// attempt say nothing of its addresses.
    pub(super) fn unanswered(&mut self, dial: u64) {
        if let Some((_, address)) = self.dialing.filter(|(own, _)| *own == dial) {
            self.refused(
                address,
                format!("{address} answered, and the connection was over before anything came by it"),
            );
        }
    }

    /// Whether it is over: nothing more can come of it.
    pub(super) fn is_over(&self, now: Time) -> bool {
        self.until <= now || self.is_declined()
    }

    /// Why nothing came of it, for a device with these addresses.
    pub(super) fn why(&self, own: &[SocketAddr]) -> Why {
        let answered = self.checks.iter().any(|check| check.answered.is_some());
        let has_family = |four: bool| own.iter().any(|address| address.is_ipv4() == four);
        let in_common = self.checks.iter().any(|check| has_family(check.address.is_ipv4()));
        match (&self.dial_error, self.theirs) {
            (_, None) => Why::NoOffer,
            _ if self.is_declined() => Why::RelayOnly,
            (Some(error), _) => Why::NoConnection(error.clone()),
            (None, Some(_)) if answered => Why::NoConnection("neither device's dial was answered".to_owned()),
            (None, Some(_)) if self.heard => Why::OneWay,
            (None, Some(_)) if !own.is_empty() && !in_common => Why::NoCommonFamily,
            (None, Some(_)) => Why::Nothing,
        }
    }

    /// When to look at it again.
    pub(super) fn poll_timeout(&self, now: Time, takeover: Option<Duration>) -> Time {
        let pings = self.checks.iter().filter(|_| self.theirs.is_some()).map(|check| check.due);
        let answered = self.answered_since();
        let dial = answered.map(|since| since.after(takeover.unwrap_or(NEARER_WAIT)));
        let dial = dial.filter(|at| self.dialing.is_none() && *at > now);
        pings.chain(dial).chain([self.until]).min().unwrap_or(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_that_come_from_everywhere_are_answered_by_pings_to_a_few() {
        let (mut attempt, config) = (Attempt::new(Time(0), [1; 8], &PathsConfig::default()), PathsConfig::default());
        let at = |host: u8| SocketAddr::from(([203, 0, 113, host], 7));
        (1..200).for_each(|host| attempt.pinged(Time(1), at(host)));
        let offer = PathOffer { answer: false, token: [2; 8], candidates: vec![at(201), at(202), at(1)] };
        attempt.offered(Time(2), &offer, false, &config);
        let count = |attempt: &Attempt| attempt.checked().into_iter().filter(|check| check.offered).count();
        assert_eq!(
            (count(&attempt), attempt.checked().len()),
            (3, 2 + UNOFFERED_MAX),
            "one of them came before the offer"
        );
        (1..200).for_each(|host| attempt.pinged(Time(3), at(host)));
        assert_eq!((count(&attempt), attempt.checked().len()), (3, 3 + UNOFFERED_MAX));
    }

    #[test]
    fn the_first_ping_that_comes_in_is_followed_by_one_at_once() {
        let (mut attempt, config) = (Attempt::new(Time(0), [1; 8], &PathsConfig::default()), PathsConfig::default());
        let other = SocketAddr::from(([203, 0, 113, 1], 7));
        attempt.offered(Time(0), &PathOffer { answer: false, token: [2; 8], candidates: vec![other] }, false, &config);
        let numbers = |attempt: &mut Attempt, now| -> Vec<u32> {
            attempt.pings(Time(now), |_| true).into_iter().map(|ping| ping.number).collect()
        };
        assert_eq!(numbers(&mut attempt, 0), [0]);
        attempt.pinged(Time(50), other);
        assert_eq!(numbers(&mut attempt, 50), [1], "what was sent before may have met a closed NAT");
        attempt.pinged(Time(60), other);
        assert!(numbers(&mut attempt, 60).is_empty(), "others come in their time");
        attempt.ponged(Time(70), other, [2; 8], 1);
        assert_eq!(numbers(&mut attempt, 150), [2]);
    }
}
