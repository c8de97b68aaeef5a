//! The shells: the only place that joins state, store and net. One event loop a role.

pub mod backup;
pub mod clock;
pub mod goodbye;
pub mod identity;
pub mod local;
pub mod member;
pub mod options;
pub mod run;
pub mod server;
