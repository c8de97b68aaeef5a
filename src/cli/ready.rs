//! What a node that was started tells: that it is ready, and then what a person waits for.

use super::daemon;
use super::end::Outcome;
use super::group::{other_name_text, standing_text};
use super::here;
use super::output::Output;
use super::run::Start;
use crate::api::place::forget_failure;
use crate::node::local::*;
use crate::store::statedir::StateDir;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long a client's first line waits for its id and its code: with everyone present they come at once.
const REGISTRATION_WAIT: Duration = Duration::from_secs(3);
/// How long the first line of a node in the background waits for the server's first word.
const CONNECT_WAIT: Duration = Duration::from_millis(1_500);
/// How long a master's first line waits for an invite: a master that starts waits 5 s for what others have seen.
const INVITE_WAIT: Duration = Duration::from_secs(8);
/// How often either looks.
const POLL: Duration = Duration::from_millis(20);
/// How often a node's state is looked at for a person, if no event came before.
const LOOK: Duration = Duration::from_secs(1);
/// Seconds that the first invite lives.
const FIRST_INVITE_S: u64 = 24 * 3600;

/// The line of a node that serves.
#[derive(Serialize, Deserialize)]
pub(super) struct Ready {
    /// Always `ready`.
    pub(super) event: ReadyEvent,
    /// When.
    pub(super) time: String,
    /// Its role.
    pub(super) role: NodeRole,
    /// This device's id.
    pub(super) id: Option<String>,
    /// Its name.
    pub(super) name: Option<String>,
    /// The name that it asked for, if the master calls it otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) asked_name: Option<String>,
    /// Where it stands.
    pub(super) standing: Option<StandingRow>,
    /// The short code to compare.
    pub(super) code: Option<String>,
    /// What it waits for.
    pub(super) waiting: Option<String>,
    /// A master's open invite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) invite: Option<String>,
    /// Until when it can be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) invite_expires: Option<String>,
    /// The ticket of the server in this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ticket: Option<String>,
    /// Where that server listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) listen: Option<String>,
    /// The state directory.
    pub(super) state_dir: PathBuf,
    /// The downloads folder.
    pub(super) downloads: Option<PathBuf>,
    /// The local API's URL.
    pub(super) api: String,
    /// The process.
    pub(super) pid: u32,
}

impl Ready {
    /// Whether the device is out of its group.
    pub(super) fn is_out(&self) -> bool {
        matches!(self.standing, Some(StandingRow::Disapproved | StandingRow::Left))
    }
}

/// The error for the node of a device that is out of its group.
pub(super) fn out(standing: Option<StandingRow>) -> LocalError {
    LocalError::new(
        ErrorCode::Refused,
        standing_line(standing, None),
        "what was fetched stays; for a new device use a new state directory (--state or --profile) and a new invite",
    )
}

/// The name of the line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ReadyEvent {
    /// It serves.
    Ready,
}

/// Tells the story of a node to whoever started it. Nobody who listens is no reason to end the node.
pub(super) async fn tell(start: Start, node: NodeHandle, dir: Arc<StateDir>) {
    let Ok(ready) = gather(&node).await else { return };
    forget_failure(&dir);
    let output = if daemon::is_background() { Output { json: true } } else { start.output };
    let _ = announce(&ready, output);
    share(&start, &node).await;
    if start.output.json {
        return;
    }
    match ready.role {
        NodeRole::Server => {}
        NodeRole::Master => follow_inbox(&node).await,
        NodeRole::Client => follow_standing(&node, &ready).await,
    }
}

/// The first answer means that the node serves.
async fn gather(node: &NodeHandle) -> Result<Ready, LocalError> {
    let status = registered(node).await?;
    let invite = if status.role == NodeRole::Master { open_invite(node).await } else { None };
    let ticket = match status.role {
        NodeRole::Client => None,
        NodeRole::Server | NodeRole::Master => match node.ask(Command::Ticket).await {
            Ok(Reply::Ticket(ticket)) => Some(ticket),
            Ok(_) | Err(_) => None,
        },
    };
    Ok(Ready {
        event: ReadyEvent::Ready,
        time: now_rfc3339(),
        role: status.role,
        id: status.id,
        name: status.name,
        asked_name: status.asked_name,
        standing: status.standing,
        code: status.code,
        waiting: status.waiting,
        invite: invite.as_ref().map(|row| row.invite.clone()),
        invite_expires: invite.map(|row| row.expires),
        ticket: ticket.as_ref().map(|row| row.ticket.clone()),
        listen: ticket.map(|row| row.listen),
        state_dir: status.state_dir,
        downloads: status.downloads,
        api: status.api,
        pid: status.pid,
    })
}

async fn ask_status(node: &NodeHandle) -> Result<Status, LocalError> {
    match node.ask(Command::Status).await? {
        Reply::Status(status) => Ok(*status),
        _ => Err(LocalError::new(ErrorCode::Failed, "the node has no status", "start it again")),
    }
}

/// The status, of a client once it is known at the master if that takes a moment only.
async fn registered(node: &NodeHandle) -> Result<Status, LocalError> {
    let is_known = |status: &Status| match (status.role, status.standing) {
        (NodeRole::Client, None | Some(StandingRow::Stranger)) => false,
        (NodeRole::Client, Some(StandingRow::Registered)) => status.code.is_some(),
        (NodeRole::Client | NodeRole::Master | NodeRole::Server, _) => true,
    };
    let deadline = Instant::now() + REGISTRATION_WAIT;
    // Who has started it in the background hears of a server's no, if that comes soon.
    let heard_by = Instant::now() + if daemon::is_background() { CONNECT_WAIT } else { Duration::ZERO };
    loop {
        let status = ask_status(node).await?;
        let is_out = matches!(status.standing, Some(StandingRow::Disapproved | StandingRow::Left));
        let is_heard = is_out || status.server != Link::Away || Instant::now() >= heard_by;
        if (is_known(&status) && is_heard) || Instant::now() >= deadline {
            return Ok(status);
        }
        sleep(POLL).await;
    }
}

/// The invite that is open, or a new one.
async fn open_invite(node: &NodeHandle) -> Option<InviteRow> {
    let rows = |reply| match reply {
        Ok(Reply::Invites(rows)) => Some(rows),
        Ok(_) | Err(_) => None,
    };
    if let Some(row) = rows(node.ask(Command::Invites).await).and_then(|rows| rows.into_iter().next()) {
        return Some(row);
    }
    let deadline = Instant::now() + INVITE_WAIT;
    loop {
        match node.ask(Command::Invite { expires_s: FIRST_INVITE_S }).await {
            Err(LocalError { code: ErrorCode::NotNow, .. }) if Instant::now() < deadline => sleep(POLL).await,
            reply => return rows(reply).and_then(|rows| rows.into_iter().next()),
        }
    }
}

/// Prints the line, or what a person does next.
pub(super) fn announce(ready: &Ready, output: Output) -> Outcome {
    if output.json {
        return output.value(ready);
    }
    let lines = match ready.role {
        NodeRole::Server => server_lines(ready),
        NodeRole::Master => master_lines(ready),
        NodeRole::Client => client_lines(ready),
    };
    lines.iter().try_for_each(|line| output.line(line))
}

fn server_lines(ready: &Ready) -> Vec<String> {
    let listen = ready.listen.as_deref().unwrap_or("its port");
    let ticket = ready.ticket.as_deref().unwrap_or("TICKET");
    vec![
        format!("server on {listen}"),
        "to bring a group here, on its master:".to_owned(),
        format!("  bailiwick master --server {ticket}"),
    ]
}

fn master_lines(ready: &Ready) -> Vec<String> {
    let name = ready.name.as_deref().unwrap_or_default();
    let listen = ready.listen.as_ref().map(|listen| format!(", with a server on {listen}")).unwrap_or_default();
    let mut lines = vec![format!("master {name}{listen}")];
    // An old copy learns that it is one from its server or its devices, and its invites are void.
    lines.extend(ready.waiting.as_ref().map(|waiting| format!("{waiting} (`{}` says more)", here::command("status"))));
    match (&ready.invite, &ready.invite_expires) {
        (Some(invite), expires) => lines.extend([
            "on the device to invite:".to_owned(),
            format!("  bailiwick client {invite}"),
            "then, here:".to_owned(),
            format!("  {}", here::command("approve")),
            format!(
                "(for one device, until {}; `bailiwick invite` makes another)",
                expires.as_deref().unwrap_or("used")
            ),
        ]),
        (None, _) => lines.push("`bailiwick invite` makes an invite".to_owned()),
    }
    lines
}

fn client_lines(ready: &Ready) -> Vec<String> {
    let name = ready.name.as_deref().unwrap_or_default();
    let first = standing_line(ready.standing, ready.code.as_deref());
    let waiting = ready.waiting.as_ref().filter(|_| ready.standing != Some(StandingRow::Registered));
    let mut lines = vec![format!("client {name}: {first}")];
    lines.extend(waiting.cloned());
    lines.extend(ready.asked_name.as_deref().map(|asked| other_name_text(name, asked)));
    lines
}

fn standing_line(standing: Option<StandingRow>, code: Option<&str>) -> String {
    match (standing, code) {
        (Some(StandingRow::Registered), Some(code)) => format!("short code {code}, waiting for approval"),
        (Some(StandingRow::Approved), _) => "approved; `bailiwick files` shows what there is".to_owned(),
        (Some(StandingRow::Disapproved), _) => "disapproved: the master has expelled this device for ever".to_owned(),
        (Some(StandingRow::Left), _) => "this device has left its group, for ever".to_owned(),
        (Some(standing), _) => standing_text(standing).to_owned(),
        (None, _) => standing_text(StandingRow::Stranger).to_owned(),
    }
}

/// Shares what was given on the command line.
async fn share(start: &Start, node: &NodeHandle) {
    if start.shares.is_empty() {
        return;
    }
    match node.ask(Command::Add { paths: start.shares.clone(), copy: false, exclude: Vec::new() }).await {
        Ok(_) => {}
        Err(error) => start.output.error(&error),
    }
}

/// Tells a client's person when its standing, or what it waits for, changes.
async fn follow_standing(node: &NodeHandle, ready: &Ready) {
    let mut told = (ready.standing, ready.waiting.clone());
    let mut told_name = ready.asked_name.clone();
    let mut events = node.watch();
    while !matches!(timeout(LOOK, events.next()).await, Ok(None)) {
        // Events come in swarms while files move.
        sleep(POLL).await;
        let Ok(status) = ask_status(node).await else { return };
        if status.standing != told.0 {
            say(&standing_line(status.standing, status.code.as_deref()));
        }
        if status.waiting != told.1 && status.standing != Some(StandingRow::Registered) {
            say(status.waiting.as_deref().unwrap_or("connected"));
        }
        if let (Some(asked), true) = (&status.asked_name, status.asked_name != told_name) {
            say(&other_name_text(status.name.as_deref().unwrap_or_default(), asked));
        }
        told_name = status.asked_name;
        told = (status.standing, status.waiting);
    }
}

/// Tells a master's person who waits for approval, once each.
async fn follow_inbox(node: &NodeHandle) {
    let mut told = HashSet::new();
    let mut events = node.watch();
    loop {
        let Ok(Reply::Clients(rows)) = node.ask(Command::Clients).await else { return };
        for client in rows.into_iter().filter(|client| client.standing == StandingRow::Registered) {
            if told.insert(client.id) {
                let code = client.code.unwrap_or_default();
                say(&format!("{} waits for approval, short code {code}: `bailiwick approve`", client.name));
            }
        }
        // Only a registration changes the inbox in a way that is told.
        loop {
            match events.next().await {
                None => return,
                Some(event) if event.event == "registered" || event.event == "missed" => break,
                Some(event) if event.event == "stopped_signing" => {
                    say(event
                        .detail
                        .get("why")
                        .and_then(|why| why.as_str())
                        .unwrap_or("this master has stopped signing"));
                }
                Some(_) => {}
            }
        }
    }
}

/// For the person at the terminal, or for the log.
pub(super) fn say(text: &str) {
    let output = Output { json: false };
    match daemon::is_background() {
        true => output.note(text),
        false => drop(output.line(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_that_waits_says_so_beside_its_invite() {
        let mut ready = Ready {
            event: ReadyEvent::Ready,
            time: now_rfc3339(),
            role: NodeRole::Master,
            id: None,
            name: Some("desk".to_owned()),
            asked_name: None,
            standing: None,
            code: None,
            waiting: Some("making sure".to_owned()),
            invite: Some("bwi1abc".to_owned()),
            invite_expires: None,
            ticket: None,
            listen: None,
            state_dir: "/state".into(),
            downloads: None,
            api: String::new(),
            pid: 1,
        };
        let lines = master_lines(&ready);
        assert!(lines[1].starts_with("making sure (`bailiwick status"), "{lines:?}");
        assert!(lines.iter().any(|line| line.contains("bailiwick client bwi1abc")));
        ready.waiting = None;
        assert!(!master_lines(&ready)[1].contains("status"));
    }
}
