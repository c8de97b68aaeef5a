//! A group made of the transport and the wire format alone: its devices, its log, and their connections to a server.

use bailiwick::net::connection::Connection;
use bailiwick::net::control::{ControlReceiver, ControlSender, open_control};
use bailiwick::net::endpoint::{Config, Endpoint};
use bailiwick::net::limits::{CONTROL_QUEUE_BYTES_MAX, IDLE_UNI_STREAMS};
use bailiwick::node::server::ServerHandle;
use bailiwick::wire::chunk::ChunkHeader;
use bailiwick::wire::codec::{decode, encode};
use bailiwick::wire::frame::{ChunkRange, Class, Frame, Hello, PROTOCOL_VERSION, Role};
use bailiwick::wire::ids::{Audience, ContentId, DeviceKey, EpochId, GroupId, Hash, Position, PublicId};
use bailiwick::wire::invite::Ticket;
use bailiwick::wire::log::{Head, Header, MembershipChange, SignedHead, SignedHeader, Standing};
use bailiwick::wire::seal::Cipher;
use bailiwick::wire::sign::Identity;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

pub(crate) const MIB: u32 = 1 << 20;
pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Guards against hanging; says nothing about how long things take.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(90), future).await.expect("the test hangs")
}

/// A device by its number; the master is 0.
pub(crate) fn identity(n: u8) -> Identity {
    Identity::from_seeds([n + 1; 32], [n + 101; 32])
}

pub(crate) fn key(n: u8) -> DeviceKey {
    identity(n).device_key()
}

pub(crate) fn group() -> GroupId {
    GroupId::of(&key(0))
}

pub(crate) fn id(n: u8) -> PublicId {
    PublicId([n; 16])
}

/// The log of a group with these members approved: its headers and its head.
pub(crate) fn log(members: &[u8]) -> (Vec<SignedHeader>, SignedHead) {
    let (mut headers, mut last) = (Vec::new(), Hash::ZERO);
    for (n, revision) in [0].iter().chain(members).zip(1..) {
        let (device, seal) = (key(*n), identity(*n).seal_key());
        let change = MembershipChange { id: id(*n), device, seal, standing: Standing::Approved, nonce: [0; 16] };
        let header = Header {
            group: group(),
            at: Position { generation: 1, revision },
            previous: last,
            previous_membership: last,
            time_ms: 0,
            audience: Audience::EVERYONE,
            membership: Some(change),
            body: Hash::ZERO,
        };
        let signed = SignedHeader::sign(&identity(0), &header);
        last = signed.hash();
        headers.push(signed.signed().clone());
    }
    let at = Position { generation: 1, revision: headers.len() as u64 };
    let head = Head { group: group(), at, header: last, membership: last, nonce: [0; 16] };
    (headers, SignedHead::sign(&identity(0), &head))
}

/// A device's place on the network.
pub(crate) fn endpoint(n: u8) -> Endpoint {
    Endpoint::bind(Config::new(ANY_PORT, &identity(n), [n; 32], n.into())).unwrap()
}

pub(crate) fn content() -> ContentId {
    ContentId([6; 16])
}

/// What a chunk's stream begins with.
pub(crate) fn header(request: u64, content: ContentId, index: u32, length: u32) -> ChunkHeader {
    ChunkHeader {
        cipher: Cipher::Aes256Gcm,
        audience: Audience::EVERYONE,
        epoch: EpochId { generation: 1, number: 1 },
        request,
        content,
        index,
        length,
        nonce: [9; 12],
    }
}

/// Where a server listens, and what its ticket says.
pub(crate) struct Place {
    pub(crate) listen: SocketAddr,
    pub(crate) ticket: Ticket,
}

impl From<&ServerHandle> for Place {
    fn from(server: &ServerHandle) -> Place {
        Place { listen: server.listen(), ticket: server.ticket() }
    }
}

/// A node that is connected to a server.
pub(crate) struct Fake {
    pub(crate) connection: Connection,
    pub(crate) sender: ControlSender,
    pub(crate) receiver: ControlReceiver,
    _endpoint: Endpoint,
}

impl Fake {
    pub(crate) async fn dial(server: impl Into<Place>, n: u8, role: Role) -> Fake {
        let Place { listen, ticket } = server.into();
        let endpoint = endpoint(n);
        let connection = within(endpoint.dial(listen, ticket.server.key)).await.unwrap();
        let (sender, receiver) = within(open_control(&connection, CONTROL_QUEUE_BYTES_MAX)).await.unwrap();
        let fake = Fake { connection, sender, receiver, _endpoint: endpoint };
        let hello = Hello { version: PROTOCOL_VERSION, software: "fake".into(), role, group: group(), head: None };
        fake.say(&Frame::Hello(hello));
        fake
    }

    /// A master that has told all that there is.
    pub(crate) async fn master(server: impl Into<Place>, members: &[u8]) -> Fake {
        let place = server.into();
        let admission = Some(place.ticket.admission);
        let mut fake = Fake::dial(place, 0, Role::Master).await;
        let (headers, head) = log(members);
        fake.say(&Frame::MasterRegister { admission });
        fake.say(&Frame::Headers(headers));
        fake.say(&Frame::Head(head));
        fake.say(&Frame::OpenInvites(vec![]));
        fake.hear(|frame| matches!(frame, Frame::HeadersStored(_)).then_some(())).await;
        fake
    }

    pub(crate) async fn member(server: impl Into<Place>, n: u8) -> Fake {
        let fake = Fake::idle_member(server, n).await;
        fake.connection.raise_streams(256);
        fake
    }

    /// A member that takes a few streams at once only.
    pub(crate) async fn idle_member(server: impl Into<Place>, n: u8) -> Fake {
        let mut fake = Fake::dial(server, n, Role::Client).await;
        assert_eq!(fake.class().await, Class::Approved);
        fake.connection.raise_streams(IDLE_UNI_STREAMS);
        fake
    }

    pub(crate) fn say(&self, frame: &Frame) {
        self.sender.try_send(encode(frame)).unwrap();
    }

    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        let bytes = within(self.receiver.recv()).await.ok().flatten()?;
        Some(decode(&bytes).unwrap_or_else(|_| panic!("the server sends frames")))
    }

    /// Reads until a frame is the one that is waited for.
    pub(crate) async fn hear<T>(&mut self, wanted: impl Fn(Frame) -> Option<T>) -> T {
        loop {
            let frame = self.frame().await.expect("the server closed");
            if let Some(found) = wanted(frame) {
                return found;
            }
        }
    }

    pub(crate) async fn class(&mut self) -> Class {
        self.hear(|frame| match frame {
            Frame::Welcome(welcome) => Some(welcome.class),
            _ => None,
        })
        .await
    }

    pub(crate) fn ask(&self, request: u64, owner: u8, first: u32, count: u32) {
        let range = ChunkRange { content: content(), first, count, bytes: MIB, last_bytes: MIB };
        self.say(&Frame::RequestChunk { request, owner: id(owner), ranges: vec![range] });
    }
}
