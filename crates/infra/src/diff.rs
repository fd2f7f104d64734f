//! From how it is to how it should be: a plan. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::observe::Observation;
use crate::plan::{Action, Change, Kept, Note, Plan, Step};
use crate::problem::{Problem, Problems};
use crate::resource::{Kind, Observed, Owner, Properties, Resource, ResourceId};

/// Fields that are documents of their own: compared, and shown, as a whole.
const DOCUMENTS: [&str; 6] = ["body", "definition", "filter_policy", "pattern", "policy", "trust"];
/// Fields whose values may be secrets.
pub(crate) const SECRET: &str = "environment";
/// SNS's own words on how long a changed filter takes to act (Amazon SNS
/// developer guide, "Message filtering").
const FILTER_DELAY: &str = "acts within 15 minutes; until then such events are not delivered";

/// What has to be done so that all is as desired.
///
/// # Errors
/// What was found in the way, all of it at once.
pub fn diff(
    owner: &Owner,
    desired: &[Resource],
    observation: &Observation,
) -> Result<Plan, Problems> {
    let mut problems = observation.problems.clone();
    let mut plan = empty(owner, observation);
    plan.wanted = desired.iter().map(|resource| resource.properties.clone()).collect();
    for resource in desired {
        let id = resource.id();
        let Some(observed) = observation.find(&id) else {
            plan.steps.push(creation(resource));
            continue;
        };
        match change(resource, observed) {
            None => plan.unchanged.push(id.clone()),
            Some(step) if step.action == Action::Replace && id.kind.may_hold_data() => {
                let cause = format!("{}, and it may hold data", step.reason.unwrap_or_default());
                let remedy = "deploy under another name, or destroy it by name first";
                problems.push(Problem::new(id.to_string(), cause, remedy));
            }
            Some(step) => plan.steps.push(step),
        }
        plan.notes.extend(notes(observed));
    }
    Problems::none_of(problems)?;
    let wanted: BTreeSet<ResourceId> = desired.iter().map(Resource::id).collect();
    for observed in &observation.resources {
        let id = observed.id();
        if !wanted.contains(&id) {
            delete_or_keep(&mut plan, observation, observed);
        }
    }
    order(&mut plan);
    Ok(plan)
}

/// What has to be done so that nothing of ours is left, but for data that
/// nobody named: `delete_data` names what may go with all that is in it.
#[must_use]
pub fn destruction(owner: &Owner, observation: &Observation, delete_data: &[String]) -> Plan {
    let mut plan = empty(owner, observation);
    for observed in &observation.resources {
        let id = observed.id();
        if id.kind.is_part_of_function() {
            continue;
        }
        let is_named = id.kind.may_hold_data() && delete_data.contains(&id.name);
        match &observed.data {
            Some(data) if !is_named => {
                let reason = format!("it holds {data}; to delete it: --delete-data {}", id.name);
                plan.kept.push(Kept { id, reason });
            }
            _ => plan.steps.push(Step { with_data: is_named, ..deletion(observed) }),
        }
    }
    order(&mut plan);
    plan
}

fn empty(owner: &Owner, observation: &Observation) -> Plan {
    let (foreign, record) = (observation.foreign.clone(), observation.record.clone());
    Plan { foreign, record, ..Plan::empty(owner) }
}

fn notes(observed: &Observed) -> Vec<Note> {
    // Which version an alias serves is shown with its change.
    if observed.id().kind == Kind::Alias {
        return Vec::new();
    }
    let note = |text: &String| Note { id: observed.id(), text: text.clone() };
    observed.notes.iter().map(note).collect()
}

fn creation(resource: &Resource) -> Step {
    Step {
        id: resource.id(),
        action: Action::Create,
        changes: Vec::new(),
        reason: None,
        desired: Some(resource.properties.clone()),
        observed: None,
        with_data: false,
        adopts: false,
        after: resource.depends_on.clone(),
    }
}

fn deletion(observed: &Observed) -> Step {
    Step {
        id: observed.id(),
        action: Action::Delete,
        changes: Vec::new(),
        reason: None,
        desired: None,
        observed: Some(observed.properties.clone()),
        with_data: false,
        adopts: false,
        after: Vec::new(),
    }
}

/// The step that makes a resource what it should be; `None` where it is.
fn change(resource: &Resource, observed: &Observed) -> Option<Step> {
    let changes = changes(&fields_of(&observed.properties), &fields_of(&resource.properties));
    if changes.is_empty() {
        return None;
    }
    let id = resource.id();
    if !observed.owned {
        // It was asked for by name, or it would not be among what was observed.
        let reason = Some("taken over: it was not this workflow's".to_owned());
        let (action, observed) = (Action::Update, Some(observed.properties.clone()));
        return Some(Step {
            action,
            changes,
            reason,
            observed,
            adopts: true,
            ..creation(resource)
        });
    }
    let reason = changes.iter().find_map(|change| replacement_reason(id.kind, &change.field));
    let action = if reason.is_some() { Action::Replace } else { Action::Update };
    Some(Step {
        action,
        changes,
        reason: reason.map(str::to_owned),
        observed: Some(observed.properties.clone()),
        ..creation(resource)
    })
}

/// Which fields two states of one resource differ in; values that may be secret are not
/// in it.
pub(crate) fn changes(from: &Map<String, Value>, to: &Map<String, Value>) -> Vec<Change> {
    let mut changes = Vec::new();
    let (from, to) = (Value::Object(from.clone()), Value::Object(to.clone()));
    collect_changes("", &from, &to, &mut changes);
    changes
}

/// The properties as JSON, without the name of their kind around them.
pub(crate) fn fields_of(properties: &Properties) -> Map<String, Value> {
    let tagged = serde_json::to_value(properties).expect("properties have only text keys");
    let Value::Object(tagged) = tagged else { return Map::new() };
    match tagged.into_iter().next() {
        Some((_, Value::Object(fields))) => fields,
        _ => Map::new(),
    }
}

fn collect_changes(field: &str, from: &Value, to: &Value, changes: &mut Vec<Change>) {
    if from == to {
        return;
    }
    let is_document = DOCUMENTS.contains(&field.rsplit('.').next().unwrap_or(field));
    let (Value::Object(old), Value::Object(new), false) = (from, to, is_document) else {
        changes.push(redacted(field, from, to));
        return;
    };
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let path = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
        let side = |fields: &Map<String, Value>| fields.get(key).cloned().unwrap_or(Value::Null);
        collect_changes(&path, &side(old), &side(new), changes);
    }
}

fn redacted(field: &str, from: &Value, to: &Value) -> Change {
    let is_secret = field.split('.').any(|part| part == SECRET);
    let (from, to) = match (is_secret, from.is_null(), to.is_null()) {
        (false, _, _) => (from.clone(), to.clone()),
        (true, false, false) => (json!("(set)"), json!("(set otherwise)")),
        (true, was_absent, is_absent) => {
            let shown = |absent: bool| if absent { Value::Null } else { json!("(set)") };
            (shown(was_absent), shown(is_absent))
        }
    };
    Change { field: field.to_owned(), from, to }
}

/// Why AWS does not change this field in place.
fn replacement_reason(kind: Kind, field: &str) -> Option<&'static str> {
    match kind {
        Kind::Permission | Kind::FunctionPolicy => {
            Some("Lambda has no call to change a permission")
        }
        Kind::Role if field == "path" => Some("IAM cannot change the path of a role"),
        Kind::Table if field.starts_with("key.") => Some("the key of a table cannot be changed"),
        _ => None,
    }
}

/// What nothing asks for any more goes, unless it holds data.
fn delete_or_keep(plan: &mut Plan, observation: &Observation, observed: &Observed) {
    let id = observed.id();
    let function_goes = id.kind.is_part_of_function() && {
        let function = id.name.split(':').next().unwrap_or_default();
        let function = ResourceId::new(Kind::Function, function);
        let is_wanted = plan.unchanged.contains(&function)
            || plan.steps.iter().any(|step| step.id == function && step.action != Action::Delete);
        observation.find(&function).is_some() && !is_wanted
    };
    if function_goes {
        return;
    }
    if id.kind.may_hold_data() {
        let data = observed.data.as_deref().unwrap_or("no data now");
        let reason =
            format!("no longer in the workflow file; it holds {data}, and only destroy deletes it");
        plan.kept.push(Kept { id, reason });
        return;
    }
    plan.steps.push(deletion(observed));
}

/// Puts the steps into an order in which each comes after those it depends on,
/// and cuts its dependencies down to steps of this plan.
///
/// What only leads from one thing to another goes first, so that the documents
/// that still name it, by which an interrupted deletion is found again, change
/// after it. Everything else that goes, goes when nothing refers to it any more.
fn order(plan: &mut Plan) {
    let steps: BTreeMap<ResourceId, (Action, bool)> = plan
        .steps
        .iter()
        .map(|step| (step.id.clone(), (step.action, step.id.kind.is_edge())))
        .collect();
    let of = |wanted: &dyn Fn(&ResourceId, Action, bool) -> bool| -> Vec<ResourceId> {
        let matching = steps.iter().filter(|(id, (action, edge))| wanted(id, *action, *edge));
        matching.map(|(id, _)| id.clone()).collect()
    };
    for step in &mut plan.steps {
        step.after.retain(|id| steps.contains_key(id));
        if step.action == Action::Delete {
            let (rank, is_edge) = (step.id.kind.deletion_rank(), step.id.kind.is_edge());
            let listens = step.id.kind == Kind::Subscription;
            step.after = of(&|id, action, _| match action {
                Action::Delete => id.kind.deletion_rank() < rank,
                // The next listener comes before the last one goes: what both hear starts
                // once, and what neither heard would be lost.
                _ => !is_edge || (listens && id.kind == Kind::Subscription),
            });
        } else if step.id.kind == Kind::Queue {
            let cut = of(&|id, action, is_edge| {
                action == Action::Delete && is_edge && id.kind == Kind::BucketNotification
            });
            step.after.extend(cut);
        }
    }
    let mut waiting = std::mem::take(&mut plan.steps);
    waiting.sort_by(|a, b| a.id.cmp(&b.id));
    let mut done: BTreeSet<ResourceId> = BTreeSet::new();
    while !waiting.is_empty() {
        let ready = waiting.iter().position(|step| step.after.iter().all(|id| done.contains(id)));
        // Dependencies are by kind, and kinds form no circle; were there one, the
        // first step goes rather than none.
        let step = waiting.remove(ready.unwrap_or(0));
        done.insert(step.id.clone());
        plan.steps.push(step);
    }
}

/// What to know of a step before it is done.
#[must_use]
pub fn warning(step: &Step) -> Option<&'static str> {
    let is_filter = step.changes.iter().any(|change| change.field.starts_with("filter_"));
    (step.id.kind == Kind::Subscription && is_filter).then_some(FILTER_DELAY)
}
