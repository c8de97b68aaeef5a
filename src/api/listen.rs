//! The connections of the local API. Any process of this machine can open some, and must not take by that what the node
//! needs for its files and its network: who has not shown the token yet is one of a few, has little time, and goes
//! when newer ones come.

use super::guard::{Door, Guard, admit};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// Connections that have not shown the token, at most; for one more, the oldest of them is closed.
pub const API_STRANGERS_MAX: usize = 64;
/// How long a request's head may take to come, and how long a connection may say nothing between two requests.
pub const API_HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a connection's buffer: more than the longest head that the command line sends.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The pause after a connection could not be taken, as when there are no file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A loopback port that the system chooses.
pub(super) async fn listen() -> std::io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// A connection that was not let in when it was last looked at.
struct Stranger {
    door: Door,
    task: AbortHandle,
}

/// Serves until `shutdown` is true or its sender is gone, and returns when the last answers are out.
pub(super) async fn run(listener: TcpListener, router: Router, guard: Guard, mut shutdown: watch::Receiver<bool>) {
    let guard = Arc::new(guard);
    let mut tasks = JoinSet::new();
    let mut strangers = VecDeque::new();
    let ended = shutdown.clone();
    let mut ends = pin!(end(&mut shutdown));
    loop {
        let accepted = tokio::select! {
            () = &mut ends => break,
            accepted = listener.accept() => accepted,
        };
        while tasks.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        make_room(&mut strangers);
        let door = Door::new(guard.clone());
        let router = router.clone().layer(axum::middleware::from_fn_with_state(door.clone(), admit));
        let task = tasks.spawn(connection(stream, router, ended.clone()));
        strangers.push_back(Stranger { door, task });
        // Whoever is there can speak before the next one comes.
        tokio::task::yield_now().await;
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

fn make_room(strangers: &mut VecDeque<Stranger>) {
    strangers.retain(|stranger| !stranger.door.is_open() && !stranger.task.is_finished());
    while strangers.len() >= API_STRANGERS_MAX {
        strangers.pop_front().into_iter().for_each(|oldest| oldest.task.abort());
    }
}

async fn connection(stream: TcpStream, router: Router, mut shutdown: watch::Receiver<bool>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(API_HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = end(&mut shutdown) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the local API broke off");
    }
}

async fn end(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|ends| *ends).await;
}
