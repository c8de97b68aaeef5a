//! What a person says when they start a node.

use super::member::MemberConfig;
use crate::state::paths::PathsConfig;
use crate::store::statedir::{StateDir, StateError};
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

/// What a person says of the ways at a start. What is not said is as it was at the start before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AskedWays {
    /// Nothing but the way through the server.
    pub relay_only: Option<bool>,
    /// No port of the router.
    pub no_port_mapping: Option<bool>,
}

/// The file that keeps what is not wanted.
const WAYS_FILE: &str = "ways";
/// Its words, one a line.
const RELAY_ONLY: &str = "relay-only";
const NO_PORT_MAPPING: &str = "no-port-mapping";

impl Ways {
    /// The ways of a state directory: those that are asked for now, which are kept, else those that were kept.
    pub fn kept(dir: &StateDir, asked: AskedWays) -> Result<Ways, StateError> {
        let kept = dir.read_secret(WAYS_FILE)?.unwrap_or_default();
        let kept = String::from_utf8_lossy(&kept).into_owned();
        let has = |word: &str| kept.lines().any(|line| line == word);
        let relay_only = asked.relay_only.unwrap_or(has(RELAY_ONLY));
        let no_port_mapping = asked.no_port_mapping.unwrap_or(has(NO_PORT_MAPPING));
        if asked != AskedWays::default() {
            let words = [(relay_only, RELAY_ONLY), (no_port_mapping, NO_PORT_MAPPING)];
            let text: String = words.iter().filter(|(on, _)| *on).map(|(_, word)| format!("{word}\n")).collect();
            dir.write_secret(WAYS_FILE, text.as_bytes())?;
        }
        Ok(Ways { straight: !relay_only, mapped_port: !no_port_mapping })
    }

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
    /// The downloads folder, if a person chose one.
    pub downloads: Option<PathBuf>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_kept_until_something_else_is_said() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = StateDir::open(temporary.path()).unwrap();
        let said = |relay_only, no_port_mapping| {
            let ways = Ways::kept(&dir, AskedWays { relay_only, no_port_mapping }).unwrap();
            (ways.straight, ways.mapped_port)
        };
        assert_eq!(said(None, None), (true, true));
        assert_eq!(said(Some(true), None), (false, true));
        assert_eq!(said(None, None), (false, true), "a restart loses no privacy");
        assert_eq!(said(None, Some(true)), (false, false));
        assert_eq!(said(Some(false), None), (true, false));
        assert_eq!(said(None, Some(false)), (true, true));
    }
}
