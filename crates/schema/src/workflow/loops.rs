//! What a trigger's runs write must not start it again, by itself or through others.

use std::collections::BTreeSet;

use super::model::{ObjectPrefix, S3Source, Source, SourceKind, Trigger};
use super::problem::{Fault, quoted};
use super::read::Tables;
use crate::event_type::EventType;

/// A trigger that another one leads to, and by what.
struct Step<'a> {
    to: &'a Trigger,
    by: String,
}

/// Refuses each trigger whose declared outputs lead back to it.
pub(super) fn outputs_that_lead_back(tables: &Tables<'_>) {
    let triggers: Vec<&Trigger> =
        tables.triggers.iter().filter_map(|item| item.value.as_ref()).collect();
    let sources: Vec<&Source> =
        tables.sources.iter().filter_map(|item| item.value.as_ref()).collect();
    // A loop over several is told of once, at the first of them.
    let mut told: BTreeSet<String> = BTreeSet::new();
    for item in &tables.triggers {
        let Some(trigger) = item.value.as_ref() else { continue };
        for (index, output) in trigger.outputs.iter().enumerate() {
            let first = started_by_output(output, &sources, &triggers);
            let Some(way) = way_back(trigger, first, &sources, &triggers) else { continue };
            if way.iter().any(|step| told.contains(&step.to.name)) {
                continue;
            }
            told.insert(trigger.name.clone());
            let way: Vec<&str> = way.iter().map(|step| step.by.as_str()).collect();
            let cause = format!("what its runs write starts it again: {}", way.join(", then "));
            let remedy = "let them write to where no source looks, or narrow the source's prefix";
            item.section.fault_of_element("outputs", index, Fault::new(cause, remedy));
        }
    }
}

/// The shortest way from where an output leads to back to its trigger.
fn way_back<'a>(
    home: &Trigger,
    first: Vec<Step<'a>>,
    sources: &[&Source],
    triggers: &[&'a Trigger],
) -> Option<Vec<Step<'a>>> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut ways: Vec<Vec<Step<'a>>> = first.into_iter().map(|step| vec![step]).collect();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let last = way.last().expect("a way has a step").to;
            if last.name == home.name {
                return Some(way);
            }
            if !seen.insert(&last.name) {
                continue;
            }
            for step in started_by_run(last, sources, triggers) {
                let so_far = way.iter().map(|one| Step { to: one.to, by: one.by.clone() });
                longer.push(so_far.chain([step]).collect());
            }
        }
        ways = longer;
    }
    None
}

/// Where a run of a trigger leads to: by what it writes, and by the events of its stage.
fn started_by_run<'a>(
    trigger: &Trigger,
    sources: &[&Source],
    triggers: &[&'a Trigger],
) -> Vec<Step<'a>> {
    let by_outputs =
        trigger.outputs.iter().flat_map(|output| started_by_output(output, sources, triggers));
    let emits = |event_type: &&EventType| {
        // One that asks for a run is nobody's who runs.
        let stage = event_type.stage_and_verb();
        stage.is_some_and(|(stage, verb)| {
            stage == trigger.stage && verb != crate::event_type::StageVerb::Requested
        })
    };
    let by_events = triggers.iter().filter_map(|to| {
        // With a `where` the loop may end: what the models learn decides.
        let event_type = to.on.iter().find(emits).filter(|_| to.condition.is_none())?;
        let by = format!("{} starts trigger {}", event_type.short(), quoted(&to.name));
        Some(Step { to, by })
    });
    by_outputs.chain(by_events).collect()
}

/// The triggers that start on objects under a prefix.
fn started_by_output<'a>(
    output: &ObjectPrefix,
    sources: &[&Source],
    triggers: &[&'a Trigger],
) -> Vec<Step<'a>> {
    let watching = sources.iter().filter_map(|source| match &source.kind {
        SourceKind::S3(s3) if is_seen(output, s3) => Some((*source, s3)),
        _ => None,
    });
    let steps = watching.flat_map(|(source, s3)| {
        let wanted = triggers
            .iter()
            .filter(move |to| to.on.contains(&s3.emits) && may_want(to, source.dataset.as_deref()));
        wanted.map(move |to| Step {
            to,
            by: format!(
                "source {} sees {output}, and starts trigger {}",
                quoted(&source.name),
                quoted(&to.name)
            ),
        })
    });
    steps.collect()
}

/// Whether an object under a prefix may be an arrival of a source: of their suffix nobody
/// knows, and what is written is not removed.
fn is_seen(output: &ObjectPrefix, s3: &S3Source) -> bool {
    let ObjectPrefix { bucket, prefix } = output;
    *bucket == s3.bucket
        && s3.emits != EventType::data_removed()
        && (prefix.starts_with(&s3.prefix) || s3.prefix.starts_with(prefix))
}

/// Whether a trigger's `where` lets a dataset through. Only a list of plain names keeps
/// one out for sure.
fn may_want(trigger: &Trigger, dataset: Option<&str>) -> bool {
    let wanted = trigger.condition.as_ref().and_then(|policy| policy.get("dataset"));
    let Some(names) = wanted.and_then(serde_json::Value::as_array) else { return true };
    names.iter().any(|name| name.as_str().is_none_or(|name| Some(name) == dataset))
}
