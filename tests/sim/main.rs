//! The whole group in a simulated world: real cores, real tables, no sockets, no clock.
//!
//! `runner.rs` says how to run more worlds, from which seed, and for how long.

mod dice;
mod model;
mod network;
mod plane;
mod random;
mod runner;
mod schedules;
mod ways;
mod world;
