//! Decisions, as pure machines: no clock, no randomness, no sockets, no files. Time and random bytes are arguments.

pub mod authority;
pub mod cache;
pub mod chain;
pub mod conn;
pub mod downloads;
pub mod guard;
pub mod link;
pub mod network;
pub mod paths;
pub mod random;
pub mod replica;
pub mod requests;
pub mod roster;
pub mod router;
pub mod sight;
pub mod time;
pub mod uploads;
