//! What is secure by default: everything. Here is what the workflow file switches off,
//! what an organisation adds to every role, and the key of the topic.

use bellwire_schema::workflow::{Security, TopicKey, Workflow};
use serde_json::{Value, json};

use super::Desired;
use crate::kind::key::KmsKey;
use crate::policy::{allow, document, without_tls_only};
use crate::resource::{Kind, Owner, Properties, Resource, ResourceId};
use crate::topic_key;

/// The key that AWS manages for SNS.
const SNS_KEY: &str = "alias/aws/sns";

impl Desired<'_> {
    /// The key of the topic, where the deploy makes one.
    pub(super) fn topic_key(&mut self) {
        let Some(name) = made_key(self.owner, self.workflow) else { return };
        let key = KmsKey {
            name,
            description: format!("Topic of Bellwire workflow {}", self.workflow.name),
            policy: topic_key::policy(self.owner, self.workflow),
            is_rotated: true,
            is_enabled: true,
            tags: self.owner.tags(),
        };
        self.add(Properties::Key(key), vec![]);
    }

    /// What must be there before the topic.
    pub(super) fn before_topic(&self) -> Vec<ResourceId> {
        let key = made_key(self.owner, self.workflow);
        key.map(|name| ResourceId::new(Kind::Key, name)).into_iter().collect()
    }

    /// What SNS encrypts the topic with.
    pub(super) fn key_of_topic(&self) -> String {
        let key = self.workflow.topic_key();
        key.map_or_else(|| SNS_KEY.to_owned(), |key| topic_key::name(self.owner, key))
    }
}

fn made_key(owner: &Owner, workflow: &Workflow) -> Option<String> {
    let key = workflow.topic_key().filter(|key| **key == TopicKey::Create)?;
    Some(topic_key::name(owner, key))
}

/// Takes back what the workflow file switches off, and gives every role its boundary.
pub(super) fn settle(owner: &Owner, security: &Security, resources: &mut [Resource]) {
    let boundary = security.boundary_arn(&owner.place);
    for resource in resources {
        match &mut resource.properties {
            Properties::Topic(topic) => {
                if !security.encrypt_topic {
                    topic.kms_key.clear();
                }
                if !security.tls_only {
                    topic.policy = without_tls_only(&topic.policy);
                    if topic.policy.is_null() {
                        topic.policy = account_publishes(owner, &topic.arn);
                    }
                }
            }
            Properties::Queue(queue) => {
                queue.encrypted &= security.encrypt_queues;
                if !security.tls_only {
                    queue.policy = without_tls_only(&queue.policy);
                }
            }
            Properties::Bucket(bucket) => {
                bucket.public_access_blocked &= security.block_public_access;
                bucket.versioned &= security.bucket_versioning;
                if !security.tls_only {
                    bucket.policy = without_tls_only(&bucket.policy);
                }
            }
            Properties::Table(table) => {
                table.point_in_time_recovery &= security.point_in_time_recovery;
            }
            Properties::Role(role) => role.permissions_boundary.clone_from(&boundary),
            _ => {}
        }
    }
}

/// A topic is never without a policy. This one says what holds without it: in the account
/// decides each one's own permission.
fn account_publishes(owner: &Owner, topic_arn: &str) -> Value {
    let mut statement = allow("AccountPublishes", &["sns:Publish"], &[topic_arn.to_owned()]);
    let root = format!("arn:{}:iam::{}:root", owner.place.partition, owner.place.account);
    statement["Principal"] = json!({"AWS": root});
    document(&[statement])
}
