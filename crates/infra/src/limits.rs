//! What AWS would refuse of the resources themselves: names, policies and documents that
//! have grown too long, judged on what would be sent, before any of it is. Pure.

use std::collections::BTreeMap;

use bellwire_schema::limits::{LONG_NAME_CHARS_MAX, NAME_CHARS_MAX};
use serde_json::Value;

use crate::kind::bucket_notification::BucketNotification;
use crate::kind::dashboard::Dashboard;
use crate::kind::function::Function;
use crate::kind::role::Role;
use crate::kind::rule::Rule;
use crate::problem::Problem;
use crate::resource::{Kind, Properties, Resource};

/// IAM: characters of all inline policies of a role, without white space; and of its trust
/// policy. Source: IAM user guide, "IAM and AWS STS quotas".
const ROLE_POLICY_CHARS_MAX: usize = 10_240;
const TRUST_CHARS_MAX: usize = 2_048;
/// Lambda: bytes of the resource policy of a function, a version or an alias. Source: AWS
/// Lambda developer guide, "Lambda quotas".
const FUNCTION_POLICY_BYTES_MAX: usize = 20_480;
/// SQS: bytes of a queue's policy, its statements, and the principals and conditions of
/// one. Source: Amazon SQS developer guide, "Quotas related to policies".
const QUEUE_POLICY_BYTES_MAX: usize = 8_192;
const QUEUE_POLICY_STATEMENTS_MAX: usize = 20;
/// SNS: bytes of a topic's policy. Source: Amazon SNS API reference, `SetTopicAttributes`.
const TOPIC_POLICY_BYTES_MAX: usize = 30_720;
/// S3: bytes of a bucket's policy. Source: Amazon S3 user guide, "Bucket policies".
const BUCKET_POLICY_BYTES_MAX: usize = 20_480;
/// KMS: bytes of a key's policy. Source: AWS KMS developer guide, "Resource quotas".
const KEY_POLICY_BYTES_MAX: usize = 32_768;
/// S3: entries of a bucket's notifications. Source: Amazon S3 user guide, "Amazon S3 event
/// notifications".
const NOTIFICATIONS_MAX: usize = 100;
/// S3: bytes of a prefix or suffix of one. Source: Amazon S3 API reference, `FilterRule`.
const FILTER_VALUE_BYTES_MAX: usize = 1_024;
/// EventBridge: characters of an event pattern; targets of a rule. Source: Amazon
/// EventBridge user guide, "Amazon EventBridge quotas".
const PATTERN_CHARS_MAX: usize = 2_048;
const RULE_TARGETS_MAX: usize = 5;
/// EventBridge: characters of a schedule. Source: EventBridge API reference, `PutRule`.
const SCHEDULE_CHARS_MAX: usize = 256;
/// Step Functions: bytes of a definition. Source: AWS Step Functions developer guide,
/// "Service quotas".
const DEFINITION_BYTES_MAX: usize = 1_048_576;
/// Lambda: bytes of all environment variables. Source: AWS Lambda developer guide, "Lambda
/// quotas".
const ENVIRONMENT_BYTES_MAX: usize = 4_096;
/// Lambda and EventBridge: characters of a description. Sources: `CreateFunction` and
/// `PutRule` API references; of CloudWatch: `PutMetricAlarm`.
const DESCRIPTION_CHARS_MAX: usize = 256;
const ALARM_DESCRIPTION_CHARS_MAX: usize = 1_024;
/// SNS: subscriptions with a filter policy of one topic, by default. Source: AWS general
/// reference, "Amazon SNS endpoints and quotas".
const FILTERS_OF_TOPIC_MAX: usize = 200;
/// CloudWatch: widgets of a dashboard, metrics of a graph and of a dashboard. Source:
/// Amazon CloudWatch user guide, "CloudWatch service quotas".
const WIDGETS_MAX: usize = 500;
const GRAPH_METRICS_MAX: usize = 500;
/// CloudWatch: metrics of an alarm on an expression. Source: Amazon CloudWatch user guide,
/// "CloudWatch service quotas".
const ALARM_METRICS_MAX: usize = 10;

/// One limit, and what there is of it.
struct Measured {
    what: &'static str,
    found: usize,
    most: usize,
    remedy: &'static str,
}

impl Measured {
    const fn new(what: &'static str, found: usize, most: usize, remedy: &'static str) -> Self {
        Self { what, found, most, remedy }
    }
}

/// Everything of these resources that is over a limit.
pub(crate) fn problems(resources: &[Resource]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for resource in resources {
        let over = measured(&resource.properties);
        let over = over.into_iter().filter(|measured| measured.found > measured.most);
        problems.extend(over.map(|Measured { what, found, most, remedy }| {
            let cause = format!("{what}: {found}, and AWS takes {most}");
            Problem::new(resource.id().to_string(), cause, remedy)
        }));
    }
    problems.extend(filters(resources));
    problems.extend(statements_of_functions(resources));
    problems
}

const FEWER_SOURCES: &str = "watch fewer buckets and rules, or split the workflow in two";
const FEWER_TARGETS: &str = "give the workflow fewer sources and targets, or split it in two";

fn measured(properties: &Properties) -> Vec<Measured> {
    match properties {
        Properties::Role(role) => of_role(role),
        Properties::Queue(queue) => vec![
            name_of(&queue.name, LONG_NAME_CHARS_MAX),
            policy(&queue.policy, QUEUE_POLICY_BYTES_MAX),
            Measured::new(
                "statements of its policy",
                queue.policy["Statement"].as_array().map_or(0, Vec::len),
                QUEUE_POLICY_STATEMENTS_MAX,
                FEWER_SOURCES,
            ),
        ],
        Properties::Topic(topic) => vec![policy(&topic.policy, TOPIC_POLICY_BYTES_MAX)],
        Properties::Bucket(bucket) => vec![policy(&bucket.policy, BUCKET_POLICY_BYTES_MAX)],
        Properties::Key(key) => vec![policy(&key.policy, KEY_POLICY_BYTES_MAX)],
        Properties::BucketNotification(notification) => of_notifications(notification),
        Properties::Function(function) => of_function(function),
        Properties::StateMachine(machine) => vec![
            name_of(&machine.name, LONG_NAME_CHARS_MAX),
            Measured::new(
                "bytes of its definition",
                chars(&machine.definition),
                DEFINITION_BYTES_MAX,
                "split it into state machines that start each other",
            ),
        ],
        Properties::Rule(rule) => of_rule(rule),
        Properties::Alarm(alarm) => vec![
            Measured::new("metrics", alarm.metrics.len(), ALARM_METRICS_MAX, FEWER_TARGETS),
            description(&alarm.description, ALARM_DESCRIPTION_CHARS_MAX),
        ],
        Properties::Dashboard(dashboard) => of_dashboard(dashboard),
        _ => Vec::new(),
    }
}

fn of_role(role: &Role) -> Vec<Measured> {
    let (policy, trust) = (chars(&role.policy), chars(&role.trust));
    vec![
        name_of(&role.name, NAME_CHARS_MAX),
        Measured::new("characters of its policy", policy, ROLE_POLICY_CHARS_MAX, FEWER_TARGETS),
        Measured::new(
            "characters of its trust policy",
            trust,
            TRUST_CHARS_MAX,
            "name fewer principals in `trusted_by`",
        ),
    ]
}

fn of_notifications(notification: &BucketNotification) -> Vec<Measured> {
    let entries = notification.entries.values();
    let longest = entries.flat_map(|entry| [entry.prefix.len(), entry.suffix.len()]).max();
    vec![
        Measured::new(
            "notifications",
            notification.entries.len(),
            NOTIFICATIONS_MAX,
            "let one source watch what several do, and tell them apart by `where`",
        ),
        Measured::new(
            "bytes of a prefix or suffix",
            longest.unwrap_or(0),
            FILTER_VALUE_BYTES_MAX,
            "shorten it",
        ),
    ]
}

fn of_function(function: &Function) -> Vec<Measured> {
    let environment = &function.release.environment;
    let bytes = environment.iter().map(|(name, value)| name.len() + value.len()).sum();
    vec![
        name_of(&function.name, NAME_CHARS_MAX),
        Measured::new(
            "bytes of its environment, with what Bellwire sets",
            bytes,
            ENVIRONMENT_BYTES_MAX,
            "put large values in a file or a parameter",
        ),
        description(&function.description, DESCRIPTION_CHARS_MAX),
    ]
}

fn of_rule(rule: &Rule) -> Vec<Measured> {
    vec![
        name_of(&rule.name, NAME_CHARS_MAX),
        Measured::new(
            "characters of its pattern",
            chars(&rule.pattern),
            PATTERN_CHARS_MAX,
            "let fewer triggers start state machines of their own, or split the workflow in two",
        ),
        Measured::new("targets", rule.targets.len(), RULE_TARGETS_MAX, FEWER_TARGETS),
        Measured::new(
            "characters of its schedule",
            rule.schedule.as_ref().map_or(0, String::len),
            SCHEDULE_CHARS_MAX,
            "shorten the expression",
        ),
        description(&rule.description, DESCRIPTION_CHARS_MAX),
    ]
}

fn of_dashboard(dashboard: &Dashboard) -> Vec<Measured> {
    let widgets = dashboard.body["widgets"].as_array();
    let graphs = widgets.into_iter().flatten();
    let lines = graphs.filter_map(|one| one["properties"]["metrics"].as_array());
    vec![
        Measured::new("widgets", widgets.map_or(0, Vec::len), WIDGETS_MAX, FEWER_TARGETS),
        Measured::new(
            "metrics of one graph",
            lines.map(Vec::len).max().unwrap_or(0),
            GRAPH_METRICS_MAX,
            "switch the dashboard off: `dashboard = false` in [alarms]",
        ),
    ]
}

const fn name_of(name: &str, most: usize) -> Measured {
    Measured::new("characters of its name", name.len(), most, "shorten the workflow's name")
}

fn description(text: &str, most: usize) -> Measured {
    let found = text.chars().count();
    Measured::new("characters of its description", found, most, "shorten the names in the file")
}

fn policy(document: &Value, most: usize) -> Measured {
    Measured::new("bytes of its policy", chars(document), most, FEWER_SOURCES)
}

/// As it is sent: without white space. All of it is ASCII, or counts more bytes than
/// characters: never fewer than AWS counts.
fn chars(document: &Value) -> usize {
    if document.is_null() { 0 } else { document.to_string().len() }
}

fn filters(resources: &[Resource]) -> Option<Problem> {
    let filtered = resources.iter().filter(|resource| match &resource.properties {
        Properties::Subscription(subscription) => !subscription.filter_policy.is_null(),
        _ => false,
    });
    let count = filtered.count();
    let topic = resources.iter().map(Resource::id).find(|id| id.kind == Kind::Topic)?;
    let cause = format!("filter policies: {count}, and AWS takes {FILTERS_OF_TOPIC_MAX}");
    let remedy = "have fewer subscribers, or ask AWS for more";
    (count > FILTERS_OF_TOPIC_MAX).then(|| Problem::new(topic.to_string(), cause, remedy))
}

/// What the permissions of one alias come to. Each is a statement that Lambda writes, with
/// as much around what is given as stands here.
fn statements_of_functions(resources: &[Resource]) -> Vec<Problem> {
    /// `{"Sid":…,"Effect":"Allow","Principal":{"Service":…},"Action":"lambda:InvokeFunction",
    /// "Resource":…,"Condition":{"ArnLike":{"AWS:SourceArn":…}}}` without what is given.
    const AROUND_BYTES: usize = 160;
    let mut bytes: BTreeMap<String, usize> = BTreeMap::new();
    for resource in resources {
        if let Properties::Permission(one) = &resource.properties {
            let alias = format!("{}:{}", one.function, one.alias);
            let statement = one.sid.len()
                + one.principal.len()
                + one.source_arn.len()
                + alias.len()
                + AROUND_BYTES;
            *bytes.entry(alias).or_default() += statement;
        }
    }
    let over = bytes.into_iter().filter(|(_, bytes)| *bytes > FUNCTION_POLICY_BYTES_MAX);
    over.map(|(alias, bytes)| {
        let cause =
            format!("bytes of its policy: {bytes}, and AWS takes {FUNCTION_POLICY_BYTES_MAX}");
        Problem::new(format!("{} {alias}", Kind::Alias), cause, FEWER_TARGETS)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use bellwire_schema::workflow::{SourceKind, Workflow};

    use super::*;
    use crate::desired::desired;
    use crate::testing::{inputs, owner, workflow};

    fn problems_of(workflow: &Workflow) -> Vec<String> {
        let resources = desired(&owner(), workflow, &inputs());
        problems(&resources).iter().map(|one| format!("{}: {}", one.place, one.cause)).collect()
    }

    #[test]
    fn the_wine_workflow_is_within_every_limit() {
        assert_eq!(problems_of(&workflow()), Vec::<String>::new());
    }

    #[test]
    fn what_has_grown_too_long_is_said_of_each_document() {
        let mut workflow = workflow();
        let raw = workflow.sources[0].clone();
        for index in 0..300 {
            let mut source = raw.clone();
            source.name = format!("raw-{index}");
            if let SourceKind::S3(s3) = &mut source.kind {
                s3.bucket = format!("{}-{index}", "b".repeat(50));
            }
            workflow.sources.push(source);
        }
        let train = workflow.triggers[1].clone();
        for index in 0..40 {
            let mut trigger = train.clone();
            trigger.name = format!("train-{index}");
            workflow.triggers.push(trigger);
        }
        workflow.publisher.trusted_by = (0..60)
            .map(|index| format!("arn:aws:iam::123456789012:role/publisher-{index}"))
            .collect();
        let found = problems_of(&workflow).join("\n");
        for expected in [
            "sqs queue wine-ingest: bytes of its policy:",
            "iam role wine-publisher: characters of its policy:",
            "iam role wine-publisher: characters of its trust policy:",
            "events rule wine-completions: characters of its pattern:",
        ] {
            assert!(found.contains(expected), "{expected} is missing: {found}");
        }
    }

    #[test]
    fn every_limit_is_measured_on_what_is_sent() {
        let mut resources = desired(&owner(), &workflow(), &inputs());
        let long = "x".repeat(300);
        for resource in &mut resources {
            match &mut resource.properties {
                Properties::Function(one) => one.description.clone_from(&long),
                Properties::Rule(one) => one.schedule = Some(long.clone()),
                Properties::StateMachine(one) => {
                    one.definition = Value::String("x".repeat(DEFINITION_BYTES_MAX));
                }
                Properties::BucketNotification(one) => {
                    let (id, entry) = one
                        .entries
                        .iter()
                        .next()
                        .map(|(a, b)| (a.clone(), b.clone()))
                        .expect("one");
                    for index in 0..=NOTIFICATIONS_MAX {
                        one.entries.insert(format!("{id}-{index}"), entry.clone());
                    }
                }
                _ => {}
            }
        }
        let environment = "E".repeat(ENVIRONMENT_BYTES_MAX);
        for resource in &mut resources {
            if let Properties::Function(one) = &mut resource.properties {
                one.release.environment.insert("A".to_owned(), environment.clone());
            }
        }
        let found: Vec<String> = problems(&resources).into_iter().map(|one| one.cause).collect();
        let found = found.join("\n");
        for expected in [
            "description: 300",
            "schedule: 300",
            "definition: 104857",
            "notifications: 10",
            "environment",
        ] {
            assert!(found.contains(expected), "{expected} is missing: {found}");
        }
    }
}
