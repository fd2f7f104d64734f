//! The customer key that encrypts the topic: who must be let use it, and what its policy
//! says of that. Pure.

use bellwire_schema::workflow::{TopicKey, Via, Workflow};
use serde_json::{Value, json};

use crate::desired::buckets_via;
use crate::policy::{allow, canonical, document};
use crate::resource::Owner;

/// What whoever publishes to an encrypted topic does with its key: SNS asks for data keys
/// in the publisher's name. Source: Amazon SNS developer guide, "Key management", on
/// permissions of publishers.
const USES: [&str; 2] = ["kms:Decrypt", "kms:GenerateDataKey"];

/// The ARN or the alias that SNS knows the key by.
pub(crate) fn name(owner: &Owner, key: &TopicKey) -> String {
    match key {
        TopicKey::Create => owner.deployment.key_alias(),
        TopicKey::Named(name) => name.clone(),
    }
}

/// What a role that publishes may do with the topic's key, through SNS alone; `None` for
/// the key that AWS manages, which admits all of the account.
pub(crate) fn use_of(owner: &Owner, workflow: &Workflow) -> Option<Value> {
    let name = name(owner, workflow.topic_key()?);
    let place = &owner.place;
    let keys = format!("arn:{}:kms:{}:{}:", place.partition, place.region, place.account);
    // An alias is no resource of what is done with its key: the key is known by it.
    // Source: AWS KMS developer guide, "Use aliases to control access to KMS keys".
    let (resource, alias) = match name.split_once("alias/") {
        Some((before, alias)) => {
            let keys = if before.is_empty() { &keys } else { before };
            (format!("{keys}key/*"), Some(format!("alias/{alias}")))
        }
        None if name.starts_with("arn:") => (name, None),
        None => (format!("{keys}key/{name}"), None),
    };
    let mut statement = allow("UseTopicKey", &USES, &[resource]);
    statement["Condition"] = json!({"StringEquals": {"kms:ViaService": via_sns(owner)}});
    if let Some(alias) = alias {
        // A condition on a set of values takes an operator of its own.
        statement["Condition"]["ForAnyValue:StringEquals"] = json!({"kms:ResourceAliases": alias});
    }
    Some(statement)
}

fn via_sns(owner: &Owner) -> String {
    format!("sns.{}.amazonaws.com", owner.place.region)
}

/// The policy of a key that the deploy makes: the account administers it and lets its
/// roles use it, and exactly those services that publish are admitted.
///
/// In the policy of a key `*` is this key. Source: AWS KMS developer guide, "Elements in a
/// key policy".
pub(crate) fn policy(owner: &Owner, workflow: &Workflow) -> Value {
    let administer = json!({
        "Sid": "AccountAdministers",
        "Effect": "Allow",
        "Principal": {"AWS": account_root(owner)},
        "Action": "kms:*",
        "Resource": "*",
    });
    let statements: Vec<Value> =
        [administer].into_iter().chain(services(owner, workflow)).collect();
    document(&statements)
}

fn account_root(owner: &Owner) -> String {
    format!("arn:{}:iam::{}:root", owner.place.partition, owner.place.account)
}

/// The statements that the policy of a key that somebody else made must have.
pub(crate) fn required(owner: &Owner, workflow: &Workflow) -> Vec<Value> {
    let deployment = &owner.deployment;
    let roles = [deployment.handler(), deployment.publisher()].map(|role| owner.role_arn(&role));
    let components = json!({
        "Sid": "ComponentsPublish",
        "Effect": "Allow",
        "Principal": {"AWS": roles},
        "Action": USES,
        "Resource": "*",
        "Condition": {"StringEquals": {"kms:ViaService": via_sns(owner)}},
    });
    let all = [components].into_iter().chain(services(owner, workflow));
    all.map(|statement| canonical(&statement)).collect()
}

/// The services that publish to the topic themselves, each for what it publishes for; and
/// CloudWatch, whose alarms have a topic under the same key.
fn services(owner: &Owner, workflow: &Workflow) -> impl Iterator<Item = Value> {
    let buckets = buckets_via(workflow, Via::Topic);
    let arns: Vec<String> = buckets.iter().map(|one| owner.place.bucket_arn(one)).collect();
    let publishes = |sid: &str, service: &str, operator: &str, sources: &[String]| {
        json!({
            "Sid": sid,
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": USES,
            "Resource": "*",
            "Condition": {
                operator: {"aws:SourceArn": sources},
                "StringEquals": {"aws:SourceAccount": owner.place.account},
            },
        })
    };
    let buckets = (!arns.is_empty())
        .then(|| publishes("BucketsPublish", "s3.amazonaws.com", "ArnEquals", &arns));
    let has_alarms = workflow.alarms.enabled && workflow.alarms.email.is_some();
    let alarms = has_alarms.then(|| {
        let alarms = owner.place.alarm_arn(&format!("{}-*", owner.deployment.prefix()));
        publishes("AlarmsPublish", "cloudwatch.amazonaws.com", "ArnLike", &[alarms])
    });
    buckets.into_iter().chain(alarms)
}

/// Whether the policy of a key admits whom a statement admits, as far as its statements
/// say so without conditions or with the very same ones; a person judges the others.
pub(crate) fn admits(owner: &Owner, policy: &Value, wanted: &Value) -> bool {
    let statements = policy["Statement"].as_array().into_iter().flatten();
    let allowing = statements.filter(|one| {
        let condition = &one["Condition"];
        one["Effect"] == "Allow"
            && (condition.is_null() || *condition == wanted["Condition"])
            && names_all(&one["Principal"], &wanted["Principal"], &account_root(owner))
    });
    let allowed: Vec<String> = allowing.flat_map(|one| texts(&one["Action"])).collect();
    texts(&wanted["Action"]).iter().all(|action| allowed.iter().any(|one| covers(one, action)))
}

/// Whether each of the wanted principals is named; a role is by its account, too, which
/// lets the role's own policy decide.
fn names_all(found: &Value, wanted: &Value, account_root: &str) -> bool {
    if *found == "*" {
        return true;
    }
    let account = account_root.split(':').nth(4).unwrap_or_default();
    let names = |kind: &str, name: &String| {
        let found = texts(&found[kind]);
        found.iter().any(|one| one == "*" || one == name)
            || (kind == "AWS" && found.iter().any(|one| one == account_root || one == account))
    };
    ["AWS", "Service"].iter().all(|kind| texts(&wanted[*kind]).iter().all(|one| names(kind, one)))
}

/// Whether an action as it stands in a policy, with a `*` at its end at most, is this one.
fn covers(pattern: &str, action: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => action.starts_with(start),
        None => pattern == action,
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        _ => Vec::new(),
    }
}
