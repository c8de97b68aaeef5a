//! The program as people and scripts run it: the real binary, its exit codes, its two streams.

mod doctor;
mod fake;
mod hints;
mod out;
mod real;
mod running;
mod shares;
mod usage;
mod words;

use assert_cmd::Command;
use std::path::Path;

/// The program, for the node of a state directory.
fn bailiwick(state_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bailiwick"));
    command.env_remove("BAILIWICK_BACKGROUND").env("BAILIWICK_STATE", state_dir);
    command
}

/// What a run printed.
struct Printed {
    code: i32,
    out: String,
    err: String,
}

/// Runs to the end.
fn run(command: &mut Command) -> Printed {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Printed { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// The one line of JSON that is all of stderr.
fn json_error(printed: &Printed) -> serde_json::Value {
    assert_eq!(printed.err.lines().count(), 1, "{}", printed.err);
    let value: serde_json::Value = serde_json::from_str(&printed.err).unwrap();
    assert!(value["error"].is_string() && value["code"].is_string() && value["hint"].is_string(), "{value}");
    value
}
