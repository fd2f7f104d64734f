//! SNS topics.

use aws_sdk_sns::types::Tag;
use bellwire_schema::fifo::is_fifo;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::policy;
use crate::resource::{Observed, Owner, Properties, Tags, own_tags};

/// A topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// What e-mail subscribers see as the sender.
    pub display_name: String,
    /// The KMS key that its messages are encrypted with; empty: none.
    pub kms_key: String,
    /// Its resource policy.
    pub policy: Value,
    /// Its tags, as far as they are ours.
    pub tags: Tags,
}

impl Topic {
    pub(crate) fn summary(&self) -> String {
        let encrypted = if self.kms_key.is_empty() { "not encrypted" } else { "encrypted" };
        let tls = if policy::is_tls_only(&self.policy) { "TLS only" } else { "TLS or not" };
        format!("{}{encrypted}, {tls}", if is_fifo(&self.name) { "FIFO, " } else { "" })
    }

    fn attributes(&self) -> [(&'static str, String); 3] {
        [
            ("DisplayName", self.display_name.clone()),
            ("KmsMasterKeyId", self.kms_key.clone()),
            ("Policy", self.policy.to_string()),
        ]
    }
}

fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build().expect("key and value are set")
}

pub(crate) async fn observe(
    aws: &Aws,
    owner: &Owner,
    name: &str,
) -> Result<Option<Observed>, CallError> {
    let arn = owner.place.topic_arn(name);
    let attributes = aws.sns.get_topic_attributes().topic_arn(&arn).send().await;
    let attributes = attributes.map_err(failed("sns:GetTopicAttributes", &arn));
    let Some(attributes) = absent_is_none(attributes)? else {
        return Ok(None);
    };
    let text = |key: &str| {
        attributes.attributes().and_then(|all| all.get(key)).cloned().unwrap_or_default()
    };
    let tags = match aws.known.tags_of(&arn) {
        Some(tags) => tags,
        None => tags_of(aws, &arn).await?,
    };
    let owned = owner.owns(&tags);
    let topic = Topic {
        name: name.to_owned(),
        display_name: text("DisplayName"),
        kms_key: text("KmsMasterKeyId"),
        policy: policy::parse(&text("Policy")),
        arn,
        tags,
    };
    Ok(Some(Observed { owned, ..Observed::ours(Properties::Topic(topic)) }))
}

async fn tags_of(aws: &Aws, arn: &str) -> Result<Tags, CallError> {
    let tags = aws.sns.list_tags_for_resource().resource_arn(arn).send().await;
    let tags = tags.map_err(failed("sns:ListTagsForResource", arn))?;
    Ok(own_tags(tags.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned()))))
}

pub(crate) async fn create(aws: &Aws, topic: &Topic) -> Result<(), CallError> {
    let attributes = topic.attributes().into_iter().filter(|(_, value)| !value.is_empty());
    let attributes = attributes.map(|(key, value)| (key.to_owned(), value));
    // Only a new topic can be made FIFO. Who publishes says what is a duplicate.
    let fifo = [("FifoTopic", "true"), ("ContentBasedDeduplication", "false")];
    let fifo = fifo.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let fifo = is_fifo(&topic.name).then_some(fifo).into_iter().flatten();
    aws.sns
        .create_topic()
        .name(&topic.name)
        .set_attributes(Some(attributes.chain(fifo).collect()))
        .set_tags(Some(topic.tags.iter().map(|(key, value)| tag(key, value)).collect()))
        .send()
        .await
        .map_err(failed("sns:CreateTopic", &topic.arn))?;
    Ok(())
}

pub(crate) async fn update(aws: &Aws, topic: &Topic, observed: &Topic) -> Result<(), CallError> {
    for ((key, value), (_, old)) in topic.attributes().into_iter().zip(observed.attributes()) {
        if value != old {
            aws.sns
                .set_topic_attributes()
                .topic_arn(&topic.arn)
                .attribute_name(key)
                .attribute_value(value)
                .send()
                .await
                .map_err(failed("sns:SetTopicAttributes", &topic.arn))?;
        }
    }
    if topic.tags != observed.tags {
        aws.sns
            .tag_resource()
            .resource_arn(&topic.arn)
            .set_tags(Some(topic.tags.iter().map(|(key, value)| tag(key, value)).collect()))
            .send()
            .await
            .map_err(failed("sns:TagResource", &topic.arn))?;
    }
    Ok(())
}

pub(crate) async fn delete(aws: &Aws, topic: &Topic) -> Result<(), CallError> {
    let deleted = aws.sns.delete_topic().topic_arn(&topic.arn).send().await;
    absent_is_done(deleted.map_err(failed("sns:DeleteTopic", &topic.arn)))
}
