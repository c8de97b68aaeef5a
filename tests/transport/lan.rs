//! The local network as it is: multicast DNS, and the kernel's news. Both run in a network namespace of their own, so that
//! nothing leaves this test and nothing comes in; where there can't be one they are skipped, and say why.

use crate::common::*;
use bailiwick::net::changes::Changes;
use bailiwick::net::lan::Lan;
use bailiwick::wire::beacon::{Announcement, BeaconKey, Readers};
use bailiwick::wire::ids::{GroupId, Hash};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

/// Set in the namespace.
const INSIDE: &str = "BAILIWICK_TEST_NAMESPACE";
/// A local network whose only host is this one.
const NETWORK: &str = "ip link set lo up && ip link add v0 type veth peer name v1 && ip link set v1 up \
     && ip link set v0 up && ip address add 10.9.8.7/24 dev v0";

/// Whether this is the namespace. If not, the test runs there, and this process looks at how it ends.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let shell = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "sh", "-c", script]).env(INSIDE, "1");
        command
    };
    match shell(NETWORK).output() {
        Ok(out) if out.status.success() => {}
        Ok(out) => {
            let why = String::from_utf8_lossy(&out.stderr).into_owned();
            eprintln!("skipped: no network namespace can be made here: {}", why.trim());
            return false;
        }
        Err(error) => {
            eprintln!("skipped: unshare can't be run: {error}");
            return false;
        }
    }
    let exe = std::env::current_exe().expect("this test's own path");
    let script = format!("{NETWORK} && exec \"$EXE\" --exact {test} --nocapture");
    let status = shell(&script).env("EXE", exe).status().expect("as a moment ago");
    assert!(status.success(), "in the namespace: {status}");
    false
}

async fn run(command: &str) {
    let ran = tokio::process::Command::new("sh").args(["-c", command]).status().await.expect("a shell");
    assert!(ran.success(), "{command}: {ran}");
}

#[tokio::test]
async fn two_devices_on_one_network_see_each_other_and_a_goodbye() {
    if !is_inside("lan::two_devices_on_one_network_see_each_other_and_a_goodbye") {
        return;
    }
    let key = BeaconKey::of(&GroupId::of(&identity(1).device_key()));
    let readers = Readers::new(key.clone(), Hash::ZERO, [2, 3].map(|seed| identity(seed).device_key()));
    let announcement = |seed: u8, port: u16| Announcement {
        beacon: key.beacon(&identity(seed).device_key(), [seed; 16]),
        addresses: vec![SocketAddr::from(([10, 9, 8, 7], port))],
        readers: readers.clone(),
    };
    let [first, second] = [announcement(2, 7_002), announcement(3, 7_003)];
    let (mut here, there) = (Lan::of_this_machine(), Lan::of_this_machine());
    here.announce.send_replace(Some(first.clone()));
    there.announce.send_replace(Some(second.clone()));
    let mut there_seen = there.seen;
    let sees = async |seen: &mut tokio::sync::mpsc::Receiver<_>, whom: Option<(u8, &Announcement)>| {
        let wished: Vec<_> =
            whom.into_iter().map(|(seed, one)| (identity(seed).device_key(), one.addresses[0])).collect();
        while seen.recv().await.expect("it goes on") != wished {}
    };
    within(async { tokio::join!(sees(&mut here.seen, Some((3, &second))), sees(&mut there_seen, Some((2, &first)))) })
        .await;
    there.announce.send_replace(None);
    within(sees(&mut here.seen, None)).await;
}

#[tokio::test]
async fn an_address_that_comes_or_goes_rings_the_alarm() {
    if !is_inside("lan::an_address_that_comes_or_goes_rings_the_alarm") {
        return;
    }
    let mut changes = Changes::listen();
    let commands = ["ip address add 10.9.8.9/24 dev v0", "ip address del 10.9.8.9/24 dev v0", "ip link set v0 down"];
    for command in commands {
        // News of what was before.
        while {
            changes.wait(Duration::from_millis(1)).await;
            changes.rung()
        } {}
        let rung = async {
            while !changes.rung() {
                changes.wait(Duration::from_secs(60)).await;
            }
        };
        within(async { tokio::join!(run(command), rung) }).await;
    }
}
