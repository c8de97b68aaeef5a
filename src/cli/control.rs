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
use crate::node::goodbye::{has_left, mark};
use crate::node::local::*;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How often `wait` looks.
const POLL: Duration = Duration::from_millis(50);
/// How long a process may take to end after it said that it stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often `stop` looks.
const STOP_POLL: Duration = Duration::from_millis(5);

/// `wait`.
pub(super) async fn wait(state_dir: &Path, args: &WaitArgs, output: Output) -> Outcome {
    match args.until {
        WaitState::Stopped => wait_for_end(state_dir, args.timeout, output).await,
        _ => match Client::open(state_dir) {
            Ok(node) => wait_for_state(&node, args, output).await.map_err(|end| for_ever(state_dir, end)),
            Err(error) => Err(for_ever(state_dir, error.into())),
        },
    }
}

/// Where no node runs because the device has left, there is nothing to wait for.
fn for_ever(state_dir: &Path, end: End) -> End {
    match (&end.error, mark(state_dir)) {
        (Some(LocalError { code: ErrorCode::NotRunning, .. }), Ok(Some(when))) => has_left(&when).into(),
        _ => end,
    }
}

/// Waits until no node runs; one that runs is not stopped by this.
async fn wait_for_end(state_dir: &Path, timeout: Duration, output: Output) -> Outcome {
    let deadline = Instant::now() + timeout;
    let runs = || !matches!(Client::open(state_dir), Err(LocalError { code: ErrorCode::NotRunning, .. }));
    while runs() {
        if Instant::now() >= deadline {
            let error = format!("the node still runs after {}", units::time(timeout));
            return Err(LocalError::new(ErrorCode::NotNow, error, "`bailiwick stop` ends it").into());
        }
        tokio::time::sleep(POLL.min(deadline - Instant::now())).await;
    }
    let stopped = serde_json::json!({ "event": "stopped", "state_dir": state_dir });
    if output.json { output.value(&stopped) } else { output.line("stopped") }
}

async fn wait_for_state(node: &Client, args: &WaitArgs, output: Output) -> Outcome {
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
        WaitState::Stopped => Ok(false),
    }
}

async fn is_idle(node: &Client) -> Outcome<bool> {
    let is_still = |share: &ShareRow| !share.scanning && share.syncing == 0 && share.leaving == 0;
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

/// Expelled is for ever, so there is nothing to wait for; and a server is nobody's client.
fn refuse_hopeless(state: WaitState, status: &Status) -> Result<(), LocalError> {
    let hint = "to come back the device needs a new state directory (--state or --profile) and a new invite";
    let error = |error| Err(LocalError::new(ErrorCode::Refused, error, hint));
    match (state, status.standing) {
        (WaitState::Idle | WaitState::Stopped, _) => Ok(()),
        _ if status.role == NodeRole::Server => Err(LocalError::new(
            ErrorCode::WrongRole,
            format!("a server is never {}: it belongs to no group", state_text(state)),
            "wait for `idle` or `stopped`, or wait at a member with its --state or --profile",
        )),
        (_, Some(StandingRow::Disapproved)) => error("this device was disapproved"),
        (_, Some(StandingRow::Left)) => error("this device has left the group"),
        (_, Some(StandingRow::Stranger | StandingRow::Registered | StandingRow::Approved) | None) => Ok(()),
    }
}

fn timed_out(args: &WaitArgs, status: &Status) -> LocalError {
    let waiting = status.waiting.as_deref().map(waiting_text).unwrap_or_default();
    let (state, time) = (state_text(args.until), units::time(args.timeout));
    let error = format!("the node is not {state} after {time}{waiting}");
    LocalError::new(ErrorCode::NotNow, error, "give it longer with --timeout, or see `bailiwick status`")
}

fn waiting_text(what: &str) -> String {
    if what.starts_with("waiting") { format!("; it is {what}") } else { format!("; it waits: {what}") }
}

fn state_text(state: WaitState) -> &'static str {
    match state {
        WaitState::Connected => "connected",
        WaitState::Approved => "approved",
        WaitState::Master => "connected to its master",
        WaitState::Idle => "idle",
        WaitState::Stopped => "stopped",
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
