//! What a person says when they start a node.

use super::member::MemberConfig;
use crate::state::paths::PathsConfig;
use crate::wire::invite::{Address, Invite, Ticket};
use crate::wire::name::DeviceName;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Which ways to other devices a member looks for, beside the one through its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    /// Straight ways.
    pub straight: bool,
    /// A port of the router, for these.
    pub mapped_port: bool,
}

impl Default for Ways {
    fn default() -> Ways {
        Ways { straight: true, mapped_port: true }
    }
}

impl Ways {
    /// A member's timing and sizes, with these ways.
    pub fn config(self) -> MemberConfig {
        let paths = PathsConfig { enabled: self.straight, map_port: self.mapped_port, ..PathsConfig::default() };
        MemberConfig { paths, ..MemberConfig::default() }
    }
}

/// How to start a server.
pub struct ServerOptions {
    /// Where its state lies.
    pub state_dir: PathBuf,
    /// Where to listen, and how others reach it.
    pub place: ServerPlace,
}

/// Where a server listens, and how others reach it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerPlace {
    /// Where to listen; what was used before, or the default port, if nothing is given.
    pub listen: Option<SocketAddr>,
    /// Addresses that tickets and invites name; those of this machine if there are none.
    pub advertise: Vec<Address>,
}

/// How to start a master.
pub struct MasterOptions {
    /// Where its state lies.
    pub state_dir: PathBuf,
    /// The device's name, if a person chose one.
    pub name: Option<DeviceName>,
    /// The name at the first start, if nobody chose one.
    pub fallback_name: DeviceName,
    /// The server to use.
    pub server: MasterServer,
}

/// Which server a master uses.
pub enum MasterServer {
    /// The one of the last start; at the first start, one in its own process.
    AsBefore(ServerPlace),
    /// One that another process runs.
    Ticket(Box<Ticket>),
}

/// How to start a client.
pub struct ClientOptions {
    /// Where its state lies.
    pub state_dir: PathBuf,
    /// The invite, at the first start or to change the server.
    pub invite: Option<Box<Invite>>,
    /// The device's name, if a person chose one.
    pub name: Option<DeviceName>,
    /// The name at the first start, if nobody chose one.
    pub fallback_name: DeviceName,
    /// The downloads folder, if a person chose one.
    pub downloads: Option<PathBuf>,
}
