//! Whether this machine can do it at all.

use crate::space::Space;
use crate::table::say;
use std::process::Command;

/// Whether a lab can be built here; says why not.
pub(crate) fn are_there() -> bool {
    match missing() {
        None => true,
        Some(why) => {
            say(&format!("skipped: {why}"));
            false
        }
    }
}

fn missing() -> Option<String> {
    for (tool, package) in [("ip", "iproute2"), ("nft", "nftables")] {
        if Command::new(tool).arg("-V").output().is_err() {
            return Some(format!("there is no '{tool}' here (package {package})"));
        }
    }
    if let Err(error) = std::fs::File::open("/dev/net/tun") {
        return Some(format!("/dev/net/tun can't be opened: {error}"));
    }
    let space = match Space::new("try") {
        Ok(space) => space,
        Err(error) => return Some(format!("network namespaces can't be made: {error}")),
    };
    let table =
        "table ip lab { chain post { type nat hook postrouting priority srcnat; masquerade random,fully-random; }; }";
    space.try_nft(table).err().map(|error| format!("NAT can't be set up in a namespace: {error}"))
}
