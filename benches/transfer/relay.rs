//! Through a relay: the real server, next to a process that does nothing but splice QUIC streams, which is the ceiling.
//!
//! The relay is a process of its own. Owner and asker are the same code for both: a thread each, on the product's transport; the
//! asker keeps the same number of chunks outstanding.

use crate::group::{ANY_PORT, Fake, MIB, Place, content, endpoint, header, identity, key, within};
use crate::raw::{Process, one_thread, quinn_server, socket};
use crate::{BAILIWICK, SPLICE, is_measured};
use bailiwick::net::chunks::{ChunkReceiver, accept_chunk, open_chunk};
use bailiwick::net::connection::Connection;
use bailiwick::net::endpoint::Endpoint;
use bailiwick::wire::chunk::CHUNK_HEADER_BYTES;
use bailiwick::wire::frame::{ChunkRange, Frame};
use bailiwick::wire::invite::Ticket;
use bailiwick::wire::seal::TAG_BYTES;
use bytes::Bytes;
use criterion::{Criterion, SamplingMode, Throughput};
use quinn::{EndpointConfig, RecvStream, SendStream};
use std::cell::{Cell, LazyCell};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Chunks of one iteration.
const CHUNKS: u32 = 256;
/// The same where nothing is measured.
const CHUNKS_TRIED: u32 = 4;
/// Chunks that the asker has asked for and not read, at most: 32 MiB.
const OUTSTANDING: u32 = 32;
/// Chunks that it asks for at once.
const ASKED_AT_ONCE: u32 = 8;
/// Bytes of a chunk as it travels.
const CHUNK_BYTES: usize = MIB as usize + TAG_BYTES;
/// Chunk streams that the two ends and the ceiling's process let a peer open, as a busy server does.
const UNI_STREAMS: u32 = 256;
/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;
/// Pieces that are spliced at once.
const PIECES: usize = 64;

const OWNER: u8 = 1;
const ASKER: u8 = 2;
const RELAY: u8 = 3;

pub(crate) fn relay(criterion: &mut Criterion) {
    let chunks = if is_measured() { CHUNKS } else { CHUNKS_TRIED };
    let mut group = criterion.benchmark_group("relay");
    group.throughput(Throughput::Bytes(u64::from(chunks) * CHUNK_BYTES as u64));
    group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(15));
    let raw = LazyCell::new(Relay::splice);
    group.bench_function("raw quinn", |bencher| bencher.iter(|| raw.fetch(chunks)));
    drop(raw);
    let server = LazyCell::new(Relay::server);
    group.bench_function("server", |bencher| bencher.iter(|| server.fetch(chunks)));
    group.finish();
}

/// An owner and an asker at the two sides of a relay.
struct Relay {
    asker: Runtime,
    orders: Arc<Orders>,
    /// The first chunk that was never asked for: what was is in the server's cache.
    next: Cell<u32>,
    _owner: Runtime,
    _process: Process,
    _temporary: Option<TempDir>,
}

/// How the asker asks.
enum Orders {
    /// It tells the owner, with no network between.
    Direct { connection: Connection, owner: mpsc::UnboundedSender<(u32, u32)>, _endpoint: Endpoint },
    /// It asks the server. Without its master the group would not be let in.
    Frames { asker: Box<Fake>, _master: Box<Fake> },
}

impl Relay {
    fn splice() -> Relay {
        let process = Process::start(SPLICE, &[]);
        let listen = process.ready.trim().parse().expect("the address where it listens");
        let dial = async |n| {
            let endpoint = endpoint(n);
            let connection = endpoint.dial(listen, key(RELAY)).await.expect("a connection");
            (endpoint, connection)
        };
        let (owner, asker) = (one_thread(), one_thread());
        // The first that it accepts is the owner.
        let (owner_endpoint, sending) = owner.block_on(dial(OWNER));
        let (asker_endpoint, connection) = asker.block_on(dial(ASKER));
        connection.raise_streams(UNI_STREAMS);
        let (orders, mut ordered) = mpsc::unbounded_channel();
        owner.spawn(async move {
            let (_endpoint, chunk) = (owner_endpoint, Bytes::from(vec![5; CHUNK_BYTES]));
            while let Some((first, count)) = ordered.recv().await {
                send(&sending, 0, &ChunkRange { count, ..ChunkRange::one(content(), first, MIB) }, &chunk).await;
            }
        });
        let orders = Orders::Direct { connection, owner: orders, _endpoint: asker_endpoint };
        Relay::new(process, None, owner, asker, orders)
    }

    fn server() -> Relay {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let listen = ANY_PORT.to_string();
        let state = temporary.path().join("state");
        let process = Process::start(
            BAILIWICK,
            &["--json".as_ref(), "--state".as_ref(), &state, "server".as_ref(), "--listen".as_ref(), listen.as_ref()],
        );
        let place = || {
            let ready: serde_json::Value = serde_json::from_str(&process.ready).expect("the line of a ready node");
            let text = |name: &str| ready[name].as_str().expect("a text").to_owned();
            Place { listen: text("listen").parse().expect("an address"), ticket: ticket(&text("ticket")) }
        };
        let (owner, asker) = (one_thread(), one_thread());
        let master = Box::new(asker.block_on(Fake::master(place(), &[OWNER, ASKER])));
        let mut sending = owner.block_on(Fake::member(place(), OWNER));
        owner.spawn(async move {
            let chunk = Bytes::from(vec![5; CHUNK_BYTES]);
            loop {
                match sending.frame().await.expect("the server closed") {
                    Frame::UploadChunk { request, ranges } => {
                        for range in ranges {
                            send(&sending.connection, request, &range, &chunk).await;
                        }
                    }
                    // Whoever does not answer is let go.
                    Frame::Ping(at) => sending.say(&Frame::Pong(at)),
                    _ => {}
                }
            }
        });
        let asking = Box::new(asker.block_on(Fake::member(place(), ASKER)));
        let orders = Orders::Frames { asker: asking, _master: master };
        Relay::new(process, Some(temporary), owner, asker, orders)
    }

    fn new(process: Process, temporary: Option<TempDir>, owner: Runtime, asker: Runtime, orders: Orders) -> Relay {
        let orders = Arc::new(orders);
        Relay { asker, orders, next: Cell::new(0), _owner: owner, _process: process, _temporary: temporary }
    }

    /// Fetches as many chunks.
    fn fetch(&self, chunks: u32) {
        let first = self.next.replace(self.next.get() + chunks);
        let fetched = self.asker.spawn(within(fetch(self.orders.clone(), first, chunks)));
        self.asker.block_on(fetched).expect("the chunks");
    }
}

async fn fetch(orders: Arc<Orders>, first: u32, chunks: u32) {
    let mut reading = JoinSet::new();
    let (mut asked, mut read) = (0, 0);
    while read < chunks {
        let more = ASKED_AT_ONCE.min(chunks - asked);
        if more > 0 && asked + more - read <= OUTSTANDING {
            orders.ask(first + asked, more);
            asked += more;
            continue;
        }
        tokio::select! {
            stream = accept_chunk(orders.connection()) => {
                reading.spawn(read_all(stream.expect("a stream")));
            }
            Some(bytes) = reading.join_next() => {
                assert_eq!(bytes.expect("a chunk"), CHUNK_HEADER_BYTES + CHUNK_BYTES);
                read += 1;
            }
        }
    }
}

pub(crate) async fn read_all(mut stream: ChunkReceiver) -> usize {
    let mut bytes = 0;
    while let Some(segment) = stream.read_segments(READ_BYTES).await.expect("a whole chunk") {
        bytes += segment.len();
    }
    bytes
}

impl Orders {
    fn connection(&self) -> &Connection {
        match self {
            Orders::Direct { connection, .. } => connection,
            Orders::Frames { asker, .. } => &asker.connection,
        }
    }

    fn ask(&self, first: u32, count: u32) {
        match self {
            Orders::Direct { owner, .. } => owner.send((first, count)).expect("the owner serves"),
            Orders::Frames { asker, .. } => asker.ask(first.into(), OWNER, first, count),
        }
    }
}

async fn send(connection: &Connection, request: u64, range: &ChunkRange, chunk: &Bytes) {
    for (content, index, length) in range.chunks() {
        let header = Bytes::copy_from_slice(&header(request, content, index, length).encode());
        let mut stream = open_chunk(connection).await.expect("a stream");
        stream.write_all_chunks(&mut [header, chunk.clone()]).await.expect("a relay that takes all");
        stream.finish();
    }
}

fn ticket(text: &str) -> Ticket {
    Ticket::parse(text).unwrap_or_else(|_| panic!("no ticket: {text}"))
}

/// The ceiling: takes a connection, then another one, and passes every stream of the first on to the second.
pub(crate) fn splice() {
    one_thread().block_on(async {
        let endpoint = quinn::Endpoint::new(
            EndpointConfig::default(),
            Some(quinn_server(&identity(RELAY), UNI_STREAMS)),
            socket(),
            Arc::new(quinn::TokioRuntime),
        )
        .expect("an endpoint");
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{}", endpoint.local_addr().expect("its address")).expect("somebody reads it");
        stdout.flush().expect("somebody reads it");
        let accept = async || endpoint.accept().await.expect("somebody").await.expect("a connection");
        let (owner, asker) = (accept().await, accept().await);
        let passing = tokio::spawn(async move {
            while let Ok(from) = owner.accept_uni().await {
                let asker = asker.clone();
                tokio::spawn(async move {
                    // Either end may be gone: then there is nobody to be told.
                    if let Ok(to) = asker.open_uni().await {
                        pass(from, to).await;
                    }
                });
            }
        });
        let _ = passing.await;
    });
}

async fn pass(mut from: RecvStream, mut to: SendStream) {
    let mut pieces: [Bytes; PIECES] = [const { Bytes::new() }; PIECES];
    while let Ok(Some(count)) = from.read_chunks(&mut pieces).await {
        if to.write_all_chunks(&mut pieces[..count]).await.is_err() {
            return;
        }
    }
    let _ = to.finish();
}
