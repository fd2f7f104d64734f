//! Metrics on their way out: by OTLP, and to whoever asks `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_otlp::OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};

use super::scrape::Scraped;
use crate::export::flush::Flusher;
use crate::export::health::Health;
use crate::export::settings::{self, ExportProblem, Signal};

/// Metrics' provider, and what flushes it where it exports by itself.
#[derive(Debug)]
pub(crate) struct MetricsPipeline {
    provider: SdkMeterProvider,
    pub(crate) health: Arc<Health>,
    pub(crate) flusher: Option<Flusher>,
}

impl MetricsPipeline {
    /// What the environment asks for; `None` where it asks for none.
    pub(crate) fn from_env(service: &str) -> Result<Option<Self>, ExportProblem> {
        let exporters = settings::exporters(Signal::Metrics)?;
        let endpoint = settings::endpoint(Signal::Metrics).filter(|_| exporters.otlp);
        if endpoint.is_none() && !exporters.prometheus {
            return Ok(None);
        }
        let mut builder = SdkMeterProvider::builder().with_resource(settings::resource(service));
        let health = Arc::new(Health::new(Signal::Metrics, endpoint.as_deref()));
        if let Some(endpoint) = &endpoint {
            settings::check_protocol(Signal::Metrics)?;
            let mut exporter = opentelemetry_otlp::MetricExporter::builder().with_http();
            if let Some(temporality) = temporality() {
                exporter = exporter.with_temporality(temporality);
            }
            let exporter = exporter.build().map_err(|error| settings::refused(endpoint, &error))?;
            let watched = WatchedMetrics { exporter, health: health.clone() };
            builder = builder.with_reader(PeriodicReader::builder(watched).build());
        }
        let scraped = exporters.prometheus.then(Scraped::new);
        if let Some(reader) = &scraped {
            builder = builder.with_reader(reader.clone());
        }
        let provider = builder.build();
        super::install(&provider);
        if let Some(reader) = scraped {
            reader.publish(provider.clone());
        }
        let flushed = provider.clone();
        let flusher = match endpoint {
            // A failed export is reported by `WatchedMetrics`.
            Some(_) => {
                Some(Flusher::start("telemetry-flush-m", move || drop(flushed.force_flush()))?)
            }
            None => None,
        };
        Ok(Some(Self { provider, health, flusher }))
    }

    pub(crate) fn shutdown(&self, timeout: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(timeout)
            && self.flusher.is_some()
        {
            self.health.failed(&error.to_string());
        }
    }
}

/// A function's environment is gone at any time, and there are many of them: each sends
/// what it counted since it last did, so that sums are right whoever is gone. What lives
/// on sends what it counted since it began, as the specification has it.
fn temporality() -> Option<Temporality> {
    let is_function = settings::variable("AWS_LAMBDA_FUNCTION_NAME").is_some();
    let is_set = settings::variable(OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE).is_some();
    (is_function && !is_set).then_some(Temporality::Delta)
}

/// An exporter whose failures are reported.
#[derive(Debug)]
struct WatchedMetrics<E> {
    exporter: E,
    health: Arc<Health>,
}

impl<E: PushMetricExporter> PushMetricExporter for WatchedMetrics<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.exporter.export(metrics).await;
        self.health.note(&result);
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
