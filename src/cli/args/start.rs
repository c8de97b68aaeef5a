//! What `server`, `master`, `client` and `demo` take.

use super::values::{advertised_address, device_name, listen_address};
use crate::wire::invite::Address;
use crate::wire::name::DeviceName;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `server`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ServerArgs {
    /// Where to listen and how others get there.
    #[command(flatten)]
    pub(in crate::cli) place: PlaceArgs,
    /// Run in the background; its log is `log` in the state directory
    #[arg(short = 'd', long = "daemon")]
    pub(in crate::cli) daemon: bool,
}

/// Where a server listens and how others get there.
#[derive(Debug, Args)]
pub(in crate::cli) struct PlaceArgs {
    /// Where the server listens: ADDRESS:PORT, or a PORT of all addresses; 0 lets the system choose
    ///
    /// The port of the first start is kept, or invites would die [default: 4433, or the next that is free]
    #[arg(long, value_name = "ADDR", value_parser = listen_address)]
    pub(in crate::cli) listen: Option<SocketAddr>,
    /// How others reach the server, for tickets and invites; may be given several times
    #[arg(long, value_name = "HOST:PORT", value_parser = advertised_address)]
    pub(in crate::cli) advertise: Vec<Address>,
}

/// Which ways to other devices a member looks for.
#[derive(Debug, Clone, Copy, Args)]
pub(in crate::cli) struct WayArgs {
    /// Everything goes through the server: no other device learns this one's addresses
    ///
    /// Nothing is announced on local networks either. Kept for later starts, until one says --relay-only=false.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) relay_only: Option<bool>,
    /// Don't ask the router for a port (PCP, NAT-PMP, UPnP), which makes direct connections possible through any NAT
    ///
    /// Kept for later starts, until one says --no-port-mapping=false.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) no_port_mapping: Option<bool>,
}

/// `master`.
#[derive(Debug, Args)]
pub(in crate::cli) struct MasterArgs {
    /// Files and folders to share
    #[arg(value_name = "PATH")]
    pub(in crate::cli) paths: Vec<PathBuf>,
    /// The ticket of a server that runs elsewhere; @FILE reads it from a file, - from stdin
    #[arg(long, value_name = "TICKET", conflicts_with_all = ["listen", "advertise"])]
    pub(in crate::cli) server: Option<String>,
    /// This device's name in the group [default: the machine's]
    #[arg(long, value_parser = device_name)]
    pub(in crate::cli) name: Option<DeviceName>,
    /// Where fetched files go [default: the user's download folder]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) downloads: Option<PathBuf>,
    /// For the server that it runs itself.
    #[command(flatten)]
    pub(in crate::cli) place: PlaceArgs,
    /// Ways to others.
    #[command(flatten)]
    pub(in crate::cli) ways: WayArgs,
    /// Run in the background; its log is `log` in the state directory
    #[arg(short = 'd', long = "daemon")]
    pub(in crate::cli) daemon: bool,
}

/// `client`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ClientArgs {
    /// The invite, the first time only; @FILE reads it from a file, - from stdin
    pub(in crate::cli) invite: Option<String>,
    /// This device's name in the group [default: the machine's]
    #[arg(long, value_parser = device_name)]
    pub(in crate::cli) name: Option<DeviceName>,
    /// Where fetched files go [default: the user's download folder]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) downloads: Option<PathBuf>,
    /// Ways to others.
    #[command(flatten)]
    pub(in crate::cli) ways: WayArgs,
    /// Run in the background; its log is `log` in the state directory
    #[arg(short = 'd', long = "daemon")]
    pub(in crate::cli) daemon: bool,
}

/// `demo`.
#[derive(Debug, Args)]
pub(in crate::cli) struct DemoArgs {
    /// What to share [default: a made-up tree with many small files and one of 256 MiB]
    pub(in crate::cli) path: Option<PathBuf>,
}
