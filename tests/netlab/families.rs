//! A device with IPv4 and IPv6: the server tells it where it is seen by both, though it talks to it by one.

use crate::group::Group;
use crate::link::Shape;
use crate::nat::Nat;
use crate::rights;
use crate::router::{Access, Families, Site};
use bailiwick::node::local::{Command as Ask, Reply};
use std::net::{IpAddr, SocketAddr};

#[test]
fn a_device_of_both_families_offers_its_addresses_of_both() {
    if !rights::are_there() {
        return;
    }
    let group = Group::new("families");
    let access = Access::Home(Nat::PortRestricted);
    let site = Site::new(&group.net, access, Families::Both, 2, Shape::home(4 << 20));
    let node = group.member("both", site.space.clone());
    let wan = site.wan();
    let offered = node.talk(|talk| {
        talk.until("both addresses", |talk| {
            let Reply::Doctor(found) = talk.ask(&Ask::Doctor { id: None }) else { panic!("no diagnosis") };
            let ips: Vec<IpAddr> =
                found.addresses.iter().map(|text| text.parse::<SocketAddr>().expect("an address").ip()).collect();
            let is_whole = ips.contains(&wan) && ips.iter().any(|ip| ip.is_ipv6());
            is_whole.then_some(found.observed)
        })
    });
    crate::table::say(&format!("its connection is seen at {offered:?}"));
}
