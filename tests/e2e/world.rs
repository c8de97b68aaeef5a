//! Real nodes on loopback: a server, a master and clients in one process, each with a state directory of its own.

use crate::lan::Air;
use bailiwick::node::local::{
    ClientRow, Command, Conflict, FileRow, JobRow, LocalError, NodeHandle, Reply, ShareRow, StandingRow, Status,
    TransferState, Watch, Way,
};
use bailiwick::node::member::MemberConfig;
use bailiwick::node::options::{ClientOptions, MasterOptions, MasterServer, ServerOptions, ServerPlace};
use bailiwick::node::run::{self, Home};
use bailiwick::store::statedir::StateDir;
use bailiwick::wire::invite::{Invite, Ticket};
use bailiwick::wire::name::DeviceName;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A test that waits longer than this for one thing hangs.
const HANG: Duration = Duration::from_secs(240);
/// How often a condition is looked at when no event says that something has changed.
const LOOK: Duration = Duration::from_millis(20);

/// One node.
pub(crate) struct Node {
    pub(crate) dir: PathBuf,
    handle: NodeHandle,
    task: JoinHandle<Result<(), LocalError>>,
}

impl Node {
    /// What happens there from now on.
    pub(crate) fn watch(&self) -> Watch {
        self.handle.watch()
    }

    /// Asks it.
    pub(crate) async fn ask(&self, command: Command) -> Result<Reply, LocalError> {
        self.handle.ask(command).await
    }

    /// Ends it as a person would, and waits for its end.
    pub(crate) async fn stop(self) {
        let _ = self.ask(Command::Stop).await;
        self.task.await.expect("the node did not panic").expect("the node ended well");
    }

    /// What it says at its own end.
    pub(crate) async fn ended(self) -> Result<(), LocalError> {
        tokio::time::timeout(HANG, self.task).await.expect("it ends").expect("the node did not panic")
    }

    /// Waits until `check` finds something.
    pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        check: impl Fn(NodeHandle) -> F,
    ) -> T {
        let mut watch = self.handle.watch();
        let looked = async {
            loop {
                if let Some(found) = check(self.handle.clone()).await {
                    return found;
                }
                assert!(!self.task.is_finished(), "the node ended in the wait for: {what}");
                let _ = tokio::time::timeout(LOOK, watch.next()).await;
            }
        };
        match tokio::time::timeout(HANG, looked).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain for: {what}; status: {:?}", self.status().await),
        }
    }

    pub(crate) async fn status(&self) -> Status {
        match self.ask(Command::Status).await {
            Ok(Reply::Status(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn clients(&self) -> Vec<ClientRow> {
        clients(self.handle.clone()).await
    }

    pub(crate) async fn files(&self) -> Vec<FileRow> {
        files(self.handle.clone()).await
    }

    pub(crate) async fn shares(&self) -> Vec<ShareRow> {
        match self.ask(Command::Shares).await {
            Ok(Reply::Shares(rows)) => rows,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the status is as wished.
    pub(crate) async fn until_status(&self, what: &str, wish: impl Fn(&Status) -> bool) -> Status {
        self.until(what, |node| {
            let wish = &wish;
            async move {
                match node.ask(Command::Status).await {
                    Ok(Reply::Status(status)) if wish(&status) => Some(*status),
                    _ => None,
                }
            }
        })
        .await
    }

    pub(crate) async fn until_standing(&self, standing: StandingRow) -> Status {
        self.until_status(&format!("{standing:?}"), |status| status.standing == Some(standing)).await
    }

    /// Waits until the catalog is as wished.
    pub(crate) async fn until_files(&self, what: &str, wish: impl Fn(&[FileRow]) -> bool) -> Vec<FileRow> {
        self.until(what, |node| {
            let wish = &wish;
            async move {
                let rows = files(node).await;
                wish(&rows).then_some(rows)
            }
        })
        .await
    }

    /// Waits until the devices are as wished.
    pub(crate) async fn until_clients(&self, what: &str, wish: impl Fn(&[ClientRow]) -> bool) -> Vec<ClientRow> {
        self.until(what, |node| {
            let wish = &wish;
            async move {
                let rows = clients(node).await;
                wish(&rows).then_some(rows)
            }
        })
        .await
    }

    /// Shares a path.
    pub(crate) async fn add(&self, path: &Path) {
        let command = Command::Add { paths: vec![path.to_owned()], copy: false, exclude: Vec::new() };
        self.ask(command).await.expect("it is shared");
    }

    /// Begins to download.
    pub(crate) async fn get(&self, what: &str, dest: &Path) -> Result<u64, LocalError> {
        self.get_with(what, dest, None).await
    }

    /// Begins to download, with something to be done if a name is taken.
    pub(crate) async fn get_with(
        &self,
        what: &str,
        dest: &Path,
        conflict: Option<Conflict>,
    ) -> Result<u64, LocalError> {
        self.get_by(what, dest, conflict, way_of_this_run()).await
    }

    /// Begins to download by a way, whatever the others come by.
    pub(crate) async fn get_by(
        &self,
        what: &str,
        dest: &Path,
        conflict: Option<Conflict>,
        way: Option<Way>,
    ) -> Result<u64, LocalError> {
        let command = Command::Get { files: vec![what.to_owned()], dest: Some(dest.to_owned()), conflict, way };
        match self.ask(command).await? {
            Reply::Jobs(rows) => Ok(rows[0].job),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until a job is as wished.
    pub(crate) async fn until_job(&self, job: u64, what: &str, wish: impl Fn(&JobRow) -> bool) -> JobRow {
        self.until(what, |node| {
            let wish = &wish;
            async move {
                let row = one_job(node, job).await;
                wish(&row).then_some(row)
            }
        })
        .await
    }

    /// Waits for a job's end, which must be a good one.
    pub(crate) async fn done(&self, job: u64) -> JobRow {
        let over = |row: &JobRow| !matches!(row.state, TransferState::Waiting | TransferState::Running);
        let row = self.until_job(job, "the end of the download", over).await;
        assert_eq!(row.state, TransferState::Done, "{row:?}");
        row
    }
}

async fn files(node: NodeHandle) -> Vec<FileRow> {
    match node.ask(Command::Files { query: None, offset: 0, limit: None }).await {
        Ok(Reply::Files(rows)) => rows,
        other => panic!("{other:?}"),
    }
}

async fn clients(node: NodeHandle) -> Vec<ClientRow> {
    match node.ask(Command::Clients).await {
        Ok(Reply::Clients(rows)) => rows,
        other => panic!("{other:?}"),
    }
}

async fn one_job(node: NodeHandle, job: u64) -> JobRow {
    match node.ask(Command::Jobs { job: Some(job) }).await {
        Ok(Reply::Jobs(mut rows)) => rows.remove(0),
        other => panic!("{other:?}"),
    }
}

/// An address that is free again whenever its server is started again: the system gives ports of this range to nobody
/// who does not ask for one by its number.
fn lasting_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from(([127, 0, 0, 1], 16_000 + (next % 16_000) as u16));
        if std::net::UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// A place for nodes.
pub(crate) struct World {
    root: TempDir,
    pub(crate) config: MemberConfig,
    /// The local network that its members are on, if they are on one.
    pub(crate) air: Option<Air>,
}

/// By which ways files come: `BAILIWICK_TEST_WAY=direct` has all that these tests fetch come straight, or not at all.
fn way_of_this_run() -> Option<Way> {
    let way = std::env::var("BAILIWICK_TEST_WAY").ok()?;
    Some(serde_json::from_value(way.into()).expect("any, relay or direct"))
}

impl World {
    pub(crate) fn new() -> World {
        let mut config = MemberConfig::default();
        config.gate.wait = Duration::from_millis(300);
        config.link.retry_max = Duration::from_millis(300);
        World { root: tempfile::tempdir().expect("a temporary folder"), config, air: None }
    }

    /// A folder in the world.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.root.path().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        path
    }

    fn home(&self, name: &str) -> (PathBuf, NodeHandle, Home) {
        let dir = self.root.path().join("state").join(name);
        let (handle, ends) = NodeHandle::new();
        let held = Arc::new(StateDir::open(&dir).expect("a state directory"));
        let lan = self.air.as_ref().map(Air::join);
        (
            dir,
            handle,
            Home { dir: held, ends, api: "http://127.0.0.1:0".to_owned(), config: self.config, lan, router: None },
        )
    }

    /// Starts a server, at a port that is its own from then on.
    pub(crate) async fn server(&self, name: &str) -> Node {
        let (dir, handle, home) = self.home(name);
        let listen = (!dir.join("server-place").exists()).then(lasting_address);
        let options = ServerOptions { state_dir: dir.clone(), place: ServerPlace { listen, advertise: Vec::new() } };
        let task = tokio::spawn(run::server(home, options));
        Node { dir, handle, task }
    }

    /// Starts a master; with a ticket the first time.
    pub(crate) async fn master(&self, name: &str, ticket: Option<&str>) -> Node {
        self.master_with(name, name, ticket).await
    }

    /// Starts the master of a directory under another name than the directory's.
    pub(crate) async fn master_as(&self, dir: &str, name: &str) -> Node {
        self.master_with(dir, name, None).await
    }

    async fn master_with(&self, dir: &str, name: &str, ticket: Option<&str>) -> Node {
        let (dir, handle, home) = self.home(dir);
        let server = match ticket {
            Some(ticket) => MasterServer::Ticket(Box::new(Ticket::parse(ticket).expect("a ticket"))),
            None => MasterServer::AsBefore(ServerPlace::default()),
        };
        let name = DeviceName::parse(name).expect("a name");
        let options = MasterOptions {
            state_dir: dir.clone(),
            name: Some(name.clone()),
            fallback_name: name,
            downloads: None,
            server,
        };
        let task = tokio::spawn(run::master(home, options));
        Node { dir, handle, task }
    }

    /// Starts a client; with an invite the first time.
    pub(crate) async fn client(&self, name: &str, invite: Option<&str>) -> Node {
        self.client_as(name, name, invite).await
    }

    /// Starts the client of a directory under another name than the directory's.
    pub(crate) async fn client_as(&self, dir: &str, name: &str, invite: Option<&str>) -> Node {
        let (dir, handle, home) = self.home(dir);
        let device = DeviceName::parse(name).expect("a name");
        let options = ClientOptions {
            state_dir: dir.clone(),
            invite: invite.map(|invite| Box::new(Invite::parse(invite).expect("an invite"))),
            name: Some(device.clone()),
            fallback_name: device,
            downloads: Some(self.folder(&format!("{name}-downloads"))),
        };
        let task = tokio::spawn(run::client(home, options));
        Node { dir, handle, task }
    }

    /// A server with a master.
    pub(crate) async fn begun(&self) -> (Node, Node) {
        let server = self.server("server").await;
        let ticket = ticket(&server).await;
        let master = self.master("desk", Some(&ticket)).await;
        (server, master)
    }

    /// A new member of the master's group.
    pub(crate) async fn member(&self, master: &Node, name: &str) -> Node {
        let client = self.client(name, Some(&invite(master).await)).await;
        let id = client.until_standing(StandingRow::Registered).await.id.expect("an id");
        approve(master, &id).await;
        client.until_standing(StandingRow::Approved).await;
        client
    }
}

pub(crate) async fn ticket(server: &Node) -> String {
    match server.ask(Command::Ticket).await {
        Ok(Reply::Ticket(row)) => row.ticket,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn invite(master: &Node) -> String {
    match master.ask(Command::Invite { expires_s: 3_600 }).await {
        Ok(Reply::Invites(rows)) => rows[0].invite.clone(),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn approve(master: &Node, id: &str) {
    master.ask(Command::Approve { ids: vec![id.to_owned()] }).await.expect("approved");
}

pub(crate) async fn disapprove(master: &Node, id: &str) {
    master.ask(Command::Disapprove { ids: vec![id.to_owned()] }).await.expect("disapproved");
}

/// Bytes that no compression and no accident repeats.
pub(crate) fn noise(seed: u8, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut out);
    out
}

pub(crate) fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, bytes).expect("a file");
}
