//! The local API against a node that only answers.

use super::API_STRANGERS_MAX;
use super::client::Client;
use super::place::ApiPlace;
use super::server::{Api, serve};
use crate::node::local::*;
use crate::store::statedir::StateDir;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, watch};

struct Fixture {
    dir: TempDir,
    state: Arc<StateDir>,
    api: Api,
    shutdown: watch::Sender<bool>,
    events: broadcast::Sender<Event>,
}

/// A served API whose node answers each command by `answer`.
async fn fixture(answer: fn(Command) -> Result<Reply, LocalError>) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let (handle, mut ends) = NodeHandle::new();
    let events = ends.events.clone();
    tokio::spawn(async move {
        while let Some(request) = ends.requests.recv().await {
            let _ = request.reply.send(answer(request.command));
        }
    });
    let (shutdown, stopped) = watch::channel(false);
    let state = Arc::new(StateDir::open(dir.path()).unwrap());
    let api = serve(state.clone(), handle, stopped).await.unwrap();
    Fixture { dir, state, api, shutdown, events }
}

/// One request as it stands on the wire; the answer's status and all of its text.
async fn raw(place: &ApiPlace, target: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut stream = TcpStream::connect(place.url.strip_prefix("http://").unwrap()).await.unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!("GET {target} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

fn place(fixture: &Fixture) -> ApiPlace {
    ApiPlace::read(fixture.dir.path()).ok().unwrap()
}

#[tokio::test]
async fn only_the_token_at_the_bound_address_opens() {
    let fixture = fixture(|_| Ok(Reply::Clients(vec![]))).await;
    let place = place(&fixture);
    let host = place.url.strip_prefix("http://").unwrap().to_owned();
    let port = host.rsplit_once(':').unwrap().1;
    let localhost = format!("localhost:{port}");
    let evil = format!("evil.example:{port}");
    let token = format!("Bearer {}", place.token);
    let own_origin = place.url.clone();
    let wrong = format!("Bearer {}", "0".repeat(64));
    let cases: &[(u16, &[(&str, &str)])] = &[
        (200, &[("Host", &host), ("Authorization", &token)]),
        (200, &[("Host", &localhost), ("Authorization", &token)]),
        (200, &[("Host", &host), ("Authorization", &token), ("Origin", &own_origin)]),
        (401, &[("Host", &host)]),
        (401, &[("Host", &host), ("Authorization", &wrong)]),
        (401, &[("Host", &host), ("Authorization", &place.token)]),
        (401, &[("Host", &host), ("Authorization", &wrong), ("Authorization", &token)]),
        (403, &[("Host", &evil), ("Authorization", &token)]),
        (403, &[("Host", "127.0.0.1"), ("Authorization", &token)]),
        (403, &[("Host", &host), ("Authorization", &token), ("Origin", "http://evil.example")]),
        (403, &[("Host", &host), ("Authorization", &token), ("Origin", "null")]),
        (403, &[("Host", &host), ("Host", &evil), ("Authorization", &token)]),
    ];
    for (status, headers) in cases {
        let (got, answer) = raw(&place, "/v1/clients", headers).await;
        // hyper itself may refuse what is malformed, as 400.
        assert!(got == *status || (*status == 403 && got == 400), "{headers:?}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("access-control"), "{answer}");
    }
    let (status, answer) = raw(&place, "/", &[("Host", &host)]).await;
    assert_eq!(status, 401, "unknown routes are guarded as well: {answer}");
}

#[tokio::test]
async fn idle_strangers_keep_nobody_out_and_take_few_descriptors() {
    let fixture = fixture(|_| Ok(Reply::Clients(vec![]))).await;
    let client = Client::open(fixture.dir.path()).unwrap();
    let mut events = client.watch().await.unwrap();
    let address = place(&fixture).url["http://".len()..].to_owned();
    let mut idle = Vec::new();
    for _ in 0..4 * API_STRANGERS_MAX {
        idle.push(TcpStream::connect(&address).await.unwrap());
    }
    assert_eq!(client.ask(&Command::Clients).await.unwrap(), Reply::Clients(vec![]));
    for stranger in &mut idle[..3 * API_STRANGERS_MAX] {
        // Closed, or reset.
        assert!(!matches!(stranger.read(&mut [0]).await, Ok(1..)));
    }
    let event = Event { event: "approved".into(), time: now_rfc3339(), detail: serde_json::Map::new() };
    fixture.events.send(event.clone()).unwrap();
    assert_eq!(events.next().await.unwrap(), Some(event), "who has shown the token stays");
}

#[tokio::test]
async fn a_request_that_does_not_come_is_not_waited_for() {
    let fixture = fixture(|_| Ok(Reply::Done)).await;
    let place = place(&fixture);
    let address = &place.url["http://".len()..];
    let ending = async |begin: String| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let head = ending("GET /v1/status HTTP/1.1\r\nHost: ".to_owned());
    let body = ending(format!(
        "POST /v1/scan HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: 9\r\n\r\n{{",
        place.token
    ));
    let (_, body) = tokio::join!(head, body);
    assert!(body.starts_with("HTTP/1.1 408 "), "{body}");
}

#[tokio::test]
async fn errors_travel_with_their_kind() {
    let fixture = fixture(|command| match command {
        Command::Invites => Err(LocalError::new(ErrorCode::WrongRole, "only the master has invites", "ask there")),
        _ => Err(LocalError::new(ErrorCode::NotNow, "not now", "wait")),
    })
    .await;
    let client = Client::open(fixture.dir.path()).unwrap();
    let error = client.ask(&Command::Invites).await.unwrap_err();
    assert_eq!((error.code, error.hint.as_str()), (ErrorCode::WrongRole, "ask there"));
    assert_eq!(client.ask(&Command::Stop).await.unwrap_err().code, ErrorCode::NotNow);
    let place = place(&fixture);
    let headers = [("Host", &place.url[7..]), ("Authorization", &format!("Bearer {}", place.token)[..])];
    let (status, answer) = raw(&place, "/v1/jobs?job=x", &headers).await;
    assert!(status == 400 && answer.contains("\"code\":\"usage\""), "{answer}");
    let (status, answer) = raw(&place, "/v1/nothing", &headers).await;
    assert!(status == 404 && answer.contains("\"code\":\"not_found\""), "{answer}");
    let (status, answer) = raw(&place, "/v1/stop", &headers).await;
    assert!(status == 405 && answer.contains("\"error\":"), "{answer}");
}

#[tokio::test]
async fn shutdown_ends_open_streams_at_once_and_takes_the_file_along() {
    let fixture = fixture(|_| Ok(Reply::Done)).await;
    let client = Client::open(fixture.dir.path()).unwrap();
    let mut events = client.watch().await.unwrap();
    let event = Event { event: "approved".into(), time: now_rfc3339(), detail: serde_json::Map::new() };
    fixture.events.send(event.clone()).unwrap();
    assert_eq!(events.next().await.unwrap(), Some(event.clone()));
    fixture.events.send(Event { event: "stopping".into(), ..event }).unwrap();
    fixture.shutdown.send(true).unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().event, "stopping");
    assert_eq!(events.next().await.unwrap(), None);
    fixture.api.ended().await;
    drop(fixture.state);
    assert!(Client::open(fixture.dir.path()).is_err_and(|error| error.code == ErrorCode::NotRunning));
    assert_eq!(client.ask(&Command::Status).await.unwrap_err().code, ErrorCode::NotRunning);
}

#[tokio::test]
async fn a_foreign_program_on_the_port_is_no_running_node() {
    let fixture = fixture(|_| Ok(Reply::Done)).await;
    let place = ApiPlace { token: "f".repeat(64), ..place(&fixture) };
    place.write(&fixture.state).unwrap();
    let client = Client::open(fixture.dir.path()).unwrap();
    assert_eq!(client.ask(&Command::Stop).await.unwrap_err().code, ErrorCode::NotRunning);
}

/// The sample says which command it answers.
fn samples() -> Vec<(Command, Reply)> {
    let ids = vec!["a\u{202e}/b c&d".to_owned()];
    let path = Path::new("/tmp/a b&c/ü").to_owned();
    let (clients, files) = (Reply::Clients(vec![client_row()]), Reply::Files(vec![file_row()]));
    let shares = Reply::Shares(vec![share_row()]);
    let policy = Reply::Policy(vec![PolicyRow { key: MASTER_AWAY.into(), wait_s: 180, continue_s: 28_800 }]);
    let invites = Reply::Invites(vec![InviteRow { id: "i".into(), invite: "bwi1x".into(), expires: "t".into() }]);
    vec![
        (Command::Status, Reply::Status(Box::new(status_row()))),
        (Command::Clients, clients.clone()),
        (Command::Doctor { id: Some("laptop".into()) }, Reply::Doctor(Box::new(diagnosis()))),
        (Command::Files { query: Some("ü &x=1".into()), offset: 7, limit: Some(3) }, files.clone()),
        (Command::Files { query: None, offset: 0, limit: None }, Reply::Files(vec![])),
        (Command::Shares, shares.clone()),
        (Command::Transfers { job: Some(4) }, Reply::Transfers(vec![transfer_row()])),
        (Command::Transfers { job: None }, Reply::Transfers(vec![])),
        (Command::Jobs { job: Some(4) }, Reply::Jobs(vec![job_row()])),
        (Command::Invites, invites.clone()),
        (Command::Invite { expires_s: 60 }, invites.clone()),
        (Command::RevokeInvite { id: "i".into() }, invites),
        (Command::Ticket, Reply::Ticket(TicketRow { ticket: "bwt1x".into(), listen: "[::]:4433".into() })),
        (Command::RotateTicket, Reply::Ticket(TicketRow { ticket: "bwt1y".into(), listen: "[::]:4433".into() })),
        (Command::Approve { ids: ids.clone() }, clients.clone()),
        (Command::Disapprove { ids: ids.clone() }, clients.clone()),
        (Command::Rename { id: Some("i".into()), name: "n".into() }, clients.clone()),
        (Command::Rename { id: None, name: "n".into() }, clients),
        (Command::Leave { now: true }, Reply::Done),
        (Command::Policy, policy.clone()),
        (Command::SetPolicy { master_away_wait_s: 60 }, policy.clone()),
        (Command::SetContinue { master_away_continue_s: 28_800 }, policy),
        (Command::Add { paths: vec![path.clone()], copy: true, exclude: vec!["*.tmp".to_owned()] }, shares.clone()),
        (Command::Scan { paths: vec![path.clone()], confirm: true }, shares),
        (Command::Remove { files: ids.clone(), yes: true }, files.clone()),
        (Command::Removals, Reply::Removals(RemovalRow { left: 2, reason: Some("r".into()) })),
        (Command::ShareFiles { path: path.clone() }, files),
        (
            Command::Get { files: ids.clone(), dest: Some(path), conflict: Some(Conflict::Rename), way: None },
            Reply::Jobs(vec![job_row()]),
        ),
        (Command::Get { files: ids, dest: None, conflict: None, way: None }, Reply::Jobs(vec![job_row()])),
        (
            Command::Pause { ids: vec!["12".into()], all: false },
            Reply::Controlled(Controlled { jobs: vec![job_row()], uploads: vec![transfer_row()] }),
        ),
        (Command::Resume { ids: vec![], all: true }, Reply::Controlled(Controlled::default())),
        (Command::Cancel { ids: vec!["3".into()], all: false }, Reply::Controlled(Controlled::default())),
        (Command::Stop, Reply::Done),
    ]
}

#[tokio::test]
async fn every_command_arrives_as_it_was_sent_and_its_answer_comes_back() {
    let fixture = fixture(|command| {
        let sample = samples().into_iter().find(|(sample, _)| *sample == command);
        sample.map(|(_, reply)| reply).ok_or_else(|| LocalError::new(ErrorCode::Failed, format!("{command:?}"), ""))
    })
    .await;
    let client = Client::open(fixture.dir.path()).unwrap();
    for (command, reply) in samples() {
        assert_eq!(client.ask(&command).await.unwrap(), reply, "{command:?}");
    }
}

fn status_row() -> Status {
    Status {
        role: NodeRole::Client,
        id: Some("id".into()),
        name: Some("laptop".into()),
        standing: Some(StandingRow::Registered),
        code: Some("7KQ2-M4XD".into()),
        group: None,
        server: Link::Connected,
        master: Link::Away,
        waiting: Some("the master".into()),
        revision: Some("1.7".into()),
        state_dir: "/s".into(),
        downloads: None,
        version: "0.1.0".into(),
        api: "http://127.0.0.1:1".into(),
        pid: 1,
        leaving: false,
        rename: None,
        asked_name: None,
        server_rtt_ms: Some(12),
        relay_only: true,
        load: None,
    }
}

fn diagnosis() -> Diagnosis {
    let checked =
        CheckedRow { address: "192.0.2.1:4".into(), offered: true, probes: 7, answered_ms: Some(12), refused: false };
    let last = AttemptRow { ago_ms: 900, took_ms: 120, outcome: "connected".into(), addresses: vec![checked] };
    let device = Reached {
        id: "i".into(),
        name: "laptop".into(),
        path: Some(PathRow::Direct),
        reason: None,
        trying: false,
        nearby: true,
        address: Some("192.0.2.1:4".into()),
        rtt_ms: Some(3),
        attempts: 2,
        connected: 1,
        last: Some(last),
        conn: None,
    };
    Diagnosis {
        server: Link::Connected,
        observed: Some("198.51.100.1:5".into()),
        port_mapping: "198.51.100.1:7".into(),
        addresses: vec!["10.0.0.1:6".into()],
        mapping: "endpoint-independent".into(),
        filtering: None,
        devices: vec![device],
    }
}

fn client_row() -> ClientRow {
    ClientRow {
        id: "id".into(),
        name: "n".into(),
        role: NodeRole::Master,
        standing: StandingRow::Approved,
        online: true,
        path: Some(PathRow::Relay),
        reason: None,
        code: None,
        since: "2026-11-23T22:52:01.568Z".into(),
        is_self: true,
        last_seen: None,
        rtt_ms: Some(3),
        conn: None,
    }
}

fn file_row() -> FileRow {
    FileRow {
        id: "f".into(),
        owner: "id".into(),
        owner_name: "n".into(),
        path: "a/b".into(),
        kind: KindRow::File,
        size: u64::MAX,
        hash: "00".into(),
        status: FileStatus::Syncing,
        available: false,
        mtime: "t".into(),
    }
}

fn share_row() -> ShareRow {
    ShareRow {
        path: "/p".into(),
        name: "p".into(),
        files: 1,
        bytes: 2,
        syncing: 0,
        missing: 0,
        scanning: false,
        skipped: vec!["link: a".into()],
        skipped_count: 1,
        last_scan: None,
        reason: Some("waiting for the master".into()),
        ..ShareRow::default()
    }
}

fn transfer_row() -> TransferRow {
    TransferRow {
        id: "t".into(),
        job: Some(4),
        file: "f".into(),
        name: Some("docs/a".into()),
        direction: Direction::Down,
        peer: None,
        state: TransferState::Done,
        reason: None,
        done_bytes: 1,
        total_bytes: 1,
        received_bytes: 1,
        rate: 0,
        eta_s: None,
        path: Some(PathRow::Direct),
        dest: Some("/d".into()),
    }
}

fn job_row() -> JobRow {
    JobRow {
        job: 4,
        what: "n:a".into(),
        state: TransferState::Failed,
        reason: Some("refused".into()),
        code: Some(ErrorCode::Refused),
        looking: false,
        resumable: true,
        files: 1,
        files_done: 0,
        files_failed: 1,
        files_skipped: 0,
        done_bytes: 0,
        total_bytes: 1,
        received_bytes: 0,
        rate: 0,
        eta_s: None,
        path: None,
        dest: "/d".into(),
        elapsed_ms: 9,
    }
}

/// Without the file nobody could reach the node, not even to stop it.
#[tokio::test]
async fn a_lost_api_file_is_written_again_and_a_lost_node_is_none() {
    let fixture = fixture(|_| Ok(Reply::Done)).await;
    let before = place(&fixture);
    std::fs::remove_file(fixture.state.path("api.json")).unwrap();
    let error = ApiPlace::read(fixture.dir.path()).err().unwrap();
    assert!(error.code == ErrorCode::NotNow && error.error.contains("api.json"), "{error:?}");
    let again = async {
        while ApiPlace::read(fixture.dir.path()).is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(240), again).await.unwrap();
    assert!(place(&fixture) == before);
    fixture.shutdown.send(true).unwrap();
    fixture.api.ended().await;
    drop(fixture.state);
    assert_eq!(ApiPlace::read(fixture.dir.path()).err().unwrap().code, ErrorCode::NotRunning);
}

#[test]
fn a_server_reaches_nobody_which_is_null() {
    let json = serde_json::to_value(Link::None).unwrap();
    assert!(json.is_null());
    for link in [Link::None, Link::Connected, Link::Away] {
        assert_eq!(serde_json::from_value::<Link>(serde_json::to_value(link).unwrap()).unwrap(), link);
    }
}
