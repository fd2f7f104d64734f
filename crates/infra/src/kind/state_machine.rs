//! Step Functions state machines.

use std::time::Duration;

use aws_sdk_sfn::types::{StateMachineListItem, Tag};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::policy;
use crate::resource::{Observed, Owner, Properties, Tags, own_tags};
use crate::wait::{IAM_DELAY, Patience, poll, retry};

/// Deleting waits for what runs; this bounds only the name's release.
const GONE_WITHIN: Patience = Patience {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(5),
    total: Duration::from_secs(120),
};

/// A state machine, of the standard kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateMachine {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// Its definition, in Amazon States Language.
    pub definition: Value,
    /// The role that it runs as.
    pub role_arn: String,
    /// Its tags, as far as they are ours.
    pub tags: Tags,
}

impl StateMachine {
    pub(crate) fn summary(&self) -> String {
        let states = self.definition["States"].as_object().map_or(0, serde_json::Map::len);
        format!("{states} state{}", if states == 1 { "" } else { "s" })
    }

    fn tag_list(&self) -> Vec<Tag> {
        self.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
    }
}

/// The names of all state machines of the account that begin so.
pub(crate) async fn list(aws: &Aws, prefix: &str) -> Result<Vec<String>, CallError> {
    let mut names = Vec::new();
    let mut pages = aws.sfn.list_state_machines().into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(failed("states:ListStateMachines", "*"))?;
        let found = page.state_machines().iter().map(StateMachineListItem::name);
        names.extend(found.filter(|name| name.starts_with(prefix)).map(str::to_owned));
    }
    Ok(names)
}

pub(crate) async fn observe(
    aws: &Aws,
    owner: &Owner,
    name: &str,
) -> Result<Option<Observed>, CallError> {
    use aws_sdk_sfn::types::StateMachineStatus::Deleting;

    let arn = owner.place.state_machine_arn(name);
    let found = aws.sfn.describe_state_machine().state_machine_arn(&arn).send().await;
    let found = found.map_err(failed("states:DescribeStateMachine", &arn));
    let Some(found) = absent_is_none(found)?.filter(|found| found.status() != Some(&Deleting))
    else {
        return Ok(None);
    };
    let tags = match aws.known.tags_of(&arn) {
        Some(tags) => tags,
        None => tags_of(aws, &arn).await?,
    };
    let owned = owner.owns(&tags);
    let machine = StateMachine {
        name: name.to_owned(),
        arn,
        definition: policy::parse_value(found.definition()),
        role_arn: found.role_arn().to_owned(),
        tags,
    };
    Ok(Some(Observed { owned, ..Observed::ours(Properties::StateMachine(machine)) }))
}

async fn tags_of(aws: &Aws, arn: &str) -> Result<Tags, CallError> {
    let tags = aws.sfn.list_tags_for_resource().resource_arn(arn).send().await;
    let tags = tags.map_err(failed("states:ListTagsForResource", arn))?;
    let tags = tags.tags().iter().filter_map(|tag| {
        Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()))
    });
    Ok(own_tags(tags))
}

/// Whether Step Functions refuses a role that IAM has not told it of yet.
fn is_iam_delay(error: &CallError) -> bool {
    error.is_code(&["AccessDeniedException", "InvalidArn", "ValidationException"])
        && (error.says("assume") || error.says("is not authorized"))
}

pub(crate) async fn create(aws: &Aws, machine: &StateMachine) -> Result<(), CallError> {
    let create = async || {
        aws.sfn
            .create_state_machine()
            .name(&machine.name)
            .definition(machine.definition.to_string())
            .role_arn(&machine.role_arn)
            .set_tags(Some(machine.tag_list()))
            .send()
            .await
            .map_err(failed("states:CreateStateMachine", &machine.name))
    };
    match retry(&IAM_DELAY, is_iam_delay, create).await {
        Err(error) if !error.is_code(&["StateMachineAlreadyExists"]) => Err(error),
        _ => Ok(()),
    }
}

pub(crate) async fn update(
    aws: &Aws,
    machine: &StateMachine,
    observed: &StateMachine,
) -> Result<(), CallError> {
    if machine.definition != observed.definition || machine.role_arn != observed.role_arn {
        let update = async || {
            aws.sfn
                .update_state_machine()
                .state_machine_arn(&machine.arn)
                .definition(machine.definition.to_string())
                .role_arn(&machine.role_arn)
                .send()
                .await
                .map_err(failed("states:UpdateStateMachine", &machine.name))
        };
        retry(&IAM_DELAY, is_iam_delay, update).await?;
    }
    if machine.tags != observed.tags {
        let tagged = aws.sfn.tag_resource().resource_arn(&machine.arn);
        let tagged = tagged.set_tags(Some(machine.tag_list())).send().await;
        tagged.map_err(failed("states:TagResource", &machine.name))?;
    }
    Ok(())
}

pub(crate) async fn delete(aws: &Aws, machine: &StateMachine) -> Result<(), CallError> {
    let deleted = aws.sfn.delete_state_machine().state_machine_arn(&machine.arn).send().await;
    absent_is_done(deleted.map_err(failed("states:DeleteStateMachine", &machine.name)))?;
    let is_gone = async || {
        let found = aws.sfn.describe_state_machine().state_machine_arn(&machine.arn).send().await;
        let found = found.map_err(failed("states:DescribeStateMachine", &machine.name));
        Ok(absent_is_none(found)?.is_none())
    };
    if poll(&GONE_WITHIN, is_gone).await? {
        return Ok(());
    }
    let message = "executions of it still run, after which AWS deletes it";
    Err(CallError::unexpected("states:DeleteStateMachine", &machine.name, message))
}
