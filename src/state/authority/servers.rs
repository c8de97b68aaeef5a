//! Which server the group uses.

use super::{Authority, Moment};
use crate::wire::invite::ServerAddress;
use crate::wire::log::Body;

impl Authority {
    /// Tells the members where the group is to be found from now on.
    pub fn set_servers(&mut self, moment: &mut Moment<'_>, servers: Vec<ServerAddress>) {
        self.append(moment, None, Body::ServersSet(servers));
    }

    /// Closes all invites: they name a server that the group leaves.
    pub fn revoke_all_invites(&mut self) {
        for id in self.invites.keys().copied().collect::<Vec<_>>() {
            self.revoke_invite(&id);
        }
    }
}
