//! A start, planned whole before anything is called: its key, its name and its
//! input. Pure.

use bellwire_ledger::{Cause, Start};
use bellwire_schema::context::RUN_CONTEXT_KEY;
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::limits::HOP_MAX;
use bellwire_schema::{Envelope, EventContext, RunContext, StartKey};
use serde_json::{Map, Value};
use serde_json_path::JsonPath;

use crate::model::{CompiledTrigger, Model};

/// Plans the start of one trigger on one event. `trace` is the context of the
/// span under which the run will be started: what the run's own spans hang on.
///
/// # Errors
///
/// Where the event does not have what the trigger's input asks for, or the
/// input is larger than the target takes. No retry would help.
pub fn plan_start(
    model: &Model,
    trigger: &CompiledTrigger,
    event: &Envelope,
    trace: EventContext,
) -> Result<Start, PlanError> {
    let rules = &trigger.trigger;
    let hop = event.context.hop + 1;
    if hop > HOP_MAX {
        return Err(PlanError::HopLimit { hop });
    }
    // A deliberate re-run has a generation of its own; the first start has none.
    let generation = 0;
    let start_key =
        StartKey::of_event(&model.deployment, &rules.name, &event.source, &event.id, generation);
    let context = EventContext {
        correlationid: Some(event.correlation().to_owned()),
        causationid: Some(event.id.clone()),
        hop,
        ..trace
    };
    let run_context = RunContext {
        trigger: rules.name.clone(),
        stage: rules.stage,
        dataset: event.dataset.clone(),
        start_key: start_key.to_string(),
        event: context.clone(),
    };
    let input = input_of(trigger, event, &run_context)?;
    let name = start_key.run_name(&rules.name);
    Ok(Start {
        run_arn: trigger.destination.run_arn(&name),
        target: trigger.destination.arn.clone(),
        trigger: rules.name.clone(),
        stage: rules.stage,
        dataset: event.dataset.clone(),
        name,
        input,
        expected_duration_s: rules.expected_duration_s,
        details: trigger.destination.details(event),
        cause: Cause::of(event),
        context,
        start_key,
    })
}

/// Plans a start on an event whose payload was fetched. Where the run's input
/// would be larger than the target takes, the run gets what travelled, `pointer`,
/// which says where the payload is.
///
/// # Errors
///
/// As [`plan_start`]; where `pointer` does not do, what is wrong with `event`.
pub fn plan_start_or_point(
    model: &Model,
    trigger: &CompiledTrigger,
    event: &Envelope,
    pointer: Option<&Envelope>,
    trace: EventContext,
) -> Result<Start, PlanError> {
    match (plan_start(model, trigger, event, trace.clone()), pointer) {
        (Err(too_large @ PlanError::InputTooLarge { .. }), Some(pointer)) => {
            plan_start(model, trigger, pointer, trace).map_err(|_| too_large)
        }
        (planned, _) => planned,
    }
}

fn input_of(
    trigger: &CompiledTrigger,
    event: &Envelope,
    run_context: &RunContext,
) -> Result<String, PlanError> {
    let event = event.to_value();
    let mut input = match &trigger.input {
        None => trigger.destination.default_input(&event),
        Some(template) => template.render(&event)?,
    };
    if trigger.destination.has_context_in_input() {
        let context = serde_json::to_value(run_context).expect("a run's context is plain JSON");
        input.insert(RUN_CONTEXT_KEY.to_owned(), context);
    }
    let text = serde_json::to_string(&input).expect("an input is plain JSON");
    trigger.destination.check(&input, &text)?;
    Ok(text)
}

/// A start that cannot be planned, now or later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A query of the trigger's input finds nothing in the event.
    #[error("input `{field}`: the query {query} finds nothing in the event")]
    NothingFound {
        /// The field of the input, as a JSON Pointer.
        field: String,
        /// The JSONPath query.
        query: String,
    },
    /// Too many events caused each other.
    #[error(
        "{hop} events would have caused each other, more than {HOP_MAX}: a trigger starts itself"
    )]
    HopLimit {
        /// How many.
        hop: u32,
    },
    /// The input is larger than the target takes.
    #[error(
        "the input is {bytes} bytes, and `{kind}` takes {bytes_max}; let `input` pick what the run needs"
    )]
    InputTooLarge {
        /// Its size.
        bytes: usize,
        /// The most that the target takes.
        bytes_max: usize,
        /// The target's kind, by its key in the workflow file.
        kind: &'static str,
    },
    /// A field of the input cannot be a parameter of a pipeline.
    #[error("input `{field}`: it {problem}")]
    NoParameter {
        /// The field of the input, as a JSON Pointer.
        field: String,
        /// What is wrong.
        problem: String,
    },
}

impl PlanError {
    /// The reason under which the event goes to the dead queue.
    #[must_use]
    pub const fn reason(&self) -> DeadReason {
        match self {
            Self::NothingFound { .. } | Self::NoParameter { .. } => DeadReason::InvalidInput,
            Self::HopLimit { .. } => DeadReason::HopLimit,
            Self::InputTooLarge { .. } => DeadReason::TooLarge,
        }
    }
}

/// The `input` of a trigger: JSON in which every text that begins with `$` is a
/// JSONPath query (RFC 9535) into the event. `$$` begins a text that is a `$`.
#[derive(Debug)]
pub struct InputTemplate {
    fields: Vec<(String, Template)>,
}

#[derive(Debug)]
enum Template {
    Literal(Value),
    Query { path: Box<JsonPath>, text: String },
    Object(Vec<(String, Template)>),
    Array(Vec<Template>),
}

/// An `input` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is no table.
    #[error("`input` is no table of fields")]
    NotAnObject,
    /// A query is no JSONPath.
    #[error("`input`: `{query}` is no JSONPath query: {problem}")]
    Query {
        /// The text.
        query: String,
        /// What the parser says.
        problem: String,
    },
    /// A field has the name that the run's context takes.
    #[error("`input`: the field `{RUN_CONTEXT_KEY}` is Bellwire's own; choose another name")]
    Reserved,
}

impl InputTemplate {
    /// Parses a template.
    ///
    /// ```
    /// use bellwire_handler::plan::InputTemplate;
    /// use serde_json::json;
    /// let template = InputTemplate::parse(&json!({ "key": "$.data.key", "model": "champion" }))?;
    /// let input = template.render(&json!({ "data": { "key": "raw/a.csv" } })).unwrap();
    /// assert_eq!(serde_json::Value::Object(input), json!({ "key": "raw/a.csv", "model": "champion" }));
    /// # Ok::<(), bellwire_handler::plan::TemplateError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Where it is no object, or a query in it is no JSONPath.
    pub fn parse(template: &Value) -> Result<Self, TemplateError> {
        let Template::Object(fields) = Template::parse(template)? else {
            return Err(TemplateError::NotAnObject);
        };
        if fields.iter().any(|(name, _)| name == RUN_CONTEXT_KEY) {
            return Err(TemplateError::Reserved);
        }
        Ok(Self { fields })
    }

    /// Fills the template from an event. A query that finds one node becomes
    /// that node; one that finds several becomes a list of them.
    ///
    /// # Errors
    ///
    /// Where a query finds nothing.
    pub fn render(&self, event: &Value) -> Result<Map<String, Value>, PlanError> {
        render_fields(&self.fields, event, "")
    }
}

impl Template {
    fn parse(value: &Value) -> Result<Self, TemplateError> {
        Ok(match value {
            Value::String(text) if text.starts_with("$$") => Self::Literal(text[1..].into()),
            Value::String(text) if text.starts_with('$') => {
                let path = JsonPath::parse(text).map_err(|error| TemplateError::Query {
                    query: text.clone(),
                    problem: error.to_string(),
                })?;
                Self::Query { path: Box::new(path), text: text.clone() }
            }
            Value::Object(fields) => Self::Object(
                fields
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), Self::parse(value)?)))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Array(items) => {
                Self::Array(items.iter().map(Self::parse).collect::<Result<_, _>>()?)
            }
            literal => Self::Literal(literal.clone()),
        })
    }

    fn render(&self, event: &Value, field: &str) -> Result<Value, PlanError> {
        Ok(match self {
            Self::Literal(value) => value.clone(),
            Self::Query { path, text } => {
                let nodes = path.query(event).all();
                match nodes[..] {
                    [] => {
                        let (field, query) = (field.to_owned(), text.clone());
                        return Err(PlanError::NothingFound { field, query });
                    }
                    [node] => node.clone(),
                    _ => nodes.into_iter().cloned().collect(),
                }
            }
            Self::Object(fields) => Value::Object(render_fields(fields, event, field)?),
            Self::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| item.render(event, &format!("{field}/{index}")))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn render_fields(
    fields: &[(String, Template)],
    event: &Value,
    parent: &str,
) -> Result<Map<String, Value>, PlanError> {
    let render = |(name, template): &(String, Template)| {
        Ok((name.clone(), template.render(event, &format!("{parent}/{name}"))?))
    };
    fields.iter().map(render).collect()
}

#[cfg(test)]
mod tests {
    use bellwire_schema::limits::{STEP_FUNCTIONS_INPUT_BYTES_MAX, STEP_FUNCTIONS_NAME_CHARS_MAX};
    use bellwire_schema::workflow::{Guards, StateMachine, Target, Trigger, WhenHeld};
    use bellwire_schema::{Deployment, Place, Stage};
    use serde_json::json;

    use super::*;
    use crate::destination::Destination;

    fn model(input: Option<Value>) -> Model {
        let trigger = Trigger {
            name: "train".to_owned(),
            stage: Stage::Training,
            on: vec!["data.arrived".parse().unwrap()],
            condition: None,
            gather: None,
            guards: Guards {
                cooldown_s: None,
                max_concurrent: None,
                max_starts_per_day: None,
                when_held: WhenHeld::Wait,
            },
            target: Target::StepFunctions(StateMachine::Definition("train.asl.json".to_owned())),
            input: None,
            expected_duration_s: 60,
            outputs: Vec::new(),
        };
        let place = Place::new("eu-west-1", "123456789012");
        let deployment = Deployment::new("wine", None);
        Model {
            deployment: deployment.clone(),
            triggers: vec![CompiledTrigger {
                condition: None,
                gather: None,
                input: input.map(|template| InputTemplate::parse(&template).unwrap()),
                destination: Destination::of(&trigger.target, &deployment, &place, "train", 60),
                trigger,
            }],
            place,
            sources: Vec::new(),
            topic_kind: bellwire_schema::workflow::TopicKind::Standard,
            retention_days: 400,
            claim_check: None,
        }
    }

    fn event() -> Envelope {
        let mut event = Envelope::new("e-1", "arn:aws:s3:::lake", "data.arrived".parse().unwrap());
        event.dataset = Some("wine".to_owned());
        event.context.hop = 2;
        event.with_payload(&json!({ "key": "raw/a.csv", "parts": [{ "n": 1 }, { "n": 2 }] }))
    }

    fn plan(input: Option<Value>, event: &Envelope) -> Result<Start, PlanError> {
        let model = model(input);
        plan_start(&model, &model.triggers[0], event, EventContext::default())
    }

    #[test]
    fn a_start_is_a_function_of_the_event_alone() {
        let one = plan(None, &event()).unwrap();
        assert_eq!(one, plan(None, &event()).unwrap());
        let mut other = event();
        other.id = "e-2".to_owned();
        let other = plan(None, &other).unwrap();
        assert_ne!((one.start_key, one.name), (other.start_key, other.name));
    }

    #[test]
    fn the_name_is_within_step_functions_rules_and_the_arn_follows_from_it() {
        let start = plan(None, &event()).unwrap();
        assert_eq!(start.name, format!("train-{}", start.start_key));
        assert_eq!(
            start.run_arn.unwrap(),
            format!("arn:aws:states:eu-west-1:123456789012:execution:wine-train:{}", start.name)
        );
        let long = start.start_key.run_name(&"t".repeat(200));
        assert_eq!(long.len(), STEP_FUNCTIONS_NAME_CHARS_MAX);
    }

    #[test]
    fn without_a_template_the_input_is_the_event_with_the_runs_context() {
        let start = plan(None, &event()).unwrap();
        let input: Value = serde_json::from_str(&start.input).unwrap();
        assert_eq!(input["data"]["key"], "raw/a.csv");
        let context = &input["bellwire"];
        assert_eq!(context["trigger"], "train");
        assert_eq!(context["event"]["hop"], 3);
        assert_eq!(context["event"]["causationid"], "e-1");
        assert_eq!(context["event"]["correlationid"], "e-1");
    }

    #[test]
    fn a_template_picks_from_the_event() {
        let template = json!({
            "key": "$.data.key", "numbers": "$.data.parts[*].n", "whole": "$.data.parts",
            "price": "$$5", "nested": { "list": ["$.dataset", 7] },
        });
        let start = plan(Some(template), &event()).unwrap();
        let mut input: Value = serde_json::from_str(&start.input).unwrap();
        input.as_object_mut().unwrap().remove("bellwire");
        assert_eq!(
            input,
            json!({ "key": "raw/a.csv", "numbers": [1, 2], "whole": [{ "n": 1 }, { "n": 2 }],
                    "price": "$5", "nested": { "list": ["wine", 7] } })
        );
    }

    #[test]
    fn what_a_template_does_not_find_is_named() {
        let error = plan(Some(json!({ "a": ["$.data.nothing"] })), &event()).unwrap_err();
        let (field, query) = ("/a/0".to_owned(), "$.data.nothing".to_owned());
        assert_eq!(error, PlanError::NothingFound { field, query });
        assert!(matches!(
            InputTemplate::parse(&json!({ "a": "$.[" })),
            Err(TemplateError::Query { .. })
        ));
        assert!(matches!(
            InputTemplate::parse(&json!({ "bellwire": 1 })),
            Err(TemplateError::Reserved)
        ));
        assert!(matches!(InputTemplate::parse(&json!("$")), Err(TemplateError::NotAnObject)));
    }

    #[test]
    fn a_run_whose_own_events_would_be_refused_is_not_started() {
        let mut last = event();
        last.context.hop = HOP_MAX - 1;
        assert_eq!(plan(None, &last).unwrap().context.hop, HOP_MAX);
        last.context.hop = HOP_MAX;
        assert_eq!(plan(None, &last).unwrap_err().reason(), DeadReason::HopLimit);
    }

    #[test]
    fn an_input_that_step_functions_would_refuse_is_refused_before() {
        let mut large = event();
        large.data = Some(json!("x".repeat(STEP_FUNCTIONS_INPUT_BYTES_MAX)));
        assert!(matches!(plan(None, &large), Err(PlanError::InputTooLarge { .. })));
    }

    #[test]
    fn a_run_gets_the_payload_where_it_fits_and_the_pointer_where_not() {
        let pointer = Envelope { data: None, dataref: Some("s3://b/k".to_owned()), ..event() };
        let whole =
            |chars: usize| Envelope { data: Some(json!("x".repeat(chars))), ..pointer.clone() };
        let input = |input: Option<Value>, chars: usize| {
            let model = model(input);
            let trace = EventContext::default();
            let (trigger, whole) = (&model.triggers[0], whole(chars));
            let planned = plan_start_or_point(&model, trigger, &whole, Some(&pointer), trace);
            planned.map(|start| serde_json::from_str::<Value>(&start.input).unwrap())
        };
        let large = STEP_FUNCTIONS_INPUT_BYTES_MAX;
        assert_eq!(input(None, 100).unwrap()["data"], "x".repeat(100));
        let pointed = input(None, large).unwrap();
        assert_eq!((&pointed["dataref"], pointed.get("data")), (&json!("s3://b/k"), None));
        let error = input(Some(json!({ "all": "$.data" })), large).unwrap_err();
        assert!(matches!(error, PlanError::InputTooLarge { .. }), "{error}");
    }
}
