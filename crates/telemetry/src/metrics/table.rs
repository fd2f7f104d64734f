//! Every metric, once: what `docs/metrics.md` is written from, and what instruments
//! are made of.

use super::{Attribute, Component, Metric};
use crate::semconv;

const BOTH: &[Component] = &[Component::Publisher, Component::Handler];
const PUBLISHER: &[Component] = &[Component::Publisher];
const HANDLER: &[Component] = &[Component::Handler];

/// The event's CloudEvents type.
pub const EVENT_TYPE: Attribute = Attribute {
    name: semconv::CLOUDEVENTS_EVENT_TYPE,
    values: "types of events: the first 64 that the process meets, every later one `_OTHER`",
};
/// The event's CloudEvents source.
pub const EVENT_SOURCE: Attribute = Attribute {
    name: semconv::CLOUDEVENTS_EVENT_SOURCE,
    values: "sources of events, such as a bucket's ARN: the first 64 that the process meets, every later one `_OTHER`",
};
/// The trigger.
pub const TRIGGER: Attribute =
    Attribute { name: "bellwire.trigger", values: "the workflow's triggers" };
/// Why something is no event, or dead.
pub const REASON: Attribute = Attribute {
    name: "bellwire.reason",
    values: "the reason, as in logs and dead letters: `no-rule`, `too-large`, `start-refused`, ...",
};
/// What became of something.
pub const OUTCOME: Attribute = Attribute {
    name: "bellwire.outcome",
    values: "`started`, `duplicate`, `held`, `dropped`, `refused`, `failed` (it comes back)",
};
/// What ended a window.
pub const ENDED_BY: Attribute = Attribute {
    name: "bellwire.gather.ended_by",
    values: "`complete`, `deadline` (it timed out), `untrue` (its manifest was)",
};
/// The call to AWS.
pub const METHOD: Attribute = Attribute {
    name: semconv::RPC_METHOD,
    values: "service and operation of a call that Bellwire makes, such as `SNS/PublishBatch`",
};
/// Whose protocol the call has.
pub const RPC_SYSTEM: Attribute = Attribute { name: semconv::RPC_SYSTEM_NAME, values: "`aws-api`" };
/// What went wrong.
pub const ERROR_TYPE: Attribute = Attribute {
    name: semconv::ERROR_TYPE,
    values: "the HTTP status of AWS's refusal, or `_OTHER` where nothing answered; absent without an error",
};
/// Why a span is gone.
pub const DROPPED_BY: Attribute =
    Attribute { name: semconv::ERROR_TYPE, values: "`queue_full`, `export_failed`" };

/// Of calls, in seconds: up to a long poll. The first fourteen are the conventions' own.
const SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0];
/// From an event's time: what waited out an outage is hours old.
const LAG_SECONDS: &[f64] = &[
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0,
    86_400.0,
];
/// Entries of a batch: SNS takes ten.
const ENTRIES: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];

/// Events in.
pub static EVENTS_RECEIVED: Metric = Metric::counter(
    "bellwire.event.received",
    "{event}",
    "Events that came in: records of the ingest queue and HTTP requests at the publisher, messages of the topic at the handler.",
    &[EVENT_TYPE, EVENT_SOURCE],
    BOTH,
);
/// Events out.
pub static EVENTS_PUBLISHED: Metric = Metric::counter(
    "bellwire.event.published",
    "{event}",
    "Events that SNS accepted.",
    &[EVENT_TYPE, EVENT_SOURCE],
    BOTH,
);
/// Records that are deliberately no events.
pub static EVENTS_SKIPPED: Metric = Metric::counter(
    "bellwire.event.skipped",
    "{event}",
    "Records that are deliberately no events, and events that start nothing (`no-trigger`).",
    &[REASON],
    BOTH,
);
/// Events in the dead queue.
pub static EVENTS_QUARANTINED: Metric = Metric::counter(
    "bellwire.event.quarantined",
    "{event}",
    "What the dead queue accepted, since it can never be handled.",
    &[REASON],
    BOTH,
);
/// Events sent again.
pub static EVENTS_RETRIED: Metric = Metric::counter(
    "bellwire.event.retried",
    "{event}",
    "Events that were sent to the topic again, since SNS had not accepted them.",
    &[],
    PUBLISHER,
);
/// Events of a batch.
pub static BATCH_EVENTS: Metric = Metric::histogram(
    "bellwire.publish.batch.events",
    "{event}",
    "Events in one `PublishBatch`, of ten that fit.",
    ENTRIES,
    &[],
    PUBLISHER,
);
/// From the event's time to SNS.
pub static PUBLISH_LAG: Metric = Metric::histogram(
    "bellwire.publish.lag",
    "s",
    "From an event's own time, which is the object's, to SNS's acceptance.",
    LAG_SECONDS,
    &[EVENT_TYPE],
    PUBLISHER,
);
/// From the event's time to the run's start.
pub static START_LAG: Metric = Metric::histogram(
    "bellwire.start.lag",
    "s",
    "End to end: from the time of the event that caused it, which is the object's, to the run's start.",
    LAG_SECONDS,
    &[TRIGGER],
    HANDLER,
);
/// Starts.
pub static STARTS: Metric = Metric::counter(
    "bellwire.start",
    "{start}",
    "What became of starts.",
    &[TRIGGER, OUTCOME],
    HANDLER,
);
/// Duplicates.
pub static DUPLICATES: Metric = Metric::counter(
    "bellwire.event.duplicates",
    "{event}",
    "Events that were recognised: their start, or their place in a window, was known.",
    &[TRIGGER],
    HANDLER,
);
/// Open windows.
pub static WINDOWS_OPEN: Metric = Metric::gauge(
    "bellwire.gather.windows.open",
    "{window}",
    "Windows that wait for more or for their run, as the last sweep counted them: one that collects through several gates counts once a gate. Counted up to a megabyte of the ledger's index a shard.",
    &[],
    HANDLER,
);
/// Windows that ended.
pub static WINDOWS_CLOSED: Metric = Metric::counter(
    "bellwire.gather.windows.closed",
    "{window}",
    "Windows that ended.",
    &[TRIGGER, ENDED_BY],
    HANDLER,
);
/// Events in the spool.
pub static SPOOL_EVENTS: Metric = Metric::gauge(
    "bellwire.spool.events",
    "{event}",
    "Events that came in over HTTP and wait for SNS.",
    &[],
    PUBLISHER,
);
/// Bytes in the spool.
pub static SPOOL_BYTES: Metric =
    Metric::gauge("bellwire.spool.size", "By", "Bytes of these events.", &[], PUBLISHER);
/// The age of the spool's first event.
pub static SPOOL_AGE: Metric = Metric::gauge(
    "bellwire.spool.age",
    "s",
    "How long the first of these events has waited; 0 where none does.",
    &[],
    PUBLISHER,
);
/// Calls to AWS.
pub static AWS_CALLS: Metric = Metric::histogram(
    semconv::metric::RPC_CLIENT_CALL_DURATION,
    "s",
    "Calls to AWS by operation, all attempts of one together. `SQS/ReceiveMessage` waits up to 20 s by itself.",
    SECONDS,
    &[RPC_SYSTEM, METHOD, ERROR_TYPE],
    BOTH,
);
/// Attempts after the first.
pub static AWS_RETRIES: Metric = Metric::counter(
    "bellwire.aws.retries",
    "{attempt}",
    "Attempts of calls to AWS after their first.",
    &[METHOD],
    BOTH,
);
/// Answers that ask for fewer calls.
pub static AWS_THROTTLES: Metric = Metric::counter(
    "bellwire.aws.throttles",
    "{attempt}",
    "Attempts that AWS answered by asking for fewer.",
    &[METHOD],
    BOTH,
);
/// Functions that began.
pub static COLD_STARTS: Metric = Metric::counter(
    semconv::metric::FAAS_COLDSTARTS,
    "{coldstart}",
    "Invocations that were the first of their environment.",
    &[],
    HANDLER,
);
/// Spans that nobody sees.
pub static SPANS_DROPPED: Metric = Metric::counter(
    "bellwire.telemetry.spans.dropped",
    "{span}",
    "Spans that were recorded and not exported. Events are never dropped for want of a backend.",
    &[DROPPED_BY],
    BOTH,
);

/// All of them, in the order of an event's way.
pub static TABLE: [&Metric; 20] = [
    &EVENTS_RECEIVED,
    &EVENTS_SKIPPED,
    &EVENTS_QUARANTINED,
    &EVENTS_RETRIED,
    &EVENTS_PUBLISHED,
    &BATCH_EVENTS,
    &PUBLISH_LAG,
    &SPOOL_EVENTS,
    &SPOOL_BYTES,
    &SPOOL_AGE,
    &DUPLICATES,
    &STARTS,
    &START_LAG,
    &WINDOWS_OPEN,
    &WINDOWS_CLOSED,
    &COLD_STARTS,
    &AWS_CALLS,
    &AWS_RETRIES,
    &AWS_THROTTLES,
    &SPANS_DROPPED,
];
