//! The shells: the only place that joins state, store and net. One event loop a role.

pub mod local;
