//! Names that a target can't take as they are: taken ones get a number, unholdable ones are made to fit. Always the same
//! way, so that who goes on later finds what was begun.

use crate::wire::ids::{Hash, hex};
use crate::wire::path::{COMPONENT_BYTES_MAX, RelPath};

/// Bytes of a shortened part of a path: less than any file system in use allows.
const FITTED_BYTES: usize = 120;
/// Digits of the hash that keeps shortened names apart.
const HASH_DIGITS: usize = 8;

/// `name (2).ext` for `name.ext`.
pub fn numbered(dest: &RelPath, number: u32) -> RelPath {
    let name = dest.name();
    let (stem, extension) = match name.rfind('.') {
        Some(at) if at > 0 => name.split_at(at),
        _ => (name, ""),
    };
    let tail = format!(" ({number}){extension}");
    let stem = cut(stem, COMPONENT_BYTES_MAX.saturating_sub(tail.len()));
    with_name(dest, &format!("{stem}{tail}"))
}

/// The name to try next where the target system can't hold `dest`, for a file that should be called `wish`: first
/// without the characters that some systems reserve, then shortened as well. None if that was tried.
pub fn fitted(wish: &RelPath, dest: &RelPath) -> Option<RelPath> {
    let plain = map_parts(wish, plain);
    let short = map_parts(&plain, short);
    let steps = [wish.clone(), plain, short];
    let at = steps.iter().rposition(|step| step == dest)?;
    steps.into_iter().nth(at + 1)
}

fn plain(part: &str) -> String {
    let reserved = |c: char| matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '\\');
    let replaced: String = part.chars().map(|c| if reserved(c) { '_' } else { c }).collect();
    match replaced.ends_with(['.', ' ']) {
        true => format!("{}_", &replaced[..replaced.len() - 1]),
        false => replaced,
    }
}

fn short(part: &str) -> String {
    if part.len() <= FITTED_BYTES {
        return part.to_owned();
    }
    let extension = part.rfind('.').filter(|at| *at > 0 && part.len() - at <= 16).map_or("", |at| &part[at..]);
    let tail = format!("~{}{extension}", &hex(&Hash::of(part.as_bytes()).0)[..HASH_DIGITS]);
    format!("{}{tail}", cut(part, FITTED_BYTES - tail.len()))
}

fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn map_parts(path: &RelPath, change: impl Fn(&str) -> String) -> RelPath {
    let parts: Vec<String> = path.as_str().split('/').map(change).collect();
    RelPath::parse(&parts.join("/")).unwrap_or_else(|_| path.clone())
}

fn with_name(path: &RelPath, name: &str) -> RelPath {
    let whole = match path.as_str().rsplit_once('/') {
        Some((above, _)) => format!("{above}/{name}"),
        None => name.to_owned(),
    };
    RelPath::parse(&whole).unwrap_or_else(|_| path.clone())
}

#[cfg(test)]
mod tests {
    use super::super::tests::rel;
    use super::*;

    #[test]
    fn a_number_stands_before_the_extension() {
        for (name, second) in [
            ("a/film.mp4", "a/film (2).mp4"),
            ("notes", "notes (2)"),
            (".bashrc", ".bashrc (2)"),
            ("x.tar.gz", "x.tar (2).gz"),
        ] {
            assert_eq!(numbered(&rel(name), 2).as_str(), second);
        }
        let long = numbered(&rel(&format!("{}.txt", "ä".repeat(125))), 12);
        assert!(long.name().len() <= 255 && long.name().ends_with("ä (12).txt"), "{long}");
    }

    #[test]
    fn what_a_system_cannot_hold_is_made_to_fit_step_by_step() {
        let wish = rel("what?/a:b*.");
        let first = fitted(&wish, &wish).unwrap();
        assert_eq!(first.as_str(), "what_/a_b__");
        assert_eq!(fitted(&wish, &first), None, "nothing is left to try");
        let wish = rel(&format!("{}?.jpeg", "x".repeat(200)));
        let first = fitted(&wish, &wish).unwrap();
        let second = fitted(&wish, &first).unwrap();
        assert!(second.name().len() <= 120 && second.name().ends_with(".jpeg"), "{second}");
        assert_eq!(fitted(&wish, &second), None);
        assert_eq!(fitted(&wish, &wish), Some(first), "the same each time");
        let other = rel(&format!("{}!.jpeg", "x".repeat(200)));
        assert_ne!(fitted(&other, &other), Some(second), "long names stay apart");
        assert_eq!(fitted(&rel("plain"), &rel("plain")), None);
    }
}
