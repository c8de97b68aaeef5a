//! The command line: what can be said, and the help that explains it.

mod jobs;
mod membership;
mod start;
mod values;

pub(super) use jobs::{CancelArgs, JobsArgs};
pub(super) use membership::{LeaveArgs, PolicyArgs, RenameArgs};
pub(super) use start::{ClientArgs, DemoArgs, MasterArgs, PlaceArgs, ServerArgs, WayArgs};

use super::units;
use crate::node::local::Conflict;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// A private file-sharing group of your devices, under one master's authority
///
/// One device is the master: it decides who belongs to the group. The others are clients: they share files with the
/// group and fetch what they want, through a server that can neither read what passes nor let anybody in.
#[derive(Debug, Parser)]
#[command(name = "bailiwick", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
First steps:
  desktop$ bailiwick master ~/Pictures       runs a server too; prints an invite
  laptop$  bailiwick client -d bwi1…         shows a short code, waits for approval
  desktop$ bailiwick approve                 walks through those who wait
  laptop$  bailiwick files                   what everybody shares
  laptop$  bailiwick get desktop:Pictures    fetches it, verified

Exit codes: 0 done, 1 failed, 2 usage, 3 no running node, 4 refused, 5 can't be done now,
6 done in part, 130 interrupted.")]
pub(super) struct Cli {
    /// What holds for all commands.
    #[command(flatten)]
    pub(super) global: Global,
    /// The command.
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What holds for all commands.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// The state directory: keys, catalog and settings of one node
    ///
    /// Without it: BAILIWICK_STATE, else the platform's data directory and the profile.
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub(super) state: Option<PathBuf>,
    /// Which of your nodes, where this user runs several [default: default]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub(super) profile: Option<String>,
    /// Print JSON: one value, or one a line; errors as one line on stderr
    #[arg(long, global = true, help_heading = "Global options")]
    pub(super) json: bool,
    /// Log more, on stderr: -v what changes, -vv each decision, -vvv each chunk
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub(super) verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a server, which introduces devices and relays between them; prints its ticket
    ///
    /// A server needs a public address and one UDP port. It hosts any number of groups, sees neither names nor
    /// contents of files, and can let nobody into a group. Its ticket lets a master bring its group to it.
    #[command(
        after_help = "Example:\n  vps$     bailiwick server --advertise vps.example.org:4433 -d\n  desktop$ bailiwick master --server @ticket.txt"
    )]
    Server(ServerArgs),
    /// Show the ticket of the server that runs here, or make a new one
    ///
    /// Whoever holds the ticket can bring a group to this server. It is a secret: --rotate makes the tickets of before
    /// void. Groups that are here already stay.
    #[command(after_help = "Examples:\n  bailiwick ticket > ticket.txt\n  bailiwick ticket --rotate")]
    Ticket {
        /// Make a new one; those of before are void
        #[arg(long)]
        rotate: bool,
    },
    /// Run the master of a group, and a server with it unless --server is given; prints an invite
    ///
    /// The first start makes the group. Paths that are given are shared with it. Later starts need no arguments.
    #[command(
        after_help = "Examples:\n  bailiwick master ~/Pictures\n  bailiwick master --server @ticket.txt -d ~/Pictures ~/Music"
    )]
    Master(MasterArgs),
    /// Run a client; the first time with the invite that the master printed
    ///
    /// It shows a short code, the same that the master shows: compare the two before you approve.
    #[command(
        after_help = "Examples:\n  bailiwick client -d bwi1…        the first time\n  bailiwick client -d @invite.txt  the same, and no secret in the shell's history\n  bailiwick client -d              from then on"
    )]
    Client(ClientArgs),
    /// The whole story on this machine: a server, a master and two clients share, approve, fetch and verify
    ///
    /// Everything happens in a temporary folder, on 127.0.0.1, and is gone afterwards.
    #[command(after_help = "Examples:\n  bailiwick demo\n  bailiwick demo ~/Pictures")]
    Demo(DemoArgs),
    /// Show this node: its role, its standing, and what it waits for
    #[command(after_help = "Examples:\n  bailiwick status\n  bailiwick status --json --profile work")]
    Status,
    /// List the group's devices: who is online, and how they are reached
    #[command(after_help = "Examples:\n  bailiwick clients\n  bailiwick clients --json")]
    Clients,
    /// Tell how the others are reached, and why not directly; with a device, try it now
    #[command(after_help = "Examples:\n  bailiwick doctor\n  bailiwick doctor laptop\n  bailiwick doctor --json")]
    Doctor {
        /// A device to try now: its name, its id, or the beginning of it
        #[arg(value_name = "ID")]
        id: Option<String>,
    },
    /// List the files of the group, those whose NAME:PATH holds the query
    #[command(
        after_help = "Examples:\n  bailiwick files\n  bailiwick files desktop:Pictures\n  bailiwick files .jpg --json"
    )]
    Files {
        /// What the device's name, a colon and the path shall hold, ignoring case
        query: Option<String>,
    },
    /// List what this device shares
    #[command(after_help = "Examples:\n  bailiwick shares\n  bailiwick shares --json")]
    Shares,
    /// List transfers to and from this device
    #[command(after_help = "Examples:\n  bailiwick transfers\n  bailiwick transfers --json")]
    Transfers,
    /// List the open invites (master)
    #[command(after_help = "Examples:\n  bailiwick invites\n  bailiwick invite --revoke 3f9a")]
    Invites,
    /// Make an invite for one more device (master), or revoke one
    #[command(after_help = "Examples:\n  bailiwick invite --expires 2h\n  bailiwick invite --revoke 3f9a")]
    Invite(InviteArgs),
    /// Approve devices that registered (master); without names, walk through those who wait
    ///
    /// An approved device sees the names of all files and can fetch them. Compare the short code with the one that
    /// the device shows.
    #[command(
        after_help = "Examples:\n  bailiwick approve               asks about each device that waits: y, n or q\n  bailiwick approve laptop 3f9a   those two"
    )]
    Approve {
        /// Devices: names, ids or beginnings of ids
        #[arg(value_name = "ID")]
        ids: Vec<String>,
    },
    /// Expel devices from the group, for ever (master)
    ///
    /// A device that was disapproved never comes back, whatever restarts or is restored. It would have to begin anew
    /// as another device, with a new state directory and a new invite. What it has already fetched stays with it.
    #[command(
        after_help = "Examples:\n  bailiwick disapprove laptop         asks first\n  bailiwick disapprove 3f9a --yes"
    )]
    Disapprove {
        /// Devices: names, ids or beginnings of ids
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
    /// Give a device another name: this one, or at the master any
    ///
    /// Names are unique in a group, whatever their case. At a client the name changes when the master has answered.
    #[command(
        after_help = "Examples:\n  bailiwick rename notebook            this device\n  bailiwick rename laptop notebook     at the master: the device that is called laptop"
    )]
    Rename(RenameArgs),
    /// Leave the group, for ever (client)
    ///
    /// Nothing is served or fetched from then on. When the master has heard of it, the node erases its keys and ends by
    /// itself; until then the wish waits. What was fetched stays, and so do
    /// copies that `add --copy` made. The device can't come back; a new one can, with a new
    /// state directory and a new invite.
    #[command(
        after_help = "Examples:\n  bailiwick leave\n  bailiwick leave --now --yes     doesn't wait for the master, and doesn't ask"
    )]
    Leave(LeaveArgs),
    /// Show the group's rules, or set one (master)
    ///
    /// master-away wait=TIME: how long owners go on serving after they last heard from the master, 10s to 30d.
    /// A longer time keeps transfers going without the master; a shorter one ends a dishonest server's delay of an
    /// expulsion sooner.
    ///
    /// master-away continue=TIME: the same over direct connections, such as on a LAN; as long as wait, or longer, up to
    /// 30d. Devices on one network then go on while the server or the master is away. The price: who was expelled
    /// meanwhile, and is on that network, can fetch for as long from an owner that has not heard of it.
    #[command(
        after_help = "Examples:\n  bailiwick policy\n  bailiwick policy master-away wait=3m\n  bailiwick policy master-away continue=8h"
    )]
    Policy(PolicyArgs),
    /// Share files and folders with the group, where they lie
    ///
    /// Nothing is copied or moved, and nothing of yours is ever deleted. Waits until all is in the catalog. A folder
    /// stays shared: what is new, changed or gone in it is noticed within minutes, or at once by `bailiwick scan`.
    #[command(
        after_help = "Examples:\n  bailiwick add ~/Pictures ~/notes.txt\n  bailiwick add ~/src --exclude target --exclude '*.tmp'\n  bailiwick add --copy ~/report.pdf\n\nExit code 6: shared, but for files that could not be read. Links and special files are only counted."
    )]
    Add(AddArgs),
    /// Look now for what is new, changed or gone in shared folders
    #[command(
        after_help = "Examples:\n  bailiwick scan\n  bailiwick scan --confirm ~/Pictures      what seems gone there is gone for good"
    )]
    Scan(ScanArgs),
    /// Take files out of the catalog: your own, or at the master anybody's
    ///
    /// No file of yours is deleted: it is only shared no more, until it is added again. Copies that `add --copy` made
    /// are deleted, but only by their owner's wish: what the master takes out stays on its owner's disk. Downloads of it elsewhere stop; what was fetched stays with who has it.
    /// Before the master takes out several files of others, it asks; without a terminal it needs --yes.
    #[command(
        after_help = "Examples:\n  bailiwick remove laptop:Pictures/2024\n  bailiwick remove laptop:Pictures       ends the share, too\n  bailiwick remove 5d1e0c"
    )]
    Remove(RemoveArgs),
    /// Fetch files and folders of the group
    ///
    /// The node does the work and goes on by itself: after an interruption, a restart, or when an owner comes back.
    /// Ctrl-C here only stops watching. What arrives is verified.
    #[command(
        after_help = "Examples:\n  bailiwick get desktop:Pictures\n  bailiwick get desktop:Pictures/2024 laptop:notes.txt -o ~/copies\n  bailiwick get 5d1e0c --detach"
    )]
    Get(GetArgs),
    /// Pause jobs, or uploads from this device, until they are resumed
    ///
    /// A paused job asks for nothing more; what it has is kept. A paused upload tells whoever fetches the file that its
    /// owner paused it; their transfers wait. Both stay paused over restarts.
    #[command(
        after_help = "Examples:\n  bailiwick pause 12          a job\n  bailiwick pause up-5d1e0c3a  an upload, as `transfers` shows it\n  bailiwick pause --all       all jobs and uploads that are under way"
    )]
    Pause(JobsArgs),
    /// Let paused jobs and uploads go on; a job's failed files are tried again
    #[command(
        after_help = "Examples:\n  bailiwick resume 12\n  bailiwick resume up-5d1e0c3a\n  bailiwick resume --all      all that is paused; failed jobs are named one by one"
    )]
    Resume(JobsArgs),
    /// End jobs, for good; finished files stay, unfinished ones are removed
    #[command(after_help = "Examples:\n  bailiwick cancel 12\n  bailiwick cancel --all")]
    Cancel(CancelArgs),
    /// Write the master's keys and log to a file, sealed with a passphrase (master)
    ///
    /// The file is all that it takes to have the group again after the machine is lost: keys, membership, catalog, and
    /// the server that the master runs itself. It can be made while the node runs. Files that are shared are not in it.
    #[command(
        after_help = "Examples:\n  bailiwick export ~/usb/group.backup\n  bailiwick export group.backup --passphrase @passphrase.txt --force"
    )]
    Export(ExportArgs),
    /// Make a master's state directory anew from a file that `export` wrote
    ///
    /// The directory must be new: name it with --state or --profile, if there is a node here already. At its first start
    /// the master listens to its server and the devices for a minute, takes in what the backup lacks, and goes on.
    /// Whoever was expelled stays out; all invites are closed. Never start the old copy again.
    #[command(
        after_help = "Example:\n  bailiwick import ~/usb/group.backup --profile desk\n  bailiwick master --profile desk"
    )]
    Import(ImportArgs),
    /// Wait until the node is in a state
    ///
    /// Exits with 5 when the time is over, and at once with 4 if the state can't come any more: this device is expelled
    /// or has left.
    #[command(
        after_help = "Examples:\n  bailiwick wait approved --timeout 10m\n  bailiwick wait idle && echo all there"
    )]
    Wait(WaitArgs),
    /// Print what happens in the node, as it happens: one line an event, until the node ends
    #[command(after_help = "Examples:\n  bailiwick watch\n  bailiwick watch --json | jq .event")]
    Watch,
    /// End the node, with nothing lost; returns when its process has ended
    #[command(after_help = "Examples:\n  bailiwick stop\n  bailiwick stop --profile work")]
    Stop,
}

/// `invite`.
#[derive(Debug, Args)]
pub(super) struct InviteArgs {
    /// How long it can be used: 30m, 24h, 7d …; a number alone means seconds
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = units::parse_duration)]
    pub(super) expires: Duration,
    /// Revoke this open invite instead
    #[arg(long, value_name = "ID", conflicts_with = "expires")]
    pub(super) revoke: Option<String>,
}

/// `add`.
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// Files and folders
    #[arg(value_name = "PATH", required = true)]
    pub(super) paths: Vec<PathBuf>,
    /// Share a copy, made now and kept in the state directory; the original may change or go
    #[arg(long)]
    pub(super) copy: bool,
    /// Leave out what this matches: a name such as '*.tmp' anywhere, or a path such as /build; may be given several times
    ///
    /// Kept with the share, and replaced when it is given again; '' leaves nothing out. Notes that systems leave
    /// everywhere (.DS_Store, Thumbs.db, desktop.ini …) are never shared.
    #[arg(long, value_name = "PATTERN")]
    pub(super) exclude: Vec<String>,
    /// Exit with 5 instead of waiting for approval or the master; it is shared by itself later
    #[arg(long)]
    pub(super) no_wait: bool,
}

/// `scan`.
#[derive(Debug, Args)]
pub(super) struct ScanArgs {
    /// Shared folders and files, or what is in them [default: all shares]
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// What is missing there is gone for good, however much it is
    #[arg(long, requires = "paths")]
    pub(super) confirm: bool,
    /// Exit with 5 instead of waiting for the master
    #[arg(long)]
    pub(super) no_wait: bool,
}

/// `remove`.
#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// What to remove: NAME:PATH (a folder means its tree), an id, or the beginning of one
    #[arg(value_name = "FILE", required = true)]
    pub(super) files: Vec<String>,
    /// Don't ask, if it is several files of other devices
    #[arg(long)]
    pub(super) yes: bool,
    /// Exit with 5 instead of waiting for the master
    #[arg(long)]
    pub(super) no_wait: bool,
}

/// `get`.
#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// What to fetch: NAME:PATH (a folder means its tree), an id, or the beginning of one
    #[arg(value_name = "FILE", required = true)]
    pub(super) files: Vec<String>,
    /// The folder to put it in [default: the node's downloads folder]
    #[arg(short, long, value_name = "DIR")]
    pub(super) output: Option<PathBuf>,
    /// What to do if something else has a file's name already; identical files are simply done [default: fail]
    #[arg(long, value_name = "WHAT")]
    pub(super) conflict: Option<ConflictArg>,
    /// Only through the server
    #[arg(long, conflicts_with = "direct_only")]
    pub(super) relay_only: bool,
    /// Only straight from the owner; waits while that can't be
    #[arg(long)]
    pub(super) direct_only: bool,
    /// Begin, and don't watch
    #[arg(long)]
    pub(super) detach: bool,
    /// Exit with 5 when it has to wait for somebody
    #[arg(long, conflicts_with = "detach")]
    pub(super) no_wait: bool,
}

/// `export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The file to write
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Where the passphrase comes from: @FILE, or - for stdin; without it you are asked, twice
    #[arg(long, value_name = "FROM")]
    pub(super) passphrase: Option<String>,
    /// Write over a file that is there
    #[arg(long)]
    pub(super) force: bool,
}

/// `import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The file that `export` wrote
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Where the passphrase comes from: @FILE, or - for stdin; without it you are asked
    #[arg(long, value_name = "FROM")]
    pub(super) passphrase: Option<String>,
}

/// `wait`.
#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// What to wait for
    #[arg(value_name = "STATE")]
    pub(super) until: WaitState,
    /// Exit with 5 after this time: 30s, 5m, 2h …; a number alone means seconds
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::parse_duration)]
    pub(super) timeout: Duration,
}

/// What `get --conflict` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ConflictArg {
    /// Fetch nothing, and say what is in the way
    Fail,
    /// Leave such files out
    Skip,
    /// Call the new one `name (2).ext`
    Rename,
    /// Replace the file that is there, once the new one is whole; never a folder
    Overwrite,
}

impl From<ConflictArg> for Conflict {
    fn from(conflict: ConflictArg) -> Conflict {
        match conflict {
            ConflictArg::Fail => Conflict::Fail,
            ConflictArg::Skip => Conflict::Skip,
            ConflictArg::Rename => Conflict::Rename,
            ConflictArg::Overwrite => Conflict::Overwrite,
        }
    }
}

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum WaitState {
    /// The server is reached
    Connected,
    /// The master has approved this device
    Approved,
    /// The master is present
    Master,
    /// Nothing is under way: no job runs or waits, nothing is being scanned, syncing or leaving
    Idle,
    /// No node runs for the state directory
    Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
