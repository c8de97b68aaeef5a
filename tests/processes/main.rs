//! Whole groups as processes: killed, restored, looked into.

mod backups;
mod imports;
mod kills;
mod node;
mod outs;
mod restarts;
mod secrets;
