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
    let (wan, own) = (site.wan(), site.own);
    let offers = |what: &str, is_right: fn(by_4: bool, by_6: bool) -> bool| {
        node.talk(|talk| {
            talk.until(what, |talk| {
                let Reply::Doctor(found) = talk.ask(&Ask::Doctor { id: None }) else { panic!("no diagnosis") };
                let ips: Vec<IpAddr> =
                    found.addresses.iter().map(|text| text.parse::<SocketAddr>().expect("an address").ip()).collect();
                let is_seen = found.observed.is_some();
                (is_seen && is_right(ips.contains(&wan), ips.iter().any(IpAddr::is_ipv6))).then_some(found.observed)
            })
        })
    };
    let observed = offers("both addresses", |by_4, by_6| by_4 && by_6);
    crate::table::say(&format!("its connection is seen at {observed:?}"));
    // One family goes, and comes back while the connection by the other one stays.
    site.space.ip(&format!("addr del {own}/24 dev eth"));
    offers("its IPv6 addresses alone", |by_4, by_6| !by_4 && by_6);
    site.space.ip(&format!("addr add {own}/24 dev eth\nroute add default via 192.168.1.1"));
    offers("both addresses again", |by_4, by_6| by_4 && by_6);
}
