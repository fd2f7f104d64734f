//! Metrics: one [`table`], and the way to move what is in it.
//!
//! ```
//! use bellwire_telemetry::metrics::{EVENTS_SKIPPED, REASON};
//!
//! // Where nobody asks for metrics, this is one look at a pointer.
//! EVENTS_SKIPPED.add(1, || [REASON.of("no-rule")]);
//! ```
//!
//! Nothing is counted until a reader is installed, by [`init`](crate::init) where the
//! environment asks for one, or by [`install_scraped`]. What counts afterwards allocates
//! nothing for a set of attributes that was seen before.

mod doc;
pub(crate) mod pipeline;
mod scrape;
pub mod table;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, MeterProvider as _};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::metrics::SdkMeterProvider;

pub use doc::markdown;
pub use scrape::{install_scraped, scraped};
pub use table::*;

use crate::semconv;

/// What stands for a value that is one too many. Source: OpenTelemetry's semantic
/// conventions, "Recording errors", `error.type`.
pub const OTHER: &str = "_OTHER";

/// Values that an attribute has at most, beside [`OTHER`].
pub const VALUES_MAX: usize = 64;

/// Bytes of such a value at most.
const VALUE_BYTES_MAX: usize = 256;

/// Who moves a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// As a sidecar and as a function.
    Publisher,
    /// The function that starts runs.
    Handler,
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// How much there is.
    Gauge,
    /// How its values are spread, by the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

/// An attribute of a metric, and the values that it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// Its values, in words.
    pub values: &'static str,
}

/// A metric of the [`TABLE`].
#[derive(Debug)]
pub struct Metric {
    /// Its name, as OpenTelemetry writes it.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its unit, in UCUM.
    pub unit: &'static str,
    /// What it tells.
    pub description: &'static str,
    /// By what it is told apart.
    pub attributes: &'static [Attribute],
    /// Who moves it.
    pub moved_by: &'static [Component],
    instrument: OnceLock<Instrument>,
}

#[derive(Debug)]
enum Instrument {
    Counter(Counter<u64>),
    Gauge(Meter, Gauge<f64>),
    Histogram(Histogram<f64>),
}

impl Attribute {
    /// With one of few values that the code itself names.
    #[must_use]
    pub fn of(&self, value: &'static str) -> KeyValue {
        KeyValue::new(self.name, value)
    }

    /// With a value from outside: the first [`VALUES_MAX`] of a process are kept, and
    /// every later one is [`OTHER`].
    #[must_use]
    pub fn bounded(&self, value: &str) -> KeyValue {
        KeyValue::new(self.name, known(self.name, value))
    }
}

/// Values that were met, by the attribute's name.
static KNOWN: RwLock<BTreeMap<&str, HashSet<Arc<str>>>> = RwLock::new(BTreeMap::new());

fn known(name: &'static str, value: &str) -> Value {
    let found = |known: &BTreeMap<&str, HashSet<Arc<str>>>| known.get(name)?.get(value).cloned();
    if let Some(known) = found(&KNOWN.read().unwrap_or_else(PoisonError::into_inner)) {
        return Value::from(known);
    }
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let values = known.entry(name).or_default();
    if values.len() >= VALUES_MAX || value.len() > VALUE_BYTES_MAX {
        return Value::from(OTHER);
    }
    let value: Arc<str> = Arc::from(value);
    values.insert(Arc::clone(&value));
    Value::from(value)
}

impl Metric {
    const fn of(
        kind: Kind,
        name: &'static str,
        unit: &'static str,
        description: &'static str,
        attributes: &'static [Attribute],
        moved_by: &'static [Component],
    ) -> Self {
        let instrument = OnceLock::new();
        Self { name, kind, unit, description, attributes, moved_by, instrument }
    }

    const fn counter(
        name: &'static str,
        unit: &'static str,
        description: &'static str,
        attributes: &'static [Attribute],
        moved_by: &'static [Component],
    ) -> Self {
        Self::of(Kind::Counter, name, unit, description, attributes, moved_by)
    }

    const fn gauge(
        name: &'static str,
        unit: &'static str,
        description: &'static str,
        attributes: &'static [Attribute],
        moved_by: &'static [Component],
    ) -> Self {
        Self::of(Kind::Gauge, name, unit, description, attributes, moved_by)
    }

    const fn histogram(
        name: &'static str,
        unit: &'static str,
        description: &'static str,
        bounds: &'static [f64],
        attributes: &'static [Attribute],
        moved_by: &'static [Component],
    ) -> Self {
        Self::of(Kind::Histogram(bounds), name, unit, description, attributes, moved_by)
    }

    /// Whether anybody reads it.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.instrument.get().is_some()
    }

    /// Adds to a counter. The attributes are asked for only where somebody reads it.
    pub fn add<const N: usize>(&self, count: u64, attributes: impl FnOnce() -> [KeyValue; N]) {
        if let Some(Instrument::Counter(counter)) = self.instrument.get() {
            counter.add(count, &attributes());
        }
    }

    /// Records a value of a histogram, or what a gauge shows from now on.
    pub fn record<const N: usize>(&self, value: f64, attributes: impl FnOnce() -> [KeyValue; N]) {
        match self.instrument.get() {
            Some(Instrument::Histogram(histogram)) => histogram.record(value, &attributes()),
            Some(Instrument::Gauge(_, gauge)) => gauge.record(value, &attributes()),
            Some(Instrument::Counter(_)) | None => {}
        }
    }

    /// Has a gauge ask for its value whenever it is read, in the place of
    /// [`Self::record`]: once a process, since what was told to ask is asked for good.
    pub fn observe(&self, read: impl Fn() -> f64 + Send + Sync + 'static) {
        if let Some(Instrument::Gauge(meter, _)) = self.instrument.get() {
            let gauge = meter.f64_observable_gauge(self.name);
            let gauge = gauge.with_unit(self.unit).with_description(self.description);
            // The meter keeps what it calls back.
            let _ = gauge.with_callback(move |observer| observer.observe(read(), &[])).build();
        }
    }

    fn install(&self, meter: &Meter) {
        let (name, unit, description) = (self.name, self.unit, self.description);
        self.instrument.get_or_init(|| match self.kind {
            Kind::Counter => {
                let counter = meter.u64_counter(name).with_unit(unit);
                Instrument::Counter(counter.with_description(description).build())
            }
            Kind::Gauge => {
                let gauge = meter.f64_gauge(name).with_unit(unit);
                Instrument::Gauge(meter.clone(), gauge.with_description(description).build())
            }
            Kind::Histogram(bounds) => {
                let histogram = meter.f64_histogram(name).with_unit(unit);
                let histogram = histogram.with_description(description);
                Instrument::Histogram(histogram.with_boundaries(bounds.to_vec()).build())
            }
        });
    }
}

/// Makes an instrument of each metric. The first provider of a process keeps them.
fn install(provider: &SdkMeterProvider) {
    let scope = InstrumentationScope::builder("bellwire")
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(semconv::SCHEMA_URL)
        .build();
    let meter = provider.meter_with_scope(scope);
    for metric in TABLE {
        metric.install(&meter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_from_outside_are_bounded_and_keep_their_names() {
        const NAME: Attribute = Attribute { name: "test.bounded", values: "" };
        for number in 0..VALUES_MAX {
            let value = number.to_string();
            assert_eq!(NAME.bounded(&value).value, Value::from(value));
        }
        for other in ["one too many", "another"] {
            assert_eq!(NAME.bounded(other).value, Value::from(OTHER));
        }
        assert_eq!(NAME.bounded("7").value, Value::from("7"), "the first ones stay");
        const LONG: Attribute = Attribute { name: "test.long", values: "" };
        assert_eq!(LONG.bounded(&"x".repeat(VALUE_BYTES_MAX + 1)).value, Value::from(OTHER));
    }

    #[test]
    fn names_are_unique_and_of_one_form() {
        let names: HashSet<_> = TABLE.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), TABLE.len());
        for metric in TABLE {
            let is_word = |char: char| char.is_ascii_lowercase() || "._".contains(char);
            assert!(metric.name.chars().all(is_word), "{}", metric.name);
            assert!(metric.description.ends_with('.') && !metric.unit.is_empty());
            assert!(!metric.moved_by.is_empty(), "{}", metric.name);
        }
    }
}
