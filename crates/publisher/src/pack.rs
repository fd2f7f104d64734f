//! `pack`: events into batches that SNS takes whole. Pure.

use bellwire_schema::Envelope;
use bellwire_schema::attributes::{
    AttributesError, MessageAttribute, attributes_of, message_bytes,
};
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::limits::{HOP_MAX, SNS_BATCH_ENTRIES_MAX, SNS_MESSAGE_BYTES_MAX};
use std::collections::BTreeMap;

/// An event as SNS takes it: within every limit, since [`Entry::of`] is the one
/// way to make one.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    envelope: Envelope,
    body: String,
    attributes: Vec<MessageAttribute>,
    bytes: usize,
}

/// An event that SNS would not take, or that must not be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is too large.
    #[error(
        "the event is {bytes} bytes with its attributes: SNS takes {SNS_MESSAGE_BYTES_MAX}; put what is large into S3 and its URI into the event"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Too many events came before it.
    #[error(
        "hop {hop} is past the limit of {HOP_MAX}: each of these events was caused by the one before, which looks like a loop; does a run write where its own trigger watches?"
    )]
    HopLimit {
        /// How many.
        hop: u32,
    },
    /// Its attributes are not SNS's.
    #[error(transparent)]
    Attributes(#[from] AttributesError),
}

impl Unfit {
    /// Its code in the dead queue.
    #[must_use]
    pub const fn reason(&self) -> DeadReason {
        match self {
            Self::TooLarge { .. } => DeadReason::TooLarge,
            Self::HopLimit { .. } => DeadReason::HopLimit,
            Self::Attributes(_) => DeadReason::InvalidAttributes,
        }
    }
}

impl Entry {
    /// The entry of an event, where SNS would take it.
    ///
    /// # Errors
    ///
    /// Where the event alone is over a limit.
    pub fn of(envelope: Envelope) -> Result<Self, Unfit> {
        Self::or_back(envelope).map_err(|(unfit, _)| unfit)
    }

    /// The same, which gives an event that is unfit back.
    pub(crate) fn or_back(envelope: Envelope) -> Result<Self, (Unfit, Box<Envelope>)> {
        match Self::measure(&envelope) {
            Ok((body, attributes, bytes)) => Ok(Self { envelope, body, attributes, bytes }),
            Err(unfit) => Err((unfit, Box::new(envelope))),
        }
    }

    fn measure(envelope: &Envelope) -> Result<(String, Vec<MessageAttribute>, usize), Unfit> {
        let hop = envelope.context.hop;
        if hop > HOP_MAX {
            return Err(Unfit::HopLimit { hop });
        }
        let attributes = attributes_of(envelope, &BTreeMap::new())?;
        let body = envelope.to_json();
        let bytes = message_bytes(&body, &attributes);
        if bytes > SNS_MESSAGE_BYTES_MAX {
            return Err(Unfit::TooLarge { bytes });
        }
        Ok((body, attributes, bytes))
    }

    /// The event.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The event, and the message's body.
    #[must_use]
    pub fn into_parts(self) -> (Envelope, String) {
        (self.envelope, self.body)
    }

    /// The message's body: the event in CloudEvents' structured mode.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    /// The message's attributes.
    #[must_use]
    pub fn attributes(&self) -> &[MessageAttribute] {
        &self.attributes
    }

    /// What SNS counts of it against its limit.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Fills batches in order: a batch ends where its next entry would take it over
/// either limit. Nothing is lost, and nothing overtakes.
///
/// Generic over what an entry comes with, so that its owner finds it again.
#[must_use]
pub fn pack<T>(entries: Vec<(T, Entry)>) -> Vec<Vec<(T, Entry)>> {
    let mut batches: Vec<Vec<(T, Entry)>> = Vec::new();
    let mut bytes_left = 0;
    for (owner, entry) in entries {
        match batches.last_mut() {
            Some(batch) if batch.len() < SNS_BATCH_ENTRIES_MAX && entry.bytes <= bytes_left => {
                bytes_left -= entry.bytes;
                batch.push((owner, entry));
            }
            _ => {
                bytes_left = SNS_MESSAGE_BYTES_MAX - entry.bytes;
                batches.push(vec![(owner, entry)]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// An event whose entry is of exactly this size.
    fn event_of(bytes: usize) -> Envelope {
        let mut event = Envelope::new("1", "/app", "ml.data.arrived.v2".parse().unwrap());
        event.data = Some(json!(""));
        let empty = Entry::of(event.clone()).unwrap().bytes();
        event.data = Some(json!("x".repeat(bytes - empty)));
        event
    }

    #[test]
    fn an_event_may_fill_a_message_and_not_a_byte_more() {
        assert_eq!(
            Entry::of(event_of(SNS_MESSAGE_BYTES_MAX)).unwrap().bytes(),
            SNS_MESSAGE_BYTES_MAX
        );
        let bytes = SNS_MESSAGE_BYTES_MAX + 1;
        let unfit = Entry::of(event_of(bytes)).unwrap_err();
        assert_eq!(unfit, Unfit::TooLarge { bytes });
        assert_eq!(unfit.reason(), DeadReason::TooLarge);
    }

    #[test]
    fn a_loop_ends_at_the_hop_limit() {
        let mut event = event_of(400);
        event.context.hop = HOP_MAX;
        assert!(Entry::of(event.clone()).is_ok());
        event.context.hop += 1;
        assert_eq!(Entry::of(event).unwrap_err().reason(), DeadReason::HopLimit);
    }

    #[test]
    fn characters_that_sqs_does_not_carry_are_escaped_and_mean_the_same() {
        let mut event = event_of(400);
        event.subject = Some("raw/\u{FFFF}\u{FFFE}.csv".to_owned());
        let entry = Entry::of(event.clone()).unwrap();
        assert!(!entry.body().contains(['\u{FFFE}', '\u{FFFF}']));
        assert_eq!(Envelope::from_json(entry.body().as_bytes()).unwrap(), event);
    }

    fn sizes() -> impl Strategy<Value = Vec<usize>> {
        let size = prop_oneof![
            4 => 400_usize..2_000,
            2 => 20_000_usize..30_000,
            1 => 100_000..=SNS_MESSAGE_BYTES_MAX,
        ];
        prop::collection::vec(size, 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nothing_is_lost_or_overtaken_and_each_batch_is_within_both_limits(sizes in sizes()) {
            let entries: Vec<_> = sizes
                .iter()
                .enumerate()
                .map(|(owner, bytes)| (owner, Entry::of(event_of(*bytes)).unwrap()))
                .collect();
            let batches = pack(entries);
            let owners: Vec<usize> = batches.iter().flatten().map(|(owner, _)| *owner).collect();
            prop_assert_eq!(owners, (0..sizes.len()).collect::<Vec<_>>());
            let bytes_of = |batch: &[(usize, Entry)]| {
                batch.iter().map(|(_, entry)| entry.bytes()).sum::<usize>()
            };
            for batch in &batches {
                prop_assert!(!batch.is_empty() && batch.len() <= SNS_BATCH_ENTRIES_MAX);
                prop_assert!(bytes_of(batch) <= SNS_MESSAGE_BYTES_MAX);
            }
            for pair in batches.windows(2) {
                let is_full = pair[0].len() == SNS_BATCH_ENTRIES_MAX;
                let next_bytes = pair[1][0].1.bytes();
                prop_assert!(is_full || bytes_of(&pair[0]) + next_bytes > SNS_MESSAGE_BYTES_MAX);
            }
        }
    }
}
