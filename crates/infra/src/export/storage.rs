//! Where events and data are: topic, queues, buckets, table, key.

use bellwire_schema::fifo::is_fifo;
use serde_json::{Value, json};

use super::logical::POLICY;
use super::{Export, tag_list};
use crate::kind::bucket::Bucket;
use crate::kind::bucket_notification::{BucketNotification, Entry};
use crate::kind::key::KmsKey;
use crate::kind::log_group::LogGroup;
use crate::kind::queue::Queue;
use crate::kind::subscription::Subscription;
use crate::kind::table::{Key, Table};
use crate::kind::topic::Topic;
use crate::resource::ResourceId;

impl Export<'_> {
    pub(super) fn key(&mut self, id: &ResourceId, key: &KmsKey, after: &[ResourceId]) {
        let properties = json!({
            "Description": key.description,
            "KeyPolicy": key.policy,
            "EnableKeyRotation": key.is_rotated,
            "Enabled": key.is_enabled,
            "Tags": tag_list(&key.tags),
        });
        self.put(id, "AWS::KMS::Key", properties, after);
        let alias = json!({ "AliasName": key.name, "TargetKeyId": self.reference(id) });
        self.put_part(id, "Alias", "AWS::KMS::Alias", alias);
    }

    pub(super) fn topic(&mut self, id: &ResourceId, topic: &Topic, after: &[ResourceId]) {
        let is_fifo = is_fifo(&topic.name);
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let properties = json!({
            "TopicName": topic.name,
            "DisplayName": text(&topic.display_name),
            "KmsMasterKeyId": text(&topic.kms_key),
            "FifoTopic": is_fifo.then_some(true),
            "ContentBasedDeduplication": is_fifo.then_some(false),
            "Tags": tag_list(&topic.tags),
        });
        self.put(id, "AWS::SNS::Topic", properties, after);
        let policy = json!({ "Topics": [self.reference(id)], "PolicyDocument": topic.policy });
        self.put_part(id, POLICY, "AWS::SNS::TopicPolicy", policy);
    }

    pub(super) fn queue(&mut self, id: &ResourceId, queue: &Queue, after: &[ResourceId]) {
        let redrive = queue.redrive.as_ref().map(|redrive| {
            json!({
                "deadLetterTargetArn": redrive.dead_queue_arn,
                "maxReceiveCount": redrive.receives_max,
            })
        });
        let from = (!queue.redrive_from.is_empty()).then(
            || json!({ "redrivePermission": "byQueue", "sourceQueueArns": queue.redrive_from }),
        );
        let properties = json!({
            "QueueName": queue.name,
            "FifoQueue": is_fifo(&queue.name).then_some(true),
            "VisibilityTimeout": queue.visibility_timeout_s,
            "MessageRetentionPeriod": queue.retention_s,
            "ReceiveMessageWaitTimeSeconds": queue.receive_wait_s,
            "SqsManagedSseEnabled": queue.encrypted,
            "RedrivePolicy": redrive,
            "RedriveAllowPolicy": from,
            "Tags": tag_list(&queue.tags),
        });
        self.put(id, "AWS::SQS::Queue", properties, after);
        if !queue.policy.is_null() {
            let policy = json!({ "Queues": [self.reference(id)], "PolicyDocument": queue.policy });
            self.put_part(id, POLICY, "AWS::SQS::QueuePolicy", policy);
        }
    }

    pub(super) fn bucket(&mut self, id: &ResourceId, bucket: &Bucket, after: &[ResourceId]) {
        let blocked = bucket.public_access_blocked.then(|| {
            json!({
                "BlockPublicAcls": true,
                "BlockPublicPolicy": true,
                "IgnorePublicAcls": true,
                "RestrictPublicBuckets": true,
            })
        });
        let notification = self.notifications.get(bucket.name.as_str()).copied();
        let before = notification.map_or(&[][..], |(_, before)| before);
        let rule = json!({ "ServerSideEncryptionByDefault": {
            "SSEAlgorithm": bucket.encryption,
        } });
        let properties = json!({
            "BucketName": bucket.name,
            "PublicAccessBlockConfiguration": blocked,
            "VersioningConfiguration": bucket.versioned.then(|| json!({ "Status": "Enabled" })),
            "BucketEncryption": { "ServerSideEncryptionConfiguration": [rule] },
            "NotificationConfiguration": notification.map(|(found, _)| configuration(found)),
            "Tags": tag_list(&bucket.tags),
        });
        self.put(id, "AWS::S3::Bucket", properties, &[after, before].concat());
        if !bucket.policy.is_null() {
            let policy = json!({ "Bucket": self.reference(id), "PolicyDocument": bucket.policy });
            self.put_part(id, POLICY, "AWS::S3::BucketPolicy", policy);
        }
    }

    /// A bucket that somebody else made cannot be told anything by a template.
    pub(super) fn notification(&mut self, notification: &BucketNotification) {
        if self.notifications.contains_key(notification.bucket.as_str()) {
            return;
        }
        let configuration = configuration(notification);
        self.left_out.push(format!(
            "bucket {}, which the stack does not make: add to its notification configuration, \
             beside what stands there: {configuration}",
            notification.bucket
        ));
    }

    pub(super) fn table(&mut self, id: &ResourceId, table: &Table, after: &[ResourceId]) {
        let keys = || std::iter::once(&table.key).chain(table.indexes.values());
        let attributes = keys().flat_map(|key| std::iter::once(&key.hash).chain(&key.range));
        let attributes: std::collections::BTreeMap<_, _> =
            attributes.map(|attribute| (&attribute.name, &attribute.scalar)).collect();
        let attributes: Value = attributes
            .into_iter()
            .map(|(name, scalar)| json!({ "AttributeName": name, "AttributeType": scalar }))
            .collect();
        let index = |(name, key): (&String, &Key)| {
            json!({
                "IndexName": name,
                "KeySchema": schema(key),
                "Projection": { "ProjectionType": "ALL" },
            })
        };
        let expiry = table.expiry_attribute.as_ref();
        let expiry = expiry.map(|name| json!({ "AttributeName": name, "Enabled": true }));
        let recovery = table.point_in_time_recovery;
        let properties = json!({
            "TableName": table.name,
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": schema(&table.key),
            "AttributeDefinitions": attributes,
            "GlobalSecondaryIndexes": table.indexes.iter().map(index).collect::<Vec<_>>(),
            "TimeToLiveSpecification": expiry,
            "PointInTimeRecoverySpecification": { "PointInTimeRecoveryEnabled": recovery },
            "DeletionProtectionEnabled": table.deletion_protection,
            "Tags": tag_list(&table.tags),
        });
        self.put(id, "AWS::DynamoDB::Table", properties, after);
    }

    pub(super) fn log_group(&mut self, id: &ResourceId, group: &LogGroup, after: &[ResourceId]) {
        let properties = json!({
            "LogGroupName": group.name,
            "RetentionInDays": group.retention_days,
            "Tags": tag_list(&group.tags),
        });
        self.put(id, "AWS::Logs::LogGroup", properties, after);
    }

    pub(super) fn subscription(
        &mut self,
        id: &ResourceId,
        subscription: &Subscription,
        after: &[ResourceId],
    ) {
        let dead = subscription.dead_queue_arn.as_ref();
        let has_filter = !subscription.filter_policy.is_null();
        let properties = json!({
            "TopicArn": subscription.topic_arn,
            "Protocol": subscription.protocol,
            "Endpoint": subscription.endpoint,
            "FilterPolicy": subscription.filter_policy,
            "FilterPolicyScope": has_filter.then_some(&subscription.filter_scope),
            "RawMessageDelivery": subscription.is_raw.then_some(true),
            "RedrivePolicy": dead.map(|arn| json!({ "deadLetterTargetArn": arn })),
        });
        self.put(id, "AWS::SNS::Subscription", properties, after);
    }
}

fn schema(key: &Key) -> Value {
    let part = |name: &str, key_type: &str| json!({ "AttributeName": name, "KeyType": key_type });
    let range = key.range.iter().map(|range| part(&range.name, "RANGE"));
    std::iter::once(part(&key.hash.name, "HASH")).chain(range).collect()
}

/// Entries by what they notify. CloudFormation gives them no Ids.
fn configuration(notification: &BucketNotification) -> Value {
    let (mut queues, mut topics) = (Vec::new(), Vec::new());
    for entry in notification.entries.values() {
        for event in &entry.events {
            let filter = filter_of(entry);
            match entry.destination_arn.split(':').nth(2) {
                Some("sns") => topics.push(json!({
                    "Event": event, "Topic": entry.destination_arn, "Filter": filter,
                })),
                _ => queues.push(json!({
                    "Event": event, "Queue": entry.destination_arn, "Filter": filter,
                })),
            }
        }
    }
    let some = |entries: Vec<Value>| (!entries.is_empty()).then_some(entries);
    super::without_nulls(
        json!({ "QueueConfigurations": some(queues), "TopicConfigurations": some(topics) }),
    )
}

fn filter_of(entry: &Entry) -> Option<Value> {
    let rules: Vec<Value> = [("prefix", &entry.prefix), ("suffix", &entry.suffix)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| json!({ "Name": name, "Value": value }))
        .collect();
    (!rules.is_empty()).then(|| json!({ "S3Key": { "Rules": rules } }))
}
