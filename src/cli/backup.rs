//! `export` and `import`. They work on the state directory itself, beside a master that runs or without one.

use super::args::{ExportArgs, Global, ImportArgs};
use super::end::{End, Outcome};
use super::output::{Output, can_ask};
use super::place::{self, usage};
use super::units;
use crate::node::backup::{self, Sealed, Summary};
use crate::node::local::{ErrorCode, LocalError, rfc3339};
use crate::wire::backup::{Cost, PASSPHRASE_BYTES_MAX, PASSPHRASE_CHARS_MIN};
use std::fs::File;
use std::io::{self, Read};
use zeroize::Zeroizing;

type Passphrase = Zeroizing<String>;

/// `export`.
pub(super) fn export(global: &Global, args: &ExportArgs, output: Output) -> Outcome {
    let state_dir = place::state_dir(global)?;
    let file = place::absolute(&args.file)?;
    backup::check_target(&file, args.force)?;
    let passphrase = match &args.passphrase {
        Some(from) => given(from)?,
        None => chosen()?,
    };
    if passphrase.chars().count() < PASSPHRASE_CHARS_MIN {
        let error = format!("a passphrase has at least {PASSPHRASE_CHARS_MIN} characters");
        return Err(usage(error, "it is all that protects the group's keys: take some words").into());
    }
    let mut salt = [0; 16];
    aws_lc_rs::rand::fill(&mut salt)
        .map_err(|_| LocalError::new(ErrorCode::Failed, "the system gives no random bytes", "try again"))?;
    let made = backup::export(&state_dir, &file, passphrase.as_bytes(), Cost::default(), salt, args.force)?;
    if output.json {
        return output.value(&row("exported", &made, &file));
    }
    output.line(&format!(
        "exported the group at {} to {} ({})",
        made.revision,
        file.display(),
        units::size(made.bytes)
    ))?;
    output.line("Keep file and passphrase apart, and off this machine. Without the passphrase the file is of no use.")
}

/// `import`.
pub(super) fn import(global: &Global, args: &ImportArgs, output: Output) -> Outcome {
    let state_dir = place::state_dir(global)?;
    let file = place::absolute(&args.file)?;
    let sealed = Sealed::open(&file)?;
    let passphrase = match &args.passphrase {
        Some(from) => given(from)?,
        None => asked("Passphrase: ")?,
    };
    let made = sealed.import(&state_dir, passphrase.as_bytes())?;
    if output.json {
        return output.value(&row("imported", &made, &state_dir));
    }
    let made_at = rfc3339(made.made_ms as i64);
    output.line(&format!(
        "imported the group as it was at {} ({made_at}) into {}",
        made.revision,
        state_dir.display()
    ))?;
    output.line(
        "Start it with `bailiwick master`, and never the old copy again. It listens to the server and the devices",
    )?;
    output.line("for a minute; then the group goes on, with the members and files that came after the backup.")?;
    output.line("All invites are closed.")
}

fn row(event: &str, made: &Summary, place: &std::path::Path) -> serde_json::Value {
    serde_json::json!({
        "event": event,
        "path": place,
        "group": made.group.to_string(),
        "revision": made.revision,
        "made": rfc3339(made.made_ms as i64),
        "bytes": made.bytes,
        "server": made.with_server,
    })
}

/// `@FILE`, or `-` for stdin: the list of processes shows what stands on a command line.
fn given(from: &str) -> Outcome<Passphrase> {
    let read = match from.strip_prefix('@') {
        Some(path) => File::open(path).and_then(read_line),
        None if from == "-" => read_line(io::stdin()),
        None => {
            let error = "a passphrase on the command line could be read by everybody on this machine";
            return Err(usage(error, "give --passphrase @FILE, or - for stdin, or leave it out and be asked").into());
        }
    };
    read.map_err(|error| usage(format!("{from}: {error}"), "give --passphrase @FILE, or - for stdin").into())
}

/// The first line, without its end.
fn read_line(from: impl Read) -> io::Result<Passphrase> {
    let mut text = Zeroizing::new(String::with_capacity(PASSPHRASE_BYTES_MAX));
    from.take(PASSPHRASE_BYTES_MAX as u64).read_to_string(&mut text)?;
    let line = text.lines().next().unwrap_or_default();
    Ok(Zeroizing::new(line.to_owned()))
}

fn chosen() -> Outcome<Passphrase> {
    let first = asked("Passphrase for the backup: ")?;
    if asked("The same again: ")? == first {
        Ok(first)
    } else {
        Err(usage("the two passphrases differ", "try again").into())
    }
}

fn asked(question: &str) -> Outcome<Passphrase> {
    if !can_ask() {
        let error = "there is no terminal to ask for the passphrase";
        return Err(usage(error, "give --passphrase @FILE, or - for stdin").into());
    }
    rpassword::prompt_password(question).map(Zeroizing::new).map_err(End::from)
}
