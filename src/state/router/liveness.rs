//! Whether the other end of a connection is still there. QUIC's own idle end takes most of a minute, in which a device
//! that was killed would count as present; so who is expected to answer and is not heard is asked, and then let go.

use super::{Router, Timer};
use crate::state::conn::ConnId;
use crate::state::time::Time;
use crate::wire::close::CloseCode;
use crate::wire::frame::Frame;

/// An answer that is expected on a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    /// Since when.
    since: Time,
    /// Whether a ping asked for it.
    pinged: bool,
    /// When that is looked at again.
    look: Time,
}

impl Router {
    /// Something was sent that asks for an answer.
    pub(super) fn expect_answer(&mut self, now: Time, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn).filter(|peer| peer.expected.is_none()) else { return };
        let look = now.after(self.config.ping_after);
        peer.expected = Some(Expected { since: now, pinged: false, look });
        self.timers.insert((look, Timer::Answer(conn)));
    }

    /// A frame came: whatever it says, the other end is there.
    pub(super) fn heard_of(&mut self, conn: ConnId) {
        let expected = self.peers.get_mut(&conn).and_then(|peer| peer.expected.take());
        if let Some(expected) = expected {
            self.timers.remove(&(expected.look, Timer::Answer(conn)));
        }
    }

    /// An expected answer did not come yet.
    pub(super) fn look_for_answer(&mut self, now: Time, conn: ConnId) {
        let Some(expected) = self.peers.get_mut(&conn).and_then(|peer| peer.expected.as_mut()) else { return };
        if expected.pinged {
            tracing::info!(conn = conn.0, "nothing is heard of a device any more");
            return self.close(now, conn, CloseCode::Unheard);
        }
        expected.pinged = true;
        expected.look = expected.since.after(self.config.unheard_after);
        self.timers.insert((expected.look, Timer::Answer(conn)));
        self.send(conn, Frame::Ping(now.0));
    }
}
