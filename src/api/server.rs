//! The node's side of the local API.

use super::guard::Guard;
use super::listen::{listen, run};
use super::place::{API_FILE, ApiPlace};
use super::routes;
use crate::node::identity::state_error;
use crate::node::local::{Command, Conflict, ErrorCode, Event, LocalError, NodeHandle, Reply, Watch};
use crate::state::downloads::Way;
use crate::store::statedir::StateDir;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Query, Request, State};
use axum::http::{StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes of a request's body, at most: the arguments of one command line, which systems hold to about 2 MiB.
pub const API_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a request's body may take to come.
pub const API_BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether `api.json` is still there.
const PLACE_LOOK: Duration = Duration::from_secs(1);
/// How long answers that are under way may take once the node ends.
const LAST_ANSWERS: Duration = Duration::from_millis(300);

/// The local API of this process, while it serves.
pub struct Api {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    dir: Arc<StateDir>,
    shutdown: watch::Receiver<bool>,
    serving: JoinHandle<()>,
    keeping: JoinHandle<()>,
}

/// Serves the node's API on a loopback port that the system chooses, and says where in the state directory. It ends
/// when `shutdown` becomes true or its sender is gone.
pub async fn serve(dir: Arc<StateDir>, node: NodeHandle, shutdown: watch::Receiver<bool>) -> Result<Api, LocalError> {
    let (listener, port) = listen().await.map_err(|error| {
        let hint = "see that this machine has the address 127.0.0.1 and a free TCP port";
        LocalError::new(ErrorCode::Failed, format!("the local API has no port: {error}"), hint)
    })?;
    let place = ApiPlace { url: format!("http://127.0.0.1:{port}"), token: token()?, pid: std::process::id() };
    let guard = Guard::new(place.token.clone(), port);
    let router = router(Shared { node, shutdown: shutdown.clone() });
    place.write(&dir).map_err(state_error)?;
    let keeping = tokio::spawn(keep_place(place.clone(), dir.clone()));
    let serving = tokio::spawn(run(listener, router, guard, shutdown.clone()));
    Ok(Api { url: place.url, dir, shutdown, serving, keeping })
}

/// Writes `api.json` again if somebody deleted it: without it nobody could reach the node, not even to stop it.
async fn keep_place(place: ApiPlace, dir: Arc<StateDir>) {
    loop {
        tokio::time::sleep(PLACE_LOOK).await;
        if !dir.path(API_FILE).exists()
            && let Err(error) = place.write(&dir)
        {
            tracing::debug!(%error, "api.json can't be written again");
        }
    }
}

impl Api {
    /// Waits for the end, which `shutdown` brings about, and removes `api.json`.
    pub async fn ended(mut self) {
        let _ = self.shutdown.wait_for(|ends| *ends).await;
        if tokio::time::timeout(LAST_ANSWERS, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
        self.keeping.abort();
        // It writes nothing any more.
        let _ = self.keeping.await;
        ApiPlace::remove(&self.dir);
    }
}

/// 32 random bytes in hexadecimal.
fn token() -> Result<String, LocalError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| LocalError::new(ErrorCode::Failed, "the system gives no random bytes", "start it again"))?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}

#[derive(Clone)]
struct Shared {
    node: NodeHandle,
    /// Ends the open streams: graceful shutdown alone would wait for them for ever.
    shutdown: watch::Receiver<bool>,
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route(routes::STATUS, get(async |State(shared): State<Shared>| shared.ask(Command::Status).await))
        .route(routes::DOCTOR, post(doctor))
        .route(routes::CLIENTS, get(async |State(shared): State<Shared>| shared.ask(Command::Clients).await))
        .route(routes::FILES, get(files))
        .route(routes::SHARES, get(async |State(shared): State<Shared>| shared.ask(Command::Shares).await).post(add))
        .route(routes::SHARE_FILES, get(share_files))
        .route(routes::SCAN, post(scan))
        .route(routes::REMOVE, post(remove))
        .route(routes::REMOVALS, get(async |State(shared): State<Shared>| shared.ask(Command::Removals).await))
        .route(routes::TRANSFERS, get(transfers))
        .route(routes::JOBS, get(jobs))
        .route(
            routes::INVITES,
            get(async |State(shared): State<Shared>| shared.ask(Command::Invites).await).post(invite),
        )
        .route(routes::REVOKE, post(revoke))
        .route(routes::TICKET, get(async |State(shared): State<Shared>| shared.ask(Command::Ticket).await))
        .route(routes::ROTATE, post(async |State(shared): State<Shared>| shared.ask(Command::RotateTicket).await))
        .route(routes::APPROVE, post(approve))
        .route(routes::DISAPPROVE, post(disapprove))
        .route(routes::RENAME, post(rename))
        .route(routes::LEAVE, post(leave))
        .route(
            routes::POLICY,
            get(async |State(shared): State<Shared>| shared.ask(Command::Policy).await).post(set_policy),
        )
        .route(routes::GET, post(download))
        .route(routes::PAUSE, post(pause))
        .route(routes::RESUME, post(resume))
        .route(routes::CANCEL, post(cancel))
        .route(routes::STOP, post(async |State(shared): State<Shared>| shared.ask(Command::Stop).await))
        .route(routes::WATCH, get(watch_events))
        .fallback(async || Refusal::from(no_such("route")))
        .method_not_allowed_fallback(async || Refusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            error: no_such("method on this route"),
        })
        .layer(DefaultBodyLimit::max(API_BODY_BYTES_MAX))
        .with_state(shared)
}

impl Shared {
    async fn ask(&self, command: Command) -> Result<Json<Reply>, Refusal> {
        Ok(Json(self.node.ask(command).await?))
    }
}

type Answer = Result<Json<Reply>, Refusal>;

#[derive(Deserialize)]
struct FilesParams {
    query: Option<String>,
    #[serde(default)]
    offset: u64,
    limit: Option<u64>,
}

async fn files(State(shared): State<Shared>, Params(params): Params<FilesParams>) -> Answer {
    let FilesParams { query, offset, limit } = params;
    shared.ask(Command::Files { query, offset, limit }).await
}

#[derive(Deserialize)]
struct JobParams {
    job: Option<u64>,
}

async fn transfers(State(shared): State<Shared>, Params(params): Params<JobParams>) -> Answer {
    shared.ask(Command::Transfers { job: params.job }).await
}

async fn jobs(State(shared): State<Shared>, Params(params): Params<JobParams>) -> Answer {
    shared.ask(Command::Jobs { job: params.job }).await
}

#[derive(Deserialize)]
struct PathParams {
    path: PathBuf,
}

async fn share_files(State(shared): State<Shared>, Params(params): Params<PathParams>) -> Answer {
    shared.ask(Command::ShareFiles { path: params.path }).await
}

#[derive(Deserialize)]
struct AddBody {
    paths: Vec<PathBuf>,
    #[serde(default)]
    copy: bool,
    #[serde(default)]
    exclude: Vec<String>,
}

async fn add(State(shared): State<Shared>, Content(body): Content<AddBody>) -> Answer {
    let AddBody { paths, copy, exclude } = body;
    shared.ask(Command::Add { paths, copy, exclude }).await
}

#[derive(Deserialize)]
struct ScanBody {
    paths: Vec<PathBuf>,
    #[serde(default)]
    confirm: bool,
}

async fn scan(State(shared): State<Shared>, Content(body): Content<ScanBody>) -> Answer {
    shared.ask(Command::Scan { paths: body.paths, confirm: body.confirm }).await
}

#[derive(Deserialize)]
struct RemoveBody {
    files: Vec<String>,
    #[serde(default)]
    yes: bool,
}

async fn remove(State(shared): State<Shared>, Content(body): Content<RemoveBody>) -> Answer {
    shared.ask(Command::Remove { files: body.files, yes: body.yes }).await
}

#[derive(Deserialize)]
struct InviteBody {
    expires_s: u64,
}

async fn invite(State(shared): State<Shared>, Content(body): Content<InviteBody>) -> Answer {
    shared.ask(Command::Invite { expires_s: body.expires_s }).await
}

#[derive(Deserialize)]
struct IdBody {
    id: String,
}

async fn revoke(State(shared): State<Shared>, Content(body): Content<IdBody>) -> Answer {
    shared.ask(Command::RevokeInvite { id: body.id }).await
}

#[derive(Deserialize)]
struct IdsBody {
    ids: Vec<String>,
}

async fn approve(State(shared): State<Shared>, Content(body): Content<IdsBody>) -> Answer {
    shared.ask(Command::Approve { ids: body.ids }).await
}

async fn disapprove(State(shared): State<Shared>, Content(body): Content<IdsBody>) -> Answer {
    shared.ask(Command::Disapprove { ids: body.ids }).await
}

#[derive(Deserialize)]
struct RenameBody {
    #[serde(default)]
    id: Option<String>,
    name: String,
}

async fn rename(State(shared): State<Shared>, Content(body): Content<RenameBody>) -> Answer {
    shared.ask(Command::Rename { id: body.id, name: body.name }).await
}

#[derive(Deserialize)]
struct LeaveBody {
    now: bool,
}

async fn leave(State(shared): State<Shared>, Content(body): Content<LeaveBody>) -> Answer {
    shared.ask(Command::Leave { now: body.now }).await
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PolicyBody {
    Wait { master_away_wait_s: u64 },
    Continue { master_away_continue_s: u64 },
}

async fn set_policy(State(shared): State<Shared>, Content(body): Content<PolicyBody>) -> Answer {
    let command = match body {
        PolicyBody::Wait { master_away_wait_s } => Command::SetPolicy { master_away_wait_s },
        PolicyBody::Continue { master_away_continue_s } => Command::SetContinue { master_away_continue_s },
    };
    shared.ask(command).await
}

#[derive(Deserialize)]
struct DoctorBody {
    id: Option<String>,
}

async fn doctor(State(shared): State<Shared>, Content(body): Content<DoctorBody>) -> Answer {
    shared.ask(Command::Doctor { id: body.id }).await
}

#[derive(Deserialize)]
struct GetBody {
    files: Vec<String>,
    dest: Option<PathBuf>,
    #[serde(default)]
    conflict: Option<Conflict>,
    #[serde(default)]
    way: Option<Way>,
}

async fn download(State(shared): State<Shared>, Content(body): Content<GetBody>) -> Answer {
    let GetBody { files, dest, conflict, way } = body;
    shared.ask(Command::Get { files, dest, conflict, way }).await
}

#[derive(Deserialize)]
struct JobsBody {
    ids: Vec<String>,
    #[serde(default)]
    all: bool,
}

async fn pause(State(shared): State<Shared>, Content(body): Content<JobsBody>) -> Answer {
    shared.ask(Command::Pause { ids: body.ids, all: body.all }).await
}

async fn resume(State(shared): State<Shared>, Content(body): Content<JobsBody>) -> Answer {
    shared.ask(Command::Resume { ids: body.ids, all: body.all }).await
}

async fn cancel(State(shared): State<Shared>, Content(body): Content<JobsBody>) -> Answer {
    shared.ask(Command::Cancel { ids: body.ids, all: body.all }).await
}

async fn watch_events(State(shared): State<Shared>) -> Response {
    let start = (shared.node.watch(), shared.shutdown.clone());
    let lines = stream::unfold(start, |(mut watch, mut shutdown)| async move {
        let event = next_event(&mut watch, &mut shutdown).await?;
        Some((Ok::<_, Infallible>(line(&event)), (watch, shutdown)))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// What has already happened comes before the end.
async fn next_event(watch: &mut Watch, shutdown: &mut watch::Receiver<bool>) -> Option<Event> {
    tokio::select! {
        biased;
        event = watch.next() => event,
        _ = shutdown.wait_for(|ends| *ends) => None,
    }
}

fn line(event: &Event) -> Bytes {
    let mut json = serde_json::to_vec(event).unwrap_or_default();
    json.push(b'\n');
    Bytes::from(json)
}

/// An error as a response.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) error: LocalError,
}

impl From<LocalError> for Refusal {
    fn from(error: LocalError) -> Refusal {
        let status = match error.code {
            ErrorCode::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Usage => StatusCode::BAD_REQUEST,
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::Ambiguous | ErrorCode::Unconfirmed => StatusCode::CONFLICT,
            ErrorCode::NotRunning | ErrorCode::NotNow => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Refused => StatusCode::FORBIDDEN,
            ErrorCode::WrongRole => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Refusal { status, error }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.error)).into_response()
    }
}

fn no_such(what: &str) -> LocalError {
    LocalError::new(
        ErrorCode::NotFound,
        format!("there is no such {what}"),
        "stop the node and start it again: both must be of one version",
    )
}

fn malformed(error: impl std::fmt::Display) -> LocalError {
    LocalError::new(
        ErrorCode::Usage,
        error.to_string(),
        "stop the node and start it again: both must be of one version",
    )
}

fn too_slow() -> LocalError {
    LocalError::new(ErrorCode::Usage, "the request's body did not come in time", "send it whole, at once")
}

/// The query, with errors as JSON.
struct Params<T>(T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for Params<T> {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let query = Query::<T>::from_request_parts(parts, shared).await;
        query.map(|Query(params)| Params(params)).map_err(|error| malformed(error.body_text()).into())
    }
}

/// The body, with errors as JSON.
struct Content<T>(T);

impl<T: DeserializeOwned> FromRequest<Shared> for Content<T> {
    type Rejection = Refusal;
    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Refusal> {
        let body = tokio::time::timeout(API_BODY_TIMEOUT, Json::<T>::from_request(request, shared)).await;
        let body = body.map_err(|_| Refusal { status: StatusCode::REQUEST_TIMEOUT, error: too_slow() })?;
        body.map(|Json(body)| Content(body))
            .map_err(|error| Refusal { status: error.status(), error: malformed(error.body_text()) })
    }
}
