//! `[[function]]` and `[[subscriber]]`: what else belongs to the workflow.

use super::model::{Function, Protocol, Subscriber};
use super::settings;
use super::spelling;
use super::table::Section;
use super::types::KnownTypes;

const FUNCTION_MEMORY_MB_DEFAULT: u32 = 1_024;
const FUNCTION_TIMEOUT_S_DEFAULT: u32 = 300;

pub(super) fn function(section: &Section<'_>) -> Option<Function> {
    let name = section.checked("name", spelling::name);
    let artifact = section.checked("artifact", settings::zip);
    let access = section.list("access", spelling::access);
    let memory_mb = settings::memory_mb(section);
    let timeout_s = settings::timeout_s(section);
    let environment = settings::environment(section);
    let log_retention_days = settings::log_retention_days(section);
    section.finish(&[]);
    Some(Function {
        name: name?,
        artifact: artifact?,
        access: access.unwrap_or_default(),
        memory_mb: memory_mb.unwrap_or(FUNCTION_MEMORY_MB_DEFAULT),
        timeout_s: timeout_s.unwrap_or(FUNCTION_TIMEOUT_S_DEFAULT),
        environment,
        log_retention_days,
    })
}

pub(super) fn subscriber(section: &Section<'_>, types: &KnownTypes) -> Option<Subscriber> {
    let name = section.checked("name", spelling::name);
    let protocol = section.choice(
        "protocol",
        &[
            ("email", Protocol::Email),
            ("https", Protocol::Https),
            ("sqs", Protocol::Sqs),
            ("lambda", Protocol::Lambda),
        ],
    );
    let endpoint = section.checked("endpoint", |text| match protocol {
        Some(Protocol::Email) => spelling::email(text),
        Some(Protocol::Https) => spelling::https_url(text),
        Some(Protocol::Sqs) => spelling::arn(text, "sqs", &[""]),
        Some(Protocol::Lambda) => spelling::arn(text, "lambda", &["function:"]),
        None => Ok(text.to_owned()),
    });
    // An empty list means the same as no key: all.
    let is_empty =
        section.peek("on").is_none_or(|on| on.get_ref().as_array().is_some_and(|on| on.is_empty()));
    let on = if is_empty { None } else { section.one_or_more("on", |text| types.resolve(text)) };
    section.finish(&[]);
    Some(Subscriber {
        name: name?,
        protocol: protocol?,
        endpoint: endpoint?,
        on: on.unwrap_or_default(),
    })
}
