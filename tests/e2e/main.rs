//! The rows of the workflow, each on real nodes over real QUIC.

mod conflicts;
mod rows;
mod transfers;
mod world;
