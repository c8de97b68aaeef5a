//! Runs a node in this process: its state directory, its local API, its signals, its end.
//!
//! However the end comes about (a signal, `stop`, a failure), it takes the same way: the node ends first, then the
//! API with its open streams, then `api.json` and the lock.

use super::daemon;
use super::end::{End, INTERRUPTED, Outcome};
use super::output::Output;
use super::ready;
use crate::api;
use crate::net::lan::Lan;
use crate::net::portmap::PortMap;
use crate::node::goodbye::LEFT_FILE;
use crate::node::identity::state_error;
use crate::node::local::{Command, ErrorCode, LocalError, NodeHandle};
use crate::node::options::{AskedWays, ClientOptions, MasterOptions, ServerOptions, Ways};
use crate::node::run::{self, Home};
use crate::store::statedir::StateDir;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a node may take to end after the first signal. It needs milliseconds; its state is safe at any moment.
const END_TIMEOUT: Duration = Duration::from_millis(900);

/// Threads that drive the network: one is faster than two on a machine of two cores, and enough for a gigabit.
const WORKER_THREADS: usize = 1;
/// Threads for the disk, hashing and sealing, at most: they bound the memory in use as well.
const BLOCKING_THREADS: usize = 6;

/// What holds for a start of any role.
#[derive(Clone)]
pub(super) struct Start {
    /// Where the state lies.
    pub(super) state_dir: PathBuf,
    /// What to share once the node serves.
    pub(super) shares: Vec<PathBuf>,
    /// Which ways to other devices are looked for.
    pub(super) ways: AskedWays,
    /// How to print.
    pub(super) output: Output,
}

/// Runs a server until it ends.
pub(super) fn server(start: &Start, options: ServerOptions) -> Outcome {
    block_on(host(start, |home| run::server(home, options)))
}

/// Runs a master until it ends.
pub(super) fn master(start: &Start, options: MasterOptions) -> Outcome {
    block_on(host(start, |home| run::master(home, options)))
}

/// Runs a client until it ends.
pub(super) fn client(start: &Start, options: ClientOptions) -> Outcome {
    block_on(host(start, |home| run::client(home, options)))
}

/// Work on the disk that is still under way is not waited for: all of it can be cut off at any moment.
fn block_on(node: impl Future<Output = Outcome>) -> Outcome {
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(node);
    runtime.shutdown_background();
    outcome
}

/// The system's usual limit of 1,024 file descriptors is one for old programs; a person's hard limit stays.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of file descriptors stays as it is");
    }
}

async fn host<F>(start: &Start, run: impl FnOnce(Home) -> F) -> Outcome
where
    F: Future<Output = Result<(), LocalError>> + Send + 'static,
{
    let signals = Signals::new()?;
    let dir = Arc::new(StateDir::open(&start.state_dir).map_err(state_error)?);
    if daemon::is_background() {
        daemon::leave_terminal(&start.state_dir);
    }
    let (handle, ends) = NodeHandle::new();
    let (shutdown, ends_now) = watch::channel(false);
    let api = api::serve(dir.clone(), handle.clone(), ends_now).await?;
    let ways = Ways::kept(&dir, start.ways).map_err(state_error)?;
    let config = ways.config();
    // Only straight ways lead to who is found there, or come in by it.
    let lan = ways.straight.then(Lan::of_this_machine);
    let router = (ways.straight && ways.mapped_port).then(PortMap::of_this_machine);
    let node = tokio::spawn(run(Home { dir: dir.clone(), ends, api: api.url.clone(), config, lan, router }));
    let story = tokio::spawn(ready::tell(start.clone(), handle.clone(), dir.clone()));
    let outcome = until_end(node, signals, handle).await;
    story.abort();
    if dir.path(LEFT_FILE).exists() && outcome.is_ok() {
        ready::say("this device has left its group; its keys are erased, and this state directory can be deleted");
    }
    if let Err(End { error: Some(error), .. }) = &outcome {
        api::place::keep_failure(&dir, error);
    }
    let _ = shutdown.send(true);
    api.ended().await;
    drop(dir);
    outcome
}

/// The first signal is a `stop`; the second ends the process at once.
async fn until_end(mut node: JoinHandle<Result<(), LocalError>>, mut signals: Signals, handle: NodeHandle) -> Outcome {
    tokio::select! {
        ended = &mut node => return outcome(ended),
        () = signals.next() => {}
    }
    tokio::spawn(async move { handle.ask(Command::Stop).await });
    let mut too_long = pin!(tokio::time::sleep(END_TIMEOUT));
    tokio::select! {
        ended = &mut node => outcome(ended),
        () = signals.next() => std::process::exit(i32::from(INTERRUPTED)),
        () = &mut too_long => {
            tracing::warn!("the node did not end in time and is cut off");
            node.abort();
            Ok(())
        }
    }
}

fn outcome(ended: Result<Result<(), LocalError>, tokio::task::JoinError>) -> Outcome {
    match ended {
        Ok(result) => result.map_err(End::from),
        Err(error) => {
            let error = format!("the node failed: {error}");
            Err(LocalError::new(ErrorCode::Failed, error, "this is a mistake in bailiwick; see the log").into())
        }
    }
}

/// Ctrl-C, `kill`, and the end of the terminal.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Outcome<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::client::Client;
    use crate::node::local::Reply;
    use std::path::Path;
    use std::time::Instant;

    fn start(state_dir: &Path) -> Start {
        Start {
            state_dir: state_dir.to_owned(),
            shares: Vec::new(),
            ways: AskedWays::default(),
            output: Output { json: true },
        }
    }

    /// A node that knows how to stop, and nothing else.
    async fn stoppable(mut home: Home) -> Result<(), LocalError> {
        while let Some(request) = home.ends.requests.recv().await {
            let stops = request.command == Command::Stop;
            let other = || LocalError::new(ErrorCode::WrongRole, "not here", "");
            let _ = request.reply.send(if stops { Ok(Reply::Done) } else { Err(other()) });
            if stops {
                break;
            }
        }
        Ok(())
    }

    async fn client(state_dir: &Path) -> Client {
        loop {
            match Client::open(state_dir) {
                Ok(client) => return client,
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }

    #[tokio::test]
    async fn stop_is_answered_ends_watchers_and_leaves_the_directory_free() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().to_owned();
        let node = tokio::spawn(async move { host(&start(&path), stoppable).await });
        let client = client(temporary.path()).await;
        let mut events = client.watch().await.unwrap();
        assert!(StateDir::open(temporary.path()).is_err(), "the node holds its directory");
        let begun = Instant::now();
        assert_eq!(client.ask(&Command::Stop).await.unwrap(), Reply::Done);
        assert_eq!(events.next().await.unwrap(), None);
        node.await.unwrap().unwrap();
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
        assert!(Client::open(temporary.path()).is_err());
        StateDir::open(temporary.path()).unwrap();
    }

    #[tokio::test]
    async fn a_node_that_fails_or_panics_ends_with_its_error() {
        let temporary = tempfile::tempdir().unwrap();
        let refused = LocalError::new(ErrorCode::Refused, "expelled", "begin anew");
        let error = refused.clone();
        let end = host(&start(temporary.path()), async move |_| Err(error)).await.unwrap_err();
        assert_eq!((end.code, end.error), (super::super::end::REFUSED, Some(refused)));
        let end = host(&start(temporary.path()), async |_| panic!("a mistake")).await.unwrap_err();
        assert!(end.error.unwrap().error.starts_with("the node failed"));
    }
}
