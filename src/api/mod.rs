//! The local API of a running node: HTTP/1 on a loopback address, for the CLI and the page of the same person.
//!
//! Loopback alone keeps nobody out: any process and any web page of this machine can reach it. So every request needs
//! the token of `api.json`, which only this user can read, and a `Host` (and `Origin`, if there is one) that names
//! the bound address, so that a page whose name was rebound to 127.0.0.1 gets nothing.

pub mod client;
mod guard;
mod listen;
pub mod place;
mod routes;
mod server;

pub use listen::{API_HEAD_TIMEOUT, API_STRANGERS_MAX};
pub use server::{API_BODY_BYTES_MAX, API_BODY_TIMEOUT, Api, serve};

#[cfg(test)]
mod tests;
