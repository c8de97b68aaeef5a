//! What `rename`, `leave` and `policy` take.

use clap::Args;

/// `rename`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RenameArgs {
    /// The new name; at the master with the device before it: its name, id, or the beginning of its id
    #[arg(value_names = ["ID", "NAME"], num_args = 1..=2, required = true)]
    pub(in crate::cli) words: Vec<String>,
    /// Exit with 5 instead of waiting for the master
    #[arg(long)]
    pub(in crate::cli) no_wait: bool,
}

/// `leave`.
#[derive(Debug, Args)]
pub(in crate::cli) struct LeaveArgs {
    /// Erase the keys at once: the master may never hear that the device has left
    #[arg(long)]
    pub(in crate::cli) now: bool,
    /// Don't ask
    #[arg(long)]
    pub(in crate::cli) yes: bool,
    /// Exit with 5 instead of waiting for the master; the wish stays
    #[arg(long, conflicts_with = "now")]
    pub(in crate::cli) no_wait: bool,
}

/// `policy`.
#[derive(Debug, Args)]
pub(in crate::cli) struct PolicyArgs {
    /// The rule: master-away
    #[arg(value_name = "KEY")]
    pub(in crate::cli) key: Option<String>,
    /// What is to hold: wait=3m, or continue=8h
    #[arg(value_name = "VALUE")]
    pub(in crate::cli) value: Option<String>,
}
