//! SQS's JSON protocol.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::queue::Received;
use super::state::{Shared, Waiting};

/// Receipts are as long as SQS's, since every client sends them back.
const RECEIPT_PADDING: &str = concat!(
    "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0aAQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
    "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0aAQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
);

/// SQS's default. Source: Amazon SQS API reference, `CreateQueue`.
const VISIBILITY_S_DEFAULT: u64 = 30;

/// What SQS says no to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SqsError {
    #[error("the request is not what the action takes: {0}")]
    Request(#[from] serde_json::Error),
    #[error("the action {0} is none of the stub's")]
    Action(String),
    #[error("the receipt handle is not valid")]
    Receipt,
}

impl SqsError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Request(_) => "SerializationException",
            Self::Action(_) => "UnknownOperationException",
            Self::Receipt => "ReceiptHandleIsInvalid",
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Receive {
    queue_url: String,
    max_number_of_messages: Option<usize>,
    wait_time_seconds: Option<u64>,
    visibility_timeout: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Batch {
    queue_url: String,
    entries: Vec<BatchEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BatchEntry {
    id: String,
    receipt_handle: String,
    #[serde(default)]
    visibility_timeout: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Single {
    queue_url: String,
    receipt_handle: String,
    #[serde(default)]
    visibility_timeout: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Send {
    queue_url: String,
    message_body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetQueueUrl {
    queue_name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MessageAnswer {
    message_id: String,
    receipt_handle: String,
    body: String,
    attributes: Attributes,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Attributes {
    sent_timestamp: String,
    approximate_receive_count: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReceiveAnswer {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<MessageAnswer>,
}

/// Does what an action asks for.
pub(crate) async fn act(
    shared: &Arc<Shared>,
    action: &str,
    body: &[u8],
) -> Result<Vec<u8>, SqsError> {
    let answer = match action {
        "ReceiveMessage" => return receive(shared, serde_json::from_slice(body)?).await,
        "GetQueueUrl" => {
            let request: GetQueueUrl = serde_json::from_slice(body)?;
            json!({ "QueueUrl": format!("{}/111122223333/{}", shared.url, request.queue_name) })
        }
        "SendMessage" => send(shared, serde_json::from_slice(body)?),
        "DeleteMessage" => {
            let Single { queue_url, receipt_handle, .. } = serde_json::from_slice(body)?;
            let receipt = receipt_of(&receipt_handle).ok_or(SqsError::Receipt)?;
            // To SQS too, what is gone already was deleted.
            shared.lock().queue(name_of(&queue_url)).delete(receipt);
            json!({})
        }
        "DeleteMessageBatch" => delete_batch(shared, &serde_json::from_slice(body)?),
        "ChangeMessageVisibility" => {
            let Single { queue_url, receipt_handle, visibility_timeout } =
                serde_json::from_slice(body)?;
            change_visibility(shared, &queue_url, &receipt_handle, visibility_timeout)?;
            json!({})
        }
        "ChangeMessageVisibilityBatch" => change_batch(shared, &serde_json::from_slice(body)?),
        other => return Err(SqsError::Action(other.to_owned())),
    };
    Ok(serde_json::to_vec(&answer)?)
}

/// Waits for messages as long as the request says.
async fn receive(shared: &Arc<Shared>, request: Receive) -> Result<Vec<u8>, SqsError> {
    let count = request.max_number_of_messages.unwrap_or(1).clamp(1, 10);
    let visibility = shared.hidden_for(request.visibility_timeout.unwrap_or(VISIBILITY_S_DEFAULT));
    let deadline = Instant::now() + Duration::from_secs(request.wait_time_seconds.unwrap_or(0));
    loop {
        // Enabled before the look: what arrives between look and wait is heard.
        let bell = shared.bell.notified();
        tokio::pin!(bell);
        bell.as_mut().enable();
        let now = Instant::now();
        let (received, next_due) = {
            let mut state = shared.lock();
            let queue = state.queue(name_of(&request.queue_url));
            let received = queue.receive(count, visibility, now);
            let next_due = queue.next_due();
            state.counts.received += received.len() as u64;
            (received, next_due)
        };
        if !received.is_empty() || now >= deadline {
            let messages = received.into_iter().map(answer_of).collect();
            return Ok(serde_json::to_vec(&ReceiveAnswer { messages })?);
        }
        let until = next_due.map_or(deadline, |due| due.min(deadline));
        let _waiting = Waiting::begin(shared);
        tokio::select! {
            () = bell => {}
            () = tokio::time::sleep_until(until.into()) => {}
        }
    }
}

fn answer_of(received: Received) -> MessageAnswer {
    let Received { receipt, message } = received;
    MessageAnswer {
        message_id: id_of(message.id),
        receipt_handle: format!("{receipt:016x}{RECEIPT_PADDING}"),
        body: message.body.text(),
        attributes: Attributes {
            sent_timestamp: message.sent_ms.to_string(),
            approximate_receive_count: message.received_count.to_string(),
        },
    }
}

fn send(shared: &Arc<Shared>, request: Send) -> Value {
    let id = shared.send(name_of(&request.queue_url), request.message_body);
    json!({ "MessageId": id_of(id) })
}

fn delete_batch(shared: &Arc<Shared>, batch: &Batch) -> Value {
    let mut state = shared.lock();
    answer_batch(batch, |entry| {
        if state.dice.delete_entry_fails() {
            return Err(failure(&entry.id, "InternalError", false));
        }
        match receipt_of(&entry.receipt_handle) {
            Some(receipt) => {
                state.queue(name_of(&batch.queue_url)).delete(receipt);
                Ok(())
            }
            None => Err(failure(&entry.id, "ReceiptHandleIsInvalid", true)),
        }
    })
}

fn change_batch(shared: &Arc<Shared>, batch: &Batch) -> Value {
    answer_batch(batch, |entry| {
        let BatchEntry { id, receipt_handle, visibility_timeout } = entry;
        change_visibility(shared, &batch.queue_url, receipt_handle, *visibility_timeout)
            .map_err(|error| failure(id, error.code(), true))
    })
}

fn answer_batch(batch: &Batch, mut each: impl FnMut(&BatchEntry) -> Result<(), Value>) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for entry in &batch.entries {
        match each(entry) {
            Ok(()) => successful.push(json!({ "Id": entry.id })),
            Err(failure) => failed.push(failure),
        }
    }
    json!({ "Successful": successful, "Failed": failed })
}

fn failure(id: &str, code: &str, is_sender_fault: bool) -> Value {
    json!({ "Id": id, "Code": code, "Message": "as asked for", "SenderFault": is_sender_fault })
}

fn change_visibility(
    shared: &Arc<Shared>,
    queue_url: &str,
    receipt_handle: &str,
    visibility_s: u64,
) -> Result<(), SqsError> {
    let receipt = receipt_of(receipt_handle).ok_or(SqsError::Receipt)?;
    let visibility = shared.hidden_for(visibility_s);
    let mut state = shared.lock();
    let queue = state.queue(name_of(queue_url));
    if !queue.change_visibility(receipt, visibility, Instant::now()) {
        return Err(SqsError::Receipt);
    }
    drop(state);
    shared.bell.notify_waiters();
    Ok(())
}

fn name_of(queue_url: &str) -> &str {
    queue_url.rsplit('/').next().unwrap_or(queue_url)
}

fn receipt_of(handle: &str) -> Option<u64> {
    u64::from_str_radix(handle.get(..16)?, 16).ok()
}

fn id_of(id: u64) -> String {
    format!("5fea7756-0ea4-451a-a703-{id:012x}")
}
