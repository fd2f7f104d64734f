//! What a deploy tells of the triggers' guards. Their rows are the ledger's, in which the
//! handler writes anyway: they take no resource and no permission more. Pure.

use bellwire_schema::limits::STARTS_PER_DAY_DEFAULT;
use bellwire_schema::workflow::{Guards, Trigger, WhenHeld, Workflow};

use crate::plan::Note;
use crate::resource::{Kind, Owner, ResourceId};

/// What holds each trigger's starts back, those included that nobody wrote down.
pub(crate) fn notes(owner: &Owner, workflow: &Workflow) -> Vec<Note> {
    let note = |trigger: &Trigger| {
        Some(Note {
            id: ResourceId::new(Kind::Function, owner.deployment.handler()),
            text: format!("trigger \"{}\": {}", trigger.name, words(&trigger.guards)?),
        })
    };
    workflow.triggers.iter().filter_map(note).collect()
}

fn words(guards: &Guards) -> Option<String> {
    let limits = [
        guards.max_starts_per_day.map(|max| match max {
            STARTS_PER_DAY_DEFAULT => format!("at most {max} starts in a UTC day (the default)"),
            _ => format!("at most {max} starts in a UTC day"),
        }),
        guards.cooldown_s.map(|seconds| format!("{seconds} s between two starts")),
        guards.max_concurrent.map(|max| format!("at most {max} runs at one time")),
    ];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    let fate = match guards.when_held {
        WhenHeld::Wait => "waits",
        WhenHeld::Drop => "is dropped",
    };
    (!limits.is_empty()).then(|| format!("{}; what is held back {fate}", limits.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{owner, workflow};

    #[test]
    fn the_plan_tells_what_holds_starts_back() {
        let mut workflow = workflow();
        let none = workflow.triggers[0].guards.clone();
        for trigger in &mut workflow.triggers {
            trigger.guards = none.clone();
        }
        let told = |workflow: &Workflow| -> Vec<String> {
            notes(&owner(), workflow).into_iter().map(|note| note.text).collect()
        };
        assert_eq!(told(&workflow), Vec::<String>::new());
        workflow.triggers[0].guards.max_starts_per_day = Some(STARTS_PER_DAY_DEFAULT);
        workflow.triggers[1].guards = Guards {
            cooldown_s: Some(600),
            max_concurrent: Some(1),
            max_starts_per_day: Some(50),
            when_held: WhenHeld::Drop,
        };
        let [first, second] = [&workflow.triggers[0].name, &workflow.triggers[1].name];
        let expected = [
            format!(
                "trigger \"{first}\": at most 1000 starts in a UTC day (the default); what is held back waits"
            ),
            format!(
                "trigger \"{second}\": at most 50 starts in a UTC day, 600 s between two starts, at most 1 runs at one time; what is held back is dropped"
            ),
        ];
        assert_eq!(told(&workflow), expected);
    }
}
