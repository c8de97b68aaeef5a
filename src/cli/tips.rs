//! Commands of other programs: which one of ours was meant. A tip that is wrong is worse than none.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What people try, and what it is called here.
const MEANT: [(&str, &str); 16] = [
    ("list", "files"),
    ("ls", "files"),
    ("dir", "files"),
    ("search", "files"),
    ("share", "add"),
    ("unshare", "remove"),
    ("rm", "remove"),
    ("delete", "remove"),
    ("download", "get"),
    ("fetch", "get"),
    ("peers", "clients"),
    ("devices", "clients"),
    ("members", "clients"),
    ("kick", "disapprove"),
    ("accept", "approve"),
    ("jobs", "transfers"),
];
/// What ends something is proposed to nobody who may have meant something else.
const NEVER: [&str; 3] = ["stop", "leave", "disapprove"];

/// The error with a tip that fits, or none.
pub(super) fn better(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand).cloned() else { return error };
    let meant = MEANT.iter().find(|(theirs, _)| *theirs == word).map(|(_, ours)| vec![(*ours).to_owned()]);
    let tips = meant.unwrap_or_else(|| match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(tips)) => {
            tips.iter().filter(|tip| !NEVER.contains(&tip.as_str())).cloned().collect()
        }
        Some(_) | None => Vec::new(),
    });
    match tips.is_empty() {
        true => error.remove(ContextKind::SuggestedSubcommand),
        false => error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(tips)),
    };
    error
}

#[cfg(test)]
mod tests {
    use super::super::args::Cli;
    use super::*;
    use clap::{CommandFactory, Parser};

    fn told(word: &str) -> String {
        better(Cli::try_parse_from(["bailiwick", word]).expect_err("there is no such command")).to_string()
    }

    #[test]
    fn what_other_programs_call_it_is_understood_and_nobody_is_told_to_stop() {
        for (theirs, ours) in MEANT {
            assert!(Cli::command().get_subcommands().any(|command| command.get_name() == ours), "{ours}");
            assert!(told(theirs).contains(&format!("'{ours}'")), "{}", told(theirs));
        }
        for word in ["top", "stopp", "drop"] {
            assert!(!told(word).contains("'stop'"), "{}", told(word));
        }
        assert!(told("filse").contains("'files'"));
    }
}
