//! `remove`: takes files out of the catalog, and waits until they are out.

use super::args::RemoveArgs;
use super::catalog::ask_shares;
use super::end::{self, End, Outcome};
use super::group::{ask_status, unexpected};
use super::output::{Output, can_ask};
use super::progress::Progress;
use super::units;
use crate::api::client::Client;
use crate::node::local::*;
use std::time::{Duration, Instant};

/// How often it is looked at.
const POLL: Duration = Duration::from_millis(100);
/// How long it may wait before `--no-wait` gives up: what is only under way takes less.
const NO_WAIT_GRACE: Duration = Duration::from_secs(2);

/// `remove`.
pub(super) async fn remove(node: &Client, args: &RemoveArgs, output: Output) -> Outcome {
    // What is a copy can't be told any more once it is out.
    let copies = if output.json { Vec::new() } else { copies(node).await };
    let Some(rows) = begin(node, args, output).await? else {
        output.note("nothing was changed");
        return if output.json { output.value::<[FileRow; 0]>(&[]) } else { Ok(()) };
    };
    tokio::select! {
        gone = gone(node, args.no_wait, output) => gone?,
        _ = tokio::signal::ctrl_c() => return Err(interrupted()),
    }
    let rows: Vec<FileRow> = rows.into_iter().map(|row| FileRow { status: FileStatus::Removed, ..row }).collect();
    if output.json {
        return output.value(&rows);
    }
    let count = rows.len() as u64;
    let more = if count < FILES_PAGE_MAX { "" } else { " or more" };
    let size = units::size(rows.iter().map(|row| row.size).sum());
    output.line(&format!("removed from the catalog: {}{more}, {size}", counted(&rows)))?;
    let me = ask_status(node).await.ok().and_then(|status| status.id);
    for line in kept_lines(&rows, me.as_deref(), &copies) {
        output.note(line);
    }
    Ok(())
}

/// Names of this device's shares that are copies; none if that can't be told.
async fn copies(node: &Client) -> Vec<String> {
    let shares = ask_shares(node).await.unwrap_or_default();
    shares.into_iter().filter(|share| share.copy).map(|share| share.name).collect()
}

/// Files, and empty folders apart.
fn counted(rows: &[FileRow]) -> String {
    let folders = rows.iter().filter(|row| row.kind == KindRow::Folder).count() as u64;
    units::files(rows.len() as u64 - folders, folders)
}

/// What happened to what was removed: where it lies, and how it is shared again.
fn kept_lines(rows: &[FileRow], me: Option<&str>, copies: &[String]) -> Vec<&'static str> {
    let is_mine = |row: &FileRow| me.is_some_and(|me| row.owner == me);
    let is_copy = |row: &FileRow| copies.iter().any(|name| row.path.split('/').next() == Some(name));
    let has = |of: &dyn Fn(&FileRow) -> bool| rows.iter().any(of);
    let mut lines = Vec::new();
    if has(&|row| is_mine(row) && !is_copy(row)) {
        lines.push("your files lie where they were; `bailiwick add PATH` shares them again");
    }
    if has(&|row| is_mine(row) && is_copy(row)) {
        lines.push("the copies that bailiwick made of yours are deleted; `bailiwick add --copy PATH` makes new ones");
    }
    if has(&|row| !is_mine(row)) {
        lines.push("others' files stay on their owners' disks, copies too; an owner can add them again");
    }
    lines
}

/// What is removed; nothing if the person thought better of it.
async fn begin(node: &Client, args: &RemoveArgs, output: Output) -> Outcome<Option<Vec<FileRow>>> {
    let command = |yes| Command::Remove { files: args.files.clone(), yes };
    let reply = match node.ask(&command(args.yes)).await {
        Err(error) if error.code == ErrorCode::Unconfirmed && can_ask() => {
            let answer = output.ask(&format!("{}, for everybody. Go on? [y/N]", error.error))?;
            if !matches!(answer.as_deref(), Some("y" | "yes")) {
                return Ok(None);
            }
            node.ask(&command(true)).await?
        }
        reply => reply?,
    };
    let Reply::Files(rows) = reply else { return Err(unexpected()) };
    Ok(Some(rows))
}

/// Waits until nothing is left to be removed.
async fn gone(node: &Client, no_wait: bool, output: Output) -> Outcome {
    let mut progress = Progress::new(output);
    let mut waiting_since: Option<Instant> = None;
    loop {
        let Reply::Removals(row) = node.ask(&Command::Removals).await? else { return Err(unexpected()) };
        if row.left == 0 {
            progress.clear();
            return Ok(());
        }
        match (&row.reason, no_wait) {
            (Some(reason), true) if waiting_since.get_or_insert_with(Instant::now).elapsed() >= NO_WAIT_GRACE => {
                progress.clear();
                return Err(cannot_finish(reason).into());
            }
            (Some(_), _) => {}
            (None, _) => waiting_since = None,
        }
        let reason = row.reason.map(|reason| format!(", {reason}")).unwrap_or_default();
        progress.say(&format!("removing {}{reason}", units::count(row.left, "file")));
        tokio::time::sleep(POLL).await;
    }
}

fn cannot_finish(reason: &str) -> LocalError {
    LocalError::new(
        ErrorCode::NotNow,
        format!("still in the catalog: {reason}"),
        "it goes on by itself; `bailiwick shares` shows it",
    )
}

fn interrupted() -> End {
    let error = LocalError::new(ErrorCode::NotNow, "interrupted: removing goes on", "`bailiwick shares` shows it");
    End::with(end::INTERRUPTED, error)
}
