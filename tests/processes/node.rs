//! Nodes as processes of their own, asked through the command line as a person would.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A test that waits longer than this for one thing hangs.
const HANG: Duration = Duration::from_secs(240);

/// A place for nodes.
pub(crate) struct Place {
    root: TempDir,
}

/// A running node.
pub(crate) struct Node {
    child: Child,
    pub(crate) state: PathBuf,
    /// What it said when it was ready.
    pub(crate) ready: Value,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { root: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("a folder");
        path
    }

    /// Starts a node in the foreground of its own process, and waits for its ready line.
    pub(crate) fn start(&self, name: &str, arguments: &[&str]) -> Node {
        let state = self.path(name);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path(&format!("{name}.log")));
        let mut child = Command::new(env!("CARGO_BIN_EXE_bailiwick"))
            .args(["--json", "--state"])
            .arg(&state)
            .args(arguments)
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.expect("a log"))
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{name} was not ready: {line:?}"));
        Node { child, state, ready }
    }

    pub(crate) fn server(&self) -> Node {
        let first = !self.path("server").exists();
        let address = lasting_address();
        let arguments = ["server", "--listen", &address];
        self.start("server", if first { &arguments } else { &arguments[..1] })
    }

    pub(crate) fn begun(&self) -> (Node, Node) {
        let server = self.server();
        let ticket = text(&server.ready, "ticket");
        let master = self.start("desk", &["master", "--name", "desk", "--server", &ticket]);
        (server, master)
    }

    /// A new member.
    pub(crate) fn member(&self, master: &Node, name: &str) -> Node {
        let invite = text(&master.run(&["invite"])[0], "invite");
        let downloads = self.folder(&format!("{name}-downloads"));
        let downloads = downloads.to_str().expect("a path of text");
        let node = self.start(name, &["client", "--name", name, "--downloads", downloads, &invite]);
        // The client serves its person before the master has heard of it.
        master.until(&["clients"], |rows| {
            rows.as_array().expect("rows").iter().any(|row| row["name"] == name && row["standing"] == "registered")
        });
        master.run(&["approve", name]);
        node.run(&["wait", "approved"]);
        node
    }

    /// Starts a member that is one already.
    pub(crate) fn again(&self, name: &str) -> Node {
        self.start(name, &["client"])
    }

    /// Runs a command for a state directory.
    pub(crate) fn command(&self, state: &Path, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_bailiwick"))
            .args(["--json", "--state"])
            .arg(state)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the program runs")
    }

    /// Copies a node's state, as a backup would.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        let (from, to) = (self.path(from), self.path(to));
        let _ = std::fs::remove_dir_all(&to);
        std::fs::create_dir_all(&to).expect("a folder");
        for entry in std::fs::read_dir(from).expect("the state").flatten() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}

impl Node {
    /// Runs a command against it.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program runs")
    }

    /// Begins to run a command against it.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Child {
        let silent = |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        silent(&mut self.command(arguments)).expect("the program starts")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bailiwick"));
        command.args(["--json", "--state"]).arg(&self.state).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a command that must do well; gives the last JSON value that it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> Value {
        let output = self.output(arguments);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {printed} {}", String::from_utf8_lossy(&output.stderr));
        printed.lines().last().map_or(Value::Null, |line| serde_json::from_str(line).expect("JSON"))
    }

    /// Runs a command again and again until its answer is as wished.
    pub(crate) fn until(&self, arguments: &[&str], wish: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let value = self.run(arguments);
            if wish(&value) {
                return value;
            }
            assert!(begin.elapsed() < HANG, "waited in vain: {arguments:?} says {value}");
        }
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it has ended");
    }

    /// Ends it as a person would.
    pub(crate) fn stop(mut self) {
        self.run(&["stop"]);
        assert!(self.child.wait().expect("it has ended").success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A test that failed leaves no process behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that is free again whenever its server is started again: the system gives ports of this range to nobody
/// who does not ask for one by its number.
pub(crate) fn lasting_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = format!("127.0.0.1:{}", 16_000 + next % 16_000);
        if std::net::UdpSocket::bind(&address).is_ok() {
            return address;
        }
    }
}

pub(crate) fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}")).to_owned()
}

pub(crate) fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// Whether any file below a folder holds these bytes.
pub(crate) fn holds(folder: &Path, marker: &[u8]) -> bool {
    let files = walkdir::WalkDir::new(folder).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    files.into_iter().any(|file| {
        let bytes = std::fs::read(file.path()).expect("a file");
        bytes.windows(marker.len()).any(|window| window == marker)
    })
}
