//! `get`: begins a job of the node and watches it to its end.

use super::args::{ConflictArg, GetArgs};
use super::end::{self, End, Outcome};
use super::finds;
use super::group::{eta_text, path_text, unexpected};
use super::output::Output;
use super::progress::Progress;
use super::transfers::{ask_jobs, ask_transfers, what};
use super::{place, units};
use crate::api::client::Client;
use crate::node::local::*;
use std::time::{Duration, Instant};

/// How often the job is looked at.
const POLL: Duration = Duration::from_millis(200);
/// The first looks come sooner, so that a small file takes no longer than it must.
const FIRST_POLL: Duration = Duration::from_millis(20);
/// How long a job may wait before `--no-wait` gives up: a job that begins waits for its first answer.
const NO_WAIT_GRACE: Duration = Duration::from_secs(2);
/// Failed files that a person is told of; `--json` has all.
const FAILURES_SHOWN: usize = 10;

/// `get`.
pub(super) async fn get(node: &Client, args: &GetArgs, output: Output) -> Outcome {
    let dest = args.output.as_deref().map(place::absolute).transpose()?;
    let conflict = args.conflict.map(Conflict::from);
    let way = match (args.relay_only, args.direct_only) {
        (true, _) => Some(Way::Relay),
        (_, true) => Some(Way::Direct),
        (false, false) => None,
    };
    let command = Command::Get { files: args.files.clone(), dest, conflict, way };
    let Reply::Jobs(jobs) = node.ask(&command).await? else { return Err(unexpected()) };
    let job = jobs.into_iter().next().ok_or_else(unexpected)?;
    if args.detach {
        return detached(node, &job, output).await;
    }
    tokio::select! {
        ended = attached(node, &job, args.no_wait, output) => finish(node, &ended?, args, output).await,
        _ = tokio::signal::ctrl_c() => Err(interrupted(&job)),
    }
}

async fn detached(node: &Client, job: &JobRow, output: Output) -> Outcome {
    if output.json {
        return output.value(&ask_transfers(node, Some(job.job)).await?);
    }
    let (files, size) = (units::count(job.files, "file"), units::size(job.total_bytes));
    output.line(&format!("job {}: {files}, {size}, to {}", job.job, job.dest.display()))?;
    output.note("it goes on by itself; `bailiwick transfers` shows it");
    Ok(())
}

/// The job at its end.
async fn attached(node: &Client, begun: &JobRow, no_wait: bool, output: Output) -> Outcome<JobRow> {
    let mut progress = Progress::new(output);
    let mut waiting_since: Option<Instant> = None;
    let mut poll = FIRST_POLL;
    loop {
        let asked = ask_jobs(node, Some(begun.job)).await.map_err(|end| goes_on(end, begun.job))?;
        let job = asked.into_iter().next().ok_or_else(unexpected)?;
        match job.state {
            TransferState::Done | TransferState::Failed | TransferState::Cancelled => return Ok(job),
            TransferState::Running => waiting_since = None,
            TransferState::Waiting | TransferState::Paused => {
                let since = *waiting_since.get_or_insert_with(Instant::now);
                if no_wait && since.elapsed() >= NO_WAIT_GRACE {
                    return Err(has_to_wait(&job).into());
                }
            }
        }
        progress.fill(job.done_bytes, job.total_bytes, &one_line(&job));
        tokio::time::sleep(poll).await;
        poll = (poll * 2).min(POLL);
    }
}

/// Whose node ended while its job was watched hears that the job is kept.
fn goes_on(mut end: End, job: u64) -> End {
    if let Some(error) = end.error.as_mut().filter(|error| error.code == ErrorCode::NotRunning) {
        error.hint = format!("{}; job {job} goes on then", error.hint);
    }
    end
}

fn one_line(job: &JobRow) -> String {
    let bytes = format!("{} of {}", units::size(job.done_bytes), units::size(job.total_bytes));
    let files = if job.files == 1 { String::new() } else { format!("{}/{} files", job.files_done, job.files) };
    let reason = job.reason.clone().unwrap_or_default();
    let moving = match job.state {
        TransferState::Running => {
            let path = job.path.map(path_text).unwrap_or_default().to_owned();
            [units::rate(job.rate), eta_text(job.eta_s), path].map(Some)
        }
        TransferState::Waiting => [Some(waiting_text(&reason)), None, None],
        TransferState::Paused => [Some("paused".to_owned()), Some(reason), None],
        TransferState::Done | TransferState::Failed | TransferState::Cancelled => [None, None, None],
    };
    let parts = [bytes, files].into_iter().chain(moving.into_iter().flatten());
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn waiting_text(reason: &str) -> String {
    match reason {
        "" => "waiting".to_owned(),
        reason if reason.starts_with("waiting") => reason.to_owned(),
        reason => format!("waiting: {reason}"),
    }
}

async fn finish(node: &Client, job: &JobRow, args: &GetArgs, output: Output) -> Outcome {
    let renames = args.conflict == Some(ConflictArg::Rename);
    // A job of many files has many rows: they are asked for where they tell more than the job.
    let is_mixed = job.received_bytes < job.done_bytes && job.received_bytes > 0;
    let has_more = job.files_failed > 0 || is_mixed || renames;
    let rows = if output.json || has_more { ask_transfers(node, Some(job.job)).await? } else { Vec::new() };
    match output.json {
        true => output.value(&rows)?,
        false => {
            tell(job, &rows, output)?;
            if renames {
                finds::tell_renamed(node, &args.files, &rows, output).await?;
            }
        }
    }
    match (job.state, job.files_failed) {
        (TransferState::Done, 0) => Ok(()),
        _ => Err(not_all(job)),
    }
}

fn tell(job: &JobRow, rows: &[TransferRow], output: Output) -> Outcome {
    let elapsed = Duration::from_millis(job.elapsed_ms);
    let rate = units::rate(units::mean_rate(job.received_bytes, elapsed));
    let path = job.path.map(|path| format!(", {}", path_text(path))).unwrap_or_default();
    if job.files_done > 0 {
        let (files, size) = (units::count(job.files_done, "file"), units::size(job.done_bytes));
        let how = match (job.received_bytes, job.elapsed_ms) {
            (0, _) if job.done_bytes > 0 => "already there".to_owned(),
            (_, 0) => format!("verified{path}"),
            _ => format!("in {} at {rate}{path}, verified", units::time(elapsed)),
        };
        output.line(&format!("{files}, {size}, {how}: {}", job.dest.display()))?;
        finds::tell_there(job, rows, output)?;
    }
    let failed: Vec<_> = rows.iter().filter(|row| row.state == TransferState::Failed).collect();
    for row in failed.iter().take(FAILURES_SHOWN) {
        output.note(&format!("failed: {}: {}", what(row), row.reason.as_deref().unwrap_or("no reason known")));
    }
    match failed.len().checked_sub(FAILURES_SHOWN) {
        None | Some(0) => {}
        Some(more) => output.note(&format!("… and {more} more")),
    }
    if job.files_skipped > 0 {
        let files = units::count(job.files_skipped, "file");
        output.note(&format!("skipped: {files}, for something else is there already"));
    }
    Ok(())
}

/// Nothing done has the exit code of its reason; something done is "in part".
pub(super) fn not_all(job: &JobRow) -> End {
    let reason = job.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let what = match job.state {
        TransferState::Cancelled => "was cancelled".to_owned(),
        _ if job.files == 1 => format!("failed{reason}"),
        _ => {
            format!("failed for {} of {}{reason}{}", job.files_failed, units::count(job.files, "file"), rest_text(job))
        }
    };
    let code = job.code.unwrap_or(ErrorCode::Failed);
    let hint = match job.state {
        TransferState::Cancelled => "finished files stay; get it again to fetch the rest".to_owned(),
        _ if !job.resumable => "if it was added again, get it again: it is another file to the catalog".to_owned(),
        _ => format!("when that is mended, `bailiwick resume {}` tries it again; files that are there stay", job.job),
    };
    let error = LocalError::new(code, format!("getting {} {what}", job.what), hint);
    if job.files_done > 0 { End::with(end::IN_PART, error) } else { End::from(error) }
}

/// What else of a job was not fetched, though nothing is wrong with it.
fn rest_text(job: &JobRow) -> String {
    match job.files - (job.files_done + job.files_failed + job.files_skipped).min(job.files) {
        0 => String::new(),
        1 => "; the other one was not fetched".to_owned(),
        rest => format!("; the other {rest} were not fetched"),
    }
}

fn has_to_wait(job: &JobRow) -> LocalError {
    let reason = job.reason.as_deref().unwrap_or("it has to wait");
    let hint = "it goes on by itself when it can; `bailiwick transfers` shows it";
    LocalError::new(ErrorCode::NotNow, format!("job {} can't go on now: {reason}", job.job), hint)
}

fn interrupted(job: &JobRow) -> End {
    let error = LocalError::new(
        ErrorCode::NotNow,
        "interrupted",
        format!("job {0} goes on; `bailiwick cancel {0}` ends it, `bailiwick transfers` shows it", job.job),
    );
    End::with(end::INTERRUPTED, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(state: TransferState, done: u64, failed: u64, code: Option<ErrorCode>) -> JobRow {
        JobRow {
            job: 1,
            what: "a:b".into(),
            state,
            reason: None,
            code,
            looking: false,
            resumable: true,
            files: done + failed,
            files_done: done,
            files_failed: failed,
            files_skipped: 0,
            done_bytes: 0,
            total_bytes: 0,
            received_bytes: 0,
            rate: 0,
            eta_s: None,
            path: None,
            dest: "/d".into(),
            elapsed_ms: 0,
        }
    }

    #[test]
    fn exit_codes_tell_a_refusal_and_a_part_from_a_failure() {
        let code = |done, failed, code| not_all(&job(TransferState::Failed, done, failed, code)).code;
        assert_eq!(code(0, 3, None), end::FAILED);
        assert_eq!(code(0, 3, Some(ErrorCode::Refused)), end::REFUSED);
        assert_eq!(code(1, 3, Some(ErrorCode::Refused)), end::IN_PART);
    }

    #[test]
    fn a_waiting_job_says_why_once() {
        let mut waiting = job(TransferState::Waiting, 0, 1, None);
        waiting.reason = Some("waiting for the owner".into());
        assert_eq!(one_line(&waiting), "0 B of 0 B, waiting for the owner");
    }
}
