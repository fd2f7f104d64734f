//! What is to be published: messages of the ingest queue, good and bad, and what
//! clients send over HTTP.

mod http;
mod objects;
mod runs;

use std::fmt;
use std::sync::LazyLock;

use bellwire_publisher::route::Rules;
use bellwire_schema::Envelope;
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::event_type::StageVerb;
use bellwire_schema::workflow::{ClaimCheck, Workflow};
use fastrand::Rng;

pub(crate) use self::http::{HttpEvent, HttpRequest, requests};
pub(crate) use self::runs::origin_of;
use crate::plan::pick;
use crate::samples;

/// What the name of an event says that SNS refuses.
pub(crate) const REFUSED: &str = "refused";

/// What a text is cut to where people read it.
const SHOWN_CHARS_MAX: usize = 400;

static WORKFLOW: LazyLock<Workflow> = LazyLock::new(samples::workflow);
static RULES: LazyLock<Rules> = LazyLock::new(samples::rules);

pub(crate) fn workflow() -> &'static Workflow {
    &WORKFLOW
}

pub(crate) fn rules() -> Rules {
    RULES.clone()
}

pub(crate) fn claim_check() -> ClaimCheck {
    ClaimCheck { bucket: "wine-lake".to_owned(), prefix: "claims/".to_owned() }
}

/// What a seed's topic takes, and what comes on the way to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forms {
    /// Whether the topic is FIFO.
    pub(crate) is_fifo: bool,
    /// Whether there is a claim check.
    pub(crate) has_claims: bool,
    /// Whether some events are over the limit.
    pub(crate) large: bool,
    /// Whether runs end.
    pub(crate) runs: bool,
    /// Whether schedules fire.
    pub(crate) ticks: bool,
}

/// What a message of the queue holds, and what is to become of it.
#[derive(Clone)]
pub(crate) struct QueueMessage {
    pub(crate) body: String,
    pub(crate) records: Vec<Wanted>,
    /// EventBridge has told of it before.
    pub(crate) is_repeated: bool,
}

/// What is to become of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The event is published.
    Published(Event),
    /// SNS refuses the event: it goes to the dead queue.
    Refused,
    /// Nothing.
    Skipped,
    /// It goes to the dead queue for this reason.
    Buried(DeadReason),
}

/// An event that is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// As [`name_of`] has it.
    pub(crate) name: String,
    /// Where it waits on a FIFO topic; `None` where only a look-up can tell.
    pub(crate) group: Option<String>,
    pub(crate) payload: Payload,
}

/// Where an event's payload is, once it is published.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Payload {
    /// In the event.
    Within,
    /// In S3, these bytes.
    Claimed(String),
    /// In S3, with this as the output of a run.
    ClaimedOutput(String),
}

impl fmt::Debug for QueueMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { body, records, is_repeated } = self;
        let mut shown = f.debug_struct("QueueMessage");
        shown.field("body", &cut(body)).field("records", records);
        shown.field("is_repeated", is_repeated).finish()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Within => f.write_str("Within"),
            Self::Claimed(text) => write!(f, "Claimed({} bytes)", text.len()),
            Self::ClaimedOutput(text) => write!(f, "ClaimedOutput({} bytes)", text.len()),
        }
    }
}

/// A text that may be long, for people.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// What an event is called here, by what caused it, whatever its id: the object, what
/// a client called it, the run and how it ended, or the schedule and its time.
pub(crate) fn name_of(event: &Envelope) -> String {
    let Some(subject) = &event.subject else {
        let time = event.time.map(|time| time.to_string()).unwrap_or_default();
        return format!("{} {time}", event.source);
    };
    match event.event_type.stage_and_verb() {
        Some((_, StageVerb::Completed)) => format!("{subject} completed"),
        Some((_, StageVerb::Failed)) => format!("{subject} failed"),
        _ => subject.clone(),
    }
}

/// What comes into the ingest queue, in order of time.
pub(crate) fn messages(random: &mut Rng, forms: Forms, until: u64) -> Vec<(u64, QueueMessage)> {
    let count_max = *pick(random, &[8, 20, 50]);
    let is_backlog = random.u8(0..4) == 0;
    let mut messages = Vec::new();
    for number in 0..random.u64(1..count_max) {
        let told = match random.u8(0..10) {
            0 | 1 if forms.runs => runs::ends(number, forms, random),
            2 if forms.runs => vec![runs::no_end(number, random)],
            3 if forms.ticks => runs::tick(random),
            _ => vec![objects::message(number, random)],
        };
        let mut at = if is_backlog { 0 } else { random.u64(0..until) };
        for message in told {
            messages.push((at, message));
            at += random.u64(0..until / 4);
        }
    }
    messages.sort_by_key(|(at, _)| *at);
    messages
}

impl QueueMessage {
    fn of(body: String, records: Vec<Wanted>) -> Self {
        Self { body, records, is_repeated: false }
    }
}

impl Event {
    fn within(name: String, group: Option<&str>) -> Self {
        Self { name, group: group.map(str::to_owned), payload: Payload::Within }
    }
}
