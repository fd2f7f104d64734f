//! `[[function]]` and `[[subscriber]]`: what else belongs to the workflow.

use serde_json::Value;

use super::model::{Function, Protocol, Subscriber};
use super::problem::Fault;
use super::settings;
use super::spelling;
use super::table::Section;
use super::trigger;
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
    let (create, raw) = (section.boolean("create"), section.boolean("raw"));
    let endpoint = endpoint(section, protocol, create.unwrap_or(false));
    only_for(section, protocol, "create", create, &[Protocol::Sqs], "sqs");
    only_for(section, protocol, "raw", raw, &[Protocol::Https, Protocol::Sqs], "https and sqs");
    // An empty list means the same as no key: all.
    let is_empty =
        section.peek("on").is_none_or(|on| on.get_ref().as_array().is_some_and(|on| on.is_empty()));
    let on = if is_empty { None } else { section.one_or_more("on", |text| types.resolve(text)) };
    let condition = trigger::condition(section);
    if matches!(&condition, Some(Some(Value::Object(keys))) if keys.contains_key("type")) {
        let cause = "`where` has the key `type`";
        section.fault_of("where", Fault::new(cause, "name the types in `on`"));
    }
    section.finish(&[]);
    Some(Subscriber {
        name: name?,
        protocol: protocol?,
        endpoint: endpoint?,
        create: create.unwrap_or(false),
        raw: raw.unwrap_or(false),
        on: on.unwrap_or_default(),
        condition: condition?,
    })
}

/// Whom it tells; empty where the deploy makes the queue.
fn endpoint(section: &Section<'_>, protocol: Option<Protocol>, is_made: bool) -> Option<String> {
    if is_made && protocol == Some(Protocol::Sqs) {
        if section.has("endpoint") {
            let cause = "a queue that the deploy makes has its name from the subscriber's";
            section.fault_of("endpoint", Fault::new(cause, "drop `endpoint`, or `create`"));
        }
        return Some(String::new());
    }
    if !section.has("endpoint") && protocol.is_some() {
        let remedy = "add `endpoint = \"…\"`; or for a queue `create = true`";
        section.missing("endpoint", remedy);
        return None;
    }
    section.checked("endpoint", |text| match protocol {
        Some(Protocol::Email) => spelling::email(text),
        Some(Protocol::Https) => spelling::https_url(text),
        Some(Protocol::Sqs) => spelling::arn(text, "sqs", &[""]),
        Some(Protocol::Lambda) => spelling::arn(text, "lambda", &["function:"]),
        None => Ok(text.to_owned()),
    })
}

/// A switch that only some protocols have.
fn only_for(
    section: &Section<'_>,
    protocol: Option<Protocol>,
    key: &str,
    value: Option<bool>,
    protocols: &[Protocol],
    words: &str,
) {
    if value == Some(true) && protocol.is_some_and(|one| !protocols.contains(&one)) {
        let cause = format!("`{key}` is for {words}");
        section.fault_of(key, Fault::new(cause, "drop it"));
    }
}
