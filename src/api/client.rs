//! The CLI's side of the local API.

use super::place::{ApiPlace, not_running};
use super::routes;
use crate::node::local::{Command, ErrorCode, Event, LocalError, Reply};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpStream;

/// Bytes of an answer, at most: a page of files with the longest paths stays below.
pub const API_ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long an answer may take: commands answer at once, and a disk that is slow takes seconds, not minutes.
pub const API_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of one event, at most.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// A running node, as seen from another process. Each question has its own connection.
#[derive(Clone)]
pub struct Client {
    state_dir: PathBuf,
    place: ApiPlace,
}

impl Client {
    /// Finds the node of a state directory.
    pub fn open(state_dir: &Path) -> Result<Client, LocalError> {
        Ok(Client { state_dir: state_dir.to_owned(), place: ApiPlace::read(state_dir)? })
    }

    /// The node's process.
    pub fn pid(&self) -> u32 {
        self.place.pid
    }

    /// The state directory.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Asks the node.
    pub async fn ask(&self, command: &Command) -> Result<Reply, LocalError> {
        let answer = tokio::time::timeout(API_ANSWER_TIMEOUT, self.answer(command));
        answer.await.map_err(|_| failed("the node does not answer"))?
    }

    /// What happens in the node from now on.
    pub async fn watch(&self) -> Result<Events, LocalError> {
        let call = routes::Call { method: Method::GET, target: routes::WATCH.to_owned(), body: None };
        let response = self.send(call).await?;
        if !response.status().is_success() {
            return Err(self.error_of(response).await);
        }
        Ok(Events { body: response.into_body(), received: Vec::new() })
    }

    async fn answer(&self, command: &Command) -> Result<Reply, LocalError> {
        let call = routes::call(command)
            .map_err(|error| LocalError::new(ErrorCode::Usage, error, "rename it, or name its parent folder"))?;
        let response = self.send(call).await?;
        if !response.status().is_success() {
            return Err(self.error_of(response).await);
        }
        let body = whole_body(response).await?;
        Reply::from_json(command, &body).map_err(|error| failed(&format!("the node's answer makes no sense: {error}")))
    }

    async fn send(&self, call: routes::Call) -> Result<Response<Incoming>, LocalError> {
        let gone = |_| not_running(&self.state_dir);
        let host = self.place.url.strip_prefix("http://").ok_or_else(|| not_running(&self.state_dir))?;
        let stream = TcpStream::connect(host).await.map_err(|_| not_running(&self.state_dir))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(gone)?;
        tokio::spawn(connection);
        let body = call.body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = Request::builder()
            .method(call.method)
            .uri(call.target)
            .header(header::HOST, host)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.place.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|_| not_running(&self.state_dir))?;
        sender.send_request(request).await.map_err(gone)
    }

    /// Who doesn't know our token is another program on the port of a node that was killed.
    async fn error_of(&self, response: Response<Incoming>) -> LocalError {
        let is_stranger = response.status() == hyper::StatusCode::UNAUTHORIZED;
        let body = whole_body(response).await.unwrap_or_default();
        match serde_json::from_slice(&body) {
            Ok(error) if !is_stranger => error,
            Ok(_) | Err(_) => not_running(&self.state_dir),
        }
    }
}

async fn whole_body(response: Response<Incoming>) -> Result<Bytes, LocalError> {
    match Limited::new(response.into_body(), API_ANSWER_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(failed("the node's answer is too long")),
        Err(_) => Err(failed("the node ended while it answered")),
    }
}

fn failed(error: &str) -> LocalError {
    LocalError::new(
        ErrorCode::Failed,
        error,
        "look at `bailiwick status` and the node's log; if it hangs, `bailiwick stop` and start it again",
    )
}

/// A node's events as they come.
pub struct Events {
    body: Incoming,
    received: Vec<u8>,
}

impl Events {
    /// The next event; `None` when the node ends.
    pub async fn next(&mut self) -> Result<Option<Event>, LocalError> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let event = serde_json::from_slice(&line);
                return event.map(Some).map_err(|error| failed(&format!("the node's event makes no sense: {error}")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.take(frame.into_data().unwrap_or_default())?,
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }

    fn take(&mut self, data: Bytes) -> Result<(), LocalError> {
        if self.received.len() + data.len() > EVENT_BYTES_MAX {
            return Err(failed("the node's event is too long"));
        }
        self.received.extend_from_slice(&data);
        Ok(())
    }
}
