//! By which ways a job's files may come.

use serde::{Deserialize, Serialize};

/// By which ways a job's files may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Straight where there is a straight way, else through the server.
    #[default]
    Any,
    /// Through the server alone.
    Relay,
    /// Straight alone: where there is no straight way they wait.
    Direct,
}

impl Way {
    /// Whether what goes straight, or what doesn't, goes by one of them.
    pub(super) fn permits(self, straight: bool) -> bool {
        match self {
            Way::Any => true,
            Way::Relay => !straight,
            Way::Direct => straight,
        }
    }
}
