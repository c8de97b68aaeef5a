//! `pause`, `resume`, `cancel`.

use super::args::{CancelArgs, JobsArgs};
use super::end::Outcome;
use super::get::not_all;
use super::group::unexpected;
use super::output::Output;
use super::place::usage;
use super::transfers::{ask_jobs, job_table, transfer_table};
use crate::api::client::Client;
use crate::node::local::*;
use std::time::Duration;

/// How often a job is looked at that looks at its places.
const POLL: Duration = Duration::from_millis(50);

/// Whether it is said which are meant.
pub(super) fn check(ids: &[String], all: bool) -> Result<(), LocalError> {
    if all || !ids.is_empty() {
        return Ok(());
    }
    Err(usage("no JOB is named", "name some as `bailiwick transfers` shows them, or say --all"))
}

/// `pause`.
pub(super) async fn pause(node: &Client, args: &JobsArgs, output: Output) -> Outcome {
    let command = Command::Pause { ids: args.ids.clone(), all: args.all };
    control(node, &command, "nothing is under way", output).await
}

/// `resume`.
pub(super) async fn resume(node: &Client, args: &JobsArgs, output: Output) -> Outcome {
    let command = Command::Resume { ids: args.ids.clone(), all: args.all };
    let mut controlled = ask(node, &command).await?;
    for job in &mut controlled.jobs {
        *job = looked(node, job.clone()).await?;
    }
    show(&controlled, "nothing is paused", output)?;
    match controlled.jobs.iter().find(|job| job.state == TransferState::Failed) {
        Some(job) => Err(not_all(job)),
        None => Ok(()),
    }
}

/// `cancel`.
pub(super) async fn cancel(node: &Client, args: &CancelArgs, output: Output) -> Outcome {
    let command = Command::Cancel { ids: args.ids.clone(), all: args.all };
    control(node, &command, "no job is under way", output).await
}

/// A job that goes on, once it is known whether something is in its way.
async fn looked(node: &Client, mut job: JobRow) -> Outcome<JobRow> {
    while job.looking {
        tokio::time::sleep(POLL).await;
        job = ask_jobs(node, Some(job.job)).await?.into_iter().next().ok_or_else(unexpected)?;
    }
    Ok(job)
}

async fn control(node: &Client, command: &Command, none: &str, output: Output) -> Outcome {
    show(&ask(node, command).await?, none, output)
}

async fn ask(node: &Client, command: &Command) -> Outcome<Controlled> {
    match node.ask(command).await? {
        Reply::Controlled(controlled) => Ok(controlled),
        _ => Err(unexpected()),
    }
}

fn show(controlled: &Controlled, none: &str, output: Output) -> Outcome {
    if output.json {
        return output.value(controlled);
    }
    let Controlled { jobs, uploads } = controlled;
    if jobs.is_empty() && uploads.is_empty() {
        return output.line(none);
    }
    if !jobs.is_empty() {
        output.table(job_table(jobs))?;
    }
    if !uploads.is_empty() {
        output.table(transfer_table(&uploads.iter().collect::<Vec<_>>()))?;
    }
    Ok(())
}
