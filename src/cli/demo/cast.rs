//! The devices of the demo: processes of this program, each with a state directory and a home of its own. Whatever
//! happens, they are ended and their folder is removed.

use super::{POLL, STEP_TIMEOUT, at, failed};
use crate::cli::daemon::BACKGROUND_VARIABLE;
use crate::cli::end::{End, Outcome};
use crate::cli::output::Output;
use crate::cli::place::STATE_VARIABLE;
use crate::cli::ready::{self, Ready};
use crate::node::local::LocalError;
use serde::de::DeserializeOwned;
use std::fs::DirBuilder;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Lines of one command's output that are shown.
const LINES_SHOWN: usize = 12;
/// Characters of an echoed argument: invites and tickets are longer than anybody reads.
const ARGUMENT_SHOWN: usize = 60;

/// How long a node that said that it stops may take to be gone.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// A device whose node runs.
pub(super) struct Device {
    /// Its name, which is its prompt as well.
    pub(super) name: &'static str,
    ready: Ready,
}

impl Device {
    /// The invite or the ticket of its first line.
    pub(super) fn word(&self, of: impl FnOnce(&Ready) -> Option<&String>) -> Outcome<String> {
        of(&self.ready).cloned().ok_or_else(|| failed(format!("{} printed no invite or ticket", self.name)))
    }
}

/// All devices, and where they live.
pub(super) struct Cast {
    output: Output,
    interrupted: Arc<AtomicBool>,
    program: PathBuf,
    folder: PathBuf,
    nodes: Vec<(&'static str, Child)>,
}

impl Cast {
    /// An empty stage.
    pub(super) fn new(output: Output, interrupted: Arc<AtomicBool>) -> Outcome<Cast> {
        let program = std::env::current_exe()?;
        let folder = std::env::temp_dir().join(format!("bailiwick-demo-{}", uuid::Uuid::new_v4().simple()));
        DirBuilder::new().mode(0o700).create(&folder).map_err(at(&folder))?;
        Ok(Cast { output, interrupted, program, folder, nodes: Vec::new() })
    }

    /// Where a device's person keeps things.
    pub(super) fn home(&self, name: &str) -> Outcome<PathBuf> {
        let home = self.folder.join(name);
        std::fs::create_dir_all(&home).map_err(at(&home))?;
        Ok(home)
    }

    /// Names the step in the error if it fails.
    pub(super) fn step<T>(&mut self, name: &str, step: impl FnOnce(&mut Cast) -> Outcome<T>) -> Outcome<T> {
        self.go_on()?;
        step(self).map_err(|end| match end.error {
            Some(error) => {
                let error = LocalError { error: format!("the demo failed at '{name}': {}", error.error), ..error };
                End { error: Some(error), ..end }
            }
            None => end,
        })
    }

    /// Looks until there is a result.
    pub(super) fn until<T>(&mut self, what: &str, look: impl Fn(&Cast) -> Outcome<Option<T>>) -> Outcome<T> {
        let start = Instant::now();
        loop {
            self.go_on()?;
            if let Some(result) = look(self)? {
                return Ok(result);
            }
            if start.elapsed() > STEP_TIMEOUT {
                return Err(failed(format!("after {} s it is still not so that {what}", STEP_TIMEOUT.as_secs())));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Starts a device's node and waits until it is ready.
    pub(super) fn start(&mut self, name: &'static str, arguments: &[&str]) -> Outcome<Device> {
        self.echo(name, arguments)?;
        let mut child = self.command(name, arguments).arg("--json").stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take();
        self.nodes.push((name, child));
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let ready: Ready = serde_json::from_str(&line)
            .map_err(|_| failed(format!("{name} did not get ready; see its error above")))?;
        if !self.output.json {
            ready::announce(&ready, self.output)?;
        }
        Ok(Device { name, ready })
    }

    /// Runs a command and shows what it prints.
    pub(super) fn show(&self, device: &Device, arguments: &[&str]) -> Outcome {
        self.echo(device.name, arguments)?;
        let text = self.run(device, arguments)?;
        let lines: Vec<&str> = text.lines().collect();
        lines.iter().take(LINES_SHOWN).try_for_each(|line| self.say(line))?;
        match lines.len().checked_sub(LINES_SHOWN) {
            None | Some(0) => Ok(()),
            Some(more) => self.say(&format!("… {more} more lines")),
        }
    }

    /// Runs a command for its JSON, without showing it.
    pub(super) fn read<T: DeserializeOwned>(&self, device: &Device, arguments: &[&str]) -> Outcome<T> {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        let text = self.run(device, &arguments)?;
        serde_json::from_str(&text).map_err(|error| failed(format!("{}: {error}", arguments.join(" "))))
    }

    fn run(&self, device: &Device, arguments: &[&str]) -> Outcome<String> {
        self.go_on()?;
        let done = self.command(device.name, arguments).stdout(Stdio::piped()).spawn()?.wait_with_output()?;
        match done.status.success() {
            true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
            false => Err(failed(format!("`bailiwick {}` ended with {}", arguments.join(" "), done.status))),
        }
    }

    /// Everything is given by the command line: nothing of the person's own node is touched.
    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
        command.env(STATE_VARIABLE, self.folder.join(name).join(".state")).env_remove(BACKGROUND_VARIABLE);
        command
    }

    /// Shows a command as a person would type it.
    pub(super) fn echo(&self, name: &str, arguments: &[&str]) -> Outcome {
        let shown = arguments.iter().map(|argument| match argument.char_indices().nth(ARGUMENT_SHOWN) {
            Some(_) if argument.starts_with("bw") => format!("{}…", &argument[..12]),
            Some(_) | None => (*argument).to_owned(),
        });
        self.say("")?;
        self.say(&format!("{name}$ bailiwick {}", shown.collect::<Vec<_>>().join(" ")))
    }

    /// A line for the person.
    pub(super) fn say(&self, text: &str) -> Outcome {
        if self.output.json { Ok(()) } else { self.output.line(text) }
    }

    fn go_on(&self) -> Outcome {
        if self.interrupted.load(Ordering::Relaxed) { Err(End::quietly()) } else { Ok(()) }
    }

    /// Sees that all have ended by themselves after `stop`, and removes the folder.
    pub(super) fn clear(&mut self) -> Outcome {
        let mut stuck = Vec::new();
        for (name, child) in &mut self.nodes {
            if !ends_soon(child) {
                stuck.push(*name);
            }
        }
        self.end_all();
        if stuck.is_empty() { Ok(()) } else { Err(failed(format!("{} did not stop", stuck.join(", ")))) }
    }

    fn end_all(&mut self) {
        for (_, mut child) in self.nodes.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        self.end_all();
    }
}

fn ends_soon(child: &mut Child) -> bool {
    let start = Instant::now();
    while start.elapsed() < END_TIMEOUT {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        std::thread::sleep(POLL);
    }
    false
}
