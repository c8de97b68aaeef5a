//! What is left out of a share: names that systems leave everywhere, and what a person excludes.
//!
//! A pattern without `/` is compared with the name of each file and folder; one with `/` with the path below the share.
//! `*` and `?` stand for parts of a name, `**` for any number of folders. Who excludes a folder excludes what is in it.

use crate::wire::path::RelPath;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Names that nobody means to share: notes and bins that systems keep in every folder or on every disk.
const NEVER_SHARED: [&str; 12] = [
    ".DS_Store",
    ".Spotlight-V100",
    ".TemporaryItems",
    ".Trashes",
    ".Trash-*",
    ".fseventsd",
    "Thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
];

/// Patterns of one share, at most.
pub const PATTERNS_MAX: usize = 256;

/// What is left out of a share.
#[derive(Debug, Clone)]
pub struct Exclusions(GlobSet);

/// A pattern that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// What is wrong with it.
    #[error("the pattern '{0}' can't be understood: {1}")]
    Malformed(String, String),
    /// Too many.
    #[error("a share can have {PATTERNS_MAX} patterns at most")]
    TooMany,
}

impl Exclusions {
    /// What is never shared, and what these patterns say.
    pub fn parse(patterns: &[String]) -> Result<Exclusions, BadPattern> {
        if patterns.len() > PATTERNS_MAX {
            return Err(BadPattern::TooMany);
        }
        let mut set = GlobSetBuilder::new();
        let malformed =
            |pattern: &str, error: &globset::Error| BadPattern::Malformed(pattern.to_owned(), error.kind().to_string());
        let system = NEVER_SHARED.iter().map(|name| (*name, true));
        for (pattern, any_case) in system.chain(patterns.iter().map(|pattern| (pattern.as_str(), false))) {
            let inner = pattern.trim_end_matches('/');
            let glob = match inner.contains('/') {
                true => inner.trim_start_matches('/').to_owned(),
                false => format!("**/{inner}"),
            };
            let built = GlobBuilder::new(&glob).literal_separator(true).case_insensitive(any_case).build();
            set.add(built.map_err(|error| malformed(pattern, &error))?);
        }
        set.build().map(Exclusions).map_err(|error| malformed("", &error))
    }

    /// Whether this path, which begins with the share's name, is left out by itself.
    pub fn excludes_this(&self, rel: &RelPath) -> bool {
        below_share(rel.as_str()).is_some_and(|path| self.0.is_match(path))
    }

    /// Whether this path, or a folder that it lies in, is left out.
    pub fn excludes(&self, rel: &RelPath) -> bool {
        let Some(path) = below_share(rel.as_str()) else { return false };
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        folders.chain(std::iter::once(path)).any(|path| self.0.is_match(path))
    }
}

impl Default for Exclusions {
    /// What is never shared.
    fn default() -> Exclusions {
        Exclusions::parse(&[]).unwrap_or_else(|_| Exclusions(GlobSet::empty()))
    }
}

fn below_share(path: &str) -> Option<&str> {
    path.split_once('/').map(|(_, below)| below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(patterns: &[&str], path: &str) -> bool {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        Exclusions::parse(&patterns).unwrap().excludes(&RelPath::parse(path).unwrap())
    }

    #[test]
    fn a_name_is_compared_everywhere_and_a_path_from_the_share_on() {
        assert!(excludes(&["*.tmp"], "s/a.tmp") && excludes(&["*.tmp"], "s/x/y/a.tmp"));
        assert!(!excludes(&["*.tmp"], "s/a.tmp.txt") && !excludes(&["*.tmp"], "a.tmp"));
        assert!(excludes(&["/build"], "s/build/x/y") && !excludes(&["/build"], "s/x/build/y"));
        assert!(excludes(&["x/*/y"], "s/x/1/y/z") && !excludes(&["x/*/y"], "s/x/1/2/y"));
        assert!(excludes(&["x/**/y"], "s/x/1/2/y") && excludes(&["node_modules/"], "s/a/node_modules/b"));
    }

    #[test]
    fn what_systems_leave_everywhere_is_never_shared() {
        assert!(excludes(&[], "s/x/.ds_store") && excludes(&[], "s/THUMBS.DB") && excludes(&[], "s/.Trash-1000/x"));
        assert!(!excludes(&[], "s/desktop.ini.txt") && !excludes(&[], "Thumbs.db"), "the share itself is a wish");
    }

    #[test]
    fn a_pattern_that_makes_no_sense_is_named() {
        assert!(Exclusions::parse(&["[a".to_owned()]).unwrap_err().to_string().contains("'[a'"));
    }
}
