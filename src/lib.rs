//! bailiwick: a private file-sharing group under one person's authority.

pub mod net;
pub mod node;
pub mod state;
pub mod store;
pub mod wire;
