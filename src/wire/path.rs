//! Names from the network are data: a path of the catalog is relative, normalised and harmless to show and to write.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes of a whole path, at most.
pub const PATH_BYTES_MAX: usize = 1024;
/// Bytes of one component, at most: what common file systems hold.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Components of a path, at most.
pub const PATH_DEPTH_MAX: usize = 64;

/// Why a text is no path of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Nothing, or an empty component.
    #[error("the path has an empty part")]
    Empty,
    /// Over a limit.
    #[error(
        "the path is longer than {PATH_BYTES_MAX} bytes, a part of it longer than {COMPONENT_BYTES_MAX}, or it is deeper than {PATH_DEPTH_MAX}"
    )]
    TooLong,
    /// `.` or `..`.
    #[error("the path has a part that is '.' or '..'")]
    Dots,
    /// A control or direction-changing character, or a separator of some system.
    #[error("the path holds a control character, a direction-changing character or a separator")]
    Character,
}

/// A relative path with `/` between its components, safe to show on a terminal and to open below a directory handle.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelPath(String);

impl RelPath {
    /// Takes a path from outside.
    pub fn parse(text: &str) -> Result<RelPath, BadPath> {
        if text.len() > PATH_BYTES_MAX || text.split('/').count() > PATH_DEPTH_MAX {
            return Err(BadPath::TooLong);
        }
        text.split('/').try_for_each(check_component)?;
        Ok(RelPath(text.to_owned()))
    }

    /// The path's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its components, outermost first.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The folders that it lies in, outermost first, and the path itself.
    pub fn above(&self) -> impl Iterator<Item = RelPath> {
        let ends = self.0.match_indices('/').map(|(at, _)| at).chain(std::iter::once(self.0.len()));
        ends.map(|end| RelPath(self.0[..end].to_owned()))
    }

    /// The last component.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// This path with one more component.
    pub fn join(&self, component: &str) -> Result<RelPath, BadPath> {
        RelPath::parse(&format!("{}/{component}", self.0))
    }

    /// Whether this path is `other` or lies below it.
    pub fn is_within(&self, other: &RelPath) -> bool {
        self.0.strip_prefix(&other.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl TryFrom<String> for RelPath {
    type Error = BadPath;
    fn try_from(text: String) -> Result<RelPath, BadPath> {
        RelPath::parse(&text)
    }
}

impl From<RelPath> for String {
    fn from(path: RelPath) -> String {
        path.0
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_component(component: &str) -> Result<(), BadPath> {
    match component {
        "" => Err(BadPath::Empty),
        "." | ".." => Err(BadPath::Dots),
        _ if component.len() > COMPONENT_BYTES_MAX => Err(BadPath::TooLong),
        _ if component.chars().any(|c| c == '\\' || is_unfit_for_terminals(c)) => Err(BadPath::Character),
        _ => Ok(()),
    }
}

/// Whether a character could change what a terminal shows beside itself: controls (Unicode Cc), line and paragraph
/// separators, direction controls (UAX #9) and invisible format characters.
pub fn is_unfit_for_terminals(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relative_normalised_harmless_paths_exist() {
        for good in ["a", "a/b", ".hidden", "..a", "a b/ü", "con"] {
            assert!(RelPath::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["", "/", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\0b", "a\nb", "a\\b", "\u{202e}a", "\u{1b}[1m"]
        {
            assert!(RelPath::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(RelPath::parse(&"a/".repeat(70)), Err(BadPath::TooLong));
        assert_eq!(RelPath::parse(&"a".repeat(256)), Err(BadPath::TooLong));
    }

    #[test]
    fn within_goes_by_components() {
        let of = |text| RelPath::parse(text).unwrap();
        assert!(of("a/b").is_within(&of("a")));
        assert!(of("a").is_within(&of("a")));
        assert!(!of("ab").is_within(&of("a")));
    }
}
