//! What is counted for alarms: lines beside the log, of which CloudWatch makes metrics.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use bellwire_ledger::State;
use bellwire_schema::Envelope;
use bellwire_schema::counted::{Counted, counts_failed};
use jiff::Timestamp;
use serde_json::Value;
use tracing::warn;

use crate::model::Model;

/// Where the lines go.
#[derive(Clone)]
pub struct Counts(Arc<dyn Fn(&Value) + Send + Sync>);

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counts")
    }
}

impl Default for Counts {
    /// To standard output, which Lambda writes into the function's log.
    fn default() -> Self {
        Self::to(write_line)
    }
}

impl Counts {
    /// To somebody who listens.
    #[must_use]
    pub fn to(listen: impl Fn(&Value) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listen))
    }

    /// An event that has come, for each source that says how often its events are expected.
    pub(crate) fn event(&self, model: &Model, event: &Envelope, now: Timestamp) {
        let (deployment, place) = (&model.deployment, &model.place);
        for source in model.workflow.expecting(deployment, place, event) {
            (self.0)(&Counted::SourceEvents.line(&deployment.prefix(), &source.name, now));
        }
    }

    /// A run that has ended, where it failed and AWS has no metric of that.
    pub(crate) fn end(&self, model: &Model, trigger: &str, state: State, now: Timestamp) {
        let is_counted = model.triggers.iter().any(|compiled| {
            compiled.trigger.name == trigger && counts_failed(compiled.trigger.target.kind())
        });
        if state == State::Failed && is_counted {
            (self.0)(&Counted::RunsFailed.line(&model.deployment.prefix(), trigger, now));
        }
    }
}

/// In one call, so that no line of the log comes in between.
fn write_line(line: &Value) {
    let written = std::io::stdout().lock().write_all(format!("{line}\n").as_bytes());
    if let Err(error) = written {
        warn!(error = %error, "a count for an alarm is lost");
    }
}
