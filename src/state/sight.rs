//! Where the server sees this device by the other IP family than the one of its connection.
//!
//! A device that has IPv4 and IPv6 talks to its server by one of them, and the server sees one address of it. What a NAT
//! makes of the other family shows when the server gets a ping by it; the connection tells it whose ping that is, and
//! brings the answer.

use super::time::Time;
use crate::wire::probe::{Probe, ProbeToken};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Pause before the next ping while nothing has come back.
const RETRY: Duration = Duration::from_millis(500);
/// Pings with that pause; those after them come as if something had come back.
const RETRIES: u32 = 6;
/// Pause between pings else: they keep the NAT's mapping, as QUIC's packets keep the other one.
const KEEP: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug, Default)]
pub struct Sight {
    /// What is asked by the present connection, if anything is.
    asked: Option<Asked>,
    seen: Option<SocketAddr>,
}

#[derive(Debug)]
struct Asked {
    token: ProbeToken,
    /// Whether the pings go by IPv6.
    six: bool,
    sent: u32,
    next: Time,
}

impl Sight {
    /// A connection to the server is there, on which it sees this device at `observed`. Says whether there is another
    /// family to ask by; then the server is to be told the token.
    pub fn begin(&mut self, now: Time, token: ProbeToken, observed: SocketAddr, own: &[SocketAddr]) -> bool {
        let six = observed.ip().to_canonical().is_ipv4();
        let is_of_use = |ip: IpAddr| match ip.to_canonical() {
            IpAddr::V4(ip) => !six && !ip.is_loopback() && !ip.is_unspecified(),
            IpAddr::V6(ip) => six && !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
        };
        let asks = own.iter().any(|address| is_of_use(address.ip()));
        self.asked = asks.then_some(Asked { token, six, sent: 0, next: now });
        self.seen = None;
        asks
    }

    /// Whether anything is asked by the present connection.
    pub fn asks(&self) -> bool {
        self.asked.is_some()
    }

    /// The server has seen this device somewhere. Says whether that was a ping by the other family.
    pub fn told(&mut self, at: SocketAddr) -> bool {
        let is_asked = self.asked.as_ref().is_some_and(|asked| asked.six == at.ip().to_canonical().is_ipv6());
        if is_asked {
            self.seen = Some(at);
        }
        is_asked
    }

    /// Where the server sees this device by the other family.
    pub fn seen(&self) -> Option<SocketAddr> {
        self.seen
    }

    /// The ping that is due, and whether it goes by IPv6.
    pub fn due(&mut self, now: Time) -> Option<(Probe, bool)> {
        let is_seen = self.seen.is_some();
        let asked = self.asked.as_mut().filter(|asked| asked.next <= now)?;
        asked.sent = asked.sent.saturating_add(1);
        asked.next = now.after(if is_seen || asked.sent >= RETRIES { KEEP } else { RETRY });
        Some((Probe::Ping { token: asked.token, number: asked.sent }, asked.six))
    }

    /// When the next one is.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.asked.as_ref().map(|asked| asked.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: ProbeToken = [7; 8];

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn pings(sight: &mut Sight, until: u64) -> Vec<u64> {
        let mut times = Vec::new();
        while let Some(next) = sight.poll_timeout().filter(|next| next.0 < until) {
            assert!(sight.due(Time(next.0.saturating_sub(1))).is_none(), "not before its time");
            let (probe, _) = sight.due(next).unwrap();
            assert!(matches!(probe, Probe::Ping { token: TOKEN, .. }));
            times.push(next.0);
        }
        times
    }

    #[test]
    fn the_other_family_is_asked_by_where_there_is_one() {
        let own = [at("192.168.1.5:7"), at("[2001:db8::5]:7"), at("127.0.0.1:7"), at("[::1]:7"), at("[fe80::1]:7")];
        let asks = |own: &[SocketAddr], observed: &str| {
            let mut sight = Sight::default();
            sight.begin(Time(0), TOKEN, at(observed), own).then(|| sight.due(Time(0)).unwrap().1)
        };
        assert_eq!(asks(&own, "[2001:db8::5]:7"), Some(false));
        assert_eq!(asks(&own, "198.51.100.1:7"), Some(true));
        assert_eq!(asks(&own, "[::ffff:198.51.100.1]:7"), Some(true));
        assert_eq!(asks(&own[1..], "[2001:db8::5]:7"), None, "loopback leads nowhere");
        assert_eq!(asks(&[own[0], own[3], own[4]], "198.51.100.1:7"), None);
    }

    #[test]
    fn pings_go_on_until_one_was_seen_and_keep_the_mapping_then() {
        let mut sight = Sight::default();
        let own = [at("192.168.1.5:7"), at("[2001:db8::5]:7")];
        assert!(sight.begin(Time(1_000), TOKEN, at("[2001:db8::5]:7"), &own));
        assert_eq!(pings(&mut sight, 1_600), [1_000, 1_500]);
        assert!(!sight.told(at("[2001:db8::6]:7")), "that is the connection's own");
        assert!(sight.told(at("198.51.100.1:9")));
        assert_eq!(sight.seen(), Some(at("198.51.100.1:9")));
        assert_eq!(pings(&mut sight, 50_000), [2_000, 22_000, 42_000]);
        assert!(sight.begin(Time(60_000), TOKEN, at("198.51.100.1:9"), &own));
        assert_eq!(sight.seen(), None);
        assert_eq!(pings(&mut sight, 100_000), [60_000, 60_500, 61_000, 61_500, 62_000, 62_500, 82_500]);
    }
}
