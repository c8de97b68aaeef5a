//! A node that only answers: a script instead of a group, behind the real local API.

use bailiwick::api::{Api, serve};
use bailiwick::node::local::*;
use bailiwick::store::statedir::StateDir;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, watch};

/// Answers a command; `asked` is how many came before it.
pub(crate) type Script = fn(&Command, usize) -> Result<Reply, LocalError>;

/// A served fake node.
pub(crate) struct Fake {
    dir: TempDir,
    /// The commands that came.
    pub(crate) asked: Arc<Mutex<Vec<Command>>>,
    /// Where events go.
    pub(crate) events: broadcast::Sender<Event>,
    shutdown: watch::Sender<bool>,
    api: Option<Api>,
    runtime: Runtime,
}

impl Fake {
    /// Serves a script.
    pub(crate) fn new(script: Script) -> Fake {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (handle, mut ends) = NodeHandle::new();
        let events = ends.events.clone();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        runtime.spawn(async move {
            while let Some(request) = ends.requests.recv().await {
                let before = log.lock().unwrap().len();
                log.lock().unwrap().push(request.command.clone());
                let _ = request.reply.send(script(&request.command, before));
            }
        });
        let (shutdown, stopped) = watch::channel(false);
        let state = Arc::new(StateDir::open(dir.path()).unwrap());
        let api = runtime.block_on(serve(state, handle, stopped)).unwrap();
        Fake { dir, asked, events, shutdown, api: Some(api), runtime }
    }

    /// Its state directory.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Ends the local API.
    pub(crate) fn end(&mut self) {
        self.shutdown.send(true).unwrap();
        if let Some(api) = self.api.take() {
            self.runtime.block_on(api.ended());
        }
    }
}

/// A refusal of the script.
pub(crate) fn no(code: ErrorCode, error: &str) -> Result<Reply, LocalError> {
    Err(LocalError::new(code, error, "do something else"))
}

/// A device.
pub(crate) fn client(name: &str, standing: StandingRow) -> ClientRow {
    ClientRow {
        id: format!("{name}-id-0123456789"),
        name: name.into(),
        role: NodeRole::Client,
        standing,
        online: true,
        path: None,
        reason: None,
        code: Some("7KQ2-M4XD".into()),
        is_self: false,
        since: "2026-01-01T00:00:00Z".into(),
        last_seen: None,
        rtt_ms: None,
        conn: None,
    }
}

/// A file.
pub(crate) fn file(number: u64) -> FileRow {
    FileRow {
        id: format!("{number:032}"),
        owner: "o".into(),
        owner_name: "desktop".into(),
        path: format!("Pictures/{number}\u{1b}[2J"),
        kind: KindRow::File,
        size: 1 << 20,
        hash: "0".repeat(64),
        status: FileStatus::Idle,
        available: true,
        mtime: "2026-01-01T00:00:00Z".into(),
    }
}

/// A job of two files.
pub(crate) fn job(state: TransferState, done: u64, failed: u64) -> JobRow {
    JobRow {
        job: 12,
        what: "desktop:Pictures".into(),
        state,
        reason: (state != TransferState::Done).then(|| "the owner refused".to_owned()),
        code: (failed > 0).then_some(ErrorCode::Refused),
        looking: false,
        resumable: true,
        files: 2,
        files_done: done,
        files_failed: failed,
        files_skipped: 0,
        done_bytes: done << 20,
        total_bytes: 2 << 20,
        received_bytes: done << 20,
        rate: 1 << 20,
        eta_s: Some(3),
        path: Some(PathRow::Direct),
        dest: "/downloads".into(),
        elapsed_ms: 500,
    }
}

/// A transfer of that job.
pub(crate) fn transfer(state: TransferState) -> TransferRow {
    TransferRow {
        id: "t".into(),
        job: Some(12),
        file: "f".into(),
        name: Some("docs/a".into()),
        direction: Direction::Down,
        peer: Some("o".into()),
        state,
        reason: None,
        done_bytes: 1,
        total_bytes: 1,
        received_bytes: 1,
        rate: 0,
        eta_s: None,
        path: Some(PathRow::Direct),
        dest: Some("/downloads/a".into()),
    }
}

/// A share.
pub(crate) fn share(path: &Path, settled: bool) -> ShareRow {
    ShareRow {
        path: path.to_owned(),
        name: "shared".into(),
        files: 3,
        bytes: 3 << 10,
        syncing: if settled { 0 } else { 2 },
        missing: 0,
        scanning: false,
        skipped: vec!["link: latest".into()],
        skipped_count: 1,
        last_scan: Some("2026-01-01T00:00:00Z".into()),
        reason: (!settled).then(|| "waiting for the master".to_owned()),
        ..ShareRow::default()
    }
}

/// A status.
pub(crate) fn status(standing: StandingRow, server: Link) -> Reply {
    Reply::Status(Box::new(Status {
        role: NodeRole::Client,
        id: Some("id".into()),
        name: Some("laptop".into()),
        standing: Some(standing),
        code: Some("7KQ2-M4XD".into()),
        group: None,
        server,
        server_rtt_ms: None,
        relay_only: false,
        master: Link::Away,
        waiting: Some("the master".into()),
        leaving: false,
        rename: None,
        asked_name: None,
        revision: Some("1.7".into()),
        state_dir: "/s".into(),
        downloads: None,
        version: "0.1.0".into(),
        api: "http://127.0.0.1:1".into(),
        pid: 1,
        load: None,
    }))
}

/// The status of a master.
pub(crate) fn master() -> Reply {
    match status(StandingRow::Approved, Link::Connected) {
        Reply::Status(status) => Reply::Status(Box::new(Status { role: NodeRole::Master, ..*status })),
        other => other,
    }
}
