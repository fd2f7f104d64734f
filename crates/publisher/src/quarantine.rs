//! `quarantine`: what cannot be handled goes to the dead queue, with the reason
//! and its bytes; only then is it done with.

use bellwire_schema::DeadLetter;
use bellwire_schema::dead_letter::{DeadReason, Hop};
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::call::CallError;
use crate::receive::Message;

/// SQS: bytes of one message. Source: Amazon SQS developer guide, "Message quotas".
const SQS_MESSAGE_BYTES_MAX: usize = 1_048_576;

/// The dead queue, as the publisher sees it.
pub trait DeadQueue: Send + Sync {
    /// Puts a message into it.
    fn send<'a>(&'a self, body: &'a str) -> BoxFuture<'a, Result<(), CallError>>;
}

/// Why something was not quarantined: it stays in the ingest queue.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// The dead queue did not accept it.
    #[error("the dead queue did not accept it")]
    Refused(#[source] CallError),
    /// In base64 it is larger than any message.
    #[error(
        "the record would be {bytes} bytes: SQS takes {SQS_MESSAGE_BYTES_MAX}; the queue's own redrive carries the message to the dead queue, without the reason"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// One record that cannot be handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Its code.
    pub reason: DeadReason,
    /// The same in words.
    pub message: String,
    /// The trace of its event, where it came so far.
    pub traceparent: Option<String>,
}

/// The record of a reject, with the whole body of the message that carried it.
#[must_use]
pub fn letter_of(
    message: &Message,
    reject: &Reject,
    queue_arn: &str,
    now: Timestamp,
) -> DeadLetter {
    let body = message.body.as_bytes();
    let mut letter = DeadLetter::new(reject.reason, &reject.message, Hop::Publisher, body, now);
    letter.source = Some(queue_arn.to_owned());
    letter.id = Some(message.id.clone());
    letter.traceparent.clone_from(&reject.traceparent);
    letter
}

/// Puts a record into the dead queue.
///
/// # Errors
///
/// Where the dead queue did not accept it.
pub async fn quarantine(queue: &dyn DeadQueue, letter: &DeadLetter) -> Result<(), QuarantineError> {
    // SQS does not carry these two; they can only be in the words of the reason.
    let json = letter.to_json().replace(['\u{FFFE}', '\u{FFFF}'], "\u{FFFD}");
    let bytes = json.len();
    if bytes > SQS_MESSAGE_BYTES_MAX {
        return Err(QuarantineError::TooLarge { bytes });
    }
    queue.send(&json).await.map_err(QuarantineError::Refused)
}

/// The dead queue on SQS.
#[derive(Debug, Clone)]
pub struct SqsDeadQueue {
    client: aws_sdk_sqs::Client,
    url: String,
}

impl SqsDeadQueue {
    /// The queue at this URL.
    #[must_use]
    pub fn new(client: aws_sdk_sqs::Client, url: String) -> Self {
        Self { client, url }
    }
}

impl DeadQueue for SqsDeadQueue {
    fn send<'a>(&'a self, body: &'a str) -> BoxFuture<'a, Result<(), CallError>> {
        Box::pin(async move {
            let call = self.client.send_message().queue_url(&self.url).message_body(body);
            let answer = call.send().await;
            answer.map(drop).map_err(|error| CallError::of("sqs:SendMessage", &error))
        })
    }
}
