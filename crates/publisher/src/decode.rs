//! `decode`: the body of a queue's message to the records in it. Pure.

use bellwire_schema::completion::{RunCompletion, StatusEvent};
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::s3::{Notification, ObjectEvent, RecordError};
use serde_json::Value;

/// One thing that a message tells of.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// S3 has tried out a notification.
    TestEvent,
    /// An object was created or removed.
    Object(ObjectEvent),
    /// Something else happened to an object: a restore, a change of storage class.
    OtherObjectEvent {
        /// S3's name for it.
        event_name: String,
    },
    /// A run began, was redriven, is being stopped, or a part of it ended.
    RunGoesOn,
    /// A run ended: an execution, or a job.
    Completion(Box<RunCompletion>),
    /// A schedule's time has come.
    Tick(Tick),
}

impl Record {
    /// What it tells of, for a log: an object's key, a run's or rule's ARN.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::Object(object) => Some(&object.key),
            Self::Completion(completion) => Some(&completion.run_arn),
            Self::Tick(tick) => Some(&tick.rule_arn),
            Self::TestEvent | Self::OtherObjectEvent { .. } | Self::RunGoesOn => None,
        }
    }
}

/// A call of a schedule's rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// The rule's ARN.
    pub rule_arn: String,
    /// The time that it was scheduled for, as EventBridge wrote it.
    pub scheduled_time: String,
}

/// A message, or one record of it, that cannot be read: now or ever.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Undecodable {
    /// Its code.
    pub reason: DeadReason,
    /// The same in words.
    pub message: String,
}

impl Undecodable {
    fn new(reason: DeadReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Reads every record of a message, each on its own: a bad one leaves its
/// neighbours alone. A message that is bad as a whole is one bad record, so
/// that the list is never empty.
#[must_use]
pub fn decode(body: &str) -> Vec<Result<Record, Undecodable>> {
    if let Some(notification) = Notification::read(body) {
        return notification_records(notification);
    }
    match value_of(body).and_then(unwrapped) {
        Ok(value) => records_of(&value),
        Err(error) => vec![Err(error)],
    }
}

fn value_of(body: &str) -> Result<Value, Undecodable> {
    serde_json::from_str(body)
        .map_err(|error| Undecodable::new(DeadReason::Undecodable, format!("not JSON: {error}")))
}

/// Takes off the envelope that SNS puts around a message on its way to a queue
/// without raw delivery. There is never more than one.
fn unwrapped(value: Value) -> Result<Value, Undecodable> {
    let is_wrapped = value.get("Type").and_then(Value::as_str) == Some("Notification")
        && value.get("TopicArn").is_some();
    match value.get("Message").and_then(Value::as_str) {
        Some(message) if is_wrapped => value_of(message).map_err(|error| {
            Undecodable::new(error.reason, format!("in SNS's wrapping: {}", error.message))
        }),
        _ => Ok(value),
    }
}

fn records_of(value: &Value) -> Vec<Result<Record, Undecodable>> {
    match Notification::decode(value) {
        Some(notification) => notification_records(notification),
        None => vec![event_bridge_record(value)],
    }
}

fn notification_records(notification: Notification) -> Vec<Result<Record, Undecodable>> {
    match notification {
        Notification::TestEvent => vec![Ok(Record::TestEvent)],
        Notification::Records(records) => records.into_iter().map(object_record).collect(),
    }
}

fn object_record(record: Result<ObjectEvent, RecordError>) -> Result<Record, Undecodable> {
    let error = match record {
        Ok(event) => return Ok(Record::Object(event)),
        Err(RecordError::OtherEvent { event_name }) => {
            return Ok(Record::OtherObjectEvent { event_name });
        }
        Err(error) => error,
    };
    let reason = match error {
        RecordError::KeyNotUtf8 { .. } => DeadReason::KeyNotUtf8,
        _ => DeadReason::MalformedRecord,
    };
    Err(Undecodable::new(reason, error.to_string()))
}

fn event_bridge_record(event: &Value) -> Result<Record, Undecodable> {
    if let Some(object) = ObjectEvent::of_event_bridge(event) {
        return object_record(object);
    }
    if let Some(status) = StatusEvent::decode(event) {
        return match status {
            Ok(StatusEvent::Running) => Ok(Record::RunGoesOn),
            Ok(StatusEvent::Ended(completion)) => Ok(Record::Completion(completion)),
            Err(error) => Err(Undecodable::new(DeadReason::MalformedRecord, error.to_string())),
        };
    }
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    match (text("source"), text("detail-type")) {
        (Some("aws.events"), Some("Scheduled Event")) => tick_of(event),
        (Some(source), Some(kind)) => Err(Undecodable::new(
            DeadReason::Undecodable,
            format!("`{kind}` of `{source}` is no EventBridge event that a source reads"),
        )),
        _ => Err(Undecodable::new(
            DeadReason::Undecodable,
            "neither a notification of S3 nor an event of EventBridge",
        )),
    }
}

fn tick_of(event: &Value) -> Result<Record, Undecodable> {
    let text_at = |pointer: &str, field: &str| {
        event.pointer(pointer).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| {
            let message =
                format!("the scheduled event does not have its documented shape at `{field}`");
            Undecodable::new(DeadReason::MalformedRecord, message)
        })
    };
    Ok(Record::Tick(Tick {
        rule_arn: text_at("/resources/0", "resources[0]")?,
        scheduled_time: text_at("/time", "time")?,
    }))
}
