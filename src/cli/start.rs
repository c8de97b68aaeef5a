//! `server`, `master` and `client`: from what was typed to a node that runs here or in the background.

use super::args::{ClientArgs, Global, MasterArgs, PlaceArgs, ServerArgs, WayArgs};
use super::daemon::{self, Secret};
use super::end::Outcome;
use super::output::Output;
use super::place::{self, usage};
use super::run::{self, Start};
use super::word;
use crate::node::options::{AskedWays, ClientOptions, MasterOptions, MasterServer, ServerOptions, ServerPlace};
use crate::wire::invite::{Invite, Ticket};
use std::path::Path;

/// `server`.
pub(super) fn server(global: &Global, args: &ServerArgs, output: Output) -> Outcome {
    let state_dir = place::state_dir(global)?;
    if goes_to_background(args.daemon) {
        return daemon::spawn(&state_dir, None, output);
    }
    let place = server_place(&args.place);
    run::server(&start(&state_dir, output), ServerOptions { state_dir, place })
}

/// `master`.
pub(super) fn master(global: &Global, args: &MasterArgs, output: Output) -> Outcome {
    let state_dir = place::state_dir(global)?;
    let shares = place::existing(&args.paths)?;
    let downloads = args.downloads.as_deref().map(place::folder).transpose()?;
    let secret = args.server.as_deref().map(|typed| Secret::read(typed, &word::TICKET)).transpose()?;
    let ticket = secret.as_ref().map(|secret| parse_ticket(secret.word())).transpose()?;
    if goes_to_background(args.daemon) {
        return daemon::spawn(&state_dir, secret, output);
    }
    let server = match ticket {
        Some(ticket) => MasterServer::Ticket(Box::new(ticket)),
        None => MasterServer::AsBefore(server_place(&args.place)),
    };
    let start = Start { shares, ways: ways(args.ways), ..start(&state_dir, output) };
    let (name, fallback_name) = (args.name.clone(), place::machine_name());
    run::master(&start, MasterOptions { state_dir, name, fallback_name, downloads, server })
}

/// `client`.
pub(super) fn client(global: &Global, args: &ClientArgs, output: Output) -> Outcome {
    let state_dir = place::state_dir(global)?;
    let downloads = args.downloads.as_deref().map(place::folder).transpose()?;
    let secret = args.invite.as_deref().map(|typed| Secret::read(typed, &word::INVITE)).transpose()?;
    let invite = secret.as_ref().map(|secret| parse_invite(secret.word())).transpose()?.map(Box::new);
    if goes_to_background(args.daemon) {
        return daemon::spawn(&state_dir, secret, output);
    }
    let start = Start { ways: ways(args.ways), ..start(&state_dir, output) };
    let (name, fallback_name) = (args.name.clone(), place::machine_name());
    run::client(&start, ClientOptions { state_dir, invite, name, fallback_name, downloads })
}

fn start(state_dir: &Path, output: Output) -> Start {
    Start { state_dir: state_dir.to_owned(), shares: Vec::new(), ways: AskedWays::default(), output }
}

fn ways(args: WayArgs) -> AskedWays {
    AskedWays { relay_only: args.relay_only, no_port_mapping: args.no_port_mapping }
}

/// The process that was put there is the one that runs the node.
fn goes_to_background(asked: bool) -> bool {
    asked && !daemon::is_background()
}

fn server_place(args: &PlaceArgs) -> ServerPlace {
    ServerPlace { listen: args.listen, advertise: args.advertise.clone() }
}

fn parse_invite(word: &str) -> Outcome<Invite> {
    let hint = "give the whole text that the master printed; it begins with 'bwi1'";
    Invite::parse(word).map_err(|error| usage(format!("this is no invite: {error}"), hint).into())
}

fn parse_ticket(word: &str) -> Outcome<Ticket> {
    let hint = "give the whole text that the server printed; it begins with 'bwt1'";
    Ticket::parse(word).map_err(|error| usage(format!("this is no server's ticket: {error}"), hint).into())
}
