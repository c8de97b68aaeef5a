//! From what a person said at the start to a running node.

use super::backup::{self, IMPORTING_FILE};
use super::goodbye;
use super::identity::{self, IDENTITY_FILE, SERVER_FILES, state_error};
use super::local::{
    Command, ErrorCode, LOCAL_QUEUE, Link, LocalError, LocalRequest, NodeEnds, NodeRole, Reply, Status, TicketRow,
};
use super::member::{self, Ending, Group, MemberConfig, MemberOptions, Name, Start};
use super::options::{ClientOptions, MasterOptions, MasterServer, ServerOptions, ServerPlace};
use super::server::core::CoreConfig;
use super::server::{self, DB_FILE, ServerConfig, ServerHandle};
use crate::net::lan::Lan;
use crate::net::portmap::PortMap;
use crate::store::member::{DbError, MemberStore};
use crate::store::statedir::{StateDir, is_in_state};
use crate::wire::invite::Ticket;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// The file that keeps the ticket of a master whose server is another process.
pub(super) const TICKET_FILE: &str = "server-ticket";

/// A member's database.
pub(super) const MEMBER_DB: &str = "member.db";

/// What a node is given to live in.
pub struct Home {
    /// The state directory, held by this process.
    pub dir: Arc<StateDir>,
    /// Questions and events.
    pub ends: NodeEnds,
    /// The local API's URL, for the status.
    pub api: String,
    /// Timing and sizes.
    pub config: MemberConfig,
    /// The local network, if devices on it are to be found.
    pub lan: Option<Lan>,
    /// The router, if it may be asked for a port.
    pub router: Option<PortMap>,
}

/// The file that says what a state directory is for.
pub(crate) const ROLE_FILE: &str = "role";

/// What a directory has that was a node's before.
const OF_A_NODE: [&str; 4] = [IDENTITY_FILE, SERVER_FILES.0, MEMBER_DB, DB_FILE];

/// What it can say.
const ROLES: [&str; 3] = ["client", "master", "server"];

/// A state directory is one node's: nothing is made in it for another role.
pub(super) fn check_role(dir: &StateDir, role: &str) -> Result<(), LocalError> {
    if dir.path(IMPORTING_FILE).exists() {
        return Err(LocalError::new(
            ErrorCode::NotNow,
            "an import into this state directory has not ended",
            "run 'bailiwick import FILE' for this directory again",
        ));
    }
    match dir.read_secret(ROLE_FILE).map_err(state_error)? {
        None if OF_A_NODE.iter().any(|name| dir.path(name).exists()) => Err(LocalError::new(
            ErrorCode::Failed,
            format!("the file '{ROLE_FILE}' is missing in the state directory, which is in use already"),
            "write into it what the directory is for: 'client', 'master' or 'server', without a line's end",
        )),
        None => dir.write_secret(ROLE_FILE, role.as_bytes()).map_err(state_error),
        Some(kept) if kept == role.as_bytes() => Ok(()),
        Some(kept) => {
            let kept = String::from_utf8_lossy(&kept).into_owned();
            if !ROLES.contains(&kept.as_str()) {
                return Err(LocalError::new(
                    ErrorCode::Failed,
                    format!("the file '{ROLE_FILE}' in the state directory is empty or damaged"),
                    "write into it what the directory is for: 'client', 'master' or 'server', without a line's end",
                ));
            }
            Err(LocalError::new(
                ErrorCode::Usage,
                format!("this state directory belongs to a {kept}"),
                format!(
                    "start it with 'bailiwick {kept}', or give this one a directory of its own with --state or --profile"
                ),
            ))
        }
    }
}

/// Runs a client until it ends.
pub async fn client(home: Home, options: ClientOptions) -> Result<(), LocalError> {
    goodbye::check(&home.dir)?;
    if options.invite.is_none() && !home.dir.path(IDENTITY_FILE).exists() && !home.dir.path(ROLE_FILE).exists() {
        // Nothing is made in a directory that can still become a master's.
        return Err(member::no_group());
    }
    check_role(&home.dir, "client")?;
    identity::check_database(&home.dir)?;
    let ClientOptions { state_dir, invite, name, fallback_name, downloads } = options;
    let start = Start::Client { invite, name: Name { chosen: name, fallback: fallback_name } };
    let downloads = downloads_dir(&home, downloads)?;
    run_member(home, state_dir, start, downloads).await
}

/// Runs a master until it ends.
pub async fn master(home: Home, options: MasterOptions) -> Result<(), LocalError> {
    goodbye::check(&home.dir)?;
    check_role(&home.dir, "master")?;
    identity::check_database(&home.dir)?;
    let MasterOptions { state_dir, name, fallback_name, downloads, server } = options;
    let name = Name { chosen: name, fallback: fallback_name };
    let downloads = downloads_dir(&home, downloads)?;
    let place = match server {
        MasterServer::Ticket(ticket) => {
            home.dir.write_secret(TICKET_FILE, ticket.to_string().as_bytes()).map_err(state_error)?;
            ServerPlace::default()
        }
        MasterServer::AsBefore(place) => place,
    };
    if let Some(ticket) = kept_ticket(&home.dir)? {
        if place.listen.is_some() || !place.advertise.is_empty() {
            return Err(LocalError::new(
                ErrorCode::Usage,
                "this group's server runs elsewhere: --listen and --advertise would do nothing here",
                "leave them out, or give them to the server; another server: --server TICKET",
            ));
        }
        let left = server_that_is_left(&home.dir)?;
        let outcome = run_member(home, state_dir, Start::Master { ticket, name }, downloads).await;
        if let Some(server) = left {
            server.stop().await;
        }
        return outcome;
    }
    let server =
        server::start(ServerConfig { dir: home.dir.clone(), place, loopback: true, core: CoreConfig::default() })?;
    let start = Start::Master { ticket: Box::new(server.ticket()), name };
    let (home, desk) = with_desk(home, server);
    let outcome = run_member(home, state_dir, start, downloads).await;
    if let Some(server) = desk.close().await {
        server.stop().await;
    }
    outcome
}

/// The server that this master ran itself until now: members who know no other hear there of the new one.
fn server_that_is_left(dir: &Arc<StateDir>) -> Result<Option<ServerHandle>, LocalError> {
    if dir.read_secret(identity::SERVER_FILES.0).map_err(state_error)?.is_none() {
        return Ok(None);
    }
    let group: Option<Group> =
        MemberStore::open(&dir.path(MEMBER_DB)).and_then(|store| store.get("group")).map_err(database_error)?;
    let own = identity::server_keys(dir)?.identity.device_key();
    if group.is_none_or(|group| group.server.key != own) {
        return Ok(None);
    }
    let config =
        ServerConfig { dir: dir.clone(), place: ServerPlace::default(), loopback: true, core: CoreConfig::default() };
    match server::start(config) {
        Ok(server) => Ok(Some(server)),
        Err(error) => {
            tracing::warn!(%error, "the old server can't be run; members need a new invite");
            Ok(None)
        }
    }
}

/// Answers what is asked of a server that runs in a master's process; the rest is for the master.
struct Desk {
    closing: oneshot::Sender<()>,
    task: JoinHandle<ServerHandle>,
}

fn with_desk(home: Home, mut server: ServerHandle) -> (Home, Desk) {
    let NodeEnds { mut requests, events } = home.ends;
    let (to_member, for_member) = mpsc::channel(LOCAL_QUEUE);
    let (closing, mut closed) = oneshot::channel();
    let task = tokio::spawn(async move {
        loop {
            let request = tokio::select! {
                request = requests.recv() => request,
                _ = &mut closed => None,
            };
            let Some(LocalRequest { command, reply }) = request else { return server };
            match about_ticket(&mut server, &command).await {
                Some(answer) => drop(reply.send(answer)),
                // Who asks a member that has ended is told so by the dropped reply.
                None => drop(to_member.send(LocalRequest { command, reply }).await),
            }
        }
    });
    (Home { ends: NodeEnds { requests: for_member, events }, ..home }, Desk { closing, task })
}

impl Desk {
    async fn close(self) -> Option<ServerHandle> {
        let _ = self.closing.send(());
        self.task.await.ok()
    }
}

/// The answer to a question about the server's ticket; nothing for other questions.
async fn about_ticket(server: &mut ServerHandle, command: &Command) -> Option<Result<Reply, LocalError>> {
    match command {
        Command::Ticket => Some(Ok(Reply::Ticket(ticket_row(server)))),
        Command::RotateTicket => {
            let rotated = server.rotate_ticket().await;
            Some(rotated.map(|_| Reply::Ticket(ticket_row(server))))
        }
        _ => None,
    }
}

async fn run_member(home: Home, state_dir: PathBuf, start: Start, downloads: PathBuf) -> Result<(), LocalError> {
    let Home { dir, ends, api, config, lan, router } = home;
    let options = MemberOptions { dir, state_dir, start, downloads, config, api, lan, router };
    let erased = options.dir.clone();
    backup::clear_cut_off(&erased)?;
    let mut member = member::start(options, ends).await?;
    identity::mark_group(&erased)?;
    let outcome = member.ended().await;
    member.close().await;
    match outcome? {
        Ending::Stopped => Ok(()),
        Ending::Left => goodbye::erase(&erased),
    }
}

fn kept_ticket(dir: &StateDir) -> Result<Option<Box<Ticket>>, LocalError> {
    let Some(bytes) = dir.read_secret(TICKET_FILE).map_err(state_error)? else { return Ok(None) };
    let ticket = std::str::from_utf8(&bytes).ok().and_then(|text| Ticket::parse(text).ok());
    let damaged = || LocalError::new(ErrorCode::Failed, "the kept ticket is damaged", "give --server TICKET again");
    ticket.map(|ticket| Some(Box::new(ticket))).ok_or_else(damaged)
}

/// A database that can't be used.
pub(super) fn database_error(error: DbError) -> LocalError {
    LocalError::new(ErrorCode::Failed, error.to_string(), "nothing was changed; mend that and start it again")
}

/// The downloads folder: what a person chose, now or before; else one of the user's own.
fn downloads_dir(home: &Home, chosen: Option<PathBuf>) -> Result<PathBuf, LocalError> {
    let kept = match chosen {
        Some(chosen) => Some(chosen),
        None => MemberStore::open(&home.dir.path(MEMBER_DB))
            .and_then(|store| store.get::<String>("downloads"))
            .map_err(database_error)?
            .map(PathBuf::from),
    };
    let none = |what: String| LocalError::new(ErrorCode::Usage, what, "give --downloads DIR");
    let own = || etcetera::home_dir().map(|user| user.join("Downloads").join("bailiwick"));
    let folder = match kept {
        Some(kept) => kept,
        None => own().map_err(|error| none(format!("there is no home folder for what is fetched: {error}")))?,
    };
    let folder = std::path::absolute(&folder)
        .map_err(|error| none(format!("{} is no folder's path: {error}", folder.display())))?;
    if is_in_state(&folder) {
        return Err(none(format!("{} lies in a state directory, which holds private keys", folder.display())));
    }
    Ok(folder)
}

/// Runs a server until it ends.
pub async fn server(home: Home, options: ServerOptions) -> Result<(), LocalError> {
    let ServerOptions { state_dir, place } = options;
    goodbye::check(&home.dir)?;
    check_role(&home.dir, "server")?;
    let Home { dir, mut ends, api, .. } = home;
    let mut server = server::start(ServerConfig { dir, place, loopback: true, core: CoreConfig::default() })?;
    while let Some(LocalRequest { command, reply }) = ends.requests.recv().await {
        if let Some(answer) = about_ticket(&mut server, &command).await {
            let _ = reply.send(answer);
            continue;
        }
        let answer = match command {
            Command::Status => Ok(Reply::Status(Box::new(server_status(&server, &state_dir, &api).await))),
            Command::Stop => {
                let _ = reply.send(Ok(Reply::Done));
                break;
            }
            _ => Err(LocalError::new(
                ErrorCode::WrongRole,
                "this node is a server and belongs to no group",
                "run it at a member of the group, with that member's --state or --profile",
            )),
        };
        let _ = reply.send(answer);
    }
    server.stop().await;
    Ok(())
}

fn ticket_row(server: &ServerHandle) -> TicketRow {
    TicketRow { ticket: server.ticket().to_string(), listen: server.listen().to_string() }
}

async fn server_status(server: &ServerHandle, state_dir: &Path, api: &str) -> Status {
    Status {
        role: NodeRole::Server,
        id: None,
        name: None,
        standing: None,
        code: None,
        group: None,
        server: Link::None,
        server_rtt_ms: None,
        relay_only: false,
        master: Link::None,
        waiting: None,
        leaving: false,
        rename: None,
        asked_name: None,
        revision: None,
        state_dir: state_dir.to_owned(),
        downloads: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: api.to_owned(),
        pid: std::process::id(),
        load: server.load().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_use_that_lacks_its_role_becomes_no_other_nodes() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        dir.write_secret(IDENTITY_FILE, b"keys").unwrap();
        for role in ROLES {
            let error = check_role(&dir, role).unwrap_err();
            assert!(error.error.contains("'role' is missing"), "{error}");
        }
        assert!(!dir.path(ROLE_FILE).exists());
    }

    #[test]
    fn a_damaged_role_is_told_from_another_one() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = StateDir::open(temporary.path()).unwrap();
        check_role(&dir, "master").unwrap();
        assert!(check_role(&dir, "client").unwrap_err().error.contains("belongs to a master"));
        for damaged in ["", "masTer", "\0\0"] {
            dir.write_secret(ROLE_FILE, damaged.as_bytes()).unwrap();
            let error = check_role(&dir, "master").unwrap_err();
            assert!(error.error.contains("empty or damaged") && error.hint.contains("'client'"), "{error:?}");
        }
    }
}
