//! Disk: SQLite tables, part files, shares, hashing.

pub mod tree;
