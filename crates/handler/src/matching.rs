//! Which triggers an event starts, and which start it ends. Pure.

use bellwire_ledger::{End, State};
use bellwire_schema::Envelope;
use bellwire_schema::payload::Payload;

use crate::model::CompiledTrigger;

/// The triggers whose `on` and `where` hold, in the order of the file.
pub fn matching<'a>(
    triggers: &'a [CompiledTrigger],
    event: &Envelope,
) -> impl Iterator<Item = &'a CompiledTrigger> {
    let body = event.to_value();
    let event_type = event.event_type.clone();
    triggers.iter().filter(move |compiled| {
        compiled.trigger.on.contains(&event_type)
            && compiled.condition.as_ref().is_none_or(|condition| condition.matches_body(&body))
    })
}

/// The run that an event says has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedRun {
    /// Its ARN.
    pub run_arn: String,
    /// What its row becomes.
    pub state: State,
    /// How it ended.
    pub end: End,
}

impl EndedRun {
    /// Reads a `<stage>.completed` or `<stage>.failed` event; `None` for every other.
    #[must_use]
    pub fn of(event: &Envelope) -> Option<Self> {
        let (run, state, mut end) = match Payload::of(event) {
            Ok(Payload::Completed(completed)) => {
                let end = End {
                    metrics: completed.metrics,
                    artifacts: completed.artifacts,
                    ..End::default()
                };
                (completed.run, State::Completed, end)
            }
            Ok(Payload::Failed(failed)) => {
                let end = End { error: failed.error, cause: failed.cause, ..End::default() };
                (failed.run, State::Failed, end)
            }
            _ => return None,
        };
        end.status = run.status;
        end.stopped_at = run.stopped_at;
        end.duration_s = run.duration_s;
        Some(Self { run_arn: run.arn, state, end })
    }
}
