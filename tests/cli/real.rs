//! Real nodes in the background, asked as a script would: the rows and their keys, and every exit code.

use crate::{Printed, bailiwick, json_error, run};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A test that waits longer than this for one thing hangs.
const HANG: Duration = Duration::from_secs(240);

/// Nodes in the background; they are stopped at the end.
pub(crate) struct Nodes {
    root: TempDir,
    names: Vec<String>,
}

impl Nodes {
    /// None yet.
    pub(crate) fn new() -> Nodes {
        Nodes { root: tempfile::tempdir().unwrap(), names: Vec::new() }
    }

    /// A path below the test's folder; a node's state directory is called like it.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A folder that is there.
    pub(crate) fn folder(&self, name: &str) -> String {
        let dir = self.dir(name);
        std::fs::create_dir_all(&dir).unwrap();
        dir.to_str().unwrap().to_owned()
    }

    /// Starts a node in the background; gives its ready line.
    pub(crate) fn start(&mut self, name: &str, arguments: &[&str]) -> Value {
        let printed = run(bailiwick(&self.dir(name)).args(arguments).args(["-d", "--json"]));
        assert_eq!(printed.code, 0, "{arguments:?}: {}", printed.err);
        self.names.push(name.to_owned());
        one(&printed)
    }

    /// What a command prints.
    pub(crate) fn run(&self, name: &str, arguments: &[&str]) -> Printed {
        run(bailiwick(&self.dir(name)).args(arguments))
    }

    /// What a command prints as JSON; it must go well.
    pub(crate) fn json(&self, name: &str, arguments: &[&str]) -> Value {
        let printed = run(bailiwick(&self.dir(name)).args(arguments).arg("--json"));
        assert_eq!((printed.code, printed.err.as_str()), (0, ""), "{arguments:?}");
        one(&printed)
    }

    /// A command that ends with this code and one line of JSON on stderr.
    pub(crate) fn fails(&self, name: &str, arguments: &[&str], code: i32) -> Value {
        let printed = run(bailiwick(&self.dir(name)).args(arguments).arg("--json"));
        assert_eq!((printed.code, printed.out.as_str()), (code, ""), "{arguments:?}: {}", printed.err);
        let error = json_error(&printed);
        assert!(!error["hint"].as_str().unwrap().is_empty(), "{arguments:?} has no hint: {error}");
        error
    }

    /// A child that goes on, with its streams.
    fn spawn(&self, name: &str, arguments: &[&str]) -> Child {
        std::process::Command::new(env!("CARGO_BIN_EXE_bailiwick"))
            .env("BAILIWICK_STATE", self.dir(name))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// A master with a server of its own, and a member.
    pub(crate) fn group(&mut self) -> (Value, Value) {
        let shared = self.folder("photos");
        std::fs::write(self.dir("photos/one.jpg"), b"one").unwrap();
        std::fs::create_dir_all(self.dir("photos/empty")).unwrap();
        let desk = self.start("desk", &["master", "--listen", "127.0.0.1:0", "--name", "desk", &shared]);
        let downloads = self.folder("downloads");
        let invite = desk["invite"].as_str().unwrap().to_owned();
        let laptop = self.start("laptop", &["client", &invite, "--name", "laptop", "--downloads", &downloads]);
        (desk, laptop)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for name in &self.names {
            run(bailiwick(&self.dir(name)).arg("stop"));
        }
    }
}

fn one(printed: &Printed) -> Value {
    assert_eq!(printed.out.lines().count(), 1, "{}", printed.out);
    serde_json::from_str(&printed.out).unwrap()
}

fn has(value: &Value, keys: &[&str]) {
    for key in keys {
        assert!(value.get(key).is_some(), "no {key}: {value}");
    }
}

fn interrupt(child: &Child) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::INT).unwrap();
}

const STATUS: [&str; 12] = [
    "role",
    "id",
    "name",
    "standing",
    "group",
    "server",
    "master",
    "revision",
    "state_dir",
    "downloads",
    "version",
    "api",
];
const CLIENT: [&str; 12] =
    ["id", "name", "role", "standing", "online", "path", "reason", "code", "self", "last_seen", "rtt_ms", "since"];
const FILE: [&str; 9] = ["id", "owner", "path", "kind", "size", "hash", "status", "available", "mtime"];
const TRANSFER: [&str; 14] = [
    "id",
    "job",
    "file",
    "direction",
    "peer",
    "state",
    "reason",
    "done_bytes",
    "total_bytes",
    "received_bytes",
    "rate",
    "eta_s",
    "path",
    "dest",
];

#[test]
fn every_row_has_its_keys() {
    let mut nodes = Nodes::new();
    let ready = nodes.start("server", &["server", "--listen", "127.0.0.1:0"]);
    has(&ready, &["event", "time", "ticket", "listen", "state_dir", "api"]);
    assert_eq!((ready["event"].as_str(), ready["role"].as_str()), (Some("ready"), Some("server")));
    let status = nodes.json("server", &["status"]);
    has(&status, &STATUS);
    assert!(status["server"].is_null() && status["master"].is_null(), "a server has neither: {status}");
    has(&nodes.json("server", &["ticket"]), &["ticket", "listen"]);
    let (desk, laptop) = nodes.group();
    has(&desk, &["event", "time", "invite", "ticket", "state_dir", "api", "id", "standing"]);
    has(&laptop, &["event", "time", "id", "standing", "code", "state_dir", "api"]);
    assert_eq!(laptop["standing"], "registered");
    has(&nodes.json("laptop", &["status"]), &STATUS);
    let rows = nodes.json("desk", &["approve", "laptop"]);
    has(&rows[0], &CLIENT);
    assert_eq!((rows[0]["standing"].as_str(), rows[0]["code"].as_str()), (Some("approved"), laptop["code"].as_str()));
    let status = nodes.json("laptop", &["wait", "approved"]);
    has(&status, &STATUS);
    nodes.json("desk", &["wait", "idle"]);
    let rows = nodes.json("laptop", &["clients"]);
    let masters: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["role"].as_str().unwrap()).collect();
    assert!(masters.len() == 2 && masters.contains(&"master") && masters.contains(&"client"), "{rows}");
    rows.as_array().unwrap().iter().for_each(|row| has(row, &CLIENT));
    let start = Instant::now();
    let files = loop {
        let rows = nodes.json("laptop", &["files"]);
        assert!(start.elapsed() < HANG, "{rows}");
        if rows.as_array().unwrap().len() == 2 {
            break rows;
        }
    };
    files.as_array().unwrap().iter().for_each(|row| has(row, &FILE));
    assert_eq!(files[0]["hash"].as_str().unwrap().len(), 64);
    has(&nodes.json("desk", &["shares"])[0], &["path", "files", "bytes", "missing", "last_scan"]);
    let got = nodes.json("laptop", &["get", "desk:photos"]);
    got.as_array().unwrap().iter().for_each(|row| has(row, &TRANSFER));
    assert_eq!((got[0]["state"].as_str(), got[0]["direction"].as_str()), (Some("done"), Some("down")));
    has(&nodes.json("laptop", &["transfers"])[0], &TRANSFER);
    let invite = nodes.json("desk", &["invite", "--expires", "2h"]);
    assert_eq!(invite.as_array().unwrap().len(), 1);
    has(&invite[0], &["id", "invite", "expires"]);
    assert_eq!(nodes.json("desk", &["invites"]), invite);
    let id = invite[0]["id"].as_str().unwrap();
    assert_eq!(nodes.json("desk", &["invite", "--revoke", &id[..4]]), invite);
    assert_eq!(nodes.json("desk", &["invites"]).as_array().unwrap().len(), 0);
    has(&nodes.json("laptop", &["policy"])[0], &["key", "wait_s", "continue_s"]);
    assert_eq!(nodes.json("desk", &["policy", "master-away", "wait=10m"])[0]["wait_s"], 600);
    assert_eq!(nodes.json("desk", &["policy", "master-away", "continue=8h"])[0]["continue_s"], 28_800);
    let new = nodes.json("desk", &["ticket", "--rotate"]);
    assert!(new["ticket"] != desk["ticket"], "{new}");
    has(&nodes.json("desk", &["rename", "laptop", "notebook"])[0], &CLIENT);
    watch_tells(&nodes);
    let shared = nodes.folder("notes");
    std::fs::write(nodes.dir("notes/n.txt"), b"n").unwrap();
    has(&nodes.json("laptop", &["add", &shared])[0], &FILE);
    let gone = nodes.json("desk", &["disapprove", "--yes", laptop["id"].as_str().unwrap()]);
    assert_eq!(gone[0]["standing"], "disapproved");
    let stopped = nodes.json("laptop", &["stop"]);
    assert_eq!(stopped["event"], "stopped");
    nodes.json("laptop", &["wait", "stopped"]);
}

/// One line an event.
fn watch_tells(nodes: &Nodes) {
    let mut watch = nodes.spawn("laptop", &["watch", "--json"]);
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || lines.next().map(|line| sender.send(line.unwrap())));
    // Whatever happened before it watched is not told.
    let line = (0..2_000).find_map(|number| {
        nodes.json("desk", &["rename", &format!("desk{number}")]);
        received.recv_timeout(Duration::from_millis(100)).ok()
    });
    let line: Value = serde_json::from_str(&line.expect("an event")).unwrap();
    has(&line, &["event", "time"]);
    watch.kill().unwrap();
    watch.wait().unwrap();
    nodes.json("desk", &["rename", "desk"]);
}

#[test]
fn each_exit_code_comes_from_real_nodes_too() {
    let mut nodes = Nodes::new();
    assert_eq!(nodes.fails("desk", &["status"], 3)["code"], "not_running");
    let (_, laptop) = nodes.group();
    // 2, in words: nobody is named, and there is no terminal.
    let asked = nodes.run("desk", &["approve"]);
    assert!(asked.code == 2 && asked.err.contains(laptop["code"].as_str().unwrap()), "{}", asked.err);
    assert!(asked.err.contains("waiting since 20") && asked.err.contains("bailiwick approve ID"), "{}", asked.err);
    assert_eq!(nodes.fails("laptop", &["approve"], 2)["code"], "wrong_role");
    assert_eq!(nodes.fails("laptop", &["approve", "desk"], 2)["code"], "wrong_role");
    assert_eq!(nodes.fails("laptop", &["invites"], 2)["code"], "wrong_role");
    // 5: it is no member yet.
    assert_eq!(nodes.fails("laptop", &["wait", "approved", "--timeout", "100ms"], 5)["code"], "not_now");
    assert_eq!(nodes.fails("laptop", &["get", "desk:photos"], 5)["code"], "not_now");
    assert_eq!(nodes.run("desk", &["approve", "laptop"]).code, 0);
    assert_eq!(nodes.run("laptop", &["wait", "approved"]).code, 0);
    nodes.json("desk", &["wait", "idle"]);
    nodes.json("laptop", &["get", "desk:"]);
    // 1 and 4.
    assert_eq!(nodes.fails("laptop", &["get", "desk:nothing"], 1)["code"], "not_found");
    assert_eq!(nodes.fails("laptop", &["rename", "DESK"], 4)["code"], "refused");
    assert_eq!(nodes.fails("desk", &["rename", "laptop", "Desk"], 4)["code"], "refused");
    assert_eq!(nodes.fails("laptop", &["rename", "a/b"], 2)["code"], "usage");
    assert_eq!(nodes.fails("desk", &["leave", "--yes"], 4)["code"], "refused");
    assert_eq!(nodes.fails("laptop", &["leave"], 2)["code"], "usage");
    assert_eq!(nodes.fails("laptop", &["policy", "master-away", "wait=5m"], 2)["code"], "wrong_role");
    for rule in ["continue=forever", "continue=1m", "continue=31d", "wait=5", "wait=1s", "wait=31d", "stay=1m"] {
        assert_eq!(nodes.fails("desk", &["policy", "master-away", rule], 2)["code"], "usage", "{rule}");
    }
    nodes.fails("desk", &["policy", "other", "x"], 2);
    // The master, and the server in its process, are away from here on.
    nodes.json("desk", &["stop"]);
    assert_eq!(nodes.fails("laptop", &["rename", "x", "--no-wait"], 5)["code"], "not_now");
    assert_eq!(nodes.fails("laptop", &["wait", "master", "--timeout", "100ms"], 5)["code"], "not_now");
    let mut child = nodes.spawn("laptop", &["leave", "--yes"]);
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    assert!(line.contains("leaving the group"), "{line}");
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let status = nodes.json("laptop", &["status"]);
    assert_eq!(status["leaving"], true);
    assert_eq!(nodes.fails("laptop", &["add", nodes.root.path().to_str().unwrap()], 4)["code"], "refused");
    // It goes on by itself when the master is back, and the directory says what it is.
    nodes.start("desk", &["master"]);
    assert_eq!(nodes.json("laptop", &["wait", "stopped", "--timeout", "4m"])["event"], "stopped");
    let gone = nodes.fails("laptop", &["status"], 3);
    assert!(gone["error"].as_str().unwrap().contains("left its group"), "{gone}");
    let again = nodes.fails("laptop", &["client"], 4);
    assert!(again["hint"].as_str().unwrap().contains("new state directory"), "{again}");
    assert!(!nodes.dir("laptop/identity").exists() && nodes.dir("downloads/photos/one.jpg").exists());
}

#[test]
fn options_of_a_server_elsewhere_are_not_ignored() {
    let mut nodes = Nodes::new();
    let server = nodes.start("server", &["server", "--listen", "127.0.0.1:0"]);
    nodes.start("desk", &["master", "--server", server["ticket"].as_str().unwrap()]);
    nodes.json("desk", &["stop"]);
    for option in [["--listen", "127.0.0.1:0"], ["--advertise", "example.org:4433"]] {
        let refused = nodes.fails("desk", &["master", "-d", option[0], option[1]], 2);
        assert!(refused["error"].as_str().unwrap().contains("runs elsewhere"), "{refused}");
    }
    nodes.start("desk", &["master"]);
}

#[test]
fn of_several_devices_all_are_expelled_or_none() {
    let mut nodes = Nodes::new();
    nodes.group();
    assert_eq!(nodes.run("desk", &["approve", "laptop"]).code, 0);
    nodes.fails("desk", &["disapprove", "--yes", "laptop", "desk"], 4);
    let clients = nodes.json("desk", &["clients"]);
    let laptop = clients.as_array().unwrap().iter().find(|row| row["name"] == "laptop").unwrap();
    assert_eq!(laptop["standing"], "approved", "{laptop}");
}

#[test]
fn a_database_that_is_lost_is_not_begun_anew() {
    let mut nodes = Nodes::new();
    nodes.group();
    for (name, role, empty) in [("desk", "master", false), ("laptop", "client", true)] {
        nodes.json(name, &["stop"]);
        let database = nodes.dir(name).join("member.db");
        let kept = std::fs::read(&database).unwrap();
        std::fs::remove_file(&database).unwrap();
        if empty {
            std::fs::write(&database, b"").unwrap();
        }
        for _ in 0..2 {
            let error = nodes.fails(name, &[role], 1);
            assert!(error["error"].as_str().unwrap().contains("missing or empty"), "{error}");
            let size = std::fs::metadata(&database).map(|meta| meta.len());
            assert_eq!(size.ok(), empty.then_some(0), "nothing was written");
        }
        std::fs::write(&database, kept).unwrap();
        nodes.start(name, &[role]);
    }
}

#[test]
fn a_client_without_an_invite_spoils_no_directory() {
    let mut nodes = Nodes::new();
    let error = nodes.fails("new", &["client"], 2);
    assert!(error["hint"].as_str().unwrap().contains("INVITE"), "{error}");
    nodes.start("new", &["master", "--listen", "127.0.0.1:0"]);
}

#[test]
fn a_state_directory_is_found_by_flag_variable_or_profile() {
    let mut nodes = Nodes::new();
    let home = nodes.folder("home");
    nodes.start("flag", &["server", "--listen", "127.0.0.1:0"]);
    let with = |profile: Option<&str>, arguments: &[&str]| {
        let mut command = bailiwick(&nodes.dir("flag"));
        command.env("HOME", &home).env("XDG_DATA_HOME", nodes.dir("data"));
        match profile {
            Some(profile) => drop(command.args(["--profile", profile])),
            None => drop(command.env_remove("BAILIWICK_STATE")),
        }
        run(command.args(arguments).arg("--json"))
    };
    assert_eq!(with(None, &["status"]).code, 3, "no node runs for the default profile");
    let started = with(Some("work"), &["server", "--listen", "127.0.0.1:0", "-d"]);
    assert_eq!(started.code, 0, "{}", started.err);
    let expected = nodes.dir("data").join("bailiwick").join("work");
    assert_eq!(one(&started)["state_dir"].as_str(), expected.to_str());
    // A profile goes before the variable, and so does --state.
    assert_eq!(one(&with(Some("work"), &["status"]))["state_dir"].as_str(), expected.to_str());
    let by_flag = run(bailiwick(&nodes.dir("none")).arg("--state").arg(nodes.dir("flag")).args(["status", "--json"]));
    assert_eq!(one(&by_flag)["state_dir"].as_str(), nodes.dir("flag").to_str());
    let by_variable = one(&run(bailiwick(&nodes.dir("flag")).args(["status", "--json"])));
    assert_eq!(by_variable["state_dir"], one(&by_flag)["state_dir"]);
    assert_eq!(with(Some("work"), &["stop"]).code, 0);
}

#[test]
fn a_directory_that_is_a_file_or_lost_its_api_file_is_explained() {
    let mut nodes = Nodes::new();
    let file = nodes.dir("file");
    std::fs::write(&file, b"").unwrap();
    for arguments in [&["status"][..], &["server", "--listen", "127.0.0.1:0"], &["client"]] {
        let error = nodes.fails("file", arguments, 2);
        assert!(error["error"].as_str().unwrap().contains("is not a folder"), "{arguments:?}: {error}");
    }
    nodes.start("server", &["server", "--listen", "127.0.0.1:0"]);
    std::fs::remove_file(nodes.dir("server/api.json")).unwrap();
    let gone = nodes.run("server", &["status"]);
    assert!(gone.code == 0 || (gone.code == 5 && gone.err.contains("api.json")), "{}", gone.err);
    let start = Instant::now();
    while nodes.run("server", &["status"]).code != 0 {
        assert!(start.elapsed() < HANG, "the node never says again where it is");
    }
    // A second node can't have the directory.
    let taken = nodes.fails("server", &["server"], 5);
    assert!(taken["hint"].as_str().unwrap().contains("bailiwick stop"), "{taken}");
}
