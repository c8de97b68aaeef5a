//! Decisions, as pure machines: no clock, no randomness, no sockets, no files. Time and random bytes are arguments.

pub mod cache;
pub mod conn;
pub mod router;
pub mod time;
