//! Commands that are named to a person, for the node that the person means: without the `--profile` or `--state` that
//! was given, they would go to another one.

use super::args::Global;
use std::borrow::Cow;
use std::sync::OnceLock;

/// What was given on the command line, with a space before it; empty if nothing was.
static GIVEN: OnceLock<String> = OnceLock::new();

/// Keeps what was given. `BAILIWICK_STATE` holds for the next command by itself.
pub(super) fn remember(global: &Global) {
    let _ = GIVEN.set(flags(global));
}

fn flags(global: &Global) -> String {
    match (&global.profile, &global.state) {
        (Some(profile), _) => format!(" --profile {}", quoted(profile)),
        (None, Some(dir)) => format!(" --state {}", quoted(&dir.display().to_string())),
        (None, None) => String::new(),
    }
}

/// A word that a shell reads as it is.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./+,:@%=".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// The text, in which each quoted command of ours that is meant for this node says so.
pub(super) fn named(text: &str) -> Cow<'_, str> {
    GIVEN.get().map_or(Cow::Borrowed(text), |given| with(text, given))
}

/// A command for this node, to be typed as it stands.
pub(super) fn command(words: &str) -> String {
    format!("bailiwick {words}{}", GIVEN.get().map_or("", String::as_str))
}

fn with<'a>(text: &'a str, given: &str) -> Cow<'a, str> {
    if given.is_empty() || !text.contains("bailiwick ") {
        return Cow::Borrowed(text);
    }
    let mut told = String::with_capacity(text.len() + given.len());
    let mut rest = text;
    while let Some((before, command, quote)) = next(rest) {
        told.push_str(before);
        told.push_str(command);
        if is_here(before, command) {
            told.push_str(given);
        }
        told.push(quote);
        rest = &rest[before.len() + command.len() + quote.len_utf8()..];
    }
    told.push_str(rest);
    Cow::Owned(told)
}

/// What stands before the next quoted command (with the quote), the command, and the quote that ends it.
fn next(text: &str) -> Option<(&str, &str, char)> {
    let begins = |quote: char| text.find(&format!("{quote}bailiwick ")).map(|at| (at + 1, quote));
    let (at, quote) = ['`', '\''].into_iter().filter_map(begins).min()?;
    let length = text[at..].find(quote)?;
    Some((&text[..at], &text[at..at + length], quote))
}

/// What a sentence says of the master's person, or of a server, is to be done there. A command that wrote something
/// is not to be run at all.
fn is_here(before: &str, command: &str) -> bool {
    let clause = before.rsplit_once(';').map_or(before, |(_, clause)| clause);
    let is_elsewhere = clause.contains("master") || clause.contains("server");
    let names_one = command.contains("--state") || command.contains("--profile");
    !is_elsewhere && !names_one && command != "bailiwick export"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_for_this_node_name_it_and_those_for_others_do_not() {
        let cases = [
            ("see `bailiwick status`, or not", "see `bailiwick status --profile work`, or not"),
            (
                "'bailiwick get a' and 'bailiwick stop'",
                "'bailiwick get a --profile work' and 'bailiwick stop --profile work'",
            ),
            (
                "the master's person says 'bailiwick approve'; 'bailiwick wait approved' waits",
                "the master's person says 'bailiwick approve'; 'bailiwick wait approved --profile work' waits",
            ),
            ("give the file that 'bailiwick export' wrote", "give the file that 'bailiwick export' wrote"),
            ("bailiwick reads it's file", "bailiwick reads it's file"),
            ("cut off: `bailiwick st", "cut off: `bailiwick st"),
        ];
        for (text, told) in cases {
            assert_eq!(with(text, " --profile work"), told);
            assert_eq!(with(text, ""), text);
        }
    }

    #[test]
    fn what_a_shell_would_take_apart_is_quoted() {
        assert_eq!(quoted("/srv/a-b_c.d"), "/srv/a-b_c.d");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted("~/x"), "'~/x'");
    }
}
