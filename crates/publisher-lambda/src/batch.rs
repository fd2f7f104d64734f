//! One invocation's batch: from what Lambda took out of the queue to messages, and
//! from those that are left to the answer. Pure.

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use bellwire_publisher::receive::Message;
use serde_json::Value;

/// An invocation that no queue made.
#[derive(Debug, thiserror::Error)]
#[error(
    "this is no batch of an SQS event source ({reason}): send it to the workflow's ingest queue instead"
)]
pub(crate) struct NotABatch {
    reason: String,
}

/// The messages of an invocation.
///
/// # Errors
///
/// Where it is not what Lambda makes of a queue's messages.
pub(crate) fn messages_of(payload: Value) -> Result<Vec<Message>, NotABatch> {
    let event: SqsEvent =
        serde_json::from_value(payload).map_err(|error| NotABatch { reason: error.to_string() })?;
    let message = |record: SqsMessage| {
        let attribute = |name: &str| record.attributes.get(name).map(String::as_str);
        let (sent, receives) = (attribute("SentTimestamp"), attribute("ApproximateReceiveCount"));
        let message = Message::new(sent, receives);
        match (record.message_id, record.receipt_handle) {
            (Some(id), Some(receipt)) => {
                Ok(Message { id, receipt, body: record.body.unwrap_or_default(), ..message })
            }
            _ => Err(NotABatch { reason: "a record has no messageId or receiptHandle".to_owned() }),
        }
    };
    event.records.into_iter().map(message).collect()
}

/// What Lambda is answered: all but these it deletes.
pub(crate) fn answer_of(left: &[&Message]) -> SqsBatchResponse {
    let mut answer = SqsBatchResponse::default();
    answer.set_failures(left.iter().map(|message| message.id.clone()));
    answer
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(records: &Value) -> Value {
        json!({"Records": records})
    }

    fn record(id: &str) -> Value {
        json!({
            "messageId": id, "receiptHandle": format!("receipt of {id}"), "body": "{}",
            "attributes": {"ApproximateReceiveCount": "3", "SentTimestamp": "1700000000000"},
            "messageAttributes": {}, "md5OfBody": "99914b932bd37a50b983c5e7c90ae93b",
            "eventSource": "aws:sqs", "awsRegion": "eu-west-1",
            "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:wine-ingest",
        })
    }

    #[test]
    fn what_lambda_takes_from_a_queue_are_the_messages_that_a_receive_gives() {
        let messages = messages_of(event(&json!([record("a"), record("b")]))).unwrap();
        assert_eq!(messages.len(), 2);
        let Message { id, receipt, body, sent_at, receives } = &messages[1];
        assert_eq!((id.as_str(), receipt.as_str(), body.as_str()), ("b", "receipt of b", "{}"));
        assert_eq!(sent_at.map(|at| at.as_millisecond()), Some(1_700_000_000_000));
        assert_eq!(*receives, 3);
    }

    #[test]
    fn only_what_is_left_is_named_by_its_message_id() {
        let messages = messages_of(event(&json!([record("a"), record("b")]))).unwrap();
        let answer = |left: &[&Message]| serde_json::to_value(answer_of(left)).unwrap();
        assert_eq!(answer(&[]), json!({"batchItemFailures": []}));
        let expected = json!({"batchItemFailures": [{"itemIdentifier": "b"}]});
        assert_eq!(answer(&[&messages[1]]), expected);
    }

    #[test]
    fn what_no_queue_sent_is_an_error_that_says_where_it_belongs() {
        let object = json!([{"eventSource": "aws:s3", "s3": {"object": {"key": "k"}}}]);
        for payload in [json!({}), json!("hello"), event(&object)] {
            let error = messages_of(payload.clone()).unwrap_err().to_string();
            assert!(error.contains("ingest queue"), "{payload}: {error}");
        }
    }
}
