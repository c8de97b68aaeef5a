//! `-d`: the same command again as a process of its own, which outlives the terminal.
//!
//! The child's stdout is a pipe on which the parent reads one line: that it is ready, or why not. An invite or a
//! ticket goes to it on stdin, so that the list of processes doesn't show it for as long as the node runs.

use super::end::{End, FAILED, Outcome};
use super::output::{Output, json};
use super::ready::{self, Ready};
use super::word::{self, Kind};
use crate::api::client::Client;
use crate::api::place::keep_failure;
use crate::node;
use crate::node::goodbye::{has_left, mark};
use crate::node::local::{ErrorCode, LocalError, StandingRow};
use crate::store::statedir::StateDir;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Set for the process that runs the node in the background.
pub(super) const BACKGROUND_VARIABLE: &str = "BAILIWICK_BACKGROUND";
/// The log's name in the state directory.
const LOG_NAME: &str = "log";
/// Bytes of a log that the next start goes on with; a longer one begins anew.
const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How long a node may take to be ready: its database is opened and checked before that.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a node that is not needed may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked at.
const END_POLL: Duration = Duration::from_millis(5);

/// Whether this is the process in the background.
pub(super) fn is_background() -> bool {
    std::env::var_os(BACKGROUND_VARIABLE).is_some()
}

/// Leaves the terminal: its hang-up and its Ctrl-C are not for this process.
pub(super) fn leave_terminal(state_dir: &Path) {
    let _ = rustix::process::setsid();
    let _ = std::env::set_current_dir(state_dir);
}

/// Tells the parent, if there is one, why there will be no node.
pub(super) fn report(error: &LocalError) {
    if is_background() {
        let _ = writeln!(io::stdout().lock(), "{}", json(error));
    }
}

/// An invite or a ticket: as it was typed, and what it stands for.
pub(super) struct Secret {
    typed: String,
    word: String,
}

impl Secret {
    /// Reads what `@FILE` or `-` stand for.
    pub(super) fn read(typed: &str, kind: &Kind) -> Outcome<Secret> {
        Ok(Secret { typed: typed.to_owned(), word: word::read(typed, kind)? })
    }

    /// The word itself.
    pub(super) fn word(&self) -> &str {
        &self.word
    }

    /// The argument that makes the child read the word from stdin.
    fn hidden(&self, argument: OsString) -> OsString {
        match argument.to_str() {
            Some(text) if text == self.typed => OsString::from("-"),
            Some(text) if text.strip_prefix("--server=") == Some(&self.typed) => OsString::from("--server=-"),
            Some(_) | None => argument,
        }
    }
}

/// Starts this command in the background and returns when it is ready or has failed.
pub(super) fn spawn(state_dir: &Path, secret: Option<Secret>, output: Output) -> Outcome {
    let (log_path, log) = open_log(state_dir).map_err(|error| cannot_start(state_dir, &error))?;
    let mut child = start(&secret, log).map_err(|error| cannot_start(state_dir, &error))?;
    if let (Some(secret), Some(mut stdin)) = (secret, child.stdin.take()) {
        // A child that has failed already says why on its stdout.
        let _ = stdin.write_all(secret.word.as_bytes());
    }
    let line = first_line(&mut child).ok_or_else(|| not_ready(&log_path))?;
    match (serde_json::from_str::<Ready>(&line), serde_json::from_str::<LocalError>(&line)) {
        (Ok(ready), _) if ready.is_out() => Err(dismissed(&mut child, &ready, state_dir)),
        (Ok(ready), _) => ready::announce(&ready, output),
        (Err(_), Ok(error)) => Err(error.into()),
        (Err(_), Err(_)) => Err(ended(&mut child, state_dir, &log_path)),
    }
}

fn start(secret: &Option<Secret>, log: File) -> io::Result<Child> {
    let hide = |argument| secret.as_ref().map_or_else(|| OsString::clone(&argument), |it| it.hidden(argument.clone()));
    let arguments: Vec<OsString> = std::env::args_os().skip(1).map(hide).collect();
    Command::new(std::env::current_exe()?)
        .args(arguments)
        .env(BACKGROUND_VARIABLE, OsStr::new("1"))
        .stdin(if secret.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
}

fn open_log(state_dir: &Path) -> io::Result<(PathBuf, File)> {
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
    let path = state_dir.join(LOG_NAME);
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
    if log.metadata()?.len() > LOG_BYTES_MAX {
        log.set_len(0)?;
    }
    Ok((path, log))
}

/// The first line of the child's stdout, empty if it ended without one; `None` if that takes too long.
fn first_line(child: &mut Child) -> Option<String> {
    let stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = sender.send(line);
    });
    receiver.recv_timeout(READY_TIMEOUT).ok()
}

fn cannot_start(state_dir: &Path, error: &io::Error) -> LocalError {
    let error = format!("can't start in the background with {}: {error}", state_dir.display());
    LocalError::new(ErrorCode::Failed, error, "see that the state directory can be written")
}

fn not_ready(log: &Path) -> LocalError {
    let error = format!("the node is not ready after {} s", READY_TIMEOUT.as_secs());
    LocalError::new(ErrorCode::NotNow, error, format!("it may still come; see {}", log.display()))
}

/// A device that is out of its group needs no node. One that has left ends by itself, when its keys are erased.
fn dismissed(child: &mut Child, ready: &Ready, state_dir: &Path) -> End {
    if ready.standing == Some(StandingRow::Disapproved) {
        let _ = stop(state_dir);
    }
    let deadline = Instant::now() + END_TIMEOUT;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(END_POLL);
    }
    if let Ok(Some(when)) = mark(state_dir) {
        return has_left(&when).into();
    }
    let error = ready::out(ready.standing);
    if let Ok(dir) = StateDir::open(state_dir) {
        keep_failure(&dir, &error);
    }
    error.into()
}

fn stop(state_dir: &Path) -> Result<(), LocalError> {
    let node = Client::open(state_dir)?;
    let failed = |error: io::Error| LocalError::new(ErrorCode::Failed, error.to_string(), "do it again");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(node.ask(&node::local::Command::Stop)).map(|_| ())
}

fn ended(child: &mut Child, state_dir: &Path, log: &Path) -> End {
    let status = child.wait();
    if let (true, Ok(Some(when))) = (status.as_ref().is_ok_and(ExitStatus::success), mark(state_dir)) {
        return has_left(&when).into();
    }
    let how = status.map(|status| status.to_string()).unwrap_or_default();
    let error = format!("the node ended before it was ready: {how}");
    End::with(FAILED, LocalError::new(ErrorCode::Failed, error, format!("see {}", log.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_argument_of_the_background_process_holds_the_secret() {
        let secret = Secret { typed: "bwt1abc".into(), word: "bwt1abc".into() };
        let hidden = ["--server", "bwt1abc", "--server=bwt1abc", "x"].map(|text| secret.hidden(text.into()));
        assert_eq!(hidden, ["--server", "-", "--server=-", "x"]);
    }
}
