//! `publish`: batches onto the topic, with every entry's own result read.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use crate::call::{CallError, Trouble, trouble_of};
use crate::pack::Entry;
use crate::spans::{self, TopicName};

/// How often one batch is tried. The SDK repeats a call that fails as a whole by
/// itself; this counts what comes after that, and entries that failed alone.
const ATTEMPTS_MAX: u32 = 4;

/// The first pause between two attempts, at most; it doubles.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// The longest pause between two attempts.
pub(crate) const BACKOFF_LAST: Duration = Duration::from_secs(5);

/// SNS's word on one entry of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryResult {
    /// It is in `Successful`.
    Accepted,
    /// It is in `Failed`, or nowhere.
    Failed {
        /// SNS's code.
        code: String,
        /// SNS's words.
        message: String,
        /// Whether SNS blames the request.
        is_sender_fault: bool,
    },
}

/// The topic, as the publisher sees it.
pub trait Topic: Send + Sync {
    /// Publishes one batch; answers with one result for each entry, in their order.
    fn publish<'a>(
        &'a self,
        entries: &'a [&'a Entry],
    ) -> BoxFuture<'a, Result<Vec<EntryResult>, CallError>>;

    /// Its name, for spans.
    fn name(&self) -> &TopicName;
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// SNS accepted it.
    Published,
    /// SNS refused it, and would refuse it again.
    Refused {
        /// SNS's reason.
        message: String,
    },
    /// It was not accepted, and may be later.
    Left {
        /// Why.
        message: String,
        /// Whether a person must change something first.
        is_denied: bool,
    },
}

/// Publishes one batch: what failed for a passing reason is tried again, with
/// jittered pauses, until `deadline` or a bound. Answers with the fate of each
/// entry, in their order.
///
/// A batch that is refused as a whole is tried again entry by entry, so that one
/// bad event does not take nine good ones with it.
pub async fn publish(topic: &dyn Topic, entries: &[&Entry], deadline: Instant) -> Vec<Fate> {
    let mut attempt = Attempt { fates: vec![None; entries.len()], is_split: false };
    for count in 1..=ATTEMPTS_MAX {
        let was_split = attempt.is_split;
        attempt.make(topic, entries, deadline).await;
        if attempt.pending().is_empty() {
            break;
        }
        if attempt.is_split && !was_split {
            continue;
        }
        let pause = pause_after(count, BACKOFF_LAST);
        if count == ATTEMPTS_MAX || Instant::now() + pause > deadline {
            break;
        }
        sleep(pause).await;
    }
    let untried =
        || Fate::Left { message: "there was no time for it".to_owned(), is_denied: false };
    attempt.fates.into_iter().map(|fate| fate.unwrap_or_else(untried)).collect()
}

/// Full jitter: anything up to a bound that doubles with each failure, up to `last`.
pub(crate) fn pause_after(failures: u32, last: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let bound = BACKOFF_FIRST.saturating_mul(1 << doublings).min(last);
    bound.mul_f64(fastrand::f64())
}

/// How far a batch has come.
struct Attempt {
    /// What is known of each entry; `Left` may still change.
    fates: Vec<Option<Fate>>,
    /// Whether each entry now goes by itself.
    is_split: bool,
}

impl Attempt {
    fn pending(&self) -> Vec<usize> {
        let is_pending = |fate: &Option<Fate>| match fate {
            None => true,
            Some(Fate::Left { is_denied, .. }) => !is_denied,
            Some(_) => false,
        };
        (0..self.fates.len()).filter(|index| is_pending(&self.fates[*index])).collect()
    }

    async fn make(&mut self, topic: &dyn Topic, entries: &[&Entry], deadline: Instant) {
        let pending = self.pending();
        let calls: Vec<Vec<usize>> = match self.is_split {
            true => pending.into_iter().map(|index| vec![index]).collect(),
            false => vec![pending],
        };
        for indices in calls {
            if Instant::now() > deadline {
                return;
            }
            let batch: Vec<&Entry> = indices.iter().map(|index| entries[*index]).collect();
            match call(topic, &batch).await {
                Ok(results) => self.note_results(&indices, results),
                Err(error) => self.note_error(&indices, &error),
            }
        }
    }

    fn note_results(&mut self, indices: &[usize], results: Vec<EntryResult>) {
        for (index, result) in indices.iter().zip(results) {
            self.fates[*index] = Some(fate_of(result));
        }
    }

    fn note_error(&mut self, indices: &[usize], error: &CallError) {
        let message = error.to_string();
        let fate = match error.trouble {
            Trouble::Refused if indices.len() > 1 => {
                self.is_split = true;
                return;
            }
            Trouble::Refused => Fate::Refused { message },
            Trouble::Denied => Fate::Left { message, is_denied: true },
            Trouble::Unavailable => Fate::Left { message, is_denied: false },
        };
        for index in indices {
            self.fates[*index] = Some(fate.clone());
        }
    }
}

fn fate_of(result: EntryResult) -> Fate {
    let (code, message, is_sender_fault) = match result {
        EntryResult::Accepted => return Fate::Published,
        EntryResult::Failed { code, message, is_sender_fault } => (code, message, is_sender_fault),
    };
    let text = format!("sns:PublishBatch failed for this entry: {code}: {message}");
    match trouble_of(&code, if is_sender_fault { 400 } else { 500 }) {
        Trouble::Refused => Fate::Refused { message: text },
        Trouble::Denied => Fate::Left { message: text, is_denied: true },
        Trouble::Unavailable => Fate::Left { message: text, is_denied: false },
    }
}

async fn call(topic: &dyn Topic, batch: &[&Entry]) -> Result<Vec<EntryResult>, CallError> {
    let traceparents: Vec<&str> =
        batch.iter().filter_map(|entry| entry.envelope().context.traceparent.as_deref()).collect();
    let span = spans::send(&traceparents, batch.len(), topic.name());
    let result = topic.publish(batch).instrument(span.clone()).await;
    match &result {
        Err(error) => bellwire_telemetry::mark_failed(&span, error),
        Ok(results) if results.iter().any(|result| *result != EntryResult::Accepted) => {
            span.record("otel.status_code", "ERROR");
        }
        Ok(_) => {}
    }
    result
}

/// The topic on SNS.
#[derive(Debug, Clone)]
pub struct SnsTopic {
    client: aws_sdk_sns::Client,
    name: TopicName,
}

impl SnsTopic {
    /// The topic of this ARN.
    #[must_use]
    pub fn new(client: aws_sdk_sns::Client, arn: String) -> Self {
        Self { client, name: TopicName { arn } }
    }

    async fn publish_batch(&self, entries: &[&Entry]) -> Result<Vec<EntryResult>, CallError> {
        let requests = entries.iter().enumerate().map(|(index, entry)| request_of(index, entry));
        let answer = self
            .client
            .publish_batch()
            .topic_arn(&self.name.arn)
            .set_publish_batch_request_entries(Some(requests.collect()))
            .send()
            .await
            .map_err(|error| CallError::of("sns:PublishBatch", &error))?;
        let mut results: HashMap<String, EntryResult> = HashMap::new();
        for accepted in answer.successful.unwrap_or_default() {
            results.extend(accepted.id.map(|id| (id, EntryResult::Accepted)));
        }
        for failed in answer.failed.unwrap_or_default() {
            let result = EntryResult::Failed {
                code: failed.code,
                message: failed.message.unwrap_or_default(),
                is_sender_fault: failed.sender_fault,
            };
            results.insert(failed.id, result);
        }
        let unmentioned = || EntryResult::Failed {
            code: "NoResult".to_owned(),
            message: "the answer does not mention this entry".to_owned(),
            is_sender_fault: false,
        };
        let result_of =
            |index: usize| results.remove(&index.to_string()).unwrap_or_else(unmentioned);
        Ok((0..entries.len()).map(result_of).collect())
    }
}

impl Topic for SnsTopic {
    fn publish<'a>(
        &'a self,
        entries: &'a [&'a Entry],
    ) -> BoxFuture<'a, Result<Vec<EntryResult>, CallError>> {
        Box::pin(self.publish_batch(entries))
    }

    fn name(&self) -> &TopicName {
        &self.name
    }
}

fn request_of(index: usize, entry: &Entry) -> PublishBatchRequestEntry {
    let attributes = entry.attributes().iter().map(|attribute| {
        let value = MessageAttributeValue::builder()
            .data_type(attribute.data_type.as_str())
            .string_value(&attribute.value)
            .build()
            .expect("the data type is set");
        (attribute.name.clone(), value)
    });
    PublishBatchRequestEntry::builder()
        .id(index.to_string())
        .message(entry.body())
        .set_message_attributes(Some(attributes.collect()))
        .build()
        .expect("id and message are set")
}
