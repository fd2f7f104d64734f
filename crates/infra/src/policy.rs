//! Policy documents: who may do what, each derived from what a component calls
//! and from the resources in the plan. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bellwire_ledger::{BY_DUE_INDEX, BY_RUN_INDEX};
use bellwire_schema::workflow::{
    Access, AccessVerb, ClaimCheck, ContextFrom, Delivery, PublisherRun, SourceKind, Workflow,
};
use serde_json::{Map, Value, json};

use crate::gather;
use crate::resource::Owner;
use crate::targets;
use crate::topic_key;

const VERSION: &str = "2012-10-17";

/// A document of these statements, in the form in which all are compared.
pub(crate) fn document(statements: &[Value]) -> Value {
    canonical(&json!({"Version": VERSION, "Statement": statements}))
}

/// One form for what AWS reads as one and the same: lists of texts sorted, and a
/// list of one as its only member.
#[must_use]
pub(crate) fn canonical(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(canonical).collect();
            if items.iter().all(Value::is_string) {
                items.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
                items.dedup();
            }
            match items.as_slice() {
                [only] if only.is_string() => only.clone(),
                _ => Value::Array(items),
            }
        }
        Value::Object(fields) => {
            // A single statement may stand without its list.
            let field = |(key, value): (&String, &Value)| {
                let is_lone = key == "Statement" && value.is_object();
                let value = if is_lone { json!([canonical(value)]) } else { canonical(value) };
                (key.clone(), value)
            };
            Value::Object(fields.iter().map(field).collect())
        }
        other => other.clone(),
    }
}

/// Reads JSON as it is; `null` where it is none.
pub(crate) fn parse_value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

/// Reads a policy document into the form in which all are compared.
pub(crate) fn parse(text: &str) -> Value {
    canonical(&parse_value(text))
}

/// Reads a policy document as IAM returns it: percent-encoded (RFC 3986).
pub(crate) fn parse_encoded(text: &str) -> Value {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let decoded = match (first, tail) {
            (b'%', [high, low, ..]) => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    parse(&String::from_utf8_lossy(&bytes))
}

/// The ARN for which a statement lets a service call, as its condition has it.
pub(crate) fn source_arn_of(condition: &Value) -> String {
    let operators = condition.as_object().into_iter().flatten();
    let mut keys = operators.flat_map(|(_, keys)| keys.as_object().into_iter().flatten());
    let found = keys.find(|(key, _)| key.eq_ignore_ascii_case("aws:SourceArn"));
    found.and_then(|(_, arn)| arn.as_str()).unwrap_or_default().to_owned()
}

/// How many different actions a document allows.
pub(crate) fn actions(document: &Value) -> usize {
    let statements = document["Statement"].as_array().into_iter().flatten();
    let actions = statements.flat_map(|statement| match &statement["Action"] {
        Value::Array(actions) => actions.clone(),
        Value::Null => Vec::new(),
        action => vec![action.clone()],
    });
    actions.map(|action| action.to_string()).collect::<BTreeSet<_>>().len()
}

pub(crate) fn allow(sid: &str, actions: &[&str], resources: &[String]) -> Value {
    json!({"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources})
}

/// The Sid of the statement that refuses what does not come over TLS.
const SID_TLS: &str = "TlsOnly";

/// Refuses what does not come over TLS.
pub(crate) fn tls_only(action: &str, resources: &[String]) -> Value {
    json!({
        "Sid": SID_TLS,
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": resources,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    })
}

/// Whether a policy refuses what does not come over TLS, of everybody.
pub(crate) fn is_tls_only(policy: &Value) -> bool {
    let statements = policy["Statement"].as_array().into_iter().flatten();
    let refuses = |statement: &Value| {
        statement["Effect"] == "Deny"
            && statement["Principal"] == "*"
            && statement["Condition"]["Bool"]["aws:SecureTransport"] == "false"
    };
    statements.into_iter().any(refuses)
}

/// A policy without that statement; `null` where nothing is left of it.
pub(crate) fn without_tls_only(policy: &Value) -> Value {
    let statements = policy["Statement"].as_array().cloned().unwrap_or_default();
    let left: Vec<Value> =
        statements.into_iter().filter(|statement| statement["Sid"] != SID_TLS).collect();
    if left.is_empty() { Value::Null } else { document(&left) }
}

/// The topic's: everybody needs an IAM permission of their own, and TLS; but for the
/// buckets of sources with `via = "topic"`, for which S3 may publish.
#[must_use]
pub fn topic(owner: &Owner, topic_arn: &str, buckets: &[String]) -> Value {
    let mut statements = Vec::new();
    if !buckets.is_empty() {
        statements.push(buckets_notify(owner, "sns:Publish", topic_arn, buckets));
    }
    statements.push(tls_only("sns:Publish", &[topic_arn.to_owned()]));
    document(&statements)
}

/// Lets S3 tell a queue or topic, for these buckets of this account.
fn buckets_notify(owner: &Owner, action: &str, destination: &str, buckets: &[String]) -> Value {
    let buckets: Vec<String> = buckets.iter().map(|b| owner.place.bucket_arn(b)).collect();
    service_may(owner, SID_BUCKETS, "s3.amazonaws.com", action, destination, &buckets)
}

/// Lets a service do this to a queue or topic for these resources of this account.
fn service_may(
    owner: &Owner,
    sid: &str,
    service: &str,
    action: &str,
    resource: &str,
    sources: &[String],
) -> Value {
    json!({
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": action,
        "Resource": resource,
        "Condition": {
            "ArnEquals": {"aws:SourceArn": sources},
            "StringEquals": {"aws:SourceAccount": owner.place.account},
        },
    })
}

/// The Sid under which the ingest queue and the topic admit S3; the buckets it names
/// are those that have ever been told to notify them.
const SID_BUCKETS: &str = "BucketsNotify";

/// The ingest queue's: the buckets and rules of the plan may fill it, and the buckets of
/// other accounts.
#[must_use]
pub fn ingest_queue(
    owner: &Owner,
    buckets: &[String],
    of_others: &BTreeMap<String, Vec<String>>,
    rules: &[String],
) -> Value {
    let queue = owner.place.queue_arn(&owner.deployment.ingest_queue());
    let mut statements = Vec::new();
    if !buckets.is_empty() {
        statements.push(buckets_notify(owner, "sqs:SendMessage", &queue, buckets));
    }
    for (account, buckets) in of_others {
        statements.push(others_notify(owner, account, buckets, &queue));
    }
    if !rules.is_empty() {
        statements.push(rules_may_send(owner, &queue, rules));
    }
    statements.push(tls_only("sqs:*", &[queue]));
    document(&statements)
}

/// Lets S3 tell the ingest queue for buckets of another account.
fn others_notify(owner: &Owner, account: &str, buckets: &[String], queue: &str) -> Value {
    let buckets: Vec<String> = buckets.iter().map(|b| owner.place.bucket_arn(b)).collect();
    let sid = format!("BucketsOf{account}Notify");
    let service = "s3.amazonaws.com";
    let mut admits = service_may(owner, &sid, service, "sqs:SendMessage", queue, &buckets);
    admits["Condition"]["StringEquals"]["aws:SourceAccount"] = account.into();
    admits
}

fn rules_may_send(owner: &Owner, queue: &str, rules: &[String]) -> Value {
    let rules: Vec<String> = rules.iter().map(|rule| owner.place.rule_arn(rule)).collect();
    let service = "events.amazonaws.com";
    service_may(owner, "RulesSend", service, "sqs:SendMessage", queue, &rules)
}

/// The buckets that the policy of an ingest queue or topic admits, by name.
pub(crate) fn buckets_of(policy: &Value) -> Vec<String> {
    let statements = policy["Statement"].as_array().into_iter().flatten();
    let admitted = statements.filter(|statement| statement["Sid"] == SID_BUCKETS);
    let sources =
        admitted.flat_map(
            |statement| match &statement["Condition"]["ArnEquals"]["aws:SourceArn"] {
                Value::Array(arns) => arns.clone(),
                arn => vec![arn.clone()],
            },
        );
    sources.filter_map(|arn| Some(arn.as_str()?.split(":::").nth(1)?.to_owned())).collect()
}

pub(crate) fn topic_may_send(sid: &str, queue: &str, topic: &str) -> Value {
    json!({
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    })
}

/// A dead queue's: what the topic, where it may, and the rules could not deliver.
#[must_use]
pub fn dead_queue(owner: &Owner, queue: &str, topic: Option<&str>, rules: &[String]) -> Value {
    let redrives = topic.map(|topic| topic_may_send("TopicRedrives", queue, topic));
    let mut statements: Vec<Value> = redrives.into_iter().collect();
    if !rules.is_empty() {
        statements.push(rules_may_send(owner, queue, rules));
    }
    statements.push(tls_only("sqs:*", &[queue.to_owned()]));
    document(&statements)
}

/// The work queue's: the topic alone fills it.
#[must_use]
pub fn work_queue(queue: &str, topic: &str) -> Value {
    let delivers = topic_may_send("TopicDelivers", queue, topic);
    document(&[delivers, tls_only("sqs:*", &[queue.to_owned()])])
}

/// The queue of hints': nobody fills it but the handler, by its role.
#[must_use]
pub fn hint_queue(queue: &str) -> Value {
    document(&[tls_only("sqs:*", &[queue.to_owned()])])
}

/// The policy of a bucket of ours.
#[must_use]
pub fn bucket(owner: &Owner, bucket: &str) -> Value {
    let arn = owner.place.bucket_arn(bucket);
    document(&[tls_only("s3:*", &[arn.clone(), format!("{arn}/*")])])
}

/// Lets Lambda run a function as a role. Lambda documents no condition key for
/// this call, and a condition on one that is absent would refuse every call.
#[must_use]
pub fn trust_lambda() -> Value {
    document(&[json!({
        "Sid": "LambdaAssumes",
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": "sts:AssumeRole",
    })])
}

/// Lets Step Functions run one state machine as a role.
#[must_use]
pub fn trust_state_machine(owner: &Owner, state_machine: &str) -> Value {
    document(&[json!({
        "Sid": "StepFunctionsAssumes",
        "Effect": "Allow",
        "Principal": {"Service": "states.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {
            "ArnEquals": {"aws:SourceArn": owner.place.state_machine_arn(state_machine)},
            "StringEquals": {"aws:SourceAccount": owner.place.account},
        },
    })])
}

/// Services that say for which account they assume a role (their own guides on
/// the confused deputy); on others the condition would refuse every call.
const TELL_THEIR_ACCOUNT: &[&str] =
    &["ecs-tasks.amazonaws.com", "sagemaker.amazonaws.com", "batch.amazonaws.com"];

/// EKS Pod Identity assumes no role whose sessions it may not tag. Source: Amazon EKS
/// user guide, "Create IAM role with trust policy required by EKS Pod Identity".
const TAGS_ITS_SESSIONS: &str = "pods.eks.amazonaws.com";

/// Lets those that the workflow names assume the publisher's role; where it
/// names nobody, whoever in the account has a permission of their own to do so.
#[must_use]
pub fn trust_publisher(owner: &Owner, trusted_by: &[String]) -> Value {
    let account_root = format!("arn:{}:iam::{}:root", owner.place.partition, owner.place.account);
    if trusted_by.is_empty() {
        return document(&[assumed_by(
            "AccountAssumes",
            &json!({"AWS": account_root}),
            false,
            owner,
        )]);
    }
    let (arns, services): (Vec<&String>, Vec<&String>) =
        trusted_by.iter().partition(|one| one.starts_with("arn:"));
    let (pods, services): (Vec<&String>, Vec<&String>) =
        services.into_iter().partition(|service| service.as_str() == TAGS_ITS_SESSIONS);
    let (telling, silent): (Vec<&String>, Vec<&String>) =
        services.into_iter().partition(|service| TELL_THEIR_ACCOUNT.contains(&service.as_str()));
    let mut statements = Vec::new();
    if !pods.is_empty() {
        let mut assumed = assumed_by("PodsAssume", &json!({"Service": pods}), false, owner);
        assumed["Action"] = json!(["sts:AssumeRole", "sts:TagSession"]);
        statements.push(assumed);
    }
    if !telling.is_empty() {
        statements.push(assumed_by("ServicesAssume", &json!({"Service": telling}), true, owner));
    }
    if !silent.is_empty() {
        let sid = "ServicesWithoutAccountAssume";
        statements.push(assumed_by(sid, &json!({"Service": silent}), false, owner));
    }
    if !arns.is_empty() {
        statements.push(assumed_by("NamedAssume", &json!({"AWS": arns}), false, owner));
    }
    document(&statements)
}

fn assumed_by(sid: &str, principal: &Value, of_account: bool, owner: &Owner) -> Value {
    let mut statement = Map::from_iter([
        ("Sid".to_owned(), sid.into()),
        ("Effect".to_owned(), "Allow".into()),
        ("Principal".to_owned(), principal.clone()),
        ("Action".to_owned(), "sts:AssumeRole".into()),
    ]);
    if of_account {
        let condition = json!({"StringEquals": {"aws:SourceAccount": owner.place.account}});
        statement.insert("Condition".to_owned(), condition);
    }
    Value::Object(statement)
}

fn write_logs(owner: &Owner, function: &str) -> Value {
    let group = owner.place.log_group_arn(&crate::desired::log_group_of(function));
    let actions = ["logs:CreateLogStream", "logs:PutLogEvents"];
    allow("WriteLogs", &actions, &[format!("{group}:*")])
}

/// What fetching payloads of the claim check takes. A key that is not there is
/// "not found" only to who may list, and "denied" to all others. Source: Amazon
/// S3 API reference, `GetObject`, "Permissions".
fn read_claims(owner: &Owner, check: &ClaimCheck) -> [Value; 2] {
    let bucket = owner.place.bucket_arn(&check.bucket);
    let keys = format!("{}*", check.prefix);
    let read = allow("ReadClaims", &["s3:GetObject"], &[format!("{bucket}/{keys}")]);
    let mut list = allow("TellMissingClaims", &["s3:ListBucket"], &[bucket]);
    list["Condition"] = json!({"StringLike": {"s3:prefix": keys}});
    [read, list]
}

/// What the handler calls.
#[must_use]
pub fn handler(owner: &Owner, workflow: &Workflow) -> Value {
    let Owner { deployment, place, .. } = owner;
    let table = place.table_arn(&deployment.ledger_table());
    let indexes = [BY_DUE_INDEX, BY_RUN_INDEX].map(|index| format!("{table}/index/{index}"));
    let ledger = ["dynamodb:PutItem", "dynamodb:UpdateItem"];
    let mut statements = vec![
        write_logs(owner, &deployment.handler()),
        allow("KeepLedger", &ledger, &[table]),
        allow("QueryLedger", &["dynamodb:Query"], &indexes),
        allow(
            "Publish",
            &["sns:Publish"],
            &[place.topic_arn(&deployment.topic(workflow.topic.kind))],
        ),
        allow("Quarantine", &["sqs:SendMessage"], &[place.queue_arn(&deployment.dead_queue())]),
    ];
    statements.extend(targets::statements(owner, workflow));
    // What Lambda calls for it. Source: AWS Lambda developer guide, "Creating and
    // configuring an Amazon SQS event source mapping", on the execution role.
    let take = ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"];
    if workflow.has_short_waits() {
        let hints = [place.queue_arn(&deployment.hint_queue())];
        statements.push(allow("SendHints", &["sqs:SendMessage"], &hints));
        statements.push(allow("TakeHints", &take, &hints));
    }
    if workflow.handler.delivery == Delivery::Queued {
        let work = place.queue_arn(&deployment.work_queue(workflow.topic.kind));
        statements.push(allow("TakeWork", &take, &[work]));
    }
    if let Some(check) = &workflow.claim_check {
        statements.extend(read_claims(owner, check));
    }
    statements.extend(gather::statements(owner, workflow));
    statements.extend(topic_key::use_of(owner, workflow));
    document(&statements)
}

/// What the publisher calls; and, where it is a function, what Lambda calls for it:
/// to receive, to delete and to count. Source: AWS Lambda developer guide, "Creating
/// and configuring an Amazon SQS event source mapping", on the execution role.
#[must_use]
pub fn publisher(owner: &Owner, workflow: &Workflow) -> Value {
    let Owner { deployment, place, .. } = owner;
    let ingest = place.queue_arn(&deployment.ingest_queue());
    let dead = place.queue_arn(&deployment.dead_queue());
    let table = place.table_arn(&deployment.ledger_table());
    let receive = [
        "sqs:ChangeMessageVisibility",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
        "sqs:ReceiveMessage",
    ];
    // A sidecar makes sure that its queues and topic are there, and `--check` asks for
    // their attributes; a function was deployed with them, and Lambda itself asks for
    // those of the ingest queue.
    let (ask, quarantine, publish) = match workflow.publisher.run {
        PublisherRun::Sidecar => (
            &["sqs:GetQueueUrl"][..],
            &["sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SendMessage"][..],
            &["sns:GetTopicAttributes", "sns:Publish"][..],
        ),
        PublisherRun::Lambda => (&[][..], &["sqs:SendMessage"][..], &["sns:Publish"][..]),
    };
    let mut statements = vec![
        allow("Receive", &[receive.as_slice(), ask].concat(), &[ingest]),
        allow("Quarantine", quarantine, &[dead]),
        allow("Publish", publish, &[place.topic_arn(&deployment.topic(workflow.topic.kind))]),
        allow("FindRuns", &["dynamodb:Query"], &[format!("{table}/index/{BY_RUN_INDEX}")]),
    ];
    let objects: BTreeSet<String> = workflow
        .sources
        .iter()
        .filter_map(|source| match &source.kind {
            SourceKind::S3(s3) if s3.context == ContextFrom::Metadata => Some(s3),
            _ => None,
        })
        .flat_map(|s3| {
            let names = workflow.hidden_markers(s3).into_iter().chain([s3.suffix.as_str()]);
            let bucket = place.bucket_arn(&s3.bucket);
            names.map(|name| format!("{bucket}/{}*{name}", s3.prefix)).collect::<Vec<_>>()
        })
        .collect();
    if !objects.is_empty() {
        let objects: Vec<String> = objects.into_iter().collect();
        // A HEAD that names a version takes the second, one that names none the first.
        let read = ["s3:GetObject", "s3:GetObjectVersion"];
        statements.push(allow("ReadContext", &read, &objects));
    }
    if let Some(check) = &workflow.claim_check {
        let keys = format!("{}/{}*", place.bucket_arn(&check.bucket), check.prefix);
        statements.push(allow("PutClaims", &["s3:PutObject"], &[keys]));
    }
    if workflow.publisher.run == PublisherRun::Lambda {
        statements.push(write_logs(owner, &deployment.publisher()));
    }
    statements.extend(topic_key::use_of(owner, workflow));
    document(&statements)
}

/// What a function of the user's own may do: its logs, and its `access` lines.
#[must_use]
pub fn function(owner: &Owner, name: &str, access: &[Access]) -> Value {
    let mut statements = vec![write_logs(owner, name)];
    let of = |verb: AccessVerb| access.iter().filter(move |line| line.verb == verb);
    let objects = |verb: AccessVerb| -> Vec<String> {
        of(verb)
            .map(|line| format!("{}/{}", owner.place.bucket_arn(&line.bucket), line.keys))
            .collect()
    };
    let grants = [
        ("Read", "s3:GetObject", AccessVerb::S3Read),
        ("Write", "s3:PutObject", AccessVerb::S3Write),
        ("Delete", "s3:DeleteObject", AccessVerb::S3Delete),
    ];
    for (sid, action, verb) in grants {
        let objects = objects(verb);
        if !objects.is_empty() {
            statements.push(allow(sid, &[action], &objects));
        }
    }
    let buckets: BTreeSet<&str> = of(AccessVerb::S3Read).map(|line| line.bucket.as_str()).collect();
    for (index, bucket) in buckets.into_iter().enumerate() {
        let keys: Vec<&str> = of(AccessVerb::S3Read)
            .filter(|line| line.bucket == bucket)
            .map(|line| line.keys.as_str())
            .collect();
        let mut list =
            allow(&format!("List{index}"), &["s3:ListBucket"], &[owner.place.bucket_arn(bucket)]);
        list["Condition"] = json!({"StringLike": {"s3:prefix": keys}});
        statements.push(list);
    }
    document(&statements)
}

/// What a state machine calls: the functions that its definition names; `null`,
/// no policy at all, where it names none.
#[must_use]
pub fn state_machine(functions: &[String]) -> Value {
    if functions.is_empty() {
        return Value::Null;
    }
    document(&[allow("InvokeFunctions", &["lambda:InvokeFunction"], functions)])
}
