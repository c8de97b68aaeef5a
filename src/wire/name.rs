//! Names of devices.

use super::limits::NAME_BYTES_MAX;
use super::path::is_unfit_for_terminals;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is no device's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a device's name has 1 to {NAME_BYTES_MAX} bytes, no control or direction-changing characters, no ':' and no '/', and does not begin or end with a space"
)]
pub struct BadName;

/// A device's name: safe to show, and never mistaken for a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceName(String);

impl DeviceName {
    /// Takes a name from outside.
    pub fn parse(text: &str) -> Result<DeviceName, BadName> {
        let fits = !text.is_empty()
            && text.len() <= NAME_BYTES_MAX
            && text.trim() == text
            && !text.chars().any(|c| c == ':' || c == '/' || is_unfit_for_terminals(c));
        if fits { Ok(DeviceName(text.to_owned())) } else { Err(BadName) }
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What two names that people would mix up have in common.
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }

    /// The first of `self`, `self-2`, `self-3` … that `taken` does not know (in folded form).
    pub fn made_unique(&self, taken: impl Fn(&str) -> bool) -> DeviceName {
        let numbered = (2..).map(|n| self.with_suffix(&format!("-{n}")));
        std::iter::once(self.clone())
            .chain(numbered)
            .find(|name| !taken(&name.folded()))
            .expect("there are more numbers than devices")
    }

    fn with_suffix(&self, suffix: &str) -> DeviceName {
        let mut end = self.0.len().min(NAME_BYTES_MAX - suffix.len());
        while !self.0.is_char_boundary(end) {
            end -= 1;
        }
        DeviceName(format!("{}{suffix}", self.0[..end].trim_end()))
    }
}

impl TryFrom<String> for DeviceName {
    type Error = BadName;
    fn try_from(text: String) -> Result<DeviceName, BadName> {
        DeviceName::parse(&text)
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> String {
        name.0
    }
}

impl fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_unique_ignoring_case() {
        let name = DeviceName::parse("Laptop").unwrap();
        let taken = ["laptop", "laptop-2"];
        assert_eq!(name.made_unique(|folded| taken.contains(&folded)).as_str(), "Laptop-3");
    }

    #[test]
    fn a_suffix_never_makes_a_name_too_long() {
        let name = DeviceName::parse(&"ü".repeat(32)).unwrap();
        let second = name.made_unique(|folded| folded == name.folded());
        assert!(DeviceName::parse(second.as_str()).is_ok());
    }

    #[test]
    fn confusing_names_are_refused() {
        for bad in ["", " a", "a:b", "a/b", "a\nb", "\u{202e}a"] {
            assert_eq!(DeviceName::parse(bad), Err(BadName), "{bad:?}");
        }
    }
}
