//! Times and limits of straight ways.

use std::time::Duration;

/// How straight ways are looked for, and kept.
#[derive(Debug, Clone, Copy)]
pub struct PathsConfig {
    /// Whether there are any at all; else everything goes through the server.
    pub enabled: bool,
    /// How long an attempt lasts, from the other device's offer on.
    pub punch_for: Duration,
    /// Who has the higher key dials after an address has answered for this long and the other one has not said hello on a
    /// connection that it dialled.
    pub takeover: Duration,
    /// Pause after the first attempt that came to nothing, and after a connection that broke; it doubles up to
    /// `retry_max`, and is forgotten when this device's addresses change.
    pub retry_min: Duration,
    /// Longest pause.
    pub retry_max: Duration,
    /// A connection that stayed so long was a good one: the pause after it is the first one again.
    pub good_after: Duration,
    /// A connection that carried nothing for this long is closed.
    pub idle: Duration,
    /// One that is not the one that counts, beside another one to the same device.
    pub idle_second: Duration,
    /// Connections at most.
    pub connections_max: usize,
    /// Attempts at a time.
    pub attempts_max: usize,
    /// Probes to one address, whatever the port, in a minute.
    pub probes_per_minute: u32,
    /// Those of them for the sake of one device.
    pub probes_of_device_per_minute: u32,
    /// Dials to one address, whatever the port, in a minute.
    pub dials_per_minute: u32,
    /// Offers of one device that count in a minute.
    pub offers_per_minute: u32,
    /// How often in a minute a device that comes to the server is tried anew for it.
    pub comings_per_minute: u32,
    /// How often in a minute other addresses of this device, or sleep, make it look anew: a server says where it is seen.
    pub moves_per_minute: u32,
    /// Whether the router is asked to map a port to this device.
    pub map_port: bool,
    /// Whether devices on this machine count as seen on the local network: for tests, and for nobody else.
    pub near_loopback: bool,
}

impl Default for PathsConfig {
    fn default() -> PathsConfig {
        PathsConfig {
            enabled: true,
            punch_for: Duration::from_secs(5),
            takeover: Duration::from_millis(150),
            retry_min: Duration::from_secs(5),
            retry_max: Duration::from_secs(300),
            good_after: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            idle_second: Duration::from_secs(5),
            connections_max: 64,
            attempts_max: 32,
            probes_per_minute: 960,
            probes_of_device_per_minute: 240,
            dials_per_minute: 24,
            offers_per_minute: 12,
            comings_per_minute: 6,
            moves_per_minute: 12,
            map_port: true,
            near_loopback: false,
        }
    }
}
