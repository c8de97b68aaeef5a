//! The rows of the workflow, each on real nodes over real QUIC.

mod rows;
mod transfers;
mod world;
