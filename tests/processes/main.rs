//! Whole groups as processes: killed, restored, looked into.

mod backups;
mod disks;
mod imports;
mod kills;
mod moves;
mod node;
mod outs;
mod restarts;
mod secrets;
