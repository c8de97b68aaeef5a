//! A member of a group: a client, or the master, which is a member that also holds the pen.
//!
//! [`MemberCore`] decides and persists, on a thread of its own; the shell around it dials, sends, reads and writes.

mod activity;
mod ask;
mod catch_up;
mod commands;
mod core;
mod dial;
mod dispatch;
mod doctor;
mod fetch;
mod find;
mod follow;
mod fork;
mod frames;
mod import;
pub mod io;
mod jobs;
mod moving;
mod nearby;
mod opening;
mod pen;
mod plane;
mod policy;
mod prepare;
mod remove;
mod rows;
mod scan;
mod serve;
mod session;
mod share;
mod shell;
mod straight;
mod uploading;
mod wishes;

pub use self::core::{Cx, Group, MemberConfig, MemberCore, Name, Start};
pub use opening::no_group;
pub use policy::BootId;
pub use scan::ScanConfig;
pub use shell::{Ending, Member, MemberOptions, start};
