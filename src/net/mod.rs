//! QUIC: endpoint, pinned TLS, control stream, chunk streams.
