//! What a person is told to do next: commands that work as they stand.

use crate::fake::*;
use crate::{bailiwick, json_error, run};
use bailiwick::node::local::*;

/// A run with the state directory given as an option, and no other place in the environment.
fn with_option(fake: &Fake, arguments: &[&str]) -> crate::Printed {
    run(bailiwick(fake.path()).env_remove("BAILIWICK_STATE").arg("--state").arg(fake.path()).args(arguments))
}

#[test]
fn commands_that_are_named_carry_the_option_that_found_the_node() {
    let fake = Fake::new(|command, _| match command {
        Command::Get { .. } | Command::Jobs { .. } => Ok(Reply::Jobs(vec![job(TransferState::Waiting, 0, 0)])),
        Command::Shares => Ok(Reply::Shares(Vec::new())),
        _ => no(ErrorCode::Failed, "unexpected"),
    });
    let named = format!("--state {}`", fake.path().display());
    let printed = with_option(&fake, &["get", "x", "--no-wait"]);
    assert!(printed.code == 5 && printed.err.contains(&format!("`bailiwick transfers {named}")), "{}", printed.err);
    let json = with_option(&fake, &["get", "x", "--no-wait", "--json"]);
    assert!(json_error(&json)["hint"].as_str().unwrap().contains(&named), "{}", json.err);
    let printed = with_option(&fake, &["shares"]);
    assert!(printed.out.contains(&format!("`bailiwick add PATH {named}")), "{}", printed.out);
    let by_variable = run(bailiwick(fake.path()).arg("shares"));
    assert!(by_variable.out.contains("`bailiwick add PATH`"), "the variable holds on: {}", by_variable.out);
}

#[test]
fn a_device_that_is_out_says_so_beside_its_lists() {
    for (standing, told) in [(StandingRow::Disapproved, "has expelled this device"), (StandingRow::Left, "has left")] {
        let script: Script = match standing {
            StandingRow::Left => |command, _| lists(command, StandingRow::Left, 2),
            _ => |command, _| lists(command, StandingRow::Disapproved, 2),
        };
        let fake = Fake::new(script);
        for command in ["files", "clients", "shares"] {
            let printed = run(bailiwick(fake.path()).arg(command));
            assert!(printed.code == 0 && printed.err.contains(told), "{command}: {}{}", printed.out, printed.err);
            assert_eq!(run(bailiwick(fake.path()).args([command, "--json"])).err, "", "{command}");
        }
        let status = run(bailiwick(fake.path()).arg("status"));
        assert!(status.code == 0 && !status.out.contains("rename"), "{}", status.out);
    }
    let fake = Fake::new(|command, _| lists(command, StandingRow::Disapproved, 0));
    let printed = run(bailiwick(fake.path()).arg("files"));
    assert!(printed.out.contains("expelled") && !printed.out.contains("add PATH"), "{}", printed.out);
}

fn lists(command: &Command, standing: StandingRow, rows: u64) -> Result<Reply, LocalError> {
    match command {
        Command::Status => match status(standing, Link::Connected) {
            Reply::Status(row) => Ok(Reply::Status(Box::new(Status { asked_name: Some("desk".into()), ..*row }))),
            other => Ok(other),
        },
        Command::Files { .. } => Ok(Reply::Files((0..rows).map(file).collect())),
        Command::Shares => Ok(Reply::Shares(vec![share(std::path::Path::new("/s"), true)])),
        _ => Ok(Reply::Clients(vec![client("desk", StandingRow::Approved)])),
    }
}

#[test]
fn who_waits_for_approval_is_not_told_that_the_master_is_away() {
    let fake = Fake::new(|_, _| Ok(status(StandingRow::Registered, Link::Connected)));
    let printed = run(bailiwick(fake.path()).arg("status"));
    assert!(printed.out.contains("master     not known before"), "{}", printed.out);
    assert!(printed.out.contains("local API  http://"), "{}", printed.out);
}

#[test]
fn what_cannot_be_meant_is_told_with_what_could_be() {
    let fake = Fake::new(|command, _| match command {
        Command::Clients => Ok(Reply::Clients(Vec::new())),
        _ => no(ErrorCode::NotFound, "there is no such device in the group"),
    });
    let short = run(bailiwick(fake.path()).args(["approve", "7a"]));
    assert!(short.code == 1 && short.err.contains("at least 4 digits"), "{}", short.err);
    let long = run(bailiwick(fake.path()).args(["approve", "7a9e1"]));
    assert!(long.code == 1 && !long.err.contains("at least"), "{}", long.err);
    let root = run(bailiwick(fake.path()).args(["add", "/"]));
    assert!(root.code == 2 && root.err.contains("name a folder below it"), "{}", root.err);
    for command in ["pause", "resume", "cancel"] {
        let none = run(bailiwick(fake.path()).arg(command));
        assert!(none.code == 2 && none.err.contains("--all"), "{command}: {}", none.err);
    }
    assert!(
        !run(bailiwick(fake.path()).args(["cancel", "--help"])).out.contains("up-"),
        "an upload can't be cancelled"
    );
}

#[test]
fn where_no_node_runs_the_command_of_its_role_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("role"), "client").unwrap();
    for arguments in [&["status"][..], &["wait", "approved"]] {
        let printed = run(bailiwick(dir.path()).args(arguments));
        assert_eq!(printed.code, 3);
        assert!(printed.err.contains("`bailiwick client -d`") && !printed.err.contains("INVITE"), "{}", printed.err);
    }
}
