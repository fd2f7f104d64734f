//! `receive`: messages from the ingest queue, by long polls.

use std::collections::HashMap;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
    DeleteMessageBatchRequestEntry, Message as SqsMessage, MessageSystemAttributeName,
};
use bellwire_schema::limits::SQS_BATCH_ENTRIES_MAX;
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::call::CallError;

/// How long a poll waits for a first message. Source: Amazon SQS API reference,
/// `ReceiveMessage`: at most 20 s.
const POLL_WAIT_S: i32 = 20;

/// How long a received message is ours alone, in seconds; while it is being worked
/// on, that is renewed (see [`IngestQueue::hide`]). Short, so that what a killed
/// publisher had received comes back soon.
pub const VISIBILITY_S: u32 = 60;

/// A poll that takes longer than this has lost its connection.
const POLL_TIMEOUT: Duration = Duration::from_secs(POLL_WAIT_S as u64 + 10);

/// One message of the ingest queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The queue's id for it.
    pub id: String,
    /// What deletes it.
    pub receipt: String,
    /// What S3, EventBridge or SNS wrote.
    pub body: String,
    /// When it was sent, where the queue says so.
    pub sent_at: Option<Timestamp>,
    /// How often it was received, this time included; at least 1.
    pub receives: u32,
}

impl Message {
    /// An empty one, by the attributes as SQS writes them: milliseconds since 1970,
    /// and a count.
    #[must_use]
    pub fn new(sent_timestamp: Option<&str>, receive_count: Option<&str>) -> Self {
        let sent_at = sent_timestamp
            .and_then(|milliseconds| milliseconds.parse().ok())
            .and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok());
        let receives = receive_count.and_then(|count| count.parse().ok()).unwrap_or(1);
        let (id, receipt, body) = Default::default();
        Self { id, receipt, body, sent_at, receives }
    }
}

/// A message for which the queue did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotDone {
    /// Its place in the call.
    pub index: usize,
    /// The queue's code for why.
    pub code: String,
    /// Whether the same call would fail again.
    pub is_permanent: bool,
}

/// The ingest queue, as the bridge sees it.
pub trait IngestQueue: Send + Sync {
    /// Waits for messages, at most ten; none where the wait ends first.
    fn receive(&self) -> BoxFuture<'_, Result<Vec<Message>, CallError>>;

    /// Deletes messages by their receipts, at most ten; answers with those that
    /// it did not delete.
    fn delete<'a>(
        &'a self,
        receipts: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<NotDone>, CallError>>;

    /// Lets nobody else receive these messages, each for so many seconds from
    /// now (0: everybody may at once), at most ten; answers with those for which
    /// that failed.
    fn hide<'a>(
        &'a self,
        receipts: &'a [(&'a str, u32)],
    ) -> BoxFuture<'a, Result<Vec<NotDone>, CallError>>;
}

/// The ingest queue on SQS.
#[derive(Debug, Clone)]
pub struct SqsIngestQueue {
    client: aws_sdk_sqs::Client,
    url: String,
}

impl SqsIngestQueue {
    /// The queue at this URL.
    #[must_use]
    pub fn new(client: aws_sdk_sqs::Client, url: String) -> Self {
        Self { client, url }
    }

    async fn poll(&self) -> Result<Vec<Message>, CallError> {
        let patient = TimeoutConfig::builder()
            .operation_timeout(POLL_TIMEOUT)
            .operation_attempt_timeout(POLL_TIMEOUT)
            .read_timeout(POLL_TIMEOUT)
            .build();
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(SQS_BATCH_ENTRIES_MAX as i32)
            .wait_time_seconds(POLL_WAIT_S)
            .visibility_timeout(VISIBILITY_S as i32)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .customize()
            .config_override(aws_sdk_sqs::Config::builder().timeout_config(patient))
            .send()
            .await
            .map_err(|error| CallError::of("sqs:ReceiveMessage", &error))?;
        Ok(answer.messages.unwrap_or_default().into_iter().map(message_of).collect())
    }

    async fn delete_batch(&self, receipts: &[&str]) -> Result<Vec<NotDone>, CallError> {
        let mut request = self.client.delete_message_batch().queue_url(&self.url);
        for (index, receipt) in receipts.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(*receipt)
                .build()
                .expect("id and receipt are set");
            request = request.entries(entry);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| CallError::of("sqs:DeleteMessageBatch", &error))?;
        let done = answer.successful.iter().map(|done| done.id.as_str());
        Ok(not_done(receipts.len(), done, answer.failed))
    }

    async fn hide_batch(&self, receipts: &[(&str, u32)]) -> Result<Vec<NotDone>, CallError> {
        let mut request = self.client.change_message_visibility_batch().queue_url(&self.url);
        for (index, (receipt, seconds)) in receipts.iter().enumerate() {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(*receipt)
                .visibility_timeout(i32::try_from(*seconds).unwrap_or(i32::MAX))
                .build()
                .expect("id and receipt are set");
            request = request.entries(entry);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| CallError::of("sqs:ChangeMessageVisibilityBatch", &error))?;
        let done = answer.successful.iter().map(|done| done.id.as_str());
        Ok(not_done(receipts.len(), done, answer.failed))
    }
}

/// What of a batch call's entries, whose ids are their places, was not done.
fn not_done<'a>(
    count: usize,
    done: impl Iterator<Item = &'a str>,
    failed: Vec<BatchResultErrorEntry>,
) -> Vec<NotDone> {
    let mut answers: HashMap<usize, Option<NotDone>> = HashMap::new();
    answers.extend(done.filter_map(|id| Some((id.parse().ok()?, None))));
    for failed in failed {
        let Ok(index) = failed.id.parse() else { continue };
        let is_permanent = failed.sender_fault;
        answers.insert(index, Some(NotDone { index, code: failed.code, is_permanent }));
    }
    // What the answer does not mention is not done as far as we know.
    let unmentioned = |index| NotDone { index, code: "NoResult".to_owned(), is_permanent: false };
    (0..count)
        .filter_map(|index| answers.remove(&index).unwrap_or_else(|| Some(unmentioned(index))))
        .collect()
}

impl IngestQueue for SqsIngestQueue {
    fn receive(&self) -> BoxFuture<'_, Result<Vec<Message>, CallError>> {
        Box::pin(self.poll())
    }

    fn delete<'a>(
        &'a self,
        receipts: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<NotDone>, CallError>> {
        Box::pin(self.delete_batch(receipts))
    }

    fn hide<'a>(
        &'a self,
        receipts: &'a [(&'a str, u32)],
    ) -> BoxFuture<'a, Result<Vec<NotDone>, CallError>> {
        Box::pin(self.hide_batch(receipts))
    }
}

fn message_of(message: SqsMessage) -> Message {
    let attribute = |name: MessageSystemAttributeName| {
        let found = message.attributes.as_ref().and_then(|attributes| attributes.get(&name));
        found.map(String::as_str)
    };
    let sent = attribute(MessageSystemAttributeName::SentTimestamp);
    let receives = attribute(MessageSystemAttributeName::ApproximateReceiveCount);
    Message {
        id: message.message_id.unwrap_or_default(),
        receipt: message.receipt_handle.unwrap_or_default(),
        body: message.body.unwrap_or_default(),
        ..Message::new(sent, receives)
    }
}
