//! The transport on real quinn over loopback. Ports are the system's choice; time-outs only guard against hanging.

mod chunks;
mod common;
mod control;
mod endpoint;
mod lan;
mod straight;
mod tls;
