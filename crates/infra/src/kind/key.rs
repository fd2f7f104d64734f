//! KMS keys, each known by its alias.
//!
//! A key is data: what it has encrypted can be read with it alone. So no apply deletes one,
//! and a destroy that is told to by name schedules that, as far away as KMS does.

use std::time::Duration;

use aws_sdk_kms::types::{KeyMetadata, KeyState, Tag};
use aws_sdk_resourcegroupstagging::types::TagFilter;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::policy;
use crate::resource::{Observed, Owner, Properties, Tags, own_tags};
use crate::wait::{Patience, retry};

/// Days from the call to the deletion: the most that KMS takes, within which it can be
/// called off. Source: AWS KMS API reference, `ScheduleKeyDeletion`.
const DELETED_AFTER_DAYS: i32 = 30;
/// What is done to a key takes a moment to be known everywhere. Source: AWS KMS developer
/// guide, "Eventual consistency".
const KNOWN_WITHIN: Patience = Patience {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(5),
    total: Duration::from_secs(60),
};
/// What one says of the data that it is.
const DATA: &str = "the key to what it has encrypted";

/// A symmetric key that encrypts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KmsKey {
    /// Its alias, `alias/` included.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its policy.
    pub policy: Value,
    /// Whether KMS renews its material every year.
    pub is_rotated: bool,
    /// Whether it can be used: neither disabled nor about to be deleted.
    pub is_enabled: bool,
    /// Its tags, as far as they are ours.
    pub tags: Tags,
}

impl KmsKey {
    pub(crate) fn summary(&self) -> String {
        if self.is_rotated { "rotated every year".to_owned() } else { "not rotated".to_owned() }
    }

    fn tag_list(&self) -> Vec<Tag> {
        let tag = |(key, value): (&String, &String)| {
            Tag::builder().tag_key(key).tag_value(value).build().expect("key and value are set")
        };
        self.tags.iter().map(tag).collect()
    }
}

/// A key by its ARN, id or alias; `None` where there is none.
pub(crate) async fn describe(aws: &Aws, key: &str) -> Result<Option<KeyMetadata>, CallError> {
    let found = aws.kms.describe_key().key_id(key).send().await;
    let found = absent_is_none(found.map_err(failed("kms:DescribeKey", key)))?;
    Ok(found.and_then(|found| found.key_metadata))
}

/// The policy of a key, by its id or ARN.
pub(crate) async fn policy_of(aws: &Aws, key_id: &str) -> Result<Value, CallError> {
    let found = aws.kms.get_key_policy().key_id(key_id).policy_name("default").send().await;
    let found = found.map_err(failed("kms:GetKeyPolicy", key_id))?;
    Ok(policy::parse(found.policy().unwrap_or_default()))
}

pub(crate) async fn observe(
    aws: &Aws,
    owner: &Owner,
    name: &str,
) -> Result<Option<Observed>, CallError> {
    let Some(found) = describe(aws, name).await? else {
        return Ok(None);
    };
    let (id, arn) = (found.key_id(), found.arn().unwrap_or_default());
    let tags = match aws.known.tags_of(arn) {
        Some(tags) => tags,
        None => tags_of(aws, id).await?,
    };
    let is_deleted = found.key_state() == Some(&KeyState::PendingDeletion);
    let key = KmsKey {
        name: name.to_owned(),
        description: found.description().unwrap_or_default().to_owned(),
        policy: policy_of(aws, id).await?,
        is_rotated: !is_deleted && is_rotated(aws, id).await?,
        is_enabled: found.enabled(),
        tags,
    };
    let (owned, data) = (owner.owns(&key.tags), Some(DATA.to_owned()));
    Ok(Some(Observed { owned, data, ..Observed::ours(Properties::Key(key)) }))
}

async fn tags_of(aws: &Aws, id: &str) -> Result<Tags, CallError> {
    let found = aws.kms.list_resource_tags().key_id(id).send().await;
    let found = found.map_err(failed("kms:ListResourceTags", id))?;
    let tags = found.tags.unwrap_or_default().into_iter();
    Ok(own_tags(tags.map(|tag| (tag.tag_key, tag.tag_value))))
}

async fn is_rotated(aws: &Aws, id: &str) -> Result<bool, CallError> {
    let found = aws.kms.get_key_rotation_status().key_id(id).send().await;
    Ok(found.map_err(failed("kms:GetKeyRotationStatus", id))?.key_rotation_enabled())
}

pub(crate) async fn create(aws: &Aws, key: &KmsKey) -> Result<(), CallError> {
    let id = match begun(aws, key).await? {
        Some(id) => {
            put_policy(aws, &id, key).await?;
            id
        }
        None => make(aws, key).await?,
    };
    set_rotation(aws, &id, key).await?;
    // Last, so that whoever knows it by its alias finds it whole.
    let aliased = async || {
        let create = aws.kms.create_alias().alias_name(&key.name).target_key_id(&id);
        create.send().await.map_err(failed("kms:CreateAlias", &key.name))
    };
    match retry(&KNOWN_WITHIN, is_not_known_yet, aliased).await {
        Err(error) if !error.is_code(&["AlreadyExistsException"]) => Err(error),
        _ => Ok(()),
    }
}

fn is_not_known_yet(error: &CallError) -> bool {
    error.is_code(&["NotFoundException"])
}

/// A key that an interrupted apply made and gave no alias.
async fn begun(aws: &Aws, key: &KmsKey) -> Result<Option<String>, CallError> {
    let filter =
        |(key, value): (&String, &String)| TagFilter::builder().key(key).values(value).build();
    let tagged = aws.tagging.get_resources().resource_type_filters("kms:key");
    let tagged = tagged.set_tag_filters(Some(key.tags.iter().map(filter).collect()));
    let mut pages = tagged.into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(failed("tag:GetResources", "kms:key"))?;
        let found = page.resource_tag_mapping_list.unwrap_or_default();
        for arn in found.into_iter().filter_map(|one| one.resource_arn) {
            let metadata = describe(aws, &arn).await?;
            let is_usable = |one: &KeyMetadata| {
                one.enabled() && one.description() == Some(key.description.as_str())
            };
            if let Some(found) = metadata.filter(is_usable) {
                return Ok(Some(found.key_id));
            }
        }
    }
    Ok(None)
}

async fn make(aws: &Aws, key: &KmsKey) -> Result<String, CallError> {
    let create = aws.kms.create_key().description(&key.description);
    let create = create.policy(key.policy.to_string()).set_tags(Some(key.tag_list()));
    let made = create.send().await.map_err(failed("kms:CreateKey", &key.name))?;
    let id = made.key_metadata.map(|made| made.key_id);
    id.ok_or_else(|| CallError::unexpected("kms:CreateKey", &key.name, "no key came back"))
}

async fn put_policy(aws: &Aws, id: &str, key: &KmsKey) -> Result<(), CallError> {
    let put = aws.kms.put_key_policy().key_id(id).policy_name("default");
    let put = put.policy(key.policy.to_string()).send().await;
    put.map_err(failed("kms:PutKeyPolicy", &key.name))?;
    Ok(())
}

async fn set_rotation(aws: &Aws, id: &str, key: &KmsKey) -> Result<(), CallError> {
    if !key.is_rotated {
        let disabled = aws.kms.disable_key_rotation().key_id(id).send().await;
        disabled.map_err(failed("kms:DisableKeyRotation", &key.name))?;
        return Ok(());
    }
    let enable = async || {
        let enabled = aws.kms.enable_key_rotation().key_id(id).send().await;
        enabled.map_err(failed("kms:EnableKeyRotation", &key.name))
    };
    retry(&KNOWN_WITHIN, is_not_known_yet, enable).await?;
    Ok(())
}

pub(crate) async fn update(aws: &Aws, key: &KmsKey, observed: &KmsKey) -> Result<(), CallError> {
    let Some(found) = describe(aws, &key.name).await? else {
        return create(aws, key).await;
    };
    let id = found.key_id();
    if found.key_state() == Some(&KeyState::PendingDeletion) {
        let cancelled = aws.kms.cancel_key_deletion().key_id(id).send().await;
        cancelled.map_err(failed("kms:CancelKeyDeletion", &key.name))?;
    }
    if !found.enabled() && key.is_enabled {
        let enabled = aws.kms.enable_key().key_id(id).send().await;
        enabled.map_err(failed("kms:EnableKey", &key.name))?;
    }
    if key.tags != observed.tags {
        let tagged = aws.kms.tag_resource().key_id(id).set_tags(Some(key.tag_list()));
        tagged.send().await.map_err(failed("kms:TagResource", &key.name))?;
    }
    if key.policy != observed.policy {
        put_policy(aws, id, key).await?;
    }
    if key.is_rotated != observed.is_rotated {
        set_rotation(aws, id, key).await?;
    }
    if key.description != observed.description {
        let described = aws.kms.update_key_description().key_id(id);
        let described = described.description(&key.description).send().await;
        described.map_err(failed("kms:UpdateKeyDescription", &key.name))?;
    }
    Ok(())
}

/// Schedules the deletion of a key that was named, and frees its alias.
pub(crate) async fn delete(aws: &Aws, key: &KmsKey, with_data: bool) -> Result<(), CallError> {
    let name = &key.name;
    if !with_data {
        let message = format!("it is {DATA}; name it to delete it all the same");
        return Err(CallError::unexpected("kms:ScheduleKeyDeletion", name, message));
    }
    let Some(found) = describe(aws, name).await? else {
        return Ok(());
    };
    if found.key_state() != Some(&KeyState::PendingDeletion) {
        let schedule = aws.kms.schedule_key_deletion().key_id(found.key_id());
        let scheduled = schedule.pending_window_in_days(DELETED_AFTER_DAYS).send().await;
        scheduled.map_err(failed("kms:ScheduleKeyDeletion", name))?;
    }
    let deleted = aws.kms.delete_alias().alias_name(name).send().await;
    absent_is_done(deleted.map_err(failed("kms:DeleteAlias", name)))
}
