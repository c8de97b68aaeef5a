//! What a transfer survives that is under way on a straight way: it ends by itself, with the file as it was.

use crate::link::Hole;
use crate::rights;
use crate::router::Site;
use crate::runs::{is_chosen, setting};
use crate::stage::Stage;
use crate::table::{maybe, say, seconds, show};
use crate::transfer::Seen;
use bailiwick::node::local::PathRow;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Bytes a second of every link.
const RATE: u64 = 5 << 20;
/// Bytes of the file: about 15 seconds.
const FILE: usize = 75 << 20;
/// How much of it is there when the fault comes.
const BEFORE: u64 = 15 << 20;
/// How long a link is down.
const DOWN: Duration = Duration::from_secs(5);
/// How long NATs remember where that is the fault; less than a node's pause between two words to its server.
const FORGET_S: &str = "2";
/// Faults at a time, if nothing else is said.
const AT_ONCE: usize = 3;

/// Something that happens, with its name in the table. Comes back when it is over.
struct Fault {
    name: &'static str,
    happen: fn(&Stage),
}

const FAULTS: [Fault; 13] = [
    Fault { name: "nothing", happen: |_| {} },
    Fault { name: "asker's link down 5 s", happen: |stage| link_down(&stage.at_asker) },
    Fault { name: "owner's link down 5 s", happen: |stage| link_down(&stage.at_owner) },
    Fault { name: "asker's NAT rebinds", happen: |stage| rebind(&stage.at_asker) },
    Fault { name: "owner's NAT rebinds", happen: |stage| rebind(&stage.at_owner) },
    Fault { name: "NATs forget after 2 s, direct way lost", happen: forget },
    Fault { name: "server restarts", happen: |stage| stage.group.restart_server() },
    Fault { name: "direct way swallows packets", happen: black_hole },
    Fault { name: "asker's address changes", happen: |stage| move_to(&stage.at_asker, 77) },
    Fault { name: "owner's address changes", happen: |stage| move_to(&stage.at_owner, 78) },
    Fault { name: "one packet of 50 lost for 5 s", happen: lossy },
    Fault { name: "MTU 1280, told by ICMP", happen: narrow },
    Fault { name: "MTU 1280, not told", happen: |stage| stage.at_asker.customer.link.dig(Hole::Larger(1_280)) },
];

fn link_down(site: &Site) {
    site.customer.link.dig(Hole::All);
    // The fault itself takes time.
    std::thread::sleep(DOWN);
    site.customer.link.mend();
}

fn lossy(stage: &Stage) {
    let link = &stage.at_asker.customer.link;
    link.dig(Hole::OneOf(50));
    std::thread::sleep(DOWN);
    link.mend();
}

/// The router forgets its mappings, and maps to another port from now on.
fn rebind(site: &Site) {
    let router = site.router.as_ref().expect("a router");
    router.nft("flush chain ip lab post; add rule ip lab post oifname \"wan\" meta l4proto udp masquerade to :40000;");
    let (wan, net) = (site.customer.wan(), site.customer.gateway());
    // Masquerading forgets what it did for an address that goes.
    router.ip(&format!("addr del {wan}/30 dev wan\naddr add {wan}/30 dev wan\nroute add default via {net} dev wan"));
}

fn forget(stage: &Stage) {
    for site in [&stage.at_owner, &stage.at_asker] {
        let router = site.router.as_ref().expect("a router");
        router.set("net.netfilter.nf_conntrack_udp_timeout", FORGET_S);
        router.set("net.netfilter.nf_conntrack_udp_timeout_stream", FORGET_S);
    }
    // Long enough for what is quiet to be forgotten.
    std::thread::sleep(DOWN);
    black_hole(stage);
}

fn black_hole(stage: &Stage) {
    stage.at_asker.customer.link.dig(Hole::Between(stage.at_owner.wan(), stage.at_asker.wan()));
}

/// The client has another address, and no other.
fn move_to(site: &Site, host: u8) {
    let old = site.own;
    site.space.ip(&format!("addr del {old}/24 dev eth\naddr add 192.168.1.{host}/24 dev eth"));
    site.space.ip("route add default via 192.168.1.1");
}

fn narrow(stage: &Stage) {
    let site = &stage.at_asker;
    stage.group.net.space.ip(&format!("link set {} mtu 1280", site.customer.interface()));
    site.router.as_ref().expect("a router").ip("link set wan mtu 1280");
}

/// What came of it.
struct Outcome {
    seen: Seen,
    /// When the fault began, and when it was over.
    from: Duration,
    to: Duration,
}

#[test]
fn a_transfer_survives_what_happens_to_networks() {
    if !rights::are_there() {
        return;
    }
    let chosen: Vec<&Fault> = FAULTS.iter().filter(|fault| is_chosen(fault.name)).collect();
    let waiting = Mutex::new(chosen.iter().enumerate().rev().collect::<Vec<_>>());
    let rows = Mutex::new(Vec::new());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
    std::thread::scope(|scope| {
        for _ in 0..setting("BAILIWICK_LAB_AT_ONCE").unwrap_or(AT_ONCE) {
            scope.spawn(|| {
                while let Some((number, fault)) = next() {
                    let row = (number, row(fault, &suffer(fault)));
                    rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort();
    let head = ["fault", "longest without progress", "progress after its end", "ways", "whole transfer"];
    show(&head, &rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>());
}

fn suffer(fault: &Fault) -> Outcome {
    let label: String = fault.name.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let stage = Stage::new(&label, RATE);
    let transfer = stage.transfer(FILE);
    let (under_way, begin) = mpsc::channel::<()>();
    let stage = &stage;
    let happen = move || {
        begin.recv().expect("the transfer gets under way on the straight way");
        let from = Instant::now();
        (fault.happen)(stage);
        (from, Instant::now())
    };
    let (seen, (from, to)) = std::thread::scope(|scope| {
        let happening = scope.spawn(happen);
        let mut under_way = Some(under_way);
        let seen = transfer.watch(|row, way| {
            if way == Some(PathRow::Direct) && row.path == way && row.received_bytes > BEFORE {
                let _ = under_way.take().map(|under_way| under_way.send(()));
            }
        });
        (seen, happening.join().expect("the fault"))
    });
    say(&format!("{}: over after {}", fault.name, seconds(seen.done())));
    Outcome { seen, from: from.duration_since(transfer.begun()), to: to.duration_since(transfer.begun()) }
}

fn row(fault: &Fault, outcome: &Outcome) -> Vec<String> {
    let Outcome { seen, from, to } = outcome;
    let (longest, _) = seen.longest(*from);
    let ways = seen.ways.iter().filter(|(at, _)| at >= from).map(|(at, path)| {
        let way = if *path == PathRow::Direct { "direct" } else { "relay" };
        format!("{way} after {}", seconds(*at - *from))
    });
    let ways: Vec<String> = ways.collect();
    vec![fault.name.to_owned(), seconds(longest), maybe(seen.next(*to)), ways.join(", "), seconds(seen.done())]
}
