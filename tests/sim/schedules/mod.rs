//! Schedules that broke earlier drafts of the design, by their names.

pub(crate) mod basics;
mod catching_up;
mod copies;
mod expulsions;
mod imports;
mod load;
mod membership;
mod moves;
mod restarts;
mod shares;
mod straight;
pub(crate) mod transfers;
