//! Chunks from one device to another, in bytes a second, next to QUIC alone in the same run: through a server, and
//! directly.
//!
//! What is a process of its own is this program again, with a role.

mod direct;
#[path = "../../tests/relay/group.rs"]
mod group;
mod raw;
mod relay;

use criterion::{Criterion, criterion_group};
use raw::ROLE;
use std::process::ExitCode;

/// Splices QUIC streams.
const SPLICE: &str = "splice";
/// Sends QUIC streams.
const SEND: &str = "send";
/// Is bailiwick.
const BAILIWICK: &str = "bailiwick";

fn main() -> ExitCode {
    match std::env::var(ROLE).as_deref() {
        Ok(SPLICE) => relay::splice(),
        Ok(SEND) => direct::send(),
        Ok(BAILIWICK) => return bailiwick::cli::main(),
        _ => {
            transfers();
            Criterion::default().configure_from_args().final_summary();
        }
    }
    ExitCode::SUCCESS
}

criterion_group!(transfers, relay::relay, direct::direct);

/// Whether times are taken, or everything is only tried.
fn is_measured() -> bool {
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    has("--bench") && !has("--test")
}
