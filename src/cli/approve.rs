//! `approve` and `disapprove`: the person's decisions at the master.

use super::end::Outcome;
use super::group::{ask_clients, ask_status, client_table, short, since_text, unexpected};
use super::output::{Output, can_ask};
use super::place::usage;
use crate::api::client::Client;
use crate::node::local::*;

/// Digits of an id's beginning, at least.
const DIGITS_MIN: usize = 4;

/// `approve`.
pub(super) async fn approve(node: &Client, ids: &[String], output: Output) -> Outcome {
    if ids.is_empty() {
        return show(&walk(node, output).await?, "approved", output);
    }
    let before = ask_clients(node).await?;
    let rows = decide(node, Command::Approve { ids: ids.to_vec() }).await?;
    if output.json {
        return output.value(&rows);
    }
    let is_new =
        |row: &ClientRow| !before.iter().any(|client| client.id == row.id && client.standing == StandingRow::Approved);
    let (new, old): (Vec<ClientRow>, Vec<ClientRow>) = rows.into_iter().partition(is_new);
    old.iter().try_for_each(|row| output.line(&format!("{} ({}) is approved already", row.name, short(&row.id))))?;
    show(&new, "approved", output)?;
    if !old.is_empty() {
        tell_waiting(&ask_clients(node).await?, output);
    }
    Ok(())
}

/// Whoever named a device that is in may have meant one of these.
fn tell_waiting(clients: &[ClientRow], output: Output) {
    let waiting: Vec<&ClientRow> = clients.iter().filter(|client| client.standing == StandingRow::Registered).collect();
    if waiting.is_empty() {
        return output.note("nobody waits for approval");
    }
    output.note("still waiting for approval:");
    for client in waiting {
        output.note(&format!("  {}, id {}", waits(client), short(&client.id)));
    }
}

/// Asks about each device that waits, one by one.
async fn walk(node: &Client, output: Output) -> Outcome<Vec<ClientRow>> {
    if ask_status(node).await?.role != NodeRole::Master {
        let hint = "run it at the group's master: there `bailiwick approve` shows who waits";
        return Err(LocalError::new(ErrorCode::WrongRole, "only the master approves devices", hint).into());
    }
    let mut waiting = ask_clients(node).await?;
    waiting.retain(|client| client.standing == StandingRow::Registered);
    waiting.sort_by(|one, other| one.since.cmp(&other.since));
    if waiting.is_empty() {
        output.note("nobody waits for approval; `bailiwick invite` makes an invite for one more device");
        return Ok(Vec::new());
    }
    if !can_ask() {
        return Err(ambiguous(&waiting).into());
    }
    output
        .note("Compare each code with the one that the device itself shows. y approves, n leaves it waiting, q ends.");
    let (mut approved, mut left) = (Vec::new(), waiting.len());
    for client in waiting {
        match output.ask(&format!("{}; approve? [y/N/q]", waits(&client)))?.as_deref() {
            Some("y" | "yes") => {
                approved.extend(decide(node, Command::Approve { ids: vec![client.id] }).await?);
                left -= 1;
            }
            Some("q" | "quit") | None => break,
            Some(_) => {}
        }
    }
    if left > 0 {
        output.note(&format!("{left} still waiting; a device that you don't know: `bailiwick disapprove ID`"));
    }
    Ok(approved)
}

/// Who waits, by which code, and since when.
fn waits(client: &ClientRow) -> String {
    let code = client.code.as_deref().unwrap_or("no code yet");
    format!("{}, {code}, {}", client.name, since_text(&client.since))
}

fn ambiguous(waiting: &[ClientRow]) -> LocalError {
    let all = waiting.iter().map(|client| format!("{} {}", short(&client.id), waits(client)));
    usage(
        format!(
            "no device is named, and there is no terminal to ask on; waiting: {}",
            all.collect::<Vec<_>>().join("; ")
        ),
        "compare the codes, then name the devices: `bailiwick approve ID…`",
    )
}

/// `disapprove`.
pub(super) async fn disapprove(node: &Client, ids: &[String], yes: bool, output: Output) -> Outcome {
    if !yes && !confirmed(node, ids, output).await? {
        output.note("nothing was changed");
        return show(&[], "disapproved", output);
    }
    let gone = decide(node, Command::Disapprove { ids: ids.to_vec() }).await?;
    show(&gone, "disapproved", output)?;
    output.note("If that was a mistake: `bailiwick invite` here, and on the device, with a new state directory,");
    output.note("  bailiwick client INVITE --profile NEW");
    Ok(())
}

async fn confirmed(node: &Client, ids: &[String], output: Output) -> Outcome<bool> {
    known(node, ids).await?;
    if !can_ask() {
        let error = "disapproving is final, and there is no terminal to ask on";
        return Err(usage(error, "say --yes if it is meant").into());
    }
    let question = format!(
        "This expels {} from the group for ever. Such a device never comes back; its person could only begin anew, \
         with a new state directory and a new invite. Go on? [y/N]",
        ids.join(", ")
    );
    Ok(matches!(output.ask(&question)?.as_deref(), Some("y" | "yes")))
}

/// Whoever gave fewer digits of an id than count is told how many do.
fn with_digits(error: LocalError, command: &Command) -> LocalError {
    let ids = match command {
        Command::Approve { ids } | Command::Disapprove { ids } => ids.as_slice(),
        _ => &[],
    };
    let is_short = |id: &String| id.len() < DIGITS_MIN && id.chars().all(|c| c.is_ascii_hexdigit());
    match error.code == ErrorCode::NotFound && ids.iter().any(is_short) {
        true => LocalError {
            hint: format!("the beginning of an id has at least {DIGITS_MIN} digits; {}", error.hint),
            ..error
        },
        false => error,
    }
}

/// The devices that are named, as far as the group knows them. The node decides whom a text means; whom nobody here
/// could mean need not be asked about.
async fn known(node: &Client, ids: &[String]) -> Outcome<Vec<ClientRow>> {
    let rows = ask_clients(node).await?;
    for id in ids {
        if !rows.iter().any(|row| may_mean(id, row)) {
            let error = format!("there is no device '{id}' in the group");
            let none = LocalError::new(ErrorCode::NotFound, error, "`bailiwick clients` shows the names and ids");
            return Err(with_digits(none, &Command::Disapprove { ids: ids.to_vec() }).into());
        }
    }
    Ok(rows)
}

fn may_mean(id: &str, row: &ClientRow) -> bool {
    let digits = |text: &str| text.replace('-', "").to_lowercase();
    id.to_lowercase() == row.name.to_lowercase() || (id.len() >= DIGITS_MIN && digits(&row.id).starts_with(&digits(id)))
}

async fn decide(node: &Client, command: Command) -> Outcome<Vec<ClientRow>> {
    match node.ask(&command).await.map_err(|error| with_digits(error, &command))? {
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
