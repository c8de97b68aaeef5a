//! Congestion control: CUBIC (RFC 9438), which a loss makes careful only where it can tell of congestion.
//!
//! Between two transfers a connection carries a few small packets. If one is lost, by noise or in a queue that something
//! else fills, CUBIC leaves slow start for good at the window that it has, some ten packets, and the next transfer takes
//! seconds to reach the speed of the wire. No more was under way then than a new connection sends without knowing anything of
//! the path (RFC 6928): so the loss changes nothing, and what comes next begins as on a new connection. That departs from
//! RFC 9002, section 7, for that little alone.

use quinn::congestion::{Controller, ControllerFactory, Cubic, CubicConfig};
use quinn_proto::RttEstimator;
use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

/// Makes controllers.
#[derive(Debug, Default)]
pub(super) struct Congestion {
    cubic: Arc<CubicConfig>,
}

impl ControllerFactory for Congestion {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        let cubic = Cubic::new(self.cubic.clone(), now, mtu);
        Box::new(Calm { config: self.cubic.clone(), cubic, mtu, flight: 0, acked: 0 })
    }
}

/// See the module.
#[derive(Debug, Clone)]
struct Calm {
    config: Arc<CubicConfig>,
    cubic: Cubic,
    mtu: u16,
    /// Bytes in flight after the last acknowledgement, and those that were sent since.
    flight: u64,
    /// Bytes that it acknowledged, until something is sent: losses show first.
    acked: u64,
}

impl Calm {
    /// Whether no more was under way, before the last acknowledgement came, than may be sent at any time.
    fn is_little_under_way(&self) -> bool {
        self.flight + self.acked <= self.initial_window()
    }
}

impl Controller for Calm {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.flight += bytes;
        self.acked = 0;
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.acked += bytes;
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.flight = in_flight;
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        if !self.is_little_under_way() {
            self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        } else if is_persistent_congestion {
            // As for a new connection.
            self.cubic = Cubic::new(self.config.clone(), now, self.mtu);
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
    use std::time::Duration;

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
}
