//! Who may ask: whoever knows the token, and speaks to the bound address by its own name.

use super::server::Refusal;
use crate::node::local::{ErrorCode, LocalError};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a request must match. No `Debug`: it holds the token.
pub(super) struct Guard {
    /// The token of `api.json`.
    token: String,
    /// The two names of the bound address: `127.0.0.1:PORT` and `localhost:PORT`.
    hosts: [String; 2],
}

impl Guard {
    /// Guards a port with a token.
    pub(super) fn new(token: String, port: u16) -> Guard {
        Guard { token, hosts: [format!("127.0.0.1:{port}"), format!("localhost:{port}")] }
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let origin_is_ours = |origin: &str| origin.strip_prefix("http://").is_some_and(|host| self.is_our_host(host));
        let host = only(headers, header::HOST);
        if !matches!(host, Found::One(host) if self.is_our_host(host)) {
            return Err(forbidden("the request names another host than this API's address"));
        }
        match only(headers, header::ORIGIN) {
            Found::None => {}
            Found::One(origin) if origin_is_ours(origin) => {}
            Found::One(_) | Found::Unclear => return Err(forbidden("the request comes from another site")),
        }
        match only(headers, header::AUTHORIZATION) {
            Found::One(text) if self.is_our_token(text) => Ok(()),
            Found::One(_) | Found::None | Found::Unclear => Err(unauthorized()),
        }
    }

    fn is_our_host(&self, host: &str) -> bool {
        self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
    }

    /// Takes the same time wherever the difference is.
    fn is_our_token(&self, text: &str) -> bool {
        text.strip_prefix("Bearer ").is_some_and(|token| {
            aws_lc_rs::constant_time::verify_slices_are_equal(token.as_bytes(), self.token.as_bytes()).is_ok()
        })
    }
}

/// A header that must not be there twice.
enum Found<'a> {
    None,
    One(&'a str),
    Unclear,
}

fn only(headers: &HeaderMap, name: header::HeaderName) -> Found<'_> {
    let mut all = headers.get_all(name).iter();
    match (all.next().map(|value| value.to_str()), all.next()) {
        (None, _) => Found::None,
        (Some(Ok(value)), None) => Found::One(value),
        (Some(_), _) => Found::Unclear,
    }
}

/// The guard at one connection.
#[derive(Clone)]
pub(super) struct Door {
    guard: Arc<Guard>,
    open: Arc<AtomicBool>,
}

impl Door {
    /// A connection that has not asked yet.
    pub(super) fn new(guard: Arc<Guard>) -> Door {
        Door { guard, open: Arc::default() }
    }

    /// Whether the connection has shown the token.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }
}

/// Lets through what [`Guard::check`] accepts.
pub(super) async fn admit(State(door): State<Door>, request: Request, next: Next) -> Response {
    match door.guard.check(request.headers()) {
        Ok(()) => {
            door.open.store(true, Ordering::Relaxed);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

fn forbidden(error: &str) -> Refusal {
    let hint = "use the URL of api.json as it stands there";
    Refusal { status: StatusCode::FORBIDDEN, error: LocalError::new(ErrorCode::Refused, error, hint) }
}

fn unauthorized() -> Refusal {
    let error = LocalError::new(
        ErrorCode::Refused,
        "the token is missing or wrong",
        "send `Authorization: Bearer TOKEN` with the token of api.json in the state directory",
    );
    Refusal { status: StatusCode::UNAUTHORIZED, error }
}
