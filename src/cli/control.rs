//! `wait`, `watch` and `stop`.

use super::args::{WaitArgs, WaitState};
use super::catalog::ask_shares;
use super::end::{End, Outcome};
use super::group::ask_status;
use super::output::Output;
use super::transfers::ask_jobs;
use super::units;
use crate::api::client::Client;
use crate::api::place;
use crate::node::local::*;
use std::time::Duration;
use tokio::time::Instant;

/// How often `wait` looks.
const POLL: Duration = Duration::from_millis(50);
/// How long a process may take to end after it said that it stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often `stop` looks.
const STOP_POLL: Duration = Duration::from_millis(5);

/// `wait`.
pub(super) async fn wait(node: &Client, args: &WaitArgs, output: Output) -> Outcome {
    let deadline = Instant::now() + args.timeout;
    loop {
        let status = ask_status(node).await?;
        if is_reached(node, args.until, &status).await? {
            return if output.json { output.value(&status) } else { output.line(state_text(args.until)) };
        }
        refuse_hopeless(args.until, &status)?;
        if Instant::now() >= deadline {
            return Err(timed_out(args, &status).into());
        }
        tokio::time::sleep(POLL.min(deadline - Instant::now())).await;
    }
}

async fn is_reached(node: &Client, state: WaitState, status: &Status) -> Outcome<bool> {
    match state {
        WaitState::Connected => Ok(status.server == Link::Connected),
        WaitState::Master => Ok(status.master == Link::Connected),
        WaitState::Approved => Ok(status.standing == Some(StandingRow::Approved)),
        WaitState::Idle => is_idle(node).await,
    }
}

async fn is_idle(node: &Client) -> Outcome<bool> {
    let is_still = |share: &ShareRow| !share.scanning && share.syncing == 0;
    let is_open = |job: &JobRow| matches!(job.state, TransferState::Running | TransferState::Waiting);
    let shares = not_for_servers(ask_shares(node).await)?;
    let jobs = not_for_servers(ask_jobs(node, None).await)?;
    Ok(shares.iter().all(is_still) && !jobs.iter().any(is_open))
}

/// A server has neither shares nor jobs, and is idle in that.
fn not_for_servers<T>(rows: Outcome<Vec<T>>) -> Outcome<Vec<T>> {
    match rows {
        Err(End { error: Some(LocalError { code: ErrorCode::WrongRole, .. }), .. }) => Ok(Vec::new()),
        rows => rows,
    }
}

/// Expelled is for ever, so there is nothing to wait for.
fn refuse_hopeless(state: WaitState, status: &Status) -> Result<(), LocalError> {
    let error = |error| Err(LocalError::new(ErrorCode::Refused, error, "a new state directory makes a new device"));
    match (state, status.standing) {
        (WaitState::Idle, _) => Ok(()),
        (_, Some(StandingRow::Disapproved)) => error("this device was disapproved"),
        (_, Some(StandingRow::Left)) => error("this device has left the group"),
        (_, Some(StandingRow::Stranger | StandingRow::Registered | StandingRow::Approved) | None) => Ok(()),
    }
}

fn timed_out(args: &WaitArgs, status: &Status) -> LocalError {
    let waiting = status.waiting.as_ref().map(|what| format!("; it waits: {what}")).unwrap_or_default();
    let (state, time) = (state_text(args.until), units::time(args.timeout));
    let error = format!("the node is not {state} after {time}{waiting}");
    LocalError::new(ErrorCode::NotNow, error, "give it longer with --timeout, or see `bailiwick status`")
}

fn state_text(state: WaitState) -> &'static str {
    match state {
        WaitState::Connected => "connected",
        WaitState::Approved => "approved",
        WaitState::Master => "connected to its master",
        WaitState::Idle => "idle",
    }
}

/// `watch`.
pub(super) async fn watch(node: &Client, output: Output) -> Outcome {
    let mut events = node.watch().await?;
    while let Some(event) = events.next().await? {
        if output.json { output.value(&event)? } else { output.line(&event_line(&event))? }
    }
    Ok(())
}

fn event_line(event: &Event) -> String {
    let detail = event.detail.iter().map(|(name, value)| match value {
        serde_json::Value::String(text) => format!(" {name}={text}"),
        value => format!(" {name}={value}"),
    });
    format!("{} {}{}", event.time, event.event, detail.collect::<String>())
}

/// `stop`: returns when the process has ended, so that the next start finds the state free.
pub(super) async fn stop(node: &Client, output: Output) -> Outcome {
    node.ask(&Command::Stop).await?;
    let deadline = Instant::now() + STOP_TIMEOUT;
    while place::is_alive(node.pid()) {
        if Instant::now() >= deadline {
            let error = format!("process {} is still ending", node.pid());
            return Err(LocalError::new(ErrorCode::NotNow, error, "look at its log, or end it with `kill`").into());
        }
        tokio::time::sleep(STOP_POLL).await;
    }
    let stopped = serde_json::json!({ "event": "stopped", "pid": node.pid() });
    if output.json { output.value(&stopped) } else { output.line("stopped") }
}
