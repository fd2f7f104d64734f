//! What Lambda takes out of the work queue: messages in a batch, of which only those
//! come back that the answer names. Pure.
//!
//! Of a message group, everything behind a first failure comes back with it, so that
//! the group goes on in order.
//! Source: AWS Lambda developer guide, "Implementing partial batch responses".

use std::collections::BTreeMap;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsMessage, SqsMessageAttribute};
use serde::Deserialize;
use serde_json::Value;

use crate::decode::Delivery;

/// A message of the work queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// SQS's id for it, by which the answer names it.
    pub item_id: String,
    /// Its message group, in a FIFO queue.
    pub group: Option<String>,
    /// What it carries.
    pub delivery: Delivery,
}

/// What SNS puts around a message on its way to a queue without raw delivery.
#[derive(Deserialize)]
struct Wrapping {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "MessageId")]
    message_id: String,
    #[serde(rename = "TopicArn")]
    topic_arn: String,
    #[serde(rename = "Message")]
    message: String,
    #[serde(rename = "MessageAttributes", default)]
    attributes: BTreeMap<String, WrappedAttribute>,
}

#[derive(Deserialize)]
struct WrappedAttribute {
    #[serde(rename = "Value")]
    value: String,
}

impl Queued {
    /// A record of an SQS event; `None` where it is none.
    pub(crate) fn of_sqs(record: &Value) -> Option<Self> {
        let record = SqsMessage::deserialize(record).ok()?;
        if record.event_source.as_deref() != Some("aws:sqs") {
            return None;
        }
        let item_id = record.message_id?;
        let body = record.body.unwrap_or_default();
        let group = record.attributes.get("MessageGroupId").cloned();
        let delivery = unwrapped(&body).unwrap_or_else(|| Delivery {
            message_id: Some(item_id.clone()),
            came_by: record.event_source_arn,
            body,
            attributes: record.message_attributes.into_iter().filter_map(text_of).collect(),
        });
        Some(Self { item_id, group, delivery })
    }
}

fn text_of((name, attribute): (String, SqsMessageAttribute)) -> Option<(String, String)> {
    Some((name, attribute.string_value?))
}

fn unwrapped(body: &str) -> Option<Delivery> {
    let wrapping: Wrapping = serde_json::from_str(body).ok()?;
    (wrapping.kind == "Notification").then(|| Delivery {
        message_id: Some(wrapping.message_id),
        came_by: Some(wrapping.topic_arn),
        body: wrapping.message,
        attributes: wrapping.attributes.into_iter().map(|(name, one)| (name, one.value)).collect(),
    })
}

/// The messages that must be handled one after the other: those of a group, in order.
/// One without a group goes by itself.
pub(crate) fn lanes_of(batch: Vec<Queued>) -> Vec<Vec<Queued>> {
    let mut lanes: Vec<Vec<Queued>> = Vec::new();
    let mut by_group: BTreeMap<String, usize> = BTreeMap::new();
    for queued in batch {
        let Some(group) = &queued.group else {
            lanes.push(vec![queued]);
            continue;
        };
        let index = *by_group.entry(group.clone()).or_insert(lanes.len());
        match lanes.get_mut(index) {
            Some(lane) => lane.push(queued),
            None => lanes.push(vec![queued]),
        }
    }
    lanes
}

/// The answer that makes these come back; the others Lambda deletes.
pub(crate) fn answer_of(failed: Vec<String>) -> SqsBatchResponse {
    let mut answer = SqsBatchResponse::default();
    answer.set_failures(failed);
    answer
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(id: &str, body: &str, group: Option<&str>) -> Value {
        let mut attributes = json!({ "ApproximateReceiveCount": "1" });
        if let Some(group) = group {
            attributes["MessageGroupId"] = json!(group);
        }
        json!({
            "messageId": id, "receiptHandle": "r", "body": body, "attributes": attributes,
            "messageAttributes": { "type": {
                "stringValue": "ml.data.arrived.v1", "dataType": "String",
                "stringListValues": [], "binaryListValues": [],
            } },
            "md5OfBody": "x", "eventSource": "aws:sqs", "awsRegion": "eu-west-1",
            "eventSourceARN": "arn:aws:sqs:eu-west-1:1:wine-work.fifo",
        })
    }

    #[test]
    fn a_raw_message_and_a_wrapped_one_carry_the_same() {
        let raw = Queued::of_sqs(&record("q-1", "{}", Some("wine"))).unwrap();
        let delivery = |message_id: &str, came_by: &str| Delivery {
            message_id: Some(message_id.to_owned()),
            came_by: Some(came_by.to_owned()),
            body: "{}".to_owned(),
            attributes: [("type".to_owned(), "ml.data.arrived.v1".to_owned())].into(),
        };
        assert_eq!(raw.item_id, "q-1");
        assert_eq!(raw.group.as_deref(), Some("wine"));
        assert_eq!(raw.delivery, delivery("q-1", "arn:aws:sqs:eu-west-1:1:wine-work.fifo"));

        let wrapping = json!({
            "Type": "Notification", "MessageId": "m-1", "TopicArn": "arn:aws:sns:eu-west-1:1:wine",
            "Message": "{}", "Timestamp": "2026-11-22T02:14:08.113Z",
            "MessageAttributes": { "type": { "Type": "String", "Value": "ml.data.arrived.v1" } },
        });
        let wrapped = Queued::of_sqs(&record("q-2", &wrapping.to_string(), None)).unwrap();
        assert_eq!((wrapped.item_id.as_str(), wrapped.group), ("q-2", None));
        assert_eq!(wrapped.delivery, delivery("m-1", "arn:aws:sns:eu-west-1:1:wine"));
    }

    #[test]
    fn the_messages_of_a_group_are_one_lane() {
        let batch =
            [("1", Some("a")), ("2", None), ("3", Some("b")), ("4", Some("a")), ("5", None)];
        let queued = batch.map(|(id, group)| Queued::of_sqs(&record(id, "{}", group)).unwrap());
        let ids: Vec<Vec<String>> = lanes_of(queued.to_vec())
            .into_iter()
            .map(|lane| lane.into_iter().map(|queued| queued.item_id).collect())
            .collect();
        assert_eq!(ids, [vec!["1", "4"], vec!["2"], vec!["3"], vec!["5"]]);
    }

    #[test]
    fn only_what_failed_is_named() {
        let answer = |failed| serde_json::to_value(answer_of(failed)).unwrap();
        assert_eq!(answer(vec![]), json!({ "batchItemFailures": [] }));
        let expected = json!({ "batchItemFailures": [{ "itemIdentifier": "q-1" }] });
        assert_eq!(answer(vec!["q-1".to_owned()]), expected);
    }
}
