//! What invokes the function, told apart: deliveries of SNS, batches of the work
//! queue, the sweep's call, and envelopes that somebody sends directly. Pure.

use std::collections::BTreeMap;

use aws_lambda_events::sns::SnsRecord;
use bellwire_schema::Envelope;
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::envelope::EnvelopeError;
use bellwire_schema::limits::HOP_MAX;
use bellwire_schema::payload::{Payload, PayloadError};
use bellwire_schema::s3::RecordError;
use serde::Deserialize;
use serde_json::Value;

use crate::batch::Queued;

/// What an invocation asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Invocation {
    /// Messages to handle, each on its own.
    Deliveries(Vec<Delivery>),
    /// Messages of the work queue, of which those come back that the answer names.
    Batch(Vec<Queued>),
    /// Look at what is due.
    Sweep,
    /// Nothing that this function knows.
    Unknown,
}

/// One message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// The message's id: SNS's, or the work queue's where that is all there is.
    pub message_id: Option<String>,
    /// The ARN of the topic that it came through, or of the work queue.
    pub came_by: Option<String>,
    /// The body: an envelope, if all is well.
    pub body: String,
    /// The message's attributes, as text.
    pub attributes: BTreeMap<String, String>,
}

impl Invocation {
    /// Tells what an invocation's payload asks for.
    #[must_use]
    pub fn decode(payload: &Value) -> Self {
        if payload.get("bellwire").and_then(Value::as_str) == Some("sweep") {
            return Self::Sweep;
        }
        if let Some(records) = payload.get("Records").and_then(Value::as_array) {
            if records.is_empty() {
                return Self::Unknown;
            }
            let queued: Option<Vec<_>> = records.iter().map(Queued::of_sqs).collect();
            let deliveries = || records.iter().map(Delivery::of_sns).collect::<Option<_>>();
            return queued
                .map(Self::Batch)
                .or_else(|| deliveries().map(Self::Deliveries))
                .unwrap_or(Self::Unknown);
        }
        let direct = |event: &Value| {
            event
                .get("specversion")
                .map(|_| Delivery { body: event.to_string(), ..Delivery::default() })
        };
        let deliveries: Option<Vec<_>> = match payload {
            Value::Array(events) => events.iter().map(direct).collect(),
            event => direct(event).map(|delivery| vec![delivery]),
        };
        deliveries.filter(|all| !all.is_empty()).map_or(Self::Unknown, Self::Deliveries)
    }
}

impl Delivery {
    fn of_sns(record: &Value) -> Option<Self> {
        let record = SnsRecord::deserialize(record).ok()?;
        if record.event_source != "aws:sns" {
            return None;
        }
        let attributes = record.sns.message_attributes.into_iter();
        Some(Self {
            message_id: Some(record.sns.message_id),
            came_by: Some(record.sns.topic_arn),
            body: record.sns.message,
            attributes: attributes.map(|(name, attribute)| (name, attribute.value)).collect(),
        })
    }

    /// The event that the message carries. Its payload may still have to be
    /// fetched: then comes [`check_payload`].
    ///
    /// # Errors
    ///
    /// Where no retry would make it one that can be handled.
    pub fn event(&self) -> Result<Envelope, Undeliverable> {
        let event = Envelope::from_json(self.body.as_bytes())?;
        if event.context.hop > HOP_MAX {
            return Err(Undeliverable::HopLimit { hop: event.context.hop });
        }
        Ok(event)
    }
}

/// Whether an event's payload has the shape of its type.
///
/// # Errors
///
/// Where it has not.
pub fn check_payload(event: &Envelope) -> Result<(), Undeliverable> {
    Ok(Payload::of(event).map(drop)?)
}

/// A message that can never be handled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undeliverable {
    /// It is no envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Its payload does not have the shape of its type.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// It is a record of S3 that tells of no object.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Too many events caused each other.
    #[error("{hop} events caused each other, more than {HOP_MAX}: a trigger starts itself")]
    HopLimit {
        /// How many.
        hop: u32,
    },
}

impl Undeliverable {
    /// The reason under which it goes to the dead queue.
    #[must_use]
    pub const fn reason(&self) -> DeadReason {
        match self {
            Self::Envelope(EnvelopeError::NotJson { .. }) => DeadReason::Undecodable,
            Self::Envelope(_) => DeadReason::InvalidEnvelope,
            Self::Payload(_) => DeadReason::InvalidPayload,
            Self::Record(RecordError::KeyNotUtf8 { .. }) => DeadReason::KeyNotUtf8,
            Self::Record(_) => DeadReason::MalformedRecord,
            Self::HopLimit { .. } => DeadReason::HopLimit,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sns(message: &str) -> Value {
        json!({ "Records": [{
            "EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": "arn:sub",
            "Sns": {
                "Type": "Notification", "MessageId": "m-1", "TopicArn": "arn:aws:sns:eu-west-1:1:wine",
                "Subject": null, "Message": message, "Timestamp": "2026-11-22T02:14:08.113Z",
                "SignatureVersion": "1", "Signature": "x", "SigningCertUrl": "x", "UnsubscribeUrl": "x",
                "MessageAttributes": { "type": { "Type": "String", "Value": "ml.data.arrived.v1" } },
            },
        }] })
    }

    #[test]
    fn each_way_in_is_told_apart() {
        let Invocation::Deliveries(deliveries) = Invocation::decode(&sns("{}")) else { panic!() };
        assert_eq!(deliveries[0].message_id.as_deref(), Some("m-1"));
        assert_eq!(deliveries[0].attributes["type"], "ml.data.arrived.v1");
        assert_eq!(Invocation::decode(&json!({ "bellwire": "sweep" })), Invocation::Sweep);
        let event = json!({ "specversion": "1.0" });
        assert!(
            matches!(Invocation::decode(&event), Invocation::Deliveries(all) if all.len() == 1)
        );
        let events = json!([event, event]);
        assert!(
            matches!(Invocation::decode(&events), Invocation::Deliveries(all) if all.len() == 2)
        );
        for unknown in [
            json!({}),
            json!([]),
            json!(null),
            json!({ "Records": [] }),
            json!({ "Records": [{}] }),
        ] {
            assert_eq!(Invocation::decode(&unknown), Invocation::Unknown, "{unknown}");
        }
    }

    #[test]
    fn what_can_never_be_handled_has_its_reason() {
        let reason = |body: &str| {
            let delivery = Delivery { body: body.to_owned(), ..Delivery::default() };
            let event = delivery.event();
            event.and_then(|event| check_payload(&event)).unwrap_err().reason()
        };
        let event = |type_: &str, hop: u32| {
            json!({ "specversion": "1.0", "id": "1", "source": "/a", "type": type_, "hop": hop })
                .to_string()
        };
        assert_eq!(reason("not json"), DeadReason::Undecodable);
        assert_eq!(reason("{}"), DeadReason::InvalidEnvelope);
        assert_eq!(reason(&event("ml.data.arrived.v1", 0)), DeadReason::InvalidPayload);
        assert_eq!(reason(&event("ml.training.requested.v1", HOP_MAX + 1)), DeadReason::HopLimit);
        let delivery =
            Delivery { body: event("ml.training.requested.v1", HOP_MAX), ..Delivery::default() };
        assert!(delivery.event().is_ok());
    }
}
