//! Spans on their way out: what is exported, where to, and in what time.

pub(crate) mod flush;
pub(crate) mod health;
pub(crate) mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::trace::{Link, Span as _, SpanKind, TraceId, TracerProvider as _};
use opentelemetry::{Context, InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, Sampler, SamplingDecision, SamplingResult, SdkTracer, SdkTracerProvider,
    ShouldSample, Span, SpanData, SpanExporter, SpanProcessor,
};

use self::flush::Flusher;
use self::health::Health;
use self::settings::{ExportProblem, Signal};
use crate::metrics::{DROPPED_BY, SPANS_DROPPED};
use crate::semconv;

/// Spans that wait for their export at most, unless `OTEL_BSP_MAX_QUEUE_SIZE` says
/// otherwise. Source: OpenTelemetry's specification, "Environment variables".
const QUEUE_MAX_DEFAULT: usize = 2_048;

/// The way of a span: provider, batch, exporter; and the thread that flushes it.
#[derive(Debug)]
pub(crate) struct Pipeline {
    provider: SdkTracerProvider,
    dropped: Arc<Queue>,
    pub(crate) health: Arc<Health>,
    pub(crate) flusher: Flusher,
}

impl Pipeline {
    /// The pipeline that the environment asks for; `None` where it asks for none.
    pub(crate) fn from_env(service: &str) -> Result<Option<Self>, ExportProblem> {
        let Some(endpoint) = settings::endpoint(Signal::Traces) else { return Ok(None) };
        if !settings::exporters(Signal::Traces)?.otlp {
            return Ok(None);
        }
        settings::check_protocol(Signal::Traces)?;
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build();
        let exporter = exporter.map_err(|error| settings::refused(&endpoint, &error))?;
        let health = Arc::new(Health::new(Signal::Traces, Some(&endpoint)));
        let queue = Arc::new(Queue::from_env());
        let resource = settings::resource(service);
        let service_name = resource.get(&semconv::SERVICE_NAME.into());
        let watched = Watched { exporter, health: health.clone(), queue: queue.clone() };
        let (sampler, is_off) = settings::sampler();
        let provider = SdkTracerProvider::builder()
            .with_sampler(KeepsFailures { sampler, is_off })
            .with_resource(resource)
            .with_span_processor(ServiceNameOnSpans(service_name))
            .with_span_processor(Counted {
                batches: BatchSpanProcessor::builder(watched).build(),
                queue: queue.clone(),
            })
            .build();
        let flushed = provider.clone();
        // A failed export is reported by `Watched`.
        let flusher = Flusher::start("telemetry-flush", move || drop(flushed.force_flush()))?;
        Ok(Some(Self { provider, dropped: queue, health, flusher }))
    }

    pub(crate) fn tracer(&self) -> SdkTracer {
        let scope = InstrumentationScope::builder("bellwire")
            .with_version(env!("CARGO_PKG_VERSION"))
            .with_schema_url(semconv::SCHEMA_URL)
            .build();
        self.provider.tracer_with_scope(scope)
    }

    /// Sends what is left and stops, within `timeout`.
    pub(crate) fn shutdown(&self, timeout: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(timeout) {
            self.health.failed(&error.to_string());
        }
        let spans = self.dropped.dropped.load(Ordering::Relaxed);
        if spans > 0 {
            tracing::warn!(spans, "spans were not exported; no event was lost with them");
        }
    }
}

/// Lets through what its sampler does, and spans that are failures from their first
/// moment, such as an event's quarantine: they begin with `error.type`. A sampler that
/// lets nothing through lets none of these through either.
#[derive(Debug, Clone)]
struct KeepsFailures {
    sampler: Sampler,
    is_off: bool,
}

impl ShouldSample for KeepsFailures {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let result = self.sampler.should_sample(parent, trace_id, name, kind, attributes, links);
        let is_failure = || attributes.iter().any(|one| one.key.as_str() == semconv::ERROR_TYPE);
        if self.is_off || result.decision != SamplingDecision::Drop || !is_failure() {
            return result;
        }
        SamplingResult { decision: SamplingDecision::RecordAndSample, ..result }
    }
}

/// Spans that ended and are not exported yet, and those that never will be: the SDK
/// drops them too, but tells nobody how many before its end.
#[derive(Debug)]
struct Queue {
    waiting: AtomicUsize,
    waiting_max: usize,
    dropped: AtomicU64,
}

impl Queue {
    fn from_env() -> Self {
        let waiting_max = settings::variable("OTEL_BSP_MAX_QUEUE_SIZE")
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(QUEUE_MAX_DEFAULT);
        Self { waiting: AtomicUsize::new(0), waiting_max, dropped: AtomicU64::new(0) }
    }

    fn enter(&self) -> bool {
        let has_room = self.waiting.fetch_add(1, Ordering::Relaxed) < self.waiting_max;
        if !has_room {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.drop_spans(1, "queue_full");
        }
        has_room
    }

    fn leave(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
    }

    fn drop_spans(&self, count: usize, why: &'static str) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.dropped.fetch_add(count, Ordering::Relaxed);
        SPANS_DROPPED.add(count, || [DROPPED_BY.of(why)]);
    }
}

/// Batches, before which spans are counted.
#[derive(Debug)]
struct Counted {
    batches: BatchSpanProcessor,
    queue: Arc<Queue>,
}

impl SpanProcessor for Counted {
    fn on_start(&self, span: &mut Span, parent: &Context) {
        self.batches.on_start(span, parent);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.queue.enter() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// The service's name on each span as well: some backends drop the resource's attributes.
#[derive(Debug)]
struct ServiceNameOnSpans(Option<Value>);

impl SpanProcessor for ServiceNameOnSpans {
    fn on_start(&self, span: &mut Span, _parent: &Context) {
        if let Some(name) = &self.0 {
            span.set_attribute(KeyValue::new(semconv::SERVICE_NAME, name.clone()));
        }
    }

    fn on_end(&self, _span: SpanData) {}

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// An exporter whose failures are reported, and whose losses are counted.
#[derive(Debug)]
struct Watched<E> {
    exporter: E,
    health: Arc<Health>,
    queue: Arc<Queue>,
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.queue.leave(count);
        let result = self.exporter.export(batch).await;
        if result.is_err() {
            self.queue.drop_spans(count, "export_failed");
        }
        self.health.note(&result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    // The OTLP exporter has its own `shutdown`, which the default one would not call.
    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use opentelemetry::trace::{TraceContextExt as _, Tracer as _};
    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;
    use crate::metrics::{install_scraped, scraped};

    /// A backend that is there, or not.
    #[derive(Debug, Clone, Default)]
    struct Backend {
        is_down: Arc<AtomicBool>,
        names: Arc<Mutex<Vec<String>>>,
    }

    impl SpanExporter for Backend {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            if self.is_down.load(Ordering::Relaxed) {
                return Err(OTelSdkError::InternalFailure("down".to_owned()));
            }
            self.names.lock().unwrap().extend(batch.into_iter().map(|span| span.name.into_owned()));
            Ok(())
        }
    }

    fn provider(backend: &Backend, waiting_max: usize) -> (SdkTracerProvider, Arc<Queue>) {
        let (waiting, dropped) = (AtomicUsize::new(0), AtomicU64::new(0));
        let queue = Arc::new(Queue { waiting, waiting_max, dropped });
        let health = Arc::new(Health::new(Signal::Traces, None));
        let watched = Watched { exporter: backend.clone(), health, queue: queue.clone() };
        let batches = BatchSpanProcessor::builder(watched).build();
        let counted = Counted { batches, queue: queue.clone() };
        (SdkTracerProvider::builder().with_span_processor(counted).build(), queue)
    }

    #[test]
    fn a_backend_that_goes_and_comes_back_costs_its_spans_and_they_are_counted() {
        install_scraped();
        let backend = Backend::default();
        let (provider, queue) = provider(&backend, 8);
        let tracer = provider.tracer("test");
        for (name, is_down) in [("before", false), ("lost", true), ("after", false)] {
            backend.is_down.store(is_down, Ordering::Relaxed);
            drop(tracer.start(name));
            assert_eq!(provider.force_flush().is_err(), is_down, "{name}");
        }
        assert_eq!(*backend.names.lock().unwrap(), ["before", "after"]);
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 1);
        assert_eq!(queue.waiting.load(Ordering::Relaxed), 0);
        let sample = "bellwire_telemetry_spans_dropped_total{error_type=\"export_failed\"} 1\n";
        assert!(scraped().unwrap().contains(sample));
    }

    #[test]
    fn spans_beyond_the_queue_are_dropped_and_counted() {
        install_scraped();
        let queue =
            Queue { waiting: AtomicUsize::new(0), waiting_max: 1, dropped: AtomicU64::new(0) };
        assert!(queue.enter());
        assert!(!queue.enter(), "there is room for one");
        queue.leave(1);
        assert!(queue.enter());
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 1);
        assert!(scraped().unwrap().contains("{error_type=\"queue_full\"} 1\n"));
    }

    #[test]
    fn a_failure_is_kept_of_a_trace_that_is_not_where_the_sampler_keeps_any() {
        let none = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(0.0)));
        for (is_off, attributes, is_kept) in [
            (false, vec![KeyValue::new(semconv::ERROR_TYPE, "too-large")], true),
            (false, vec![], false),
            (true, vec![KeyValue::new(semconv::ERROR_TYPE, "too-large")], false),
        ] {
            let sampler = KeepsFailures { sampler: none.clone(), is_off };
            let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
            let tracer = provider.tracer("test");
            let around = Context::new().with_span(tracer.start("around"));
            let builder = tracer.span_builder("quarantine").with_attributes(attributes);
            let span = tracer.build_with_context(builder, &around);
            assert_eq!(span.span_context().is_sampled(), is_kept);
            let trace = around.span().span_context().trace_id();
            assert_eq!(span.span_context().trace_id(), trace);
        }
    }
}
