//! EventBridge's word on a run, whichever service it is of.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{RunCompletion, batch, sagemaker, step_functions};

/// A status event that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event `{kind}` does not have its documented shape at `{field}`: {problem}")]
pub struct CompletionError {
    /// EventBridge's name for what it tells: its `detail-type`.
    pub kind: String,
    /// Where in the event: `detail.executionArn`.
    pub field: String,
    /// What is wrong there.
    pub problem: String,
}

/// A status event of a service that runs things.
#[derive(Debug, Clone, PartialEq)]
pub enum StatusEvent {
    /// The run goes on.
    Running,
    /// The run ended.
    Ended(Box<RunCompletion>),
}

type Read = fn(&Value) -> Result<StatusEvent, CompletionError>;

/// Every status event that is read: its source, its `detail-type`, and its reader.
/// Sources: AWS Step Functions developer guide, "Automating Step Functions event
/// delivery with EventBridge"; Amazon SageMaker AI developer guide, "Events that
/// Amazon SageMaker AI sends to Amazon EventBridge"; AWS Batch user guide, "Job
/// state change events".
const KINDS: [(&str, &str, Read); 6] = [
    ("aws.states", "Step Functions Execution Status Change", |event| {
        detail(event).map(step_functions::execution)
    }),
    ("aws.sagemaker", "SageMaker Training Job State Change", |event| {
        detail(event).map(sagemaker::training_job)
    }),
    ("aws.sagemaker", "SageMaker Processing Job State Change", |event| {
        detail(event).map(sagemaker::processing_job)
    }),
    ("aws.sagemaker", "SageMaker Transform Job State Change", |event| {
        detail(event).map(sagemaker::transform_job)
    }),
    ("aws.sagemaker", "SageMaker Model Building Pipeline Execution Status Change", |event| {
        detail(event).map(sagemaker::pipeline_execution)
    }),
    ("aws.batch", "Batch Job State Change", |event| detail(event).map(batch::job)),
];

impl StatusEvent {
    /// Decodes EventBridge's status event; `None` where the event is of no run that
    /// is read here.
    #[must_use]
    pub fn decode(event: &Value) -> Option<Result<Self, CompletionError>> {
        let text = |name: &str| event.get(name).and_then(Value::as_str);
        let (source, kind) = (text("source")?, text("detail-type")?);
        let known = KINDS.iter().find(|known| known.0 == source && known.1 == kind);
        known.map(|(_, _, read)| match read(event) {
            Ok(Self::Ended(run)) if run.run_arn.is_empty() => Err(CompletionError {
                kind: kind.to_owned(),
                field: "detail".to_owned(),
                problem: "the run's ARN is empty".to_owned(),
            }),
            read => read,
        })
    }

    pub(super) fn ended(completion: RunCompletion) -> Self {
        Self::Ended(Box::new(completion))
    }
}

#[derive(Deserialize)]
struct Event<D> {
    detail: D,
}

fn detail<D: DeserializeOwned>(event: &Value) -> Result<D, CompletionError> {
    let read: Result<Event<D>, _> = serde_path_to_error::deserialize(event);
    read.map(|event| event.detail).map_err(|error| CompletionError {
        kind: event.get("detail-type").and_then(Value::as_str).unwrap_or_default().to_owned(),
        field: error.path().to_string(),
        problem: error.into_inner().to_string(),
    })
}

/// A time as the services write it: milliseconds since 1970 as a number or, in
/// SageMaker's documented samples, as text, or RFC 3339. What cannot be read is no
/// time: the end of a run must not be lost for when it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(Option<Timestamp>);

impl Moment {
    /// The time of a field that may be absent.
    pub(super) fn of(moment: Option<Self>) -> Option<Timestamp> {
        moment.and_then(|moment| moment.0)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let of_milliseconds = |number: i64| Timestamp::from_millisecond(number).ok();
        Ok(Self(match &value {
            Value::Number(number) => number.as_i64().and_then(of_milliseconds),
            Value::String(text) => match text.parse::<i64>() {
                Ok(number) => of_milliseconds(number),
                Err(_) => text.parse().ok(),
            },
            _ => None,
        }))
    }
}
