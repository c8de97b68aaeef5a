//! Schedules that broke earlier drafts of the design, by their names.

mod basics;
