//! `publish`: batches onto the topic, with every entry's own result read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use bellwire_schema::fifo::FifoIds;
use bellwire_telemetry::metrics::{BATCH_EVENTS, EVENTS_RETRIED};
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::call::{CallError, Trouble, trouble_of};
use crate::gate::Gate;
use crate::pack::Entry;
use crate::spans::{self, TopicName};

/// How often an entry is tried that fails alone, while others are accepted.
const ENTRY_ATTEMPTS_MAX: u32 = 5;

/// Calls that fail as a whole before the entries go one by one: should one of
/// them be what breaks the call, its neighbours get through.
const CALLS_BEFORE_SPLIT: u32 = 3;

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

/// How long a batch may wait for its events to be accepted.
#[derive(Debug, Clone)]
pub struct Patience {
    /// No call is begun after this moment.
    pub deadline: Instant,
    /// No call is begun after this.
    pub give_up: CancellationToken,
}

impl Patience {
    /// What a future answers, unless patience ends before.
    pub(crate) async fn bound<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.give_up.cancelled() => None,
            done = future => Some(done),
            () = sleep_until(self.deadline) => None,
        }
    }
}

/// The one way to the topic: every call goes through the gate.
pub struct Outlet {
    topic: Arc<dyn Topic>,
    gate: Gate,
}

impl Outlet {
    /// An outlet with so many calls under way at most.
    #[must_use]
    pub fn new(topic: Arc<dyn Topic>, calls_max: usize) -> Self {
        Self { topic, gate: Gate::new(calls_max) }
    }

    /// The topic's name, for spans.
    #[must_use]
    pub fn topic_name(&self) -> &TopicName {
        self.topic.name()
    }

    /// What is before the topic.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Publishes one batch; answers with the fate of each entry, in their order.
    ///
    /// An entry that fails alone is tried a bounded number of times. Where the
    /// topic itself is down or denied, the batch waits until it is not, or until
    /// patience ends. A batch that is refused as a whole goes entry by entry, so
    /// that one bad event does not take nine good ones with it.
    pub async fn publish(&self, entries: &[&Entry], patience: &Patience) -> Vec<Fate> {
        let mut progress = Progress::of(entries.len());
        loop {
            let indices = progress.next();
            if indices.is_empty() {
                break;
            }
            let Some(pass) = patience.bound(self.gate.enter()).await else { break };
            BATCH_EVENTS.record(indices.len() as f64, || []);
            EVENTS_RETRIED.add(progress.tried(&indices), || []);
            let batch: Vec<&Entry> = indices.iter().map(|index| entries[*index]).collect();
            let result = call(self.topic.as_ref(), &batch).await;
            match &result {
                Ok(_) => pass.answered(),
                Err(error) if error.is_throttling() => pass.throttled(),
                Err(error) if error.trouble == Trouble::Refused => pass.answered(),
                Err(error) => pass.failed(&error.to_string()),
            }
            let pause = progress.note(&indices, result);
            if !pause.is_zero() && patience.bound(sleep(pause)).await.is_none() {
                break;
            }
        }
        progress.into_fates()
    }
}

/// Full jitter: anything up to a bound that doubles with each failure, up to `last`.
pub(crate) fn pause_after(failures: u32, last: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let bound = BACKOFF_FIRST.saturating_mul(1 << doublings).min(last);
    bound.mul_f64(fastrand::f64())
}

/// How far a batch has come.
struct Progress {
    entries: Vec<Tried>,
    /// Calls in a row that failed as a whole.
    calls_failed: u32,
    /// Whether each entry goes by itself.
    is_split: bool,
    /// Where the next one is looked for, so that none is always the first.
    cursor: usize,
}

/// One entry.
struct Tried {
    /// What is known of it; `Left` may still change unless it is final.
    fate: Option<Fate>,
    is_final: bool,
    /// How often it failed alone.
    failures: u32,
}

impl Progress {
    fn of(count: usize) -> Self {
        let entries = (0..count).map(|_| Tried { fate: None, is_final: false, failures: 0 });
        Self { entries: entries.collect(), calls_failed: 0, is_split: false, cursor: 0 }
    }

    /// The entries of the next call; none where all is known.
    fn next(&mut self) -> Vec<usize> {
        let count = self.entries.len();
        let pending = |index: &usize| !self.entries[*index].is_final;
        if !self.is_split {
            return (0..count).filter(pending).collect();
        }
        let next = (self.cursor..self.cursor + count).map(|index| index % count).find(pending);
        self.cursor = next.map_or(0, |index| index + 1);
        next.into_iter().collect()
    }

    /// How many of these went before.
    fn tried(&self, indices: &[usize]) -> u64 {
        indices.iter().filter(|index| self.entries[**index].fate.is_some()).count() as u64
    }

    /// Notes what a call told; answers with how long to pause before the next.
    fn note(&mut self, indices: &[usize], result: Result<Vec<EntryResult>, CallError>) -> Duration {
        match result {
            Ok(results) => {
                self.calls_failed = 0;
                let fates: Vec<Fate> = results.into_iter().map(fate_of).collect();
                indices.iter().zip(fates).map(|(index, fate)| self.entries[*index].note(fate)).max()
            }
            Err(error) => Some(self.note_error(indices, &error)),
        }
        .unwrap_or(Duration::ZERO)
    }

    fn note_error(&mut self, indices: &[usize], error: &CallError) -> Duration {
        let message = error.to_string();
        let is_denied = match error.trouble {
            Trouble::Refused => {
                if let [only] = indices {
                    self.entries[*only].note(Fate::Refused { message });
                }
                self.is_split = true;
                return Duration::ZERO;
            }
            Trouble::Denied => true,
            Trouble::Unavailable => false,
        };
        for index in indices {
            self.entries[*index].fate = Some(Fate::Left { message: message.clone(), is_denied });
        }
        self.calls_failed = self.calls_failed.saturating_add(1);
        self.is_split |= self.calls_failed >= CALLS_BEFORE_SPLIT;
        pause_after(self.calls_failed, BACKOFF_LAST)
    }

    fn into_fates(self) -> Vec<Fate> {
        let untried =
            || Fate::Left { message: "there was no time for it".to_owned(), is_denied: false };
        self.entries.into_iter().map(|entry| entry.fate.unwrap_or_else(untried)).collect()
    }
}

impl Tried {
    /// Notes SNS's word on this entry alone; answers with how long to pause.
    fn note(&mut self, fate: Fate) -> Duration {
        self.is_final = match &fate {
            Fate::Published | Fate::Refused { .. } | Fate::Left { is_denied: true, .. } => true,
            Fate::Left { is_denied: false, .. } => {
                self.failures += 1;
                self.failures >= ENTRY_ATTEMPTS_MAX
            }
        };
        self.fate = Some(fate);
        if self.is_final { Duration::ZERO } else { pause_after(self.failures, BACKOFF_LAST) }
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
        let is_fifo = self.name.is_fifo();
        let requests =
            entries.iter().enumerate().map(|(index, entry)| request_of(index, entry, is_fifo));
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

fn request_of(index: usize, entry: &Entry, is_fifo: bool) -> PublishBatchRequestEntry {
    let attributes = entry.attributes().iter().map(|attribute| {
        let value = MessageAttributeValue::builder()
            .data_type(attribute.data_type.as_str())
            .string_value(&attribute.value)
            .build()
            .expect("the data type is set");
        (attribute.name.clone(), value)
    });
    let ids = is_fifo.then(|| FifoIds::of(entry.envelope()));
    let (group, deduplication) = ids.map(|ids| (ids.group, ids.deduplication)).unzip();
    PublishBatchRequestEntry::builder()
        .id(index.to_string())
        .message(entry.body())
        .set_message_group_id(group)
        .set_message_deduplication_id(deduplication)
        .set_message_attributes(Some(attributes.collect()))
        .build()
        .expect("id and message are set")
}
