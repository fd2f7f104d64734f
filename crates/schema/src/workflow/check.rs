//! What the tables of a file must be to each other: everything that would be refused,
//! would never start, or would start itself, only later and on AWS.

use std::collections::BTreeSet;

use serde_json::Value;

use super::alarms::expected_by_nobody;
use super::loops::outputs_that_lead_back;
use super::model::{
    ContextFrom, Delivery, GatherUntil, Identity, Protocol, PublisherRun, S3Source, Source,
    SourceKind, StateMachine, Target, TopicKind, Trigger, Via,
};
use super::problem::{Fault, quoted};
use super::read::{Item, Tables};
use super::security;
use super::table::{Report, Section};
use super::target::TargetKind;
use crate::event_type::{EventType, Stage, StageVerb};
use crate::names::Deployment;

/// The marker that Hadoop and Spark write.
const WELL_KNOWN_MARKER: &str = "_SUCCESS";

/// Reports all that is wrong between the tables.
pub(super) fn check(report: &Report, tables: &Tables<'_>) {
    duplicates(&tables.events, "type");
    duplicates(&tables.sources, "name");
    duplicates(&tables.functions, "name");
    duplicates(&tables.subscribers, "name");
    duplicates(&tables.triggers, "name");
    subscribed_twice(tables);
    names_on_aws(tables);
    fifo(tables);
    fifo_queues_on_a_standard_topic(tables);
    targets_without_token(tables);
    pipeline_inputs(tables);
    straight_to_the_topic(tables);
    security::check(tables);
    http_without_sidecar(tables);
    overlaps(tables);
    markers_by_content(tables);
    claims_that_are_watched(tables);
    outputs_that_lead_back(tables);
    expected_by_nobody(tables);
    buckets_of_two_minds(tables);
    for trigger in &tables.triggers {
        stage_of_trigger(trigger);
    }
    if !report.has_lost_any() {
        nothing_emits(tables);
    }
}

fn given<'r, T>(item: &Item<'r, T>, key: &str) -> Option<&'r str> {
    item.section.peek(key)?.get_ref().as_str()
}

fn duplicates<T>(items: &[Item<'_, T>], key: &str) {
    // `data.seen` and `ml.data.seen.v1` are one type, though two texts.
    let identity = |text: &str| match text.parse::<EventType>() {
        Ok(event_type) if key == "type" => event_type.as_str().to_owned(),
        _ => text.to_owned(),
    };
    let mut seen = BTreeSet::new();
    for item in items {
        let Some(text) = given(item, key).filter(|text| !text.is_empty()) else { continue };
        if !seen.insert(identity(text)) {
            let cause = format!("the {key} {} is there twice", quoted(text));
            item.section.fault_of(key, Fault::new(cause, "rename one of the two, or drop it"));
        }
    }
}

fn subscribed_twice(tables: &Tables<'_>) {
    let mut seen = BTreeSet::new();
    for subscriber in &tables.subscribers {
        let (Some(protocol), Some(endpoint)) =
            (given(subscriber, "protocol"), given(subscriber, "endpoint"))
        else {
            continue;
        };
        if !seen.insert((protocol, endpoint)) {
            let cause = format!("{} is subscribed twice", quoted(endpoint));
            let remedy = "SNS keeps one subscription an endpoint: make one subscriber with both lists of `on`";
            subscriber.section.fault_of("endpoint", Fault::new(cause, remedy));
        }
    }
}

/// A thing that gets a name on AWS: what it is, and what it is called in the file and there.
struct Named<'a, 'r> {
    what: &'static str,
    section: Option<&'a Section<'r>>,
    name: String,
    on_aws: String,
}

/// Functions, state machines and Bellwire's own components share the names of their
/// roles; the sources that have a rule of their own share the names of rules.
fn names_on_aws(tables: &Tables<'_>) {
    let Some(workflow) = &tables.name else { return };
    let deployment = Deployment::new(workflow, None);
    let own =
        |what, name: &str, on_aws| Named { what, section: None, name: name.to_owned(), on_aws };
    let mut roles = vec![
        own("Bellwire's own", "handler", deployment.handler()),
        own("Bellwire's own", "publisher", deployment.publisher()),
    ];
    roles.extend(tables.functions.iter().filter_map(|item| {
        let name = item.value.as_ref()?.name.clone();
        let on_aws = deployment.function(&name);
        Some(Named { what: "function", section: Some(&item.section), name, on_aws })
    }));
    roles.extend(tables.triggers.iter().filter_map(|item| {
        let trigger = item.value.as_ref()?;
        let is_ours = matches!(trigger.target, Target::StepFunctions(StateMachine::Definition(_)));
        let on_aws = deployment.state_machine(&trigger.name);
        let named = Named {
            what: "trigger",
            section: Some(&item.section),
            name: trigger.name.clone(),
            on_aws,
        };
        is_ours.then_some(named)
    }));
    collisions(&roles);
    let mut rules: Vec<Named<'_, '_>> = ["completions", "sweep"]
        .map(|name| own("Bellwire's own", name, deployment.rule(name)))
        .into();
    rules.extend(tables.sources.iter().filter_map(|item| {
        let source = item.value.as_ref()?;
        let on_aws = deployment.rule(&source.name);
        let named = Named {
            what: "source",
            section: Some(&item.section),
            name: source.name.clone(),
            on_aws,
        };
        let has_rule = matches!(
            source.kind,
            SourceKind::Schedule(_) | SourceKind::Sagemaker(_) | SourceKind::Batch(_)
        );
        has_rule.then_some(named)
    }));
    rules.extend(tables.triggers.iter().filter_map(|item| {
        let trigger = item.value.as_ref()?;
        let has_rule =
            matches!(trigger.target.kind(), TargetKind::SagemakerPipeline | TargetKind::Batch);
        has_rule.then(|| Named {
            what: "trigger",
            section: Some(&item.section),
            name: trigger.name.clone(),
            on_aws: deployment.runs_rule(&trigger.name),
        })
    }));
    collisions(&rules);
}

fn collisions(named: &[Named<'_, '_>]) {
    for (index, one) in named.iter().enumerate() {
        let Some(section) = one.section else { continue };
        let is_other = |other: &&Named<'_, '_>| {
            // One name twice among the same things is reported as that already.
            other.on_aws == one.on_aws && (other.what, &other.name) != (one.what, &one.name)
        };
        if let Some(other) = named[..index].iter().find(is_other) {
            let other_name = quoted(&other.name);
            let cause =
                format!("its name on AWS, {}, is that of {} {other_name}", one.on_aws, other.what);
            section.fault_of("name", Fault::new(cause, "rename one of the two"));
        }
    }
}

/// What AWS refuses of FIFO topics, and what would not keep their order.
fn fifo(tables: &Tables<'_>) {
    let topic = tables.topic.value.as_ref();
    if topic.is_none_or(|topic| topic.kind != TopicKind::Fifo) {
        return;
    }
    let handler = &tables.handler;
    if handler.is_sound
        && handler.value.as_ref().is_none_or(|handler| handler.delivery == Delivery::Direct)
    {
        let fault = Fault::new(
            "a FIFO topic does not invoke a function directly",
            "set `delivery = \"queued\"` in [handler]",
        );
        if handler.section.has("delivery") {
            handler.section.fault_of("delivery", fault);
        } else {
            tables.topic.section.fault_of("kind", fault);
        }
    }
    let publisher = &tables.publisher;
    if publisher.value.as_ref().is_some_and(|publisher| publisher.run == PublisherRun::Lambda) {
        let fault = Fault::new(
            "Lambda runs publishers side by side, which would not keep a group's order",
            "set `run = \"sidecar\"`, or make the topic standard",
        );
        publisher.section.fault_of("run", fault);
    }
    for (item, _) in s3_sources(tables).filter(|(_, s3)| s3.via == Via::Topic) {
        let fault =
            Fault::new("S3 does not notify a FIFO topic", "drop `via`, or make the topic standard");
        item.section.fault_of("via", fault);
    }
    for subscriber in &tables.subscribers {
        if subscriber.value.as_ref().is_some_and(|subscriber| subscriber.protocol != Protocol::Sqs)
        {
            let fault = Fault::new(
                "a FIFO topic delivers to queues only",
                "subscribe an SQS queue, or make the topic standard",
            );
            subscriber.section.fault_of("protocol", fault);
        }
    }
}

/// Source: Amazon SNS developer guide, "Fanout to Amazon SQS queues": FIFO queues take FIFO topics only.
fn fifo_queues_on_a_standard_topic(tables: &Tables<'_>) {
    let topic = &tables.topic;
    if !topic.is_sound || topic.value.as_ref().is_some_and(|topic| topic.kind == TopicKind::Fifo) {
        return;
    }
    for item in &tables.subscribers {
        let Some(subscriber) = &item.value else { continue };
        if subscriber.protocol == Protocol::Sqs && subscriber.endpoint.ends_with(".fifo") {
            let remedy = "name a standard queue, or set `kind = \"fifo\"` in [topic]";
            item.section.fault_of(
                "endpoint",
                Fault::new("a standard topic does not deliver to a FIFO queue", remedy),
            );
        }
    }
}

/// Batch and Lambda refuse no second start, so a started message must be able to wait.
fn targets_without_token(tables: &Tables<'_>) {
    let handler = &tables.handler;
    if !handler.is_sound
        || handler.value.as_ref().is_some_and(|handler| handler.delivery == Delivery::Queued)
    {
        return;
    }
    for item in &tables.triggers {
        if item.value.as_ref().is_some_and(|trigger| trigger.target.kind().needs_lease()) {
            let cause =
                "its target has no name or token, so a start may have to wait for another's lease";
            item.section
                .fault_of("start", Fault::new(cause, "set `delivery = \"queued\"` in [handler]"));
        }
    }
}

/// Source: Amazon SageMaker API reference, `Parameter`: a name and a text.
fn pipeline_inputs(tables: &Tables<'_>) {
    for item in &tables.triggers {
        let Some(trigger) = &item.value else { continue };
        if trigger.target.kind() != TargetKind::SagemakerPipeline {
            continue;
        }
        let fields = trigger.input.as_ref().and_then(Value::as_object).into_iter().flatten();
        for (name, value) in fields {
            let what = match value {
                Value::Array(_) => "a list",
                Value::Object(_) => "a table",
                _ => continue,
            };
            let name = quoted(name);
            let cause = format!(
                "the field {name} of `input` is {what}, and a pipeline's parameter is one value"
            );
            let remedy = "write a text, a number, true or false, or a query that finds one";
            item.section.fault_of("input", Fault::new(cause, remedy));
        }
    }
}

fn straight_to_the_topic(tables: &Tables<'_>) {
    for (item, s3) in s3_sources(tables).filter(|(_, s3)| s3.via == Via::Topic) {
        if s3.context == ContextFrom::Metadata {
            let cause = "only the publisher reads the metadata of objects";
            let remedy = "drop `context`, or `via`";
            item.section.fault_of("context", Fault::new(cause, remedy));
        }
    }
}

/// A bucket is of one account, is encrypted with one key, and is made or not.
fn buckets_of_two_minds(tables: &Tables<'_>) {
    let sources: Vec<_> = s3_sources(tables).collect();
    for (index, (item, one)) in sources.iter().enumerate() {
        let of_bucket = |other: &&(&Item<'_, Source>, &S3Source)| other.1.bucket == one.bucket;
        let Some((other, before)) = sources[..index].iter().find(of_bucket) else { continue };
        let differs = [
            ("account", one.account != before.account),
            ("kms_key", one.kms_key != before.kms_key),
        ];
        for (key, _) in differs.into_iter().filter(|(_, differs)| *differs) {
            let name = quoted(given(other, "name").unwrap_or_default());
            let cause =
                format!("`{key}` of bucket {} is another than in source {name}", one.bucket);
            item.section.fault_of(key, Fault::new(cause, "write the same in both"));
        }
    }
}

fn http_without_sidecar(tables: &Tables<'_>) {
    if tables.publisher.value.as_ref().is_none_or(|publisher| publisher.run != PublisherRun::Lambda)
    {
        return;
    }
    for item in &tables.sources {
        if item.value.as_ref().is_some_and(|source| matches!(source.kind, SourceKind::Http(_))) {
            let cause = "the publisher as a Lambda function takes no HTTP";
            item.section
                .fault_of("kind", Fault::new(cause, "set `run = \"sidecar\"` in [publisher]"));
        }
    }
}

fn s3_sources<'a, 'r>(
    tables: &'a Tables<'r>,
) -> impl Iterator<Item = (&'a Item<'r, Source>, &'a S3Source)> {
    tables.sources.iter().filter_map(|item| match &item.value.as_ref()?.kind {
        SourceKind::S3(s3) => Some((item, s3)),
        _ => None,
    })
}

/// S3 refuses two notifications for the same kind of event whose prefixes and suffixes
/// both overlap. Source: Amazon S3 user guide, "Configuring event notifications using object key name filtering".
fn overlaps(tables: &Tables<'_>) {
    let sources: Vec<_> = s3_sources(tables).filter(|(item, _)| item.is_sound).collect();
    for (index, (item, one)) in sources.iter().enumerate() {
        let other = sources[..index].iter().find(|(_, other)| overlap(one, other));
        if let Some((other, _)) = other {
            let name = quoted(given(other, "name").unwrap_or_default());
            let cause =
                format!("its objects overlap with those of source {name}, which S3 refuses");
            let key = ["prefix", "suffix"]
                .into_iter()
                .find(|key| item.section.has(key))
                .unwrap_or("bucket");
            item.section.fault_of(
                key,
                Fault::new(cause, "make their prefixes or their suffixes exclude each other"),
            );
        }
    }
}

fn overlap(one: &S3Source, other: &S3Source) -> bool {
    let prefixes = one.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&one.prefix);
    let suffixes = one.suffix.ends_with(&other.suffix) || other.suffix.ends_with(&one.suffix);
    one.bucket == other.bucket && one.emits == other.emits && prefixes && suffixes
}

/// An empty object always has the same eTag, so a marker would be an event only once.
fn markers_by_content(tables: &Tables<'_>) {
    let by_content = |s3: &S3Source| s3.identity == Identity::Content;
    for (item, s3) in s3_sources(tables).filter(|(_, s3)| by_content(s3)) {
        let gathers =
            tables.triggers.iter().filter_map(|item| item.value.as_ref()).find(|trigger| {
                let gather = trigger.gather.as_ref();
                let has_marker =
                    gather.is_some_and(|gather| matches!(gather.until, GatherUntil::Marker(_)));
                has_marker && trigger.on.contains(&s3.emits)
            });
        let what = match gathers {
            Some(trigger) => format!("trigger {} waits for a marker", quoted(&trigger.name)),
            None if s3.suffix.ends_with(WELL_KNOWN_MARKER) => {
                format!("{WELL_KNOWN_MARKER} is a marker")
            }
            None => continue,
        };
        let cause = format!("{what}, and every empty object has the same content");
        item.section.fault_of(
            "identity",
            Fault::new(cause, "drop `identity`, so that each write is an event"),
        );
    }
}

/// A payload that is put aside must not be an arrival of its own.
fn claims_that_are_watched(tables: &Tables<'_>) {
    let item = &tables.claim_check;
    let Some(claims) = item.value.as_ref().and_then(Option::as_ref) else { return };
    let is_watched = |s3: &S3Source| {
        s3.bucket == claims.bucket
            && (s3.prefix.starts_with(&claims.prefix) || claims.prefix.starts_with(&s3.prefix))
    };
    if let Some((source, _)) = s3_sources(tables).find(|(_, s3)| is_watched(s3)) {
        let name = quoted(given(source, "name").unwrap_or_default());
        let cause = format!("source {name} watches what is put under {}", quoted(&claims.prefix));
        let key = if item.section.has("prefix") { "prefix" } else { "bucket" };
        item.section.fault_of(key, Fault::new(cause, "choose another prefix or another bucket"));
    }
}

/// Whether a trigger's stage fits what it starts on.
fn stage_of_trigger(item: &Item<'_, Trigger>) {
    let Some(trigger) = &item.value else { return };
    for (index, event_type) in trigger.on.iter().enumerate() {
        let Some((stage, verb)) = event_type.stage_and_verb() else { continue };
        let short = event_type.short();
        match verb {
            StageVerb::Requested if stage != trigger.stage => {
                let cause = format!(
                    "{short} asks for a run of another stage than `stage = \"{}\"`",
                    trigger.stage
                );
                let wanted = trigger.stage.event(StageVerb::Requested);
                let remedy = format!("set `stage = \"{stage}\"`, or start on {}", wanted.short());
                item.section.fault_of_element("on", index, Fault::new(cause, remedy));
            }
            // With a `where` it may be a step within the stage that its own runs do not match.
            StageVerb::Started | StageVerb::Completed
                if stage == trigger.stage && trigger.condition.is_none() =>
            {
                let cause = format!("its own runs emit {short}, so it would start itself for ever");
                let remedy = "start on another stage's event, or exclude its own runs by `where`";
                item.section.fault_of_element("on", index, Fault::new(cause, remedy));
            }
            _ => {}
        }
    }
}

/// A trigger that starts on what no source, no run and no application of this workflow emits.
fn nothing_emits(tables: &Tables<'_>) {
    let Some(emitted) = emitted(tables) else { return };
    for item in &tables.triggers {
        let Some(trigger) = &item.value else { continue };
        for (index, event_type) in trigger.on.iter().enumerate() {
            if !emitted.contains(event_type) {
                let cause = format!("nothing in this workflow emits {}", event_type.short());
                let fault = Fault::new(cause, remedy_for_missing(event_type));
                item.section.fault_of_element("on", index, fault);
            }
        }
    }
}

/// Every type that may come; `None` where a mistake elsewhere leaves that open.
fn emitted(tables: &Tables<'_>) -> Option<BTreeSet<EventType>> {
    let mut emitted: BTreeSet<EventType> = BTreeSet::new();
    let ends = |stage: Stage| [stage.event(StageVerb::Completed), stage.event(StageVerb::Failed)];
    for item in &tables.sources {
        let source = item.value.as_ref().filter(|_| item.is_sound)?;
        match &source.kind {
            SourceKind::S3(s3) => emitted.extend([s3.emits.clone()]),
            SourceKind::Schedule(schedule) => emitted.extend([schedule.emits.clone()]),
            SourceKind::Http(http) => emitted.extend([http.emits.clone()]),
            SourceKind::StepFunctions(of) | SourceKind::Sagemaker(of) | SourceKind::Batch(of) => {
                emitted.extend(ends(of.stage));
            }
        }
    }
    for item in &tables.triggers {
        let stage: Stage = given(item, "stage")?.parse().ok()?;
        emitted.insert(stage.event(StageVerb::Started));
        emitted.extend(ends(stage));
    }
    // Types of its own an application may publish without a source.
    for item in &tables.events {
        emitted.insert(item.value.as_ref()?.event_type.clone());
    }
    Some(emitted)
}

fn remedy_for_missing(event_type: &EventType) -> String {
    let short = event_type.short();
    match event_type.stage_and_verb() {
        None => format!("add an s3 source with `emits = \"{short}\"`"),
        Some((_, StageVerb::Requested)) => {
            format!("add a source of kind http or schedule with `emits = \"{short}\"`")
        }
        Some((stage, StageVerb::Started)) => format!("add a trigger with `stage = \"{stage}\"`"),
        Some((stage, StageVerb::Completed | StageVerb::Failed)) => {
            format!("add a trigger, or a source of completions, with `stage = \"{stage}\"`")
        }
    }
}
