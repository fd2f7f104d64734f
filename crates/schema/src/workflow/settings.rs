//! The tables that a workflow has once: `[topic]`, `[publisher]`, `[handler]`,
//! `[ledger]`, `[claim_check]`, `[telemetry]`; and what `[handler]` shares with `[[function]]`.

use std::collections::BTreeMap;

use super::model::{
    ClaimCheck, Delivery, Handler, Ledger, Publisher, PublisherRun, Telemetry, Topic, TopicKind,
};
use super::problem::{Fault, quoted};
use super::security;
use super::spelling;
use super::table::{Section, kind_of};
use crate::limits::{
    LEDGER_RETENTION_DAYS_DEFAULT, LEDGER_RETENTION_DAYS_MIN, SNS_DISPLAY_NAME_CHARS_MAX,
};

/// Lambda: memory of a function, in MiB. Source: AWS Lambda API reference, `CreateFunction`.
const LAMBDA_MEMORY_MB: std::ops::RangeInclusive<u32> = 128..=10_240;

/// Lambda: timeout of a function, in seconds. Source: AWS Lambda developer guide, "Lambda quotas".
const LAMBDA_TIMEOUT_S: std::ops::RangeInclusive<u32> = 1..=900;

/// Lambda: bytes of all environment variables. Source: AWS Lambda developer guide, "Lambda quotas".
const LAMBDA_ENVIRONMENT_BYTES_MAX: usize = 4_096;

/// Lambda: variables that nobody else may set. Source: AWS Lambda developer guide, "Reserved environment variables".
const LAMBDA_RESERVED_VARIABLES: [&str; 20] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_MAX_CONCURRENCY",
    "AWS_LAMBDA_METADATA_API",
    "AWS_LAMBDA_METADATA_TOKEN",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
];

/// CloudWatch Logs: the days that a log group may keep. Source: CloudWatch Logs API reference, `PutRetentionPolicy`.
const LOG_RETENTION_DAYS: [u32; 23] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653, 36_500,
];

/// Ten years: more is a slip of the pen.
const LEDGER_RETENTION_DAYS_MAX: u32 = 3_650;

const HANDLER_ARTIFACT_DEFAULT: &str = "target/lambda/bellwire-handler.zip";
const HANDLER_MEMORY_MB_DEFAULT: u32 = 256;
const HANDLER_TIMEOUT_S_DEFAULT: u32 = 60;
const PUBLISHER_ARTIFACT_DEFAULT: &str = "target/lambda/bellwire-publisher-lambda.zip";
const PUBLISHER_MEMORY_MB_DEFAULT: u32 = 256;
const PUBLISHER_TIMEOUT_S_DEFAULT: u32 = 60;
const LOG_RETENTION_DAYS_DEFAULT: u32 = 30;
const CLAIM_CHECK_PREFIX_DEFAULT: &str = "claims/";

/// The topic of a file that says nothing of it.
pub(super) fn default_topic() -> Topic {
    Topic { kind: TopicKind::Standard, display_name: None, kms_key: None }
}

/// The publisher of a file that says nothing of it.
pub(super) fn default_publisher() -> Publisher {
    Publisher {
        run: PublisherRun::Sidecar,
        trusted_by: Vec::new(),
        artifact: PUBLISHER_ARTIFACT_DEFAULT.to_owned(),
        memory_mb: PUBLISHER_MEMORY_MB_DEFAULT,
        timeout_s: PUBLISHER_TIMEOUT_S_DEFAULT,
        environment: BTreeMap::new(),
        log_retention_days: LOG_RETENTION_DAYS_DEFAULT,
    }
}

/// The handler of a file that says nothing of it.
pub(super) fn default_handler() -> Handler {
    Handler {
        delivery: Delivery::Direct,
        artifact: HANDLER_ARTIFACT_DEFAULT.to_owned(),
        memory_mb: HANDLER_MEMORY_MB_DEFAULT,
        timeout_s: HANDLER_TIMEOUT_S_DEFAULT,
        environment: BTreeMap::new(),
        log_retention_days: LOG_RETENTION_DAYS_DEFAULT,
    }
}

/// The ledger of a file that says nothing of it.
pub(super) fn default_ledger() -> Ledger {
    Ledger { retention_days: LEDGER_RETENTION_DAYS_DEFAULT, deletion_protection: true }
}

pub(super) fn topic(section: &Section<'_>) -> Topic {
    let default = default_topic();
    Topic {
        kind: section
            .choice("kind", &[("standard", TopicKind::Standard), ("fifo", TopicKind::Fifo)])
            .unwrap_or(default.kind),
        display_name: section.checked("display_name", display_name),
        kms_key: section.checked("kms_key", security::topic_key),
    }
}

fn display_name(text: &str) -> Result<String, Fault> {
    let count = text.chars().count();
    if count > SNS_DISPLAY_NAME_CHARS_MAX {
        let cause = format!("has {count} characters");
        return Err(Fault::new(
            cause,
            format!("SNS takes {SNS_DISPLAY_NAME_CHARS_MAX}: shorten it"),
        ));
    }
    spelling::one_line(text)
}

pub(super) fn publisher(section: &Section<'_>) -> Publisher {
    let default = default_publisher();
    Publisher {
        run: section
            .choice("run", &[("sidecar", PublisherRun::Sidecar), ("lambda", PublisherRun::Lambda)])
            .unwrap_or(default.run),
        trusted_by: section.list("trusted_by", spelling::principal).unwrap_or(default.trusted_by),
        artifact: section.checked("artifact", zip).unwrap_or(default.artifact),
        memory_mb: memory_mb(section).unwrap_or(default.memory_mb),
        timeout_s: timeout_s(section).unwrap_or(default.timeout_s),
        environment: environment(section),
        log_retention_days: log_retention_days(section),
    }
}

pub(super) fn handler(section: &Section<'_>) -> Handler {
    let default = default_handler();
    Handler {
        delivery: section
            .choice("delivery", &[("direct", Delivery::Direct), ("queued", Delivery::Queued)])
            .unwrap_or(default.delivery),
        artifact: section.checked("artifact", zip).unwrap_or(default.artifact),
        memory_mb: memory_mb(section).unwrap_or(default.memory_mb),
        timeout_s: timeout_s(section).unwrap_or(default.timeout_s),
        environment: environment(section),
        log_retention_days: log_retention_days(section),
    }
}

pub(super) fn ledger(section: &Section<'_>) -> Ledger {
    let default = default_ledger();
    let bounds = LEDGER_RETENTION_DAYS_MIN..=LEDGER_RETENTION_DAYS_MAX;
    Ledger {
        retention_days: section
            .integer_u32(
                "retention_days",
                bounds,
                "days; Step Functions takes a name again after 90",
            )
            .unwrap_or(default.retention_days),
        deletion_protection: section
            .boolean("deletion_protection")
            .unwrap_or(default.deletion_protection),
    }
}

/// Without a value where the bucket is missing or wrong.
pub(super) fn claim_check(section: &Section<'_>) -> Option<ClaimCheck> {
    let bucket = section.checked("bucket", spelling::bucket);
    let prefix = match section.has("prefix") {
        true => section.checked("prefix", claim_check_prefix),
        false => Some(CLAIM_CHECK_PREFIX_DEFAULT.to_owned()),
    };
    Some(ClaimCheck { bucket: bucket?, prefix: prefix? })
}

fn claim_check_prefix(text: &str) -> Result<String, Fault> {
    if !text.ends_with('/') || text.starts_with('/') {
        let cause = format!("{} is no folder of a bucket", quoted(text));
        return Err(Fault::new(cause, "end it in a slash, and begin it with none: \"claims/\""));
    }
    spelling::key_part(text)
}

pub(super) fn telemetry(section: &Section<'_>) -> Telemetry {
    Telemetry { otlp_endpoint: section.checked("otlp_endpoint", spelling::http_url) }
}

/// `artifact`.
pub(super) fn zip(text: &str) -> Result<String, Fault> {
    spelling::file(text, ".zip")
}

/// `memory_mb`.
pub(super) fn memory_mb(section: &Section<'_>) -> Option<u32> {
    section.integer_u32("memory_mb", LAMBDA_MEMORY_MB, "MiB")
}

/// `timeout_s`.
pub(super) fn timeout_s(section: &Section<'_>) -> Option<u32> {
    section.integer_u32("timeout_s", LAMBDA_TIMEOUT_S, "seconds")
}

/// `log_retention_days`.
pub(super) fn log_retention_days(section: &Section<'_>) -> u32 {
    let key = "log_retention_days";
    let Some(days) = section.integer_u32(key, 1..=u32::MAX, "days") else {
        return LOG_RETENTION_DAYS_DEFAULT;
    };
    if !LOG_RETENTION_DAYS.contains(&days) {
        let next = LOG_RETENTION_DAYS.into_iter().find(|known| *known > days);
        let known = LOG_RETENTION_DAYS.map(|days| days.to_string()).join(", ");
        let remedy = match next {
            Some(next) => format!("the next that it takes is {next}; all: {known}"),
            None => format!("it takes {known}"),
        };
        section.fault_of(
            key,
            Fault::new(format!("`{key} = {days}` is nothing that CloudWatch Logs takes"), remedy),
        );
    }
    days
}

/// `environment`.
pub(super) fn environment(section: &Section<'_>) -> BTreeMap<String, String> {
    let Some(table) = section.free_table("environment") else { return BTreeMap::new() };
    let mut variables = BTreeMap::new();
    for (key, value) in table.value {
        let name = key.get_ref().as_ref();
        if let Some(fault) = variable_fault(name) {
            section.fault(key.span().start, fault);
        }
        match value.get_ref().as_str() {
            Some(text) => {
                variables.insert(name.to_owned(), text.to_owned());
            }
            None => {
                let cause =
                    format!("`environment` gives {} {}", quoted(name), kind_of(value.get_ref()));
                section.fault(
                    value.span().start,
                    Fault::new(cause, "variables are strings: put it in quotes"),
                );
            }
        }
    }
    let bytes: usize = variables.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > LAMBDA_ENVIRONMENT_BYTES_MAX {
        let cause = format!("`environment` has {bytes} bytes");
        let remedy = format!(
            "Lambda takes {LAMBDA_ENVIRONMENT_BYTES_MAX}: put large values in a file or a parameter"
        );
        section.fault(table.at, Fault::new(cause, remedy));
    }
    variables
}

fn variable_fault(name: &str) -> Option<Fault> {
    let is_letter = |c: char| c.is_ascii_alphabetic();
    let is_sound = name.len() >= 2
        && name.starts_with(is_letter)
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let shown = quoted(name);
    if LAMBDA_RESERVED_VARIABLES.contains(&name) {
        return Some(Fault::new(format!("Lambda itself sets {shown}"), "drop it"));
    }
    if !is_sound {
        let cause = format!("{shown} is no name of a variable");
        return Some(Fault::new(
            cause,
            "Lambda takes two or more letters, digits and underscores, from a letter on",
        ));
    }
    let cause = format!("Bellwire itself sets {shown}");
    match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(Fault::new(cause, "use `[telemetry] otlp_endpoint`")),
        "OTEL_SERVICE_NAME" => Some(Fault::new(cause, "drop it: it is the function's name")),
        _ if name.starts_with("BELLWIRE_") => {
            Some(Fault::new(cause, "drop it, or name yours otherwise"))
        }
        _ => None,
    }
}
