//! The rows of the workflow, each on real nodes over real QUIC.

mod conflicts;
mod disks;
mod lan;
mod membership;
mod moves;
mod rows;
mod secure;
mod shares;
mod straight;
mod transfers;
mod world;
