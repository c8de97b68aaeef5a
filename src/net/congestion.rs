//! Congestion control: CUBIC (RFC 9438), which a loss makes careful only where it can tell of congestion.
//!
//! Between two transfers a connection carries a few small packets. If one is lost, by noise or in a queue that something
//! else fills, CUBIC leaves slow start for good at the window that it has, some ten packets, and the next transfer takes
//! seconds to reach the speed of the wire. No more was under way then than a new connection sends without knowing anything of
//! the path (RFC 6928): so the loss changes nothing, and what comes next begins as on a new connection. That departs from
//! RFC 9002, section 7, for that little alone.
//!
//! Slow start doubles what is under way until packets are lost, by then as many as the queue of the narrowest link holds;
//! whatever else passes that link meanwhile loses as many, such as the handshake of a straight connection. So it is left
//! when round trips get longer, by HyStart++ (RFC 9406), but that the window stays as it is in the careful phase: the quarter by
//! which it would grow in each round is threefold after five, and overflows what the queue still holds.

use quinn::congestion::{Controller, ControllerFactory, Cubic, CubicConfig};
use quinn_proto::RttEstimator;
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Makes controllers.
#[derive(Debug, Default)]
pub(super) struct Congestion {
    cubic: Arc<CubicConfig>,
}

impl ControllerFactory for Congestion {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        let cubic = Cubic::new(self.cubic.clone(), now, mtu);
        Box::new(Calm { config: self.cubic.clone(), cubic, start: SlowStart::default(), mtu, flight: 0, acked: 0 })
    }
}

/// See the module.
#[derive(Debug, Clone)]
struct Calm {
    config: Arc<CubicConfig>,
    cubic: Cubic,
    start: SlowStart,
    mtu: u16,
    /// Bytes in flight after the last acknowledgement, and those that were sent since.
    flight: u64,
    /// Bytes that it acknowledged, until something is sent: losses show first.
    acked: u64,
}

/// Rounds of the careful phase before slow start is left (RFC 9406, section 4.3).
const CAREFUL_ROUNDS: u32 = 5;
/// Round trips that a round takes at least to tell anything.
const SAMPLES_MIN: u32 = 8;
/// A round trip that is longer by an eighth shows a queue, within these limits.
const LONGER_MIN: Duration = Duration::from_millis(4);
const LONGER_MAX: Duration = Duration::from_millis(16);

/// What HyStart++ knows while the window doubles.
#[derive(Debug, Clone, Default)]
struct SlowStart {
    /// The last packet that was sent.
    sent: u64,
    /// The round is over when this packet is acknowledged.
    round_end: u64,
    sample: Option<Duration>,
    samples: u32,
    /// The shortest round trips of this round and of the one before.
    shortest: Option<Duration>,
    before: Option<Duration>,
    /// In the careful phase: the round trip with which it began, and its rounds.
    careful: Option<(Duration, u32)>,
}

impl SlowStart {
    /// What was found in one slow start says nothing of the next one, which follows an outage.
    fn begin_anew(&mut self) {
        *self = SlowStart { sent: self.sent, ..SlowStart::default() };
    }

    /// By how much the window grows.
    fn share_of(&self, bytes: u64) -> u64 {
        if self.careful.is_some() { 0 } else { bytes }
    }

    /// Acknowledgements came, up to this packet. Whether slow start ends.
    fn is_over(&mut self, acked: Option<u64>) -> bool {
        if let Some(sample) = self.sample.take() {
            self.samples += 1;
            self.shortest = Some(self.shortest.map_or(sample, |shortest| shortest.min(sample)));
        }
        if let (Some(now), true) = (self.shortest, self.samples >= SAMPLES_MIN) {
            match (self.careful, self.before) {
                // They are short again: it was something else.
                (Some((began, _)), _) if now < began => self.careful = None,
                (None, Some(before)) if now >= before + (before / 8).clamp(LONGER_MIN, LONGER_MAX) => {
                    self.careful = Some((now, 0));
                }
                _ => {}
            }
        }
        if acked.is_none_or(|acked| acked < self.round_end) {
            return false;
        }
        (self.round_end, self.before, self.samples) = (self.sent + 1, self.shortest.take(), 0);
        let Some((_, rounds)) = &mut self.careful else { return false };
        *rounds += 1;
        *rounds >= CAREFUL_ROUNDS
    }
}

impl Calm {
    fn is_in_slow_start(&self) -> bool {
        self.cubic.metrics().ssthresh.is_some_and(|threshold| self.cubic.window() < threshold)
    }

    /// Whether no more was under way, before the last acknowledgement came, than may be sent at any time.
    fn is_little_under_way(&self) -> bool {
        self.flight + self.acked <= self.initial_window()
    }
}

impl Controller for Calm {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.flight += bytes;
        self.acked = 0;
        self.start.sent = last_packet_number;
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.acked += bytes;
        self.start.sample = Some(rtt.conservative());
        let grows_by = if self.is_in_slow_start() { self.start.share_of(bytes) } else { bytes };
        self.cubic.on_ack(now, sent, grows_by, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.flight = in_flight;
        if self.is_in_slow_start() && self.start.is_over(largest_packet_num_acked) {
            self.cubic.on_congestion_event(now, now, false, 0);
            self.start.begin_anew();
        }
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        if !self.is_little_under_way() {
            self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
            self.start.begin_anew();
        } else if is_persistent_congestion {
            // As for a new connection.
            self.cubic = Cubic::new(self.config.clone(), now, self.mtu);
            self.start.begin_anew();
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu;
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u16 = 1_200;

    /// Sends so many packets; then one of them is acknowledged, and the first is lost. Says the windows before and after.
    fn lose_one_of(packets: u64, is_persistent: bool) -> (u64, u64) {
        let begin = Instant::now();
        let mut one = Arc::new(Congestion::default()).build(begin, MTU);
        let before = one.window();
        for number in 0..packets {
            one.on_sent(begin, MTU.into(), number);
        }
        let later = begin + Duration::from_millis(50);
        one.on_end_acks(later, (packets - 1) * u64::from(MTU), false, Some(packets - 1));
        one.on_congestion_event(later, begin, is_persistent, MTU.into());
        (before, one.window())
    }

    #[test]
    fn a_loss_counts_only_where_much_was_under_way() {
        let (before, after) = lose_one_of(4, false);
        assert_eq!(after, before, "of four packets one was lost");
        let (before, after) = lose_one_of(40, false);
        assert!(after < before, "of forty");
    }

    #[test]
    fn after_an_outage_a_quiet_connection_is_as_a_new_one() {
        let (before, after) = lose_one_of(4, true);
        assert_eq!(after, before);
        let (_, after) = lose_one_of(40, true);
        assert_eq!(after, 2 * u64::from(MTU), "the least");
    }

    #[test]
    fn what_was_acknowledged_a_moment_ago_was_under_way() {
        let begin = Instant::now();
        let mut one = Arc::new(Congestion::default()).build(begin, MTU);
        (0..40).for_each(|number| one.on_sent(begin, MTU.into(), number));
        one.on_end_acks(begin, 5 * u64::from(MTU), true, Some(39));
        assert_eq!(one.initial_window(), one.window());
        // Something is sent, so losses have shown: five packets and this one are under way.
        one.on_sent(begin, MTU.into(), 40);
        let before = one.window();
        one.on_congestion_event(begin, begin, false, MTU.into());
        assert_eq!(one.window(), before);
    }

    /// Rounds of so many milliseconds each; says in which one slow start ended.
    fn rounds(trips: impl IntoIterator<Item = u64>) -> Option<usize> {
        let mut start = SlowStart::default();
        for (round, ms) in trips.into_iter().enumerate() {
            let first = start.sent + 1;
            start.sent += 20;
            for packet in first..=start.sent {
                start.sample = Some(Duration::from_millis(ms + packet % 3));
                if start.is_over(Some(packet)) {
                    return Some(round);
                }
            }
        }
        None
    }

    #[test]
    fn slow_start_is_left_some_rounds_after_round_trips_got_longer() {
        assert_eq!(rounds([50; 100]), None);
        let longer = (0..100).map(|round| if round < 10 { 50 } else { 60 });
        let end = rounds(longer).expect("it is left");
        assert!((15..=17).contains(&end), "in round {end}");
    }

    #[test]
    fn round_trips_that_are_short_again_had_another_reason() {
        let once = (0..100).map(|round| if round % 10 == 9 { 80 } else { 50 });
        assert_eq!(rounds(once), None);
        assert_eq!(rounds((0..100).map(|round| 50 + round % 4)), None, "a little noise is none");
    }

    #[test]
    fn the_window_stays_as_it_is_in_the_careful_phase() {
        let mut start = SlowStart::default();
        assert_eq!(start.share_of(4_000), 4_000);
        start.careful = Some((Duration::from_millis(60), 0));
        assert_eq!(start.share_of(4_000), 0);
    }

    #[test]
    fn an_outage_begins_another_slow_start_that_doubles_from_its_beginning() {
        let begin = Instant::now();
        let config = Arc::new(CubicConfig::default());
        let cubic = Cubic::new(config.clone(), begin, MTU);
        let careful = SlowStart { careful: Some((Duration::from_millis(60), CAREFUL_ROUNDS)), ..SlowStart::default() };
        let mut one = Calm { config, cubic, start: careful, mtu: MTU, flight: 0, acked: 0 };
        (0..40).for_each(|number| one.on_sent(begin, MTU.into(), number));
        one.on_congestion_event(begin + Duration::from_millis(50), begin, true, MTU.into());
        assert!(one.is_in_slow_start());
        assert_eq!(one.start.share_of(4_000), 4_000);
        assert!(!one.start.is_over(Some(39)));
    }
}
