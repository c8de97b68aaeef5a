//! Devices that are out of their group, and masters that are brought back: real nodes.

use crate::real::Nodes;
use crate::{bailiwick, run};

#[test]
fn after_an_import_the_command_that_is_named_starts_that_master() {
    let mut nodes = Nodes::new();
    nodes.start("desk", &["master", "--listen", "127.0.0.1:0", "--name", "desk"]);
    let (word, backup) = (nodes.dir("passphrase"), nodes.dir("group.backup"));
    std::fs::write(&word, "correct horse battery").unwrap();
    let (word, backup) = (format!("@{}", word.display()), backup.to_str().unwrap().to_owned());
    nodes.json("desk", &["export", &backup, "--passphrase", &word]);
    nodes.json("desk", &["stop"]);
    let mut import = bailiwick(&nodes.dir("none"));
    import.env_remove("BAILIWICK_STATE").args(["import", &backup, "--passphrase", &word]);
    let printed = run(import.arg("--state").arg(nodes.dir("it's new")));
    assert_eq!(printed.code, 0, "{}", printed.err);
    let command = format!(
        "`bailiwick master --state '{}/it'\\''s new'`",
        nodes.dir("").display().to_string().trim_end_matches('/')
    );
    assert!(printed.out.contains(&command), "{}", printed.out);
}

#[test]
fn an_expelled_device_starts_no_node_in_the_background() {
    let mut nodes = Nodes::new();
    nodes.group();
    nodes.json("desk", &["approve", "laptop"]);
    nodes.json("laptop", &["wait", "approved"]);
    nodes.json("desk", &["disapprove", "--yes", "laptop"]);
    let begun = std::time::Instant::now();
    while nodes.json("laptop", &["status"])["standing"] != "disapproved" {
        assert!(begun.elapsed() < std::time::Duration::from_secs(240), "it never hears of it");
    }
    nodes.json("laptop", &["stop"]);
    let refused = nodes.fails("laptop", &["client", "-d"], 4);
    assert!(refused["error"].as_str().unwrap().contains("expelled this device for ever"), "{refused}");
    let none = nodes.fails("laptop", &["status"], 3);
    assert!(none["error"].as_str().unwrap().contains("expelled this device"), "{none}");
    nodes.json("laptop", &["wait", "stopped", "--timeout", "0s"]);
}

#[test]
fn waiting_for_a_device_that_has_left_is_refused() {
    let mut nodes = Nodes::new();
    nodes.group();
    nodes.json("desk", &["approve", "laptop"]);
    nodes.json("laptop", &["wait", "approved"]);
    nodes.json("laptop", &["leave", "--yes"]);
    for state in ["connected", "approved", "master", "idle"] {
        let refused = nodes.fails("laptop", &["wait", state], 4);
        assert!(refused["error"].as_str().unwrap().contains("left its group"), "{refused}");
    }
    assert_eq!(nodes.json("laptop", &["wait", "stopped"])["event"], "stopped");
    assert_eq!(nodes.fails("laptop", &["client", "-d"], 4)["code"], "refused");
}

#[test]
fn a_leave_that_goes_through_at_a_start_is_told_as_that() {
    let mut nodes = Nodes::new();
    nodes.group();
    nodes.json("desk", &["approve", "laptop"]);
    nodes.json("laptop", &["wait", "approved"]);
    nodes.json("desk", &["stop"]);
    assert_eq!(nodes.fails("laptop", &["leave", "--yes", "--no-wait"], 5)["code"], "not_now");
    nodes.json("laptop", &["stop"]);
    nodes.start("desk", &["master"]);
    nodes.json("desk", &["wait", "connected"]);
    // The master answers during the start, or soon after it.
    let started = nodes.run("laptop", &["client", "-d"]);
    let left = started.code == 4 && started.err.contains("left");
    assert!(left || started.code == 0, "{}: {}", started.code, started.err);
    nodes.json("laptop", &["wait", "stopped", "--timeout", "4m"]);
    assert!(nodes.dir("laptop/left").exists());
}

#[test]
fn leaving_at_once_warns_and_erases_without_the_master() {
    let mut nodes = Nodes::new();
    nodes.group();
    assert_eq!(nodes.run("desk", &["approve", "laptop"]).code, 0);
    assert_eq!(nodes.run("laptop", &["wait", "approved"]).code, 0);
    let report = nodes.dir("report.pdf");
    std::fs::write(&report, b"the only copy").unwrap();
    nodes.json("laptop", &["add", "--copy", report.to_str().unwrap()]);
    std::fs::remove_file(&report).unwrap();
    nodes.json("desk", &["stop"]);
    let unsure = nodes.fails("laptop", &["leave", "--now"], 2);
    assert!(unsure["error"].as_str().unwrap().contains("master may never hear"), "{unsure}");
    let left = nodes.run("laptop", &["leave", "--now", "--yes"]);
    assert!(left.code == 0 && left.err.contains("The master may not know"), "{}{}", left.out, left.err);
    assert!(!nodes.dir("laptop/member.db").exists());
    let copies = nodes.dir("laptop/copies");
    assert!(left.out.contains(&format!("1 copy of a shared file is still in {}", copies.display())), "{}", left.out);
    let contents = std::fs::read_to_string(copies.join("contents.txt")).unwrap();
    let (copy, name) = contents.trim_end().split_once("  ").unwrap();
    assert_eq!((name, std::fs::read(copies.join(copy)).unwrap().as_slice()), ("report.pdf", &b"the only copy"[..]));
    // The next start finishes what a killed one left, and keeps it as well.
    assert_eq!(nodes.fails("laptop", &["client"], 4)["code"], "refused");
    assert!(copies.join(copy).exists());
    assert_eq!(nodes.fails("laptop", &["status"], 3)["code"], "not_running");
}
