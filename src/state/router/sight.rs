//! Telling a device where it is seen by the IP family that its connection does not use.
//!
//! Only who has said on its own connection what token its pings have is told anything, and on that connection: a ping with
//! another token, or from anywhere else, leads to nothing that is sent.

use super::Router;
use super::peer::Phase;
use crate::state::conn::ConnId;
use crate::wire::frame::Frame;
use crate::wire::probe::ProbeToken;
use std::collections::HashMap;
use std::net::SocketAddr;

/// Whose pings have which token.
#[derive(Debug, Default)]
pub(super) struct Sights {
    by_token: HashMap<ProbeToken, ConnId>,
    by_conn: HashMap<ConnId, (ProbeToken, Option<SocketAddr>)>,
}

impl Sights {
    /// The last token of a connection counts, and a token is whose it was first.
    fn announce(&mut self, conn: ConnId, token: ProbeToken) {
        self.forget(conn);
        if let std::collections::hash_map::Entry::Vacant(free) = self.by_token.entry(token) {
            free.insert(conn);
            self.by_conn.insert(conn, (token, None));
        }
    }

    pub(super) fn forget(&mut self, conn: ConnId) {
        if let Some((token, _)) = self.by_conn.remove(&conn) {
            self.by_token.remove(&token);
        }
    }

    fn owner(&self, token: &ProbeToken) -> Option<ConnId> {
        self.by_token.get(token).copied()
    }

    /// Says whether a connection's owner was not seen there last.
    fn is_news(&mut self, conn: ConnId, at: SocketAddr) -> bool {
        self.by_conn.get_mut(&conn).is_some_and(|(_, seen)| seen.replace(at) != Some(at))
    }
}

impl Router {
    pub(super) fn sight_announced(&mut self, conn: ConnId, token: ProbeToken) {
        self.sights.announce(conn, token);
    }

    /// A ping came.
    pub(super) fn sighted(&mut self, from: SocketAddr, token: &ProbeToken) {
        let Some(conn) = self.sights.owner(token) else { return };
        let Some(peer) = self.peers.get(&conn) else { return };
        let is_other_family = peer.observed.ip().to_canonical().is_ipv4() != from.ip().to_canonical().is_ipv4();
        let is_let_in = matches!(peer.phase, Phase::Approved | Phase::Master);
        if is_other_family && is_let_in && self.sights.is_news(conn, from) {
            self.send(conn, Frame::Observed(from));
        }
    }
}
