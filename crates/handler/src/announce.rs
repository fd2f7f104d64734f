//! What the handler itself tells the topic: that a run was started, and the
//! completions that the sweep found.

use std::collections::BTreeMap;

use aws_sdk_sns::Client;
use aws_sdk_sns::error::{DisplayErrorContext, ProvideErrorMetadata as _};
use aws_sdk_sns::types::MessageAttributeValue;
use bellwire_ledger::Start;
use bellwire_schema::attributes::{AttributesError, attributes_of};
use bellwire_schema::fifo::{FifoIds, is_fifo};
use bellwire_schema::payload::StageStarted;
use bellwire_schema::{Envelope, StageVerb};
use bellwire_telemetry::metrics::{EVENT_SOURCE, EVENT_TYPE, EVENTS_PUBLISHED};
use jiff::Timestamp;

use crate::call_errors::{PUBLISH, Verdict};

/// The topic, as the handler publishes to it.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    client: Client,
    arn: String,
}

/// An event that did not get to the topic.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// Its attributes are not what SNS takes.
    #[error(transparent)]
    Attributes(#[from] AttributesError),
    /// SNS refused it, and would refuse it again.
    #[error("sns:Publish of {event_type} to {topic} was refused for good: {message}")]
    Refused {
        /// The event's type.
        event_type: String,
        /// The topic's ARN.
        topic: String,
        /// What AWS says.
        message: String,
    },
    /// SNS did not accept it.
    #[error("sns:Publish of {event_type} to {topic} did not succeed: {message}")]
    Publish {
        /// The event's type.
        event_type: String,
        /// The topic's ARN.
        topic: String,
        /// What AWS or the SDK says.
        message: String,
    },
}

impl Topic {
    pub(crate) fn new(client: Client, arn: &str) -> Self {
        Self { client, arn: arn.to_owned() }
    }

    pub(crate) async fn publish(&self, event: &Envelope) -> Result<(), AnnounceError> {
        let mut request = self.client.publish().topic_arn(&self.arn).message(event.to_json());
        for attribute in attributes_of(event, &BTreeMap::new())? {
            let value = MessageAttributeValue::builder()
                .data_type(attribute.data_type.as_str())
                .string_value(attribute.value)
                .build()
                .expect("the data type is set");
            request = request.message_attributes(attribute.name, value);
        }
        if is_fifo(&self.arn) {
            let FifoIds { group, deduplication } = FifoIds::of(event);
            request = request.message_group_id(group).message_deduplication_id(deduplication);
        }
        let sent = request.send().await.map(|_| {
            EVENTS_PUBLISHED.add(1, || {
                let event_type = EVENT_TYPE.bounded(event.event_type.as_str());
                [event_type, EVENT_SOURCE.bounded(&event.source)]
            });
        });
        sent.map_err(|error| {
            let (event_type, topic) = (event.event_type.to_string(), self.arn.clone());
            let message = DisplayErrorContext(&error).to_string();
            match is_for_good(error.code()) {
                true => AnnounceError::Refused { event_type, topic, message },
                false => AnnounceError::Publish { event_type, topic, message },
            }
        })
    }
}

/// Whether an error says something of the event, and not of the topic, whose absence
/// passes with the next deploy.
fn is_for_good(code: Option<&str>) -> bool {
    code != Some("NotFound") && PUBLISH.verdict(code) == Verdict::Permanent
}

impl AnnounceError {
    /// Whether no repetition would help.
    pub(crate) const fn is_for_good(&self) -> bool {
        matches!(self, Self::Attributes(_) | Self::Refused { .. })
    }
}

/// The `<stage>.started` event of a start. Its id is the start key's, so that a
/// repetition is a duplicate.
pub(crate) fn started_event(start: &Start, run_arn: &str, at: Timestamp) -> Envelope {
    let event_type = start.stage.event(StageVerb::Started);
    let mut event = Envelope::new(&start.start_key.started_event_id(), &start.target, event_type);
    event.subject = Some(run_arn.to_owned());
    event.time = Some(at);
    event.dataset.clone_from(&start.dataset);
    event.partitionkey.clone_from(&start.dataset);
    event.context = start.context.clone();
    event.with_payload(&StageStarted {
        trigger: start.trigger.clone(),
        start_key: start.start_key.to_string(),
        run_arn: run_arn.to_owned(),
        event_id: start.cause.id.clone(),
    })
}
