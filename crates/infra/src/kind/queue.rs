//! SQS queues.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName as Name;
use bellwire_schema::fifo::is_fifo;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::policy;
use crate::resource::{Observed, Owner, Properties, Tags, own_tags};
use crate::wait::{Patience, retry};

/// SQS gives a deleted queue's name free after 60 seconds. Source: Amazon SQS API
/// reference, `CreateQueue`.
const NAME_FREE_WITHIN: Patience = Patience {
    first: Duration::from_secs(2),
    longest: Duration::from_secs(10),
    total: Duration::from_secs(90),
};

/// A queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// How long a received message is hidden from other receivers.
    pub visibility_timeout_s: u32,
    /// How long a message is kept.
    pub retention_s: u32,
    /// How long a receive waits for a message.
    pub receive_wait_s: u32,
    /// Whether SQS encrypts its messages with a key of its own.
    pub encrypted: bool,
    /// Where messages go that nobody could handle.
    pub redrive: Option<Redrive>,
    /// The only queues that may redrive into this one; empty: no restriction.
    pub redrive_from: Vec<String>,
    /// Its resource policy.
    pub policy: Value,
    /// Its tags, as far as they are ours.
    pub tags: Tags,
}

/// A queue's redrive policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    /// The ARN of the dead queue.
    pub dead_queue_arn: String,
    /// How often a message is received before it goes there.
    pub receives_max: u32,
}

impl Queue {
    pub(crate) fn summary(&self) -> String {
        let redrive = match &self.redrive {
            Some(redrive) => format!(", dead after {} receives", redrive.receives_max),
            None if self.is_passing() => format!(", kept {} minutes", self.retention_s / 60),
            None => format!(", kept {} days", self.retention_s / 86_400),
        };
        let fifo = if is_fifo(&self.name) { "FIFO, " } else { "" };
        let encrypted = if self.encrypted { "encrypted" } else { "not encrypted" };
        let tls = if policy::is_tls_only(&self.policy) { "TLS only" } else { "TLS or not" };
        format!("{fifo}{encrypted}, {tls}{redrive}")
    }

    /// Whether it keeps messages for minutes only: what is in it is no data, and goes
    /// with it.
    fn is_passing(&self) -> bool {
        self.retention_s < 3_600
    }

    fn attributes(&self) -> HashMap<Name, String> {
        let redrive = self.redrive.as_ref().map_or_else(String::new, |redrive| {
            json!({
                "deadLetterTargetArn": redrive.dead_queue_arn,
                "maxReceiveCount": redrive.receives_max,
            })
            .to_string()
        });
        let redrive_from = if self.redrive_from.is_empty() {
            String::new()
        } else {
            json!({"redrivePermission": "byQueue", "sourceQueueArns": self.redrive_from})
                .to_string()
        };
        let policy = if self.policy.is_null() { String::new() } else { self.policy.to_string() };
        HashMap::from([
            (Name::VisibilityTimeout, self.visibility_timeout_s.to_string()),
            (Name::MessageRetentionPeriod, self.retention_s.to_string()),
            (Name::ReceiveMessageWaitTimeSeconds, self.receive_wait_s.to_string()),
            (Name::SqsManagedSseEnabled, self.encrypted.to_string()),
            (Name::RedrivePolicy, redrive),
            (Name::RedriveAllowPolicy, redrive_from),
            (Name::Policy, policy),
        ])
    }
}

/// A queue's URL; `None` where there is no such queue.
pub(crate) async fn url_of(aws: &Aws, name: &str) -> Result<Option<String>, CallError> {
    let url = aws.sqs.get_queue_url().queue_name(name).send().await;
    let url = absent_is_none(url.map_err(failed("sqs:GetQueueUrl", name)))?;
    Ok(url.and_then(|url| url.queue_url))
}

async fn url_or_absent(aws: &Aws, name: &str) -> Result<String, CallError> {
    url_of(aws, name).await?.ok_or_else(|| {
        CallError::unexpected("sqs:GetQueueUrl", name, "the queue has gone; plan and apply again")
    })
}

pub(crate) async fn observe(
    aws: &Aws,
    owner: &Owner,
    name: &str,
) -> Result<Option<Observed>, CallError> {
    // SQS takes it in this form everywhere, whatever endpoint it is asked at.
    let (url, arn) = (owner.place.queue_url(name), owner.place.queue_arn(name));
    let attributes = aws.sqs.get_queue_attributes().queue_url(&url);
    let attributes = attributes.attribute_names(Name::All).send().await;
    let Some(attributes) =
        absent_is_none(attributes.map_err(failed("sqs:GetQueueAttributes", name)))?
    else {
        return Ok(None);
    };
    let tags = match aws.known.tags_of(&arn) {
        Some(tags) => tags,
        None => tags_of(aws, name, &url).await?,
    };
    let attributes = attributes.attributes.unwrap_or_default();
    let owned = owner.owns(&tags);
    let queue = queue_of(owner, name, &attributes, tags);
    let data = messages_in(&attributes).filter(|_| !queue.is_passing());
    Ok(Some(Observed { owned, data, ..Observed::ours(Properties::Queue(queue)) }))
}

async fn tags_of(aws: &Aws, name: &str, url: &str) -> Result<Tags, CallError> {
    let tags = aws.sqs.list_queue_tags().queue_url(url).send().await;
    Ok(own_tags(tags.map_err(failed("sqs:ListQueueTags", name))?.tags.unwrap_or_default()))
}

fn queue_of(owner: &Owner, name: &str, attributes: &HashMap<Name, String>, tags: Tags) -> Queue {
    let text = |key: Name| attributes.get(&key).cloned().unwrap_or_default();
    let number = |key: Name| text(key).parse().unwrap_or(0);
    let redrive = policy::parse_value(&text(Name::RedrivePolicy));
    let redrive = redrive["deadLetterTargetArn"].as_str().map(|arn| Redrive {
        dead_queue_arn: arn.to_owned(),
        receives_max: receives_max_of(&redrive["maxReceiveCount"]),
    });
    let allow = policy::parse_value(&text(Name::RedriveAllowPolicy));
    let redrive_from = allow["sourceQueueArns"].as_array().into_iter().flatten();
    Queue {
        name: name.to_owned(),
        arn: owner.place.queue_arn(name),
        visibility_timeout_s: number(Name::VisibilityTimeout),
        retention_s: number(Name::MessageRetentionPeriod),
        receive_wait_s: number(Name::ReceiveMessageWaitTimeSeconds),
        encrypted: text(Name::SqsManagedSseEnabled) == "true",
        redrive,
        redrive_from: redrive_from.filter_map(|arn| arn.as_str().map(str::to_owned)).collect(),
        policy: policy::parse(&text(Name::Policy)),
        tags,
    }
}

/// SQS gives the count back as it was written: as a number or as text.
fn receives_max_of(value: &Value) -> u32 {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}

fn messages_in(attributes: &HashMap<Name, String>) -> Option<String> {
    let counts = [
        Name::ApproximateNumberOfMessages,
        Name::ApproximateNumberOfMessagesNotVisible,
        Name::ApproximateNumberOfMessagesDelayed,
    ];
    let count: u64 = counts.iter().filter_map(|key| attributes.get(key)?.parse::<u64>().ok()).sum();
    (count > 0).then(|| format!("about {count} message{}", if count == 1 { "" } else { "s" }))
}

pub(crate) async fn create(aws: &Aws, queue: &Queue) -> Result<(), CallError> {
    let mut attributes: HashMap<Name, String> =
        queue.attributes().into_iter().filter(|(_, value)| !value.is_empty()).collect();
    if is_fifo(&queue.name) {
        // Only a new queue can be made FIFO.
        attributes.insert(Name::FifoQueue, "true".to_owned());
    }
    let create = async || {
        aws.sqs
            .create_queue()
            .queue_name(&queue.name)
            .set_attributes(Some(attributes.clone()))
            .set_tags(Some(queue.tags.clone().into_iter().collect()))
            .send()
            .await
            .map_err(failed("sqs:CreateQueue", &queue.name))
    };
    retry(&NAME_FREE_WITHIN, |error| error.is_code(&["QueueDeletedRecently"]), create).await?;
    Ok(())
}

pub(crate) async fn update(aws: &Aws, queue: &Queue, observed: &Queue) -> Result<(), CallError> {
    let url = url_or_absent(aws, &queue.name).await?;
    let old = observed.attributes();
    let changed: HashMap<Name, String> =
        queue.attributes().into_iter().filter(|(key, value)| old.get(key) != Some(value)).collect();
    if !changed.is_empty() {
        let set = aws.sqs.set_queue_attributes().queue_url(&url).set_attributes(Some(changed));
        set.send().await.map_err(failed("sqs:SetQueueAttributes", &queue.name))?;
    }
    if queue.tags != observed.tags {
        let tags = Some(queue.tags.clone().into_iter().collect());
        let tagged = aws.sqs.tag_queue().queue_url(&url).set_tags(tags).send().await;
        tagged.map_err(failed("sqs:TagQueue", &queue.name))?;
    }
    Ok(())
}

/// Deletes a queue; one that holds messages only where `with_data` says so.
pub(crate) async fn delete(aws: &Aws, queue: &Queue, with_data: bool) -> Result<(), CallError> {
    let Some(url) = url_of(aws, &queue.name).await? else {
        return Ok(());
    };
    if !with_data && !queue.is_passing() {
        let attributes = aws.sqs.get_queue_attributes().queue_url(&url);
        let attributes = attributes.attribute_names(Name::All).send().await;
        let attributes = attributes.map_err(failed("sqs:GetQueueAttributes", &queue.name))?;
        if let Some(data) = messages_in(&attributes.attributes.unwrap_or_default()) {
            let message = format!("it holds {data} by now; name it to delete it all the same");
            return Err(CallError::unexpected("sqs:DeleteQueue", &queue.name, message));
        }
    }
    let deleted = aws.sqs.delete_queue().queue_url(&url).send().await;
    absent_is_done(deleted.map_err(failed("sqs:DeleteQueue", &queue.name)))
}
