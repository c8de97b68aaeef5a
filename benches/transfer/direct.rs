//! Directly, between two processes on one machine: a whole download, from a file into a file, next to QUIC streams that
//! carry as many bytes out of memory into nothing, which is the ceiling.

use crate::group::{ANY_PORT, MIB, content, endpoint, header, identity, key, within};
use crate::raw::{Process, one_thread, quinn_server, socket};
use crate::relay::read_all;
use crate::{BAILIWICK, SEND, is_measured};
use bailiwick::api::client::Client;
use bailiwick::net::chunks::{accept_chunk, open_chunk};
use bailiwick::net::connection::Connection;
use bailiwick::net::endpoint::Endpoint;
use bailiwick::node::local::{Command, PathRow, Reply, StandingRow, TransferState};
use bailiwick::state::downloads::Way;
use bailiwick::wire::chunk::{CHUNK_HEADER_BYTES, ChunkHeader};
use bytes::Bytes;
use criterion::{Criterion, SamplingMode, Throughput};
use quinn::EndpointConfig;
use std::cell::LazyCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Chunks of one iteration.
const CHUNKS: u32 = 256;
/// The same where nothing is measured.
const CHUNKS_TRIED: u32 = 4;
/// Streams that are read at a time: as many chunks as a download has under way.
const STREAMS: u32 = 32;
/// How often a node is asked what has become of something.
const LOOK: Duration = Duration::from_millis(5);

const SENDER: u8 = 3;
const READER: u8 = 2;

pub(crate) fn direct(criterion: &mut Criterion) {
    let chunks = if is_measured() { CHUNKS } else { CHUNKS_TRIED };
    let mut group = criterion.benchmark_group("direct");
    group.throughput(Throughput::Bytes(u64::from(chunks) * u64::from(MIB)));
    group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(15));
    let raw = LazyCell::new(Raw::start);
    group.bench_function("raw quinn", |bencher| bencher.iter(|| raw.fetch(chunks)));
    drop(raw);
    let nodes = LazyCell::new(|| Nodes::start(chunks));
    group.bench_function("file to file", |bencher| {
        bencher.iter_custom(|count| (0..count).map(|_| nodes.fetch()).sum());
    });
    group.finish();
}

/// A process that sends, and what reads here.
struct Raw {
    runtime: Runtime,
    connection: Connection,
    _endpoint: Endpoint,
    _process: Process,
}

impl Raw {
    fn start() -> Raw {
        let process = Process::start(SEND, &[]);
        let listen = process.ready.trim().parse().expect("the address where it listens");
        let runtime = one_thread();
        let (endpoint, connection) = runtime.block_on(async {
            let endpoint = endpoint(READER);
            let connection = endpoint.dial(listen, key(SENDER)).await.expect("a connection");
            (endpoint, connection)
        });
        connection.raise_streams(STREAMS);
        Raw { runtime, connection, _endpoint: endpoint, _process: process }
    }

    fn fetch(&self, chunks: u32) {
        let connection = self.connection.clone();
        let reading = async move {
            let mut order = open_chunk(&connection).await.expect("a stream");
            let header = Bytes::copy_from_slice(&header(chunks.into(), content(), 0, MIB).encode());
            order.write_all_chunks(&mut [header]).await.expect("an order");
            order.finish();
            let mut reading = JoinSet::new();
            for _ in 0..chunks {
                reading.spawn(read_all(accept_chunk(&connection).await.expect("a stream")));
            }
            while let Some(bytes) = reading.join_next().await {
                assert_eq!(bytes.expect("a chunk"), CHUNK_HEADER_BYTES + MIB as usize);
            }
        };
        self.runtime.block_on(self.runtime.spawn(within(reading))).expect("the chunks");
    }
}

/// The sender: as many streams as each order says.
pub(crate) fn send() {
    one_thread().block_on(async {
        let server = quinn_server(&identity(SENDER), STREAMS);
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint =
            quinn::Endpoint::new(EndpointConfig::default(), Some(server), socket(), runtime).expect("an endpoint");
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{}", endpoint.local_addr().expect("its address")).expect("somebody reads it");
        stdout.flush().expect("somebody reads it");
        let connection = endpoint.accept().await.expect("somebody").await.expect("a connection");
        let bytes = Bytes::from(vec![5; MIB as usize]);
        let sending = tokio::spawn(async move {
            while let Ok(mut order) = connection.accept_uni().await {
                let mut ordered = [0; CHUNK_HEADER_BYTES];
                order.read_exact(&mut ordered).await.expect("an order");
                let ordered = ChunkHeader::decode(&ordered).expect("an order").request;
                for index in 0..ordered {
                    let header = Bytes::copy_from_slice(&header(1, content(), index as u32, MIB).encode());
                    let mut stream = connection.open_uni().await.expect("a stream");
                    let bytes = bytes.clone();
                    tokio::spawn(async move {
                        // Fails when the other end has gone.
                        if stream.write_all_chunks(&mut [header, bytes]).await.is_ok() {
                            let _ = stream.finish();
                        }
                    });
                }
            }
        });
        let _ = sending.await;
    });
}

/// A master that shares a file, a client that fetches it, and a server.
struct Nodes {
    client: PathBuf,
    runtime: Runtime,
    dest: PathBuf,
    _processes: [Process; 2],
    _temporary: TempDir,
}

impl Nodes {
    fn start(chunks: u32) -> Nodes {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| temporary.path().join(name);
        let (desk, client, film, dest) = (path("desk"), path("client"), path("film"), path("got"));
        let mut bytes = vec![0; MIB as usize * chunks as usize];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        std::fs::write(&film, bytes).expect("a file");
        let text = |text: &'static str| Path::new(text);
        let listen = ANY_PORT.to_string();
        let state = [text("--json"), text("--state")];
        let master =
            [text("master"), text("--name"), text("desk"), text("--listen"), Path::new(&listen), film.as_path()];
        let master = Process::start(BAILIWICK, &[&state[..], &[&desk], &master[..]].concat());
        let runtime = one_thread();
        let Reply::Invites(rows) = ask(&runtime, &desk, &Command::Invite { expires_s: 3_600 }) else {
            panic!("no invite")
        };
        let invite = rows.first().expect("an invite").invite.clone();
        let asks = [text("client"), text("--name"), text("laptop"), Path::new(&invite)];
        let member = Process::start(BAILIWICK, &[&state[..], &[&client], &asks[..]].concat());
        let standing = |of: &Path| {
            let Reply::Clients(rows) = ask(&runtime, of, &Command::Clients) else { panic!("no devices") };
            rows.into_iter().find(|row| row.name == "laptop").map(|row| row.standing)
        };
        until(|| standing(&desk) == Some(StandingRow::Registered));
        ask(&runtime, &desk, &Command::Approve { ids: vec!["laptop".to_owned()] });
        until(|| standing(&client) == Some(StandingRow::Approved));
        until(|| {
            let Reply::Files(rows) = ask(&runtime, &client, &Command::Files { query: None, offset: 0, limit: None })
            else {
                panic!("no files")
            };
            rows.iter().any(|row| row.path == "film")
        });
        Nodes { client, runtime, dest, _processes: [master, member], _temporary: temporary }
    }

    /// One download, from the question to its end.
    fn fetch(&self) -> Duration {
        // What is there already would not be fetched.
        let _ = std::fs::remove_dir_all(&self.dest);
        let get = Command::Get {
            files: vec!["desk:film".to_owned()],
            dest: Some(self.dest.clone()),
            conflict: None,
            way: Some(Way::Direct),
        };
        let begun = Instant::now();
        let Reply::Jobs(rows) = ask(&self.runtime, &self.client, &get) else { panic!("no job") };
        let job = rows.first().expect("a job").job;
        until(|| {
            let Reply::Jobs(rows) = ask(&self.runtime, &self.client, &Command::Jobs { job: Some(job) }) else {
                panic!("no jobs")
            };
            rows.first().is_some_and(|row| row.state == TransferState::Done)
        });
        let took = begun.elapsed();
        let Reply::Clients(rows) = ask(&self.runtime, &self.client, &Command::Clients) else { panic!("no devices") };
        assert!(rows.iter().any(|row| row.name == "desk" && row.path == Some(PathRow::Direct)));
        took
    }
}

fn ask(runtime: &Runtime, state: &Path, command: &Command) -> Reply {
    let client = Client::open(state).expect("it runs");
    runtime.block_on(client.ask(command)).unwrap_or_else(|error| panic!("{command:?}: {error:?}"))
}

fn until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(90), "it hangs");
        std::thread::sleep(LOOK);
    }
}
