//! What there is on AWS: what is ours, and what must be merged with. Reads only.
//!
//! What should be there is asked for by name. What should no longer be there is
//! found by tag, by name prefix, by path, and in documents of ours that name it.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::aws::Aws;
use crate::desired::{ALIAS, admission, log_group_of};
use crate::error::{CallError, failed};
use crate::kind::{
    alarm, alias, bucket, bucket_notification, dashboard, event_source_mapping, function,
    function_policy, invoke_config, key, log_group, permission, queue, role, rule, state_machine,
    subscription, table, topic,
};
use crate::known::{Known, LogGroups};
use crate::moved;
use crate::policy;
use crate::problem::Problem;
use crate::record::{self, RecordSeen};
use crate::resource::{
    Foreign, Kind, Observed, Owner, Properties, Resource, ResourceId, TAG_ENVIRONMENT, TAG_MANAGED,
    TAG_WORKFLOW, Tags, own_tags,
};

/// Calls under way at one time: enough to hide their latency, few enough not to
/// be throttled.
const CALLS_MAX: usize = 16;

/// What was found.
#[derive(Debug, Default)]
pub struct Observation {
    /// What is ours.
    pub resources: Vec<Observed>,
    /// What is not ours in documents that we write to.
    pub foreign: Vec<Foreign>,
    /// What stands in the way.
    pub problems: Vec<Problem>,
    /// The last apply's record.
    pub record: RecordSeen,
}

impl Observation {
    pub(crate) fn find(&self, id: &ResourceId) -> Option<&Observed> {
        self.resources.iter().find(|observed| observed.id() == *id)
    }

    /// Takes in what is ours; and of what is not, that which is wanted and asked for by name.
    fn take(&mut self, observed: Observed, is_wanted: bool, adoption: &Adoption<'_>) {
        if observed.owned {
            self.resources.push(observed);
        } else if is_wanted {
            match adoption.refusal(&observed) {
                None => self.resources.push(observed),
                Some(refusal) => self.problems.push(refusal),
            }
        }
    }
}

/// Which resources of others become ours, by their names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adoption<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) names: &'a BTreeSet<String>,
}

impl Adoption<'_> {
    /// Why a resource of a name of ours that is not ours is not touched; `None` where it
    /// may be taken over.
    fn refusal(&self, observed: &Observed) -> Option<Problem> {
        let id = observed.id();
        let problem = |cause: String, remedy: &str| Problem::new(id.to_string(), cause, remedy);
        let rename = "give the workflow another name, or deploy it with another --env";
        let tags = observed.properties.tags();
        let theirs = |key: &str| tags.and_then(|tags| tags.get(key)).cloned();
        if let Some(workflow) = theirs(TAG_WORKFLOW) {
            let environment = theirs(TAG_ENVIRONMENT).unwrap_or_default();
            if (Some(&workflow), Some(&environment))
                != (self.owner.tags().get(TAG_WORKFLOW), self.owner.tags().get(TAG_ENVIRONMENT))
            {
                let cause = format!(
                    "it exists, and is workflow {workflow}'s, environment {environment}, which is not taken over"
                );
                return Some(problem(cause, rename));
            }
        }
        if let Properties::Role(role) = &observed.properties
            && !self.owner.may_own_path(&role.path)
        {
            let cause = format!("it exists under the path {}, which IAM cannot change", role.path);
            let remedy = format!("delete it, or {rename}");
            return Some(problem(cause, &remedy));
        }
        if self.names.contains(&id.name) {
            return None;
        }
        let cause =
            format!("it exists, but lacks this workflow's tags ({TAG_WORKFLOW} and its like)");
        let otherwise = match id.kind {
            Kind::Bucket => "to use a bucket that exists leave out `create = true`",
            _ => rename,
        };
        Some(problem(cause, &format!("to take it over: --adopt {}; else {otherwise}", id.name)))
    }
}

/// What to look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look<'a> {
    /// Which resources of others become ours, by their names.
    pub(crate) adopt: &'a BTreeSet<String>,
    /// Whether it matters what data there is in what should be there: where that goes.
    pub(crate) is_data_of_wanted_told: bool,
}

pub(crate) async fn observe(
    aws: &Aws,
    owner: &Owner,
    desired: &[Resource],
    look: Look<'_>,
) -> Result<Observation, CallError> {
    let wanted: BTreeSet<ResourceId> = desired.iter().map(Resource::id).collect();
    let mut names: BTreeSet<ResourceId> = wanted.clone();
    let table = owner.deployment.ledger_table();
    let (stale, record) = futures::try_join!(stale(aws, owner), record::seen(aws, &table))?;
    let Stale { ids, mut known } = stale;
    names.extend(ids);
    if !look.is_data_of_wanted_told {
        known.wanted.clone_from(&wanted);
    }
    let aws = &aws.knowing(known);
    let found: Vec<Option<Observed>> = stream::iter(&names)
        .map(|id| one(aws, owner, id))
        .buffered(CALLS_MAX)
        .try_collect()
        .await?;
    let moved = moved::roles(aws, owner, &record, &names, &found).await?;
    let mut observation = Observation { record, resources: moved, ..Observation::default() };
    let adoption = Adoption { owner, names: look.adopt };
    for observed in found.into_iter().flatten() {
        let is_wanted = wanted.contains(&observed.id());
        observation.take(observed, is_wanted, &adoption);
    }
    let (parts, taking, listening, notified) = futures::try_join!(
        parts_of_functions(aws, &observation),
        taking(aws, owner, desired, &observation),
        listening(aws, owner, desired),
        notifications(aws, owner, desired, &observation),
    )?;
    observation.resources.extend(parts);
    observation.resources.extend(taking.ours);
    observation.foreign.extend(taking.foreign);
    let admitted = admitted(aws, owner, desired, &listening.ours).await?;
    observation.resources.extend(admitted);
    observation.resources.extend(listening.ours);
    observation.foreign.extend(listening.foreign);
    observation.resources.extend(notified.resources);
    observation.foreign.extend(notified.foreign);
    observation.problems.extend(notified.problems);
    observation.resources.sort_by_key(Observed::id);
    Ok(observation)
}

/// One resource by its name; those that hang on others are observed with them.
async fn one(aws: &Aws, owner: &Owner, id: &ResourceId) -> Result<Option<Observed>, CallError> {
    let name = &id.name;
    match id.kind {
        Kind::Key => key::observe(aws, owner, name).await,
        Kind::Topic => topic::observe(aws, owner, name).await,
        Kind::Queue => queue::observe(aws, owner, name).await,
        Kind::Bucket => bucket::observe(aws, owner, name).await,
        Kind::Table => table::observe(aws, owner, name).await,
        Kind::LogGroup => log_group::observe(aws, owner, name).await,
        Kind::Role => role::observe(aws, owner, name).await,
        Kind::Function => function::observe(aws, owner, name).await,
        Kind::StateMachine => state_machine::observe(aws, owner, name).await,
        Kind::Rule => rule::observe(aws, owner, name).await,
        Kind::Alarm => alarm::observe(aws, owner, name).await,
        Kind::Dashboard => dashboard::observe(aws, owner, name).await,
        Kind::Alias
        | Kind::InvokeConfig
        | Kind::Permission
        | Kind::EventSourceMapping
        | Kind::FunctionPolicy
        | Kind::Subscription
        | Kind::BucketNotification => Ok(None),
    }
}

/// What may be ours by its tag, prefix or path, wanted or not.
struct Stale {
    ids: Vec<ResourceId>,
    /// What looking for it has told.
    known: Known,
}

async fn stale(aws: &Aws, owner: &Owner) -> Result<Stale, CallError> {
    let prefix = format!("{}-", owner.deployment.prefix());
    let log_prefix = log_group_of(&prefix);
    let (tags, machines, groups, roles, alarms) = futures::try_join!(
        tagged(aws, owner),
        state_machine::list(aws, &prefix),
        log_group::list(aws, &log_prefix),
        role::list(aws, owner),
        alarm::list(aws, &prefix),
    )?;
    let mut ids: Vec<ResourceId> = tags.keys().filter_map(|arn| id_of_arn(arn)).collect();
    // A key's ARN has not its alias, and there is one of ours at most.
    if tags.keys().any(|arn| arn.split(':').nth(2) == Some("kms")) {
        ids.push(ResourceId::new(Kind::Key, owner.deployment.key_alias()));
    }
    ids.extend(machines.into_iter().map(|name| ResourceId::new(Kind::StateMachine, name)));
    // A dashboard has no tags to be found by, and there is one of ours at most.
    ids.push(ResourceId::new(Kind::Dashboard, owner.deployment.prefix()));
    ids.extend(groups.iter().map(|(name, _)| ResourceId::new(Kind::LogGroup, name)));
    ids.extend(roles.into_iter().map(|name| ResourceId::new(Kind::Role, name)));
    let retention_days = groups.into_iter().collect();
    let log_groups = Some(LogGroups { prefix: log_prefix, retention_days });
    let alarms = Some(alarms.into_iter().map(|alarm| (alarm.name.clone(), alarm)).collect());
    Ok(Stale { ids, known: Known { tags, log_groups, alarms, ..Known::default() } })
}

/// The ARNs of all that has our tags, with those of ours that it has.
async fn tagged(aws: &Aws, owner: &Owner) -> Result<BTreeMap<String, Tags>, CallError> {
    use aws_sdk_resourcegroupstagging::types::TagFilter;

    let tags = owner.tags();
    let filter = |key: &str| {
        TagFilter::builder().key(key).set_values(tags.get(key).map(|value| vec![value.clone()]))
    };
    let filters = [TAG_WORKFLOW, TAG_ENVIRONMENT, TAG_MANAGED].map(|key| filter(key).build());
    let mut found = BTreeMap::new();
    let request = aws.tagging.get_resources().set_tag_filters(Some(filters.into()));
    let mut pages = request.into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(failed("tag:GetResources", "*"))?;
        for one in page.resource_tag_mapping_list.unwrap_or_default() {
            let tags = one.tags.unwrap_or_default().into_iter().map(|tag| (tag.key, tag.value));
            found.extend(one.resource_arn.map(|arn| (arn, own_tags(tags))));
        }
    }
    Ok(found)
}

/// Kind and name of what an ARN names, where it is of a kind that we make.
fn id_of_arn(arn: &str) -> Option<ResourceId> {
    let mut parts = arn.splitn(6, ':').skip(2);
    let service = parts.next()?;
    let resource = parts.nth(2)?;
    let (kind, name) = match service {
        "sns" => (Kind::Topic, resource),
        "sqs" => (Kind::Queue, resource),
        "s3" => (Kind::Bucket, resource),
        "dynamodb" => (Kind::Table, resource.strip_prefix("table/")?),
        "lambda" => (Kind::Function, resource.strip_prefix("function:")?),
        "events" => (Kind::Rule, resource.strip_prefix("rule/")?),
        "states" => (Kind::StateMachine, resource.strip_prefix("stateMachine:")?),
        "cloudwatch" => (Kind::Alarm, resource.strip_prefix("alarm:")?),
        "logs" => (Kind::LogGroup, resource.strip_prefix("log-group:")?.trim_end_matches(":*")),
        _ => return None,
    };
    // A subscription, an alias or an index of what is ours is no resource of its own.
    (!name.contains([':', '/']) || kind == Kind::LogGroup).then(|| ResourceId::new(kind, name))
}

/// Alias, retries and permissions of every function of ours.
async fn parts_of_functions(
    aws: &Aws,
    observation: &Observation,
) -> Result<Vec<Observed>, CallError> {
    let ids = observation.resources.iter().map(Observed::id);
    let functions: Vec<String> =
        ids.filter(|id| id.kind == Kind::Function).map(|id| id.name).collect();
    let parts: Vec<Vec<Observed>> = stream::iter(&functions)
        .map(async |function| {
            let (alias, config, permissions) = futures::try_join!(
                alias::observe(aws, function, ALIAS),
                invoke_config::observe(aws, function, ALIAS),
                permission::observe_all(aws, function, ALIAS),
            )?;
            Ok(alias.into_iter().chain(config).chain(permissions).collect())
        })
        .buffered(CALLS_MAX)
        .try_collect()
        .await?;
    Ok(parts.into_iter().flatten().collect())
}

/// What takes messages out of the queues that are ours, or should be.
async fn taking(
    aws: &Aws,
    owner: &Owner,
    desired: &[Resource],
    observation: &Observation,
) -> Result<event_source_mapping::Taking, CallError> {
    let wanted: Vec<&event_source_mapping::EventSourceMapping> = desired
        .iter()
        .filter_map(|resource| match &resource.properties {
            Properties::EventSourceMapping(mapping) => Some(mapping),
            _ => None,
        })
        .collect();
    let observed = observation.resources.iter().filter_map(|observed| match &observed.properties {
        Properties::Queue(queue) => Some(queue.arn.clone()),
        _ => None,
    });
    // A mapping outlives its queue.
    let queues: BTreeSet<String> =
        observed.chain(wanted.iter().map(|mapping| mapping.queue_arn.clone())).collect();
    event_source_mapping::observe_all(aws, owner, queues, &wanted).await
}

/// What listens on the workflow's topic, and on that of its alarms where it has one.
async fn listening(
    aws: &Aws,
    owner: &Owner,
    desired: &[Resource],
) -> Result<subscription::Listening, CallError> {
    let mut by_topic: BTreeMap<&str, Vec<&subscription::Subscription>> = BTreeMap::new();
    for resource in desired {
        if let Properties::Subscription(subscription) = &resource.properties {
            by_topic.entry(&subscription.topic_arn).or_default().push(subscription);
        }
    }
    let deployment = &owner.deployment;
    let dead_queues = [deployment.dead_queue(), deployment.fifo_dead_queue()];
    let dead_queues = dead_queues.map(|name| owner.place.queue_arn(&name));
    let mut all = subscription::Listening::default();
    for (topic, wanted) in by_topic {
        let found = subscription::observe_all(aws, topic, &dead_queues, &wanted).await?;
        all.ours.extend(found.ours);
        all.foreign.extend(found.foreign);
    }
    Ok(all)
}

/// Our statements in the policies of functions that are not ours: of those that should be
/// told, and of those that still are.
async fn admitted(
    aws: &Aws,
    owner: &Owner,
    desired: &[Resource],
    listening: &[Observed],
) -> Result<Vec<Observed>, CallError> {
    let wanted = desired.iter().filter_map(|resource| match &resource.properties {
        Properties::FunctionPolicy(statement) => Some(statement.clone()),
        _ => None,
    });
    let told = listening.iter().filter_map(|observed| match &observed.properties {
        Properties::Subscription(told) if told.protocol == "lambda" => {
            admission(owner, &told.endpoint, &told.topic_arn)
        }
        _ => None,
    });
    let statements: BTreeMap<String, function_policy::FunctionPolicy> =
        told.chain(wanted).map(|one| (one.display_name(), one)).collect();
    let found: Vec<Option<Observed>> = stream::iter(statements.values())
        .map(|statement| function_policy::observe(aws, statement))
        .buffered(CALLS_MAX)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

/// Our entries in the buckets of the plan, in those that are ours, and in those
/// that the ingest queue or the topic still admits.
async fn notifications(
    aws: &Aws,
    owner: &Owner,
    desired: &[Resource],
    observation: &Observation,
) -> Result<Observation, CallError> {
    let of_kind = |kind: Kind| {
        let ids = desired.iter().map(Resource::id);
        ids.filter(move |id| id.kind == kind).map(|id| id.name).collect::<BTreeSet<String>>()
    };
    let (wanted, made) = (of_kind(Kind::BucketNotification), of_kind(Kind::Bucket));
    let mut buckets = wanted.clone();
    for observed in &observation.resources {
        match &observed.properties {
            Properties::Queue(queue) if queue.name == owner.deployment.ingest_queue() => {
                buckets.extend(policy::buckets_of(&queue.policy));
            }
            Properties::Topic(topic) => buckets.extend(policy::buckets_of(&topic.policy)),
            Properties::Bucket(bucket) => {
                buckets.insert(bucket.name.clone());
            }
            _ => {}
        }
    }
    // A bucket that is refused is not read further: it may not even be our account's.
    let refused = |bucket: &str| {
        let id = ResourceId::new(Kind::Bucket, bucket);
        made.contains(bucket) && observation.find(&id).is_none()
    };
    let mut found = Observation::default();
    for bucket in buckets.iter().filter(|bucket| !refused(bucket)) {
        let is_missing = wanted.contains(bucket)
            && !made.contains(bucket)
            && !bucket::exists(aws, bucket).await?;
        if is_missing {
            let place = format!("{} {bucket}", Kind::Bucket);
            let remedy = "make it, or let the deploy make it: `create = true` in its source";
            found.problems.push(Problem::new(place, "there is no such bucket", remedy));
            continue;
        }
        let entries = desired.iter().find_map(|resource| match &resource.properties {
            Properties::BucketNotification(entries) if entries.bucket == *bucket => Some(entries),
            _ => None,
        });
        let told = bucket_notification::observe(aws, owner, bucket, entries).await?;
        found.resources.extend(told.ours);
        found.foreign.extend(told.foreign);
        found.problems.extend(told.problems);
    }
    Ok(found)
}
