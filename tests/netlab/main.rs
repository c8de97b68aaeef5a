//! Real nodes in network namespaces, behind real NATs: which pairs find a straight way, and what a transfer survives.
//!
//! The namespaces are this process's own, and no packet leaves them. It takes Linux, root, `ip` and `nft`; where they are
//! missing the tests say so and pass. `docs/nat.md` says how to run this, and shows what came of it.
//!
//! | variable | what it sets |
//! |---|---|
//! | `BAILIWICK_LAB_ONLY` | what is tried: names that hold this text |
//! | `BAILIWICK_LAB_RUNS` | how often each pair is tried; once if it is not set |
//! | `BAILIWICK_LAB_AT_ONCE` | how many pairs at a time |
//! | `BAILIWICK_LAB_LOGS` | a folder that keeps the nodes' logs |
#![cfg(target_os = "linux")]

mod expulsion;
mod families;
mod faults;
mod group;
mod kinds;
mod link;
mod matrix;
mod nat;
mod node;
mod packet;
mod ports;
mod rights;
mod router;
mod runs;
mod space;
mod stage;
mod table;
mod transfer;
