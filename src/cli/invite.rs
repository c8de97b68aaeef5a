//! `invites`, `invite` and `ticket`: the words that people carry to other devices.

use super::args::InviteArgs;
use super::end::Outcome;
use super::group::{short, unexpected};
use super::output::Output;
use crate::api::client::Client;
use crate::node::local::*;

/// `invites`.
pub(super) async fn invites(node: &Client, output: Output) -> Outcome {
    let Reply::Invites(rows) = node.ask(&Command::Invites).await? else { return Err(unexpected()) };
    if output.json {
        return output.value(&rows);
    }
    if rows.is_empty() {
        return output.line("no open invites; `bailiwick invite` makes one");
    }
    for row in &rows {
        output.line(&format!("{}, for one device, until {}:", short(&row.id), row.expires))?;
        output.line(&format!("  bailiwick client {}", row.invite))?;
    }
    output.note("`bailiwick invite --revoke ID` makes one void");
    Ok(())
}

/// `invite`.
pub(super) async fn invite(node: &Client, args: &InviteArgs, output: Output) -> Outcome {
    match &args.revoke {
        Some(id) => revoke(node, id, output).await,
        None => make(node, args.expires.as_secs(), output).await,
    }
}

async fn make(node: &Client, expires_s: u64, output: Output) -> Outcome {
    let Reply::Invites(rows) = node.ask(&Command::Invite { expires_s }).await? else { return Err(unexpected()) };
    if output.json {
        return output.value(&rows);
    }
    for row in &rows {
        output.line(&format!("for one device, until {}; on that device:", row.expires))?;
        output.line(&format!("  bailiwick client {}", row.invite))?;
    }
    Ok(())
}

async fn revoke(node: &Client, id: &str, output: Output) -> Outcome {
    let Reply::Invites(rows) = node.ask(&Command::RevokeInvite { id: id.to_owned() }).await? else {
        return Err(unexpected());
    };
    if output.json {
        return output.value(&rows);
    }
    rows.iter().try_for_each(|row| output.line(&format!("revoked {}: nobody can use it any more", short(&row.id))))
}

/// `ticket`.
pub(super) async fn ticket(node: &Client, rotate: bool, output: Output) -> Outcome {
    let command = if rotate { Command::RotateTicket } else { Command::Ticket };
    let Reply::Ticket(row) = node.ask(&command).await? else { return Err(unexpected()) };
    if output.json {
        return output.value(&row);
    }
    output.line(&row.ticket)?;
    if rotate {
        output.note("the tickets of before are void; groups that are here stay");
    }
    output.note("who has this ticket can bring a group to this server: bailiwick master --server TICKET");
    Ok(())
}
