//! `[[event]]` and `[[source]]`: which events there are, and where they come from.

use std::collections::BTreeMap;

use super::alarms;
use super::json;
use super::keys;
use super::model::{
    CompletionSource, ContextFrom, CustomEventType, HttpSource, Identity, S3Source, ScheduleSource,
    Source, SourceKind, Via,
};
use super::problem::Fault;
use super::spelling;
use super::table::Section;
use super::types::{self, KnownTypes};
use crate::event_type::{EventType, Stage, StageVerb};

/// The kinds of sources, each with its own keys.
const KINDS: [(&str, &keys::TableKeys); 6] = [
    ("s3", &keys::SOURCE_S3),
    ("schedule", &keys::SOURCE_SCHEDULE),
    ("step-functions", &keys::SOURCE_COMPLETION),
    ("sagemaker", &keys::SOURCE_COMPLETION),
    ("batch", &keys::SOURCE_COMPLETION),
    ("http", &keys::SOURCE_HTTP),
];

/// The four stages by their names.
pub(super) const STAGES: [(&str, Stage); 4] = [
    (Stage::Collection.as_str(), Stage::Collection),
    (Stage::Training.as_str(), Stage::Training),
    (Stage::Evaluation.as_str(), Stage::Evaluation),
    (Stage::Prediction.as_str(), Stage::Prediction),
];

pub(super) fn event(section: &Section<'_>) -> Option<CustomEventType> {
    let event_type = section.checked("type", types::declared);
    let schema = section.checked("schema", |text| spelling::file(text, ".json"));
    section.finish(&[]);
    Some(CustomEventType { event_type: event_type?, schema })
}

pub(super) fn source(section: &mut Section<'_>, types: &KnownTypes) -> Option<Source> {
    let kind = section.choice("kind", &KINDS.map(|(word, _)| (word, word)));
    let kind = match kind {
        Some(kind) => kind_of_source(section, kind, types),
        // Its keys cannot be judged; those that no kind has are reported all the same.
        None => {
            KINDS.iter().for_each(|(_, keys)| section.also_knows(keys));
            None
        }
    };
    let name = section.checked("name", spelling::name);
    let dataset = section.checked("dataset", spelling::one_line);
    let expected_s = alarms::expected_s(section);
    section.finish(&KINDS);
    Some(Source { name: name?, dataset, expected_s, kind: kind? })
}

fn kind_of_source(section: &mut Section<'_>, kind: &str, types: &KnownTypes) -> Option<SourceKind> {
    let (_, keys) = KINDS.iter().find(|(word, _)| *word == kind)?;
    section.also_knows(keys);
    match kind {
        "s3" => s3(section, types).map(SourceKind::S3),
        "schedule" => schedule(section, types).map(SourceKind::Schedule),
        "step-functions" => {
            completion(section, "states", &["stateMachine:"]).map(SourceKind::StepFunctions)
        }
        "sagemaker" => completion(section, "sagemaker", &["pipeline/"]).map(SourceKind::Sagemaker),
        "batch" => completion(section, "batch", &["job-queue/"]).map(SourceKind::Batch),
        _ => {
            let emits = section.checked("emits", |text| types.resolve(text));
            Some(SourceKind::Http(HttpSource { emits: emits? }))
        }
    }
}

fn s3(section: &Section<'_>, types: &KnownTypes) -> Option<S3Source> {
    let emits = section.checked("emits", |text| {
        let event_type = types.resolve(text)?;
        let fits = [EventType::data_arrived(), EventType::data_removed()].contains(&event_type);
        let remedy = "an S3 source emits data.arrived or data.removed";
        if fits { Ok(event_type) } else { Err(Fault::new("does not fit kind \"s3\"", remedy)) }
    });
    let bucket = section.checked("bucket", spelling::bucket);
    let key_part = |name: &str| {
        let is_empty = section.peek(name).is_none_or(|value| value.get_ref().as_str() == Some(""));
        if is_empty { Some(String::new()) } else { section.checked(name, spelling::key_part) }
    };
    let prefix = key_part("prefix");
    let suffix = key_part("suffix");
    let create = section.boolean("create");
    let account = section.checked("account", spelling::account);
    let kms_key = section.checked("kms_key", |text| spelling::arn(text, "kms", &["key/"]));
    if account.is_some()
        && section.peek("via").is_some_and(|via| via.get_ref().as_str() == Some("topic"))
    {
        let cause = "a bucket of another account notifies the ingest queue only";
        section.fault_of("via", Fault::new(cause, "drop `via`"));
    }
    if account.is_some() && create == Some(true) {
        let cause = "a deploy makes buckets in its own account only";
        section.fault_of("create", Fault::new(cause, "drop `create`, or `account`"));
    }
    let via = section.choice("via", &[("publisher", Via::Publisher), ("topic", Via::Topic)]);
    let context = section
        .choice("context", &[("none", ContextFrom::None), ("metadata", ContextFrom::Metadata)]);
    let identity = section
        .choice("identity", &[("version", Identity::Version), ("content", Identity::Content)]);
    Some(S3Source {
        bucket: bucket?,
        prefix: prefix?,
        suffix: suffix?,
        emits: emits.unwrap_or_else(EventType::data_arrived),
        create: create.unwrap_or(false),
        via: via.unwrap_or(Via::Publisher),
        context: context.unwrap_or(ContextFrom::None),
        identity: identity.unwrap_or(Identity::Version),
        account,
        kms_key,
    })
}

fn schedule(section: &Section<'_>, types: &KnownTypes) -> Option<ScheduleSource> {
    let expression = section.checked("expression", spelling::schedule);
    let emits = section.checked("emits", |text| {
        let event_type = types.resolve(text)?;
        let is_requested = matches!(event_type.stage_and_verb(), Some((_, StageVerb::Requested)));
        let fits = is_requested || !types::is_own(&event_type);
        let remedy = "a schedule emits a stage's `requested`, such as collection.requested, or a type of [[event]]";
        if fits { Ok(event_type) } else { Err(Fault::new("does not fit kind \"schedule\"", remedy)) }
    });
    let parameters = match section.free_table("parameters") {
        Some(table) => {
            let problems = section.report().count();
            let parameters = BTreeMap::from_iter(json::object(section, "parameters", table.value));
            (section.report().count() == problems).then_some(parameters)
        }
        None => Some(BTreeMap::new()),
    };
    Some(ScheduleSource { expression: expression?, emits: emits?, parameters: parameters? })
}

fn completion(
    section: &Section<'_>,
    service: &str,
    resources: &[&str],
) -> Option<CompletionSource> {
    let resource =
        section.checked("resource", |text| spelling::aws_name_or_arn(text, service, resources));
    let stage = section.choice("stage", &STAGES);
    Some(CompletionSource { resource: resource?, stage: stage? })
}
