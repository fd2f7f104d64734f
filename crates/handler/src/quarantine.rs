//! The dead queue: where what can never be handled ends, with its reason and its bytes.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::DisplayErrorContext;
use bellwire_schema::DeadLetter;
use bellwire_schema::dead_letter::{DeadReason, Hop};
use bellwire_telemetry::metrics::{EVENTS_QUARANTINED, REASON};
use bellwire_telemetry::semconv::{
    ERROR_TYPE, MESSAGING_OPERATION_NAME, MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM,
    MESSAGING_SYSTEM_SQS,
};
use bellwire_telemetry::{mark_failed, set_parent};
use jiff::Timestamp;
use tracing::{Instrument as _, Span, info_span};

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
        let span = span_of(reason, letter.traceparent.as_deref());
        let send = Box::pin(send.message_body(letter.to_json()).send().instrument(span.clone()));
        send.await.map_err(|error| {
            let message = DisplayErrorContext(&error).to_string();
            let error = QuarantineError { queue_url: self.queue_url.clone(), message };
            mark_failed(&span, &error);
            error
        })?;
        EVENTS_QUARANTINED.add(1, || [REASON.of(reason.as_str())]);
        let (reason, message_id) = (reason.as_str(), &delivery.message_id);
        let id = event_id(&delivery.body);
        tracing::warn!(reason, trigger, id, message_id, detail = message, "event quarantined");
        Ok(())
    }
}

/// The id of an event, as far as a body that may be anything has one.
fn event_id(body: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        id: String,
    }
    serde_json::from_str::<Named>(body).ok().map(|named| named.id)
}

/// A failure from its first moment, so that it is kept of traces that are not sampled.
fn span_of(reason: DeadReason, traceparent: Option<&str>) -> Span {
    let span = info_span!(
        "quarantine",
        otel.kind = "client",
        otel.status_code = "ERROR",
        { ERROR_TYPE } = reason.as_str(),
        { MESSAGING_SYSTEM } = MESSAGING_SYSTEM_SQS,
        { MESSAGING_OPERATION_NAME } = "SendMessage",
        { MESSAGING_OPERATION_TYPE } = "send",
    );
    // What could not be read has no span of its own to hang it on.
    if Span::current().is_none() {
        set_parent(&span, traceparent, None);
    }
    span
}
