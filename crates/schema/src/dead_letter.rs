//! The record of what could not be handled: its reason, and its bytes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why something could not be handled.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum DeadReason {
    /// It is no JSON, or nothing that the ingest queue or the topic carries.
    Undecodable,
    /// A record of a known form lacks a field or has one of another type.
    MalformedRecord,
    /// An object's key is not UTF-8.
    KeyNotUtf8,
    /// It is no CloudEvents envelope of version 1.0.
    InvalidEnvelope,
    /// Its payload does not have the shape of its type.
    InvalidPayload,
    /// It is larger than the topic or the target takes.
    TooLarge,
    /// Its attributes are more than SNS delivers.
    InvalidAttributes,
    /// More events caused each other than any workflow has: a loop.
    HopLimit,
    /// The trigger's input mapping found nothing, or too much, in the event.
    InvalidInput,
    /// The target refused the start, and would refuse it again.
    StartRefused,
    /// The ledger cannot take the start's row, or cannot read what is there.
    LedgerRefused,
    /// SNS refused the event, and would refuse it again.
    PublishRefused,
    /// Its payload, which it left in S3 under the claim check, is not there any more.
    ClaimMissing,
    /// The deadline of a gather passed before what it waits for was there.
    GatherDeadline,
    /// A gather's manifest says what is not so, or cannot be read.
    ManifestUntrue,
}

impl DeadReason {
    /// Its code, as it stands in the record and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::MalformedRecord => "malformed-record",
            Self::KeyNotUtf8 => "key-not-utf8",
            Self::InvalidEnvelope => "invalid-envelope",
            Self::InvalidPayload => "invalid-payload",
            Self::TooLarge => "too-large",
            Self::InvalidAttributes => "invalid-attributes",
            Self::HopLimit => "hop-limit",
            Self::InvalidInput => "invalid-input",
            Self::StartRefused => "start-refused",
            Self::LedgerRefused => "ledger-refused",
            Self::PublishRefused => "publish-refused",
            Self::ClaimMissing => "claim-missing",
            Self::GatherDeadline => "gather-deadline",
            Self::ManifestUntrue => "manifest-untrue",
        }
    }
}

/// Where on its way something could not be handled.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Hop {
    /// Between the ingest queue and the topic.
    Publisher,
    /// Between the topic and the target.
    Handler,
}

/// One message or event that could not be handled, with its original bytes.
///
/// ```
/// use bellwire_schema::dead_letter::{DeadLetter, DeadReason, Hop};
/// let letter = DeadLetter::new(DeadReason::Undecodable, "not JSON", Hop::Publisher, b"\xffgarbage", jiff::Timestamp::UNIX_EPOCH);
/// assert_eq!(letter.body().unwrap(), b"\xffgarbage");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// Tells these records from other messages in the dead queue.
    pub bellwire_dead_letter: u32,
    /// Why.
    pub reason: DeadReason,
    /// The same in words, for people.
    pub message: String,
    /// Where on its way.
    pub hop: Hop,
    /// The trigger that it failed for, where it failed for one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// Where it came from: a queue's, topic's or bucket's ARN, or a URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The id of the message that carried it, or of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The original bytes, in base64.
    pub body_base64: String,
    /// The attributes that it travelled with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Its trace, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// When it was given up.
    pub time: Timestamp,
}

impl DeadLetter {
    /// The version of this record's form.
    pub const VERSION: u32 = 1;

    /// A record with what every one has.
    #[must_use]
    pub fn new(
        reason: DeadReason,
        message: impl Into<String>,
        hop: Hop,
        body: &[u8],
        time: Timestamp,
    ) -> Self {
        Self {
            bellwire_dead_letter: Self::VERSION,
            reason,
            message: message.into(),
            hop,
            trigger: None,
            source: None,
            id: None,
            body_base64: STANDARD.encode(body),
            attributes: BTreeMap::new(),
            traceparent: None,
            time,
        }
    }

    /// The record as the message that goes to the dead queue.
    ///
    /// # Panics
    ///
    /// Never: every part of it is plain JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a dead letter is plain JSON")
    }

    /// The original bytes; `None` where somebody damaged the record.
    #[must_use]
    pub fn body(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.body_base64).ok()
    }
}
