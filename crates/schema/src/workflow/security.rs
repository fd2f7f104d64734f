//! `[security]`: what is secure unless the file says otherwise, and what an organisation
//! demands of every role; and the key of the topic.

use serde::{Deserialize, Serialize};

use super::model::{SourceKind, Via, Workflow};
use super::problem::Fault;
use super::read::Tables;
use super::spelling;
use super::table::Section;
use crate::names::Place;

/// `kms_key` that has a key made.
const CREATE: &str = "create";
/// How the aliases of keys begin that AWS manages. Source: AWS KMS developer guide, "Aliases".
const ALIAS_OF_AWS: &str = "alias/aws/";
/// IAM: characters of a path, of which ours takes the rest. Source: IAM API reference, `CreateRole`.
const ROLE_PATH_CHARS_MAX: usize = 400;
/// IAM: characters of a policy's name. Source: IAM API reference, `CreatePolicy`.
const POLICY_NAME_CHARS_MAX: usize = 128;

/// `[security]`. Everything is on unless the file switches it off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// Whether the topic is encrypted: with its own key, or the one that AWS manages for SNS.
    pub encrypt_topic: bool,
    /// Whether SQS encrypts the queues with a key of its own.
    pub encrypt_queues: bool,
    /// Whether topic, queues and the buckets that are made refuse what does not come over TLS.
    pub tls_only: bool,
    /// Whether the buckets that are made are never public.
    pub block_public_access: bool,
    /// Whether the buckets that are made keep every version of an object.
    pub bucket_versioning: bool,
    /// Whether the ledger can be restored to any second of the last 35 days.
    pub point_in_time_recovery: bool,
    /// A managed policy, by its ARN or its name, beyond which no role may go.
    pub permissions_boundary: Option<String>,
    /// The IAM path that the paths of all roles begin with; it begins and ends in a slash.
    pub role_path: String,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            encrypt_topic: true,
            encrypt_queues: true,
            tls_only: true,
            block_public_access: true,
            bucket_versioning: true,
            point_in_time_recovery: true,
            permissions_boundary: None,
            role_path: "/".to_owned(),
        }
    }
}

impl Security {
    /// The ARN of the permissions boundary: a name alone is a policy of the account.
    #[must_use]
    pub fn boundary_arn(&self, place: &Place) -> Option<String> {
        let boundary = self.permissions_boundary.as_deref()?;
        Some(match boundary.starts_with("arn:") {
            true => boundary.to_owned(),
            false => format!("arn:{}:iam::{}:policy/{boundary}", place.partition, place.account),
        })
    }
}

/// The customer key that encrypts the topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopicKey {
    /// One that the deploy makes, with a policy that admits who publishes.
    Create,
    /// One that exists, by its ARN, its id or its alias.
    Named(String),
}

impl Workflow {
    /// The key that the topic is encrypted with, where it is not the one that AWS manages.
    #[must_use]
    pub fn topic_key(&self) -> Option<&TopicKey> {
        self.topic.kms_key.as_ref().filter(|_| self.security.encrypt_topic)
    }
}

/// `kms_key` of `[topic]`.
pub(super) fn topic_key(text: &str) -> Result<TopicKey, Fault> {
    if text == CREATE {
        return Ok(TopicKey::Create);
    }
    let name = text.split(':').next_back().unwrap_or(text);
    if name.starts_with(ALIAS_OF_AWS) {
        let remedy =
            "drop it, and the topic has the key that AWS manages for SNS; or write \"create\"";
        return Err(Fault::new("is a key that AWS manages, whose policy nobody changes", remedy));
    }
    spelling::kms_key(text).map(TopicKey::Named)
}

pub(super) fn security(section: &Section<'_>) -> Security {
    let default = Security::default();
    let is_on = |key: &str| section.boolean(key).unwrap_or(true);
    Security {
        encrypt_topic: is_on("encrypt_topic"),
        encrypt_queues: is_on("encrypt_queues"),
        tls_only: is_on("tls_only"),
        block_public_access: is_on("block_public_access"),
        bucket_versioning: is_on("bucket_versioning"),
        point_in_time_recovery: is_on("point_in_time_recovery"),
        permissions_boundary: section.checked("permissions_boundary", boundary),
        role_path: section.checked("role_path", role_path).unwrap_or(default.role_path),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c))
}

fn boundary(text: &str) -> Result<String, Fault> {
    // Those of AWS's own stand in no account.
    if let Some(name) = text.split_once(":iam::aws:policy/").map(|(_, name)| name) {
        let is_sound = text.starts_with("arn:aws") && name.split('/').all(is_word);
        return match is_sound {
            true => Ok(text.to_owned()),
            false => Err(Fault::new("is no such ARN", "it takes arn:aws:iam::aws:policy/NAME")),
        };
    }
    if text.starts_with("arn:") {
        return spelling::arn(text, "iam", &["policy/"]);
    }
    match is_word(text) && text.len() <= POLICY_NAME_CHARS_MAX {
        true => Ok(text.to_owned()),
        false => Err(Fault::new(
            "is no managed policy",
            "it takes the name of a policy of the account, or an ARN like arn:aws:iam::123456789012:policy/ml-boundary",
        )),
    }
}

fn role_path(text: &str) -> Result<String, Fault> {
    let inner = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
    let is_sound = text == "/" || inner.is_some_and(|inner| inner.split('/').all(is_word));
    let remedy = "it takes a path like \"/teams/ml/\", which begins and ends in a slash";
    if !is_sound || text.len() > ROLE_PATH_CHARS_MAX {
        return Err(Fault::new("is no path of IAM's", remedy));
    }
    // Source: IAM user guide, "Friendly names and paths": AWS's own roles are under these.
    if ["/aws-service-role/", "/aws-reserved/"].iter().any(|own| text.starts_with(own)) {
        return Err(Fault::new("is a path that AWS keeps for its own roles", remedy));
    }
    Ok(text.to_owned())
}

/// What `[security]` and `[topic]` are to each other, and to those who publish.
pub(super) fn check(tables: &Tables<'_>) {
    let (topic, security) = (&tables.topic, &tables.security);
    if !topic.is_sound || !security.is_sound {
        return;
    }
    let is_encrypted = security.value.as_ref().is_none_or(|security| security.encrypt_topic);
    let has_key = topic.value.as_ref().is_some_and(|topic| topic.kms_key.is_some());
    if has_key && !is_encrypted {
        let cause = "`[security] encrypt_topic = false` leaves it nothing to encrypt";
        topic.section.fault_of("kms_key", Fault::new(cause, "drop one of the two"));
    }
    if has_key || !is_encrypted {
        return;
    }
    for item in &tables.sources {
        let kind = item.value.as_ref().map(|source| &source.kind);
        if matches!(kind, Some(SourceKind::S3(s3)) if s3.via == Via::Topic) {
            let cause = "S3 cannot publish to a topic under the key that AWS manages";
            let remedy = "set `kms_key = \"create\"` in [topic], or name a key whose policy admits s3.amazonaws.com";
            item.section.fault_of("via", Fault::new(cause, remedy));
        }
    }
}
