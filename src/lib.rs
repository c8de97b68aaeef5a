//! bailiwick: a private file-sharing group under one person's authority.

pub mod api;
pub mod cli;
pub mod net;
pub mod node;
pub mod state;
pub mod store;
pub mod wire;
