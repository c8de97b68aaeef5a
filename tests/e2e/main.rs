//! The rows of the workflow, each on real nodes over real QUIC.

mod membership;
mod rows;
mod world;
