//! The payloads (`data`) of Bellwire's own event types.
//!
//! Published versions are append-only: a field may be added as optional, never
//! changed or removed. An envelope keeps its `data` as it came, so that fields
//! which this version does not know survive.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::envelope::Envelope;
use crate::event_type::StageVerb;

/// `ml.data.arrived.v1`: an object was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataArrived {
    /// The bucket's name.
    pub bucket: String,
    /// The object's key, decoded.
    pub key: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its entity tag, without quotes; a content hash only for plain,
    /// unencrypted single-part uploads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Its version, on a versioned bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// Orders the events of this one key: hexadecimal, compared after left-padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequencer: Option<String>,
    /// What S3 called it: `ObjectCreated:Put`.
    pub event_name: String,
    /// The bucket's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// `ml.data.removed.v1`: an object was deleted, or hidden by a delete marker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataRemoved {
    /// The bucket's name.
    pub bucket: String,
    /// The object's key, decoded.
    pub key: String,
    /// The version of the object or of the delete marker, on a versioned bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// Orders the events of this one key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequencer: Option<String>,
    /// What S3 called it: `ObjectRemoved:DeleteMarkerCreated`.
    pub event_name: String,
    /// The bucket's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// `ml.<stage>.requested.v1`: somebody asks for a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageRequested {
    /// Whatever the run is to know.
    #[serde(default)]
    pub parameters: Map<String, Value>,
}

/// `ml.<stage>.started.v1`: a run was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageStarted {
    /// The trigger that started it.
    pub trigger: String,
    /// The start key, 32 hexadecimal characters.
    pub start_key: String,
    /// The run's ARN.
    pub run_arn: String,
    /// The id of the event that started it.
    pub event_id: String,
}

/// `ml.<stage>.completed.v1`: a run ended well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageCompleted {
    /// What ended.
    pub run: Run,
    /// Numbers that the run reported of itself, by name.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// What it made.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// Its whole output, where that fits into an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
}

/// `ml.<stage>.failed.v1`: a run failed, timed out or was aborted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageFailed {
    /// What ended.
    pub run: Run,
    /// The error's name, where the target gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its cause in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Its ARN.
    pub arn: String,
    /// The target's own word for how it ended: `SUCCEEDED`, `FAILED`, `TIMED_OUT`, `ABORTED`.
    pub status: String,
    /// The trigger that started it, where Bellwire did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// From begin to end, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
}

/// Something that a run made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Artifact {
    /// What it is: `model`, `report`, `predictions`.
    pub name: String,
    /// Where it is: `s3://bucket/key`.
    pub uri: String,
    /// Its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

/// The typed view of an envelope's `data`.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// `ml.data.arrived.v1`.
    DataArrived(DataArrived),
    /// `ml.data.removed.v1`.
    DataRemoved(DataRemoved),
    /// `ml.<stage>.requested.v1`.
    Requested(StageRequested),
    /// `ml.<stage>.started.v1`.
    Started(StageStarted),
    /// `ml.<stage>.completed.v1`.
    Completed(StageCompleted),
    /// `ml.<stage>.failed.v1`.
    Failed(StageFailed),
    /// A type that this version does not define: passed through, not refused.
    Unknown,
}

impl Payload {
    /// Reads the payload of an envelope whose type Bellwire defines.
    ///
    /// # Errors
    ///
    /// Where `data` does not have the shape of its type; the error names the field.
    pub fn of(envelope: &Envelope) -> Result<Self, PayloadError> {
        let event_type = envelope.event_type.as_str();
        let data = envelope.data.as_ref();
        match event_type {
            "ml.data.arrived.v1" => return typed(event_type, data).map(Self::DataArrived),
            "ml.data.removed.v1" => return typed(event_type, data).map(Self::DataRemoved),
            _ if !event_type.ends_with(".v1") => return Ok(Self::Unknown),
            _ => {}
        }
        match envelope.event_type.stage_and_verb() {
            Some((_, StageVerb::Requested)) if data.is_none() => {
                Ok(Self::Requested(StageRequested::default()))
            }
            Some((_, StageVerb::Requested)) => typed(event_type, data).map(Self::Requested),
            Some((_, StageVerb::Started)) => typed(event_type, data).map(Self::Started),
            Some((_, StageVerb::Completed)) => typed(event_type, data).map(Self::Completed),
            Some((_, StageVerb::Failed)) => typed(event_type, data).map(Self::Failed),
            None => Ok(Self::Unknown),
        }
    }
}

fn typed<T: DeserializeOwned>(event_type: &str, data: Option<&Value>) -> Result<T, PayloadError> {
    let data = data.unwrap_or(&Value::Null);
    serde_path_to_error::deserialize(data).map_err(|error| PayloadError {
        event_type: event_type.to_owned(),
        field: match error.path().to_string().as_str() {
            "." => "data".to_owned(),
            path => format!("data.{path}"),
        },
        problem: error.into_inner().to_string(),
    })
}

/// A payload that does not have the shape of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} does not fit {event_type}: {problem}")]
pub struct PayloadError {
    /// The event's type.
    pub event_type: String,
    /// Where in the envelope: `data.size_bytes`.
    pub field: String,
    /// What is wrong there.
    pub problem: String,
}
