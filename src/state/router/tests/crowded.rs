//! A group of as many devices as one can have, all of which come back at once.

use super::*;
use crate::wire::limits::MEMBERS_MAX;

/// How long they take to dial again, in milliseconds: one after the other.
const RETURN_MS: u64 = MEMBERS_MAX as u64;

fn member(n: usize) -> (PublicId, Identity) {
    let (mut id, mut seed) = ([0; 16], [0; 32]);
    id[..8].copy_from_slice(&(n as u64).to_be_bytes());
    seed[..8].copy_from_slice(&(n as u64 + 1).to_be_bytes());
    (PublicId(id), Identity::from_seeds(seed, seed))
}

/// Each gets a head, its own header and who is there, in frames that hold the news of many; nobody gets a catalog, and
/// nobody is turned away.
#[test]
fn a_server_restarts_with_as_many_clients_as_a_group_can_have() {
    let mut world = World::new(RouterConfig::default());
    let (mut log, genesis) = Log::new();
    world.master(0, &log);
    let mut headers = vec![genesis.signed().clone()];
    let mut keys = Vec::new();
    for n in 1..MEMBERS_MAX {
        let (id, identity) = member(n);
        let (device, seal) = (identity.device_key(), identity.seal_key());
        keys.push(device);
        let change = MembershipChange { id, device, seal, standing: Standing::Approved, nonce: [0; 16] };
        headers.push(log.entry(Some(change)).signed().clone());
    }
    for page in headers.chunks(crate::wire::limits::HEADERS_PER_FRAME_MAX) {
        world.say(0, Frame::Headers(page.to_vec()));
    }
    world.say(0, Frame::Head(log.head()));

    let mut world = World::restored(RouterConfig::default(), world.records);
    world.master(0, &log);
    world.say(0, Frame::Head(log.head()));
    let mut frames = vec![0u64; MEMBERS_MAX];
    let mut rows = vec![0u64; MEMBERS_MAX];
    let mut told = vec![Vec::new(); MEMBERS_MAX];
    for (n, device) in keys.iter().enumerate() {
        let conn = n as u64 + 1;
        let remote = std::net::SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 1_000));
        world.input(Input::Connected { conn: ConnId(conn), peer: *device, remote });
        let role = Role::Client;
        let head = Some(log.head());
        let hello = Hello { version: PROTOCOL_VERSION, software: "test".into(), role, group: group(), head };
        world.say(conn, Frame::Hello(hello));
        world.advance(1);
        for (to, frame) in world.sent.drain(..) {
            let to = to.0 as usize;
            match frame {
                Frame::Presence(page) => {
                    frames[to] += 1;
                    rows[to] += page.len() as u64;
                }
                other => told[to].push(other),
            }
        }
    }
    assert!(world.closed.is_empty());
    for told in &told[1..] {
        let [Frame::Welcome(welcome), Frame::Headers(own)] = &told[..] else { panic!("{} frames", told.len()) };
        assert!(welcome.class == Class::Approved && welcome.head == Some(log.head()));
        assert_eq!(own.len(), 1);
    }
    // All that were there when it came, and then each change once in a pause.
    let pauses = RETURN_MS / RouterConfig::default().presence_pause.as_millis() as u64 + 1;
    let pages = (MEMBERS_MAX / crate::wire::limits::PRESENCE_PER_FRAME_MAX) as u64 + 1;
    assert!(frames.iter().all(|frames| *frames <= pauses + pages), "{:?}", frames.iter().max());
    assert!(rows.iter().all(|rows| *rows <= 2 * MEMBERS_MAX as u64), "{:?}", rows.iter().max());
}
