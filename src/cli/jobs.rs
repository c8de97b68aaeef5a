//! `pause`, `resume`, `cancel`.

use super::args::JobsArgs;
use super::end::Outcome;
use super::group::unexpected;
use super::output::Output;
use super::transfers::{job_table, transfer_table};
use crate::api::client::Client;
use crate::node::local::*;

/// `pause`.
pub(super) async fn pause(node: &Client, args: &JobsArgs, output: Output) -> Outcome {
    let command = Command::Pause { ids: args.ids.clone(), all: args.all };
    control(node, &command, "nothing is under way", output).await
}

/// `resume`.
pub(super) async fn resume(node: &Client, args: &JobsArgs, output: Output) -> Outcome {
    let command = Command::Resume { ids: args.ids.clone(), all: args.all };
    control(node, &command, "nothing is paused", output).await
}

/// `cancel`.
pub(super) async fn cancel(node: &Client, args: &JobsArgs, output: Output) -> Outcome {
    let command = Command::Cancel { ids: args.ids.clone(), all: args.all };
    control(node, &command, "no job is under way", output).await
}

async fn control(node: &Client, command: &Command, none: &str, output: Output) -> Outcome {
    let Reply::Controlled(controlled) = node.ask(command).await? else { return Err(unexpected()) };
    if output.json {
        return output.value(&controlled);
    }
    let Controlled { jobs, uploads } = controlled;
    if jobs.is_empty() && uploads.is_empty() {
        return output.line(none);
    }
    if !jobs.is_empty() {
        output.table(job_table(&jobs))?;
    }
    if !uploads.is_empty() {
        output.table(transfer_table(&uploads.iter().collect::<Vec<_>>()))?;
    }
    Ok(())
}
