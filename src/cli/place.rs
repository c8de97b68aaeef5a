//! Where a node's state lies, and words that may come from a file or from stdin.

use super::args::Global;
use super::end::Outcome;
use crate::api::client::Client;
use crate::node::local::{ErrorCode, LocalError};
use crate::wire::name::DeviceName;
use crate::wire::path::is_unfit_for_terminals;
use etcetera::BaseStrategy;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The variable that names the state directory.
pub(super) const STATE_VARIABLE: &str = "BAILIWICK_STATE";
/// Bytes of a file or stdin that holds an invite or a ticket, at most: some hundred characters are expected.
const WORD_BYTES_MAX: u64 = 64 * 1024;

/// The state directory that the person means.
pub(super) fn state_dir(global: &Global) -> Result<PathBuf, LocalError> {
    match (&global.state, &global.profile) {
        (Some(_), Some(_)) => Err(usage("--state and --profile both name a state directory", "give one of them")),
        (Some(dir), None) => absolute(dir),
        (None, Some(profile)) => of_profile(profile),
        (None, None) => match std::env::var_os(STATE_VARIABLE).filter(|dir| !dir.is_empty()) {
            Some(dir) => absolute(Path::new(&dir)),
            None => of_profile("default"),
        },
    }
}

fn of_profile(profile: &str) -> Result<PathBuf, LocalError> {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    if profile.is_empty() || !profile.chars().all(is_plain) {
        return Err(usage("a profile's name has letters, digits, '-' and '_' only", "choose another name"));
    }
    let platform = etcetera::base_strategy::choose_native_strategy()
        .map_err(|_| usage("this user has no home directory", "name a state directory with --state"))?;
    Ok(platform.data_dir().join("bailiwick").join(profile))
}

/// The running node that the person means.
pub(super) fn node(global: &Global) -> Result<Client, LocalError> {
    Client::open(&state_dir(global)?)
}

/// The path as seen from anywhere. Nothing need be there.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, LocalError> {
    std::path::absolute(path).map_err(|error| usage(format!("{}: {error}", path.display()), "give another path"))
}

/// The path of a folder that is there, or is to be.
pub(super) fn folder(path: &Path) -> Result<PathBuf, LocalError> {
    let path = absolute(path)?;
    match path.exists() && !path.is_dir() {
        true => Err(usage(format!("{} is not a folder", path.display()), "name a folder, or a path that is free")),
        false => Ok(path),
    }
}

/// The paths of things that are there, without links in them, so that each has one name.
pub(super) fn existing(paths: &[PathBuf]) -> Result<Vec<PathBuf>, LocalError> {
    let canonical = |path: &PathBuf| {
        let error = |error| {
            let hint = "give the path of a file or folder that is there and that this user may read";
            LocalError::new(ErrorCode::NotFound, format!("{}: {error}", path.display()), hint)
        };
        let path = path.canonicalize().map_err(error)?;
        match path.file_name() {
            Some(_) => Ok(path),
            None => Err(usage(
                format!("{} has no name under which it could be shared", path.display()),
                "name a folder below it, or several",
            )),
        }
    };
    paths.iter().map(canonical).collect()
}

/// What `@FILE` or stdin (`-`) hold; `None` for a word that stands there itself.
pub(super) fn contents(text: &str) -> Outcome<Option<String>> {
    let read = match text.strip_prefix('@') {
        Some(path) => std::fs::File::open(path).and_then(read_text),
        None if text == "-" => read_text(std::io::stdin()),
        None => return Ok(None),
    };
    let source = source(text);
    let found =
        read.map_err(|error| usage(format!("{source}: {error}"), "give the text itself, @FILE, or - for stdin"))?;
    match found.trim().is_empty() {
        true => Err(usage(format!("{source} is empty"), "copy the text again, whole").into()),
        false => Ok(Some(found)),
    }
}

/// How `@FILE` or `-` is called.
pub(super) fn source(text: &str) -> &str {
    if text == "-" { "stdin" } else { text.trim_start_matches('@') }
}

fn read_text(source: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    source.take(WORD_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// This machine's name, as far as it can be a device's.
pub(super) fn machine_name() -> DeviceName {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    let first = name.split('.').next().unwrap_or_default();
    let fit: String =
        first.chars().filter(|c| !matches!(c, ':' | '/') && !is_unfit_for_terminals(*c)).take(16).collect();
    let name = DeviceName::from_log(fit.trim()).or_else(|_| DeviceName::from_log("device"));
    name.expect("'device' is a device's name").cleared()
}

/// An error of usage.
pub(super) fn usage(error: impl Into<String>, hint: impl Into<String>) -> LocalError {
    LocalError::new(ErrorCode::Usage, error, hint)
}
