//! Our entries in a bucket's notification configuration.
//!
//! S3 replaces the whole configuration at each write. So it is read, merged,
//! written and read again, and whatever is not ours, by its Id, stays.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::types::{
    Event, EventBridgeConfiguration, FilterRule, FilterRuleName, LambdaFunctionConfiguration,
    NotificationConfiguration, NotificationConfigurationFilter, QueueConfiguration, S3KeyFilter,
    TopicConfiguration,
};
use bellwire_schema::workflow::TopicKind;
use serde::{Deserialize, Serialize};

use crate::aws::Aws;
use crate::error::{CallError, absent_is_none, failed};
use crate::problem::Problem;
use crate::resource::{Foreign, Kind, Observed, Owner, Properties, ResourceId};
use crate::wait::{Patience, retry};

const GET: &str = "s3:GetBucketNotification";
const PUT: &str = "s3:PutBucketNotification";

/// S3 asks the queue or topic whether it may send to it, and a queue's policy takes up to
/// a minute to be the same everywhere.
const DESTINATION_KNOWN_WITHIN: Patience = Patience {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(5),
    total: Duration::from_secs(90),
};

/// Our entries of one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketNotification {
    /// The bucket.
    pub bucket: String,
    /// Our entries, by Id.
    pub entries: BTreeMap<String, Entry>,
}

/// One entry: which objects a queue or topic is told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What happened to them: `s3:ObjectCreated:*`.
    pub events: Vec<String>,
    /// What their keys begin with.
    pub prefix: String,
    /// What their keys end with.
    pub suffix: String,
    /// The ARN of the queue or topic.
    pub destination_arn: String,
}

impl Entry {
    fn summary(&self) -> String {
        let destination = self.destination_arn.rsplit(':').next().unwrap_or_default();
        let pattern = format!("{}*{}", self.prefix, self.suffix);
        format!("{pattern} -> {destination}")
    }

    /// Whether both would be told of one event of one object.
    fn overlaps(&self, other: &Self) -> bool {
        let either = |one: &str, other: &str, begins: fn(&str, &str) -> bool| {
            begins(one, other) || begins(other, one)
        };
        // `s3:ObjectCreated:*` is every event that begins so.
        let family = |event: &str| event.trim_end_matches('*').to_owned();
        let events = self.events.iter().any(|event| {
            let others = other.events.iter();
            others
                .map(|other| family(other))
                .any(|other| either(&family(event), &other, |text, start| text.starts_with(start)))
        });
        events
            && either(&self.prefix, &other.prefix, |text, start| text.starts_with(start))
            && either(&self.suffix, &other.suffix, |text, end| text.ends_with(end))
    }

    fn is_to_topic(&self) -> bool {
        self.destination_arn.split(':').nth(2) == Some("sns")
    }
}

impl BucketNotification {
    pub(crate) fn summary(&self) -> String {
        self.entries.values().map(Entry::summary).collect::<Vec<_>>().join(", ")
    }
}

/// What stands in a bucket's notification configuration.
#[derive(Debug, Clone, Default, PartialEq)]
struct Configuration {
    queues: Vec<QueueConfiguration>,
    topics: Vec<TopicConfiguration>,
    functions: Vec<LambdaFunctionConfiguration>,
    event_bridge: Option<EventBridgeConfiguration>,
}

impl Configuration {
    /// The names of all that is not ours, sorted.
    fn foreign_names(&self, owner: &Owner) -> Vec<String> {
        let id = |id: Option<&str>| id.unwrap_or("(no id)").to_owned();
        let queues = self.queues.iter().filter(|queue| !is_our_queue(owner, queue));
        let queues = queues.map(|queue| id(queue.id()));
        let topics = self.topics.iter().filter(|topic| !is_our_topic(owner, topic));
        let topics = topics.map(|topic| id(topic.id()));
        let functions = self.functions.iter().map(|function| id(function.id()));
        let event_bridge = self.event_bridge.iter().map(|_| "EventBridge".to_owned());
        let mut names: Vec<String> =
            queues.chain(topics).chain(functions).chain(event_bridge).collect();
        names.sort();
        names
    }

    /// The entries that are not ours, each with its name.
    fn foreign(&self, owner: &Owner) -> Vec<(String, Entry)> {
        let named = |id: Option<&str>, entry: Entry| (id.unwrap_or("(no id)").to_owned(), entry);
        let queues = self
            .queues
            .iter()
            .filter(|queue| !is_our_queue(owner, queue))
            .map(|one| named(one.id(), entry_of(one.queue_arn(), one.events(), one.filter())));
        let topics = self
            .topics
            .iter()
            .filter(|topic| !is_our_topic(owner, topic))
            .map(|one| named(one.id(), entry_of(one.topic_arn(), one.events(), one.filter())));
        let functions = self.functions.iter().map(|one| {
            named(one.id(), entry_of(one.lambda_function_arn(), one.events(), one.filter()))
        });
        queues.chain(topics).chain(functions).collect()
    }

    /// Our entries, by their Ids.
    fn ours(&self, owner: &Owner) -> BTreeMap<String, Entry> {
        let queues = self.queues.iter().filter(|queue| is_our_queue(owner, queue));
        let queues = queues.filter_map(|queue| {
            Some((queue.id()?, entry_of(queue.queue_arn(), queue.events(), queue.filter())))
        });
        let topics = self.topics.iter().filter(|topic| is_our_topic(owner, topic));
        let topics = topics.filter_map(|topic| {
            Some((topic.id()?, entry_of(topic.topic_arn(), topic.events(), topic.filter())))
        });
        queues.chain(topics).map(|(id, entry)| (id.to_owned(), entry)).collect()
    }

    /// Takes our entries out.
    fn clear(&mut self, owner: &Owner) {
        self.queues.retain(|queue| !is_our_queue(owner, queue));
        self.topics.retain(|topic| !is_our_topic(owner, topic));
    }

    fn add(&mut self, id: &str, entry: &Entry) {
        let (events, filter) = (s3_events(entry), filter_of(entry));
        match entry.is_to_topic() {
            true => self.topics.push(
                TopicConfiguration::builder()
                    .id(id)
                    .topic_arn(&entry.destination_arn)
                    .set_events(Some(events))
                    .set_filter(filter)
                    .build()
                    .expect("topic and events are set"),
            ),
            false => self.queues.push(
                QueueConfiguration::builder()
                    .id(id)
                    .queue_arn(&entry.destination_arn)
                    .set_events(Some(events))
                    .set_filter(filter)
                    .build()
                    .expect("queue and events are set"),
            ),
        }
    }
}

fn is_our_queue(owner: &Owner, queue: &QueueConfiguration) -> bool {
    let ours = owner.place.queue_arn(&owner.deployment.ingest_queue());
    is_ours(owner, queue.id()) && queue.queue_arn() == ours
}

/// S3 tells no FIFO topic.
fn is_our_topic(owner: &Owner, topic: &TopicConfiguration) -> bool {
    let ours = owner.place.topic_arn(&owner.deployment.topic(TopicKind::Standard));
    is_ours(owner, topic.id()) && topic.topic_arn() == ours
}

/// Whether an Id is one of ours. Where it leads to must be ours too, since the Ids of
/// workflow `a` in environment `b` begin like those of `a` in none.
fn is_ours(owner: &Owner, id: Option<&str>) -> bool {
    id.is_some_and(|id| id.starts_with(&owner.entry_id("")))
}

async fn read(aws: &Aws, bucket: &str) -> Result<Option<Configuration>, CallError> {
    let found = aws.s3.get_bucket_notification_configuration().bucket(bucket).send().await;
    let found = absent_is_none(found.map_err(failed(GET, bucket)))?;
    Ok(found.map(|found| Configuration {
        queues: found.queue_configurations.unwrap_or_default(),
        topics: found.topic_configurations.unwrap_or_default(),
        functions: found.lambda_function_configurations.unwrap_or_default(),
        event_bridge: found.event_bridge_configuration,
    }))
}

/// What a bucket tells, and whom.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Our entries.
    pub(crate) ours: Option<Observed>,
    /// The names of those that are not ours.
    pub(crate) foreign: Vec<Foreign>,
    /// Entries that are wanted, and that S3 would refuse beside those that are not ours.
    pub(crate) problems: Vec<Problem>,
}

pub(crate) async fn observe(
    aws: &Aws,
    owner: &Owner,
    bucket: &str,
    wanted: Option<&BucketNotification>,
) -> Result<Told, CallError> {
    let Some(configuration) = read(aws, bucket).await? else {
        return Ok(Told::default());
    };
    let within = ResourceId::new(Kind::BucketNotification, bucket);
    let foreign = configuration.foreign_names(owner).into_iter();
    let foreign = foreign.map(|name| Foreign { within: within.clone(), name }).collect();
    let wanted = wanted.into_iter().flat_map(|wanted| wanted.entries.values());
    let theirs = configuration.foreign(owner);
    let problems = wanted.flat_map(|entry| overlaps(&within, entry, &theirs)).collect();
    let entries = configuration.ours(owner);
    let notification = BucketNotification { bucket: bucket.to_owned(), entries };
    let ours = (!notification.entries.is_empty())
        .then(|| Observed::ours(Properties::BucketNotification(notification)));
    Ok(Told { ours, foreign, problems })
}

/// What is wrong with an entry beside those of others. S3 refuses entries that would tell
/// of one object's one event twice. Source: Amazon S3 user guide, "Configuring event
/// notifications using object key name filtering".
fn overlaps(within: &ResourceId, entry: &Entry, theirs: &[(String, Entry)]) -> Vec<Problem> {
    let clashing = theirs.iter().filter(|(_, other)| entry.overlaps(other));
    let problem = |(name, other): &(String, Entry)| {
        let pattern = |entry: &Entry| format!("{}*{}", entry.prefix, entry.suffix);
        let cause = format!(
            "the entry for `{}` would overlap with {name}, for `{}`, which is not ours: S3 refuses the two together",
            pattern(entry),
            pattern(other)
        );
        let remedy = "give one of them a narrower prefix or suffix, or let the bucket tell EventBridge or a topic that both hear";
        Problem::new(within.to_string(), cause, remedy)
    };
    clashing.map(problem).collect()
}

fn entry_of(
    destination_arn: &str,
    events: &[Event],
    filter: Option<&NotificationConfigurationFilter>,
) -> Entry {
    let rules = filter.and_then(NotificationConfigurationFilter::key);
    let rules = rules.map(S3KeyFilter::filter_rules).unwrap_or_default();
    // S3 spells the names `prefix`, `Prefix` and `PREFIX`, as they were written.
    let value = |wanted: &str| {
        let rule = rules.iter().find(|rule| {
            rule.name().is_some_and(|name| name.as_str().eq_ignore_ascii_case(wanted))
        });
        rule.and_then(FilterRule::value).unwrap_or_default().to_owned()
    };
    let mut events: Vec<String> = events.iter().map(|event| event.as_str().to_owned()).collect();
    events.sort();
    Entry {
        events,
        prefix: value("prefix"),
        suffix: value("suffix"),
        destination_arn: destination_arn.to_owned(),
    }
}

fn s3_events(entry: &Entry) -> Vec<Event> {
    entry.events.iter().map(|event| event.as_str().into()).collect()
}

fn filter_of(entry: &Entry) -> Option<NotificationConfigurationFilter> {
    let rule = |name: FilterRuleName, value: &str| {
        let rule = FilterRule::builder().name(name).value(value).build();
        (!value.is_empty()).then_some(rule)
    };
    let rules: Vec<FilterRule> =
        [rule(FilterRuleName::Prefix, &entry.prefix), rule(FilterRuleName::Suffix, &entry.suffix)]
            .into_iter()
            .flatten()
            .collect();
    (!rules.is_empty()).then(|| {
        let key = S3KeyFilter::builder().set_filter_rules(Some(rules)).build();
        NotificationConfigurationFilter::builder().key(key).build()
    })
}

/// Makes our entries these, whatever they were, and leaves all others alone.
pub(crate) async fn put(
    aws: &Aws,
    owner: &Owner,
    wanted: &BucketNotification,
) -> Result<(), CallError> {
    let bucket = &wanted.bucket;
    let absent = || CallError::unexpected(GET, bucket, "the bucket has gone; plan and apply again");
    let before = read(aws, bucket).await?.ok_or_else(absent)?;
    let mut merged = before.clone();
    merged.clear(owner);
    for (id, entry) in &wanted.entries {
        merged.add(id, entry);
    }
    write(aws, bucket, &merged).await?;
    let after = read(aws, bucket).await?.ok_or_else(absent)?;
    let ours = after.ours(owner).len();
    if before.foreign_names(owner) == after.foreign_names(owner) && ours == wanted.entries.len() {
        return Ok(());
    }
    let message = "somebody changed it at the same time; apply again";
    Err(CallError::unexpected(PUT, bucket, message))
}

async fn write(aws: &Aws, bucket: &str, merged: &Configuration) -> Result<(), CallError> {
    let configuration = NotificationConfiguration::builder()
        .set_queue_configurations(Some(merged.queues.clone()))
        .set_topic_configurations(Some(merged.topics.clone()))
        .set_lambda_function_configurations(Some(merged.functions.clone()))
        .set_event_bridge_configuration(merged.event_bridge.clone())
        .build();
    let put = async || {
        let put = aws.s3.put_bucket_notification_configuration().bucket(bucket);
        let put = put.notification_configuration(configuration.clone()).send().await;
        put.map_err(failed(PUT, bucket))
    };
    let passes = |error: &CallError| {
        error.is_code(&["InvalidArgument"])
            && error.says("Unable to validate the following destination")
    };
    retry(&DESTINATION_KNOWN_WITHIN, passes, put).await?;
    Ok(())
}

pub(crate) async fn delete(
    aws: &Aws,
    owner: &Owner,
    ours: &BucketNotification,
) -> Result<(), CallError> {
    if read(aws, &ours.bucket).await?.is_none() {
        return Ok(());
    }
    let none = BucketNotification { bucket: ours.bucket.clone(), entries: BTreeMap::new() };
    put(aws, owner, &none).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(events: &str, prefix: &str, suffix: &str) -> Entry {
        let text = str::to_owned;
        let (events, prefix, suffix) = (vec![text(events)], text(prefix), text(suffix));
        Entry { events, prefix, suffix, destination_arn: text("arn:aws:sqs:eu-west-1:1:etl") }
    }

    #[test]
    fn entries_overlap_where_s3_would_tell_of_one_event_twice() {
        let ours = entry("s3:ObjectCreated:*", "raw/", ".csv");
        for (events, prefix, suffix, overlaps) in [
            ("s3:ObjectCreated:*", "", "", true),
            ("s3:ObjectCreated:Put", "raw/2026/", ".csv", true),
            ("s3:ObjectCreated:Put", "r", "v", true),
            ("s3:ObjectRemoved:*", "raw/", ".csv", false),
            ("s3:ObjectCreated:*", "raw/", ".json", false),
            ("s3:ObjectCreated:*", "models/", ".csv", false),
            ("s3:ObjectCreated:*", "rawer/", "", false),
        ] {
            let theirs = entry(events, prefix, suffix);
            assert_eq!(ours.overlaps(&theirs), overlaps, "{events} {prefix}*{suffix}");
            assert_eq!(theirs.overlaps(&ours), overlaps, "{events} {prefix}*{suffix}");
        }
    }
}
