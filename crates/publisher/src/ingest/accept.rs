//! `accept`: whether an event is one that the workflow takes over HTTP, and what
//! follows for it from the workflow.

use axum::http::StatusCode;
use bellwire_schema::envelope::{AttributeProblem, EnvelopeError};
use bellwire_schema::payload::Payload;
use bellwire_schema::workflow::{SourceKind, Workflow};
use bellwire_schema::{Envelope, EventType};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::binding::RawEvent;
use crate::pack::Unfit;
use crate::problem::Problem;

/// What the workflow's `http` sources emit.
#[derive(Debug, Clone)]
pub struct Accepts {
    types: Vec<AcceptedType>,
}

/// A type that an `http` source emits, and the dataset of that source.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AcceptedType {
    event_type: EventType,
    dataset: Option<String>,
}

impl Accepts {
    /// What a workflow's `http` sources emit.
    #[must_use]
    pub fn of(workflow: &Workflow) -> Self {
        let types = workflow.sources.iter().filter_map(|source| match &source.kind {
            SourceKind::Http(rules) => Some(AcceptedType {
                event_type: rules.emits.clone(),
                dataset: source.dataset.clone(),
            }),
            _ => None,
        });
        Self { types: types.collect() }
    }

    /// Checks an event against the workflow, and fills in what follows from that.
    ///
    /// # Errors
    ///
    /// With what is wrong with it, by field.
    pub fn judge(&self, raw: RawEvent, now: Timestamp) -> Result<Envelope, Problem> {
        let mut envelope = envelope_of(raw)?;
        self.complete(&mut envelope, now)?;
        Ok(envelope)
    }

    fn complete(&self, event: &mut Envelope, now: Timestamp) -> Result<(), Problem> {
        let of_type: Vec<&AcceptedType> =
            self.types.iter().filter(|accepted| accepted.event_type == event.event_type).collect();
        // Of several sources of one type, the one of the event's own dataset.
        let of_dataset = of_type
            .iter()
            .find(|accepted| event.dataset.is_none() || accepted.dataset == event.dataset);
        let Some(source) = of_dataset.or(of_type.first()) else {
            return Err(self.unknown_type(event));
        };
        check_payload(event)?;
        let own_stage = event.event_type.stage_and_verb().map(|(stage, _)| stage);
        if own_stage.is_some() && event.stage.is_some() && own_stage != event.stage {
            let problem = "is not the stage of the event's type; leave it out";
            return Err(invalid_payload("stage", problem));
        }
        event.stage = event.stage.or(own_stage);
        if event.dataset.is_none() {
            event.dataset.clone_from(&source.dataset);
        }
        if event.context.correlationid.is_none() {
            event.context.correlationid = Some(event.id.clone());
        }
        event.time.get_or_insert(now);
        Ok(())
    }

    fn unknown_type(&self, event: &Envelope) -> Problem {
        let known: Vec<&str> =
            self.types.iter().map(|accepted| accepted.event_type.as_str()).collect();
        let event_type = event.event_type.as_str();
        let detail = match known.is_empty() {
            true => format!(
                "the workflow takes no events over HTTP: add a `[[source]]` of kind \"http\" that emits `{event_type}`"
            ),
            false => format!(
                "no http source of the workflow emits `{event_type}`; known: {}",
                known.join(", ")
            ),
        };
        let title = "the event's type is not one that the workflow takes over HTTP";
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let problem = Problem::new(status, "unknown-type", title, detail.as_str());
        problem.with("known", json!(known)).with_fields([("type", detail.as_str())])
    }
}

/// Reads an event, with what is wrong with its attributes in either place.
fn envelope_of(raw: RawEvent) -> Result<Envelope, Problem> {
    let mut problems = raw.problems;
    match Envelope::from_value(raw.event) {
        Ok(envelope) if problems.is_empty() => return Ok(envelope),
        Ok(_) => {}
        Err(EnvelopeError::Attributes { problems: more }) => {
            // An attribute that could not be read is not also missing.
            let is_new = |other: &AttributeProblem| {
                problems.iter().all(|problem| problem.attribute != other.attribute)
            };
            let more: Vec<_> = more.into_iter().filter(is_new).collect();
            problems.extend(more);
        }
        Err(error) => return Err(not_a_cloudevent(error.to_string())),
    }
    let fields: Vec<_> = problems
        .iter()
        .map(|problem| (problem.attribute.as_str(), problem.problem.as_str()))
        .collect();
    let words: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let detail = format!("not a CloudEvent: {}", words.join("; "));
    Err(not_a_cloudevent(detail).with_fields(fields))
}

pub(super) fn not_a_cloudevent(detail: String) -> Problem {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Problem::new(status, "not-a-cloudevent", "the body is no CloudEvent 1.0", detail)
}

fn check_payload(event: &Envelope) -> Result<(), Problem> {
    match Payload::of(event) {
        Ok(Payload::Unknown) => Ok(()),
        // The default payload would stand in for bytes that nobody has read.
        Ok(_) if event.extensions.contains_key("data_base64") => {
            Err(invalid_payload("data_base64", "the type's payload is JSON: send it as `data`"))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(invalid_payload(&error.field, &error.problem)),
    }
}

fn invalid_payload(field: &str, problem: &str) -> Problem {
    let title = "the event does not have the shape of its type";
    let detail = format!("`{field}`: {problem}");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-event", title, detail)
        .with_fields([(field, problem)])
}

/// The answer to an event that SNS would not take.
pub(super) fn problem_of_unfit(unfit: &Unfit) -> Problem {
    let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
    let (status, kind, title, field) = match unfit {
        Unfit::TooLarge { .. } => {
            (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the event is too large", "data")
        }
        Unfit::HopLimit { .. } => (unprocessable, "hop-limit", "the event is one of a loop", "hop"),
        Unfit::Attributes(_) => {
            let title = "the event's attributes are more than SNS takes";
            (unprocessable, "invalid-attributes", title, "attributes")
        }
    };
    let detail = unfit.to_string();
    Problem::new(status, kind, title, detail.as_str()).with_fields([(field, detail.as_str())])
}

/// The answer to a batch some of whose events are wrong: what is wrong with each.
pub(super) fn problem_of_batch(count: usize, wrong: &[(usize, Problem)]) -> Problem {
    let problems: Vec<Value> =
        wrong.iter().flat_map(|(index, problem)| of(*index, problem)).collect();
    let first = wrong.first().map(|(index, problem)| format!("event {index}: {}", problem.detail));
    let detail = format!(
        "{} of {count} events are wrong, so none was accepted; the first is {}",
        wrong.len(),
        first.unwrap_or_default()
    );
    let title = "the batch has events that are wrong";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-batch", title, detail)
        .with("problems", problems.into())
}

/// What is wrong with one event of a batch, each with its place and kind.
fn of(index: usize, problem: &Problem) -> Vec<Value> {
    let fields = problem.members.get("problems").and_then(Value::as_array);
    // An item that is no object has no field.
    let whole = || vec![json!({ "field": "", "problem": problem.detail })];
    let mut fields = fields.cloned().unwrap_or_else(whole);
    for field in &mut fields {
        field["index"] = json!(index);
        field["kind"] = json!(problem.kind);
    }
    fields
}
