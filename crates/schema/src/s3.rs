//! What S3 tells of its objects, decoded: its own notifications (any 2.x
//! version, encoded keys) and EventBridge's (raw keys).

use std::borrow::Cow;

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::envelope::Envelope;
use crate::id::{ObjectChange, ObjectIdentity, object_event_id};
use crate::names::Place;
use crate::payload::{DataArrived, DataRemoved};
use crate::workflow::{Identity, S3Source, Source};

/// One change of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEvent {
    /// Created or removed.
    pub change: ObjectChange,
    /// S3's word for it, without `s3:`: `ObjectCreated:Put`.
    pub event_name: String,
    /// When it happened.
    pub time: Timestamp,
    /// The bucket's region.
    pub region: String,
    /// The bucket's name.
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
    /// The object's size in bytes; 0 where S3 gives none, as for removals.
    pub size_bytes: u64,
    /// The entity tag, without quotes.
    pub etag: Option<String>,
    /// The version, on a versioned bucket.
    pub version_id: Option<String>,
    /// Orders the events of this key.
    pub sequencer: Option<String>,
}

/// The body of a message that S3 wrote.
#[derive(Debug, Clone, PartialEq)]
pub enum Notification {
    /// What S3 sends when a notification is configured: it tells of no object.
    TestEvent,
    /// Records, each decoded on its own, so that a bad one leaves its
    /// neighbours alone.
    Records(Vec<Result<ObjectEvent, RecordError>>),
}

/// A record that is no change of an object that Bellwire can tell of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It lacks a field or has one of another type.
    #[error("the S3 record does not have its documented shape at `{field}`: {problem}")]
    Shape {
        /// Where in the record: `s3.object.key`.
        field: String,
        /// What is wrong there.
        problem: String,
    },
    /// It is of a major version that nobody has seen yet.
    #[error("the S3 record is of version {version}; 2.x is read")]
    Version {
        /// Its `eventVersion`.
        version: String,
    },
    /// Its key is not UTF-8 after decoding, so that no client could name the object.
    #[error("the object's key is not UTF-8 after URL decoding: `{encoded_key}`")]
    KeyNotUtf8 {
        /// The key as it came.
        encoded_key: String,
    },
    /// It tells of something else: a restore, a replication, a lifecycle transition.
    #[error("the S3 event `{event_name}` tells of no object that was created or removed")]
    OtherEvent {
        /// Its name.
        event_name: String,
    },
}

impl Notification {
    /// Reads what almost every message is, records of S3 that are all as documented,
    /// without a tree of it in between; `None` where it is anything else, which
    /// [`Notification::decode`] then tells.
    #[must_use]
    pub fn read(body: &str) -> Option<Self> {
        let notification: Plain<'_> = serde_json::from_str(body).ok()?;
        let Plain { records, event: None, wrapping: None } = notification else { return None };
        if records.is_empty() {
            return None;
        }
        Some(Self::Records(records.into_iter().map(ObjectEvent::of_typed).collect()))
    }

    /// Decodes a body that S3 wrote; `None` where it is nothing of S3's.
    #[must_use]
    pub fn decode(body: &Value) -> Option<Self> {
        if body.get("Event").and_then(Value::as_str) == Some("s3:TestEvent") {
            return Some(Self::TestEvent);
        }
        let records = body.get("Records")?.as_array()?;
        let is_of_s3 = |record: &Value| {
            record.get("eventSource").and_then(Value::as_str) == Some("aws:s3")
                || record.get("s3").is_some()
        };
        if records.is_empty() || !records.iter().any(is_of_s3) {
            return None;
        }
        Some(Self::Records(records.iter().map(ObjectEvent::of_record).collect()))
    }
}

impl ObjectEvent {
    /// Decodes one record of S3's own notifications, whose key is URL-encoded
    /// with `+` for a space.
    ///
    /// # Errors
    ///
    /// Where the record does not have its documented shape, its key cannot be
    /// decoded, or it tells of no created or removed object.
    pub fn of_record(record: &Value) -> Result<Self, RecordError> {
        typed(record).and_then(Self::of_typed)
    }

    fn of_typed(record: Record<'_>) -> Result<Self, RecordError> {
        if !record.event_version.starts_with("2.") {
            return Err(RecordError::Version { version: record.event_version.into_owned() });
        }
        let event_name = record.event_name.trim_start_matches("s3:").to_owned();
        let change = change_of(&event_name)?;
        let object = record.s3.object;
        Ok(Self {
            change,
            event_name,
            time: record.event_time,
            region: record.aws_region,
            bucket: record.s3.bucket.name,
            key: not_empty(decode_key(&object.key)?, "s3.object.key")?,
            size_bytes: object.size.unwrap_or(0),
            etag: object.e_tag.map(unquoted),
            version_id: object.version_id.filter(|version| version != "null"),
            sequencer: object.sequencer.filter(|sequencer| !sequencer.is_empty()),
        })
    }

    /// Decodes EventBridge's form, whose key is raw; `None` where the event is
    /// not one of S3's.
    #[must_use]
    pub fn of_event_bridge(event: &Value) -> Option<Result<Self, RecordError>> {
        if event.get("source").and_then(Value::as_str) != Some("aws.s3") {
            return None;
        }
        Some(typed(event).and_then(Self::of_bridge_event))
    }

    fn of_bridge_event(event: BridgeEvent) -> Result<Self, RecordError> {
        let change = match event.detail_type.as_str() {
            "Object Created" => ObjectChange::Created,
            "Object Deleted" => ObjectChange::Removed,
            other => return Err(RecordError::OtherEvent { event_name: other.to_owned() }),
        };
        let reason = event.detail.reason.as_deref().unwrap_or_default();
        let object = event.detail.object;
        Ok(Self {
            change,
            event_name: bridge_event_name(change, reason, event.detail.deletion_type.as_deref()),
            time: event.time,
            region: event.region,
            bucket: event.detail.bucket.name,
            key: not_empty(object.key, "detail.object.key")?,
            size_bytes: object.size.unwrap_or(0),
            etag: object.etag.map(unquoted),
            version_id: object.version_id.filter(|version| version != "null"),
            sequencer: object.sequencer.filter(|sequencer| !sequencer.is_empty()),
        })
    }

    /// Whether this is what consoles create for an empty "folder": a key that ends in a slash.
    #[must_use]
    pub fn is_folder_marker(&self) -> bool {
        self.key.ends_with('/')
    }

    /// The event of this change, under the rules of the source that wants it.
    ///
    /// Its id depends on the change alone: S3's and EventBridge's word of one
    /// change become one event.
    #[must_use]
    pub fn to_envelope(&self, source: &Source, rules: &S3Source) -> Envelope {
        let bucket_arn = Place::new(&self.region, "").bucket_arn(&self.bucket);
        let mut envelope =
            Envelope::new(&self.id(rules.identity), &bucket_arn, rules.emits.clone());
        envelope.subject = Some(self.key.clone());
        envelope.time = Some(self.time);
        envelope.dataset.clone_from(&source.dataset);
        envelope.partitionkey = source.dataset.clone().or_else(|| Some(self.bucket.clone()));
        envelope.sequence.clone_from(&self.sequencer);
        let region = Some(self.region.clone());
        match self.change {
            ObjectChange::Created => envelope.with_payload(&DataArrived {
                bucket: self.bucket.clone(),
                key: self.key.clone(),
                size_bytes: self.size_bytes,
                etag: self.etag.clone(),
                version_id: self.version_id.clone(),
                sequencer: self.sequencer.clone(),
                event_name: self.event_name.clone(),
                region,
            }),
            ObjectChange::Removed => envelope.with_payload(&DataRemoved {
                bucket: self.bucket.clone(),
                key: self.key.clone(),
                version_id: self.version_id.clone(),
                sequencer: self.sequencer.clone(),
                event_name: self.event_name.clone(),
                region,
            }),
        }
    }

    fn id(&self, identity: Identity) -> String {
        let (version, sequencer) = (self.version_id.as_deref(), self.sequencer.as_deref());
        let etag = self.etag.as_deref().unwrap_or_default();
        let time;
        let identity = match (identity, version, sequencer) {
            (Identity::Content, _, _) if !etag.is_empty() => ObjectIdentity::Content(etag),
            (_, Some(version), _) => ObjectIdentity::Version(version),
            (_, None, Some(sequencer)) => ObjectIdentity::Sequencer(sequencer),
            (_, None, None) => {
                time = self.time.to_string();
                ObjectIdentity::TagAndTime(etag, &time)
            }
        };
        object_event_id(self.change, &self.bucket, &self.key, identity)
    }
}

impl S3Source {
    /// Whether a change of this object is what the source watches.
    #[must_use]
    pub fn wants(&self, event: &ObjectEvent) -> bool {
        let change = match self.emits.as_str() {
            "ml.data.removed.v1" => ObjectChange::Removed,
            _ => ObjectChange::Created,
        };
        self.bucket == event.bucket
            && change == event.change
            && event.key.starts_with(&self.prefix)
            && event.key.ends_with(&self.suffix)
    }
}

/// Decodes a key as S3's notifications write it.
///
/// ```
/// assert_eq!(bellwire_schema::s3::decode_key("raw/part+3%2B%C3%A9.csv").unwrap(), "raw/part 3+é.csv");
/// ```
///
/// # Errors
///
/// Where it is not UTF-8 after decoding.
pub fn decode_key(encoded_key: &str) -> Result<String, RecordError> {
    let spaced: Cow<'_, str> = match encoded_key.contains('+') {
        true => encoded_key.replace('+', " ").into(),
        false => encoded_key.into(),
    };
    percent_decode_str(&spaced)
        .decode_utf8()
        .map(Cow::into_owned)
        .map_err(|_| RecordError::KeyNotUtf8 { encoded_key: encoded_key.to_owned() })
}

fn change_of(event_name: &str) -> Result<ObjectChange, RecordError> {
    match event_name.split(':').next() {
        Some("ObjectCreated") => Ok(ObjectChange::Created),
        // A lifecycle rule's expiry is a removal too, under a name of its own.
        Some("ObjectRemoved" | "LifecycleExpiration") => Ok(ObjectChange::Removed),
        _ => Err(RecordError::OtherEvent { event_name: event_name.to_owned() }),
    }
}

/// S3's own name for what EventBridge tells by type and reason. Source: Amazon
/// S3 user guide, "EventBridge event message structure".
fn bridge_event_name(change: ObjectChange, reason: &str, deletion_type: Option<&str>) -> String {
    let is_marker = deletion_type == Some("Delete Marker Created");
    let name = match (change, reason, is_marker) {
        (ObjectChange::Created, "CopyObject", _) => "ObjectCreated:Copy",
        (ObjectChange::Created, "CompleteMultipartUpload", _) => {
            "ObjectCreated:CompleteMultipartUpload"
        }
        (ObjectChange::Created, "POST Object", _) => "ObjectCreated:Post",
        (ObjectChange::Created, _, _) => "ObjectCreated:Put",
        (ObjectChange::Removed, "Lifecycle Expiration", true) => {
            "LifecycleExpiration:DeleteMarkerCreated"
        }
        (ObjectChange::Removed, "Lifecycle Expiration", false) => "LifecycleExpiration:Delete",
        (ObjectChange::Removed, _, true) => "ObjectRemoved:DeleteMarkerCreated",
        (ObjectChange::Removed, _, false) => "ObjectRemoved:Delete",
    };
    name.to_owned()
}

/// No object has a key without a character, and no event a subject without one.
fn not_empty(key: String, field: &str) -> Result<String, RecordError> {
    if key.is_empty() {
        return Err(RecordError::Shape { field: field.to_owned(), problem: "is empty".to_owned() });
    }
    Ok(key)
}

fn unquoted(etag: String) -> String {
    match etag.contains('"') {
        true => etag.trim_matches('"').to_owned(),
        false => etag,
    }
}

fn typed<'a, T: Deserialize<'a>>(value: &'a Value) -> Result<T, RecordError> {
    // Where the field is that is wrong is asked only once something is: to note the
    // way to each costs more than to read it.
    T::deserialize(value).or_else(|_| {
        serde_path_to_error::deserialize(value).map_err(|error| RecordError::Shape {
            field: error.path().to_string(),
            problem: error.into_inner().to_string(),
        })
    })
}

/// A notification, and what tells other bodies from one.
#[derive(Deserialize)]
struct Plain<'a> {
    #[serde(rename = "Records", borrow)]
    records: Vec<Record<'a>>,
    #[serde(rename = "Event")]
    event: Option<IgnoredAny>,
    /// In the envelope that SNS puts around a message.
    #[serde(rename = "Type")]
    wrapping: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    #[serde(borrow)]
    event_version: Cow<'a, str>,
    #[serde(borrow)]
    event_name: Cow<'a, str>,
    event_time: Timestamp,
    aws_region: String,
    #[serde(borrow)]
    s3: RecordS3<'a>,
}

#[derive(Deserialize)]
struct RecordS3<'a> {
    bucket: BucketName,
    #[serde(borrow)]
    object: RecordObject<'a>,
}

#[derive(Deserialize)]
struct BucketName {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordObject<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    size: Option<u64>,
    e_tag: Option<String>,
    version_id: Option<String>,
    sequencer: Option<String>,
}

#[derive(Deserialize)]
struct BridgeEvent {
    #[serde(rename = "detail-type")]
    detail_type: String,
    time: Timestamp,
    region: String,
    detail: BridgeDetail,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct BridgeDetail {
    bucket: BucketName,
    object: BridgeObject,
    reason: Option<String>,
    deletion_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct BridgeObject {
    key: String,
    size: Option<u64>,
    etag: Option<String>,
    version_id: Option<String>,
    sequencer: Option<String>,
}
