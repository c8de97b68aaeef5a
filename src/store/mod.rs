//! Disk: SQLite tables, part files, shares, hashing.
