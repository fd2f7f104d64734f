//! Subscriptions of our topic.
//!
//! They take no tags. One is ours where its topic is, and where it sends what
//! cannot be delivered to our dead queue, which no subscription of anybody else
//! has a reason to do; all others are kept.

use aws_sdk_sns::types::Subscription as Listed;
use bellwire_schema::EventType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::policy;
use crate::resource::{Foreign, Kind, Observed, Properties, ResourceId};

/// What SNS lists in place of the ARN of a subscription that awaits its confirmation.
const PENDING: &str = "PendingConfirmation";

/// A subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// The topic's ARN.
    pub topic_arn: String,
    /// `lambda`, `sqs`, `https`, `email`.
    pub protocol: String,
    /// Whom it tells: an ARN, a URL, an address.
    pub endpoint: String,
    /// What it lets through; `null`: everything.
    pub filter_policy: Value,
    /// `MessageAttributes` or `MessageBody`: what the policy looks at.
    pub filter_scope: String,
    /// Whether a queue gets the message as it was published, with its attributes,
    /// rather than in SNS's wrapping.
    pub is_raw: bool,
    /// The ARN of the queue where what could not be delivered goes.
    pub dead_queue_arn: Option<String>,
}

impl Subscription {
    pub(crate) fn display_name(&self) -> String {
        let topic = self.topic_arn.rsplit(':').next().unwrap_or_default();
        let endpoint = match self.protocol.as_str() {
            "lambda" => self.endpoint.split(":function:").nth(1).unwrap_or(&self.endpoint),
            "sqs" => self.endpoint.rsplit(':').next().unwrap_or_default(),
            _ => &self.endpoint,
        };
        format!("{topic} -> {endpoint}")
    }

    pub(crate) fn summary(&self) -> String {
        let policy = &self.filter_policy;
        let types = policy["type"].as_array().or_else(|| policy["$or"][0]["type"].as_array());
        // Where a probe may come is of no interest.
        let types = types.into_iter().flatten().filter_map(Value::as_str);
        match types.filter(|name| *name != EventType::probe().as_str()).count() {
            0 => "all events".to_owned(),
            1 => "1 event type".to_owned(),
            count => format!("{count} event types"),
        }
    }

    fn redrive(&self) -> String {
        match &self.dead_queue_arn {
            Some(arn) => json!({"deadLetterTargetArn": arn}).to_string(),
            None => String::new(),
        }
    }

    /// SNS takes an empty policy for "let everything through".
    fn filter(&self) -> String {
        if self.filter_policy.is_null() { "{}".to_owned() } else { self.filter_policy.to_string() }
    }
}

/// What listens on a topic.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    pub(crate) ours: Vec<Observed>,
    pub(crate) foreign: Vec<Foreign>,
}

pub(crate) async fn observe_all(
    aws: &Aws,
    topic_arn: &str,
    dead_queue_arns: &[String],
    wanted: &[&Subscription],
) -> Result<Listening, CallError> {
    let mut listening = Listening::default();
    for listed in list(aws, topic_arn).await? {
        let arn = listed.subscription_arn().unwrap_or_default();
        let (protocol, endpoint) =
            (listed.protocol().unwrap_or_default(), listed.endpoint().unwrap_or_default());
        let twin = wanted.iter().find(|one| one.protocol == protocol && one.endpoint == endpoint);
        let is_pending = arn == PENDING || !arn.starts_with("arn:");
        let observed = match (twin, is_pending) {
            (Some(twin), true) => Some(pending(twin)),
            (None, true) => None,
            (_, false) => attributes_of(aws, topic_arn, &listed, arn).await?,
        };
        let is_ours = |observed: &Observed| {
            twin.is_some()
                || matches!(&observed.properties, Properties::Subscription(found)
                    if found.dead_queue_arn.as_ref().is_some_and(|arn| dead_queue_arns.contains(arn)))
        };
        match observed {
            Some(observed) if is_ours(&observed) => listening.ours.push(observed),
            _ => {
                let topic = topic_arn.rsplit(':').next().unwrap_or_default();
                let within = ResourceId::new(Kind::Topic, topic);
                listening.foreign.push(Foreign { within, name: format!("{protocol} {endpoint}") });
            }
        }
    }
    Ok(listening)
}

/// Nothing of a subscription can be read or changed before it is confirmed.
fn pending(wanted: &Subscription) -> Observed {
    Observed {
        notes: vec![format!("{} has yet to confirm", wanted.endpoint)],
        ..Observed::ours(Properties::Subscription(wanted.clone()))
    }
}

async fn list(aws: &Aws, topic_arn: &str) -> Result<Vec<Listed>, CallError> {
    let mut found = Vec::new();
    let mut pages =
        aws.sns.list_subscriptions_by_topic().topic_arn(topic_arn).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(failed("sns:ListSubscriptionsByTopic", topic_arn));
        let Some(page) = absent_is_none(page)? else {
            break;
        };
        found.extend(page.subscriptions.unwrap_or_default());
    }
    Ok(found)
}

async fn attributes_of(
    aws: &Aws,
    topic_arn: &str,
    listed: &Listed,
    arn: &str,
) -> Result<Option<Observed>, CallError> {
    let found = aws.sns.get_subscription_attributes().subscription_arn(arn).send().await;
    let found = found.map_err(failed("sns:GetSubscriptionAttributes", arn));
    let Some(found) = absent_is_none(found)? else {
        return Ok(None);
    };
    let text = |key: &str| {
        found.attributes().and_then(|all| all.get(key)).map(String::as_str).unwrap_or_default()
    };
    let filter = policy::parse_value(text("FilterPolicy"));
    let has_filter = filter.as_object().is_some_and(|keys| !keys.is_empty());
    let scope = text("FilterPolicyScope");
    let redrive = policy::parse_value(text("RedrivePolicy"));
    Ok(Some(Observed::ours(Properties::Subscription(Subscription {
        topic_arn: topic_arn.to_owned(),
        protocol: listed.protocol().unwrap_or_default().to_owned(),
        endpoint: listed.endpoint().unwrap_or_default().to_owned(),
        filter_policy: if has_filter { filter } else { Value::Null },
        filter_scope: if scope.is_empty() { "MessageAttributes" } else { scope }.to_owned(),
        is_raw: text("RawMessageDelivery") == "true",
        dead_queue_arn: redrive["deadLetterTargetArn"].as_str().map(str::to_owned),
    }))))
}

async fn arn_of(aws: &Aws, subscription: &Subscription) -> Result<Option<String>, CallError> {
    let listed = list(aws, &subscription.topic_arn).await?.into_iter().find(|listed| {
        listed.protocol() == Some(&subscription.protocol)
            && listed.endpoint() == Some(&subscription.endpoint)
    });
    Ok(listed.and_then(|listed| listed.subscription_arn).filter(|arn| arn.starts_with("arn:")))
}

pub(crate) async fn create(aws: &Aws, subscription: &Subscription) -> Result<(), CallError> {
    let attributes = [
        ("FilterPolicyScope", subscription.filter_scope.clone()),
        ("FilterPolicy", subscription.filter()),
        ("RedrivePolicy", subscription.redrive()),
        ("RawMessageDelivery", if subscription.is_raw { "true" } else { "" }.to_owned()),
    ];
    let attributes = attributes.into_iter().filter(|(_, value)| !value.is_empty());
    aws.sns
        .subscribe()
        .topic_arn(&subscription.topic_arn)
        .protocol(&subscription.protocol)
        .endpoint(&subscription.endpoint)
        .set_attributes(Some(attributes.map(|(key, value)| (key.to_owned(), value)).collect()))
        .return_subscription_arn(true)
        .send()
        .await
        .map_err(failed("sns:Subscribe", subscription.display_name()))?;
    Ok(())
}

pub(crate) async fn update(
    aws: &Aws,
    subscription: &Subscription,
    observed: &Subscription,
) -> Result<(), CallError> {
    let Some(arn) = arn_of(aws, subscription).await? else {
        return create(aws, subscription).await;
    };
    let changes = [
        (
            "FilterPolicyScope",
            subscription.filter_scope.clone(),
            subscription.filter_scope != observed.filter_scope,
        ),
        (
            "FilterPolicy",
            subscription.filter(),
            subscription.filter_policy != observed.filter_policy,
        ),
        (
            "RedrivePolicy",
            subscription.redrive(),
            subscription.dead_queue_arn != observed.dead_queue_arn,
        ),
        (
            "RawMessageDelivery",
            subscription.is_raw.to_string(),
            subscription.is_raw != observed.is_raw,
        ),
    ];
    for (name, value, _) in changes.into_iter().filter(|(_, _, changed)| *changed) {
        let set = aws.sns.set_subscription_attributes().subscription_arn(&arn);
        let set = set.attribute_name(name).attribute_value(value).send().await;
        set.map_err(failed("sns:SetSubscriptionAttributes", &arn))?;
    }
    Ok(())
}

pub(crate) async fn delete(aws: &Aws, subscription: &Subscription) -> Result<(), CallError> {
    // One that nobody confirmed cannot be cancelled; SNS drops it after two days.
    let Some(arn) = arn_of(aws, subscription).await? else {
        return Ok(());
    };
    let deleted = aws.sns.unsubscribe().subscription_arn(&arn).send().await;
    absent_is_done(deleted.map_err(failed("sns:Unsubscribe", &arn)))
}
