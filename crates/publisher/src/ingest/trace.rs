//! `trace`: a request's span, and the trace context of the events that it carries.

use axum::http::HeaderMap;
use bellwire_schema::context::is_traceparent;
use bellwire_schema::{Envelope, EventContext};
use bellwire_telemetry::semconv::{
    HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, URL_PATH, URL_SCHEME,
};
use bellwire_telemetry::{context_of, link, link_xray, set_parent};

use super::EVENTS_PATH;
use crate::spans::{self, TopicName};

/// The trace context that a request's headers carry.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller {
    traceparent: Option<String>,
    tracestate: Option<String>,
    /// AWS X-Ray's header, which a load balancer adds.
    xray: Option<String>,
}

impl Caller {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let traceparent = text("traceparent").filter(|text| is_traceparent(text));
        let tracestate = traceparent.and_then(|_| text("tracestate"));
        Self {
            traceparent: traceparent.map(str::to_owned),
            tracestate: tracestate.map(str::to_owned),
            xray: text("x-amzn-trace-id").map(str::to_owned),
        }
    }
}

/// A child of what the headers name, or else of what the request's one event names.
pub(super) fn server_span(caller: &Caller, event: Option<&EventContext>) -> tracing::Span {
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
    match (&caller.traceparent, event) {
        (Some(traceparent), _) => {
            set_parent(&span, Some(traceparent), caller.tracestate.as_deref());
        }
        (None, Some(context)) => {
            set_parent(&span, context.traceparent.as_deref(), context.tracestate.as_deref());
        }
        (None, None) => {}
    }
    if let Some(header) = &caller.xray {
        link_xray(&span, header);
    }
    span
}

/// Gives the event its "create" span: under the event's own cause where the
/// request has another one, else under the request's span. The request has another
/// one where its headers name it, and where it carries several events.
pub(super) fn begin(event: &mut Envelope, caller: &Caller, is_batch: bool, topic: &TopicName) {
    let given = event.context.clone();
    let has_two = given.traceparent.is_some() && (caller.traceparent.is_some() || is_batch);
    if !has_two {
        event.context.traceparent = None;
        event.context.tracestate = None;
    }
    let created = spans::create(event, topic);
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
