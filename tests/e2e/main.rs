//! The rows of the workflow, each on real nodes over real QUIC.

mod moves;
mod rows;
mod world;
