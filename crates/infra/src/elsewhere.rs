//! What belongs to other accounts: the plan prints what their owners must add, since
//! nothing here may add it. Pure.

use bellwire_schema::completion::Watch;
use bellwire_schema::workflow::{SourceKind, Via, Workflow};
use serde_json::{Value, json};

use crate::desired::{desired, notification_entries};
use crate::inputs::Inputs;
use crate::plan::Note;
use crate::policy::{allow, canonical};
use crate::resource::{Kind, Owner, Properties, ResourceId};
use crate::watched;

/// What to know of the sources of other accounts.
pub(crate) fn notes(owner: &Owner, workflow: &Workflow) -> Vec<Note> {
    let mut notes = buckets(owner, workflow);
    notes.extend(completions(owner, workflow));
    notes.extend(alarms(owner, workflow));
    notes
}

/// The buckets of other accounts, each with its account.
pub(crate) fn foreign_buckets(workflow: &Workflow) -> Vec<(String, String)> {
    let foreign = workflow.sources.iter().filter_map(|source| match &source.kind {
        SourceKind::S3(s3) if s3.via == Via::Publisher => {
            Some((s3.bucket.clone(), s3.account.clone()?))
        }
        _ => None,
    });
    let mut foreign: Vec<(String, String)> = foreign.collect();
    foreign.sort();
    foreign.dedup();
    foreign
}

fn buckets(owner: &Owner, workflow: &Workflow) -> Vec<Note> {
    let mut notes = Vec::new();
    for (bucket, account) in foreign_buckets(workflow) {
        let mut add = |text: String| {
            notes.push(Note { id: ResourceId::new(Kind::BucketNotification, &bucket), text });
        };
        let told: Vec<Value> = notification_entries(owner, workflow, &bucket)
            .into_iter()
            .map(|(id, entry)| {
                json!({
                    "Id": id,
                    "QueueArn": entry.destination_arn,
                    "Events": entry.events,
                    "Filter": {"Key": {"FilterRules": [
                        {"Name": "prefix", "Value": entry.prefix},
                        {"Name": "suffix", "Value": entry.suffix},
                    ]}},
                })
            })
            .collect();
        add(format!(
            "account {account} must add to the bucket's QueueConfigurations: {}",
            Value::Array(told)
        ));
        let readers = readers(owner, workflow, &bucket);
        if readers.is_empty() {
            continue;
        }
        for statement in &readers {
            add(format!("account {account} must add to the bucket's policy: {statement}"));
        }
        if let Some(key) = key_of(workflow, &bucket) {
            let roles: Vec<Value> =
                readers.iter().map(|one| one["Principal"]["AWS"].clone()).collect();
            let mut statement = allow("ReadersDecrypt", &["kms:Decrypt"], &["*".to_owned()]);
            statement["Principal"] = json!({"AWS": roles});
            let statement = canonical(&statement);
            add(format!("account {account} must add to the policy of key {key}: {statement}"));
        }
    }
    notes
}

fn key_of(workflow: &Workflow, bucket: &str) -> Option<String> {
    workflow.sources.iter().find_map(|source| match &source.kind {
        SourceKind::S3(s3) if s3.bucket == bucket => s3.kms_key.clone(),
        _ => None,
    })
}

/// For each role what its own policy lets it do with a bucket, as the bucket's policy must
/// say it, too.
fn readers(owner: &Owner, workflow: &Workflow, bucket: &str) -> Vec<Value> {
    let arn = owner.place.bucket_arn(bucket);
    let is_of_bucket = |resource: &Value| {
        let is_it = |text: &Value| {
            let rest = text.as_str().and_then(|text| text.strip_prefix(&arn));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        resource.as_array().map_or_else(|| is_it(resource), |all| all.iter().any(is_it))
    };
    let mut found = Vec::new();
    for resource in desired(owner, workflow, &Inputs::default()) {
        let Properties::Role(role) = resource.properties else { continue };
        let statements = role.policy["Statement"].as_array().cloned().unwrap_or_default();
        for mut statement in statements.into_iter().filter(|one| is_of_bucket(&one["Resource"])) {
            statement["Principal"] = json!({"AWS": role.arn});
            let sid = format!("{}{}", role.name, statement["Sid"].as_str().unwrap_or_default());
            let sid: String = sid.chars().filter(char::is_ascii_alphanumeric).collect();
            statement["Sid"] = json!(sid);
            found.push(statement);
        }
    }
    found
}

/// Completions of another account come over its event bus to ours. Source: Amazon
/// EventBridge user guide, "Sending and receiving Amazon EventBridge events between AWS
/// accounts".
fn completions(owner: &Owner, workflow: &Workflow) -> Vec<Note> {
    let place = &owner.place;
    let bus = format!(
        "arn:{}:events:{}:{}:event-bus/default",
        place.partition, place.region, place.account
    );
    let mut notes = Vec::new();
    for source in &workflow.sources {
        let (SourceKind::StepFunctions(of) | SourceKind::Sagemaker(of) | SourceKind::Batch(of)) =
            &source.kind
        else {
            continue;
        };
        let account = of.resource.split(':').nth(4).filter(|account| !account.is_empty());
        let Some(account) = account.filter(|account| *account != place.account) else { continue };
        let pattern = watched::pattern(&source.kind, place).unwrap_or_else(|| {
            let machines =
                Watch::of(&source.kind, place).into_iter().filter_map(|watch| match watch {
                    Watch::StateMachine(arn) => Some(arn),
                    _ => None,
                });
            watched::executions(&machines.collect::<Vec<_>>())
        });
        let rule = match &source.kind {
            SourceKind::StepFunctions(_) => owner.deployment.rule("completions"),
            _ => owner.deployment.rule(&source.name),
        };
        let mut add = |text: String| {
            notes.push(Note { id: ResourceId::new(Kind::Rule, &rule), text });
        };
        let admits = json!({
            "Sid": format!("Account{account}Puts"),
            "Effect": "Allow",
            "Principal": {"AWS": format!("arn:{}:iam::{account}:root", place.partition)},
            "Action": "events:PutEvents",
            "Resource": bus,
        });
        add(format!("the policy of this account's default event bus must have: {admits}"));
        add(format!(
            "account {account} must make an EventBridge rule with the pattern {pattern} and the target {bus}"
        ));
    }
    notes
}

/// Alarms that tell nobody, and a topic that nothing encrypts.
fn alarms(owner: &Owner, workflow: &Workflow) -> Vec<Note> {
    let alarms = &workflow.alarms;
    let mut notes = Vec::new();
    if !alarms.enabled {
        return notes;
    }
    if alarms.email.is_none() && alarms.topic.is_none() {
        let id = ResourceId::new(Kind::Alarm, owner.deployment.alarm("dead-queue"));
        let text = "it and all other alarms tell nobody: write `email` or `topic` in [alarms]";
        notes.push(Note { id, text: text.to_owned() });
    }
    if alarms.email.is_some() && workflow.topic_key().is_none() {
        let id = ResourceId::new(Kind::Topic, owner.deployment.alarm_topic());
        let text = "not encrypted: CloudWatch cannot publish under the key that AWS manages; with `kms_key` in [topic] it is";
        notes.push(Note { id, text: text.to_owned() });
    }
    notes
}
