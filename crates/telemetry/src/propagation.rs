//! Trace context between `tracing` spans and the texts that travel in messages,
//! objects' metadata and inputs of runs.

use std::error::Error;

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{Status, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::{OpenTelemetrySpanExt as _, SetParentError};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// A W3C trace context, as it travels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// `00-<trace id>-<span id>-<flags>`.
    pub traceparent: String,
    /// Never empty: SNS refuses attributes with empty values.
    pub tracestate: Option<String>,
}

/// Makes a span a child of what the texts name. Absent or malformed texts leave
/// the span as it is: they are anyone's.
///
/// To be called before the span is entered: it has begun by then.
pub fn set_parent(span: &Span, traceparent: Option<&str>, tracestate: Option<&str>) {
    if span.is_disabled() {
        return;
    }
    let parent = extract(traceparent, tracestate);
    if !parent.span().span_context().is_valid() {
        return;
    }
    if let Err(SetParentError::AlreadyStarted) = span.set_parent(parent) {
        tracing::warn!("a span got its parent after it was entered: its trace is cut here");
    }
}

/// The context that what a span causes carries on; `None` where the span belongs
/// to no trace: nothing is exported and no parent was set.
#[must_use]
pub fn context_of(span: &Span) -> Option<TraceContext> {
    let mut context = TraceContext::default();
    TraceContextPropagator::new().inject_context(&span.context(), &mut context);
    (!context.traceparent.is_empty()).then_some(context)
}

/// Adds a link from a span to what `traceparent` names: a cause beside its parent.
/// A malformed text adds none.
pub fn link(span: &Span, traceparent: &str) {
    if span.is_disabled() {
        return;
    }
    let linked = extract(Some(traceparent), None);
    span.add_link(linked.span().span_context().clone());
}

/// Adds a link from a span to what AWS X-Ray's header names, as Lambda and load balancers
/// write it: `Root=1-<8 digits>-<24 digits>;Parent=<16 digits>;Sampled=1`. The digits of
/// its root are a trace id. One that names no parent, or is malformed, adds none.
/// Source: AWS X-Ray developer guide, "Tracing header".
pub fn link_xray(span: &Span, header: &str) {
    if span.is_disabled() {
        return;
    }
    let part = |name: &str| {
        header.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
    };
    let Some((root, parent)) = part("Root").zip(part("Parent")) else { return };
    let mut root = root.splitn(3, '-').skip(1);
    let Some((begin, end)) = root.next().zip(root.next()) else { return };
    let flags = if part("Sampled") == Some("1") { "01" } else { "00" };
    link(span, &format!("00-{begin}{end}-{parent}-{flags}"));
}

/// Whether a span is exported.
#[must_use]
pub fn is_sampled(span: &Span) -> bool {
    span.context().span().span_context().is_sampled()
}

/// Marks a span as failed, with the error and what caused it.
pub fn mark_failed(span: &Span, error: &(dyn Error + 'static)) {
    span.set_status(Status::error(with_causes(error)));
}

/// An error and its sources, from the outermost in, as one text.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// The trace's id within a `traceparent`: 32 hexadecimal characters.
///
/// ```
/// let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// assert_eq!(bellwire_telemetry::trace_id(traceparent), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
/// assert_eq!(bellwire_telemetry::trace_id("garbage"), None);
/// ```
#[must_use]
pub fn trace_id(traceparent: &str) -> Option<&str> {
    let is_valid = extract(Some(traceparent), None).span().span_context().is_valid();
    is_valid.then(|| traceparent.split('-').nth(1)).flatten()
}

fn extract(traceparent: Option<&str>, tracestate: Option<&str>) -> Context {
    // An empty context, not the current one: what is malformed has no parent.
    TraceContextPropagator::new()
        .extract_with_context(&Context::new(), &Carrier { traceparent, tracestate })
}

struct Carrier<'a> {
    traceparent: Option<&'a str>,
    tracestate: Option<&'a str>,
}

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => self.traceparent,
            TRACESTATE => self.tracestate,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

impl Injector for TraceContext {
    fn set(&mut self, key: &str, value: String) {
        match key {
            TRACEPARENT => self.traceparent = value,
            TRACESTATE if !value.is_empty() => self.tracestate = Some(value),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry::trace::noop::NoopTracer;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const TRACEPARENT_GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn with_sdk<T>(body: impl FnOnce() -> T) -> T {
        let tracer = SdkTracerProvider::builder().build().tracer("test");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), body)
    }

    fn without_exporter<T>(body: impl FnOnce() -> T) -> T {
        let layer = tracing_opentelemetry::layer().with_tracer(NoopTracer::new());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), body)
    }

    #[test]
    fn a_child_stays_in_its_parents_trace_under_its_own_span_id() {
        let context = with_sdk(|| {
            let span = tracing::info_span!("child");
            set_parent(&span, Some(TRACEPARENT_GIVEN), Some("vendor=1"));
            context_of(&span).unwrap()
        });
        assert_eq!(trace_id(&context.traceparent), trace_id(TRACEPARENT_GIVEN));
        assert_ne!(context.traceparent, TRACEPARENT_GIVEN);
        assert_eq!(context.tracestate.as_deref(), Some("vendor=1"));
    }

    #[test]
    fn tracestate_is_never_empty() {
        let context = with_sdk(|| context_of(&tracing::info_span!("root")).unwrap());
        assert_eq!(context.tracestate, None);
        let context = with_sdk(|| {
            let span = tracing::info_span!("child");
            set_parent(&span, Some(TRACEPARENT_GIVEN), Some(""));
            context_of(&span).unwrap()
        });
        assert_eq!(context.tracestate, None);
    }

    #[test]
    fn without_an_exporter_a_message_s_context_passes_through_unaltered() {
        let (inner, sibling) = without_exporter(|| {
            let outer = tracing::info_span!("outer");
            set_parent(&outer, Some(TRACEPARENT_GIVEN), Some("vendor=1"));
            let inner = outer.in_scope(|| context_of(&tracing::info_span!("inner")));
            (inner, context_of(&tracing::info_span!("sibling")))
        });
        let expected = TraceContext {
            traceparent: TRACEPARENT_GIVEN.to_owned(),
            tracestate: Some("vendor=1".to_owned()),
        };
        assert_eq!(inner, Some(expected));
        assert_eq!(sibling, None);
    }

    #[test]
    fn malformed_texts_leave_a_span_under_its_own_parent() {
        with_sdk(|| {
            let outer = tracing::info_span!("outer").entered();
            let outer_context = context_of(&outer).unwrap();
            for malformed in
                ["", "garbage", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"]
            {
                let span = tracing::info_span!("inner");
                set_parent(&span, Some(malformed), None);
                link(&span, malformed);
                let context = context_of(&span).unwrap();
                assert_eq!(trace_id(&context.traceparent), trace_id(&outer_context.traceparent));
                assert_eq!(trace_id(malformed), None);
            }
        });
    }

    #[test]
    fn without_any_subscriber_there_is_no_context() {
        let span = tracing::info_span!("nowhere");
        set_parent(&span, Some(TRACEPARENT_GIVEN), None);
        assert_eq!(context_of(&span), None);
    }

    #[test]
    fn x_ray_s_header_is_a_link_where_it_names_a_span() {
        let exporter = opentelemetry_sdk::trace::InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("invoke");
            for header in [
                "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
                "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1",
                "Root=garbage;Parent=53995c3f42cd8ad8",
                "",
            ] {
                link_xray(&span, header);
            }
        });
        let spans = exporter.get_finished_spans().unwrap();
        let valid = spans[0].links.iter().filter(|link| link.span_context.is_valid());
        let links: Vec<_> = valid.map(|link| link.span_context.clone()).collect();
        assert_eq!(links.len(), 1);
        assert_eq!(links[0].trace_id().to_string(), "5759e988bd862e3fe1be46a994272793");
        assert_eq!(links[0].span_id().to_string(), "53995c3f42cd8ad8");
        assert!(links[0].is_sampled());
    }
}
