//! Routers that map a port when a device asks for one: miniupnpd in the router's namespace.

use crate::space::Space;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Its program.
const PROGRAM: &str = "miniupnpd";
/// Its table, which [`rules`] makes.
const TABLE: &str = "ports";

/// What such a router speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    /// PCP and NAT-PMP.
    Pcp,
    /// UPnP IGD.
    Upnp,
}

/// A running daemon.
pub(crate) struct Mapper {
    child: Child,
    _folder: TempDir,
}

/// Whether the program is installed.
pub(crate) fn is_there() -> bool {
    Command::new(PROGRAM).arg("-h").output().is_ok()
}

impl Mapper {
    /// Starts it in a router with the interfaces `lan` and `wan`, and waits until it listens.
    pub(crate) fn start(router: &Space, protocol: Protocol, network: Ipv4Addr) -> Mapper {
        router.nft(&rules());
        let (pcp, upnp, listens) = match protocol {
            Protocol::Pcp => ("yes", "no", "Listening for NAT-PMP/PCP"),
            Protocol::Upnp => ("no", "yes", "HTTP listening"),
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("miniupnpd.conf");
        let text = format!(
            "ext_ifname=wan\nlistening_ip=lan\nenable_natpmp={pcp}\nenable_upnp={upnp}\nsecure_mode=yes\n\
             upnp_table_name={TABLE}\nupnp_nat_table_name={TABLE}\n\
             uuid=5cc6ecdc-7f42-4f0f-8d61-3b2e0e0e0e0e\nallow 1024-65535 {network}/24 1024-65535\n"
        );
        std::fs::write(&config, text).expect("its settings");
        let mut command = Command::new(PROGRAM);
        command.arg("-d").arg("-f").arg(&config).arg("-P").arg(folder.path().join("pid"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = router.within(|| command.spawn()).expect("miniupnpd starts");
        let mut lines = BufReader::new(child.stderr.take().expect("its output")).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains(listens)), "miniupnpd did not listen");
        // It would stop where nobody reads on.
        std::thread::spawn(move || lines.for_each(drop));
        Mapper { child, _folder: folder }
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The chains that it fills.
fn rules() -> String {
    format!(
        "table inet {TABLE} {{
            chain miniupnpd {{ }}
            chain prerouting_miniupnpd {{ }}
            chain postrouting_miniupnpd {{ }}
            chain pre {{ type nat hook prerouting priority dstnat; jump prerouting_miniupnpd; }}
            chain post {{ type nat hook postrouting priority srcnat - 1; jump postrouting_miniupnpd; }}
        }}"
    )
}
