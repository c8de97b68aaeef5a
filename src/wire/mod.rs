//! What travels and what is signed: ids, messages, codec, seals, limits. Pure: no sockets, no files, no clock.

pub mod close;
pub mod ids;
pub mod path;
pub mod sign;
