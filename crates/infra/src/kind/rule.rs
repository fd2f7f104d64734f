//! EventBridge rules on the default bus, with their targets.

use std::collections::BTreeMap;

use aws_sdk_eventbridge::types::{DeadLetterConfig, RuleState, Tag, Target as AwsTarget};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::policy;
use crate::resource::{Observed, Owner, Properties, Tags, own_tags};

/// A rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// What it is for.
    pub description: String,
    /// When it fires: `rate(1 minute)`.
    pub schedule: Option<String>,
    /// On which events it fires; `null` for a schedule.
    pub pattern: Value,
    /// Whether it fires at all.
    pub enabled: bool,
    /// Whom it tells, by the target's Id.
    pub targets: BTreeMap<String, Target>,
    /// Its tags, as far as they are ours.
    pub tags: Tags,
}

/// A rule's target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The ARN of a queue or function.
    pub arn: String,
    /// A constant that is sent in place of the event.
    pub input: Value,
    /// The ARN of the queue where what could not be delivered goes.
    pub dead_queue_arn: Option<String>,
}

impl Rule {
    pub(crate) fn summary(&self) -> String {
        let target = self.targets.values().next().map(|target| {
            let arn = target.arn.as_str();
            let name = arn.split(":function:").nth(1).or_else(|| arn.rsplit(':').next());
            name.unwrap_or_default().to_owned()
        });
        let on = self.schedule.as_deref().unwrap_or("events");
        format!("{on} -> {}", target.unwrap_or_default())
    }

    fn tag_list(&self) -> Vec<Tag> {
        let tag = |(key, value): (&String, &String)| {
            Tag::builder().key(key).value(value).build().expect("key and value are set")
        };
        self.tags.iter().map(tag).collect()
    }
}

pub(crate) async fn observe(
    aws: &Aws,
    owner: &Owner,
    name: &str,
) -> Result<Option<Observed>, CallError> {
    let found = aws.events.describe_rule().name(name).send().await;
    let Some(found) = absent_is_none(found.map_err(failed("events:DescribeRule", name)))? else {
        return Ok(None);
    };
    let arn = owner.place.rule_arn(name);
    let tags = match aws.known.tags_of(&arn) {
        Some(tags) => tags,
        None => tags_of(aws, &arn).await?,
    };
    let owned = owner.owns(&tags);
    let rule = Rule {
        name: name.to_owned(),
        arn,
        description: found.description().unwrap_or_default().to_owned(),
        schedule: found.schedule_expression().filter(|text| !text.is_empty()).map(str::to_owned),
        pattern: found.event_pattern().map_or(Value::Null, policy::parse_value),
        enabled: found.state() != Some(&RuleState::Disabled),
        targets: targets_of(aws, name).await?,
        tags,
    };
    Ok(Some(Observed { owned, ..Observed::ours(Properties::Rule(rule)) }))
}

async fn tags_of(aws: &Aws, arn: &str) -> Result<Tags, CallError> {
    let tags = aws.events.list_tags_for_resource().resource_arn(arn).send().await;
    let tags = tags.map_err(failed("events:ListTagsForResource", arn))?;
    Ok(own_tags(tags.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned()))))
}

async fn targets_of(aws: &Aws, name: &str) -> Result<BTreeMap<String, Target>, CallError> {
    let found = aws.events.list_targets_by_rule().rule(name).send().await;
    let found = absent_is_none(found.map_err(failed("events:ListTargetsByRule", name)))?;
    let targets = found.and_then(|found| found.targets).unwrap_or_default();
    let target = |target: AwsTarget| {
        let dead_queue_arn = target.dead_letter_config.and_then(|config| config.arn);
        let input = target.input.as_deref().map_or(Value::Null, policy::parse_value);
        (target.id, Target { arn: target.arn, input, dead_queue_arn })
    };
    Ok(targets.into_iter().map(target).collect())
}

async fn put_rule(aws: &Aws, rule: &Rule, tags: Option<Vec<Tag>>) -> Result<(), CallError> {
    let pattern = (!rule.pattern.is_null()).then(|| rule.pattern.to_string());
    aws.events
        .put_rule()
        .name(&rule.name)
        .description(&rule.description)
        .set_schedule_expression(rule.schedule.clone())
        .set_event_pattern(pattern)
        .state(if rule.enabled { RuleState::Enabled } else { RuleState::Disabled })
        .set_tags(tags)
        .send()
        .await
        .map_err(failed("events:PutRule", &rule.name))?;
    Ok(())
}

async fn put_targets(aws: &Aws, rule: &Rule) -> Result<(), CallError> {
    let target = |(id, target): (&String, &Target)| {
        let dead = target.dead_queue_arn.as_ref();
        let dead = dead.map(|arn| DeadLetterConfig::builder().arn(arn).build());
        AwsTarget::builder()
            .id(id)
            .arn(&target.arn)
            .set_input((!target.input.is_null()).then(|| target.input.to_string()))
            .set_dead_letter_config(dead)
            .build()
            .expect("id and ARN are set")
    };
    let targets = Some(rule.targets.iter().map(target).collect());
    let put = aws.events.put_targets().rule(&rule.name).set_targets(targets).send().await;
    let put = put.map_err(failed("events:PutTargets", &rule.name))?;
    match put.failed_entries() {
        [] => Ok(()),
        [entry, ..] => {
            let reason = entry.error_message().or(entry.error_code()).unwrap_or("no reason given");
            let target = entry.target_id().unwrap_or_default();
            let message = format!("target {target} was refused: {reason}");
            Err(CallError::unexpected("events:PutTargets", &rule.name, message))
        }
    }
}

async fn remove_targets(aws: &Aws, name: &str, ids: Vec<String>) -> Result<(), CallError> {
    if ids.is_empty() {
        return Ok(());
    }
    let removed = aws.events.remove_targets().rule(name).set_ids(Some(ids)).send().await;
    absent_is_done(removed.map_err(failed("events:RemoveTargets", name)))
}

pub(crate) async fn create(aws: &Aws, rule: &Rule) -> Result<(), CallError> {
    put_rule(aws, rule, Some(rule.tag_list())).await?;
    put_targets(aws, rule).await
}

pub(crate) async fn update(aws: &Aws, rule: &Rule, observed: &Rule) -> Result<(), CallError> {
    // PutRule ignores the tags of a rule that exists.
    let same =
        Rule { targets: observed.targets.clone(), tags: observed.tags.clone(), ..rule.clone() };
    if same != *observed {
        put_rule(aws, rule, None).await?;
    }
    if rule.targets != observed.targets {
        put_targets(aws, rule).await?;
        let stale = observed.targets.keys().filter(|id| !rule.targets.contains_key(*id));
        remove_targets(aws, &rule.name, stale.cloned().collect()).await?;
    }
    if rule.tags != observed.tags {
        let tagged = aws.events.tag_resource().resource_arn(&rule.arn);
        let tagged = tagged.set_tags(Some(rule.tag_list())).send().await;
        tagged.map_err(failed("events:TagResource", &rule.name))?;
    }
    Ok(())
}

pub(crate) async fn delete(aws: &Aws, rule: &Rule) -> Result<(), CallError> {
    remove_targets(aws, &rule.name, rule.targets.keys().cloned().collect()).await?;
    let deleted = aws.events.delete_rule().name(&rule.name).send().await;
    absent_is_done(deleted.map_err(failed("events:DeleteRule", &rule.name)))
}
