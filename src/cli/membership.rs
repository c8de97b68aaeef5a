//! `rename`, `leave` and `policy`: what a person wishes for a device, and for the group.

use super::args::{LeaveArgs, PolicyArgs, RenameArgs};
use super::end::{self, End, Outcome};
use super::group::{ask_status, short, unexpected};
use super::output::{Output, can_ask};
use super::place::usage;
use super::progress::Progress;
use super::units;
use crate::api::client::Client;
use crate::api::place::is_alive;
use crate::node::goodbye::{KeptCopies, LEFT_FILE};
use crate::node::local::*;
use std::time::{Duration, Instant};

/// How often a wish is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How long a wish may wait before `--no-wait` gives up: what is only under way takes less.
const NO_WAIT_GRACE: Duration = Duration::from_secs(2);

/// `rename`.
pub(super) async fn rename(node: &Client, args: &RenameArgs, output: Output) -> Outcome {
    let (id, name) = match args.words.as_slice() {
        [name] => (None, name),
        [id, name, ..] => (Some(id.clone()), name),
        [] => return Err(unexpected()),
    };
    let command = Command::Rename { id, name: name.clone() };
    let Reply::Clients(rows) = node.ask(&command).await? else { return Err(unexpected()) };
    let rows = tokio::select! {
        rows = renamed(node, rows, name, args.no_wait, output) => rows?,
        _ = tokio::signal::ctrl_c() => return Err(interrupted("the new name waits for the master")),
    };
    if output.json {
        return output.value(&rows);
    }
    rows.iter().try_for_each(|row| output.line(&format!("{} is called {}", short(&row.id), row.name)))
}

/// The device's row once it has its name. At a client that is so when the master's answer came.
async fn renamed(
    node: &Client,
    mut rows: Vec<ClientRow>,
    name: &str,
    no_wait: bool,
    output: Output,
) -> Outcome<Vec<ClientRow>> {
    let mut progress = Progress::new(output);
    let begun = Instant::now();
    loop {
        let status = ask_status(node).await?;
        let wish = status.rename.as_ref().filter(|wish| wish.name == name);
        match wish.map(|wish| &wish.refused) {
            None => break,
            Some(Some(why)) => {
                progress.clear();
                let error = format!("the device keeps its name: {why} ('{name}')");
                let hint = "choose another name; `bailiwick clients` shows those that are taken";
                return Err(LocalError::new(ErrorCode::Refused, error, hint).into());
            }
            Some(None) => {}
        }
        let waits_for = status.waiting.unwrap_or_else(|| "the master is being told".to_owned());
        if no_wait && begun.elapsed() >= NO_WAIT_GRACE {
            progress.clear();
            return Err(not_now(&format!("the name is not changed yet: {waits_for}")));
        }
        progress.say(&waits_for);
        tokio::time::sleep(POLL).await;
    }
    progress.clear();
    let Reply::Clients(all) = node.ask(&Command::Clients).await? else { return Err(unexpected()) };
    for row in &mut rows {
        if let Some(now) = all.iter().find(|now| now.id == row.id) {
            row.clone_from(now);
        }
    }
    Ok(rows)
}

/// `leave`: returns when the node has ended, so that nothing of the device is left.
pub(super) async fn leave(node: &Client, args: &LeaveArgs, output: Output) -> Outcome {
    if !args.yes && !confirmed(node, args.now, output)? {
        output.note("nothing was changed");
        return if output.json { output.value(&serde_json::json!({ "left": false })) } else { Ok(()) };
    }
    node.ask(&Command::Leave { now: args.now }).await?;
    tokio::select! {
        gone = gone(node, args.no_wait, output) => gone?,
        _ = tokio::signal::ctrl_c() => return Err(interrupted("the device still leaves, as soon as the master hears of it")),
    }
    if output.json {
        let kept = KeptCopies::of(node.state_dir());
        let copies = kept.map(|kept| serde_json::json!({ "folder": kept.folder, "count": kept.count }));
        return output.value(&serde_json::json!({ "left": true, "state_dir": node.state_dir(), "copies": copies }));
    }
    output.line("this device has left its group; its keys are erased, and what it fetched is still there")?;
    if let Some(kept) = KeptCopies::of(node.state_dir()) {
        let (are, folder) = (copies_are(kept.count, "still"), kept.folder.display());
        output.line(&format!("{are} in {folder}; contents.txt there tells their names"))?;
    }
    let told = if args.now { "The master may not know: its person can disapprove the device. " } else { "" };
    output.note(&format!("{told}To come back: a new state directory (--state or --profile) and a new invite."));
    Ok(())
}

/// Copies of shared files, and how they are there.
fn copies_are(count: u64, how: &str) -> String {
    match count {
        1 => format!("1 copy of a shared file is {how}"),
        count => format!("{count} copies of shared files are {how}"),
    }
}

fn confirmed(node: &Client, now: bool, output: Output) -> Outcome<bool> {
    let unheard = if now { " The master may never hear of it, and would go on listing the device." } else { "" };
    if !can_ask() {
        let error = format!("leaving is for ever, and there is no terminal to ask on.{unheard}");
        return Err(usage(error, "say --yes if it is meant").into());
    }
    let kept = KeptCopies::of(node.state_dir()).map_or_else(String::new, |kept| {
        format!(" {} kept in {}.", copies_are(kept.count, "").trim_end(), kept.folder.display())
    });
    let question =
        format!("This device leaves its group for ever, and its keys are erased.{kept}{unheard} Go on? [y/N]");
    Ok(matches!(output.ask(&question)?.as_deref(), Some("y" | "yes")))
}

/// Waits until the node has erased its keys and ended.
async fn gone(node: &Client, no_wait: bool, output: Output) -> Outcome {
    let mut progress = Progress::new(output);
    let begun = Instant::now();
    while is_alive(node.pid()) {
        // A node that is ending does not answer any more.
        let status = ask_status(node).await.ok();
        let waits_for = status.and_then(|status| status.waiting).unwrap_or_else(|| "leaving the group".to_owned());
        if no_wait && begun.elapsed() >= NO_WAIT_GRACE {
            progress.clear();
            return Err(not_now(&waits_for));
        }
        progress.say(&waits_for);
        tokio::time::sleep(POLL).await;
    }
    progress.clear();
    if node.state_dir().join(LEFT_FILE).exists() { Ok(()) } else { Err(still_there()) }
}

fn still_there() -> End {
    let hint = "start it again: it goes on leaving by itself";
    LocalError::new(ErrorCode::Failed, "the node ended before the device had left", hint).into()
}

fn not_now(what: &str) -> End {
    LocalError::new(ErrorCode::NotNow, what, "it goes on by itself; `bailiwick status` shows it").into()
}

fn interrupted(what: &str) -> End {
    let error = LocalError::new(ErrorCode::NotNow, format!("interrupted: {what}"), "`bailiwick status` shows it");
    End::with(end::INTERRUPTED, error)
}

/// `policy`.
pub(super) async fn policy(node: &Client, args: &PolicyArgs, output: Output) -> Outcome {
    let command = match (&args.key, &args.value) {
        (None, _) => Command::Policy,
        (Some(key), None) if key == MASTER_AWAY => Command::Policy,
        (Some(key), Some(value)) if key == MASTER_AWAY => set_master_away(value)?,
        (Some(key), _) => {
            let error = format!("there is no policy '{key}'");
            return Err(
                usage(error, format!("there is: `bailiwick policy {MASTER_AWAY} wait=3m`, and `continue=8h`")).into()
            );
        }
    };
    let Reply::Policy(rows) = node.ask(&command).await? else { return Err(unexpected()) };
    if output.json {
        return output.value(&rows);
    }
    rows.iter().try_for_each(|row| {
        let [wait, continues] = [row.wait_s, row.continue_s].map(|time| units::exact(Duration::from_secs(time)));
        output.line(&format!("{} wait={wait} continue={continues}", row.key))?;
        output.note(&format!(
            "owners go on serving for {wait} after they last heard from the master, over direct connections for {continues}"
        ));
        Ok(())
    })
}

fn set_master_away(value: &str) -> Outcome<Command> {
    let hint = format!(
        "write the time with its unit: `bailiwick policy {MASTER_AWAY} wait=3m`, or `continue=8h` for direct connections"
    );
    let (rule, text) = value.split_once('=').unwrap_or((value, ""));
    if !["wait", "continue"].contains(&rule) {
        return Err(usage(format!("'{value}' is no rule for {MASTER_AWAY}"), &hint).into());
    }
    let time = units::parse_duration(text).map_err(|error| usage(error, &hint))?;
    if time.subsec_millis() != 0 {
        return Err(usage(format!("'{text}' is not a whole number of seconds"), hint).into());
    }
    Ok(match rule {
        "wait" => Command::SetPolicy { master_away_wait_s: time.as_secs() },
        _ => Command::SetContinue { master_away_continue_s: time.as_secs() },
    })
}
