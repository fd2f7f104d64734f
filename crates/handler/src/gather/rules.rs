//! The rules of gathering: what an event is to a window, which window it belongs to,
//! what follows where it did not come in, and when a window has ended. Pure.

use bellwire_ledger::{Admission, Fate, Gate, Member, Previous, Refusal, Room, Window};
use bellwire_schema::gathered::{GatherEnd, GatheredMember};
use bellwire_schema::workflow::{Gather, GatherUntil, OnDeadline, Trigger};
use bellwire_schema::{Envelope, EventType};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use serde_json_path::JsonPath;

/// Gates of a window that nobody knows the size of: some hundred transactions a
/// second each.
const GATES_MAX: u32 = bellwire_ledger::WINDOW_DUE_SHARDS;

/// Where a window's size is known: events for which one gate more is opened.
const EVENTS_PER_GATE: u64 = 2_500;

/// The longest key of a window, in bytes: that of an object, and what names its bucket.
const KEY_BYTES_MAX: usize = 1_200;

/// How a trigger gathers.
#[derive(Debug)]
pub struct GatherRules {
    until: GatherUntil,
    by: Option<JsonPath>,
    by_prefix: bool,
    within: SignedDuration,
    on_deadline: OnDeadline,
    trigger: String,
    /// For each type that the window waits for, the others.
    others: Vec<(String, Vec<String>)>,
}

/// An event that belongs to no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// `by` finds nothing in it.
    #[error("`gather.by` finds nothing in the event")]
    NothingFound,
    /// What `by` finds is too long.
    #[error("what `gather.by` finds is {bytes} bytes, more than {KEY_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// An attempt to bring an event into its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// The generation that is believed to be open.
    pub generation: u32,
    /// How the one before ended, as far as that is known.
    pub previous: Option<Previous>,
    /// The gate.
    pub gate: u32,
    /// Gates that were found full.
    pub full: u32,
    /// Whether the event may be the one that the window waits for.
    pub completes: bool,
}

/// What follows where a gate did not let an event in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt.
    Try(Attempt),
    /// The gates must be given time to live first.
    Renew,
    /// All gates are full: the window must be closed first.
    Settle,
}

/// What is to become of an open window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing has arrived.
    Empty,
    /// It waits, and is to be looked at again then.
    Wait(Timestamp),
    /// It has ended.
    Close(GatherEnd),
    /// Its manifest is there: what that says decides.
    AskManifest,
}

impl GatherRules {
    /// The rules of a trigger; `None` where it starts on each event alone.
    ///
    /// # Errors
    ///
    /// Where `by` is no JSONPath.
    pub fn compile(trigger: &Trigger) -> Result<Option<Self>, serde_json_path::ParseError> {
        let Some(Gather { until, by, within_s, on_deadline }) = trigger.gather.clone() else {
            return Ok(None);
        };
        let by = by.as_deref().map(JsonPath::parse).transpose()?;
        let types: Vec<String> = match &until {
            GatherUntil::AllOf(types) => types.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        };
        let others_of = |own: &String| -> Vec<String> {
            types.iter().filter(|other| *other != own).cloned().collect()
        };
        let is_object = |event_type: &EventType| {
            [EventType::data_arrived(), EventType::data_removed()].contains(event_type)
        };
        Ok(Some(Self {
            by_prefix: trigger.on.iter().all(is_object),
            others: types.iter().map(|own| (own.clone(), others_of(own))).collect(),
            within: SignedDuration::from_secs(within_s.cast_signed()),
            trigger: trigger.name.clone(),
            until,
            by,
            on_deadline,
        }))
    }

    /// What becomes of a window whose deadline passes.
    #[must_use]
    pub const fn on_deadline(&self) -> OnDeadline {
        self.on_deadline
    }

    /// Whether the members are what a listing of the marker's prefix shows; else
    /// they are the events that arrived, or what the manifest lists.
    #[must_use]
    pub const fn lists(&self) -> bool {
        matches!(self.until, GatherUntil::Marker(_))
    }

    /// Whether the members are what a manifest lists.
    #[must_use]
    pub const fn has_manifest(&self) -> bool {
        matches!(self.until, GatherUntil::Manifest(_))
    }

    /// How long a manifest waits for what it lists before S3 is asked again: as long
    /// as its window has been open, but a minute at least, and ten at most.
    #[must_use]
    pub fn ask_again_after(gates: &[Option<Gate>], now: Timestamp) -> SignedDuration {
        let opened_at = gates.iter().flatten().filter_map(|gate| gate.opened_at).min();
        let open_for = now.duration_since(opened_at.unwrap_or(now));
        open_for.clamp(SignedDuration::from_mins(1), SignedDuration::from_mins(10))
    }

    /// Whether the windows are those of the objects' prefixes, so that what lies
    /// deeper belongs to others.
    #[must_use]
    pub const fn is_by_prefix(&self) -> bool {
        self.by.is_none() && self.by_prefix
    }

    /// The name of the object that ends a window, after its last slash.
    #[must_use]
    pub fn marker(&self) -> Option<&str> {
        match &self.until {
            GatherUntil::Marker(name) | GatherUntil::Manifest(name) => Some(name),
            _ => None,
        }
    }

    /// Whether an event is of the marker or manifest: `where` does not judge it.
    #[must_use]
    pub fn is_marker(&self, event: &Envelope) -> bool {
        let Some(marker) = self.marker() else { return false };
        event.event_type == EventType::data_arrived()
            && object_of(event).is_some_and(|(_, key)| file_name(key) == marker)
    }

    /// What an event's windows are told apart by.
    ///
    /// # Errors
    ///
    /// Where `by` finds nothing in the event, or too much.
    pub fn key_of(&self, event: &Envelope) -> Result<String, KeyError> {
        let key = match (&self.by, object_of(event)) {
            (Some(by), _) => match by.query(&event.to_value()).all()[..] {
                [] => return Err(KeyError::NothingFound),
                [Value::String(text)] => text.clone(),
                [node] => node.to_string(),
                ref nodes => Value::from_iter(nodes.iter().copied().cloned()).to_string(),
            },
            (None, Some((bucket, key))) if self.by_prefix => {
                format!("s3://{bucket}/{}", prefix_of(key))
            }
            (None, _) => event.dataset.clone().unwrap_or_default(),
        };
        match key.len() {
            bytes if bytes > KEY_BYTES_MAX => Err(KeyError::TooLong { bytes }),
            _ => Ok(key),
        }
    }

    /// The windows of a key.
    #[must_use]
    pub fn window_of(&self, key: &str) -> Window {
        let gates = match &self.until {
            GatherUntil::AllOf(_) => 1,
            GatherUntil::Count(count) => {
                let gates = count.div_ceil(EVENTS_PER_GATE).min(GATES_MAX.into());
                u32::try_from(gates).unwrap_or(GATES_MAX).max(1)
            }
            _ => GATES_MAX,
        };
        Window::new(&self.trigger, key, gates)
    }

    /// The first attempt for an event, where so much is known of its windows.
    #[must_use]
    pub fn first(
        &self,
        window: &Window,
        member_id: &str,
        is_marker: bool,
        known: Option<(u32, Option<Previous>)>,
    ) -> Attempt {
        let (generation, previous) = known.unwrap_or((0, None));
        let home = member_id.bytes().take(4).fold(0_u32, |sum, byte| sum * 31 + u32::from(byte));
        let gate = home % window.gates;
        let completes = is_marker || self.share(window, gate) == Some(1);
        Attempt { generation, previous, gate, full: 0, completes }
    }

    /// The events that a gate takes, where the window takes a number of them.
    fn share(&self, window: &Window, gate: u32) -> Option<u64> {
        let GatherUntil::Count(count) = self.until else { return None };
        let gates = u64::from(window.gates);
        Some(count / gates + u64::from(u64::from(gate) < count % gates))
    }

    /// What must be so for an event to come in by this attempt. The last place of a
    /// gate is left to an attempt that knows it to be the last.
    #[must_use]
    pub fn room<'a>(
        &'a self,
        window: &Window,
        event_type: &EventType,
        attempt: &Attempt,
    ) -> Room<'a> {
        match (&self.until, self.share(window, attempt.gate)) {
            (_, Some(share)) if attempt.completes => Room::Below(share),
            (_, Some(share)) => Room::Below(share - 1),
            (GatherUntil::AllOf(_), _) if attempt.completes => Room::AnyNoted,
            (GatherUntil::AllOf(_), _) => {
                let own = self.others.iter().find(|(own, _)| own == event_type.as_str());
                own.map_or(Room::Any, |(_, others)| Room::TypesMissing(others))
            }
            _ => Room::Any,
        }
    }

    /// What follows where an attempt was refused by a gate that stands so.
    #[must_use]
    pub fn next(&self, admission: &Admission<'_>, attempt: Attempt, gate: Option<&Gate>) -> Next {
        // The condition held no longer, or holds again: the same attempt may succeed.
        let Some(refusal) = admission.refusal(gate) else { return Next::Try(attempt) };
        let count = gate.map_or(0, |gate| gate.count);
        match refusal {
            Refusal::Expiring => Next::Renew,
            Refusal::Generation => Next::Try(Attempt {
                generation: gate.map_or(0, |gate| gate.generation),
                previous: gate.and_then(|gate| gate.previous),
                ..self.first(
                    admission.window,
                    admission.member_id,
                    admission.fate == Fate::Marker,
                    None,
                )
            }),
            Refusal::Room => match self.share(admission.window, attempt.gate) {
                Some(share) if count >= share => {
                    let full = attempt.full + 1;
                    if full >= admission.window.gates {
                        return Next::Settle;
                    }
                    let gate = (attempt.gate + 1) % admission.window.gates;
                    let completes = self.share(admission.window, gate) == Some(1);
                    Next::Try(Attempt { gate, full, completes, ..attempt })
                }
                _ => Next::Try(Attempt { completes: true, ..attempt }),
            },
        }
    }

    /// When a window is to be looked at whose first event arrives now.
    #[must_use]
    pub fn due_at(&self, attempt: &Attempt, now: Timestamp) -> Timestamp {
        match self.until {
            _ if attempt.completes => now,
            GatherUntil::QuietS(quiet_s) => now + seconds(quiet_s),
            _ => now + self.within,
        }
    }

    /// What is to become of a window whose gates stand so.
    #[must_use]
    pub fn verdict(&self, gates: &[Option<Gate>], now: Timestamp) -> Verdict {
        let gates = || gates.iter().flatten().filter(|gate| gate.opened_at.is_some());
        let Some(opened_at) = gates().filter_map(|gate| gate.opened_at).min() else {
            return Verdict::Empty;
        };
        let deadline = opened_at + self.within;
        let has_marker = gates().any(|gate| gate.marker.is_some());
        let mut look_again = deadline;
        let is_complete = match &self.until {
            GatherUntil::Count(count) => gates().map(|gate| gate.count).sum::<u64>() >= *count,
            GatherUntil::AllOf(types) => {
                types.iter().all(|wanted| gates().any(|gate| gate.types.contains(wanted.as_str())))
            }
            GatherUntil::Marker(_) => has_marker,
            GatherUntil::Manifest(_) if has_marker => return Verdict::AskManifest,
            GatherUntil::Manifest(_) => false,
            GatherUntil::QuietS(quiet_s) => {
                let last_at = gates().filter_map(|gate| gate.last_at).max().unwrap_or(opened_at);
                look_again = deadline.min(last_at + seconds(*quiet_s));
                now >= last_at + seconds(*quiet_s)
            }
        };
        match is_complete {
            true => Verdict::Close(GatherEnd::Complete),
            false if now >= deadline => Verdict::Close(GatherEnd::Deadline),
            false => Verdict::Wait(look_again),
        }
    }

    /// The deadline of a window whose gates stand so.
    #[must_use]
    pub fn deadline(&self, gates: &[Option<Gate>]) -> Option<Timestamp> {
        let opened_at = gates.iter().flatten().filter_map(|gate| gate.opened_at).min()?;
        Some(opened_at + self.within)
    }

    /// What a member event is to the windows of its key, where the one before ended so.
    #[must_use]
    pub fn fate(&self, member: &GatheredMember, is_marker: bool, attempt: &Attempt) -> Fate {
        let listed_until = attempt.previous.and_then(|previous| previous.listed_until);
        let was_listed = member.key.is_some()
            && listed_until.zip(member.time).is_some_and(|(until, time)| to_second(time) <= until);
        match (was_listed, is_marker) {
            (true, _) => Fate::Listed,
            (false, true) => Fate::Marker,
            (false, false) => Fate::Gathered,
        }
    }

    /// Whether an event that comes in by this attempt is late: the window that it was
    /// meant for was closed without it. A window of a number, of types or of quiet
    /// that is complete is followed by the next; nothing was meant for it.
    #[must_use]
    pub fn is_late(fate: Fate, attempt: &Attempt) -> bool {
        fate == Fate::Gathered
            && attempt.previous.is_some_and(|previous| {
                previous.ended_by != GatherEnd::Complete || previous.listed_until.is_some()
            })
    }
}

/// What is kept of an event, as it travelled.
#[must_use]
pub fn member_of(event: &Envelope) -> Member {
    Member {
        event: GatheredMember::of(event),
        hop: event.context.hop,
        correlationid: event.context.correlationid.clone(),
        traceparent: event.context.traceparent.clone(),
    }
}

/// The bucket and the key of an object's event.
pub(crate) fn object_of(event: &Envelope) -> Option<(&str, &str)> {
    let data = event.data.as_ref()?;
    Some((data.get("bucket")?.as_str()?, data.get("key")?.as_str()?))
}

pub(crate) fn file_name(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

/// A key up to and with its last slash.
pub(crate) fn prefix_of(key: &str) -> &str {
    &key[..key.len() - file_name(key).len()]
}

/// Listings tell times by the second; so are those of events, to be compared.
pub(crate) fn to_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn seconds(seconds: u64) -> SignedDuration {
    SignedDuration::from_secs(seconds.cast_signed())
}
