//! What travels and what is signed: ids, messages, codec, seals, limits. Pure: no sockets, no files, no clock.

pub mod backup;
pub mod beacon;
pub mod chunk;
pub mod close;
pub mod codec;
pub mod envelope;
pub mod frame;
pub mod geometry;
pub mod ids;
pub mod invite;
pub mod limits;
pub mod log;
pub mod name;
pub mod path;
pub mod probe;
pub mod seal;
pub mod sign;
