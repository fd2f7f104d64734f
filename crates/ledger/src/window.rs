//! The rows of gathering, and when a gate lets an event in. Pure.
//!
//! A window's events come in through its **gates**, rows which count them. Each
//! event has one of them by its id, so that no row is written by all: DynamoDB takes
//! some hundreds of transactions a second on one item, and a thousand write units on
//! one partition. An event's own **member** row is written in the same transaction,
//! so that it is in exactly one window. Closing is one transaction over all gates,
//! which it moves on to the next **generation**, and the row of the **closed** window,
//! from which the run is started.

use std::collections::BTreeSet;

use bellwire_schema::gathered::{GatherEnd, GatheredMember, WindowId};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Partitions of the index of what is due that windows are spread over: as many as
/// a window has gates at most, so that each gate has one of its own.
pub const WINDOW_DUE_SHARDS: u32 = 8;

/// What a gate must still have to live when an event comes in: as long as a window
/// may be open, 90 days, and a day. So no gate of an open window is ever forgotten.
pub const GATE_MARGIN: SignedDuration = SignedDuration::from_hours(24 * 91);

/// All windows of one trigger and key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its id.
    pub id: WindowId,
    /// The trigger that gathers.
    pub trigger: String,
    /// What it gathers by.
    pub key: String,
    /// How many gates it has, from 1 to [`WINDOW_DUE_SHARDS`].
    pub gates: u32,
}

impl Window {
    /// The window of a key.
    #[must_use]
    pub fn new(trigger: &str, key: &str, gates: u32) -> Self {
        Self {
            id: WindowId::of(trigger, key),
            trigger: trigger.to_owned(),
            key: key.to_owned(),
            gates,
        }
    }
}

/// What is kept of an event that was gathered. It stands in the table as text: a
/// payload may have numbers, and be nested, as no item of DynamoDB's may.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Member {
    /// The event, as the run gets it.
    pub event: GatheredMember,
    /// How many events came before it.
    pub hop: u32,
    /// The workflow instance that it belongs to.
    pub correlationid: Option<String>,
    /// Its trace.
    pub traceparent: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct MemberText {
    event: GatheredMember,
    #[serde(default)]
    hop: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlationid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
}

impl From<Member> for String {
    fn from(member: Member) -> Self {
        let Member { event, hop, correlationid, traceparent } = member;
        let text = MemberText { event, hop, correlationid, traceparent };
        serde_json::to_string(&text).expect("a member is plain JSON")
    }
}

impl TryFrom<String> for Member {
    type Error = serde_json::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let MemberText { event, hop, correlationid, traceparent } = serde_json::from_str(&text)?;
        Ok(Self { event, hop, correlationid, traceparent })
    }
}

/// What became of an event that a trigger gathers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is a member of the window.
    Gathered,
    /// It is the window's marker or manifest.
    Marker,
    /// It arrived after its window was closed, whose listing had its object.
    Listed,
}

/// An event's row, which outlives its window: a duplicate opens no new one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberRow {
    /// The event.
    pub member: Member,
    /// Where it belongs.
    pub window: WindowId,
    /// To which of the windows of that key.
    pub generation: u32,
    /// The gate that it came through.
    pub gate: u32,
    /// What became of it.
    pub fate: Fate,
    /// Whether the window that it was meant for had ended without it.
    #[serde(default)]
    pub is_late: bool,
    /// Whether the window had all that it waits for with it.
    #[serde(default)]
    pub completes: bool,
    /// When it arrived.
    pub arrived_at: Timestamp,
}

/// A gate of a window, as it stands in the table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Gate {
    /// Of which window.
    pub window: Window,
    /// Which of its gates, from 0.
    pub gate: u32,
    /// How many windows of this key were closed before.
    pub generation: u32,
    /// How many events have come in.
    #[serde(rename = "members")]
    pub count: u64,
    /// When the first of them came.
    #[serde(default)]
    pub opened_at: Option<Timestamp>,
    /// When the last of them came.
    #[serde(default)]
    pub last_at: Option<Timestamp>,
    /// The types of those that came, where the window waits for types.
    #[serde(default)]
    pub types: BTreeSet<String>,
    /// The marker or manifest, where it came.
    #[serde(default)]
    pub marker: Option<Member>,
    /// How the window before ended.
    #[serde(default)]
    pub previous: Option<Previous>,
    /// When the window is to be looked at, in epoch seconds; `None` where it is not open.
    #[serde(default)]
    pub due_at: Option<f64>,
    /// When the row counts as gone, in epoch seconds.
    pub expires_at: i64,
}

impl Gate {
    /// Whether the window is to be looked at now.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.due_at.is_some_and(|due_at| due_at <= now.as_duration().as_secs_f64())
    }
}

/// How the window before an open one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// What ended it.
    pub ended_by: GatherEnd,
    /// When.
    pub closed_at: Timestamp,
    /// Where a listing showed what belongs to it: up to when an object must have
    /// been written to be in it, by S3's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed_until: Option<Timestamp>,
}

/// An event at a gate.
#[derive(Debug, Clone, Copy)]
pub struct Admission<'a> {
    /// The window that it belongs to.
    pub window: &'a Window,
    /// The generation that is open, as far as the caller knows.
    pub generation: u32,
    /// The gate.
    pub gate: u32,
    /// The event.
    pub member: &'a Member,
    /// The id of its row: [`bellwire_schema::gathered::member_id`].
    pub member_id: &'a str,
    /// What it is to the window: a member or its marker.
    pub fate: Fate,
    /// What must be so for it to come in.
    pub room: Room<'a>,
    /// Whether it is late.
    pub is_late: bool,
    /// Whether the window is to be looked at right after.
    pub completes: bool,
    /// When the window is to be looked at, where it was not open.
    pub due_at: Timestamp,
    /// Now.
    pub now: Timestamp,
}

/// How much room a gate must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room<'a> {
    /// Any number of events may come in.
    Any,
    /// Fewer than so many have come in.
    Below(u64),
    /// Any number may come in, and their types are noted.
    AnyNoted,
    /// The same, where of these other types that the window waits for one at least
    /// has not come.
    TypesMissing(&'a [String]),
}

/// Why a gate did not let an event in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Another generation is open.
    Generation,
    /// The gate has too little time to live.
    Expiring,
    /// There is no room.
    Room,
}

impl Admission<'_> {
    /// Why a gate as it stands does not let this event in; `None` where it does.
    /// What the condition of the transaction says, in Rust.
    #[must_use]
    pub fn refusal(&self, gate: Option<&Gate>) -> Option<Refusal> {
        let Some(gate) = gate else {
            return (self.generation != 0).then_some(Refusal::Generation);
        };
        if gate.generation != self.generation {
            return Some(Refusal::Generation);
        }
        if gate.expires_at <= (self.now + GATE_MARGIN).as_second() {
            return Some(Refusal::Expiring);
        }
        let has_room = match self.room {
            Room::Any | Room::AnyNoted => true,
            Room::Below(count) => gate.count < count,
            Room::TypesMissing(others) => others.iter().any(|other| !gate.types.contains(other)),
        };
        (!has_room).then_some(Refusal::Room)
    }

    /// The type that counts for the window, where it waits for types.
    #[must_use]
    pub fn counted_type(&self) -> Option<&str> {
        let is_noted = matches!(self.room, Room::AnyNoted | Room::TypesMissing(_));
        is_noted.then(|| self.member.event.event_type.as_str())
    }
}

/// What came of an admission.
#[derive(Debug, Clone, PartialEq)]
pub enum Admitted {
    /// The event is in.
    Joined,
    /// It was before.
    Known(Box<MemberRow>),
    /// The gate did not let it in; as it stands, or `None` where it is not there.
    Refused(Option<Box<Gate>>),
    /// Others came at the same time: the same again may succeed.
    Contended,
}

/// A window that was closed, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClosedWindow {
    /// Of which windows.
    pub window: Window,
    /// Which of them.
    pub generation: u32,
    /// What ended it.
    pub ended_by: GatherEnd,
    /// Why, where that takes words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// How many events came in through each gate.
    pub counts: Vec<u64>,
    /// When its first event arrived.
    pub opened_at: Timestamp,
    /// When it was closed.
    pub closed_at: Timestamp,
    /// The marker or manifest, where one came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<Member>,
    /// What was written up to here belongs to the window before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed_after: Option<Timestamp>,
    /// What was written up to here belongs to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed_until: Option<Timestamp>,
    /// How far its members were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

impl ClosedWindow {
    /// How many events came in.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// How far the members of a closed window were read, and where what was read lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where reading goes on, in the reader's own words.
    pub cursor: String,
    /// The key of the object that has what was read.
    pub partial_key: String,
}

/// What became of a closed window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A run was started, under this start key.
    Started(String),
    /// It is in the dead queue, for this reason.
    Dead(String),
    /// There was nothing in it that its trigger wants: nothing was started.
    Empty,
}

/// A page of a window's members.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberPage {
    /// The members.
    pub members: Vec<Member>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<String>,
}

/// What is due of a window.
#[derive(Debug, Clone, PartialEq)]
pub enum DueWindow {
    /// It is open, and this is one of its gates.
    Open(Box<Gate>),
    /// It is closed, and has not come to its end.
    Closed(Box<ClosedWindow>),
}
