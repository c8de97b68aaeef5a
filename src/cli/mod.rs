//! The command line: parse, ask the running node, print. Nothing is decided here.

mod approve;
mod args;
mod backup;
mod catalog;
mod control;
mod daemon;
mod demo;
mod doctor;
mod end;
mod finds;
mod get;
mod group;
mod here;
mod invite;
mod jobs;
mod membership;
mod output;
mod place;
mod progress;
mod ready;
mod remove;
mod run;
mod share;
mod start;
mod tips;
mod transfers;
mod units;
mod word;

use args::{Cli, Command};
use clap::Parser;
use end::{End, Outcome};
use output::Output;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Runs the program that the command line describes.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misunderstood(&tips::better(error)),
    };
    let output = Output { json: cli.global.json };
    here::remember(&cli.global);
    log_to_stderr(cli.global.verbose);
    let Err(end) = dispatch(&cli, output) else { return ExitCode::SUCCESS };
    if let Some(error) = &end.error {
        daemon::report(error);
        output.error(error);
    }
    ExitCode::from(end.code)
}

fn dispatch(cli: &Cli, output: Output) -> Outcome {
    let global = &cli.global;
    match &cli.command {
        Command::Server(args) => start::server(global, args, output),
        Command::Master(args) => start::master(global, args, output),
        Command::Client(args) => start::client(global, args, output),
        Command::Demo(args) => demo::run(args, global, output),
        Command::Export(args) => backup::export(global, args, output),
        Command::Import(args) => backup::import(global, args, output),
        Command::Status
        | Command::Ticket { .. }
        | Command::Clients
        | Command::Doctor { .. }
        | Command::Files { .. }
        | Command::Shares
        | Command::Transfers
        | Command::Invites
        | Command::Invite(_)
        | Command::Approve { .. }
        | Command::Disapprove { .. }
        | Command::Rename(_)
        | Command::Leave(_)
        | Command::Policy(_)
        | Command::Add(_)
        | Command::Scan(_)
        | Command::Remove(_)
        | Command::Get(_)
        | Command::Pause(_)
        | Command::Resume(_)
        | Command::Cancel(_)
        | Command::Wait(_)
        | Command::Watch
        | Command::Stop => light_runtime()?.block_on(ask(cli, output)),
    }
}

/// The commands that ask a running node.
async fn ask(cli: &Cli, output: Output) -> Outcome {
    let open = || place::node(&cli.global);
    match &cli.command {
        Command::Server(_)
        | Command::Master(_)
        | Command::Client(_)
        | Command::Demo(_)
        | Command::Export(_)
        | Command::Import(_) => Ok(()),
        Command::Status => group::status(&open()?, output).await,
        Command::Clients => group::clients(&open()?, output).await,
        Command::Doctor { id } => doctor::doctor(&open()?, id.as_deref(), output).await,
        Command::Ticket { rotate } => invite::ticket(&open()?, *rotate, output).await,
        Command::Files { query } => catalog::files(&open()?, query.as_deref(), output).await,
        Command::Shares => catalog::shares(&open()?, output).await,
        Command::Transfers => transfers::transfers(&open()?, output).await,
        Command::Invites => invite::invites(&open()?, output).await,
        Command::Invite(args) => invite::invite(&open()?, args, output).await,
        Command::Approve { ids } => approve::approve(&open()?, ids, output).await,
        Command::Disapprove { ids, yes } => approve::disapprove(&open()?, ids, *yes, output).await,
        Command::Rename(args) => membership::rename(&open()?, args, output).await,
        Command::Leave(args) => membership::leave(&open()?, args, output).await,
        Command::Policy(args) => membership::policy(&open()?, args, output).await,
        Command::Add(args) => share::add(&open()?, args, output).await,
        Command::Scan(args) => share::scan(&open()?, args, output).await,
        Command::Remove(args) => remove::remove(&open()?, args, output).await,
        Command::Get(args) => get::get(&open()?, args, output).await,
        Command::Pause(args) => {
            jobs::check(&args.ids, args.all)?;
            jobs::pause(&open()?, args, output).await
        }
        Command::Resume(args) => {
            jobs::check(&args.ids, args.all)?;
            jobs::resume(&open()?, args, output).await
        }
        Command::Cancel(args) => {
            jobs::check(&args.ids, args.all)?;
            jobs::cancel(&open()?, args, output).await
        }
        Command::Wait(args) => control::wait(&place::state_dir(&cli.global)?, args, output).await,
        Command::Watch => control::watch(&open()?, output).await,
        Command::Stop => control::stop(&open()?, output).await,
    }
}

/// One thread is enough for questions.
fn light_runtime() -> Outcome<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(End::from)
}

/// Help goes to stdout as it is; an error is printed in the form that the command line asks for, as far as it can be
/// told.
fn misunderstood(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    if !error.use_stderr() || !wants_json {
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { end::USAGE } else { end::DONE });
    }
    Output { json: true }.error(&place::usage(first_part(&error.render().to_string()), "see `bailiwick --help`"));
    ExitCode::from(end::USAGE)
}

/// What is wrong, on one line: all up to the first empty line, for the arguments stand below the sentence.
fn first_part(text: &str) -> String {
    match text.strip_prefix("error: ") {
        Some(rest) => rest.lines().map(str::trim).take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" "),
        None => "a command is missing".to_owned(),
    }
}

/// `RUST_LOG` says in detail what is logged; `-v` for most uses.
fn log_to_stderr(verbose: u8) {
    let level = match (verbose, daemon::is_background()) {
        (0, false) => "warn",
        (0, true) | (1, _) => "bailiwick=info,warn",
        (2, _) => "bailiwick=debug,info",
        (3.., _) => "bailiwick=trace,info",
    };
    let stderr = std::io::stderr;
    // A line that can't be written is lost. To complain of it on stderr would be a panic if that is the full disk's log.
    let log =
        tracing_subscriber::fmt().log_internal_errors(false).with_writer(stderr).with_ansi(stderr().is_terminal());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    log.with_env_filter(filter).init();
}
