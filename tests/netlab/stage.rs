//! Two devices, each behind a port-restricted NAT, and a transfer between them.

use crate::group::Group;
use crate::link::Shape;
use crate::nat::Nat;
use crate::node::Node;
use crate::router::{Access, Families, Site};
use crate::transfer::Transfer;

/// See the module. What is declared first goes first.
pub(crate) struct Stage {
    pub(crate) owner: Node,
    pub(crate) asker: Node,
    pub(crate) at_owner: Site,
    pub(crate) at_asker: Site,
    pub(crate) group: Group,
}

impl Stage {
    /// Every link carries so many bytes a second.
    pub(crate) fn new(label: &str, rate: u64) -> Stage {
        let group = Group::new(label);
        let access = Access::Home(Nat::PortRestricted);
        let home = |host| Site::new(&group.net, access, Families::V4, host, Shape::home(rate));
        let (at_owner, at_asker) = (home(2), home(3));
        let owner = group.member("laptop", at_owner.space.clone());
        let asker = group.member("phone", at_asker.space.clone());
        Stage { owner, asker, at_owner, at_asker, group }
    }

    /// The asker fetches a file of so many bytes from the owner.
    pub(crate) fn transfer(&self, bytes: usize) -> Transfer<'_> {
        let film = self.group.share(&self.owner, "laptop", bytes);
        Transfer::begin(&self.asker, "laptop", &film, self.group.folder("got"))
    }
}
