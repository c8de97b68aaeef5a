//! What can be told without a running node.

use crate::{bailiwick, json_error, run};
use bailiwick::wire::invite::{Address, AdmissionSecret, Invite, InviteSecret, ServerAddress, Ticket};
use bailiwick::wire::sign::Identity;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use tempfile::tempdir;

/// The commands, as the help lists them.
fn commands() -> Vec<String> {
    let help = run(bailiwick(tempdir().unwrap().path()).arg("--help"));
    assert_eq!(help.code, 0);
    let (_, list) = help
        .out
        .split_once(
            "Commands:
",
        )
        .unwrap();
    let named = list.lines().take_while(|line| line.starts_with("  ")).filter(|line| !line.starts_with("   "));
    let named = named.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    named.map(str::to_owned).collect()
}

fn server() -> ServerAddress {
    let key = Identity::from_seeds([9; 32], [9; 32]).device_key();
    ServerAddress { key, addresses: vec![Address::parse("192.0.2.1:4433").unwrap()] }
}

fn invite() -> String {
    let master = Identity::from_seeds([1; 32], [2; 32]);
    let (seal, master) = (master.seal_key(), master.device_key());
    Invite { server: server(), master, seal, secret: InviteSecret([7; 16]) }.to_string()
}

fn ticket() -> String {
    Ticket { server: server(), admission: AdmissionSecret([8; 16]) }.to_string()
}

#[test]
fn every_command_explains_itself() {
    let dir = tempdir().unwrap();
    let commands = commands();
    assert!(commands.len() >= 26, "{commands:?}");
    for command in commands {
        let help = run(bailiwick(dir.path()).args([&command, "--help"]));
        assert!(
            help.code == 0 && help.out.contains("Usage:") && help.out.contains("--json"),
            "{command}: {}",
            help.out
        );
        let examples = help.out.split_once("Example").map(|(_, examples)| examples).unwrap_or_default();
        assert!(examples.contains(&format!("bailiwick {command}")), "{command} has no example: {}", help.out);
    }
}

/// What the README says of commands is what there is.
#[test]
fn the_readme_names_every_command() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let text = readme.replace("`", " ").replace([',', ';', '|', '[', '.'], " ");
    let words: Vec<&str> = text.split_whitespace().collect();
    for command in commands() {
        assert!(words.contains(&command.as_str()), "the README does not name {command}");
    }
}

#[test]
fn usage_errors_exit_with_2_in_both_forms() {
    let dir = tempdir().unwrap();
    let cases: &[&[&str]] = &[
        &[],
        &["nonsense"],
        &["get"],
        &["disapprove"],
        &["wait", "nonsense"],
        &["wait", "approved", "--timeout", "soon"],
        &["invite", "--expires", "1w"],
        &["invite", "--expires", "soon"],
        &["rename"],
        &["rename", "a", "b", "c"],
        &["leave", "--now", "--no-wait"],
        &["server", "--listen", "nowhere"],
        &["server", "--advertise", "host"],
        &["client", "--name", "a:b"],
        &["client", "--downloads", "/dev/null"],
        &["get", "x", "--detach", "--no-wait"],
        &["pause"],
        &["cancel"],
        &["status", "--profile", "a", "--state", "b"],
        &["status", "--profile", "../a"],
    ];
    for arguments in cases {
        let text = run(bailiwick(dir.path()).args(*arguments));
        assert_eq!((text.code, text.out.as_str()), (2, ""), "{arguments:?}: {}", text.err);
        let json = run(bailiwick(dir.path()).args(*arguments).arg("--json"));
        assert_eq!((json.code, json.out.as_str()), (2, ""), "{arguments:?}");
        assert_eq!(json_error(&json)["code"], "usage", "{arguments:?}");
    }
}

#[test]
fn a_usage_error_names_the_argument_in_json_too() {
    let dir = tempdir().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["get"], "<FILE>"),
        (&["get", "x", "--detach", "--no-wait"], "--no-wait"),
        (&["resume"], "JOB"),
        (&["wait", "approved", "--timeout", "soon"], "--timeout"),
        (&["status", "--nonsense"], "--nonsense"),
    ];
    for (arguments, named) in cases {
        let json = run(bailiwick(dir.path()).args(*arguments).arg("--json"));
        let error = json_error(&json)["error"].as_str().unwrap().to_owned();
        assert!(error.contains(named), "{arguments:?}: {error}");
    }
}

#[test]
fn without_a_node_the_exit_code_is_3_with_a_hint() {
    let dir = tempdir().unwrap();
    let cases: &[&[&str]] = &[
        &["status"],
        &["clients"],
        &["files", "x"],
        &["shares"],
        &["transfers"],
        &["invites"],
        &["invite"],
        &["ticket"],
        &["approve", "x"],
        &["disapprove", "x", "--yes"],
        &["rename", "x"],
        &["leave", "--yes"],
        &["policy"],
        &["ticket", "--rotate"],
        &["add", "/"],
        &["scan"],
        &["remove", "x"],
        &["get", "a:b"],
        &["wait", "idle"],
        &["watch"],
        &["stop"],
    ];
    for arguments in cases {
        let text = run(bailiwick(dir.path()).args(*arguments));
        assert_eq!((text.code, text.out.as_str()), (3, ""), "{arguments:?}: {}", text.err);
        assert!(text.err.starts_with("error: no node runs for ") && text.err.contains("\n  hint: "), "{}", text.err);
        let json = run(bailiwick(dir.path()).args(*arguments).arg("--json"));
        assert_eq!(json.code, 3, "{arguments:?}");
        assert_eq!(json_error(&json)["code"], "not_running");
    }
}

/// A directory that this user may not look into: another user's, if this one may look everywhere.
#[test]
fn a_directory_that_cannot_be_read_is_told_from_one_without_a_node() {
    let dir = tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o000)).unwrap();
    let program = bailiwick(dir.path()).get_program().to_owned();
    let mut command = Command::new(program);
    command.args(["--json", "status"]).env("BAILIWICK_STATE", dir.path()).current_dir("/");
    if std::fs::read_dir(dir.path()).is_ok() {
        command.uid(65_534).gid(65_534);
    }
    let Ok(output) = command.output() else { return };
    assert_eq!(output.status.code(), Some(1));
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(error["error"].as_str().unwrap().starts_with("no permission to read "), "{error}");
}

#[test]
fn why_the_last_node_ended_is_told_where_none_runs() {
    let dir = tempdir().unwrap();
    let failed = run(bailiwick(dir.path()).arg("client"));
    assert!(failed.code != 0, "there is no invite");
    let what = failed.err.lines().find_map(|line| line.strip_prefix("error: ")).unwrap().to_owned();
    let told = run(bailiwick(dir.path()).arg("status"));
    assert_eq!(told.code, 3);
    assert!(told.err.contains(&format!("no node runs for {}", dir.path().display())), "{}", told.err);
    assert!(told.err.contains(&what), "{}", told.err);
}

#[test]
fn a_word_of_another_kind_is_explained() {
    let dir = tempdir().unwrap();
    let cases = [
        (vec!["client", "hello"], "'bwi1'"),
        (vec!["client", &ticket()], "a server's ticket"),
        (vec!["client", &invite()[..100]], "damaged or incomplete"),
        (vec!["client", "@/no/such/file"], "/no/such/file"),
        (vec!["master", "--server", &invite()], "an invite for a client"),
        (vec!["master", "--server", "hello"], "'bwt1'"),
    ]
    .map(|(arguments, told)| (arguments.into_iter().map(str::to_owned).collect::<Vec<_>>(), told));
    for (arguments, told) in cases {
        for background in [None, Some("-d")] {
            let printed = run(bailiwick(dir.path()).args(&arguments).args(background));
            assert_eq!(printed.code, 2, "{arguments:?}: {}", printed.err);
            assert!(printed.err.contains(told) && printed.err.contains("\n  hint: "), "{}", printed.err);
        }
        let json = run(bailiwick(dir.path()).args(&arguments).arg("--json"));
        assert_eq!(json_error(&json)["code"], "usage");
    }
}

#[test]
fn words_come_from_stdin_and_files_too() {
    let dir = tempdir().unwrap();
    let printed = run(bailiwick(dir.path()).args(["client", "-"]).write_stdin(ticket()));
    assert!(printed.code == 2 && printed.err.contains("a server's ticket"), "{}", printed.err);
    let printed = run(bailiwick(dir.path()).args(["client", "-"]).write_stdin(""));
    assert!(printed.code == 2 && printed.err.contains("stdin is empty"), "{}", printed.err);
    let file = dir.path().join("word");
    // As a mail would break it.
    std::fs::write(&file, format!("{}\n {}\n", &ticket()[..40], &ticket()[40..])).unwrap();
    let printed = run(bailiwick(dir.path()).args(["client", &format!("@{}", file.display())]));
    assert!(printed.err.contains("a server's ticket"), "{}", printed.err);
}

#[test]
fn what_is_to_be_shared_must_be_there() {
    let dir = tempdir().unwrap();
    let printed = run(bailiwick(dir.path()).args(["master", "/no/such/folder"]));
    assert!(printed.code == 1 && printed.err.contains("/no/such/folder"), "{}", printed.err);
}
