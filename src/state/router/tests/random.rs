//! Whatever peers say, in whatever order: nobody gets what is for members but members of a settled group, nothing is
//! said after a close, and nothing panics.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Connect {
        n: u8,
        master: bool,
        head: Option<usize>,
    },
    Headers {
        conn: usize,
        headers: Vec<usize>,
    },
    /// Everything up to an entry, and its head: if none newer was shown, the group is settled then.
    Tell {
        conn: usize,
        upto: usize,
    },
    Head {
        conn: usize,
        head: usize,
    },
    Broadcast {
        conn: usize,
        header: usize,
    },
    Routed {
        conn: usize,
        to: u8,
    },
    Register {
        conn: usize,
    },
    Invites {
        conn: usize,
    },
    Ask {
        conn: usize,
        owner: u8,
    },
    Read {
        conn: usize,
    },
    Close {
        conn: usize,
    },
    Advance(u64),
    Restart,
}

const ENTRIES: usize = 9;

fn step() -> impl Strategy<Value = Step> {
    let conn = || any::<usize>();
    prop_oneof![
        6 => (0..5u8, any::<bool>(), proptest::option::of(0..ENTRIES))
            .prop_map(|(n, master, head)| Step::Connect { n, master, head }),
        4 => (conn(), proptest::collection::vec(0..ENTRIES, 1..3))
            .prop_map(|(conn, headers)| Step::Headers { conn, headers }),
        6 => (conn(), 0..ENTRIES).prop_map(|(conn, upto)| Step::Tell { conn, upto }),
        4 => (conn(), 0..ENTRIES).prop_map(|(conn, head)| Step::Head { conn, head }),
        3 => (conn(), 0..ENTRIES).prop_map(|(conn, header)| Step::Broadcast { conn, header }),
        4 => (conn(), 0..5u8).prop_map(|(conn, to)| Step::Routed { conn, to }),
        1 => conn().prop_map(|conn| Step::Register { conn }),
        1 => conn().prop_map(|conn| Step::Invites { conn }),
        2 => (conn(), 0..5u8).prop_map(|(conn, owner)| Step::Ask { conn, owner }),
        1 => conn().prop_map(|conn| Step::Read { conn }),
        1 => conn().prop_map(|conn| Step::Close { conn }),
        2 => (1..6_000u64).prop_map(Step::Advance),
        1 => Just(Step::Restart),
    ]
}

/// A log with approvals, an entry that changes no membership, two expulsions and a leave; and its head after each.
fn entries() -> Vec<(VerifiedHeader, SignedHead)> {
    let (mut log, genesis) = Log::new();
    let mut entries = vec![(genesis, log.head())];
    let changes = [
        (1, Standing::Registered),
        (1, Standing::Approved),
        (2, Standing::Approved),
        (3, Standing::Registered),
        (1, Standing::Disapproved),
        (3, Standing::Approved),
    ];
    for (n, standing) in changes {
        let header = log.change(n, standing);
        entries.push((header, log.head()));
    }
    entries.push((log.plain(), log.head()));
    entries.push((log.change(2, Standing::Left), log.head()));
    entries
}

struct Watch {
    world: World,
    entries: Vec<(VerifiedHeader, SignedHead)>,
    conns: Vec<(u64, u8)>,
    checked: usize,
    next: u64,
    class: HashMap<ConnId, Class>,
    /// Devices whose expulsion the router has taken in.
    expelled: HashSet<DeviceKey>,
}

impl Watch {
    fn step(&mut self, step: Step) {
        let pick = |conn: usize, conns: &[(u64, u8)]| conns.get(conn % conns.len().max(1)).map(|(conn, _)| *conn);
        let conns = self.conns.clone();
        let envelope = vec![1; 10];
        let (conn, frame) = match step {
            Step::Connect { n, master, head } => return self.connect(n, master, head),
            Step::Advance(ms) => return self.advance(ms),
            Step::Restart => return self.restart(),
            Step::Close { conn } => {
                let Some(conn) = pick(conn, &conns) else { return };
                self.conns.retain(|(live, _)| *live != conn);
                self.world.input(Input::Closed { conn: ConnId(conn) });
                return self.check();
            }
            Step::Headers { conn, headers } => {
                let headers = headers.into_iter().map(|entry| self.entries[entry].0.signed().clone());
                (conn, Frame::Headers(headers.collect()))
            }
            Step::Tell { conn, upto } => {
                let headers = self.entries[..=upto].iter().map(|(header, _)| header.signed().clone()).collect();
                if let Some(conn) = pick(conn, &conns) {
                    self.world.say(conn, Frame::Headers(headers));
                    self.check();
                }
                (conn, Frame::Head(self.entries[upto].1.clone()))
            }
            Step::Head { conn, head } => (conn, Frame::Head(self.entries[head].1.clone())),
            Step::Broadcast { conn, header } => {
                let body = SealedBody { epoch: EpochId { generation: 1, number: 1 }, nonce: [0; 12], bytes: vec![] };
                (conn, Frame::Broadcast { header: self.entries[header].0.signed().clone(), body })
            }
            Step::Routed { conn, to } => (conn, Frame::Routed { peer: key(to), number: 1, envelope }),
            Step::Register { conn } => {
                (conn, Frame::ClientRegister { from: key(9), invite: INVITE, number: 1, envelope })
            }
            Step::Invites { conn } => (conn, Frame::OpenInvites(vec![INVITE])),
            Step::Ask { conn, owner } => (conn, Frame::RequestChunk { request: 1, owner: id(owner), ranges: vec![] }),
            Step::Read { conn } => (conn, Frame::ExpulsionRead),
        };
        if let Some(conn) = pick(conn, &conns) {
            self.world.say(conn, frame);
            self.check();
        }
    }

    fn connect(&mut self, n: u8, master: bool, head: Option<usize>) {
        self.next += 1;
        let conn = self.next;
        let head = head.map(|head| self.entries[head].1.clone());
        self.conns.push((conn, n));
        self.world.hello(conn, n, if master { Role::Master } else { Role::Client }, head);
        if master {
            self.world.say(conn, Frame::MasterRegister { admission: Some(SECRET) });
        }
        self.check();
    }

    fn advance(&mut self, ms: u64) {
        self.world.advance(ms);
        self.check();
    }

    fn restart(&mut self) {
        let now = self.world.now;
        let records = std::mem::take(&mut self.world.records);
        self.world = World::restored(RouterConfig::default(), records);
        self.world.now = now;
        (self.conns, self.checked) = (vec![], 0);
        self.class.clear();
    }

    fn check(&mut self) {
        for record in &self.world.records {
            if let Record::Expulsion { device, .. } = record {
                self.expelled.insert(*device);
            }
        }
        let devices: HashMap<ConnId, u8> = self.conns.iter().map(|(conn, n)| (ConnId(*conn), *n)).collect();
        for (conn, frame) in &self.world.sent[self.checked..] {
            let Some(n) = devices.get(conn) else { continue };
            if let Frame::Welcome(welcome) = frame {
                self.class.insert(*conn, welcome.class);
                let admitted = matches!(welcome.class, Class::Approved | Class::Registered);
                assert!(!admitted || !self.expelled.contains(&key(*n)), "an expelled device was admitted");
            }
            let class = self.class.get(conn).copied();
            match frame {
                Frame::Broadcast { .. } | Frame::MasterBack(_) => assert_eq!(class, Some(Class::Approved)),
                Frame::Presence(_) => assert!(matches!(class, Some(Class::Approved | Class::Master))),
                Frame::Routed { .. } => assert!(class.is_some_and(|class| class != Class::Unsettled)),
                _ => {}
            }
        }
        for order in self.world.orders.drain(..) {
            if let ChunkOrder::Ask { asker, owner_conn, .. } = order {
                for conn in [asker, owner_conn] {
                    assert!(matches!(self.class.get(&conn), Some(Class::Approved | Class::Master)));
                    assert!(devices.get(&conn).is_none_or(|n| !self.expelled.contains(&key(*n))));
                }
            }
        }
        self.checked = self.world.sent.len();
        let closed: Vec<ConnId> = self.world.closed.iter().map(|(conn, _)| *conn).collect();
        self.conns.retain(|(conn, _)| !closed.contains(&ConnId(*conn)));
    }
}

proptest! {
    #[test]
    fn nobody_gets_what_is_not_for_them(steps in proptest::collection::vec(step(), 1..120)) {
        let world = World::new(RouterConfig::default());
        let (class, expelled) = (HashMap::new(), HashSet::new());
        let mut watch = Watch { world, entries: entries(), conns: vec![], checked: 0, next: 0, class, expelled };
        watch.connect(0, true, Some(0));
        steps.into_iter().for_each(|step| watch.step(step));
        watch.advance(60_000);
        let router = &watch.world.router;
        let strangers = router.peers.values().filter(|peer| peer.counted != super::super::peer::Counted::Nowhere);
        prop_assert_eq!(strangers.count(), 0, "nobody stays who is no member");
    }
}
