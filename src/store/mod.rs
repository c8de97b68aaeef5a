//! Disk: SQLite tables, part files, shares, hashing.

pub mod backup;
pub mod copies;
pub mod download;
pub mod exclude;
pub mod member;
pub mod read;
pub mod server_db;
pub mod statedir;
pub mod tree;
pub mod walk;
