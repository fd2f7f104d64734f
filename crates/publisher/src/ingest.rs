//! `ingest`: CloudEvents over HTTP, in structured mode. An event is answered
//! for only after SNS accepted it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bellwire_schema::context::is_traceparent;
use bellwire_schema::envelope::EnvelopeError;
use bellwire_schema::limits::SNS_MESSAGE_BYTES_MAX;
use bellwire_schema::payload::Payload;
use bellwire_schema::workflow::{SourceKind, Workflow};
use bellwire_schema::{Envelope, EventType};
use bellwire_telemetry::semconv::{
    HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, URL_PATH, URL_SCHEME,
};
use bellwire_telemetry::{context_of, link, set_parent};
use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::bridge::log_fate;
use crate::counts::Counts;
use crate::pack::{Entry, Unfit};
use crate::problem::Problem;
use crate::publish::{Fate, Outlet, Patience};
use crate::settle::Outcome;
use crate::spans;

/// Where events are posted to.
pub const EVENTS_PATH: &str = "/v1/events";

/// Bytes of a request's body: an event that is larger fits into no SNS message.
const BODY_BYTES_MAX: usize = SNS_MESSAGE_BYTES_MAX;

/// Requests under way at once, each of at most one body in memory: 64 MiB. Whoever
/// comes beyond it is told to come back.
pub const REQUESTS_MAX: usize = 256;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client waits for SNS at most, but for one call's own timeout.
const PUBLISH_FOR: Duration = Duration::from_secs(8);

/// The media types of CloudEvents' structured mode, the first by its standard.
const MEDIA_TYPES: &str = "application/cloudevents+json, application/json";

/// The way in over HTTP.
pub struct Ingest {
    accepted: Vec<AcceptedType>,
    outlet: Arc<Outlet>,
    counts: Arc<Counts>,
    free: Arc<Semaphore>,
}

/// A type that an `http` source emits, and the dataset of that source.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AcceptedType {
    event_type: EventType,
    dataset: Option<String>,
}

impl Ingest {
    /// The way in for what a workflow's `http` sources emit.
    #[must_use]
    pub fn new(workflow: &Workflow, outlet: Arc<Outlet>, counts: Arc<Counts>) -> Self {
        let accepted = workflow.sources.iter().filter_map(|source| match &source.kind {
            SourceKind::Http(rules) => Some(AcceptedType {
                event_type: rules.emits.clone(),
                dataset: source.dataset.clone(),
            }),
            _ => None,
        });
        let free = Arc::new(Semaphore::new(REQUESTS_MAX));
        Self { accepted: accepted.collect(), outlet, counts, free }
    }

    /// The routes.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route(EVENTS_PATH, post(post_event))
            .route("/healthz", get(|| async { axum::Json(json!({ "status": "alive" })) }))
            .fallback(|| async { not_found() })
            .method_not_allowed_fallback(|| async { method_not_allowed() })
            .with_state(self)
    }
}

/// Serves until `shutdown`, and then until the requests under way are answered.
///
/// # Errors
///
/// Where the listener fails.
pub async fn serve(
    ingest: Arc<Ingest>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> io::Result<()> {
    axum::serve(listener, ingest.router()).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// Writes `host:port` to a file, all of it or nothing.
///
/// # Errors
///
/// Where the file cannot be written.
pub fn write_address(path: &Path, address: SocketAddr) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    std::fs::write(&unfinished, address.to_string())?;
    std::fs::rename(&unfinished, path)
}

async fn post_event(State(ingest): State<Arc<Ingest>>, request: Request) -> Response {
    let Ok(place) = Arc::clone(&ingest.free).try_acquire_owned() else {
        tracing::warn!(requests = REQUESTS_MAX, "request refused: too many are under way");
        return problem_of_crowd().into_response();
    };
    let (head, body) = request.into_parts();
    let read = read_event(&ingest.accepted, &head.headers, body).await;
    let context = Caller::of(&head.headers);
    let span = server_span(&context, read.as_ref().ok());
    // A task of its own, so that a client that hangs up does not end the work midway.
    let work = async move {
        let _place = place;
        match read {
            Ok(envelope) => ingest.accept(envelope, &context).await,
            Err(problem) => Err(problem),
        }
    };
    let answer = tokio::spawn(work.instrument(span.clone())).await;
    let response = match answer {
        Ok(Ok(id)) => {
            let body = axum::Json(json!({ "id": id, "status": "accepted" }));
            (StatusCode::ACCEPTED, body).into_response()
        }
        Ok(Err(problem)) => {
            span.in_scope(|| {
                tracing::info!(
                    status = problem.status.as_u16(),
                    problem = problem.kind,
                    "request refused"
                );
            });
            refused(problem)
        }
        Err(_) => Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the publisher failed",
            "this is a bug of the publisher; the event may or may not have been published",
        )
        .into_response(),
    };
    span.record(HTTP_RESPONSE_STATUS_CODE, response.status().as_u16());
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    response
}

fn refused(problem: Problem) -> Response {
    let is_media_type = problem.status == StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let mut response = problem.into_response();
    if is_media_type {
        response.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(MEDIA_TYPES));
    }
    response
}

/// The trace context that a request's headers carry.
#[derive(Debug, Clone, Default)]
struct Caller {
    traceparent: Option<String>,
    tracestate: Option<String>,
}

impl Caller {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let traceparent = text("traceparent").filter(|text| is_traceparent(text));
        let tracestate = traceparent.and_then(|_| text("tracestate"));
        Self {
            traceparent: traceparent.map(str::to_owned),
            tracestate: tracestate.map(str::to_owned),
        }
    }
}

/// A child of what the headers name, or else of what the event names.
fn server_span(caller: &Caller, event: Option<&Envelope>) -> tracing::Span {
    let span = tracing::info_span!(
        parent: None,
        "POST /v1/events",
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        { HTTP_REQUEST_METHOD } = "POST",
        { HTTP_ROUTE } = EVENTS_PATH,
        { URL_PATH } = EVENTS_PATH,
        { URL_SCHEME } = "http",
        { HTTP_RESPONSE_STATUS_CODE } = tracing::field::Empty,
    );
    match (&caller.traceparent, event.map(|event| &event.context)) {
        (Some(traceparent), _) => {
            set_parent(&span, Some(traceparent), caller.tracestate.as_deref());
        }
        (None, Some(context)) => {
            set_parent(&span, context.traceparent.as_deref(), context.tracestate.as_deref());
        }
        (None, None) => {}
    }
    span
}

impl Ingest {
    /// Gives the event its "create" span: under the event's own cause where the
    /// request names another one, else under the request's span.
    fn begin_trace(&self, event: &mut Envelope, caller: &Caller) {
        let given = event.context.clone();
        let has_two = caller.traceparent.is_some() && given.traceparent.is_some();
        if !has_two {
            event.context.traceparent = None;
            event.context.tracestate = None;
        }
        let created = spans::create(event, self.outlet.topic_name());
        match context_of(&tracing::Span::current()) {
            Some(request) if has_two => link(&created, &request.traceparent),
            _ => {}
        }
        // Where nothing makes spans, what came travels on unaltered.
        if event.context.traceparent.is_none() {
            let (own, caller) = ((given.traceparent, given.tracestate), caller.clone());
            let caller = (caller.traceparent, caller.tracestate);
            let came = if own.0.is_some() { own } else { caller };
            (event.context.traceparent, event.context.tracestate) = came;
        }
    }

    /// Publishes an event; its id once SNS accepted it.
    async fn accept(&self, mut event: Envelope, caller: &Caller) -> Result<String, Problem> {
        self.begin_trace(&mut event, caller);
        let entry = Entry::of(event).map_err(|unfit| problem_of_unfit(&unfit))?;
        let deadline = Instant::now() + PUBLISH_FOR;
        let patience = Patience { deadline, give_up: CancellationToken::new() };
        let fates = self.outlet.publish(&[&entry], &patience).await;
        let fate = fates
            .into_iter()
            .next()
            .unwrap_or_else(|| Fate::Left { message: "no answer".to_owned(), is_denied: false });
        log_fate(entry.envelope(), &fate);
        match fate {
            Fate::Published => {
                self.counts.add(Outcome::Published);
                Ok(entry.envelope().id.clone())
            }
            Fate::Refused { message } => Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "publish-refused",
                "SNS refuses the event",
                message,
            )),
            Fate::Left { message, is_denied } => Err(problem_of_left(message, is_denied)),
        }
    }
}

fn problem_of_crowd() -> Problem {
    let detail = format!("{REQUESTS_MAX} requests are under way; send the event again");
    let title = "the publisher is at work on as many requests as it takes";
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut problem = Problem::new(status, "too-many-requests-under-way", title, detail);
    problem.retry_after_s = Some(1);
    problem
}

fn problem_of_left(message: String, is_denied: bool) -> Problem {
    if is_denied {
        let title = "the publisher may not publish, or there is no topic";
        return Problem::new(StatusCode::BAD_GATEWAY, "publish-denied", title, message);
    }
    let title = "SNS does not accept events at the moment";
    let kind = "temporarily-unavailable";
    let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, kind, title, message);
    problem.retry_after_s = Some(1);
    problem
}

fn problem_of_unfit(unfit: &Unfit) -> Problem {
    let (status, kind, title) = match unfit {
        Unfit::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", TOO_LARGE),
        Unfit::HopLimit { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "hop-limit", "the event is one of a loop")
        }
        Unfit::Attributes(_) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-attributes",
            "the event's attributes are more than SNS takes",
        ),
    };
    Problem::new(status, kind, title, unfit.to_string())
}

const TOO_LARGE: &str = "the event is too large";

async fn read_event(
    accepted: &[AcceptedType],
    headers: &HeaderMap,
    body: Body,
) -> Result<Envelope, Problem> {
    check_media_type(headers)?;
    let body = timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES_MAX)).await.map_err(|_| {
        let title = "the body did not arrive in time";
        let detail = format!("it took longer than {} s", BODY_TIMEOUT.as_secs());
        Problem::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", title, detail)
    })?;
    let body = body.map_err(|_| {
        let detail = format!(
            "the body is larger than {BODY_BYTES_MAX} bytes, or was cut off; put what is large into S3 and its URI into the event"
        );
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", TOO_LARGE, detail)
    })?;
    let mut event = Envelope::from_json(&body).map_err(problem_of_envelope)?;
    complete(&mut event, accepted, Timestamp::now())?;
    Ok(event)
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut parts = text.unwrap_or_default().split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_known = MEDIA_TYPES.split(", ").any(|known| known == essence);
    let is_utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    if is_known && is_utf8 {
        return Ok(());
    }
    let detail = format!(
        "`{}` is not read: send one event in CloudEvents' structured mode, as {MEDIA_TYPES}, in UTF-8",
        text.unwrap_or_default()
    );
    let title = "the body's media type is not read";
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Err(Problem::new(status, "unsupported-media-type", title, detail))
}

fn problem_of_envelope(error: EnvelopeError) -> Problem {
    let detail = error.to_string();
    match error {
        EnvelopeError::NotJson { .. } => {
            Problem::new(StatusCode::BAD_REQUEST, "not-json", "the body is no JSON", detail)
        }
        EnvelopeError::NotAnObject => not_a_cloudevent(detail),
        EnvelopeError::Attributes { problems } => {
            let fields: Vec<_> = problems
                .iter()
                .map(|problem| json!({ "field": problem.attribute, "problem": problem.problem }))
                .collect();
            not_a_cloudevent(detail).with("problems", fields.into())
        }
    }
}

fn not_a_cloudevent(detail: String) -> Problem {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Problem::new(status, "not-a-cloudevent", "the body is no CloudEvent 1.0", detail)
}

/// Checks an event against the workflow, and fills in what follows from that.
fn complete(
    event: &mut Envelope,
    accepted: &[AcceptedType],
    now: Timestamp,
) -> Result<(), Problem> {
    let of_type: Vec<&AcceptedType> =
        accepted.iter().filter(|accepted| accepted.event_type == event.event_type).collect();
    // Of several sources of one type, the one of the event's own dataset.
    let of_dataset = of_type
        .iter()
        .find(|accepted| event.dataset.is_none() || accepted.dataset == event.dataset);
    let Some(source) = of_dataset.or(of_type.first()) else {
        return Err(unknown_type(event, accepted));
    };
    check_payload(event)?;
    let own_stage = event.event_type.stage_and_verb().map(|(stage, _)| stage);
    if own_stage.is_some() && event.stage.is_some() && own_stage != event.stage {
        let problem = "is not the stage of the event's type; leave it out";
        return Err(invalid_payload("stage", problem));
    }
    event.stage = event.stage.or(own_stage);
    if event.dataset.is_none() {
        event.dataset.clone_from(&source.dataset);
    }
    if event.partitionkey.is_none() {
        event.partitionkey.clone_from(&event.dataset);
    }
    if event.context.correlationid.is_none() {
        event.context.correlationid = Some(event.id.clone());
    }
    event.time.get_or_insert(now);
    Ok(())
}

fn unknown_type(event: &Envelope, accepted: &[AcceptedType]) -> Problem {
    let known: Vec<&str> = accepted.iter().map(|accepted| accepted.event_type.as_str()).collect();
    let event_type = event.event_type.as_str();
    let detail = match known.is_empty() {
        true => format!(
            "the workflow takes no events over HTTP: add a `[[source]]` of kind \"http\" that emits `{event_type}`"
        ),
        false => format!(
            "no http source of the workflow emits `{event_type}`; known: {}",
            known.join(", ")
        ),
    };
    let title = "the event's type is not one that the workflow takes over HTTP";
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Problem::new(status, "unknown-type", title, detail).with("known", json!(known))
}

fn check_payload(event: &Envelope) -> Result<(), Problem> {
    match Payload::of(event) {
        Ok(Payload::Unknown) => Ok(()),
        // The default payload would stand in for bytes that nobody has read.
        Ok(_) if event.extensions.contains_key("data_base64") => {
            Err(invalid_payload("data_base64", "the type's payload is JSON: send it as `data`"))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(invalid_payload(&error.field, &error.problem)),
    }
}

fn invalid_payload(field: &str, problem: &str) -> Problem {
    let title = "the event does not have the shape of its type";
    let detail = format!("`{field}`: {problem}");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-event", title, detail)
        .with("problems", json!([{ "field": field, "problem": problem }]))
}

fn not_found() -> Problem {
    let detail = format!("there are POST {EVENTS_PATH} and GET /healthz");
    Problem::new(StatusCode::NOT_FOUND, "not-found", "there is nothing here", detail)
}

fn method_not_allowed() -> Problem {
    let detail = format!("there are POST {EVENTS_PATH} and GET /healthz");
    let title = "the method is not known here";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", title, detail)
}
