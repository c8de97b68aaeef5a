//! The whole group in a simulated world: real cores, real tables, no sockets, no clock.
//!
//! `BAILIWICK_SIM_SEEDS=5000 cargo test --test sim random_worlds` runs more worlds; `BAILIWICK_SIM_FIRST` says with
//! which seed to begin; `BAILIWICK_SIM_TRACE=1` prints all events of a world that failed rather than the last ones.

mod dice;
mod model;
mod network;
mod plane;
mod random;
mod schedules;
mod world;
