//! Spans on their way out: what is exported, where to, and in what time.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use opentelemetry::trace::{Span as _, TracerProvider as _};
use opentelemetry::{Context, InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
};

use crate::semconv;

/// Why nothing is exported although something is set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportProblem {
    #[error(
        "{variable} is {value:?}: Bellwire speaks OTLP over HTTP with protobuf; \
         set it to \"http/protobuf\" and the endpoint to the backend's HTTP port (often 4318)"
    )]
    Protocol { variable: &'static str, value: String },
    #[error("the OTLP exporter cannot be made: {reason}")]
    Exporter { reason: String },
    #[error("the thread that flushes traces cannot be started: {reason}")]
    Thread { reason: String },
}

/// The way of a span: provider, batch, exporter; and the thread that flushes it.
#[derive(Debug)]
pub(crate) struct Pipeline {
    provider: SdkTracerProvider,
    health: Arc<Health>,
    flusher: SyncSender<FlushRequest>,
}

/// Where the flusher tells that it is done; nobody may be waiting any more.
type FlushRequest = SyncSender<()>;

impl Pipeline {
    /// The pipeline that the environment asks for; `None` where it asks for none.
    pub(crate) fn from_env(service: &str) -> Result<Option<Self>, ExportProblem> {
        let Some(endpoint) = endpoint_from_env() else { return Ok(None) };
        check_protocol()?;
        let exporter =
            opentelemetry_otlp::SpanExporter::builder().with_http().build().map_err(|error| {
                ExportProblem::Exporter {
                    // It quotes the endpoint.
                    reason: error.to_string().replace(&endpoint, &without_secrets(&endpoint)),
                }
            })?;
        let health = Arc::new(Health {
            failing: AtomicBool::new(false),
            endpoint: without_secrets(&endpoint),
        });
        let resource = resource(service);
        let service_name = resource.get(&semconv::SERVICE_NAME.into());
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_span_processor(ServiceNameOnSpans(service_name))
            .with_span_processor(
                BatchSpanProcessor::builder(Watched { exporter, health: health.clone() }).build(),
            )
            .build();
        let flusher = start_flusher(provider.clone())?;
        Ok(Some(Self { provider, health, flusher }))
    }

    pub(crate) fn tracer(&self) -> SdkTracer {
        let scope = InstrumentationScope::builder("bellwire")
            .with_version(env!("CARGO_PKG_VERSION"))
            .with_schema_url(semconv::SCHEMA_URL)
            .build();
        self.provider.tracer_with_scope(scope)
    }

    /// Sends what has ended, waiting no longer than `timeout`: the SDK's own flush
    /// waits five seconds, or for as long as the exporter retries.
    pub(crate) fn flush(&self, timeout: Duration) {
        let (done, is_done) = sync_channel(1);
        // Full: the flushes before this one are still under way, and take its spans along.
        let in_time = self.flusher.try_send(done).is_ok() && is_done.recv_timeout(timeout).is_ok();
        if !in_time {
            self.health.failed(&format!("no answer within {} ms", timeout.as_millis()));
        }
    }

    /// Sends what is left and stops, within `timeout`.
    pub(crate) fn shutdown(&self, timeout: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(timeout) {
            self.health.failed(&error.to_string());
        }
    }
}

/// A thread of its own, so that who asks for a flush can stop waiting for it. It
/// ends with the pipeline.
fn start_flusher(provider: SdkTracerProvider) -> Result<SyncSender<FlushRequest>, ExportProblem> {
    let (sender, requests): (_, Receiver<FlushRequest>) = sync_channel(1);
    thread::Builder::new()
        .name("telemetry-flush".to_owned())
        .spawn(move || {
            for request in requests {
                // A failed export is reported by `Watched`.
                let _ = provider.force_flush();
                let _ = request.try_send(());
            }
        })
        .map_err(|error| ExportProblem::Thread { reason: error.to_string() })?;
    Ok(sender)
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Where traces go to; `None` where nothing is to be exported.
fn endpoint_from_env() -> Option<String> {
    let is_disabled =
        variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let is_none =
        variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value.eq_ignore_ascii_case("none"));
    if is_disabled || is_none {
        return None;
    }
    variable(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT).or_else(|| variable(OTEL_EXPORTER_OTLP_ENDPOINT))
}

/// Refuses a protocol that is not built in: the SDK would silently speak another one.
fn check_protocol() -> Result<(), ExportProblem> {
    for name in [OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, OTEL_EXPORTER_OTLP_PROTOCOL] {
        match variable(name) {
            None => {}
            Some(value) if value == "http/protobuf" => return Ok(()),
            Some(value) => return Err(ExportProblem::Protocol { variable: name, value }),
        }
    }
    Ok(())
}

/// An endpoint as it may be logged: its path and query may hold a token, and so
/// may what stands before an `@`.
fn without_secrets(endpoint: &str) -> String {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("http", endpoint));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

fn resource(service: &str) -> Resource {
    let from_env = Resource::builder().build();
    let is_named = variable("OTEL_SERVICE_NAME").is_some()
        || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|value| {
            value.split(',').any(|pair| {
                pair.split_once('=').is_some_and(|(key, _)| key.trim() == semconv::SERVICE_NAME)
            })
        });
    let builder = Resource::builder_empty().with_attributes(lambda_attributes()).with_attributes(
        from_env.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())),
    );
    if is_named { builder.build() } else { builder.with_service_name(service.to_owned()).build() }
}

/// What the Lambda runtime tells a function of itself.
fn lambda_attributes() -> Vec<KeyValue> {
    let Some(name) = variable("AWS_LAMBDA_FUNCTION_NAME") else { return Vec::new() };
    let told = [
        (semconv::CLOUD_REGION, variable("AWS_REGION")),
        (semconv::FAAS_NAME, Some(name)),
        (semconv::FAAS_VERSION, variable("AWS_LAMBDA_FUNCTION_VERSION")),
        (semconv::FAAS_INSTANCE, variable("AWS_LAMBDA_LOG_STREAM_NAME")),
    ];
    let fixed = [(semconv::CLOUD_PROVIDER, "aws"), (semconv::CLOUD_PLATFORM, "aws_lambda")];
    told.into_iter()
        .filter_map(|(key, value)| Some(KeyValue::new(key, value?)))
        .chain(fixed.map(|(key, value)| KeyValue::new(key, value)))
        .collect()
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

/// Whether the backend takes what it is sent; logs when that changes, so that an
/// outage is one line and not one an event.
#[derive(Debug)]
struct Health {
    failing: AtomicBool,
    endpoint: String,
}

impl Health {
    fn failed(&self, reason: &str) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                endpoint = self.endpoint,
                reason,
                "traces are not exported: the OTLP endpoint does not take them; \
                 this is said once, until it does"
            );
        }
    }

    fn succeeded(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(endpoint = self.endpoint, "traces are exported again");
        }
    }
}

/// An exporter whose failures are reported.
#[derive(Debug)]
struct Watched<E> {
    exporter: E,
    health: Arc<Health>,
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        match &result {
            Ok(()) => self.health.succeeded(),
            Err(error) => self.health.failed(&error.to_string()),
        }
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
    use super::*;

    #[test]
    fn an_endpoint_is_logged_without_its_secrets() {
        for (endpoint, expected) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
            ("https://user:token@otlp.example.com/tenant/secret?key=1", "https://otlp.example.com"),
            ("otlp.example.com:4318/path", "http://otlp.example.com:4318"),
        ] {
            assert_eq!(without_secrets(endpoint), expected);
        }
    }
}
