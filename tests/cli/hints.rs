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
