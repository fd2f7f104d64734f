//! `ingest`: CloudEvents over HTTP, in every mode of the protocol binding. A
//! request is answered with 202 only after its events were admitted, all of them.
//!
//! ```text
//! listen ─► auth ─► binding ─► accept ─► trace ─► Admit
//! ```

pub mod accept;
pub mod auth;
pub mod binding;
pub mod listen;
mod serve;
mod trace;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bellwire_schema::Envelope;
use bellwire_schema::limits::SNS_MESSAGE_BYTES_MAX;
use bellwire_schema::workflow::Workflow;
use bellwire_telemetry::metrics::EVENTS_RECEIVED;
use bellwire_telemetry::semconv::HTTP_RESPONSE_STATUS_CODE;
use bellwire_telemetry::with_causes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use opentelemetry::KeyValue;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::Instrument as _;

use self::accept::{Accepts, not_a_cloudevent, problem_of_batch, problem_of_unfit};
use self::auth::Token;
use self::binding::{BindingError, MEDIA_TYPES, Mode, events_of, mode_of};
pub use self::listen::{Listen, ListenError, Listener};
pub use self::serve::serve;
use self::trace::{Caller, server_span};
use crate::bridge::type_and_source;
use crate::call::CallError;
use crate::claim::{ClaimDesk, Fit};
use crate::pack::Entry;
use crate::problem::Problem;
use crate::spans::TopicName;

/// Where events are posted to.
pub const EVENTS_PATH: &str = "/v1/events";

/// Where Prometheus asks.
pub const METRICS_PATH: &str = "/metrics";

/// Prometheus' text format. Source: Prometheus documentation, "Exposition formats".
const METRICS_MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bytes of a body that is one event: one that is larger fits into no SNS message.
const EVENT_BODY_BYTES_MAX: usize = SNS_MESSAGE_BYTES_MAX;

/// Bytes of a body that is a batch: 4 MiB, which is 100 events of 40 KiB; or one event
/// whose payload the claim check takes.
pub const BATCH_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Requests under way at once, each of at most one event's body in memory: 64 MiB.
/// Whoever comes beyond it is told to come back.
pub const REQUESTS_MAX: usize = 256;

/// What the largest body counts for among them; a smaller one for its part, and one of
/// unknown length for as much as it may be.
pub const BATCH_REQUESTS: usize = BATCH_BODY_BYTES_MAX / EVENT_BODY_BYTES_MAX;

/// Headers of a request.
pub const HEADERS_MAX: usize = 100;

/// Bytes of a request's headers, names and values.
pub const HEADER_BYTES_MAX: usize = 32 * 1024;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// When to come back to what may soon be better.
const RETRY_AFTER_S: u32 = 1;

/// Takes events in: once it answers `Ok`, they are not lost.
pub trait Admit: Send + Sync {
    /// Admits all of the events, or none: each is one that the workflow takes, filled in,
    /// as SNS takes it. Where it fails midway, the client sends all
    /// of them again, under the same ids.
    fn admit<'a>(&'a self, events: Vec<Entry>) -> BoxFuture<'a, Result<(), AdmitError>>;
}

/// Why events were not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// There is no room at the moment.
    #[error("{message}")]
    Full {
        /// When there may be some.
        retry_after_s: u32,
        /// What is full.
        message: String,
    },
    /// They could not be made safe.
    #[error("{message}")]
    Unavailable {
        /// Why.
        message: String,
    },
}

/// Whether the publisher can do its work.
pub trait Readiness: Send + Sync {
    /// How things are now, without asking anyone.
    fn report(&self) -> Report;
}

/// How things are.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Whether events should be sent here.
    pub is_ready: bool,
    /// How each part is, for people and programs.
    pub details: Value,
}

/// Ready as soon as it answers.
struct AlwaysReady;

impl Readiness for AlwaysReady {
    fn report(&self) -> Report {
        Report { is_ready: true, details: json!({ "status": "ready" }) }
    }
}

/// The way in over HTTP.
pub struct Ingest {
    accepts: Accepts,
    topic: TopicName,
    admit: Arc<dyn Admit>,
    token: Option<Token>,
    claims: Option<ClaimDesk>,
    readiness: Arc<dyn Readiness>,
    free: Arc<Semaphore>,
}

impl Ingest {
    /// The way in for what a workflow's `http` sources emit; `topic` is what spans name.
    #[must_use]
    pub fn new(workflow: &Workflow, topic: TopicName, admit: Arc<dyn Admit>) -> Self {
        Self {
            accepts: Accepts::of(workflow),
            topic,
            admit,
            token: None,
            claims: None,
            readiness: Arc::new(AlwaysReady),
            free: Arc::new(Semaphore::new(REQUESTS_MAX)),
        }
    }

    /// The same for those alone who show a token, if there is one.
    #[must_use]
    pub fn with_token(self, token: Option<Token>) -> Self {
        Self { token, ..self }
    }

    /// The same with a place for payloads that are too large for SNS, if there is one:
    /// they are put there before their events are admitted.
    #[must_use]
    pub fn with_claims(self, claims: Option<ClaimDesk>) -> Self {
        Self { claims, ..self }
    }

    /// The same with an answer of its own to `/readyz`.
    #[must_use]
    pub fn with_readiness(self, readiness: Arc<dyn Readiness>) -> Self {
        Self { readiness, ..self }
    }

    /// The routes.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route(EVENTS_PATH, post(post_events))
            .route("/healthz", get(|| async { axum::Json(json!({ "status": "alive" })) }))
            .route("/readyz", get(ready))
            .route(METRICS_PATH, get(metrics))
            .fallback(|| async { not_found() })
            .method_not_allowed_fallback(|| async { method_not_allowed() })
            .with_state(self)
    }
}

/// Writes where it is listened (`host:port`, `unix:path`) to a file, all of it or nothing.
///
/// # Errors
///
/// Where the file cannot be written.
pub fn write_address(path: &Path, address: &Listen) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    std::fs::write(&unfinished, address.to_string())?;
    std::fs::rename(&unfinished, path)
}

async fn ready(State(ingest): State<Arc<Ingest>>) -> Response {
    let Report { is_ready, details } = ingest.readiness.report();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(details)).into_response()
}

/// Callers show their token here, too: metrics name sources and types.
async fn metrics(State(ingest): State<Arc<Ingest>>, headers: HeaderMap) -> Response {
    if let Err(problem) = auth::check(ingest.token.as_ref(), &headers) {
        return problem.into_response();
    }
    match bellwire_telemetry::metrics::scraped() {
        Some(text) => ([(CONTENT_TYPE, METRICS_MEDIA_TYPE)], text).into_response(),
        None => {
            let detail = "set OTEL_METRICS_EXPORTER=prometheus for the publisher, or otlp,prometheus for both ways";
            let title = "no metrics are counted for Prometheus";
            Problem::new(StatusCode::NOT_FOUND, "no-metrics", title, detail).into_response()
        }
    }
}

async fn post_events(State(ingest): State<Arc<Ingest>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mode = mode_of(&head.headers);
    let place = match ingest.enter(&head.headers, mode.as_ref().ok()) {
        Ok(place) => place,
        Err(problem) => {
            tracing::warn!(problem = problem.kind, "request refused: {}", problem.title);
            return problem.into_response();
        }
    };
    let read = match mode {
        Ok(mode) => ingest.read(mode, &head.headers, body).await,
        Err(error) => Err(problem_of_binding(&error)),
    };
    let caller = Caller::of(&head.headers);
    let span = server_span(&caller, read.as_ref().ok().and_then(Judged::context));
    // A task of its own, so that a client that hangs up does not end the work midway.
    let work = async move {
        let _place = place;
        ingest.accept(read?, &caller).await
    };
    let answer = tokio::spawn(work.instrument(span.clone())).await;
    let response = match answer {
        Ok(Ok(body)) => (StatusCode::ACCEPTED, axum::Json(body)).into_response(),
        Ok(Err(problem)) => {
            let (status, kind) = (problem.status.as_u16(), problem.kind);
            span.in_scope(|| tracing::info!(status, problem = kind, "request refused"));
            problem.into_response()
        }
        Err(_) => problem_of_bug().into_response(),
    };
    span.record(HTTP_RESPONSE_STATUS_CODE, response.status().as_u16());
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    response
}

/// The events of a request, each of them judged.
struct Judged {
    is_batch: bool,
    events: Vec<Result<Envelope, Problem>>,
}

/// The answer to events that are kept.
#[derive(Serialize)]
#[serde(untagged)]
enum Accepted {
    One { id: String, status: &'static str },
    Batch { ids: Vec<String>, status: &'static str },
}

impl Accepted {
    fn of(mut ids: Vec<String>, is_batch: bool) -> Self {
        let status = "accepted";
        match is_batch {
            true => Self::Batch { ids, status },
            false => Self::One { id: ids.pop().unwrap_or_default(), status },
        }
    }
}

impl Judged {
    /// The context of the request's one event.
    fn context(&self) -> Option<&bellwire_schema::EventContext> {
        match self.events.as_slice() {
            [Ok(only)] if !self.is_batch => Some(&only.context),
            _ => None,
        }
    }
}

impl Ingest {
    /// Lets a request in, before its body is read.
    fn enter(
        &self,
        headers: &HeaderMap,
        mode: Option<&Mode>,
    ) -> Result<OwnedSemaphorePermit, Problem> {
        auth::check(self.token.as_ref(), headers)?;
        check_size(headers)?;
        let count = u32::try_from(self.places_of(headers, mode)).unwrap_or(u32::MAX);
        Arc::clone(&self.free).try_acquire_many_owned(count).map_err(|_| problem_of_crowd())
    }

    /// How many requests it counts for: by the length that it declares, which the server
    /// holds it to, or else by how long it may be.
    fn places_of(&self, headers: &HeaderMap, mode: Option<&Mode>) -> usize {
        match declared_length(headers) {
            Some(length) => length.div_ceil(EVENT_BODY_BYTES_MAX).clamp(1, BATCH_REQUESTS),
            None if self.is_large(headers, mode) => BATCH_REQUESTS,
            None => 1,
        }
    }

    /// Whether a request's body may be as large as a batch's.
    fn is_large(&self, headers: &HeaderMap, mode: Option<&Mode>) -> bool {
        let length = declared_length(headers);
        let may_be_claimed =
            self.claims.is_some() && length.is_none_or(|it| it > EVENT_BODY_BYTES_MAX);
        mode == Some(&Mode::Batch) || may_be_claimed
    }

    /// Reads the body, and judges each event of it.
    async fn read(&self, mode: Mode, headers: &HeaderMap, body: Body) -> Result<Judged, Problem> {
        let is_batch = mode == Mode::Batch;
        let limit = match self.is_large(headers, Some(&mode)) {
            true => BATCH_BODY_BYTES_MAX,
            false => EVENT_BODY_BYTES_MAX,
        };
        let body = read_body(body, limit).await?;
        let raw = events_of(mode, headers, &body).map_err(|error| problem_of_binding(&error))?;
        let now = Timestamp::now();
        let events = raw.into_iter().map(|raw| self.accepts.judge(raw, now)).collect();
        Ok(Judged { is_batch, events })
    }

    /// Admits a request's events, all or none; the answer once they are.
    async fn accept(&self, judged: Judged, caller: &Caller) -> Result<Accepted, Problem> {
        let Judged { is_batch, events } = judged;
        let count = events.len();
        let (mut fits, mut wrong) = (Vec::with_capacity(count), Vec::new());
        for (index, event) in events.into_iter().enumerate() {
            match event.and_then(|event| self.begin(event, caller, is_batch)) {
                Ok(fit) => fits.push(fit),
                Err(problem) => wrong.push((index, problem)),
            }
        }
        if !wrong.is_empty() && is_batch {
            return Err(problem_of_batch(count, &wrong));
        }
        if let Some((_, problem)) = wrong.pop() {
            return Err(problem);
        }
        // Payloads first: who was told that an event is accepted finds it whole.
        let mut admitted = Vec::with_capacity(count);
        for fit in fits {
            let put = fit.put(self.claims.as_ref()).await;
            admitted.push(put.map_err(|error| problem_of_claim(&error))?);
        }
        let ids = admitted.iter().map(|entry| entry.envelope().id.clone()).collect();
        let received = received_of(&admitted);
        if !admitted.is_empty() {
            self.admit.admit(admitted).await.map_err(problem_of_admission)?;
        }
        received.into_iter().for_each(|attributes| EVENTS_RECEIVED.add(1, || attributes));
        Ok(Accepted::of(ids, is_batch))
    }

    /// Gives an event its place in its trace; then it has its size, and is checked.
    fn begin(&self, mut event: Envelope, caller: &Caller, is_batch: bool) -> Result<Fit, Problem> {
        trace::begin(&mut event, caller, is_batch, &self.topic);
        Fit::of(event, self.claims.as_ref()).map_err(|unfit| problem_of_unfit(&unfit))
    }
}

/// What is counted of events once they are in; nothing where nobody reads it.
fn received_of(entries: &[Entry]) -> Vec<[KeyValue; 2]> {
    match EVENTS_RECEIVED.is_read() {
        true => entries.iter().map(|entry| type_and_source(entry.envelope())).collect(),
        false => Vec::new(),
    }
}

fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn read_body(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let read = timeout(BODY_TIMEOUT, to_bytes(body, limit)).await.map_err(|_| {
        let title = "the body did not arrive in time";
        let detail = format!("it took longer than {} s", BODY_TIMEOUT.as_secs());
        Problem::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", title, detail)
    })?;
    read.map_err(|_| {
        let detail = format!(
            "the body is larger than {limit} bytes, or was cut off; put what is large into S3 and its URI into the event, and send long batches as several"
        );
        let title = "the body is too large";
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", title, detail)
    })
}

fn check_size(headers: &HeaderMap) -> Result<(), Problem> {
    let bytes: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.as_bytes().len()).sum();
    let count = headers.len();
    if bytes <= HEADER_BYTES_MAX && count <= HEADERS_MAX {
        return Ok(());
    }
    let detail = format!(
        "they are {count} of {bytes} bytes, and may be {HEADERS_MAX} of {HEADER_BYTES_MAX}: send the event as application/cloudevents+json"
    );
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    Err(Problem::new(status, "headers-too-large", "the headers are too large", detail))
}

fn problem_of_binding(error: &BindingError) -> Problem {
    let detail = error.to_string();
    match error {
        BindingError::MediaType { .. } | BindingError::Charset { .. } => {
            let title = "the body's media type is not read";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            Problem::new(status, "unsupported-media-type", title, detail)
                .with_header(&("accept", MEDIA_TYPES))
        }
        BindingError::NotJson { .. } => {
            Problem::new(StatusCode::BAD_REQUEST, "not-json", "the body is no JSON", detail)
        }
        BindingError::DataNotJson { problem, .. } => {
            let title = "the event's data is no JSON";
            Problem::new(StatusCode::BAD_REQUEST, "not-json", title, detail)
                .with_fields([("data", problem.as_str())])
        }
        BindingError::NotAList => not_a_cloudevent(detail),
        BindingError::TooMany { .. } => {
            let title = "the batch has too many events";
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-many-events", title, detail)
        }
    }
}

fn problem_of_admission(error: AdmitError) -> Problem {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    match error {
        AdmitError::Full { retry_after_s, message } => {
            let title = "there is no room for events at the moment";
            Problem::new(status, "spool-full", title, message).retry_after(retry_after_s)
        }
        AdmitError::Unavailable { message } => {
            let title = "events cannot be accepted at the moment";
            Problem::new(status, "spool-unavailable", title, message).retry_after(RETRY_AFTER_S)
        }
    }
}

fn problem_of_claim(error: &CallError) -> Problem {
    let title = "the event's payload cannot be put into the claim check's bucket at the moment";
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Problem::new(status, "claim-unavailable", title, with_causes(error)).retry_after(RETRY_AFTER_S)
}

fn problem_of_crowd() -> Problem {
    let detail = format!(
        "as many requests are under way as may be, {REQUESTS_MAX} (one of more than {EVENT_BODY_BYTES_MAX} bytes counts as up to {BATCH_REQUESTS}); send the event again"
    );
    let title = "the publisher is at work on as many requests as it takes";
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Problem::new(status, "too-many-requests-under-way", title, detail).retry_after(RETRY_AFTER_S)
}

fn problem_of_bug() -> Problem {
    let detail = "this is a bug of the publisher; the events may or may not have been accepted";
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Problem::new(status, "internal", "the publisher failed", detail)
}

/// What there is, for who asks for something else.
fn what_there_is() -> String {
    format!("there are POST {EVENTS_PATH}, GET /healthz, GET /readyz and GET {METRICS_PATH}")
}

fn not_found() -> Problem {
    let title = "there is nothing here";
    Problem::new(StatusCode::NOT_FOUND, "not-found", title, what_there_is())
}

/// Which method is, the router says, in `Allow`.
fn method_not_allowed() -> Problem {
    let title = "the method is not known here";
    let status = StatusCode::METHOD_NOT_ALLOWED;
    Problem::new(status, "method-not-allowed", title, what_there_is())
}
