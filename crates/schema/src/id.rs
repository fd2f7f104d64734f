//! Ids that are a function of the cause alone, so that every redelivery and
//! replay of one cause is one event, and one start.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits::STEP_FUNCTIONS_NAME_CHARS_MAX;
use crate::names::{Deployment, hex};

/// Bytes of a hash that an id keeps: 128 bits, 32 hexadecimal characters.
const ID_BYTES: usize = 16;

/// Hashes parts one after the other, each behind its length, so that no two
/// lists of parts hash the same bytes.
pub(crate) fn hash_of(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hex(&hasher.finalize()[..ID_BYTES])
}

/// Whether an object was created or removed: part of its event's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectChange {
    /// It was put, copied, or completed as a multipart upload.
    Created,
    /// It was deleted, or a delete marker was made.
    Removed,
}

/// What tells one write of a key from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectIdentity<'a> {
    /// The version, on a versioned bucket.
    Version(&'a str),
    /// The sequencer, on an unversioned one.
    Sequencer(&'a str),
    /// The content's eTag, where a source says `identity = "content"`.
    Content(&'a str),
    /// What is left where S3 gave neither: eTag and event time.
    TagAndTime(&'a str, &'a str),
}

/// The id of an object's event.
///
/// ```
/// use bellwire_schema::id::{ObjectChange, ObjectIdentity, object_event_id};
/// let id = |version| object_event_id(ObjectChange::Created, "lake", "raw/a.csv", ObjectIdentity::Version(version));
/// assert_eq!(id("v1"), id("v1"));
/// assert_ne!(id("v1"), id("v2"));
/// ```
#[must_use]
pub fn object_event_id(
    change: ObjectChange,
    bucket: &str,
    key: &str,
    identity: ObjectIdentity<'_>,
) -> String {
    let change = match change {
        ObjectChange::Created => "created",
        ObjectChange::Removed => "removed",
    };
    let (kind, first, second) = match identity {
        ObjectIdentity::Version(version) => ("version", version, ""),
        ObjectIdentity::Sequencer(sequencer) => ("sequencer", sequencer, ""),
        ObjectIdentity::Content(etag) => ("content", etag, ""),
        ObjectIdentity::TagAndTime(etag, time) => ("tag-time", etag, time),
    };
    let parts = [change, bucket, key, kind, first, second];
    hash_of(&parts.map(str::as_bytes))
}

/// The id of a run's completion: the same whether EventBridge told of it or the
/// sweep asked for it.
#[must_use]
pub fn completion_event_id(run_arn: &str, status: &str, redrive_count: u32) -> String {
    let redrive_count = redrive_count.to_string();
    hash_of(&["completion", run_arn, status, &redrive_count].map(str::as_bytes))
}

/// The id of a schedule's event.
#[must_use]
pub fn schedule_event_id(rule_arn: &str, scheduled_time: &str) -> String {
    hash_of(&["schedule", rule_arn, scheduled_time].map(str::as_bytes))
}

/// The name, under the claim check's prefix, of an event's payload: the same for
/// every repetition of the event, so that one object serves all of them.
///
/// ```
/// use bellwire_schema::id::claim_name;
/// assert_eq!(claim_name("/app", "1"), claim_name("/app", "1"));
/// assert_ne!(claim_name("/app", "1"), claim_name("/app1", ""));
/// ```
#[must_use]
pub fn claim_name(event_source: &str, event_id: &str) -> String {
    hash_of(&["claim", event_source, event_id].map(str::as_bytes))
}

/// What the names of all runs of a trigger begin with.
#[must_use]
pub fn run_name_prefix(trigger: &str) -> String {
    let room = STEP_FUNCTIONS_NAME_CHARS_MAX - 2 * ID_BYTES - 1;
    let trigger: String = trigger.chars().take(room).collect();
    format!("{trigger}-")
}

/// The key of one start: what the ledger remembers it under.
///
/// A hash of workflow, environment, trigger, the event's source and id, and a
/// generation, which is 0 until somebody asks for a deliberate re-run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartKey(String);

impl StartKey {
    /// The key under which this trigger starts on this event.
    #[must_use]
    pub fn of_event(
        deployment: &Deployment,
        trigger: &str,
        event_source: &str,
        event_id: &str,
        generation: u32,
    ) -> Self {
        let generation = generation.to_string();
        let environment = deployment.environment.as_deref().unwrap_or_default();
        let parts = [
            "start",
            &deployment.workflow,
            environment,
            trigger,
            event_source,
            event_id,
            &generation,
        ];
        Self(hash_of(&parts.map(str::as_bytes)))
    }

    /// The name of its run: `<trigger>-<start key>`, the trigger's name cut where both
    /// would be longer than an execution's name may be. A trigger's name has only
    /// characters that Step Functions allows, and so do the names of jobs of AWS Batch
    /// and of a pipeline's executions, which may be longer.
    #[must_use]
    pub fn run_name(&self, trigger: &str) -> String {
        format!("{}{self}", run_name_prefix(trigger))
    }

    /// Its 32 hexadecimal characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the `<stage>.started` event of this start.
    #[must_use]
    pub fn started_event_id(&self) -> String {
        hash_of(&["started", &self.0].map(str::as_bytes))
    }
}

impl fmt::Display for StartKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<String> for StartKey {
    /// Takes a key as the ledger holds it.
    fn from(key: String) -> Self {
        Self(key)
    }
}
