//! What travels from a cause to all that follows from it: trace, correlation,
//! and how many events came before.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event_type::Stage;

/// The key of a run's input under which its [`RunContext`] stands.
pub const RUN_CONTEXT_KEY: &str = "bellwire";

/// The context of an event: what its effects inherit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventContext {
    /// W3C trace context, `00-<trace id>-<span id>-<flags>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// W3C trace state, never empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
    /// The workflow instance: the id of the event that began it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlationid: Option<String>,
    /// The id of the event that caused this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causationid: Option<String>,
    /// How many events came before, each caused by the one before.
    #[serde(default)]
    pub hop: u32,
}

impl EventContext {
    /// Object metadata, by S3's names without `x-amz-meta-`, with which a worker
    /// hands its context on to the event of the object it writes.
    ///
    /// ```
    /// use bellwire_schema::EventContext;
    /// let context = EventContext { correlationid: Some("c-1".into()), hop: 3, ..Default::default() };
    /// assert_eq!(EventContext::from_object_metadata(&context.to_object_metadata()), context);
    /// ```
    #[must_use]
    pub fn to_object_metadata(&self) -> BTreeMap<String, String> {
        let texts = [
            ("traceparent", &self.traceparent),
            ("tracestate", &self.tracestate),
            ("correlationid", &self.correlationid),
            ("causationid", &self.causationid),
        ];
        texts
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)))
            .chain([("hop".to_owned(), self.hop.to_string())])
            .collect()
    }

    /// Reads what [`Self::to_object_metadata`] wrote. Other metadata is ignored,
    /// and what is malformed counts as absent: an object's metadata is anyone's.
    #[must_use]
    pub fn from_object_metadata(metadata: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| metadata.get(name).cloned();
        let context = Self {
            traceparent: text("traceparent"),
            tracestate: text("tracestate"),
            correlationid: text("correlationid"),
            causationid: text("causationid"),
            hop: text("hop").and_then(|hop| hop.parse().ok()).unwrap_or(0),
        };
        context.without_malformed()
    }

    /// The same, but for texts that no event may carry: an object's metadata and a
    /// run's input are anyone's, and an event must not be lost for what stands there.
    #[must_use]
    pub fn without_malformed(self) -> Self {
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self {
            traceparent: self.traceparent.filter(|text| is_traceparent(text)),
            tracestate: text(self.tracestate),
            correlationid: text(self.correlationid),
            causationid: text(self.causationid),
            hop: self.hop,
        }
    }
}

/// Whether a text is a W3C `traceparent` of version 00 with non-zero ids.
#[must_use]
pub fn is_traceparent(text: &str) -> bool {
    let is_hex = |part: &str, length: usize| {
        part.len() == length
            && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_id = |part: &str, length| is_hex(part, length) && part.bytes().any(|byte| byte != b'0');
    match text.split('-').collect::<Vec<_>>()[..] {
        ["00", trace, span, flags] => is_id(trace, 32) && is_id(span, 16) && is_hex(flags, 2),
        _ => false,
    }
}

/// What a run is told of why it runs: it stands under `bellwire` in its input.
///
/// A worker that writes objects hands [`RunContext::event`] on in their metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunContext {
    /// The trigger that started the run.
    pub trigger: String,
    /// The stage that the run is of.
    pub stage: Stage,
    /// The dataset of the event that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// The start key, 32 hexadecimal characters.
    pub start_key: String,
    /// What every event that the run causes inherits: its `hop` is already theirs.
    pub event: EventContext,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparents_are_told_from_other_texts() {
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for bad in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }

    #[test]
    fn malformed_metadata_counts_as_absent() {
        let metadata = BTreeMap::from([
            ("traceparent".to_owned(), "garbage".to_owned()),
            ("hop".to_owned(), "-1".to_owned()),
            ("correlationid".to_owned(), String::new()),
        ]);
        assert_eq!(EventContext::from_object_metadata(&metadata), EventContext::default());
    }
}
