use std::collections::BTreeMap;

use bellwire_schema::completion::CompletionOrigin;
use bellwire_schema::payload::Artifact;
use bellwire_schema::{Envelope, EventContext, EventType, Stage, StartKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::guard::Held;

/// A start as it is claimed: everything that a repetition of it needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Its key.
    pub start_key: StartKey,
    /// The trigger that starts it.
    pub trigger: String,
    /// The stage that the run is of.
    pub stage: Stage,
    /// The dataset of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// The ARN of what is started.
    pub target: String,
    /// The name, or token, under which it is started.
    pub name: String,
    /// The run's whole input, as text.
    pub input: String,
    /// The run's ARN, where it follows from target and name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_arn: Option<String>,
    /// How long the run may be expected to take, in seconds.
    pub expected_duration_s: u64,
    /// What only some kinds of targets need.
    #[serde(default, skip_serializing_if = "TargetDetails::is_empty")]
    pub details: TargetDetails,
    /// The event that starts it.
    pub cause: Cause,
    /// What every event of the run inherits.
    pub context: EventContext,
}

/// What some kinds of targets need of a start, beside their ARN.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetDetails {
    /// Of a target without name or token: for how long, in seconds, who claims the
    /// start or takes it over is the only one who may make it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_s: Option<u32>,
    /// Of AWS Batch: the job definition's ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_definition: Option<String>,
    /// Of a FIFO topic or queue: the message's group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_group: Option<String>,
}

impl TargetDetails {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The event that started a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Its id.
    pub id: String,
    /// Its source.
    pub source: String,
    /// Its type.
    pub event_type: EventType,
    /// What it happened to: an object's key, a run's ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

impl Cause {
    /// The cause that an event is.
    #[must_use]
    pub fn of(event: &Envelope) -> Self {
        Self {
            id: event.id.clone(),
            source: event.source.clone(),
            event_type: event.event_type.clone(),
            subject: event.subject.clone(),
            time: event.time,
        }
    }
}

/// How far a start has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its name and input are fixed; whether it was started is not known.
    Claimed,
    /// The target has accepted it.
    Started,
    /// The target has accepted it, and tells nothing more of it.
    Accepted,
    /// The run ended well.
    Completed,
    /// The run failed, timed out or was aborted.
    Failed,
    /// The target refused the start for good; the event is in the dead queue.
    Refused,
    /// A guard holds it back: the sweep releases it.
    Held,
    /// A guard held it back, and what is held is dropped: it is never started.
    Dropped,
}

impl State {
    /// Its name, as it stands in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Started => "started",
            Self::Accepted => "accepted",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Held => "held",
            Self::Dropped => "dropped",
        }
    }
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartRow {
    /// What was claimed.
    pub start: Start,
    /// How far it has come.
    pub state: State,
    /// When it was claimed; or held back, where it was.
    pub claimed_at: Timestamp,
    /// When the target accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// Until when nobody else may make the start, where it is leased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<Timestamp>,
    /// That a guard held it back, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

impl StartRow {
    /// A start that is claimed now.
    pub(crate) fn claimed(start: Start, now: Timestamp) -> Self {
        Self {
            start,
            state: State::Claimed,
            claimed_at: now,
            started_at: None,
            end: None,
            lease_until: None,
            held: None,
        }
    }

    /// A start that is held back, or dropped.
    pub(crate) fn held(start: Start, state: State, held: Held) -> Self {
        let at = held.at;
        Self { state, held: Some(held), ..Self::claimed(start, at) }
    }

    /// What the event of the run's completion takes from here.
    #[must_use]
    pub fn completion_origin(&self) -> CompletionOrigin {
        CompletionOrigin {
            stage: self.start.stage,
            trigger: Some(self.start.trigger.clone()),
            dataset: self.start.dataset.clone(),
            context: self.start.context.clone(),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// The target's own word for it.
    pub status: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// From begin to end, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
    /// Numbers that the run reported of itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// What it made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// The error's name, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The error's cause, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}
