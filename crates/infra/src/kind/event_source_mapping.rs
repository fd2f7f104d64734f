//! Event source mappings: Lambda takes a queue's messages in batches and invokes a
//! function with them.
//!
//! One outlives its function and its queue, so that it is deleted by itself. It is
//! ours by its tags, or where the workflow asks for that very queue and alias;
//! whoever else reads a queue of ours is left alone, and shown.

use std::time::Duration;

use aws_sdk_lambda::types::{
    EventSourceMappingConfiguration as Configuration, FunctionResponseType, ScalingConfig,
};
use bellwire_schema::fifo::is_fifo;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::resource::{Foreign, Kind, Observed, Owner, Properties, ResourceId, Tags, own_tags};
use crate::wait::{IAM_DELAY, Patience, poll, retry};

/// Messages of one invocation that Lambda need not wait for; FIFO queues give no more.
/// Source: AWS Lambda API reference, `CreateEventSourceMapping`, `BatchSize` and
/// `MaximumBatchingWindowInSeconds`.
pub(crate) const BATCH_WITHOUT_WINDOW_MAX: u32 = 10;

/// A mapping takes from seconds to minutes to be made, changed or deleted.
const SETTLED_WITHIN: Patience = Patience {
    first: Duration::from_millis(250),
    longest: Duration::from_secs(5),
    total: Duration::from_secs(300),
};

/// An event source mapping from an SQS queue to a function's alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSourceMapping {
    /// The ARN of the queue.
    pub queue_arn: String,
    /// The ARN of the alias that is invoked: one put on the function itself would
    /// go past the alias.
    pub function_arn: String,
    /// Messages of one invocation, at most.
    pub batch_size: u32,
    /// How long Lambda gathers messages for a batch, in seconds.
    pub batching_window_s: u32,
    /// Invocations under way together, at most: 2 to 1,000; `None`: as many as the
    /// function may have.
    pub concurrency_max: Option<u32>,
    /// Whether the function answers which messages of a batch failed, so that only
    /// those come back.
    pub reports_failures: bool,
    /// Whether messages are taken.
    pub enabled: bool,
    /// Its tags, as far as they are ours.
    pub tags: Tags,
}

impl EventSourceMapping {
    /// A mapping for batches of at most `batch_size`, of which only what failed comes
    /// back. FIFO queues give at most ten and take no batching window; on others more
    /// than ten take one, and the shortest is a second.
    pub(crate) fn new(
        queue_arn: String,
        function_arn: String,
        batch_size: u32,
        tags: Tags,
    ) -> Self {
        let is_fifo = is_fifo(&queue_arn);
        let batch_size =
            if is_fifo { batch_size.min(BATCH_WITHOUT_WINDOW_MAX) } else { batch_size };
        Self {
            queue_arn,
            function_arn,
            batch_size,
            batching_window_s: u32::from(batch_size > BATCH_WITHOUT_WINDOW_MAX),
            concurrency_max: None,
            reports_failures: true,
            enabled: true,
            tags,
        }
    }

    pub(crate) fn display_name(&self) -> String {
        format!("{} -> {}", last_part(&self.queue_arn), function_of(&self.function_arn))
    }

    pub(crate) fn summary(&self) -> String {
        let window = match self.batching_window_s {
            0 => String::new(),
            window_s => format!(" within {window_s} s"),
        };
        let concurrency = match self.concurrency_max {
            Some(most) => format!(", {most} together at most"),
            None => String::new(),
        };
        let state = if self.enabled { "" } else { ", disabled" };
        format!("up to {} messages{window}{concurrency}{state}", self.batch_size)
    }

    fn scaling(&self) -> ScalingConfig {
        let most = self.concurrency_max.and_then(|most| i32::try_from(most).ok());
        ScalingConfig::builder().set_maximum_concurrency(most).build()
    }

    fn response_types(&self) -> Vec<FunctionResponseType> {
        let partial = FunctionResponseType::ReportBatchItemFailures;
        self.reports_failures.then_some(partial).into_iter().collect()
    }

    /// `None` on a FIFO queue, which refuses to be told of one.
    fn window(&self) -> Option<i32> {
        let window_s = i32::try_from(self.batching_window_s).ok();
        window_s.filter(|_| !is_fifo(&self.queue_arn))
    }

    fn of(found: &Configuration, tags: Tags) -> Self {
        let number = |value: Option<i32>| value.and_then(|value| value.try_into().ok());
        let responses = found.function_response_types();
        Self {
            queue_arn: found.event_source_arn().unwrap_or_default().to_owned(),
            function_arn: found.function_arn().unwrap_or_default().to_owned(),
            batch_size: number(found.batch_size()).unwrap_or(BATCH_WITHOUT_WINDOW_MAX),
            batching_window_s: number(found.maximum_batching_window_in_seconds()).unwrap_or(0),
            concurrency_max: number(
                found.scaling_config().and_then(ScalingConfig::maximum_concurrency),
            ),
            reports_failures: responses.contains(&FunctionResponseType::ReportBatchItemFailures),
            enabled: !matches!(found.state(), Some("Disabled" | "Disabling")),
            tags,
        }
    }
}

fn last_part(arn: &str) -> &str {
    arn.rsplit(':').next().unwrap_or_default()
}

/// Name and qualifier of a function.
fn function_of(arn: &str) -> &str {
    arn.split_once(":function:").map_or(arn, |(_, function)| function)
}

/// What takes messages out of queues.
#[derive(Debug, Default)]
pub(crate) struct Taking {
    pub(crate) ours: Vec<Observed>,
    pub(crate) foreign: Vec<Foreign>,
}

/// The mappings of these queues, by their ARNs: ours, and those of others.
pub(crate) async fn observe_all(
    aws: &Aws,
    owner: &Owner,
    queue_arns: impl IntoIterator<Item = String>,
    wanted: &[&EventSourceMapping],
) -> Result<Taking, CallError> {
    let lists = stream::iter(queue_arns).map(|arn| async move { list(aws, &arn).await });
    let lists: Vec<Vec<Configuration>> = lists.buffered(4).try_collect().await?;
    let mut taking = Taking::default();
    // One that is going is as good as gone: making it anew waits until it is.
    for found in lists.iter().flatten().filter(|found| found.state() != Some("Deleting")) {
        let tags = own_tags(tags_of(aws, found).await?);
        let mapping = EventSourceMapping::of(found, tags);
        let is_wanted = wanted.iter().any(|one| {
            one.queue_arn == mapping.queue_arn && one.function_arn == mapping.function_arn
        });
        if is_wanted || owner.owns(&mapping.tags) {
            taking.ours.push(Observed::ours(Properties::EventSourceMapping(mapping)));
        } else {
            let within = ResourceId::new(Kind::Queue, last_part(&mapping.queue_arn));
            let name = format!("lambda {}", function_of(&mapping.function_arn));
            taking.foreign.push(Foreign { within, name });
        }
    }
    Ok(taking)
}

async fn list(aws: &Aws, queue_arn: &str) -> Result<Vec<Configuration>, CallError> {
    let listed = aws.lambda.list_event_source_mappings().event_source_arn(queue_arn);
    let mut pages = listed.into_paginator().send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(failed("lambda:ListEventSourceMappings", queue_arn))?;
        found.extend(page.event_source_mappings.unwrap_or_default());
    }
    Ok(found)
}

async fn tags_of(
    aws: &Aws,
    found: &Configuration,
) -> Result<impl IntoIterator<Item = (String, String)>, CallError> {
    let arn = found.event_source_mapping_arn().unwrap_or_default();
    let tags = aws.lambda.list_tags().resource(arn).send().await;
    let tags = absent_is_none(tags.map_err(failed("lambda:ListTags", arn)))?;
    Ok(tags.and_then(|tags| tags.tags).unwrap_or_default())
}

/// The mapping of that queue and alias, once it is neither being made nor changed
/// nor deleted.
async fn settled(
    aws: &Aws,
    mapping: &EventSourceMapping,
) -> Result<Option<Configuration>, CallError> {
    let mut found = None;
    let is_settled = async || {
        let listed = list(aws, &mapping.queue_arn).await?;
        found = listed.into_iter().find(|one| one.function_arn() == Some(&mapping.function_arn));
        let state = found.as_ref().and_then(Configuration::state);
        Ok(matches!(state, None | Some("Enabled" | "Disabled")))
    };
    if poll(&SETTLED_WITHIN, is_settled).await? {
        return Ok(found);
    }
    let state = found.as_ref().and_then(Configuration::state).unwrap_or_default();
    let message = format!("it is still {}; apply again", state.to_lowercase());
    Err(CallError::unexpected("lambda:ListEventSourceMappings", mapping.display_name(), message))
}

/// Lambda tries whether the role may take messages, which IAM may not know yet.
fn is_iam_delay(error: &CallError) -> bool {
    error.is_code(&["InvalidParameterValueException"])
        && (error.says("permission") || error.says("cannot be assumed"))
}

fn is_in_use(error: &CallError) -> bool {
    error.is_code(&["ResourceInUseException"])
}

pub(crate) async fn create(aws: &Aws, mapping: &EventSourceMapping) -> Result<(), CallError> {
    if let Some(found) = settled(aws, mapping).await? {
        return change(aws, mapping, &found).await;
    }
    let tags: std::collections::HashMap<_, _> = mapping.tags.clone().into_iter().collect();
    let create = async || {
        aws.lambda
            .create_event_source_mapping()
            .event_source_arn(&mapping.queue_arn)
            .function_name(&mapping.function_arn)
            .batch_size(i32::try_from(mapping.batch_size).unwrap_or(i32::MAX))
            .set_maximum_batching_window_in_seconds(mapping.window())
            .set_scaling_config(mapping.concurrency_max.map(|_| mapping.scaling()))
            .set_function_response_types(Some(mapping.response_types()))
            .enabled(mapping.enabled)
            .set_tags(Some(tags.clone()))
            .send()
            .await
            .map_err(failed("lambda:CreateEventSourceMapping", mapping.display_name()))
    };
    match retry(&IAM_DELAY, is_iam_delay, create).await {
        Err(error) if !error.is_code(&["ResourceConflictException"]) => return Err(error),
        _ => {}
    }
    settled(aws, mapping).await?;
    Ok(())
}

pub(crate) async fn update(aws: &Aws, mapping: &EventSourceMapping) -> Result<(), CallError> {
    // One that has gone meanwhile is made.
    create(aws, mapping).await
}

async fn change(
    aws: &Aws,
    mapping: &EventSourceMapping,
    found: &Configuration,
) -> Result<(), CallError> {
    let update = async || {
        aws.lambda
            .update_event_source_mapping()
            .uuid(found.uuid().unwrap_or_default())
            .batch_size(i32::try_from(mapping.batch_size).unwrap_or(i32::MAX))
            .set_maximum_batching_window_in_seconds(mapping.window())
            // An empty one takes the bound away.
            .scaling_config(mapping.scaling())
            .set_function_response_types(Some(mapping.response_types()))
            .enabled(mapping.enabled)
            .send()
            .await
            .map_err(failed("lambda:UpdateEventSourceMapping", mapping.display_name()))
    };
    let passes = |error: &CallError| is_iam_delay(error) || is_in_use(error);
    retry(&IAM_DELAY, passes, update).await?;
    let arn = found.event_source_mapping_arn().unwrap_or_default();
    let tags = Some(mapping.tags.clone().into_iter().collect());
    let tagged = aws.lambda.tag_resource().resource(arn).set_tags(tags).send().await;
    tagged.map_err(failed("lambda:TagResource", arn))?;
    settled(aws, mapping).await?;
    Ok(())
}

pub(crate) async fn delete(aws: &Aws, mapping: &EventSourceMapping) -> Result<(), CallError> {
    let Some(found) = settled(aws, mapping).await? else {
        return Ok(());
    };
    let delete = async || {
        let delete = aws.lambda.delete_event_source_mapping();
        let deleted = delete.uuid(found.uuid().unwrap_or_default()).send().await;
        deleted.map_err(failed("lambda:DeleteEventSourceMapping", mapping.display_name()))
    };
    absent_is_done(retry(&SETTLED_WITHIN, is_in_use, delete).await)?;
    // Until it has gone it takes messages, with a function that is about to go.
    settled(aws, mapping).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
