//! Many events that start one run: the payload of the event that stands for them,
//! and what each of them is reduced to.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::envelope::Envelope;
use crate::event_type::EventType;
use crate::id::hash_of;
use crate::payload::{DataArrived, Payload};

/// The type of the event that a gathered run gets as its input. It is never
/// published: only the run sees it.
pub const GATHERED_TYPE: &str = "ml.data.gathered.v1";

/// `ml.data.gathered.v1`: events that were gathered, as the run gets them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DataGathered {
    /// The trigger that gathered them.
    pub trigger: String,
    /// What the window was gathered by: a prefix, a dataset.
    pub key: String,
    /// Windows of this key that came before.
    pub generation: u32,
    /// What ended the window.
    pub ended_by: GatherEnd,
    /// How many members there are.
    pub count: u64,
    /// Of those that are objects, the sizes together, in bytes.
    pub size_bytes: u64,
    /// When its first event arrived.
    pub opened_at: Timestamp,
    /// When it was closed.
    pub closed_at: Timestamp,
    /// The members, where they fit into the run's input. Whether they do or not,
    /// the event's `dataref` is a file of them, a line of JSON for each, where the
    /// workflow has a claim check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<GatheredMember>>,
}

/// What ended a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GatherEnd {
    /// What it waited for was there.
    Complete,
    /// Its time was over.
    Deadline,
    /// Its manifest said what was not so.
    Untrue,
}

impl GatherEnd {
    /// Its name, as it stands in the input and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Deadline => "deadline",
            Self::Untrue => "untrue",
        }
    }
}

/// One of the events that were gathered: an object, pinned to its version, or
/// any other event with its payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GatheredMember {
    /// The event's id; none where a listing showed an object whose event's id
    /// does not follow from it, which is so on an unversioned bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// The event's source.
    pub source: String,
    /// The event's type.
    pub event_type: EventType,
    /// When it happened; for an object that a listing showed, when it was last modified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// The dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// The bucket's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The object's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The object's version, on a versioned bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// The object's size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// The object's entity tag, without quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// What it happened to, where it is no object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The payload, where it is no object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// Where the payload is, where it was too large to travel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataref: Option<String>,
}

impl GatheredMember {
    /// What an event is reduced to: as it travelled, so that it has at most the
    /// size of a message.
    #[must_use]
    pub fn of(event: &Envelope) -> Self {
        let member = Self {
            event_id: Some(event.id.clone()),
            source: event.source.clone(),
            event_type: event.event_type.clone(),
            time: event.time,
            dataset: event.dataset.clone(),
            bucket: None,
            key: None,
            version_id: None,
            size_bytes: None,
            etag: None,
            subject: None,
            data: None,
            dataref: None,
        };
        match Payload::of(event) {
            Ok(Payload::DataArrived(object)) => member.with_object(object),
            _ => Self {
                subject: event.subject.clone(),
                data: event.data.clone(),
                dataref: event.dataref.clone(),
                ..member
            },
        }
    }

    fn with_object(self, object: DataArrived) -> Self {
        Self {
            bucket: Some(object.bucket),
            key: Some(object.key),
            version_id: object.version_id,
            size_bytes: Some(object.size_bytes),
            etag: object.etag,
            ..self
        }
    }
}

/// What tells one window of one trigger from all others, whatever its generation:
/// a hash of trigger and key, 32 hexadecimal characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WindowId(String);

impl WindowId {
    /// The id of a trigger's windows of one key.
    #[must_use]
    pub fn of(trigger: &str, key: &str) -> Self {
        Self(hash_of(&["window", trigger, key].map(str::as_bytes)))
    }

    /// Its 32 hexadecimal characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WindowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The id, within one trigger, of an event that it gathers: 32 hexadecimal characters.
#[must_use]
pub fn member_id(trigger: &str, event_source: &str, event_id: &str) -> String {
    hash_of(&["member", trigger, event_source, event_id].map(str::as_bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_pinned_and_any_other_event_keeps_its_payload() {
        let event = Envelope::new("1", "arn:aws:s3:::lake", "data.arrived".parse().unwrap());
        let event = event.with_payload(&json!({
            "bucket": "lake", "key": "raw/a.csv", "size_bytes": 7, "version_id": "v1",
            "event_name": "ObjectCreated:Put",
        }));
        let member = serde_json::to_value(GatheredMember::of(&event)).unwrap();
        let expected = json!({
            "event_id": "1", "source": "arn:aws:s3:::lake", "event_type": "ml.data.arrived.v1",
            "bucket": "lake", "key": "raw/a.csv", "size_bytes": 7, "version_id": "v1",
        });
        assert_eq!(member, expected);
        let event = Envelope::new("2", "/app", "label.approved".parse().unwrap());
        let member = GatheredMember::of(&event.with_payload(&json!({ "batch": 3 })));
        assert_eq!((member.data, member.key), (Some(json!({ "batch": 3 })), None));
    }

    #[test]
    fn a_window_is_of_one_trigger_and_one_key() {
        assert_eq!(WindowId::of("train", "a"), WindowId::of("train", "a"));
        assert_ne!(WindowId::of("train", "a"), WindowId::of("traina", ""));
        assert_ne!(member_id("train", "/app", "1"), member_id("train", "/app1", ""));
    }
}
