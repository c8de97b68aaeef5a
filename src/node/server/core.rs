//! A server's decisions joined with its disk: synchronous, so that the simulation drives the same code as the shell.
//!
//! Invariant: what inputs decide is committed before any output of theirs is given out. If it can't be committed, the
//! outputs are dropped and the machines are rebuilt from the disk: memory is never ahead of it.

use crate::state::cache::{self, Cache, CacheConfig, EntryId, ForwardId, StreamId};
use crate::state::conn::ConnId;
use crate::state::router::{self, Record, Router, RouterConfig, StoredGroup};
use crate::state::time::Time;
use crate::store::member::DbError;
use crate::store::server_db::{GroupRow, ServerStore};
use crate::wire::chunk::ChunkHeader;
use crate::wire::close::{CloseCode, StreamCode};
use crate::wire::frame::{Class, Frame};
use crate::wire::ids::DeviceKey;
use crate::wire::invite::AdmissionSecret;
use crate::wire::log::NotTheMasters;
use crate::wire::probe::ProbeToken;
use std::net::SocketAddr;

/// Limits and times of a server.
#[derive(Debug, Clone, Default)]
pub struct CoreConfig {
    /// Of who is admitted and what is passed on.
    pub router: RouterConfig,
    /// Of chunks in passing.
    pub cache: CacheConfig,
}

/// What happens to a server.
pub enum ServerInput {
    /// A device has connected, and proved its key.
    Connected {
        /// The connection.
        conn: ConnId,
        /// The device.
        peer: DeviceKey,
        /// Where from.
        remote: SocketAddr,
    },
    /// Its packets come from elsewhere now.
    Moved {
        /// The connection.
        conn: ConnId,
        /// Where from.
        remote: SocketAddr,
    },
    /// A ping came, beside all connections.
    Pinged {
        /// Where from.
        from: SocketAddr,
        /// Its token.
        token: ProbeToken,
    },
    /// A frame came.
    Frame {
        /// On which connection.
        conn: ConnId,
        /// The frame.
        frame: Frame,
    },
    /// What [`ServerOutput::SendCounted`] counted was handed to the network.
    Sent {
        /// On which connection.
        conn: ConnId,
        /// How many of the counted bytes.
        bytes: usize,
    },
    /// A connection has ended, or sent what is no frame; it is closed either way.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// A chunk stream came, and its header says this.
    Arriving {
        /// From whom.
        conn: ConnId,
        /// The stream.
        stream: StreamId,
        /// Its header.
        header: ChunkHeader,
    },
    /// Bytes of a chunk came in.
    Progress(EntryId),
    /// A chunk is complete.
    Complete(EntryId),
    /// A chunk's stream ended too early, or was too long.
    Broken(EntryId),
    /// An asker took some bytes.
    Forwarding(ForwardId),
    /// All bytes of a chunk were handed to the network.
    Forwarded(ForwardId),
    /// The asker stopped the stream.
    Unwanted(ForwardId),
    /// Time has passed: [`ServerCore::poll_timeout`] said when to come.
    Tick,
}

/// What a server does, in this order.
pub enum ServerOutput {
    /// A connection's class is new: what it may send has other limits from now on.
    Classed {
        /// Which connection.
        conn: ConnId,
        /// Its class.
        class: Class,
    },
    /// Send a frame.
    Send {
        /// To these connections.
        to: Vec<ConnId>,
        /// The frame.
        frame: Frame,
    },
    /// Send a frame, and report it as [`ServerInput::Sent`] once it is handed to the network.
    SendCounted {
        /// To this connection.
        conn: ConnId,
        /// The frame.
        frame: Frame,
        /// What to report.
        bytes: usize,
    },
    /// Close a connection. It is forgotten already.
    Close {
        /// Which.
        conn: ConnId,
        /// Why.
        code: CloseCode,
    },
    /// Read this stream to its end, into an entry.
    Receive {
        /// The stream.
        stream: StreamId,
        /// The entry.
        entry: EntryId,
    },
    /// Stop this stream: nobody wants it.
    StopStream {
        /// The stream.
        stream: StreamId,
        /// Why.
        code: StreamCode,
    },
    /// Pass an entry on to an asker, from its beginning, as it comes in.
    Forward {
        /// This passing on.
        forward: ForwardId,
        /// What.
        entry: EntryId,
        /// To whom.
        asker: ConnId,
        /// The asker's number, for the chunk's header.
        request: u64,
    },
    /// Pass it on no further.
    EndForward {
        /// Which passing on.
        forward: ForwardId,
        /// Why.
        code: StreamCode,
    },
    /// Forget an entry's bytes, and stop its stream if it is still coming.
    Drop {
        /// Which entry.
        entry: EntryId,
    },
}

/// Why a server can't start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// What is in it.
    #[error("the server's database holds what this version can't read: {0}; update this bailiwick")]
    Content(#[from] NotTheMasters),
}

/// Something could not be stored. All connections must be closed and all chunks in passing dropped: the machines know
/// nothing of them any more.
#[derive(Debug, thiserror::Error)]
#[error("the server's database can't be written: {0}")]
pub struct StoreFailed(#[from] OpenError);

/// See the module.
pub struct ServerCore {
    config: CoreConfig,
    store: ServerStore,
    admission: AdmissionSecret,
    router: Router,
    cache: Cache,
    /// The machines could not be rebuilt after a failure, and know nothing that is right.
    broken: bool,
}

impl ServerCore {
    /// A server that knows what is stored. `fresh` becomes its admission secret if it has none.
    pub fn open(
        now: Time,
        config: CoreConfig,
        mut store: ServerStore,
        fresh: AdmissionSecret,
    ) -> Result<ServerCore, OpenError> {
        let admission = match store.admission()? {
            Some(admission) => admission,
            None => {
                store.set_admission(&fresh)?;
                fresh
            }
        };
        let router = router_of(now, &config, &store, admission)?;
        let cache = Cache::new(config.cache.clone());
        Ok(ServerCore { config, store, admission, router, cache, broken: false })
    }

    /// What a ticket says.
    pub fn admission(&self) -> AdmissionSecret {
        self.admission
    }

    /// Makes all tickets void that name another secret. Groups that are here stay.
    pub fn set_admission(&mut self, admission: AdmissionSecret) -> Result<(), DbError> {
        self.store.set_admission(&admission)?;
        self.admission = admission;
        self.router.set_admission(admission);
        Ok(())
    }

    /// Groups that it holds.
    pub fn groups(&self) -> usize {
        self.router.groups()
    }

    /// The database, for a copy of it.
    pub fn store(&self) -> &ServerStore {
        &self.store
    }

    /// The database alone, as of its last commit: all that a killed process leaves.
    pub fn into_store(mut self) -> ServerStore {
        self.store.rollback();
        self.store
    }

    /// Takes in what happened, in one transaction, and gives out what is to be done about it.
    pub fn handle(&mut self, now: Time, inputs: Vec<ServerInput>) -> Result<Vec<ServerOutput>, StoreFailed> {
        if self.broken {
            self.rebuild(now)?;
        }
        let mut outputs = Vec::new();
        match self.decide(now, inputs, &mut outputs) {
            Ok(()) => Ok(outputs),
            Err(error) => {
                self.store.rollback();
                self.rebuild(now)?;
                Err(StoreFailed(error.into()))
            }
        }
    }

    /// When to come again with [`ServerInput::Tick`].
    pub fn poll_timeout(&self) -> Option<Time> {
        self.router.poll_timeout().into_iter().chain(self.cache.poll_timeout()).min()
    }

    fn decide(&mut self, now: Time, inputs: Vec<ServerInput>, outputs: &mut Vec<ServerOutput>) -> Result<(), DbError> {
        let mut begun = false;
        for input in inputs {
            match side(input) {
                Side::Router(input) => self.router.handle(now, input),
                Side::Cache(input) => self.cache.handle(now, input),
                Side::Both => {
                    self.router.handle(now, router::Input::Tick);
                    self.cache.handle(now, cache::Input::Tick);
                }
            }
            self.drain(now, &mut begun, outputs)?;
        }
        if begun { self.store.commit() } else { Ok(()) }
    }

    fn drain(&mut self, now: Time, begun: &mut bool, outputs: &mut Vec<ServerOutput>) -> Result<(), DbError> {
        self.drain_cache(outputs);
        while let Some(effect) = self.router.poll_effect() {
            match effect {
                router::Effect::Persist(record) => {
                    if !std::mem::replace(begun, true) {
                        self.store.begin()?;
                    }
                    persist(&mut self.store, &record)?;
                }
                router::Effect::Chunks(order) => {
                    self.cache.handle(now, cache::Input::Order(order));
                    self.drain_cache(outputs);
                }
                router::Effect::Classed { conn, class } => outputs.push(ServerOutput::Classed { conn, class }),
                router::Effect::Send { to, frame } => outputs.push(ServerOutput::Send { to, frame }),
                router::Effect::SendCounted { conn, frame, bytes } => {
                    outputs.push(ServerOutput::SendCounted { conn, frame, bytes });
                }
                router::Effect::Close { conn, code } => outputs.push(ServerOutput::Close { conn, code }),
            }
        }
        Ok(())
    }

    fn drain_cache(&mut self, outputs: &mut Vec<ServerOutput>) {
        while let Some(effect) = self.cache.poll_effect() {
            outputs.push(match effect {
                cache::Effect::Send { to, frame } => ServerOutput::Send { to: vec![to], frame },
                cache::Effect::Receive { stream, entry } => ServerOutput::Receive { stream, entry },
                cache::Effect::Stop { stream, code } => ServerOutput::StopStream { stream, code },
                cache::Effect::Forward { forward, entry, asker, request } => {
                    ServerOutput::Forward { forward, entry, asker, request }
                }
                cache::Effect::EndForward { forward, code } => ServerOutput::EndForward { forward, code },
                cache::Effect::Drop { entry } => ServerOutput::Drop { entry },
            });
        }
    }

    fn rebuild(&mut self, now: Time) -> Result<(), StoreFailed> {
        self.broken = true;
        self.router = router_of(now, &self.config, &self.store, self.admission)?;
        self.cache = self.cache.emptied();
        self.broken = false;
        Ok(())
    }
}

fn router_of(
    now: Time,
    config: &CoreConfig,
    store: &ServerStore,
    admission: AdmissionSecret,
) -> Result<Router, OpenError> {
    let group = |row: GroupRow| StoredGroup {
        master: row.master,
        head: row.head,
        chain: row.chain,
        expulsions: row.expulsions,
    };
    let stored = store.groups()?.into_iter().map(group).collect();
    Ok(Router::new(now, config.router.clone(), admission, stored)?)
}

/// Whom an input concerns.
enum Side {
    Router(router::Input),
    Cache(cache::Input),
    Both,
}

fn side(input: ServerInput) -> Side {
    match input {
        ServerInput::Connected { conn, peer, remote } => Side::Router(router::Input::Connected { conn, peer, remote }),
        ServerInput::Moved { conn, remote } => Side::Router(router::Input::Moved { conn, remote }),
        ServerInput::Pinged { from, token } => Side::Router(router::Input::Pinged { from, token }),
        ServerInput::Frame { conn, frame } => Side::Router(router::Input::Frame { conn, frame }),
        ServerInput::Sent { conn, bytes } => Side::Router(router::Input::Sent { conn, bytes }),
        ServerInput::Closed { conn } => Side::Router(router::Input::Closed { conn }),
        ServerInput::Arriving { conn, stream, header } => Side::Cache(cache::Input::Arriving { conn, stream, header }),
        ServerInput::Progress(entry) => Side::Cache(cache::Input::Progress(entry)),
        ServerInput::Complete(entry) => Side::Cache(cache::Input::Complete(entry)),
        ServerInput::Broken(entry) => Side::Cache(cache::Input::Broken(entry)),
        ServerInput::Forwarding(forward) => Side::Cache(cache::Input::Forwarding(forward)),
        ServerInput::Forwarded(forward) => Side::Cache(cache::Input::Forwarded(forward)),
        ServerInput::Unwanted(forward) => Side::Cache(cache::Input::Unwanted(forward)),
        ServerInput::Tick => Side::Both,
    }
}

fn persist(store: &mut ServerStore, record: &Record) -> Result<(), DbError> {
    match record {
        Record::Group { group, master } => store.add_group(group, master),
        Record::Truncated { group, after } => store.truncate(group, *after),
        Record::Header { group, at, header } => store.add_header(group, *at, header),
        Record::Expulsion { group, device, header } => store.add_expulsion(group, device, header),
        Record::Head { group, head } => store.set_head(group, head),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{Hello, PROTOCOL_VERSION, Role};
    use crate::wire::ids::{Audience, GroupId, Hash, Position, PublicId};
    use crate::wire::log::{Head, Header, MembershipChange, SignedHead, SignedHeader, Standing};
    use crate::wire::sign::Identity;

    const SECRET: AdmissionSecret = AdmissionSecret([3; 16]);

    fn core(store: ServerStore) -> ServerCore {
        ServerCore::open(Time(0), CoreConfig::default(), store, SECRET).unwrap()
    }

    fn master() -> Identity {
        Identity::from_seeds([1; 32], [2; 32])
    }

    fn group() -> GroupId {
        GroupId::of(&master().device_key())
    }

    fn genesis() -> SignedHeader {
        let change = MembershipChange {
            id: PublicId([1; 16]),
            device: master().device_key(),
            seal: master().seal_key(),
            standing: Standing::Approved,
            nonce: [0; 16],
        };
        let header = Header {
            group: group(),
            at: Position { generation: 1, revision: 1 },
            previous: Hash::ZERO,
            previous_membership: Hash::ZERO,
            time_ms: 0,
            audience: Audience::EVERYONE,
            membership: Some(change),
            body: Hash::ZERO,
        };
        SignedHeader::sign(&master(), &header).signed().clone()
    }

    fn head() -> SignedHead {
        let hash = Hash::of(&genesis().bytes);
        let at = Position { generation: 1, revision: 1 };
        SignedHead::sign(&master(), &Head { group: group(), at, header: hash, membership: hash, nonce: [0; 16] })
    }

    fn comes(conn: u64) -> Vec<ServerInput> {
        let hello = Hello {
            version: PROTOCOL_VERSION,
            software: "test".into(),
            role: Role::Master,
            group: group(),
            head: Some(head()),
        };
        let conn = ConnId(conn);
        let frame = |frame| ServerInput::Frame { conn, frame };
        vec![
            ServerInput::Connected { conn, peer: master().device_key(), remote: "192.0.2.1:1".parse().unwrap() },
            frame(Frame::Hello(hello)),
            frame(Frame::MasterRegister { admission: Some(SECRET) }),
            frame(Frame::Headers(vec![genesis()])),
        ]
    }

    fn stored_told(outputs: &[ServerOutput]) -> bool {
        outputs.iter().any(|output| matches!(output, ServerOutput::Send { frame: Frame::HeadersStored(_), .. }))
    }

    #[test]
    fn what_was_told_is_stored() {
        let mut core = core(ServerStore::open_in_memory().unwrap());
        let outputs = core.handle(Time(0), comes(1)).unwrap();
        assert!(stored_told(&outputs));
        let rows = core.store().copy_in_memory().unwrap().groups().unwrap();
        assert_eq!((rows[0].chain.clone(), rows[0].head.clone()), (vec![genesis()], Some(head())));
    }

    #[test]
    fn outputs_of_a_failed_commit_are_dropped_and_the_disk_is_believed() {
        let mut core = core(ServerStore::open_in_memory().unwrap());
        // The group is on the disk, and the machines don't know: storing it again fails.
        core.store.add_group(&group(), &master().device_key()).unwrap();
        assert!(core.handle(Time(0), comes(1)).is_err());
        assert_eq!(core.store.groups().unwrap()[0].chain, [], "nothing of it was stored");
        assert_eq!(core.groups(), 1, "the machines know what the disk knows");
        let ping = ServerInput::Frame { conn: ConnId(1), frame: Frame::Ping(1) };
        assert!(core.handle(Time(0), vec![ping]).unwrap().is_empty(), "old connections are forgotten");
        assert!(stored_told(&core.handle(Time(0), comes(2)).unwrap()));
    }

    #[test]
    fn a_rotated_secret_makes_old_tickets_void() {
        let mut core = core(ServerStore::open_in_memory().unwrap());
        core.set_admission(AdmissionSecret([4; 16])).unwrap();
        let refused = |outputs: &[ServerOutput]| {
            outputs
                .iter()
                .any(|output| matches!(output, ServerOutput::Send { frame: Frame::MasterRegisterAck(Err(_)), .. }))
        };
        assert!(refused(&core.handle(Time(0), comes(1)).unwrap()));
        let again = ServerCore::open(Time(0), CoreConfig::default(), core.store.copy_in_memory().unwrap(), SECRET);
        assert!(again.unwrap().admission() == AdmissionSecret([4; 16]));
    }
}
