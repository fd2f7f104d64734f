//! The state machines that triggers start.

use std::collections::BTreeSet;

use bellwire_schema::completion::Watch;
use bellwire_schema::workflow::{StateMachine as Machine, Target, TargetKind, Workflow};
use serde_json::Value;

use super::{Desired, alias_id};
use crate::kind::state_machine::StateMachine;
use crate::resource::{Kind, Owner, Properties, ResourceId};
use crate::{policy, targets};

const REFERENCE: &str = "${function:";

impl Desired<'_> {
    pub(super) fn state_machines(&mut self) {
        for trigger in &self.workflow.triggers {
            if !matches!(&trigger.target, Target::StepFunctions(Machine::Definition(_))) {
                continue;
            }
            let name = self.owner.deployment.state_machine(&trigger.name);
            let mut definition =
                self.inputs.definitions.get(&trigger.name).cloned().unwrap_or_default();
            let functions: BTreeSet<String> = function_references(&definition)
                .into_iter()
                .map(|function| self.owner.deployment.function(&function))
                .collect();
            substitute(&mut definition, self.owner);
            let arns: Vec<String> =
                functions.iter().map(|function| self.owner.alias_arn(function)).collect();
            let trust = policy::trust_state_machine(self.owner, &name);
            let description = format!(
                "State machine {} of Bellwire workflow {}",
                trigger.name, self.workflow.name
            );
            self.role(&name, description, trust, policy::state_machine(&arns));
            let mut depends_on = vec![ResourceId::new(Kind::Role, &name)];
            depends_on.extend(functions.iter().map(|function| alias_id(function)));
            let machine = StateMachine {
                arn: self.owner.place.state_machine_arn(&name),
                role_arn: self.owner.role_arn(&name),
                definition,
                tags: self.owner.tags(),
                name,
            };
            self.add(Properties::StateMachine(machine), depends_on);
        }
    }
}

/// The ARNs of the state machines whose completions matter: those that triggers
/// start, and those that sources name.
pub(super) fn machines_watched(owner: &Owner, workflow: &Workflow) -> Vec<String> {
    let started = targets::started(owner, workflow, TargetKind::StepFunctions);
    let mut machines: BTreeSet<String> = started.into_iter().collect();
    for source in &workflow.sources {
        machines.extend(Watch::of(&source.kind, &owner.place).into_iter().filter_map(|watch| {
            match watch {
                Watch::StateMachine(arn) => Some(arn),
                _ => None,
            }
        }));
    }
    machines.into_iter().collect()
}

/// The names in all `${function:NAME}` of a definition.
pub(crate) fn function_references(definition: &Value) -> BTreeSet<String> {
    match definition {
        Value::String(text) => text
            .split(REFERENCE)
            .skip(1)
            .filter_map(|rest| Some(rest.split_once('}')?.0.to_owned()))
            .collect(),
        Value::Array(items) => items.iter().flat_map(function_references).collect(),
        Value::Object(fields) => fields.values().flat_map(function_references).collect(),
        _ => BTreeSet::new(),
    }
}

/// Puts alias ARNs in place of all `${function:NAME}`.
fn substitute(definition: &mut Value, owner: &Owner) {
    match definition {
        Value::String(text) => {
            for name in function_references(&Value::String(text.clone())) {
                let arn = owner.alias_arn(&owner.deployment.function(&name));
                *text = text.replace(&format!("{REFERENCE}{name}}}"), &arn);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| substitute(item, owner)),
        Value::Object(fields) => fields.values_mut().for_each(|value| substitute(value, owner)),
        _ => {}
    }
}
