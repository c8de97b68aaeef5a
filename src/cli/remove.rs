//! `remove`: takes files out of the catalog, and waits until they are out.

use super::args::RemoveArgs;
use super::end::{self, End, Outcome};
use super::group::unexpected;
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
    let (files, size) = (units::count(count, "file"), units::size(rows.iter().map(|row| row.size).sum()));
    output.line(&format!("removed from the catalog: {files}{more}, {size}"))?;
    output.note("nothing was deleted but copies that bailiwick made; `bailiwick add PATH` shares your own files again");
    Ok(())
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
