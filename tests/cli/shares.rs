//! `add`, `scan` and `remove`: what they wait for, what they say, and how they end.

use crate::fake::*;
use crate::{bailiwick, json_error, run};
use bailiwick::node::local::*;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn parsed(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

fn removals(left: u64, reason: Option<&str>) -> Result<Reply, LocalError> {
    Ok(Reply::Removals(RemovalRow { left, reason: reason.map(str::to_owned) }))
}

#[test]
fn remove_waits_until_the_catalog_has_it_no_more() {
    let fake = Fake::new(|command, asked| match command {
        Command::Remove { .. } => Ok(Reply::Files(vec![file(1), file(2)])),
        Command::Removals => removals(if asked % 4 == 3 { 0 } else { 2 }, None),
        _ => no(ErrorCode::Failed, "unexpected"),
    });
    let text = run(bailiwick(fake.path()).args(["remove", "laptop:a"]));
    assert!(text.code == 0 && text.out.contains("2 files"), "{}{}", text.out, text.err);
    assert!(text.err.contains("stay on their owners' disks") && !text.err.contains("deleted"), "{}", text.err);
    let json = run(bailiwick(fake.path()).args(["remove", "laptop:a", "--json"]));
    let rows = parsed(&json.out);
    assert!(rows.as_array().unwrap().iter().all(|row| row["status"] == "removed"), "{}", json.out);
}

#[test]
fn remove_need_not_wait_for_the_master_and_a_refusal_has_its_code() {
    let fake = Fake::new(|command, _| match command {
        Command::Remove { files, yes: false } if files[0] == "all:" => {
            no(ErrorCode::Unconfirmed, "this takes 5 files of all out")
        }
        Command::Remove { files, .. } if files[0] == "other:a" => no(ErrorCode::Refused, "another device's"),
        Command::Remove { .. } => Ok(Reply::Files(vec![file(1)])),
        _ => removals(1, Some("waiting for the master")),
    });
    let late = run(bailiwick(fake.path()).args(["remove", "laptop:a", "--no-wait", "--json"]));
    assert_eq!((late.code, json_error(&late)["code"].as_str()), (5, Some("not_now")));
    assert_eq!(run(bailiwick(fake.path()).args(["remove", "other:a"])).code, 4);
    // More than it looks like is asked for twice, and there is no terminal to ask on.
    let unsure = run(bailiwick(fake.path()).args(["remove", "all:", "--json"]));
    assert_eq!((unsure.code, json_error(&unsure)["code"].as_str()), (2, Some("unconfirmed")));
    assert_eq!(run(bailiwick(fake.path()).args(["remove", "all:", "--yes", "--no-wait"])).code, 5);
}

#[test]
fn ctrl_c_does_not_end_a_removal() {
    let fake = Fake::new(|command, _| match command {
        Command::Remove { .. } => Ok(Reply::Files(vec![file(1)])),
        _ => removals(1, None),
    });
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_bailiwick"))
        .env("BAILIWICK_STATE", fake.path())
        .args(["remove", "x"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while fake.asked.lock().unwrap().len() < 3 {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let told = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert!(told.contains("goes on"), "{told}");
}

#[test]
fn what_could_not_be_read_is_named_and_makes_it_done_in_part() {
    let fake = Fake::new(|command, _| match command {
        Command::Shares | Command::Scan { .. } => {
            let skipped = vec!["p/locked: no permission".to_owned(), "p/link: it is a link".to_owned()];
            let row = ShareRow { failed: 1, skipped, skipped_count: 2, ..share(std::path::Path::new("/p"), true) };
            Ok(Reply::Shares(vec![row]))
        }
        _ => no(ErrorCode::Failed, "unexpected"),
    });
    let printed = run(bailiwick(fake.path()).arg("scan"));
    assert_eq!(printed.code, 6, "{}", printed.err);
    assert!(
        printed.err.contains("p/locked") && printed.err.contains("1 file or folder could not be read"),
        "{}",
        printed.err
    );
    assert_eq!(run(bailiwick(fake.path()).args(["scan", "--confirm"])).code, 2, "what is gone must be named");
}

#[test]
fn add_counts_empty_folders_apart() {
    let fake = Fake::new(|command, _| match command {
        Command::Add { .. } | Command::Shares => {
            Ok(Reply::Shares(vec![share(&std::env::temp_dir().canonicalize().unwrap(), true)]))
        }
        Command::ShareFiles { .. } => {
            let folder = |number| FileRow { kind: KindRow::Folder, ..file(number) };
            Ok(Reply::Files(vec![file(1), folder(2), folder(3)]))
        }
        _ => no(ErrorCode::Failed, "unexpected"),
    });
    let printed = run(bailiwick(fake.path()).arg("add").arg(std::env::temp_dir()));
    assert!(printed.out.contains("1 file, 2 empty folders"), "{}", printed.out);
}

#[test]
fn who_has_to_wait_hears_once_how_not_to() {
    let fake = Fake::new(|command, asked| match command {
        Command::Add { paths, .. } => Ok(Reply::Shares(vec![share(&paths[0], false)])),
        _ => Ok(Reply::Shares(vec![share(&std::env::temp_dir().canonicalize().unwrap(), asked >= 12)])),
    });
    let printed = run(bailiwick(fake.path()).arg("add").arg(std::env::temp_dir()));
    assert_eq!(printed.code, 0, "{}", printed.err);
    let hints = printed.err.lines().filter(|line| line.contains("Ctrl-C is safe") && line.contains("--no-wait"));
    assert_eq!(hints.count(), 1, "{}", printed.err);
}

#[test]
fn remove_tells_files_from_folders_and_copies_from_originals() {
    let fake = Fake::new(|command, _| match command {
        Command::Status => Ok(status(StandingRow::Approved, Link::Connected)),
        Command::Shares => {
            let copy = ShareRow { name: "report.pdf".into(), copy: true, ..share(std::path::Path::new("/r"), true) };
            Ok(Reply::Shares(vec![share(std::path::Path::new("/p"), true), copy]))
        }
        Command::Remove { files, .. } => {
            let mine = |path: &str| FileRow { owner: "id".into(), path: path.into(), ..file(1) };
            Ok(Reply::Files(match files[0].as_str() {
                "copy" => vec![mine("report.pdf")],
                _ => vec![mine("shared/a"), FileRow { kind: KindRow::Folder, ..mine("shared/empty") }],
            }))
        }
        _ => removals(0, None),
    });
    let own = run(bailiwick(fake.path()).args(["remove", "own"]));
    assert!(own.out.contains("1 file, 1 empty folder"), "{}", own.out);
    assert!(own.err.contains("lie where they were") && !own.err.contains("copies"), "{}", own.err);
    let copy = run(bailiwick(fake.path()).args(["remove", "copy"]));
    assert!(copy.err.contains("copies that bailiwick made of yours are deleted"), "{}", copy.err);
    assert!(!copy.err.contains("lie where"), "{}", copy.err);
}
