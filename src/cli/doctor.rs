//! `doctor`: how this device reaches the others, and why not directly.

use super::end::Outcome;
use super::group::{path_text, unexpected};
use super::output::{Output, Rows};
use super::units;
use crate::api::client::Client;
use crate::node::local::*;
use std::time::{Duration, Instant};

/// How long a new attempt is waited for: it lasts five seconds after the other device's offer.
const ATTEMPT: Duration = Duration::from_secs(8);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(100);

/// `doctor`.
pub(super) async fn doctor(node: &Client, id: Option<&str>, output: Output) -> Outcome {
    let mut found = ask(node, id).await?;
    if let Some(id) = id {
        let device = the_one(&found, id)?;
        let wanted = device.id.clone();
        let is_wanted = |device: &&Reached| device.id == wanted;
        let is_over = |found: &Diagnosis| {
            let device = found.devices.iter().find(is_wanted);
            device.is_none_or(|device| {
                let is_gone = device.path.is_none() && !device.nearby;
                device.path == Some(PathRow::Direct) || is_gone || !device.trying
            })
        };
        let end = Instant::now() + ATTEMPT;
        while !is_over(&found) && Instant::now() < end {
            tokio::time::sleep(POLL).await;
            found = ask(node, None).await?;
        }
        found.devices.retain(|device| device.id == wanted);
    }
    if output.json {
        return output.value(&found);
    }
    this_device(&found, output)?;
    found.devices.iter().try_for_each(|device| one_device(device, id.is_some(), output))
}

async fn ask(node: &Client, id: Option<&str>) -> Outcome<Diagnosis> {
    match node.ask(&Command::Doctor { id: id.map(str::to_owned) }).await? {
        Reply::Doctor(found) => Ok(*found),
        _ => Err(unexpected()),
    }
}

/// The node has found it already: by name, id or the beginning of one.
fn the_one<'a>(found: &'a Diagnosis, id: &str) -> Outcome<&'a Reached> {
    let id = id.to_lowercase();
    let by_name = found.devices.iter().find(|device| device.name.to_lowercase() == id);
    let dashless = |text: &str| text.replace('-', "");
    let by_id = || found.devices.iter().find(|device| dashless(&device.id).starts_with(&dashless(&id)));
    by_name.or_else(by_id).ok_or_else(unexpected)
}

fn this_device(found: &Diagnosis, output: Output) -> Outcome {
    let server = match (found.server, &found.observed) {
        (Link::Connected, Some(observed)) => format!("connected; it sees this device at {observed}"),
        (Link::Connected, None) => "connected".to_owned(),
        _ => "away".to_owned(),
    };
    let addresses = if found.addresses.is_empty() { "none".to_owned() } else { found.addresses.join(", ") };
    output.line("this device")?;
    output.line(&format!("  server      {server}"))?;
    output.line(&format!("  addresses   {addresses}"))?;
    output.line(&format!("  mapped port {}", found.port_mapping))?;
    output.line(&format!("  mapping     {}", found.mapping))?;
    output.line(&format!("  filtering   {}", found.filtering.as_deref().unwrap_or("not known yet")))
}

fn one_device(device: &Reached, in_full: bool, output: Output) -> Outcome {
    let path = device.path.map_or("away", path_text);
    let rtt = device.rtt_ms.map(|ms| format!(", {ms} ms")).unwrap_or_default();
    let address = device.address.as_ref().map(|address| format!(" to {address}{rtt}")).unwrap_or_default();
    let nearby = if device.nearby { ", on this network" } else { "" };
    output.line(&format!("{}: {path}{address}{nearby}", device.name))?;
    if let Some(reason) = &device.reason {
        output.line(&format!("  {reason}"))?;
    }
    let Some(last) = &device.last else { return Ok(()) };
    let attempts = units::count(device.attempts.into(), "attempt");
    let (ago, took) = (units::time(Duration::from_millis(last.ago_ms)), Duration::from_millis(last.took_ms));
    if device.path == Some(PathRow::Direct) && last.outcome != CONNECTED {
        // The other device found the way, or both are on one network.
        return output.line(&format!("  {attempts} from here came to nothing before, the last one {ago} ago"));
    }
    let is_said = device.reason.as_ref().is_some_and(|reason| reason.contains(&last.outcome));
    let outcome = if is_said { String::new() } else { format!(": {}", last.outcome) };
    output.line(&format!(
        "  {attempts}, {} led to a connection; the last one {ago} ago took {:.1} s{outcome}",
        device.connected,
        took.as_secs_f64(),
    ))?;
    if in_full && !last.addresses.is_empty() {
        return output.table(addresses(&last.addresses, device, last.outcome == CONNECTED));
    }
    Ok(())
}

/// A connection that the other device dialled may be there before any answer.
fn addresses(rows: &[CheckedRow], device: &Reached, connected: bool) -> Rows {
    let row = |row: &CheckedRow| {
        let answer = match (row.answered_ms, row.refused) {
            (Some(ms), false) => format!("after {ms} ms"),
            (Some(ms), true) => format!("after {ms} ms, but no connection"),
            (None, _) if device.address.as_ref() == Some(&row.address) => "in use, before any answer".to_owned(),
            (None, _) if connected => "not waited for".to_owned(),
            (None, _) => "none".to_owned(),
        };
        let from = if row.offered { "named by it" } else { "its packets came from there" };
        vec![row.address.clone(), from.to_owned(), row.probes.to_string(), answer]
    };
    Rows::new(&["ADDRESS", "HOW", ">PROBES", "ANSWER"]).with(rows.iter().map(row))
}
