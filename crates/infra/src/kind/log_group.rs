//! CloudWatch Logs groups.

use serde::{Deserialize, Serialize};

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, failed};
use crate::resource::{Observed, Owner, Properties, Tags, own_tags};

/// A log group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogGroup {
    /// Its name.
    pub name: String,
    /// Its ARN, without the `:*` at its end.
    pub arn: String,
    /// How long it keeps what is in it; `None`: for ever.
    pub retention_days: Option<i32>,
    /// Its tags, as far as they are ours.
    pub tags: Tags,
}

impl LogGroup {
    pub(crate) fn summary(&self) -> String {
        match self.retention_days {
            Some(days) => format!("kept {days} days"),
            None => "kept for ever".to_owned(),
        }
    }
}

/// The names of all log groups that begin so, with their retention.
pub(crate) async fn list(aws: &Aws, prefix: &str) -> Result<Vec<(String, Option<i32>)>, CallError> {
    let mut found = Vec::new();
    let mut pages =
        aws.logs.describe_log_groups().log_group_name_prefix(prefix).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(failed("logs:DescribeLogGroups", prefix))?;
        found.extend(page.log_groups().iter().filter_map(|group| {
            Some((group.log_group_name()?.to_owned(), group.retention_in_days()))
        }));
    }
    Ok(found)
}

pub(crate) async fn observe(
    aws: &Aws,
    owner: &Owner,
    name: &str,
) -> Result<Option<Observed>, CallError> {
    let found = match &aws.known.log_groups {
        Some(known) if name.starts_with(&known.prefix) => known.retention_days.get(name).copied(),
        _ => list(aws, name).await?.into_iter().find(|(found, _)| found == name).map(|one| one.1),
    };
    let Some(retention_days) = found else {
        return Ok(None);
    };
    let arn = owner.place.log_group_arn(name);
    let tags = match aws.known.tags_of(&arn) {
        Some(tags) => tags,
        None => tags_of(aws, &arn).await?,
    };
    let owned = owner.owns(&tags);
    let group = LogGroup { name: name.to_owned(), arn, retention_days, tags };
    Ok(Some(Observed { owned, ..Observed::ours(Properties::LogGroup(group)) }))
}

async fn tags_of(aws: &Aws, arn: &str) -> Result<Tags, CallError> {
    let tags = aws.logs.list_tags_for_resource().resource_arn(arn).send().await;
    let tags = tags.map_err(failed("logs:ListTagsForResource", arn))?;
    Ok(own_tags(tags.tags.unwrap_or_default()))
}

pub(crate) async fn create(aws: &Aws, group: &LogGroup) -> Result<(), CallError> {
    let tags = Some(group.tags.clone().into_iter().collect());
    let created =
        aws.logs.create_log_group().log_group_name(&group.name).set_tags(tags).send().await;
    match created.map_err(failed("logs:CreateLogGroup", &group.name)) {
        Err(error) if !error.is_code(&["ResourceAlreadyExistsException"]) => return Err(error),
        _ => {}
    }
    set_retention(aws, group).await
}

async fn set_retention(aws: &Aws, group: &LogGroup) -> Result<(), CallError> {
    let name = &group.name;
    match group.retention_days {
        Some(days) => {
            let put = aws.logs.put_retention_policy().log_group_name(name).retention_in_days(days);
            put.send().await.map_err(failed("logs:PutRetentionPolicy", name))?;
        }
        None => {
            let delete = aws.logs.delete_retention_policy().log_group_name(name);
            delete.send().await.map_err(failed("logs:DeleteRetentionPolicy", name))?;
        }
    }
    Ok(())
}

pub(crate) async fn update(
    aws: &Aws,
    group: &LogGroup,
    observed: &LogGroup,
) -> Result<(), CallError> {
    if group.retention_days != observed.retention_days {
        set_retention(aws, group).await?;
    }
    if group.tags != observed.tags {
        let tags = Some(group.tags.clone().into_iter().collect());
        let tagged = aws.logs.tag_resource().resource_arn(&group.arn).set_tags(tags).send().await;
        tagged.map_err(failed("logs:TagResource", &group.arn))?;
    }
    Ok(())
}

pub(crate) async fn delete(aws: &Aws, group: &LogGroup) -> Result<(), CallError> {
    let deleted = aws.logs.delete_log_group().log_group_name(&group.name).send().await;
    absent_is_done(deleted.map_err(failed("logs:DeleteLogGroup", &group.name)))
}
