//! Logs, OpenTelemetry traces and [`metrics`]: one [`init`], and propagation through
//! message attributes.
//!
//! ```no_run
//! use std::time::Duration;
//! use bellwire_telemetry::{LogFormat, TraceContext, Unexported};
//!
//! # fn main() -> Result<(), bellwire_telemetry::InitError> {
//! let telemetry = bellwire_telemetry::init("wine-handler", LogFormat::Auto, Unexported::PassContext)?;
//!
//! let span = tracing::info_span!("process", otel.kind = "consumer", otel.status_code = tracing::field::Empty);
//! bellwire_telemetry::set_parent(&span, Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), None);
//! let caused: Option<TraceContext> = span.in_scope(|| bellwire_telemetry::context_of(&span));
//! drop(span);
//!
//! telemetry.flush(bellwire_telemetry::FLUSH_TIMEOUT_DEFAULT);
//! # Ok(())
//! # }
//! ```
//!
//! # What is configured, and by what
//!
//! The standard `OTEL_*` variables, as the OpenTelemetry SDK reads them:
//! `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` (OTLP
//! over HTTP, protobuf; `http` and `https`), `OTEL_EXPORTER_OTLP_HEADERS`,
//! `OTEL_EXPORTER_OTLP_TIMEOUT`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
//! `OTEL_TRACES_SAMPLER` and `_ARG`, `OTEL_BSP_*`, `OTEL_SDK_DISABLED`,
//! `OTEL_TRACES_EXPORTER` and `OTEL_METRICS_EXPORTER` (`otlp`, `none`, and of metrics
//! `prometheus`, for [`metrics::scraped`]), `OTEL_METRIC_EXPORT_INTERVAL`,
//! `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` (delta in a Lambda function unless
//! it is set, else cumulative). Logs follow `RUST_LOG`, which has no say in traces.
//!
//! The sampler is the specification's default, parent-based, unless they say otherwise;
//! beside what it lets through, spans that begin as failures (`error.type`) are kept,
//! where it lets through anything at all.
//!
//! # Without an exporter
//!
//! Where no endpoint is set, or the SDK is disabled, spans are not recorded and no
//! thread runs, but context travels on, by one of two ways ([`Unexported`]). Either
//! each span stands for its parent, as the OpenTelemetry specification wants of an
//! API without an SDK, so that what a message causes carries the message's own
//! `traceparent`, unaltered, and a component without an exporter leaves no hole in
//! the trace of those that have one. Where no parent was set there is no context. It
//! costs some microseconds a span. Or there are no spans at all, for a program that
//! hands on what came by itself.
//!
//! # What never happens
//!
//! Telemetry fails no event and delays none beyond its bound: what is wrong with
//! its settings is logged and leaves [`init`] without an exporter, a backend that
//! cannot be reached is logged once an outage, and [`Guard::flush`] returns in time.

#[cfg(feature = "aws")]
pub mod aws;
mod export;
mod lines;
mod logs;
pub mod metrics;
mod propagation;
pub mod semconv;

use std::time::{Duration, Instant};

use opentelemetry::trace::noop::NoopTracer;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use lines::{hold_lines, write_held_lines};
pub use logs::LogFormat;
pub use propagation::{
    TraceContext, context_of, is_sampled, link, link_xray, mark_failed, set_parent, trace_id,
    with_causes,
};

use export::Pipeline;
use metrics::pipeline::MetricsPipeline;

/// How long a flush may hold up what it ends: the `timeout` for [`Guard::flush`].
pub const FLUSH_TIMEOUT_DEFAULT: Duration = Duration::from_millis(200);

/// How long [`Guard::shutdown`] waits for the last spans: a process that ends has
/// more time than an event, and what it does not send is lost.
pub const SHUTDOWN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);

/// Targets whose spans are not ours to export: each invocation of the Lambda
/// runtime would begin a trace of its own, with one span.
const TARGETS_NOT_TRACED: [&str; 7] =
    ["lambda_runtime", "opentelemetry", "opentelemetry_sdk", "hyper", "h2", "reqwest", "rustls"];

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The process has a `tracing` subscriber already.
    #[error("logs and traces are set up already: call `init` once, at the start of `main`")]
    AlreadySet(#[source] tracing_subscriber::util::TryInitError),
}

/// What becomes of spans where nothing is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unexported {
    /// Each stands for its parent: [`context_of`] answers with the parent's context.
    PassContext,
    /// There are none, and they cost nothing: [`context_of`] answers with `None`, and
    /// the program hands on the context that came.
    NoSpans,
}

/// Keeps telemetry running; dropped, it does what [`Self::shutdown`] does.
#[derive(Debug)]
#[must_use = "when the guard is dropped, nothing more is exported"]
pub struct Guard {
    pipeline: Option<Pipeline>,
    metrics: Option<MetricsPipeline>,
}

/// Sets up logs and traces for the process.
///
/// `service` is the service's name where neither `OTEL_SERVICE_NAME` nor
/// `OTEL_RESOURCE_ATTRIBUTES` names it. Works inside and outside an async runtime.
///
/// # Errors
///
/// Only [`InitError::AlreadySet`]. Settings that cannot be used are logged, and
/// then nothing is exported.
pub fn init(service: &str, format: LogFormat, unexported: Unexported) -> Result<Guard, InitError> {
    let (log_filter, log_problem) = logs::filter_from_env();
    let (pipeline, traces_problem) = or_problem(Pipeline::from_env(service));
    let (metrics, metrics_problem) = or_problem(MetricsPipeline::from_env(service));
    let wanted = match (&pipeline, unexported) {
        (None, Unexported::NoSpans) => Targets::new(),
        _ => trace_filter(),
    };
    tracing_subscriber::registry()
        .with(trace_layer(pipeline.as_ref()).with_filter(wanted))
        .with(logs::layer(format).with_filter(log_filter))
        .try_init()
        .map_err(InitError::AlreadySet)?;
    lines::write_before_panics();
    if let Some(problem) = log_problem {
        tracing::warn!(error = %problem, "RUST_LOG cannot be read: logging at info");
    }
    if let Some(problem) = traces_problem {
        tracing::error!(error = %problem, "no traces are exported: correct the OTEL_* variables");
    }
    if let Some(problem) = metrics_problem {
        tracing::error!(error = %problem, "no metrics are exported: correct the OTEL_* variables");
    }
    Ok(Guard { pipeline, metrics })
}

fn or_problem<T, E>(made: Result<Option<T>, E>) -> (Option<T>, Option<E>) {
    match made {
        Ok(made) => (made, None),
        Err(problem) => (None, Some(problem)),
    }
}

/// Spans become OpenTelemetry's: recorded where there is an exporter, else passed through.
fn trace_layer<S>(pipeline: Option<&Pipeline>) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let layer = tracing_opentelemetry::layer()
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false);
    match pipeline {
        Some(pipeline) => layer.with_tracer(pipeline.tracer()).boxed(),
        None => layer.with_tracer(NoopTracer::new()).boxed(),
    }
}

fn trace_filter() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_targets(TARGETS_NOT_TRACED.map(|target| (target, LevelFilter::OFF)))
}

impl Guard {
    /// Whether spans are exported.
    #[must_use]
    pub fn exports(&self) -> bool {
        self.pipeline.is_some()
    }

    /// Sends the spans that have ended and what was counted, and waits for that at most
    /// `timeout` ([`FLUSH_TIMEOUT_DEFAULT`]). Blocks the calling thread for so long;
    /// returns at once where nothing is exported.
    ///
    /// What could not be sent in time is reported once an outage, and stays
    /// queued, within the SDK's bounds, for the next flush.
    pub fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let traces = self.pipeline.as_ref().map(|one| (&one.health, one.flusher.begin()));
        let metrics = self.metrics.as_ref();
        let metrics = metrics.and_then(|one| Some((&one.health, one.flusher.as_ref()?.begin())));
        // Both are under way: the one is not waited for behind the other.
        for (health, flush) in traces.into_iter().chain(metrics) {
            if !flush.ends_by(deadline) {
                health.failed(&format!("no answer within {} ms", timeout.as_millis()));
            }
        }
    }

    /// Sends what is left within [`SHUTDOWN_TIMEOUT_DEFAULT`], and stops.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let deadline = Instant::now() + SHUTDOWN_TIMEOUT_DEFAULT;
        if let Some(pipeline) = &self.pipeline {
            pipeline.shutdown(SHUTDOWN_TIMEOUT_DEFAULT);
        }
        if let Some(metrics) = &self.metrics {
            // Behind the spans, whose losses it counts; a moment is left to it in any case.
            let left = deadline.saturating_duration_since(Instant::now());
            metrics.shutdown(left.max(FLUSH_TIMEOUT_DEFAULT));
        }
        write_held_lines();
    }
}
