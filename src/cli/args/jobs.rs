//! What `pause`, `resume` and `cancel` take.

use clap::Args;

/// `pause`, `resume`. That something is named is checked where the error can say what could be.
#[derive(Debug, Args)]
pub(in crate::cli) struct JobsArgs {
    /// Jobs by their numbers, and uploads by their ids (up-…), as `transfers` shows them
    #[arg(value_name = "JOB")]
    pub(in crate::cli) ids: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "ids")]
    pub(in crate::cli) all: bool,
}

/// `cancel`. An upload is another device's job.
#[derive(Debug, Args)]
pub(in crate::cli) struct CancelArgs {
    /// Jobs by their numbers, as `transfers` shows them; an upload can be paused
    #[arg(value_name = "JOB")]
    pub(in crate::cli) ids: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "ids")]
    pub(in crate::cli) all: bool,
}
