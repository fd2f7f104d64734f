//! The dead queue: where what can never be handled ends, with its reason and its bytes.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::DisplayErrorContext;
use bellwire_schema::DeadLetter;
use bellwire_schema::dead_letter::{DeadReason, Hop};
use jiff::Timestamp;

use crate::clients::Later;
use crate::decode::Delivery;

/// The dead queue.
#[derive(Debug, Clone)]
pub(crate) struct Quarantine {
    client: Later<Client>,
    queue_url: String,
}

/// A dead letter that the queue did not accept: the message must come back.
#[derive(Debug, thiserror::Error)]
#[error("sqs:SendMessage to {queue_url} did not succeed: {message}")]
pub struct QuarantineError {
    /// The dead queue's URL.
    pub queue_url: String,
    /// What AWS or the SDK says.
    pub message: String,
}

impl Quarantine {
    pub(crate) fn new(client: Later<Client>, queue_url: &str) -> Self {
        Self { client, queue_url: queue_url.to_owned() }
    }

    /// Puts a message aside, for all triggers or for one.
    pub(crate) async fn put(
        &self,
        delivery: &Delivery,
        trigger: Option<&str>,
        reason: DeadReason,
        message: &str,
        now: Timestamp,
    ) -> Result<(), QuarantineError> {
        let mut letter =
            DeadLetter::new(reason, message, Hop::Handler, delivery.body.as_bytes(), now);
        letter.trigger = trigger.map(str::to_owned);
        letter.source.clone_from(&delivery.came_by);
        letter.id.clone_from(&delivery.message_id);
        letter.traceparent = delivery.attributes.get("traceparent").cloned();
        letter.attributes.clone_from(&delivery.attributes);
        let send = self.client.send_message().queue_url(&self.queue_url);
        send.message_body(letter.to_json()).send().await.map_err(|error| QuarantineError {
            queue_url: self.queue_url.clone(),
            message: DisplayErrorContext(&error).to_string(),
        })?;
        tracing::warn!(reason = reason.as_str(), trigger, message, "event quarantined");
        Ok(())
    }
}
