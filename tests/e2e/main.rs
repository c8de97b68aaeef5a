//! The rows of the workflow, each on real nodes over real QUIC.

mod membership;
mod moves;
mod rows;
mod shares;
mod world;
