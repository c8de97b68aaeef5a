//! `status` and `clients`: the node, and the group around it.

use super::end::{End, Outcome};
use super::output::{Output, Rows};
use super::units;
use crate::api::client::Client;
use crate::node::local::*;
use std::time::Duration;

/// An answer of another kind than the command's: the two programs don't fit.
pub(super) fn unexpected() -> End {
    LocalError::new(
        ErrorCode::Failed,
        "the node answered something else",
        "stop the node and start it again: both must be of one version",
    )
    .into()
}

/// Asks for the status.
pub(super) async fn ask_status(node: &Client) -> Outcome<Status> {
    match node.ask(&Command::Status).await? {
        Reply::Status(status) => Ok(*status),
        _ => Err(unexpected()),
    }
}

/// Asks for all devices.
pub(super) async fn ask_clients(node: &Client) -> Outcome<Vec<ClientRow>> {
    match node.ask(&Command::Clients).await? {
        Reply::Clients(rows) => Ok(rows),
        _ => Err(unexpected()),
    }
}

/// `status`.
pub(super) async fn status(node: &Client, output: Output) -> Outcome {
    let status = ask_status(node).await?;
    if output.json {
        output.value(&status)
    } else {
        status_lines(&status).iter().try_for_each(|line| output.line(line))
    }
}

fn status_lines(status: &Status) -> Vec<String> {
    let named = status.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let standing = status.standing.map(|standing| format!(", {}", standing_text(standing))).unwrap_or_default();
    let mut lines = vec![format!("{}{named}{standing}", role_text(status.role))];
    let mut field = |title: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("  {title:<10} {value}")));
    };
    let waits = status.waiting.as_deref().map(|what| match what.strip_prefix("waiting ") {
        Some(what) => ("waiting", what),
        None => ("state", what),
    });
    if let Some((title, what)) = waits {
        field(title, Some(what.to_owned()));
    }
    field("name", status.rename.as_ref().filter(|_| out_text(status.standing).is_none()).map(rename_text));
    let name = status.name.as_deref().unwrap_or_default();
    let asked = status.asked_name.as_deref().filter(|_| out_text(status.standing).is_none());
    field("name", asked.map(|asked| other_name_text(name, asked)));
    field("code", status.code.clone());
    field("id", status.id.clone());
    field("group", status.group.clone());
    if status.role != NodeRole::Server {
        let rtt = status.server_rtt_ms.map(|ms| format!(", {ms} ms")).unwrap_or_default();
        field("server", Some(format!("{}{rtt}", link_text(status.server))));
        field("master", Some(master_text(status).to_owned()));
    }
    let ways = "everything goes through the server (--relay-only)";
    field("ways", status.relay_only.then(|| ways.to_owned()));
    let unheard = status.role == NodeRole::Client && (status.server, status.master) == (Link::Connected, Link::Away);
    let hint = "if the group moved to another server, ask for a new invite; with it: `bailiwick client INVITE`";
    field("hint", (unheard && status.standing == Some(StandingRow::Approved)).then(|| hint.to_owned()));
    field("revision", status.revision.clone());
    field("load", status.load.as_ref().map(load_text));
    field("downloads", status.downloads.as_ref().map(|path| path.display().to_string()));
    field("directory", Some(status.state_dir.display().to_string()));
    field("process", Some(format!("{} (bailiwick {})", status.pid, status.version)));
    field("local API", Some(status.api.clone()));
    lines
}

/// That a device is not called as it asked for.
pub(super) fn other_name_text(name: &str, asked: &str) -> String {
    format!("the master calls this device '{name}'; it asked for '{asked}'; `bailiwick rename NAME` asks for another")
}

/// The server tells of the master only to those whom the master has approved.
fn master_text(status: &Status) -> &'static str {
    match (status.master, status.standing) {
        (Link::Away, Some(StandingRow::Stranger | StandingRow::Registered)) => {
            "not known before this device is approved"
        }
        (link, _) => link_text(link),
    }
}

/// What is said of a device that is out of its group.
fn out_text(standing: Option<StandingRow>) -> Option<&'static str> {
    match standing {
        Some(StandingRow::Disapproved) => Some("the master has expelled this device for ever"),
        Some(StandingRow::Left) => Some("this device has left its group for ever"),
        Some(StandingRow::Stranger | StandingRow::Registered | StandingRow::Approved) | None => None,
    }
}

/// Says beside a list that the device is out, and so what the list is worth.
pub(super) async fn tell_out(node: &Client, worth: &str, output: Output) {
    if output.json {
        return;
    }
    if let Some(out) = ask_status(node).await.ok().and_then(|status| out_text(status.standing)) {
        output.note(&format!("{out}: {worth}"));
    }
}

/// What a list of the group is worth there.
pub(super) const LAST_KNOWN: &str = "this is what it last knew of the group, and nothing can be fetched";

/// What is said where there is nothing to list: a device that waits for approval sees nothing.
pub(super) async fn none_text(node: &Client, none: &'static str) -> &'static str {
    match ask_status(node).await.ok().and_then(|status| status.standing) {
        Some(StandingRow::Stranger | StandingRow::Registered) => {
            "this device is not approved yet: it sees the group when the master's person has approved it"
        }
        standing @ (Some(StandingRow::Approved | StandingRow::Disapproved | StandingRow::Left) | None) => {
            out_text(standing).unwrap_or(none)
        }
    }
}

fn rename_text(wish: &RenameRow) -> String {
    match &wish.refused {
        None => format!("'{}' once the master has heard of it", wish.name),
        Some(why) => format!("not '{}': {why}", wish.name),
    }
}

fn load_text(load: &ServerLoad) -> String {
    format!("{}, {}", units::count(load.groups, "group"), units::count(load.connections, "connection"))
}

/// `clients`.
pub(super) async fn clients(node: &Client, output: Output) -> Outcome {
    let rows = ask_clients(node).await?;
    if !rows.is_empty() {
        tell_out(node, LAST_KNOWN, output).await;
        return output.rows(&rows, "", client_table);
    }
    output.rows(&rows, none_text(node, "this device knows of no others yet").await, client_table)
}

/// Devices as a table.
pub(super) fn client_table(rows: &[ClientRow]) -> Rows {
    let row = |client: &ClientRow| {
        let mine = if client.is_self { " (this device)" } else { "" };
        vec![
            format!("{}{mine}", client.name),
            short(&client.id),
            role_text(client.role).to_owned(),
            standing_text(client.standing).to_owned(),
            presence(client),
            client.path.map(path_text).unwrap_or_default().to_owned(),
            client.rtt_ms.map(|ms| format!("{ms} ms")).unwrap_or_default(),
            client.code.clone().unwrap_or_default(),
            client.reason.clone().unwrap_or_default(),
        ]
    };
    Rows::new(&["NAME", "ID", "ROLE", "STANDING", "PRESENCE", "PATH", ">RTT", "CODE", "REASON"])
        .with(rows.iter().map(row))
}

fn presence(client: &ClientRow) -> String {
    match (&client.last_seen, client.online) {
        (_, true) => "online".to_owned(),
        (Some(time), false) => format!("away since {time}"),
        (None, false) => "away".to_owned(),
    }
}

/// Since when, and how long that is.
pub(super) fn since_text(since: &str) -> String {
    match age(since) {
        Some(age) => format!("waiting since {since} ({})", units::time(age)),
        None => "waiting".to_owned(),
    }
}

fn age(since: &str) -> Option<Duration> {
    let format = &time::format_description::well_known::Rfc3339;
    let since = time::OffsetDateTime::parse(since, format).ok()?;
    Some((time::OffsetDateTime::now_utc() - since).try_into().unwrap_or(Duration::ZERO))
}

/// The beginning of an id, enough for people.
pub(super) fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

/// A role in a word.
pub(super) fn role_text(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Master => "master",
        NodeRole::Client => "client",
        NodeRole::Server => "server",
    }
}

/// A standing in words.
pub(super) fn standing_text(standing: StandingRow) -> &'static str {
    match standing {
        StandingRow::Stranger => "not registered yet",
        StandingRow::Registered => "waiting for approval",
        StandingRow::Approved => "approved",
        StandingRow::Disapproved => "disapproved",
        StandingRow::Left => "left",
    }
}

/// How bytes travel, in a word.
pub(super) fn path_text(path: PathRow) -> &'static str {
    match path {
        PathRow::Direct => "direct",
        PathRow::Relay => "relay",
    }
}

fn link_text(link: Link) -> &'static str {
    match link {
        Link::Connected => "connected",
        Link::Away => "away",
        Link::None => "none",
    }
}

/// Seconds left, in words.
pub(super) fn eta_text(eta_s: Option<u64>) -> String {
    eta_s.map(|seconds| format!("{} left", units::time(Duration::from_secs(seconds)))).unwrap_or_default()
}
