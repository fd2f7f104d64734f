//! What a FIFO topic orders and deduplicates messages by: pure functions of the
//! event, so that whoever publishes it says the same.

use crate::envelope::Envelope;
use crate::id::hash_of;
use crate::limits::FIFO_ID_CHARS_MAX;
use crate::names::FIFO_SUFFIX;

/// The two ids that each message to a FIFO topic must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FifoIds {
    /// `MessageGroupId`: messages of one group are delivered in order.
    pub group: String,
    /// `MessageDeduplicationId`: a repetition within five minutes is accepted and
    /// not delivered.
    pub deduplication: String,
}

impl FifoIds {
    /// The ids of an event's message.
    ///
    /// ```
    /// use bellwire_schema::{Envelope, fifo::FifoIds};
    /// let mut event = Envelope::new("1", "/app", "training.requested".parse()?);
    /// event.partitionkey = Some("wine".to_owned());
    /// let ids = FifoIds::of(&event);
    /// assert_eq!(ids.group, "wine");
    /// assert_eq!(ids.deduplication, FifoIds::of(&event).deduplication);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn of(event: &Envelope) -> Self {
        let deduplication =
            hash_of(&["deduplication", &event.source, &event.id].map(str::as_bytes));
        Self { group: group_of(event), deduplication }
    }
}

/// The group of an event: its partition key, else its dataset, else its source.
/// What AWS would not take as a group's name is hashed.
#[must_use]
pub fn group_of(event: &Envelope) -> String {
    let keys = [&event.partitionkey, &event.dataset].into_iter().flatten();
    let key = keys.chain([&event.source]).find(|key| !key.is_empty());
    let key = key.map_or("", String::as_str);
    match is_id(key) {
        true => key.to_owned(),
        false => hash_of(&["group", key].map(str::as_bytes)),
    }
}

/// 1 to 128 of the printable characters of ASCII, without the space.
/// Source: Amazon SNS API reference, `Publish`, `MessageGroupId`.
fn is_id(text: &str) -> bool {
    (1..=FIFO_ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Whether a topic or queue is FIFO, by its name or ARN: `.fifo` ends the names of
/// those, and others' names have no dot.
/// Source: Amazon SNS API reference, `CreateTopic`; Amazon SQS API reference, `CreateQueue`.
#[must_use]
pub fn is_fifo(name_or_arn: &str) -> bool {
    name_or_arn.ends_with(FIFO_SUFFIX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(key: Option<&str>, dataset: Option<&str>, source: &str) -> Envelope {
        let mut event = Envelope::new("1", source, "training.requested".parse().unwrap());
        event.partitionkey = key.map(str::to_owned);
        event.dataset = dataset.map(str::to_owned);
        event
    }

    #[test]
    fn the_group_is_the_partition_key_then_the_dataset_then_the_source() {
        assert_eq!(group_of(&event(Some("key"), Some("wine"), "/app")), "key");
        assert_eq!(group_of(&event(None, Some("wine"), "/app")), "wine");
        assert_eq!(group_of(&event(Some(""), None, "/app")), "/app");
    }

    #[test]
    fn what_aws_would_not_take_is_hashed_and_stays_apart() {
        let long = "x".repeat(FIFO_ID_CHARS_MAX);
        assert_eq!(group_of(&event(Some(&long), None, "/app")), long);
        let others = ["red wine", "rosé", "a\nb", &format!("{long}x"), &format!("{long}y")];
        let mut groups: Vec<_> =
            others.iter().map(|key| group_of(&event(Some(key), None, "/app"))).collect();
        groups.sort();
        groups.dedup();
        assert_eq!(groups.len(), others.len());
        assert!(groups.iter().all(|group| is_id(group)), "{groups:?}");
    }

    #[test]
    fn one_cause_is_one_message_whatever_else_it_carries() {
        let id = |event: &Envelope| FifoIds::of(event).deduplication;
        let first = event(Some("a"), None, "/app");
        let mut again = event(Some("b"), None, "/app");
        again.context.traceparent = Some("00-1-1-01".to_owned());
        assert_eq!(id(&first), id(&again));
        let mut other = event(Some("a"), None, "/app");
        other.id = "2".to_owned();
        assert_ne!(id(&first), id(&other));
        assert_ne!(id(&first), id(&event(Some("a"), None, "/app2")));
    }

    #[test]
    fn fifo_names_are_told_by_their_end() {
        assert!(is_fifo("arn:aws:sns:eu-west-1:123456789012:wine.fifo"));
        assert!(!is_fifo("arn:aws:sns:eu-west-1:123456789012:winefifo"));
    }

    proptest! {
        #[test]
        fn every_event_has_ids_that_aws_takes(key in any::<Option<String>>(), source in ".+") {
            let FifoIds { group, deduplication } = FifoIds::of(&event(key.as_deref(), None, &source));
            prop_assert!(is_id(&group) && is_id(&deduplication));
        }
    }
}
