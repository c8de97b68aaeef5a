//! The routes of the local API, as the one table that both ends use: how a command travels as HTTP.

use crate::node::local::Command;
use axum::http::Method;
use serde_json::{Value, json};

/// `GET`: one status.
pub(super) const STATUS: &str = "/v1/status";
/// `GET`: all devices.
pub(super) const CLIENTS: &str = "/v1/clients";
/// `GET`: the catalog; `query`, `offset`, `limit`.
pub(super) const FILES: &str = "/v1/files";
/// `GET`: the shares. `POST {"paths": […], "copy": BOOL, "exclude": […]}`: shares paths.
pub(super) const SHARES: &str = "/v1/shares";
/// `GET`: the rows that a share has made; `path`.
pub(super) const SHARE_FILES: &str = "/v1/shares/files";
/// `POST {"paths": […], "confirm": BOOL}`: looks at shares now.
pub(super) const SCAN: &str = "/v1/scan";
/// `POST {"files": […]}`: takes files out of the catalog.
pub(super) const REMOVE: &str = "/v1/remove";
/// `GET`: how much of what was removed is still in the catalog.
pub(super) const REMOVALS: &str = "/v1/removals";
/// `GET`: transfers; `job`.
pub(super) const TRANSFERS: &str = "/v1/transfers";
/// `GET`: jobs; `job`.
pub(super) const JOBS: &str = "/v1/jobs";
/// `GET`: open invites. `POST {"expires_s": N}`: a new one.
pub(super) const INVITES: &str = "/v1/invites";
/// `POST {"id": ID}`: revokes an invite.
pub(super) const REVOKE: &str = "/v1/invites/revoke";
/// `POST`: makes a new ticket.
pub(super) const ROTATE: &str = "/v1/ticket/rotate";
/// `GET`: the server's ticket.
pub(super) const TICKET: &str = "/v1/ticket";
/// `POST {"ids": […]}`: approves devices.
pub(super) const APPROVE: &str = "/v1/approve";
/// `POST {"ids": […]}`: disapproves devices.
pub(super) const DISAPPROVE: &str = "/v1/disapprove";
/// `POST {"id": ID or null, "name": NAME}`: gives a device another name.
pub(super) const RENAME: &str = "/v1/rename";
/// `POST {"now": BOOL}`: leaves the group.
pub(super) const LEAVE: &str = "/v1/leave";
/// `POST {"id": ID}`: how the others are reached; the one named, or none, is tried at once.
pub(super) const DOCTOR: &str = "/v1/doctor";
/// `GET`: the group's rules. `POST {"master_away_wait_s": N}` or `{"master_away_continue_s": N}`: sets one.
pub(super) const POLICY: &str = "/v1/policy";
/// `POST {"files": […], "dest": PATH, "conflict": WHAT, "way": WAY}`: downloads.
pub(super) const GET: &str = "/v1/get";
/// `POST {"ids": […], "all": BOOL}`: pauses jobs and uploads.
pub(super) const PAUSE: &str = "/v1/pause";
/// `POST {"ids": […], "all": BOOL}`: lets them go on.
pub(super) const RESUME: &str = "/v1/resume";
/// `POST {"ids": […], "all": BOOL}`: ends jobs.
pub(super) const CANCEL: &str = "/v1/cancel";
/// `POST`: ends the node.
pub(super) const STOP: &str = "/v1/stop";
/// `GET`: events, one JSON value a line, until the node ends.
pub(super) const WATCH: &str = "/v1/watch";

/// A command as HTTP.
pub(super) struct Call {
    /// `GET` or `POST`.
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    /// The body of a `POST`.
    pub(super) body: Option<Value>,
}

/// How to send a command. An error is a path that JSON can't hold.
pub(super) fn call(command: &Command) -> Result<Call, String> {
    Ok(match command {
        Command::Status => read(STATUS, &[]),
        Command::Clients => read(CLIENTS, &[]),
        Command::Doctor { id } => write(DOCTOR, json!({ "id": id })),
        Command::Files { query, offset, limit } => {
            read(FILES, &[("query", query.clone()), ("offset", number(Some(*offset))), ("limit", number(*limit))])
        }
        Command::Shares => read(SHARES, &[]),
        Command::Transfers { job } => read(TRANSFERS, &[("job", number(*job))]),
        Command::Jobs { job } => read(JOBS, &[("job", number(*job))]),
        Command::Invites => read(INVITES, &[]),
        Command::Invite { expires_s } => write(INVITES, json!({ "expires_s": expires_s })),
        Command::RevokeInvite { id } => write(REVOKE, json!({ "id": id })),
        Command::Ticket => read(TICKET, &[]),
        Command::RotateTicket => write(ROTATE, json!({})),
        Command::Approve { ids } => write(APPROVE, json!({ "ids": ids })),
        Command::Disapprove { ids } => write(DISAPPROVE, json!({ "ids": ids })),
        Command::Rename { id, name } => write(RENAME, json!({ "id": id, "name": name })),
        Command::Leave { now } => write(LEAVE, json!({ "now": now })),
        Command::Policy => read(POLICY, &[]),
        Command::SetPolicy { master_away_wait_s } => write(POLICY, json!({ "master_away_wait_s": master_away_wait_s })),
        Command::SetContinue { master_away_continue_s } => {
            write(POLICY, json!({ "master_away_continue_s": master_away_continue_s }))
        }
        Command::Add { paths, copy, exclude } => {
            let paths = paths.iter().map(|path| utf8(path)).collect::<Result<Vec<_>, _>>()?;
            write(SHARES, json!({ "paths": paths, "copy": copy, "exclude": exclude }))
        }
        Command::Scan { paths, confirm } => {
            let paths = paths.iter().map(|path| utf8(path)).collect::<Result<Vec<_>, _>>()?;
            write(SCAN, json!({ "paths": paths, "confirm": confirm }))
        }
        Command::Remove { files, yes } => write(REMOVE, json!({ "files": files, "yes": yes })),
        Command::Removals => read(REMOVALS, &[]),
        Command::ShareFiles { path } => read(SHARE_FILES, &[("path", Some(utf8(path)?.to_owned()))]),
        Command::Get { files, dest, conflict, way } => {
            let dest = dest.as_deref().map(utf8).transpose()?;
            write(GET, json!({ "files": files, "dest": dest, "conflict": conflict, "way": way }))
        }
        Command::Pause { ids, all } => write(PAUSE, json!({ "ids": ids, "all": all })),
        Command::Resume { ids, all } => write(RESUME, json!({ "ids": ids, "all": all })),
        Command::Cancel { ids, all } => write(CANCEL, json!({ "ids": ids, "all": all })),
        Command::Stop => write(STOP, json!({})),
    })
}

fn read(path: &str, query: &[(&str, Option<String>)]) -> Call {
    let given = query.iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value)));
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish();
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    Call { method: Method::GET, target, body: None }
}

fn write(path: &str, body: Value) -> Call {
    Call { method: Method::POST, target: path.to_owned(), body: Some(body) }
}

fn number(value: Option<u64>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn utf8(path: &std::path::Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("the name of {} is not UTF-8", path.display()))
}
