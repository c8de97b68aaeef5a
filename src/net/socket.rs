//! The UDP socket: dual-stack where the system has IPv6, with buffers that hold a burst.

use super::limits::SOCKET_BUFFER_BYTES;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

/// Binds `listen`. The unspecified IPv6 address stands for every address of both families; on a system without IPv6 it
/// becomes the unspecified IPv4 address.
pub(super) fn bind(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = match open(listen) {
        Err(error) if listen.ip().is_unspecified() && listen.is_ipv6() && !is_final(&error) => {
            tracing::info!(%error, "no IPv6 here, listening on IPv4 alone");
            open((Ipv4Addr::UNSPECIFIED, listen.port()).into())?
        }
        other => other?,
    };
    enlarge_buffers(&socket);
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Whether another address family would fail in the same way.
fn is_final(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

fn enlarge_buffers(socket: &Socket) {
    force_buffers(socket);
    let receive = grow(socket, Socket::recv_buffer_size, Socket::set_recv_buffer_size);
    let send = grow(socket, Socket::send_buffer_size, Socket::set_send_buffer_size);
    if receive < SOCKET_BUFFER_BYTES || send < SOCKET_BUFFER_BYTES {
        tracing::warn!(
            wanted = SOCKET_BUFFER_BYTES,
            receive,
            send,
            "the system grants small UDP buffers, transfers will be slower (Linux: net.core.rmem_max, wmem_max)"
        );
    }
}

/// Goes past the system's limit, if this process has CAP_NET_ADMIN; without it nothing happens here.
#[cfg(target_os = "linux")]
fn force_buffers(socket: &Socket) {
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, SOCKET_BUFFER_BYTES);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(socket, SOCKET_BUFFER_BYTES);
}

#[cfg(not(target_os = "linux"))]
fn force_buffers(_socket: &Socket) {}

/// Asks for the wish unless it is granted already; returns the bytes granted, 0 if the system does not say.
fn grow(
    socket: &Socket,
    read: impl Fn(&Socket) -> io::Result<usize>,
    ask: impl Fn(&Socket, usize) -> io::Result<()>,
) -> usize {
    let granted = || read(socket).unwrap_or(0) / REPORTED_TIMES;
    if granted() < SOCKET_BUFFER_BYTES {
        // A refusal shows in what is read afterwards.
        let _ = ask(socket, SOCKET_BUFFER_BYTES);
    }
    granted()
}

/// Linux reports twice what it granted (socket(7)).
const REPORTED_TIMES: usize = if cfg!(target_os = "linux") { 2 } else { 1 };
