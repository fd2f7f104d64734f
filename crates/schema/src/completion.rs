//! The end of a run, as EventBridge tells of it or the sweep asks for it: one
//! event either way.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::{EventContext, RUN_CONTEXT_KEY, RunContext};
use crate::envelope::Envelope;
use crate::event_type::{Stage, StageVerb};
use crate::id::completion_event_id;
use crate::payload::{Artifact, Run, StageCompleted, StageFailed};

/// A run's output is left out of its event above this many bytes, so that the
/// event fits into one SNS message with room for metrics and artifacts.
pub const OUTPUT_BYTES_MAX: usize = 128 * 1024;

/// A run's artifacts, and its metrics, are left out above this many bytes of JSON
/// each, for the same reason.
const LIFTED_BYTES_MAX: usize = 32 * 1024;

/// Bytes that a failure's cause keeps: enough to see what went wrong.
const CAUSE_BYTES_MAX: usize = 8 * 1024;

/// How a Step Functions execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    /// It ran to its end.
    Succeeded,
    /// A state failed and nothing caught it.
    Failed,
    /// It took longer than it was allowed.
    TimedOut,
    /// Somebody stopped it.
    Aborted,
}

impl RunStatus {
    /// AWS's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED_OUT",
            Self::Aborted => "ABORTED",
        }
    }

    /// Reads AWS's word; `None` for a status that is no end, such as `RUNNING`.
    #[must_use]
    pub fn of(status: &str) -> Option<Self> {
        [Self::Succeeded, Self::Failed, Self::TimedOut, Self::Aborted]
            .into_iter()
            .find(|known| known.as_str() == status)
    }
}

/// An execution of a state machine that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct RunCompletion {
    /// The execution's ARN.
    pub run_arn: String,
    /// The state machine's ARN.
    pub state_machine_arn: String,
    /// How it ended.
    pub status: RunStatus,
    /// How often it was redriven: each redrive ends once more.
    pub redrive_count: u32,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub stopped_at: Option<Timestamp>,
    /// Its input, where AWS did not drop it for its size.
    pub input: Option<String>,
    /// Its output, where there is one and AWS did not drop it for its size.
    pub output: Option<String>,
    /// The error's name, where it failed.
    pub error: Option<String>,
    /// The error's cause, where it failed.
    pub cause: Option<String>,
}

/// What of a completion's event comes from elsewhere: the ledger, or a source's rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletionOrigin {
    /// The stage that the run was of.
    pub stage: Stage,
    /// The trigger that started it, where Bellwire did.
    pub trigger: Option<String>,
    /// The dataset that it was about.
    pub dataset: Option<String>,
    /// What the event inherits.
    pub context: EventContext,
}

/// A status event of Step Functions that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the Step Functions event does not have its documented shape at `{field}`: {problem}")]
pub struct CompletionError {
    /// Where in the event: `detail.executionArn`.
    pub field: String,
    /// What is wrong there.
    pub problem: String,
}

/// A status event of Step Functions.
#[derive(Debug, Clone, PartialEq)]
pub enum StatusEvent {
    /// The run goes on.
    Running,
    /// The run ended.
    Ended(Box<RunCompletion>),
}

impl StatusEvent {
    /// Decodes EventBridge's status event; `None` where the event is not one of
    /// Step Functions'.
    #[must_use]
    pub fn decode(event: &Value) -> Option<Result<Self, CompletionError>> {
        let is_status = event.get("source").and_then(Value::as_str) == Some("aws.states")
            && event.get("detail-type").and_then(Value::as_str)
                == Some("Step Functions Execution Status Change");
        is_status.then(|| {
            let event: Event =
                serde_path_to_error::deserialize(event).map_err(|error| CompletionError {
                    field: error.path().to_string(),
                    problem: error.into_inner().to_string(),
                })?;
            Ok(Self::of_detail(event.detail))
        })
    }

    fn of_detail(detail: Detail) -> Self {
        let Some(status) = RunStatus::of(&detail.status) else {
            return Self::Running;
        };
        let at = |milliseconds: Option<i64>| Timestamp::from_millisecond(milliseconds?).ok();
        Self::Ended(Box::new(RunCompletion {
            run_arn: detail.execution_arn,
            state_machine_arn: detail.state_machine_arn,
            status,
            redrive_count: detail.redrive_count.unwrap_or(0),
            started_at: at(detail.start_date),
            stopped_at: at(detail.stop_date),
            input: detail.input,
            output: detail.output,
            error: detail.error,
            cause: detail.cause,
        }))
    }
}

impl RunCompletion {
    /// What the run was told of why it runs. Only a hint, since AWS drops the
    /// input of large status events, and anyone may start a state machine.
    #[must_use]
    pub fn run_context(&self) -> Option<RunContext> {
        let input: Value = serde_json::from_str(self.input.as_deref()?).ok()?;
        RunContext::deserialize(input.get(RUN_CONTEXT_KEY)?).ok()
    }

    /// The `<stage>.completed` or `<stage>.failed` event of this end.
    #[must_use]
    pub fn to_envelope(&self, origin: &CompletionOrigin) -> Envelope {
        let verb = match self.status {
            RunStatus::Succeeded => StageVerb::Completed,
            _ => StageVerb::Failed,
        };
        let id = completion_event_id(&self.run_arn, self.status.as_str(), self.redrive_count);
        let mut envelope = Envelope::new(&id, &self.state_machine_arn, origin.stage.event(verb));
        envelope.subject = Some(self.run_arn.clone());
        envelope.time = self.stopped_at;
        envelope.dataset.clone_from(&origin.dataset);
        envelope.partitionkey.clone_from(&origin.dataset);
        envelope.context = origin.context.clone();
        let run = self.run(origin.trigger.clone());
        match verb {
            StageVerb::Completed => envelope.with_payload(&self.completed(run)),
            _ => envelope.with_payload(&StageFailed {
                run,
                error: self.error.clone(),
                cause: self.cause.as_deref().map(shortened),
            }),
        }
    }

    fn run(&self, trigger: Option<String>) -> Run {
        let duration =
            self.started_at.zip(self.stopped_at).map(|(start, stop)| stop.duration_since(start));
        Run {
            arn: self.run_arn.clone(),
            status: self.status.as_str().to_owned(),
            trigger,
            started_at: self.started_at,
            stopped_at: self.stopped_at,
            duration_s: duration.as_ref().map(SignedDuration::as_secs_f64),
        }
    }

    /// Lifts `metrics` and `artifacts` out of an output that has them; entries
    /// that are no number or no artifact stay in the output only.
    fn completed(&self, run: Run) -> StageCompleted {
        let text = self.output.as_deref().filter(|text| text.len() <= OUTPUT_BYTES_MAX);
        let whole: Option<Value> =
            self.output.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let part = |name: &str| whole.as_ref().and_then(|output| output.get(name));
        let metrics: BTreeMap<String, f64> = part("metrics")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)))
            .collect();
        let artifacts: Vec<Artifact> = part("artifacts")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|artifact| Artifact::deserialize(artifact).ok())
            .collect();
        StageCompleted {
            run,
            metrics: if is_liftable(&metrics) { metrics } else { BTreeMap::new() },
            artifacts: if is_liftable(&artifacts) { artifacts } else { Vec::new() },
            output: text.and(whole),
        }
    }
}

fn is_liftable(value: &impl Serialize) -> bool {
    serde_json::to_vec(value).is_ok_and(|json| json.len() <= LIFTED_BYTES_MAX)
}

fn shortened(cause: &str) -> String {
    let mut end = CAUSE_BYTES_MAX.min(cause.len());
    while !cause.is_char_boundary(end) {
        end -= 1;
    }
    cause[..end].to_owned()
}

#[derive(Deserialize)]
struct Event {
    detail: Detail,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    execution_arn: String,
    state_machine_arn: String,
    status: String,
    start_date: Option<i64>,
    stop_date: Option<i64>,
    input: Option<String>,
    output: Option<String>,
    error: Option<String>,
    cause: Option<String>,
    redrive_count: Option<u32>,
}
