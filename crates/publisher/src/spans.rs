//! The spans of an event's way through the publisher, and the context that
//! travels on with it.

use bellwire_schema::Envelope;
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::fifo::is_fifo;
use bellwire_telemetry::semconv::{
    AWS_SNS_TOPIC_ARN, CLOUDEVENTS_EVENT_ID, CLOUDEVENTS_EVENT_SOURCE, CLOUDEVENTS_EVENT_TYPE,
    ERROR_TYPE, MESSAGING_BATCH_MESSAGE_COUNT, MESSAGING_DESTINATION_NAME,
    MESSAGING_OPERATION_NAME, MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM, MESSAGING_SYSTEM_SNS,
    MESSAGING_SYSTEM_SQS,
};
use bellwire_telemetry::{context_of, link, set_parent, trace_id};
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tracing::Span;

/// The topic, as spans name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicName {
    /// Its ARN.
    pub arn: String,
}

impl TopicName {
    /// The last part of the ARN.
    #[must_use]
    pub fn name(&self) -> &str {
        self.arn.rsplit(':').next().unwrap_or(&self.arn)
    }

    /// Whether the topic is FIFO.
    #[must_use]
    pub fn is_fifo(&self) -> bool {
        is_fifo(&self.arn)
    }
}

/// Makes the "receive" span of messages that came of one poll of a queue, a trace of its own,
/// and answers with its context: the "create" span of each of their events is linked to it.
/// It begins when they have come: what a poll waits for them is nobody's delay.
#[must_use]
pub fn receive(queue_arn: &str, message_count: usize) -> Option<String> {
    let queue = queue_arn.rsplit(':').next().unwrap_or(queue_arn);
    let span = tracing::info_span!(
        parent: None,
        "receive",
        otel.name = format!("{queue} receive"),
        otel.kind = "client",
        { MESSAGING_SYSTEM } = MESSAGING_SYSTEM_SQS,
        { MESSAGING_OPERATION_NAME } = "ReceiveMessage",
        { MESSAGING_OPERATION_TYPE } = "receive",
        { MESSAGING_DESTINATION_NAME } = queue,
        { MESSAGING_BATCH_MESSAGE_COUNT } = message_count,
    );
    if span.is_disabled() {
        return None;
    }
    context_of(&span).map(|context| context.traceparent)
}

/// Makes an event's "create" span, a child of what caused the event (where the
/// event names nothing: of the span that is entered now), and puts the span's
/// own context into the event: that is what travels.
///
/// The span ends here: it is the making of the message alone.
pub fn create(envelope: &mut Envelope, topic: &TopicName) -> Span {
    let event_type = envelope.event_type.as_str();
    let span = tracing::info_span!(
        "create",
        otel.name = format!("ml.{} create", envelope.event_type.short()),
        otel.kind = "producer",
        { MESSAGING_SYSTEM } = MESSAGING_SYSTEM_SNS,
        { MESSAGING_OPERATION_NAME } = "create",
        { MESSAGING_OPERATION_TYPE } = "create",
        { MESSAGING_DESTINATION_NAME } = topic.name(),
        { CLOUDEVENTS_EVENT_ID } = envelope.id,
        { CLOUDEVENTS_EVENT_TYPE } = event_type,
        { CLOUDEVENTS_EVENT_SOURCE } = envelope.source,
    );
    let cause = &envelope.context;
    set_parent(&span, cause.traceparent.as_deref(), cause.tracestate.as_deref());
    if let Some(context) = context_of(&span) {
        envelope.context.traceparent = Some(context.traceparent);
        envelope.context.tracestate = context.tracestate;
    }
    span
}

/// Makes the "send" span of one `PublishBatch`, linked to the "create" span of
/// each of its messages; a child of the first where all are of one trace.
#[must_use]
pub fn send(traceparents: &[&str], message_count: usize, topic: &TopicName) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "send",
        otel.name = format!("{} send", topic.name()),
        otel.kind = "client",
        otel.status_code = tracing::field::Empty,
        { MESSAGING_SYSTEM } = MESSAGING_SYSTEM_SNS,
        { MESSAGING_OPERATION_NAME } = "PublishBatch",
        { MESSAGING_OPERATION_TYPE } = "send",
        { MESSAGING_DESTINATION_NAME } = topic.name(),
        { MESSAGING_BATCH_MESSAGE_COUNT } = message_count,
        { AWS_SNS_TOPIC_ARN } = topic.arn,
    );
    set_parent(&span, common_parent(traceparents, message_count), None);
    for traceparent in traceparents {
        link(&span, traceparent);
    }
    span
}

/// Makes the span of a dead letter, under what caused it. It is a failure from its first
/// moment, so that it is kept of traces that are not sampled.
#[must_use]
pub fn dead(reason: DeadReason, traceparent: Option<&str>) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "quarantine",
        otel.kind = "client",
        otel.status_code = "ERROR",
        { ERROR_TYPE } = reason.as_str(),
        { MESSAGING_SYSTEM } = MESSAGING_SYSTEM_SQS,
        { MESSAGING_OPERATION_NAME } = "SendMessage",
        { MESSAGING_OPERATION_TYPE } = "send",
    );
    set_parent(&span, traceparent, None);
    span
}

/// The context of the first message, where every message of the batch is of its trace.
fn common_parent<'a>(traceparents: &[&'a str], message_count: usize) -> Option<&'a str> {
    let first = traceparents.first().filter(|_| traceparents.len() == message_count)?;
    let trace = trace_id(first)?;
    traceparents.iter().all(|other| trace_id(other) == Some(trace)).then_some(*first)
}

/// Runs `body`, which logs, under an event's trace, so that its lines name it
/// although the span of the event's making has ended.
pub fn in_trace_of<T>(traceparent: Option<&str>, body: impl FnOnce() -> T) -> T {
    let _guard = traceparent
        .and_then(span_context)
        .map(|context| opentelemetry::Context::new().with_remote_span_context(context).attach());
    body()
}

fn span_context(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    Some(SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A1: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const A2: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-01";
    const B: &str = "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_batch_has_a_parent_only_where_it_is_of_one_trace() {
        assert_eq!(common_parent(&[A1, A2], 2), Some(A1));
        assert_eq!(common_parent(&[A1, B], 2), None);
        assert_eq!(common_parent(&[A1], 2), None, "one message has no trace");
        assert_eq!(common_parent(&[], 0), None);
    }

    #[test]
    fn the_topic_is_named_by_the_end_of_its_arn() {
        let topic = TopicName { arn: "arn:aws:sns:eu-west-1:123456789012:wine".to_owned() };
        assert_eq!(topic.name(), "wine");
    }
}
