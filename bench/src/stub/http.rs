//! The stub's HTTP: one connection a task, one call after the other.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::faults::Fate;
use super::json as documents;
use super::query::{self, Form};
use super::sqs;
use super::state::Shared;

const JSON: &str = "application/x-amz-json-1.0";
const XML: &str = "text/xml";

type Answer = Response<Full<Bytes>>;

/// Ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("the answer is lost, as asked for")]
    Lost,
    #[error("the request did not come whole")]
    Request(#[from] hyper::Error),
}

pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Aborted, with all connections, when this future is dropped.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Small answers must not wait for more; without it they are only slower.
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(shared.clone(), request));
            // It ends with an error where the client left, or an answer was to be lost.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, NoAnswer> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    if let Some(path) = head.uri.path().strip_prefix("/_stub/") {
        return Ok(control(&shared, &head.method, path, &body));
    }
    let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    shared.lock().counts.request_bytes += body.len() as u64;
    if let Some(action) = target.and_then(documents::action_of) {
        return Ok(document_call(&shared, action, &body));
    }
    match target.and_then(|target| target.strip_prefix("AmazonSQS.")) {
        Some(action) => sqs_call(&shared, action, &body).await,
        None => query_call(&shared, &body).await,
    }
}

async fn fate_of(shared: &Shared, action: &str) -> Fate {
    let (fate, latency_ms) = {
        let mut state = shared.lock();
        state.count_call(action);
        (state.dice.fate(), state.dice.faults.latency_ms)
    };
    if latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(latency_ms)).await;
    }
    fate
}

async fn sqs_call(shared: &Arc<Shared>, action: &str, body: &[u8]) -> Result<Answer, NoAnswer> {
    let failed = |status, code: &str, message: &str| {
        let error = json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": message });
        respond(status, JSON, error.to_string())
    };
    let fate = fate_of(shared, action).await;
    match fate {
        Fate::Throttled => {
            return Ok(failed(StatusCode::BAD_REQUEST, "RequestThrottled", "as asked for"));
        }
        Fate::ServerError => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return Ok(failed(status, "InternalError", "as asked for"));
        }
        Fate::Answered | Fate::Lost => {}
    }
    let result = sqs::act(shared, action, body).await;
    match (fate, result) {
        (Fate::Lost, _) => Err(NoAnswer::Lost),
        (_, Ok(answer)) => Ok(respond(StatusCode::OK, JSON, answer)),
        (_, Err(error)) => Ok(failed(StatusCode::BAD_REQUEST, error.code(), &error.to_string())),
    }
}

/// No faults befall these: what is tried with faults calls none of them.
fn document_call(shared: &Shared, action: &str, body: &[u8]) -> Answer {
    shared.lock().count_call(action);
    match documents::act(action, body) {
        Some(answer) => respond(StatusCode::OK, JSON, answer.to_string()),
        None => respond(StatusCode::BAD_REQUEST, JSON, r#"{"__type":"UnknownOperationException"}"#),
    }
}

async fn query_call(shared: &Arc<Shared>, body: &[u8]) -> Result<Answer, NoAnswer> {
    let form = Form::of(body);
    let fate = fate_of(shared, &form.action).await;
    match fate {
        Fate::Throttled => {
            let error = query::error("Throttled", "Sender");
            return Ok(respond(StatusCode::TOO_MANY_REQUESTS, XML, error));
        }
        Fate::ServerError => {
            let error = query::error("InternalError", "Receiver");
            return Ok(respond(StatusCode::INTERNAL_SERVER_ERROR, XML, error));
        }
        Fate::Answered | Fate::Lost => {}
    }
    match (fate, form.act(shared)) {
        (Fate::Lost, _) => Err(NoAnswer::Lost),
        (_, Some(answer)) => Ok(respond(StatusCode::OK, XML, answer)),
        (_, None) => {
            let error = query::error("InvalidAction", "Sender");
            Ok(respond(StatusCode::BAD_REQUEST, XML, error))
        }
    }
}

/// What is asked of the stub itself.
fn control(shared: &Shared, method: &Method, path: &str, body: &[u8]) -> Answer {
    let done = |result: Result<(), serde_json::Error>| match result {
        Ok(()) => respond(StatusCode::OK, JSON, "{}"),
        Err(error) => respond(StatusCode::BAD_REQUEST, "text/plain", error.to_string()),
    };
    match (method.as_str(), path) {
        ("POST", "fill") => done(serde_json::from_slice(body).map(|fill| shared.fill(&fill))),
        ("POST", "faults") => {
            done(serde_json::from_slice(body).map(|faults| shared.set_faults(faults)))
        }
        ("POST", "reset") => {
            shared.reset();
            done(Ok(()))
        }
        ("GET", "counts") => respond(StatusCode::OK, JSON, json!(shared.counts()).to_string()),
        ("GET", "events") => {
            let events = json!(shared.lock().events);
            respond(StatusCode::OK, JSON, events.to_string())
        }
        _ => respond(StatusCode::NOT_FOUND, "text/plain", "the stub knows nothing of this"),
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
