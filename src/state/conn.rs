//! Connections as the machines see them: numbers that the shell gives and never uses twice.

/// One connection of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);
