//! How a command ends that has not simply done all.

use crate::node::local::{ErrorCode, LocalError};

/// Exit code: everything was done.
pub(super) const DONE: u8 = 0;
/// Exit code: something failed.
pub(super) const FAILED: u8 = 1;
/// Exit code: the command makes no sense.
pub(super) const USAGE: u8 = 2;
/// Exit code: no node runs for the state directory.
pub(super) const NOT_RUNNING: u8 = 3;
/// Exit code: refused by the master or the owner, or expelled.
pub(super) const REFUSED: u8 = 4;
/// Exit code: can't be done now, and nobody wanted to wait.
pub(super) const NOT_NOW: u8 = 5;
/// Exit code: done in part.
pub(super) const IN_PART: u8 = 6;
/// Exit code: interrupted by the person (128 and SIGINT).
pub(super) const INTERRUPTED: u8 = 130;

/// An exit code, and the error to show with it, if there is one to show.
#[derive(Debug)]
pub(super) struct End {
    /// The process's exit code.
    pub(super) code: u8,
    /// What to show.
    pub(super) error: Option<LocalError>,
}

/// What a command comes to; `Ok` is exit code 0.
pub(super) type Outcome<T = ()> = Result<T, End>;

impl End {
    /// Nobody reads any more.
    pub(super) fn quietly() -> End {
        End { code: DONE, error: None }
    }

    /// An error with an exit code of its own.
    pub(super) fn with(code: u8, error: LocalError) -> End {
        End { code, error: Some(error) }
    }
}

impl From<LocalError> for End {
    fn from(error: LocalError) -> End {
        End { code: exit_code(error.code), error: Some(error) }
    }
}

/// The exit code that follows from an error's kind.
pub(super) fn exit_code(code: ErrorCode) -> u8 {
    match code {
        ErrorCode::Failed | ErrorCode::NotFound => FAILED,
        ErrorCode::Usage | ErrorCode::Ambiguous | ErrorCode::Unconfirmed | ErrorCode::WrongRole => USAGE,
        ErrorCode::NotRunning => NOT_RUNNING,
        ErrorCode::Refused => REFUSED,
        ErrorCode::NotNow => NOT_NOW,
    }
}
