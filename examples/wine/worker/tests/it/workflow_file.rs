//! The example's own `bellwire.toml` and state machines.

use bellwire_schema::filter::{FilterPolicy, Scope};
use bellwire_schema::workflow::{StateMachine, Target, Trigger, Workflow, read};
use serde_json::{Map, Value};

use crate::context;

const TEXT: &str = include_str!("../../../bellwire.toml");

pub(crate) fn workflow() -> Workflow {
    read(TEXT).unwrap_or_else(|problems| panic!("{problems}"))
}

pub(crate) fn trigger(name: &str) -> Trigger {
    workflow().triggers.into_iter().find(|trigger| trigger.name == name).unwrap()
}

/// Whether the trigger starts on an event.
pub(crate) fn starts_on(trigger: &Trigger, event: &Value) -> bool {
    trigger.on.iter().any(|event_type| event_type.as_str() == event["type"])
        && trigger.condition.as_ref().is_none_or(|condition| {
            FilterPolicy::parse(condition, Scope::Body).unwrap().matches_body(event)
        })
}

/// The run's input that a trigger makes of an event. The example's queries are
/// plain paths, `$` and `$.a.b`, which are JSON Pointers as well.
pub(crate) fn input(trigger: &Trigger, event: &Value) -> Value {
    let template = trigger.input.as_ref().and_then(Value::as_object).unwrap();
    let mut input: Map<String, Value> = template
        .iter()
        .map(|(name, value)| {
            let path = value.as_str().and_then(|text| text.strip_prefix('$'));
            let value = match path {
                Some(path) => event
                    .pointer(&path.replace('.', "/"))
                    .unwrap_or_else(|| panic!("{value}: {event}")),
                None => value,
            };
            (name.clone(), value.clone())
        })
        .collect();
    input.insert("bellwire".to_owned(), context(&trigger.name, trigger.stage.as_str()));
    Value::Object(input)
}

#[test]
fn each_trigger_has_a_state_machine_that_asks_the_worker_for_its_job() {
    for trigger in workflow().triggers {
        let Target::StepFunctions(StateMachine::Definition(file)) = &trigger.target else {
            panic!("{trigger:?}")
        };
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
        let machine: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let state = &machine["States"][machine["StartAt"].as_str().unwrap()];
        assert_eq!(state["Parameters"]["FunctionName"], "${function:worker}");
        assert_eq!(state["Parameters"]["Payload"]["task"], trigger.name.as_str());
        assert_eq!(state["Parameters"]["Payload"]["input.$"], "$");
        assert_eq!(state["OutputPath"], "$.Payload");
        assert_eq!(state["End"], true);
    }
}
