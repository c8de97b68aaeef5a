//! Invites and tickets, as they were typed, or as they stand in a file among other words: `bailiwick invite > FILE`
//! writes a sentence, and mail and chats break long words.

use super::end::Outcome;
use super::place::{self, usage};
use crate::wire::invite::{BadWord, INVITE_TAG, Invite, TICKET_TAG, Ticket};

/// Pieces into which a word may be broken, at most: a line of a mail has 70 characters or so, a word some hundred.
const PIECES_MAX: usize = 64;

/// A kind of word.
pub(super) struct Kind {
    tag: &'static str,
    other: &'static str,
    name: &'static str,
    check: fn(&str) -> Result<(), BadWord>,
}

/// An invite for a client.
pub(super) const INVITE: Kind =
    Kind { tag: INVITE_TAG, other: TICKET_TAG, name: "invite", check: |word| Invite::parse(word).map(|_| ()) };

/// A server's ticket.
pub(super) const TICKET: Kind =
    Kind { tag: TICKET_TAG, other: INVITE_TAG, name: "ticket", check: |word| Ticket::parse(word).map(|_| ()) };

/// The word that was typed, or the one that `@FILE` or stdin (`-`) hold.
pub(super) fn read(typed: &str, kind: &Kind) -> Outcome<String> {
    match place::contents(typed)? {
        None => Ok(typed.to_owned()),
        Some(text) => found(&text, place::source(typed), kind),
    }
}

fn found(text: &str, source: &str, kind: &Kind) -> Outcome<String> {
    // Quotes, commas and what mail puts at the end of a line stand in no word.
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut found = all(&words, kind.tag, kind);
    // What is only of the other kind is best told as that.
    if found.is_empty() {
        found = all(&words, kind.other, kind).into_iter().take(1).collect();
    }
    match found.as_slice() {
        [word] => Ok(word.clone()),
        [] => {
            let error = format!("{source} holds no {}: nothing in it begins with '{}'", kind.name, kind.tag);
            Err(usage(error, "copy the whole text that was printed").into())
        }
        several => {
            let error = format!("{source} holds {} different {}s", several.len(), kind.name);
            Err(usage(error, "leave one in it, the newest").into())
        }
    }
}

/// All words that begin with this tag, in order and each once.
fn all(words: &[&str], tag: &str, kind: &Kind) -> Vec<String> {
    let begins = |word: &str| word.get(..tag.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(tag));
    let starts = words.iter().enumerate().filter(|(_, word)| begins(word)).map(|(at, _)| at);
    let mut found: Vec<String> = starts.map(|at| whole(&words[at..], kind)).collect();
    found.sort();
    found.dedup();
    // Beside a good one, what only begins like one is prose.
    let is_good = |word: &String| (kind.check)(word).is_ok();
    if found.iter().any(is_good) { found.into_iter().filter(is_good).collect() } else { found }
}

/// The word that begins here, with as many of its pieces as make it whole; the first alone if none do.
fn whole(pieces: &[&str], kind: &Kind) -> String {
    let pieces = &pieces[..pieces.len().min(PIECES_MAX)];
    let mut word = String::new();
    for piece in pieces {
        word.push_str(&piece.to_ascii_lowercase());
        if (kind.check)(&word).is_ok() {
            return word;
        }
    }
    pieces.first().map(|first| first.to_ascii_lowercase()).unwrap_or_default()
}
