//! The commands against a node that answers by a script.

use crate::fake::*;
use crate::{bailiwick, json_error, run};
use bailiwick::node::local::*;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

fn parsed(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn rows_are_one_json_value_and_a_harmless_table() {
    let fake = Fake::new(|command, _| match command {
        Command::Files { offset, limit, .. } => {
            let last = (offset + limit.unwrap()).min(12_345);
            Ok(Reply::Files((*offset..last).map(file).collect()))
        }
        _ => no(ErrorCode::WrongRole, "not here"),
    });
    let json = run(bailiwick(fake.path()).args(["files", "--json"]));
    assert_eq!(json.code, 0);
    let rows = parsed(&json.out);
    assert_eq!(rows.as_array().unwrap().len(), 12_345);
    assert_eq!(rows[12_344]["path"], "Pictures/12344\u{1b}[2J");
    let text = run(bailiwick(fake.path()).args(["files", "pictures"]));
    assert!(text.code == 0 && !text.out.contains('\u{1b}') && text.out.contains("1.00 MiB"), "{}", &text.out[..200]);
    let refused = run(bailiwick(fake.path()).args(["invites", "--json"]));
    assert_eq!((refused.code, json_error(&refused)["code"].as_str()), (2, Some("wrong_role")));
}

#[test]
fn approving_without_names_and_without_a_terminal_says_who_waits() {
    let fake = Fake::new(|command, _| match command {
        Command::Status => Ok(master()),
        Command::Clients => Ok(Reply::Clients(vec![
            client("laptop", StandingRow::Registered),
            client("desktop", StandingRow::Approved),
        ])),
        Command::Approve { ids } if ids == &["laptop"] => {
            Ok(Reply::Clients(vec![client("laptop", StandingRow::Approved)]))
        }
        _ => no(ErrorCode::NotFound, "no such device"),
    });
    let asked = run(bailiwick(fake.path()).arg("approve"));
    assert_eq!(asked.code, 2);
    assert!(asked.err.contains("laptop-i") && asked.err.contains("7KQ2-M4XD"), "{}", asked.err);
    assert!(!asked.err.contains("desktop"), "{}", asked.err);
    let approved = run(bailiwick(fake.path()).args(["approve", "laptop", "--json"]));
    assert_eq!((approved.code, parsed(&approved.out)[0]["standing"].as_str()), (0, Some("approved")));
    assert_eq!(run(bailiwick(fake.path()).args(["approve", "nobody"])).code, 1);
}

#[test]
fn a_device_that_waits_for_approval_says_why_it_sees_nothing() {
    let fake = Fake::new(|command, _| match command {
        Command::Status => Ok(status(StandingRow::Registered, Link::Connected)),
        Command::Files { .. } => Ok(Reply::Files(Vec::new())),
        _ => Ok(Reply::Clients(Vec::new())),
    });
    for arguments in [&["files"][..], &["files", "x"], &["clients"]] {
        let printed = run(bailiwick(fake.path()).args(arguments));
        assert!(printed.code == 0 && printed.out.contains("not approved yet"), "{arguments:?}: {}", printed.out);
    }
    let member = Fake::new(|command, _| match command {
        Command::Status => Ok(status(StandingRow::Approved, Link::Connected)),
        _ => Ok(Reply::Files(Vec::new())),
    });
    let printed = run(bailiwick(member.path()).args(["files", "x"]));
    assert!(printed.out.contains("holds 'x'"), "{}", printed.out);
    let printed = run(bailiwick(member.path()).arg("status"));
    assert!(printed.out.contains("ask for a new invite"), "the master is away: {}", printed.out);
}

#[test]
fn what_was_there_already_has_no_rate() {
    let there = |command: &Command, asked: usize| {
        ending(command, asked, JobRow { received_bytes: 0, elapsed_ms: 0, ..job(TransferState::Done, 2, 0) })
    };
    let fake = Fake::new(there);
    let printed = run(bailiwick(fake.path()).args(["get", "x"]));
    assert!(printed.out.contains("already there") && !printed.out.contains("/s"), "{}", printed.out);
}

#[test]
fn approving_somebody_again_says_so_and_who_still_waits() {
    let fake = Fake::new(|command, _| match command {
        Command::Clients => Ok(Reply::Clients(vec![
            client("desktop-2", StandingRow::Registered),
            client("desktop", StandingRow::Approved),
        ])),
        Command::Approve { .. } => Ok(Reply::Clients(vec![client("desktop", StandingRow::Approved)])),
        _ => no(ErrorCode::Failed, "unexpected"),
    });
    let again = run(bailiwick(fake.path()).args(["approve", "desktop"]));
    assert_eq!((again.code, again.out.as_str()), (0, "desktop (desktop-) is approved already\n"));
    assert!(again.err.contains("desktop-2, 7KQ2-M4XD") && again.err.contains("id desktop-"), "{}", again.err);
}

#[test]
fn disapproving_without_a_terminal_needs_yes() {
    let fake = Fake::new(|_, _| Ok(Reply::Clients(vec![client("laptop", StandingRow::Approved)])));
    let unknown = run(bailiwick(fake.path()).args(["disapprove", "laptop", "nobody"]));
    assert!(unknown.code == 1 && unknown.err.contains("no device 'nobody'"), "{}", unknown.err);
    let refused = run(bailiwick(fake.path()).args(["disapprove", "laptop"]));
    assert!(refused.code == 2 && refused.err.contains("--yes"), "{}", refused.err);
    let is_question = |command: &Command| *command == Command::Clients;
    assert!(fake.asked.lock().unwrap().iter().all(is_question), "the node must not hear of it");
    assert_eq!(run(bailiwick(fake.path()).args(["disapprove", "laptop", "--yes"])).code, 0);
}

/// A job that runs for two looks and then ends.
fn ending(command: &Command, asked: usize, last: JobRow) -> Result<Reply, LocalError> {
    match command {
        Command::Get { .. } => Ok(Reply::Jobs(vec![job(TransferState::Waiting, 0, 0)])),
        Command::Jobs { job: Some(12) } if asked < 3 => Ok(Reply::Jobs(vec![job(TransferState::Running, 1, 0)])),
        Command::Jobs { job: Some(12) } => Ok(Reply::Jobs(vec![last])),
        Command::Transfers { job: Some(12) } => {
            Ok(Reply::Transfers(vec![transfer(TransferState::Done), transfer(TransferState::Failed)]))
        }
        _ => no(ErrorCode::Failed, "unexpected"),
    }
}

#[test]
fn get_waits_for_its_job_and_its_exit_code_tells_the_end() {
    let done = Fake::new(|command, asked| ending(command, asked, job(TransferState::Done, 2, 0)));
    let text = run(bailiwick(done.path()).args(["get", "desktop:Pictures", "-o", "relative"]));
    assert_eq!((text.code, text.err.as_str()), (0, ""));
    assert!(
        text.out.contains("2 files") && text.out.contains("4.00 MiB/s") && text.out.contains("direct"),
        "{}",
        text.out
    );
    let here = std::env::current_dir().unwrap().join("relative");
    let get = Command::Get { files: vec!["desktop:Pictures".into()], dest: Some(here), conflict: None, way: None };
    assert_eq!(done.asked.lock().unwrap()[0], get);
    let json = run(bailiwick(done.path()).args(["get", "x", "--json"]));
    assert_eq!((json.code, parsed(&json.out).as_array().unwrap().len()), (0, 2));

    let part = Fake::new(|command, asked| ending(command, asked, job(TransferState::Failed, 1, 1)));
    let printed = run(bailiwick(part.path()).args(["get", "x"]));
    assert!(printed.code == 6 && printed.err.contains("1 of 2 files: the owner refused"), "{}", printed.err);
    let refused = Fake::new(|command, asked| ending(command, asked, job(TransferState::Failed, 0, 2)));
    let printed = run(bailiwick(refused.path()).args(["get", "x", "--json"]));
    assert_eq!((printed.code, json_error(&printed)["code"].as_str()), (4, Some("refused")));
}

#[test]
fn get_that_has_to_wait_goes_on_in_the_node() {
    let fake = Fake::new(|command, _| match command {
        Command::Get { .. } | Command::Jobs { .. } => Ok(Reply::Jobs(vec![job(TransferState::Waiting, 0, 0)])),
        _ => Ok(Reply::Transfers(vec![transfer(TransferState::Waiting)])),
    });
    let printed = run(bailiwick(fake.path()).args(["get", "x", "--no-wait", "--json"]));
    assert_eq!((printed.code, json_error(&printed)["code"].as_str()), (5, Some("not_now")));
    let detached = run(bailiwick(fake.path()).args(["get", "x", "--detach"]));
    assert!(detached.code == 0 && detached.out.starts_with("job 12: 2 files"), "{}", detached.out);
}

#[test]
fn jobs_and_uploads_are_paused_resumed_and_cancelled() {
    let fake = Fake::new(|command, _| match command {
        Command::Pause { ids, all: false } if ids == &["12", "up-5d1e0c3a"] => {
            let upload = TransferRow {
                id: "up-5d1e0c3a".into(),
                job: None,
                direction: Direction::Up,
                ..transfer(TransferState::Paused)
            };
            let jobs = vec![job(TransferState::Paused, 1, 0)];
            Ok(Reply::Controlled(Controlled { jobs, uploads: vec![upload] }))
        }
        Command::Resume { ids, all: true } if ids.is_empty() => Ok(Reply::Controlled(Controlled::default())),
        Command::Cancel { .. } => no(ErrorCode::NotFound, "there is no job 13"),
        _ => no(ErrorCode::Failed, "unexpected"),
    });
    let text = run(bailiwick(fake.path()).args(["pause", "12", "up-5d1e0c3a"]));
    assert!(text.code == 0 && text.out.contains("paused") && text.out.contains("up-5d1e0c3a"), "{}", text.out);
    assert!(text.out.contains("docs/a"), "an upload is named: {}", text.out);
    let json = run(bailiwick(fake.path()).args(["pause", "12", "up-5d1e0c3a", "--json"]));
    let rows = parsed(&json.out);
    assert_eq!(
        (rows["jobs"][0]["state"].as_str(), rows["uploads"][0]["state"].as_str()),
        (Some("paused"), Some("paused"))
    );
    let none = run(bailiwick(fake.path()).args(["resume", "--all"]));
    assert!(none.code == 0 && none.out.contains("nothing is paused"), "{}", none.out);
    assert_eq!(run(bailiwick(fake.path()).args(["cancel", "13"])).code, 1);
    for wrong in [&["cancel"][..], &["pause", "--all", "12"], &["get", "x", "--conflict", "ask"]] {
        assert_eq!(run(bailiwick(fake.path()).args(wrong)).code, 2, "{wrong:?}");
    }
}

#[test]
fn a_resumed_job_that_stays_failed_has_the_code_that_get_would_have() {
    let fake = Fake::new(|command, asked| match command {
        Command::Resume { .. } => {
            let jobs = vec![JobRow { looking: true, ..job(TransferState::Running, 0, 0) }];
            Ok(Reply::Controlled(Controlled { jobs, uploads: Vec::new() }))
        }
        Command::Jobs { .. } if asked % 4 < 3 => {
            Ok(Reply::Jobs(vec![JobRow { looking: true, ..job(TransferState::Running, 0, 0) }]))
        }
        _ => Ok(Reply::Jobs(vec![job(TransferState::Failed, 0, 1)])),
    });
    let printed = run(bailiwick(fake.path()).args(["resume", "12"]));
    assert!(printed.code == 4 && printed.err.contains("the owner refused"), "{}", printed.err);
    assert!(printed.err.contains("the other one was not fetched"), "{}", printed.err);
    let json = run(bailiwick(fake.path()).args(["resume", "12", "--json"]));
    assert_eq!((json.code, parsed(&json.out)["jobs"][0]["state"].as_str()), (4, Some("failed")));
}

#[test]
fn get_says_how_much_was_skipped_and_when_a_job_cannot_be_resumed() {
    let fake = Fake::new(|command, asked| {
        ending(command, asked, JobRow { files_skipped: 1, ..job(TransferState::Done, 1, 0) })
    });
    let printed = run(bailiwick(fake.path()).args(["get", "x", "--conflict", "skip"]));
    assert!(printed.code == 0 && printed.err.contains("skipped: 1 file"), "{}", printed.err);
    let fake = Fake::new(|command, asked| {
        ending(command, asked, JobRow { resumable: false, ..job(TransferState::Failed, 0, 2) })
    });
    let printed = run(bailiwick(fake.path()).args(["get", "x"]));
    assert!(!printed.err.contains("resume") && printed.err.contains("get it again"), "{}", printed.err);
}

#[test]
fn a_job_that_is_cancelled_ends_who_watches_it() {
    let fake = Fake::new(|command, asked| ending(command, asked, job(TransferState::Cancelled, 0, 0)));
    let printed = run(bailiwick(fake.path()).args(["get", "x"]));
    assert!(printed.code == 1 && printed.err.contains("was cancelled"), "{}", printed.err);
}

#[test]
fn ctrl_c_detaches_from_a_job() {
    let fake = Fake::new(|_, _| Ok(Reply::Jobs(vec![job(TransferState::Running, 1, 0)])));
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_bailiwick"))
        .env("BAILIWICK_STATE", fake.path())
        .args(["get", "x"])
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
    assert!(told.matches("goes on").count() == 1 && told.contains("bailiwick cancel 12"), "{told}");
}

#[test]
fn add_waits_until_the_catalog_has_it_and_tells_what_was_skipped() {
    let fake = Fake::new(|command, asked| match command {
        Command::Add { paths, .. } => Ok(Reply::Shares(vec![share(&paths[0], false)])),
        Command::Shares => Ok(Reply::Shares(vec![share(&std::env::temp_dir().canonicalize().unwrap(), asked >= 3)])),
        Command::ShareFiles { .. } => Ok(Reply::Files(vec![file(1), file(2)])),
        _ => no(ErrorCode::Failed, "unexpected"),
    });
    let shared = std::env::temp_dir();
    let text = run(bailiwick(fake.path()).arg("add").arg(&shared));
    assert!(text.code == 0 && text.out.contains("3 files, 3.00 KiB"), "{}{}", text.out, text.err);
    assert!(text.err.contains("link: latest"), "{}", text.err);
    let json = run(bailiwick(fake.path()).arg("add").arg(&shared).arg("--json"));
    assert_eq!(parsed(&json.out).as_array().unwrap().len(), 2);
    assert_eq!(run(bailiwick(fake.path()).args(["add", "/no/such/thing"])).code, 1);
}

#[test]
fn add_need_not_wait_for_the_master() {
    let fake = Fake::new(|command, _| match command {
        Command::Add { paths, .. } => Ok(Reply::Shares(vec![share(&paths[0], false)])),
        _ => Ok(Reply::Shares(vec![share(&std::env::temp_dir().canonicalize().unwrap(), false)])),
    });
    let printed = run(bailiwick(fake.path()).arg("add").arg(std::env::temp_dir()).arg("--no-wait"));
    assert!(printed.code == 5 && printed.err.contains("waiting for the master"), "{}", printed.err);
}

#[test]
fn wait_ends_by_the_state_by_time_or_by_an_expulsion() {
    let fake =
        Fake::new(|_, asked| Ok(status(StandingRow::Registered, if asked < 2 { Link::Away } else { Link::Connected })));
    let reached = run(bailiwick(fake.path()).args(["wait", "connected", "--json"]));
    assert_eq!((reached.code, parsed(&reached.out)["server"].as_str()), (0, Some("connected")));
    let late = run(bailiwick(fake.path()).args(["wait", "approved", "--timeout", "200ms"]));
    assert!(late.code == 5 && late.err.contains("not approved"), "{}", late.err);
    let pending = Fake::new(|_, _| match status(StandingRow::Registered, Link::Connected) {
        Reply::Status(row) => {
            Ok(Reply::Status(Box::new(Status { waiting: Some("waiting for approval".into()), ..*row })))
        }
        other => Ok(other),
    });
    let late = run(bailiwick(pending.path()).args(["wait", "approved", "--timeout", "1ms"]));
    assert!(late.err.contains("; it is waiting for approval"), "{}", late.err);
    let expelled = Fake::new(|_, _| Ok(status(StandingRow::Disapproved, Link::Away)));
    assert_eq!(run(bailiwick(expelled.path()).args(["wait", "approved"])).code, 4);
}

#[test]
fn watch_prints_a_line_an_event_and_ends_with_the_node() {
    let mut fake = Fake::new(|_, _| Ok(Reply::Done));
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_bailiwick"))
        .env("BAILIWICK_STATE", fake.path())
        .args(["watch", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut detail = serde_json::Map::new();
    detail.insert("name".into(), "laptop".into());
    let event = Event { event: "registered".into(), time: now_rfc3339(), detail };
    let start = Instant::now();
    while fake.events.receiver_count() == 0 {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
    fake.events.send(event).unwrap();
    let line = parsed(&lines.next().unwrap().unwrap());
    assert_eq!((line["event"].as_str(), line["name"].as_str()), (Some("registered"), Some("laptop")));
    fake.end();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn nobody_who_reads_is_a_quiet_end() {
    let fake = Fake::new(|command, _| match command {
        Command::Files { offset, limit, .. } => {
            Ok(Reply::Files((*offset..offset + limit.unwrap().min(40_000 - offset)).map(file).collect()))
        }
        _ => no(ErrorCode::Failed, "unexpected"),
    });
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_bailiwick"))
        .env("BAILIWICK_STATE", fake.path())
        .arg("files")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(std::io::read_to_string(child.stderr.take().unwrap()).unwrap(), "");
}

#[test]
fn transfers_begin_with_what_there_is() {
    let script: [Script; 2] = [
        |command, _| match command {
            Command::Jobs { .. } => Ok(Reply::Jobs(Vec::new())),
            _ => {
                Ok(Reply::Transfers(vec![TransferRow { direction: Direction::Up, ..transfer(TransferState::Running) }]))
            }
        },
        |command, _| match command {
            Command::Jobs { .. } => Ok(Reply::Jobs(Vec::new())),
            _ => Ok(Reply::Transfers(vec![TransferRow { direction: Direction::Up, ..transfer(TransferState::Done) }])),
        },
    ];
    let begins = script.map(|script| run(bailiwick(Fake::new(script).path()).arg("transfers")).out);
    assert!(begins[0].starts_with(" JOB"), "{}", begins[0]);
    assert_eq!(begins[1], "no transfers under way\n");
}

#[test]
fn get_tells_what_was_there_and_what_has_another_name() {
    let fake = Fake::new(|command, _| {
        let done = |file: &str, name: &str, received_bytes| TransferRow {
            file: file.into(),
            name: Some(name.into()),
            received_bytes,
            ..transfer(TransferState::Done)
        };
        match command {
            Command::Get { .. } | Command::Jobs { .. } => {
                let some = JobRow { files: 3, received_bytes: 1, ..job(TransferState::Done, 3, 0) };
                Ok(Reply::Jobs(vec![some]))
            }
            Command::Files { .. } => {
                let named = |id: &str, path: &str| FileRow { id: id.into(), path: path.into(), ..file(1) };
                Ok(Reply::Files(vec![named("a", "all/docs/a"), named("b", "all/docs/b")]))
            }
            _ => Ok(Reply::Transfers(vec![done("a", "docs/a", 0), done("b", "docs/b (2)", 1), done("c", "docs/c", 0)])),
        }
    });
    let printed = run(bailiwick(fake.path()).args(["get", "x", "--conflict", "rename"]));
    assert_eq!(printed.code, 0, "{}", printed.err);
    assert!(printed.out.contains("2 of them were there already"), "{}", printed.out);
    assert!(printed.out.contains("renamed: all/docs/b is docs/b (2) here"), "{}", printed.out);
    assert_eq!(printed.out.matches("renamed").count(), 1, "{}", printed.out);
}

#[test]
fn whoever_watches_a_job_whose_node_ends_hears_that_it_goes_on() {
    let fake = Fake::new(|command, asked| match command {
        Command::Jobs { .. } if asked > 1 => no(ErrorCode::NotRunning, "the node is stopping"),
        _ => ending(command, asked, job(TransferState::Done, 2, 0)),
    });
    let printed = run(bailiwick(fake.path()).args(["get", "desktop:Pictures"]));
    assert_eq!(printed.code, 3);
    assert!(printed.err.contains("do something else; job 12 goes on then"), "{}", printed.err);
}
