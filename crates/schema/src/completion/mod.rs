//! The end of a run, as EventBridge tells of it or the sweep asks for it: one
//! event either way, whichever service ran it.

mod batch;
mod sagemaker;
mod status_event;
mod step_functions;
mod watch;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::batch::INPUT_VARIABLE;
pub use self::sagemaker::one_pipeline_arn;
pub use self::status_event::{CompletionError, StatusEvent};
pub use self::watch::Watch;
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

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    /// It ran to its end.
    Succeeded,
    /// It failed, and nothing caught that.
    Failed,
    /// It took longer than it was allowed.
    TimedOut,
    /// Somebody stopped an execution of a state machine.
    Aborted,
    /// Somebody stopped a job or a pipeline of SageMaker's.
    Stopped,
    /// A pipeline of SageMaker's did all that it could after a step of it had failed.
    CompletedWithFailures,
}

/// What ran: the thing that a source names, or that is told apart by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunResource {
    /// A state machine of Step Functions, by its ARN.
    StateMachine(String),
    /// A pipeline of SageMaker, by its ARN.
    Pipeline(String),
    /// A training, processing or transform job of SageMaker, by its name: nothing
    /// stands above it.
    SagemakerJob(String),
    /// A job queue of AWS Batch, by its ARN.
    JobQueue(String),
}

/// Sources: the API references' `ExecutionStatus` (AWS Step Functions),
/// `PipelineExecutionStatus`, `TrainingJobStatus`, `ProcessingJobStatus` and
/// `TransformJobStatus` (Amazon SageMaker), `JobStatus` (AWS Batch).
const EXECUTION_WORDS: &[(&str, RunStatus)] = &[
    ("SUCCEEDED", RunStatus::Succeeded),
    ("FAILED", RunStatus::Failed),
    ("TIMED_OUT", RunStatus::TimedOut),
    ("ABORTED", RunStatus::Aborted),
];
const PIPELINE_WORDS: &[(&str, RunStatus)] = &[
    ("Succeeded", RunStatus::Succeeded),
    ("Failed", RunStatus::Failed),
    ("Stopped", RunStatus::Stopped),
    ("CompletedWithFailures", RunStatus::CompletedWithFailures),
];
const SAGEMAKER_JOB_WORDS: &[(&str, RunStatus)] = &[
    ("Completed", RunStatus::Succeeded),
    ("Failed", RunStatus::Failed),
    ("Stopped", RunStatus::Stopped),
];
const BATCH_WORDS: &[(&str, RunStatus)] =
    &[("SUCCEEDED", RunStatus::Succeeded), ("FAILED", RunStatus::Failed)];

impl RunResource {
    /// How a run of this ended, in AWS's word for it; `None` for a status that is
    /// no end, such as `RUNNING`.
    #[must_use]
    pub fn status_of(&self, word: &str) -> Option<RunStatus> {
        self.words().iter().find(|(known, _)| *known == word).map(|(_, status)| *status)
    }

    /// AWS's word for how a run of this ended. A status that its service does not
    /// have is nothing that [`RunResource::status_of`] gives: it reads as a failure.
    #[must_use]
    pub fn word_of(&self, status: RunStatus) -> &'static str {
        let of = |wanted: RunStatus| self.words().iter().find(|(_, known)| *known == wanted);
        of(status).or_else(|| of(RunStatus::Failed)).map_or("FAILED", |(word, _)| word)
    }

    const fn words(&self) -> &'static [(&'static str, RunStatus)] {
        match self {
            Self::StateMachine(_) => EXECUTION_WORDS,
            Self::Pipeline(_) => PIPELINE_WORDS,
            Self::SagemakerJob(_) => SAGEMAKER_JOB_WORDS,
            Self::JobQueue(_) => BATCH_WORDS,
        }
    }
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct RunCompletion {
    /// The run's ARN: of an execution, or of a job.
    pub run_arn: String,
    /// What ran.
    pub resource: RunResource,
    /// How it ended.
    pub status: RunStatus,
    /// How often it was redriven: each redrive ends once more.
    pub redrive_count: u32,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub stopped_at: Option<Timestamp>,
    /// Its input, where AWS tells it and did not drop it for its size.
    pub input: Option<String>,
    /// Its output, where there is one and AWS did not drop it for its size.
    pub output: Option<String>,
    /// Numbers that AWS tells of it, beside those in its output.
    pub metrics: BTreeMap<String, f64>,
    /// What it made by AWS's word, beside what its output lists.
    pub artifacts: Vec<Artifact>,
    /// The error's name, where it failed and AWS gives one.
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

impl RunCompletion {
    /// What the run was told of why it runs. Only a hint, since AWS drops the
    /// input of large status events, and anyone may start a state machine; what is
    /// malformed in it counts as absent.
    #[must_use]
    pub fn run_context(&self) -> Option<RunContext> {
        let input: Value = serde_json::from_str(self.input.as_deref()?).ok()?;
        let hint = RunContext::deserialize(input.get(RUN_CONTEXT_KEY)?).ok()?;
        let dataset = hint.dataset.filter(|dataset| !dataset.is_empty());
        Some(RunContext { dataset, event: hint.event.without_malformed(), ..hint })
    }

    /// AWS's word for how it ended.
    #[must_use]
    pub fn status_word(&self) -> &'static str {
        self.resource.word_of(self.status)
    }

    /// The event's `source`: the ARN of what ran. A job of SageMaker's has nothing
    /// above it, so that it is a source of its own.
    fn event_source(&self) -> &str {
        match &self.resource {
            RunResource::StateMachine(arn)
            | RunResource::Pipeline(arn)
            | RunResource::JobQueue(arn) => arn,
            RunResource::SagemakerJob(_) => &self.run_arn,
        }
    }

    /// The `<stage>.completed` or `<stage>.failed` event of this end.
    #[must_use]
    pub fn to_envelope(&self, origin: &CompletionOrigin) -> Envelope {
        let verb = match self.status {
            RunStatus::Succeeded => StageVerb::Completed,
            _ => StageVerb::Failed,
        };
        let id = completion_event_id(&self.run_arn, self.status_word(), self.redrive_count);
        let mut envelope = Envelope::new(&id, self.event_source(), origin.stage.event(verb));
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
            status: self.status_word().to_owned(),
            trigger,
            started_at: self.started_at,
            stopped_at: self.stopped_at,
            duration_s: duration.as_ref().map(SignedDuration::as_secs_f64),
        }
    }

    /// Puts what AWS tells together with the `metrics` and `artifacts` of an output
    /// that has them; entries that are no number or no artifact stay in the output only.
    fn completed(&self, run: Run) -> StageCompleted {
        let text = self.output.as_deref().filter(|text| text.len() <= OUTPUT_BYTES_MAX);
        let whole: Option<Value> =
            self.output.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let part = |name: &str| whole.as_ref().and_then(|output| output.get(name));
        let mut metrics = self.metrics.clone();
        let reported = part("metrics").and_then(Value::as_object).into_iter().flatten();
        metrics.extend(reported.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))));
        let mut artifacts = self.artifacts.clone();
        let reported = part("artifacts").and_then(Value::as_array).into_iter().flatten();
        artifacts.extend(reported.filter_map(|one| Artifact::deserialize(one).ok()));
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
