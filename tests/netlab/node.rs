//! Nodes as processes of their own, each in its namespace, asked through their local API.

use crate::space::Space;
use bailiwick::api::client::Client;
use bailiwick::node::local::{ClientRow, Command as Ask, FileRow, JobRow, Link, PathRow, Reply};
use bailiwick::state::paths::PortMapping;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A test that waits longer than this for one thing hangs.
pub(crate) const HANG: Duration = Duration::from_secs(120);
/// A node whose addresses have stayed so long has found them.
const SETTLED: Duration = Duration::from_secs(1);
/// How often a node is asked.
const LOOK: Duration = Duration::from_millis(20);

/// A running node.
pub(crate) struct Node {
    child: Child,
    space: Arc<Space>,
    root: PathBuf,
    pub(crate) name: String,
    /// What it said when it was ready.
    pub(crate) ready: Value,
}

impl Node {
    /// Starts a node in the foreground of its own process, and waits for its ready line.
    pub(crate) fn start(space: Arc<Space>, root: &Path, name: &str, arguments: &[&str]) -> Node {
        let logs = std::env::var_os("BAILIWICK_LAB_LOGS").map_or_else(|| root.to_owned(), PathBuf::from);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(logs.join(format!("{name}.log")));
        let program = std::env::var_os("BAILIWICK_LAB_PROGRAM");
        let mut command = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_bailiwick").into()));
        command.args(["--json", "--state"]).arg(root.join(name)).args(arguments);
        command
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "bailiwick=debug".to_owned()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.expect("a log"));
        let mut child = space.within(|| command.spawn()).expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{name} was not ready: {line:?}"));
        Node { child, space, root: root.to_owned(), name: name.to_owned(), ready }
    }

    /// Ends it as a power cut would, and starts it again.
    pub(crate) fn again(mut self, role: &str) -> Node {
        self.end();
        Node::start(self.space.clone(), &self.root, &self.name, &[role])
    }

    /// Stops it as a person would, and starts it again.
    pub(crate) fn restarted(mut self, role: &str) -> Node {
        self.ask(&Ask::Stop);
        self.child.wait().expect("it has ended");
        Node::start(self.space.clone(), &self.root, &self.name, &[role])
    }

    fn end(&mut self) {
        // A test that failed leaves no process behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it several things, from a thread in its namespace.
    pub(crate) fn talk<T: Send>(&self, work: impl FnOnce(&Talk) -> T + Send) -> T {
        self.space.within(|| {
            let client = Client::open(&self.root.join(&self.name)).expect("it runs");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            work(&Talk { client, runtime })
        })
    }

    pub(crate) fn ask(&self, command: &Ask) -> Reply {
        self.talk(|talk| talk.ask(command))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// The way to a node's local API.
pub(crate) struct Talk {
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Talk {
    pub(crate) fn ask(&self, command: &Ask) -> Reply {
        let answer = self.runtime.block_on(self.client.ask(command));
        answer.unwrap_or_else(|error| panic!("{command:?}: {error:?}"))
    }

    /// Asks again and again until the answer is one that is waited for.
    pub(crate) fn until<T>(&self, what: &str, mut look: impl FnMut(&Talk) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(begin.elapsed() < HANG, "waited in vain for {what}");
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until the device of this name is connected, has heard of its router, and finds no further address of its own.
    pub(crate) fn until_settled(&self, name: &str) {
        let mut since = (Instant::now(), Vec::new());
        self.until(name, |talk| {
            let Reply::Doctor(found) = talk.ask(&Ask::Doctor { id: None }) else { panic!("no diagnosis") };
            let is_there = found.server == Link::Connected && found.port_mapping != PortMapping::Asked.to_string();
            if !is_there || found.addresses != since.1 {
                since = (Instant::now(), found.addresses);
            }
            (since.0.elapsed() >= SETTLED).then_some(())
        });
    }

    pub(crate) fn clients(&self) -> Vec<ClientRow> {
        let Reply::Clients(rows) = self.ask(&Ask::Clients) else { panic!("no devices") };
        rows
    }

    /// What is known of the device with this name.
    pub(crate) fn client(&self, name: &str) -> Option<ClientRow> {
        self.clients().into_iter().find(|row| row.name == name)
    }

    pub(crate) fn files(&self, query: &str) -> Vec<FileRow> {
        let query = Some(query.to_owned());
        let Reply::Files(rows) = self.ask(&Ask::Files { query, offset: 0, limit: None }) else { panic!("no files") };
        rows
    }

    /// How the devices of a job's only transfer reach each other, while it moves.
    pub(crate) fn way(&self, job: u64) -> Option<PathRow> {
        let Reply::Transfers(rows) = self.ask(&Ask::Transfers { job: Some(job) }) else { panic!("no transfers") };
        rows.first().and_then(|row| row.path)
    }

    pub(crate) fn job(&self, job: u64) -> JobRow {
        let Reply::Jobs(rows) = self.ask(&Ask::Jobs { job: Some(job) }) else { panic!("no jobs") };
        rows.into_iter().next().expect("the job")
    }
}
