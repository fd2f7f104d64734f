//! What `/metrics` shows: Prometheus' text format, version 0.0.4.
//!
//! Source: Prometheus documentation, "Exposition formats", and OpenTelemetry's
//! specification, "Prometheus and OpenMetrics Compatibility", for names.

use std::fmt::{Display, Write as _};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{
    AggregatedMetrics, HistogramDataPoint, Metric, MetricData, ResourceMetrics,
};
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality,
};

/// A reader that is asked from elsewhere, too.
#[derive(Debug, Clone)]
pub(crate) struct Scraped(Arc<ManualReader>);

/// The process's one, with the provider that feeds it.
static READER: OnceLock<(Scraped, SdkMeterProvider)> = OnceLock::new();

impl Scraped {
    pub(crate) fn new() -> Self {
        Self(Arc::new(ManualReader::builder().with_temporality(Temporality::Cumulative).build()))
    }

    /// Has [`scraped`] ask this one.
    pub(crate) fn publish(self, provider: SdkMeterProvider) {
        let _ = READER.set((self, provider));
    }
}

/// Counts from now on, for [`scraped`] alone. Where something counts already, nothing
/// changes.
pub fn install_scraped() {
    READER.get_or_init(|| {
        let reader = Scraped::new();
        let provider = SdkMeterProvider::builder()
            .with_resource(Resource::builder_empty().build())
            .with_reader(reader.clone())
            .build();
        super::install(&provider);
        (reader, provider)
    });
}

/// All metrics as Prometheus reads them; `None` where nobody asked for that.
#[must_use]
pub fn scraped() -> Option<String> {
    let (reader, _) = READER.get()?;
    let mut metrics = ResourceMetrics::default();
    reader.0.collect(&mut metrics).ok()?;
    Some(text_of(&metrics))
}

impl MetricReader for Scraped {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

/// A metric's name there: with its unit, and for a counter with `_total`.
pub(super) fn prometheus_name(name: &str, unit: &str, kind: &str) -> String {
    let mut text = name.replace(['.', '-'], "_");
    text.push_str(match unit {
        "s" => "_seconds",
        "By" => "_bytes",
        _ => "",
    });
    text.push_str(if kind == "counter" { "_total" } else { "" });
    text
}

fn text_of(metrics: &ResourceMetrics) -> String {
    let mut text = String::new();
    let resource = labels_of(metrics.resource().iter());
    if !resource.is_empty() {
        text.push_str("# HELP target_info Who this is.\n# TYPE target_info gauge\n");
        let _ = writeln!(text, "target_info{{{resource}}} 1");
    }
    for scope in metrics.scope_metrics() {
        for metric in scope.metrics() {
            match metric.data() {
                AggregatedMetrics::F64(data) => write_metric(&mut text, metric, data),
                AggregatedMetrics::U64(data) => write_metric(&mut text, metric, data),
                AggregatedMetrics::I64(data) => write_metric(&mut text, metric, data),
            }
        }
    }
    text
}

fn write_metric<T: Copy + Display>(text: &mut String, metric: &Metric, data: &MetricData<T>) {
    let mut lines = Vec::new();
    let named = |kind: &'static str| (kind, prometheus_name(metric.name(), metric.unit(), kind));
    let (kind, name) = match data {
        MetricData::Gauge(gauge) => {
            let (kind, name) = named("gauge");
            let points = gauge.data_points();
            lines.extend(points.map(|one| sample(&name, &labels(one.attributes()), one.value())));
            (kind, name)
        }
        MetricData::Sum(sum) => {
            let (kind, name) = named(if sum.is_monotonic() { "counter" } else { "gauge" });
            let points = sum.data_points();
            lines.extend(points.map(|one| sample(&name, &labels(one.attributes()), one.value())));
            (kind, name)
        }
        MetricData::Histogram(histogram) => {
            let (kind, name) = named("histogram");
            lines.extend(histogram.data_points().map(|one| buckets(&name, one)));
            (kind, name)
        }
        // No instrument of ours has one.
        MetricData::ExponentialHistogram(_) => return,
    };
    if lines.is_empty() {
        return;
    }
    lines.sort();
    let help = metric.description().replace('\\', "\\\\").replace('\n', "\\n");
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    lines.iter().for_each(|line| text.push_str(line));
}

fn sample(name: &str, labels: &str, value: impl Display) -> String {
    match labels.is_empty() {
        true => format!("{name} {value}\n"),
        false => format!("{name}{{{labels}}} {value}\n"),
    }
}

fn buckets<T: Copy + Display>(name: &str, point: &HistogramDataPoint<T>) -> String {
    let labels = labels(point.attributes());
    let before = if labels.is_empty() { "" } else { "," };
    let bounds = point.bounds().map(|bound| bound.to_string()).chain(["+Inf".to_owned()]);
    let (mut text, mut below) = (String::new(), 0);
    for (bound, count) in bounds.zip(point.bucket_counts()) {
        below += count;
        let _ = writeln!(text, "{name}_bucket{{{labels}{before}le=\"{bound}\"}} {below}");
    }
    text.push_str(&sample(&format!("{name}_sum"), &labels, point.sum()));
    text.push_str(&sample(&format!("{name}_count"), &labels, point.count()));
    text
}

fn labels<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    labels_of(attributes.map(|one| (&one.key, &one.value)))
}

fn labels_of<'a>(pairs: impl Iterator<Item = (&'a opentelemetry::Key, &'a Value)>) -> String {
    let mut labels: Vec<String> = pairs
        .map(|(key, value)| {
            let key = key.as_str().replace(['.', '-', '/'], "_");
            let value = value.as_str().replace('\\', "\\\\").replace('"', "\\\"");
            format!("{key}=\"{}\"", value.replace('\n', "\\n"))
        })
        .collect();
    labels.sort();
    labels.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{BATCH_EVENTS, EVENT_TYPE, EVENTS_PUBLISHED, SPOOL_AGE};

    #[test]
    fn prometheus_reads_what_was_counted() {
        install_scraped();
        const TYPE: &str = "ml.\"quoted\\\".v1";
        EVENTS_PUBLISHED.add(2, || [EVENT_TYPE.of(TYPE)]);
        EVENTS_PUBLISHED.add(1, || [EVENT_TYPE.of(TYPE)]);
        BATCH_EVENTS.record(3.0, || []);
        SPOOL_AGE.record(1.5, || []);
        let text = scraped().unwrap();
        for lines in [
            "# TYPE bellwire_event_published_total counter\n",
            "bellwire_event_published_total{cloudevents_event_type=\"ml.\\\"quoted\\\\\\\".v1\"} 3\n",
            "# TYPE bellwire_publish_batch_events histogram\n\
             bellwire_publish_batch_events_bucket{le=\"1\"} 0\n\
             bellwire_publish_batch_events_bucket{le=\"2\"} 0\n\
             bellwire_publish_batch_events_bucket{le=\"3\"} 1\n",
            "bellwire_publish_batch_events_bucket{le=\"+Inf\"} 1\n\
             bellwire_publish_batch_events_sum 3\n\
             bellwire_publish_batch_events_count 1\n",
            "bellwire_spool_age_seconds 1.5\n",
        ] {
            assert!(text.contains(lines), "{lines:?} is not in:\n{text}");
        }
    }
}
