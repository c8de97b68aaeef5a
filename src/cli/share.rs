//! `add` and `scan`: share paths, or look at shares anew, and wait until the catalog has what is there.

use super::args::{AddArgs, ScanArgs};
use super::catalog::{ask_shares, share_state};
use super::end::{self, End, Outcome};
use super::group::unexpected;
use super::output::Output;
use super::progress::Progress;
use super::{place, units};
use crate::api::client::Client;
use crate::node::local::*;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often the shares are looked at.
const POLL: Duration = Duration::from_millis(100);
/// How long a share may wait before `--no-wait` gives up: what is only under way takes less.
const NO_WAIT_GRACE: Duration = Duration::from_secs(2);
/// How long a share may wait before a person is told how not to wait.
const HINT_GRACE: Duration = Duration::from_millis(500);
/// Files of a share that are looked at to tell empty folders from files.
const FILES_LOOKED_AT: u64 = 10_000;

/// `add`.
pub(super) async fn add(node: &Client, args: &AddArgs, output: Output) -> Outcome {
    let paths = place::existing(&args.paths)?;
    let command = Command::Add { paths, copy: args.copy, exclude: args.exclude.clone() };
    attached(node, &command, args.no_wait, output).await
}

/// `scan`.
pub(super) async fn scan(node: &Client, args: &ScanArgs, output: Output) -> Outcome {
    let paths = args.paths.iter().map(|path| place::absolute(path)).collect::<Result<_, _>>()?;
    attached(node, &Command::Scan { paths, confirm: args.confirm }, args.no_wait, output).await
}

async fn attached(node: &Client, command: &Command, no_wait: bool, output: Output) -> Outcome {
    let Reply::Shares(begun) = node.ask(command).await? else { return Err(unexpected()) };
    let paths: Vec<PathBuf> = begun.into_iter().map(|share| share.path).collect();
    tokio::select! {
        shares = settled(node, &paths, no_wait, output) => show(node, &shares?, output).await,
        _ = tokio::signal::ctrl_c() => Err(interrupted()),
    }
}

/// The shares, once they are scanned and the master has answered for all.
async fn settled(node: &Client, paths: &[PathBuf], no_wait: bool, output: Output) -> Outcome<Vec<ShareRow>> {
    let mut progress = Progress::new(output);
    let mut waiting_since: Option<Instant> = None;
    let mut is_told = false;
    loop {
        let mut shares = ask_shares(node).await?;
        shares.retain(|share| paths.contains(&share.path));
        if shares.iter().all(is_settled) {
            progress.clear();
            return Ok(shares);
        }
        let reason = shares.iter().find(|share| !share.scanning).and_then(|share| share.reason.clone());
        match (&reason, no_wait) {
            (Some(reason), true) if waiting_since.get_or_insert_with(Instant::now).elapsed() >= NO_WAIT_GRACE => {
                progress.clear();
                return Err(cannot_finish(reason).into());
            }
            (Some(reason), false)
                if !is_told && waiting_since.get_or_insert_with(Instant::now).elapsed() >= HINT_GRACE =>
            {
                progress.note(&format!("{reason}; Ctrl-C is safe, it goes on by itself (--no-wait doesn't wait)"));
                is_told = true;
            }
            (Some(_), _) => {}
            (None, _) => waiting_since = None,
        }
        progress.say(&shares.iter().filter(|share| !is_settled(share)).map(one_line).collect::<Vec<_>>().join("; "));
        tokio::time::sleep(POLL).await;
    }
}

fn is_settled(share: &ShareRow) -> bool {
    !share.scanning && share.syncing == 0 && share.leaving == 0 && share.last_scan.is_some()
}

fn one_line(share: &ShareRow) -> String {
    let (files, size) = (units::count(share.files, "file"), units::size(share.bytes));
    format!("{}: {files}, {size}, {}", share.name, share_state(share))
}

fn cannot_finish(reason: &str) -> LocalError {
    LocalError::new(
        ErrorCode::NotNow,
        format!("shared, but not in the catalog yet: {reason}"),
        "it goes on by itself; `bailiwick shares` shows it",
    )
}

fn interrupted() -> End {
    let error = LocalError::new(ErrorCode::NotNow, "interrupted: sharing goes on", "`bailiwick shares` shows it");
    End::with(end::INTERRUPTED, error)
}

async fn show(node: &Client, shares: &[ShareRow], output: Output) -> Outcome {
    for share in shares {
        tell_skipped(share, output);
    }
    if output.json {
        output.value(&made(node, shares).await?)?;
    } else {
        for share in shares {
            let folders = folders(node, share).await;
            let (files, size) = (units::files(share.files.saturating_sub(folders), folders), units::size(share.bytes));
            let how = if share.copy { "shared a copy of" } else { "shared" };
            output.line(&format!("{how} {} as {}: {files}, {size}", share.path.display(), share.name))?;
        }
    }
    match shares.iter().map(|share| share.failed).sum() {
        0u64 => Ok(()),
        failed => Err(in_part(failed)),
    }
}

/// Empty folders among a share's files, which its row counts with them; of a big share they are not looked for.
async fn folders(node: &Client, share: &ShareRow) -> u64 {
    if share.files > FILES_LOOKED_AT {
        return 0;
    }
    let rows = made(node, std::slice::from_ref(share)).await.unwrap_or_default();
    rows.iter().filter(|row| row.kind == KindRow::Folder).count() as u64
}

/// What is passed over by rule (links, special files) was never to be shared; what can't be read was.
fn in_part(failed: u64) -> End {
    let what = if failed == 1 { "1 file or folder".to_owned() } else { format!("{failed} files and folders") };
    let error = LocalError::new(
        ErrorCode::Failed,
        format!("{what} could not be read or was refused, and so is not shared"),
        "check owner and mode of those named above, then `bailiwick scan`",
    );
    End::with(end::IN_PART, error)
}

fn tell_skipped(share: &ShareRow, output: Output) {
    if share.missing > 0 {
        output.note(&format!("{}: {}", share.path.display(), share.reason.as_deref().unwrap_or("files are missing")));
    }
    if share.skipped_count == 0 {
        return;
    }
    output.note(&format!("skipped in {}: {}", share.path.display(), share.skipped_count));
    share.skipped.iter().for_each(|what| output.note(&format!("  {what}")));
    let more = share.skipped_count.saturating_sub(share.skipped.len() as u64);
    if more > 0 {
        output.note(&format!("  … and {more} more"));
    }
}

async fn made(node: &Client, shares: &[ShareRow]) -> Outcome<Vec<FileRow>> {
    let mut rows = Vec::new();
    for share in shares {
        match node.ask(&Command::ShareFiles { path: share.path.clone() }).await? {
            Reply::Files(files) => rows.extend(files),
            _ => return Err(unexpected()),
        }
    }
    Ok(rows)
}
