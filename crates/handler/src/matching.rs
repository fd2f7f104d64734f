//! Which triggers an event starts, and which start it ends. Pure.

use bellwire_ledger::{End, State};
use bellwire_schema::Envelope;
use bellwire_schema::payload::Payload;

use crate::model::{CompiledTrigger, Model};

/// The triggers whose `on` and `where` hold, in the order of the file. `where` judges
/// what a trigger gathers, and not its marker; and a marker that no source itself
/// would tell of is there for those that wait for it.
pub fn matching<'a>(
    model: &'a Model,
    event: &'a Envelope,
) -> impl Iterator<Item = &'a CompiledTrigger> {
    let body = event.to_value();
    let is_marker_alone = model.is_marker_alone(event);
    model.triggers.iter().filter(move |compiled| {
        let is_marker = compiled.gather.as_ref().is_some_and(|rules| rules.is_marker(event));
        let holds = || match &compiled.condition {
            Some(condition) => condition.matches_body(&body),
            None => true,
        };
        compiled.trigger.on.contains(&event.event_type)
            && (is_marker || (!is_marker_alone && holds()))
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
