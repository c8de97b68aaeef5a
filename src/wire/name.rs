//! Names of devices.

use super::limits::NAME_BYTES_MAX;
use super::path::is_unfit_for_terminals;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use unicode_security::skeleton;

/// Why a text is no device's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a device's name has 1 to {NAME_BYTES_MAX} bytes, no control, direction-changing, invisible or blank characters but the space, no ':' and no '/', does not begin with '-', and does not begin or end with a space"
)]
pub struct BadName;

/// A name for who asks to be registered by one of which nothing can be seen.
const UNNAMED: &str = "device";

/// A device's name: safe to show, and never mistaken for a path. One that comes from a log may hold invisible
/// characters, or look like a command's option; new ones do not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceName(String);

impl DeviceName {
    /// Takes a name that a person chose.
    pub fn parse(text: &str) -> Result<DeviceName, BadName> {
        DeviceName::from_log(text).and_then(|name| if name.is_clear() { Ok(name) } else { Err(BadName) })
    }

    /// Takes a name that was signed or kept before.
    pub fn from_log(text: &str) -> Result<DeviceName, BadName> {
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

    /// Whether everything in it can be seen, and no command takes it for an option.
    pub fn is_clear(&self) -> bool {
        !self.0.starts_with('-') && !self.0.chars().any(is_unseen)
    }

    /// The name without what can't be seen, and without what makes it an option.
    pub fn cleared(&self) -> DeviceName {
        let seen: String = self.0.chars().filter(|c| !is_unseen(*c)).collect();
        match seen.trim_start_matches(['-', ' ']).trim_end() {
            "" => DeviceName(UNNAMED.to_owned()),
            name => DeviceName(name.to_owned()),
        }
    }

    /// The name by which a person finds a device, whatever its case.
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }

    /// What a name looks like (UTS #39, skeleton), read in any case and as it stands. People would mix up two names that
    /// have a look in common.
    pub fn looks(&self) -> BTreeSet<String> {
        let look = |text: &str| skeleton(text).collect::<String>().to_lowercase();
        BTreeSet::from([look(&self.0), look(&self.folded())])
    }

    /// The first of `self`, `self-2`, `self-3` … that is not `taken`.
    pub fn made_unique(&self, taken: impl Fn(&DeviceName) -> bool) -> DeviceName {
        let numbered = (2..).map(|n| self.with_suffix(&format!("-{n}")));
        let mut names = std::iter::once(self.clone()).chain(numbered);
        names.find(|name| !taken(name)).expect("there are more numbers than devices")
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
        DeviceName::from_log(&text)
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

/// Whether a character shows nothing: Unicode's Default_Ignorable_Code_Point, the blank Braille pattern, and white space
/// but the usual one.
fn is_unseen(c: char) -> bool {
    (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}')
        || matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}')
        || matches!(c, '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_unique() {
        let name = DeviceName::parse("Laptop").unwrap();
        let taken = ["Laptop", "Laptop-2"];
        assert_eq!(name.made_unique(|name| taken.contains(&name.as_str())).as_str(), "Laptop-3");
    }

    #[test]
    fn what_looks_alike_shares_a_look() {
        let alike = |one: &str, other: &str| {
            let looks = |text| DeviceName::from_log(text).unwrap().looks();
            !looks(one).is_disjoint(&looks(other))
        };
        for other in ["ALICE", "AIice", "al\u{456}ce", "\u{430}lice", "alice\u{ad}", "a\u{34f}lice", "alice\u{fe0f}"] {
            assert!(alike("alice", other), "{other:?}");
        }
        for other in ["alicia", "alice-2", "bob", "älice"] {
            assert!(!alike("alice", other), "{other:?}");
        }
    }

    #[test]
    fn unseen_characters_are_refused_when_chosen_and_read_from_a_log() {
        for unseen in ["\u{ad}", "\u{fe0f}", "\u{34f}", "\u{3164}", "\u{2800}", "\u{a0}", "\u{e0100}", "\u{115f}"] {
            let text = format!("al{unseen}ice");
            assert_eq!(DeviceName::parse(&text), Err(BadName), "{unseen:?}");
            let kept = DeviceName::try_from(text).unwrap();
            assert_eq!(kept.cleared().as_str(), "alice");
        }
        let cleared = |text: &str| DeviceName::from_log(text).unwrap().cleared();
        assert_eq!(cleared("\u{2800}").as_str(), "device");
        assert_eq!([cleared("- -all").as_str(), cleared("--").as_str()], ["all", "device"]);
        assert!(["alice", "Büro 2", "デスク", "laptop 💻"].iter().all(|name| DeviceName::parse(name).is_ok()));
    }

    #[test]
    fn a_suffix_never_makes_a_name_too_long() {
        let name = DeviceName::parse(&"ü".repeat(32)).unwrap();
        let second = name.made_unique(|other| *other == name);
        assert!(DeviceName::parse(second.as_str()).is_ok());
    }

    #[test]
    fn confusing_names_are_refused() {
        for bad in ["", " a", "-a", "--all", "a:b", "a/b", "a\nb", "\u{202e}a"] {
            assert_eq!(DeviceName::parse(bad), Err(BadName), "{bad:?}");
        }
    }
}
