//! A server: introduces the devices of its groups and relays between them. Can run alone, or in a master's process.

pub mod core;
