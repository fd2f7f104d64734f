//! What the standard variables say of a signal's export.

use std::env;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL, OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator, Sampler};

use crate::semconv;

/// Why nothing is exported although something is set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportProblem {
    #[error(
        "{variable} is {value:?}: Bellwire speaks OTLP over HTTP with protobuf; \
         set it to \"http/protobuf\" and the endpoint to the backend's HTTP port (often 4318)"
    )]
    Protocol { variable: &'static str, value: String },
    #[error("{variable} is {value:?}: known here are {known}")]
    Unknown { variable: &'static str, value: String, known: &'static str },
    #[error("the OTLP exporter cannot be made: {reason}")]
    Exporter { reason: String },
    #[error("the thread that flushes telemetry cannot be started: {reason}")]
    Thread { reason: String },
}

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exporters {
    pub(crate) otlp: bool,
    pub(crate) prometheus: bool,
}

impl Signal {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    const fn exporter_variable(self) -> &'static str {
        match self {
            Self::Traces => "OTEL_TRACES_EXPORTER",
            Self::Metrics => "OTEL_METRICS_EXPORTER",
        }
    }
}

pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

fn is_disabled() -> bool {
    variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Who gets a signal: a list, and OTLP where it is not set.
pub(crate) fn exporters(signal: Signal) -> Result<Exporters, ExportProblem> {
    let name = signal.exporter_variable();
    let list = variable(name).unwrap_or_else(|| "otlp".to_owned());
    let mut exporters = Exporters { otlp: false, prometheus: false };
    if is_disabled() {
        return Ok(exporters);
    }
    for value in list.split(',').map(|value| value.trim().to_ascii_lowercase()) {
        match (value.as_str(), signal) {
            ("none" | "", _) => {}
            ("otlp", _) => exporters.otlp = true,
            ("prometheus", Signal::Metrics) => exporters.prometheus = true,
            (_, Signal::Traces) => {
                return Err(ExportProblem::Unknown {
                    variable: name,
                    value,
                    known: "otlp and none",
                });
            }
            (_, Signal::Metrics) => {
                let known = "otlp, prometheus and none";
                return Err(ExportProblem::Unknown { variable: name, value, known });
            }
        }
    }
    Ok(exporters)
}

/// Where a signal goes by OTLP; `None` where nothing is set.
pub(crate) fn endpoint(signal: Signal) -> Option<String> {
    variable(match signal {
        Signal::Traces => OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
        Signal::Metrics => OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    })
    .or_else(|| variable(OTEL_EXPORTER_OTLP_ENDPOINT))
}

/// Refuses a protocol that is not built in: the SDK would silently speak another one.
pub(crate) fn check_protocol(signal: Signal) -> Result<(), ExportProblem> {
    let own = match signal {
        Signal::Traces => OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
        Signal::Metrics => OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
    };
    for name in [own, OTEL_EXPORTER_OTLP_PROTOCOL] {
        match variable(name) {
            None => {}
            Some(value) if value == "http/protobuf" => return Ok(()),
            Some(value) => return Err(ExportProblem::Protocol { variable: name, value }),
        }
    }
    Ok(())
}

/// Why an exporter was not made: it quotes the endpoint.
pub(crate) fn refused(endpoint: &str, error: &dyn std::error::Error) -> ExportProblem {
    let reason = error.to_string().replace(endpoint, &without_secrets(endpoint));
    ExportProblem::Exporter { reason }
}

/// The sampler that the standard variables name, and whether it lets nothing through.
pub(crate) fn sampler() -> (Sampler, bool) {
    let ratio = variable("OTEL_TRACES_SAMPLER_ARG").and_then(|text| text.trim().parse().ok());
    let ratio = Sampler::TraceIdRatioBased(ratio.unwrap_or(1.0));
    let by_parent = |root: Sampler| Sampler::ParentBased(Box::new(root));
    match variable("OTEL_TRACES_SAMPLER").as_deref() {
        Some("always_on") => (Sampler::AlwaysOn, false),
        Some("always_off") => (Sampler::AlwaysOff, true),
        Some("traceidratio") => (ratio, false),
        Some("parentbased_always_off") => (by_parent(Sampler::AlwaysOff), true),
        Some("parentbased_traceidratio") => (by_parent(ratio), false),
        // The specification's default, also for what is not known here.
        _ => (by_parent(Sampler::AlwaysOn), false),
    }
}

/// An endpoint as it may be logged: its path and query may hold a token, and so
/// may what stands before an `@`.
pub(crate) fn without_secrets(endpoint: &str) -> String {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("http", endpoint));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

pub(crate) fn resource(service: &str) -> Resource {
    let from_env = Resource::builder().build();
    let is_named = variable("OTEL_SERVICE_NAME").is_some()
        || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|value| {
            value.split(',').any(|pair| {
                pair.split_once('=').is_some_and(|(key, _)| key.trim() == semconv::SERVICE_NAME)
            })
        });
    let builder = Resource::builder_empty()
        .with_attribute(KeyValue::new(semconv::SERVICE_INSTANCE_ID, instance_id()))
        .with_attributes(lambda_attributes())
        .with_attributes(
            from_env.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())),
        );
    if is_named { builder.build() } else { builder.with_service_name(service.to_owned()).build() }
}

/// Two processes of a service are two series. One of random numbers, as UUIDs are; the
/// same for all signals.
fn instance_id() -> String {
    static INSTANCE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    INSTANCE.get_or_init(|| RandomIdGenerator::default().new_trace_id().to_string()).clone()
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
