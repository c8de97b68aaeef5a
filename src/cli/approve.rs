//! `approve` and `disapprove`: the person's decisions at the master.

use super::end::Outcome;
use super::group::{ask_clients, client_table, short, unexpected};
use super::output::{Output, can_ask};
use super::place::usage;
use crate::api::client::Client;
use crate::node::local::*;

/// `approve`.
pub(super) async fn approve(node: &Client, ids: &[String], output: Output) -> Outcome {
    let approved = match ids {
        [] => walk(node, output).await?,
        [_, ..] => decide(node, Command::Approve { ids: ids.to_vec() }).await?,
    };
    show(&approved, "approved", output)
}

/// Asks about each device that waits, one by one.
async fn walk(node: &Client, output: Output) -> Outcome<Vec<ClientRow>> {
    let mut waiting = ask_clients(node).await?;
    waiting.retain(|client| client.standing == StandingRow::Registered);
    if waiting.is_empty() {
        output.note("nobody waits for approval");
        return Ok(Vec::new());
    }
    if !can_ask() {
        return Err(ambiguous(&waiting).into());
    }
    output.note("Compare each code with the one that the device itself shows.");
    let mut approved = Vec::new();
    for client in waiting {
        let code = client.code.as_deref().unwrap_or("no code yet");
        match output.ask(&format!("{}, {code}, approve? [y/N/q]", client.name))?.as_deref() {
            Some("y" | "yes") => approved.extend(decide(node, Command::Approve { ids: vec![client.id] }).await?),
            Some("q" | "quit") | None => break,
            Some(_) => {}
        }
    }
    Ok(approved)
}

fn ambiguous(waiting: &[ClientRow]) -> LocalError {
    let named = |client: &ClientRow| {
        format!("{} {} ({})", short(&client.id), client.name, client.code.as_deref().unwrap_or("no code yet"))
    };
    let all = waiting.iter().map(named).collect::<Vec<_>>().join(", ");
    usage(
        format!("no device is named, and there is no terminal to ask on; waiting: {all}"),
        "name them: bailiwick approve ID…",
    )
}

/// `disapprove`.
pub(super) async fn disapprove(node: &Client, ids: &[String], yes: bool, output: Output) -> Outcome {
    if !yes && !confirmed(ids, output)? {
        output.note("nothing was changed");
        return show(&[], "disapproved", output);
    }
    let gone = decide(node, Command::Disapprove { ids: ids.to_vec() }).await?;
    show(&gone, "disapproved", output)
}

fn confirmed(ids: &[String], output: Output) -> Outcome<bool> {
    if !can_ask() {
        let error = "disapproving is final, and there is no terminal to ask on";
        return Err(usage(error, "say --yes if it is meant").into());
    }
    let question = format!(
        "This expels {} from the group for ever: such a device can never come back. Go on? [y/N]",
        ids.join(", ")
    );
    Ok(matches!(output.ask(&question)?.as_deref(), Some("y" | "yes")))
}

async fn decide(node: &Client, command: Command) -> Outcome<Vec<ClientRow>> {
    match node.ask(&command).await? {
        Reply::Clients(rows) => Ok(rows),
        _ => Err(unexpected()),
    }
}

fn show(rows: &[ClientRow], verb: &str, output: Output) -> Outcome {
    if output.json {
        return output.value(&rows);
    }
    if rows.len() > 5 {
        return output.table(client_table(rows));
    }
    rows.iter().try_for_each(|client| output.line(&format!("{verb} {} ({})", client.name, short(&client.id))))
}
