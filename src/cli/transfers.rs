//! `transfers`: the jobs, and what of them is not done.

use super::end::Outcome;
use super::group::{eta_text, path_text, short, unexpected};
use super::here;
use super::output::{Output, Rows};
use super::units;
use crate::api::client::Client;
use crate::node::local::*;

/// Single transfers that a person is shown; `--json` has all.
const SHOWN_MAX: usize = 40;

/// Asks for transfers, those of one job or all.
pub(super) async fn ask_transfers(node: &Client, job: Option<u64>) -> Outcome<Vec<TransferRow>> {
    match node.ask(&Command::Transfers { job }).await? {
        Reply::Transfers(rows) => Ok(rows),
        _ => Err(unexpected()),
    }
}

/// Asks for jobs, one or all.
pub(super) async fn ask_jobs(node: &Client, job: Option<u64>) -> Outcome<Vec<JobRow>> {
    match node.ask(&Command::Jobs { job }).await? {
        Reply::Jobs(rows) => Ok(rows),
        _ => Err(unexpected()),
    }
}

/// `transfers`.
pub(super) async fn transfers(node: &Client, output: Output) -> Outcome {
    let rows = ask_transfers(node, None).await?;
    if output.json {
        return output.value(&rows);
    }
    let jobs = ask_jobs(node, None).await?;
    if jobs.is_empty() && rows.is_empty() {
        return output.line("no transfers yet; `bailiwick get NAME:PATH` begins one");
    }
    if !jobs.is_empty() {
        output.table(job_table(&jobs))?;
    }
    print_open(&rows, !jobs.is_empty(), output)
}

fn print_open(rows: &[TransferRow], is_below_jobs: bool, output: Output) -> Outcome {
    let open: Vec<&TransferRow> = rows.iter().filter(|row| row.state != TransferState::Done).collect();
    match (open.is_empty(), is_below_jobs) {
        (true, true) => return Ok(()),
        (true, false) => return output.line("no transfers under way"),
        (false, true) => output.line("")?,
        (false, false) => {}
    }
    output.table(transfer_table(&open[..open.len().min(SHOWN_MAX)]))?;
    match open.len().checked_sub(SHOWN_MAX) {
        None | Some(0) => Ok(()),
        Some(more) => output.line(&format!("… and {more} more; --json lists the newest 10,000")),
    }
}

pub(super) fn job_table(rows: &[JobRow]) -> Rows {
    let row = |job: &JobRow| {
        vec![
            job.job.to_string(),
            job.what.clone(),
            state_text(job.state).to_owned(),
            format!("{}/{}", job.files_done, job.files),
            format!("{} of {}", units::size(job.done_bytes), units::size(job.total_bytes)),
            moving(job.state, job.rate, job.eta_s),
            job.path.map(path_text).unwrap_or_default().to_owned(),
            job.dest.display().to_string(),
            here::named(job.reason.as_deref().unwrap_or_default()).into_owned(),
        ]
    };
    Rows::new(&["JOB", "WHAT", "STATE", ">FILES", ">DONE", ">RATE", "PATH", "TO", "REASON"]).with(rows.iter().map(row))
}

pub(super) fn transfer_table(rows: &[&TransferRow]) -> Rows {
    let row = |transfer: &&TransferRow| {
        vec![
            transfer.job.map_or_else(|| transfer.id.clone(), |job| job.to_string()),
            direction_text(transfer.direction).to_owned(),
            what(transfer),
            state_text(transfer.state).to_owned(),
            format!("{} of {}", units::size(transfer.done_bytes), units::size(transfer.total_bytes)),
            moving(transfer.state, transfer.rate, transfer.eta_s),
            transfer.path.map(path_text).unwrap_or_default().to_owned(),
            here::named(transfer.reason.as_deref().unwrap_or_default()).into_owned(),
        ]
    };
    Rows::new(&["JOB", "WAY", "FILE", "STATE", ">DONE", ">RATE", "PATH", "REASON"]).with(rows.iter().map(row))
}

/// What a transfer moves: an upload's path, a download's name where it will lie, else the file's id.
pub(super) fn what(transfer: &TransferRow) -> String {
    if let (Direction::Up, Some(path)) = (transfer.direction, &transfer.name) {
        return path.clone();
    }
    let name = transfer.dest.as_ref().and_then(|dest| dest.file_name());
    name.map_or_else(|| short(&transfer.file), |name| name.to_string_lossy().into_owned())
}

fn moving(state: TransferState, rate: u64, eta_s: Option<u64>) -> String {
    match state {
        TransferState::Running => format!("{} {}", units::rate(rate), eta_text(eta_s)).trim_end().to_owned(),
        TransferState::Waiting
        | TransferState::Paused
        | TransferState::Done
        | TransferState::Failed
        | TransferState::Cancelled => String::new(),
    }
}

/// A state in a word.
pub(super) fn state_text(state: TransferState) -> &'static str {
    match state {
        TransferState::Waiting => "waiting",
        TransferState::Running => "running",
        TransferState::Paused => "paused",
        TransferState::Done => "done",
        TransferState::Failed => "failed",
        TransferState::Cancelled => "cancelled",
    }
}

fn direction_text(direction: Direction) -> &'static str {
    match direction {
        Direction::Down => "down",
        Direction::Up => "up",
    }
}
