//! Receives traces by OTLP over HTTP, on loopback, in this process: for the demo
//! and the tests, which look at whole traces.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span as OtlpSpan;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use tiny_http::{Header, Method, Request, Response, Server};

const TRACES_PATH: &str = "/v1/traces";
const METRICS_PATH: &str = "/v1/metrics";
const CONTENT_TYPE: &str = "application/x-protobuf";
const SERVICE_NAME: &str = "service.name";

/// One export is at most a few hundred spans.
const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// All that is kept: far more than a demo makes.
const SPANS_MAX: usize = 100_000;

const POLL: Duration = Duration::from_millis(100);

/// A span, as far as a person or a test looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// 32 hexadecimal characters.
    pub trace_id: String,
    /// 16 hexadecimal characters.
    pub span_id: String,
    /// The span that caused this one; none for the first of a trace.
    pub parent_id: Option<String>,
    /// `server`, `client`, `producer`, `consumer` or `internal`.
    pub kind: &'static str,
    /// The ids of the spans that it is linked to: causes beside its parent.
    pub links: Vec<String>,
    /// What it says it did.
    pub name: String,
    /// The service that did it.
    pub service: String,
    /// When it began, in nanoseconds since the epoch.
    pub started_ns: u64,
    /// When it ended, in nanoseconds since the epoch.
    pub ended_ns: u64,
    /// Whether its status is an error.
    pub has_failed: bool,
    /// The attributes that are texts; truths and whole numbers as texts.
    pub attributes: BTreeMap<String, String>,
}

/// An OTLP endpoint that keeps what it is sent.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    is_ending: Arc<AtomicBool>,
    is_paused: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Received {
    spans: Vec<Span>,
    metrics: Vec<String>,
    changed: Instant,
}

/// Why traces cannot be received.
#[derive(Debug, thiserror::Error)]
#[error("traces cannot be received on loopback: {reason}")]
pub struct ReceiverError {
    reason: String,
}

impl Receiver {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    ///
    /// Where loopback has no port left.
    pub fn start() -> Result<Self, ReceiverError> {
        Self::start_with(|_| ())
    }

    /// As [`Receiver::start`]; `on_traces` gets each export of traces too, as it came, before
    /// its sender has its answer.
    ///
    /// # Errors
    ///
    /// Where loopback has no port left.
    pub fn start_with(on_traces: impl Fn(&[u8]) + Send + 'static) -> Result<Self, ReceiverError> {
        let failed = |reason: String| ReceiverError { reason };
        let server = Server::http("127.0.0.1:0").map_err(|error| failed(error.to_string()))?;
        let address = server
            .server_addr()
            .to_ip()
            .ok_or_else(|| failed("it listens on no address".to_owned()))?;
        let received = Arc::new(Mutex::new(Received {
            spans: Vec::new(),
            metrics: Vec::new(),
            changed: Instant::now(),
        }));
        let is_ending = Arc::new(AtomicBool::new(false));
        let is_paused = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (received, is_ending) = (Arc::clone(&received), Arc::clone(&is_ending));
            let is_paused = Arc::clone(&is_paused);
            move || {
                let mut held = Vec::new();
                while !is_ending.load(Ordering::Relaxed) {
                    let Ok(request) = server.recv_timeout(POLL) else { return };
                    if is_paused.load(Ordering::Relaxed) {
                        held.extend(request);
                        continue;
                    }
                    // Whoever sent them has given up, or gets an error now.
                    held.clear();
                    if let Some(request) = request {
                        answer(request, &received, &on_traces);
                    }
                }
            }
        });
        Ok(Self { address, received, is_ending, is_paused, thread: Some(thread) })
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is to be.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From here on it takes connections and answers nothing, and keeps nothing, as a backend
    /// that hangs: the worst of those that are down.
    pub fn pause(&self) {
        self.is_paused.store(true, Ordering::Relaxed);
    }

    /// It answers again; what came meanwhile is lost.
    pub fn resume(&self) {
        self.is_paused.store(false, Ordering::Relaxed);
    }

    /// All spans so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).spans.clone()
    }

    /// The names of all metrics so far, each as often as it came.
    #[must_use]
    pub fn metrics(&self) -> Vec<String> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).metrics.clone()
    }

    /// How long nothing new has come.
    #[must_use]
    pub fn quiet_for(&self) -> Duration {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).changed.elapsed()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panicked: what it received is still there, and it has ended.
            let _ = thread.join();
        }
    }
}

fn answer(mut request: Request, received: &Mutex<Received>, on_traces: &impl Fn(&[u8])) {
    let status = match (request.method(), request.url()) {
        (Method::Post, TRACES_PATH) => {
            let mut body = Vec::new();
            match request.as_reader().take(BODY_BYTES_MAX).read_to_end(&mut body) {
                Ok(_) => {
                    on_traces(&body);
                    keep(&body, received)
                }
                Err(_) => 400,
            }
        }
        (Method::Post, METRICS_PATH) => {
            let mut body = Vec::new();
            match request.as_reader().take(BODY_BYTES_MAX).read_to_end(&mut body) {
                Ok(_) => keep_metrics(&body, received),
                Err(_) => 400,
            }
        }
        // Logs are not the demo's; refusing them would be reported as a fault.
        (Method::Post, _) => 200,
        _ => 404,
    };
    let content_type = Header::from_bytes("content-type", CONTENT_TYPE).expect("a constant header");
    let response =
        Response::from_data(Vec::new()).with_status_code(status).with_header(content_type);
    // Whoever does not wait for the answer does not miss it.
    let _ = request.respond(response);
}

fn keep(body: &[u8], received: &Mutex<Received>) -> u16 {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return 400 };
    let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
    received.spans.extend(spans_of(request));
    received.spans.truncate(SPANS_MAX);
    received.changed = Instant::now();
    200
}

fn keep_metrics(body: &[u8], received: &Mutex<Received>) -> u16 {
    let Ok(request) = ExportMetricsServiceRequest::decode(body) else { return 400 };
    let scopes = request.resource_metrics.into_iter().flat_map(|one| one.scope_metrics);
    let metrics = scopes.flat_map(|scope| scope.metrics);
    let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
    received.metrics.extend(metrics.map(|metric| metric.name));
    received.metrics.truncate(SPANS_MAX);
    200
}

fn spans_of(request: ExportTraceServiceRequest) -> impl Iterator<Item = Span> {
    request.resource_spans.into_iter().flat_map(|resource_spans| {
        let resource = resource_spans.resource.map(|resource| resource.attributes);
        let service = texts(resource.unwrap_or_default()).remove(SERVICE_NAME);
        let spans = resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.map(move |span| span_of(span, service.as_deref()))
    })
}

fn span_of(span: OtlpSpan, service: Option<&str>) -> Span {
    let attributes = texts(span.attributes);
    let service = service.or(attributes.get(SERVICE_NAME).map(String::as_str));
    Span {
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_id: (!span.parent_span_id.is_empty()).then(|| hex(&span.parent_span_id)),
        kind: kind_of(span.kind),
        links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
        name: span.name,
        service: service.unwrap_or("unknown").to_owned(),
        started_ns: span.start_time_unix_nano,
        ended_ns: span.end_time_unix_nano,
        has_failed: span.status.is_some_and(|status| status.code == StatusCode::Error as i32),
        attributes,
    }
}

fn kind_of(kind: i32) -> &'static str {
    match SpanKind::try_from(kind) {
        Ok(SpanKind::Server) => "server",
        Ok(SpanKind::Client) => "client",
        Ok(SpanKind::Producer) => "producer",
        Ok(SpanKind::Consumer) => "consumer",
        Ok(SpanKind::Internal | SpanKind::Unspecified) | Err(_) => "internal",
    }
}

/// The attributes that are texts, and truths, and whole numbers as texts.
fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value?.value? {
        Value::StringValue(text) => Some(text),
        Value::BoolValue(value) => Some(value.to_string()),
        Value::IntValue(value) => Some(value.to_string()),
        _ => None,
    };
    attributes.into_iter().filter_map(|pair| Some((pair.key, text(pair.value)?))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Status};

    use super::*;

    fn text_attribute(key: &str, value: &str) -> KeyValue {
        let value = Some(Value::StringValue(value.to_owned()));
        KeyValue { key: key.to_owned(), value: Some(AnyValue { value }), ..KeyValue::default() }
    }

    fn request() -> ExportTraceServiceRequest {
        let span = OtlpSpan {
            trace_id: vec![0xab; 16],
            span_id: vec![0x01; 8],
            parent_span_id: vec![],
            name: "process wine".to_owned(),
            start_time_unix_nano: 1,
            end_time_unix_nano: 3,
            attributes: vec![text_attribute("messaging.operation.type", "process")],
            status: Some(Status { code: StatusCode::Error as i32, message: String::new() }),
            ..OtlpSpan::default()
        };
        let resource = Resource {
            attributes: vec![text_attribute(SERVICE_NAME, "wine-handler")],
            ..Resource::default()
        };
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        let resource_spans =
            ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
    }

    #[test]
    fn what_is_exported_over_http_is_kept() {
        let receiver = Receiver::start().expect("loopback is there");
        let url = format!("{}/v1/traces", receiver.endpoint());
        let answer = ureq::post(&url)
            .header("content-type", CONTENT_TYPE)
            .send(request().encode_to_vec())
            .expect("answered");
        assert_eq!(answer.status(), 200);
        let spans = receiver.spans();
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0].trace_id, "ab".repeat(16));
        assert_eq!(spans[0].parent_id, None);
        assert_eq!(spans[0].service, "wine-handler");
        assert_eq!(spans[0].attributes["messaging.operation.type"], "process");
        assert!(spans[0].has_failed);
    }

    #[test]
    fn what_is_no_export_is_refused() {
        let receiver = Receiver::start().expect("loopback is there");
        let url = format!("{}/v1/traces", receiver.endpoint());
        let refused = ureq::post(&url).send(&b"\xff\xff"[..]).expect_err("refused");
        assert!(matches!(refused, ureq::Error::StatusCode(400)), "{refused}");
        assert!(receiver.spans().is_empty());
    }
}
