//! Every policy of workflows that use everything, statement by statement: nobody may more
//! than AWS makes necessary, and no service for anybody else.

use std::collections::{BTreeSet, HashSet};

use bellwire_schema::workflow::{
    Gather, GatherUntil, OnDeadline, PublisherRun, SourceKind, TopicKey, TopicKind, Workflow,
};
use serde_json::Value;

use super::secure::straight;
use super::{
    as_function, changed, desired_of, queued, starting_everything, watching, with_claim_check,
};
use crate::inputs::Inputs;
use crate::resource::{Kind, Properties};
use crate::testing::inputs;
use crate::uses::{Allowed, BESIDE_THE_EXAMPLE};

/// Statements whose resource is everything of its kind, by Sid, and why.
const ON_EVERYTHING: [(&str, &str); 2] = [
    ("FindJobs", "AWS Batch judges these calls by no resource"),
    ("UseTopicKey", "a key is known by its alias, which is a condition and no resource"),
];

/// Statements that let a service in without saying for what, by Sid, and why.
const FOR_ANYTHING: [(&str, &str); 3] = [
    ("LambdaAssumes", "Lambda tells nothing when it assumes a role"),
    ("PodsAssume", "EKS Pod Identity tells nothing but tags of its own"),
    ("ServicesWithoutAccountAssume", "nobody documents that these services tell anything"),
];

/// Actions of a policy that are named by a pattern, by Sid, and why.
const BY_PATTERN: [(&str, &str); 2] = [
    ("TlsOnly", "it refuses, and the more the better"),
    ("AccountAdministers", "without it nobody could administer the key"),
];

/// Workflows that use, together, everything that makes a statement.
fn everything() -> Vec<(Workflow, Inputs)> {
    let mut all = vec![
        (starting_everything(), inputs()),
        (watching(), inputs()),
        (with_claim_check(), inputs()),
        as_function(),
        changed(),
        (queued(TopicKind::Fifo), inputs()),
    ];
    for (until, cooldown_s) in [
        (GatherUntil::Manifest("manifest.json".to_owned()), None),
        (GatherUntil::Marker("_SUCCESS".to_owned()), Some(10)),
    ] {
        let mut gathering = with_claim_check();
        let on_deadline = OnDeadline::Dead;
        gathering.triggers[1].gather =
            Some(Gather { until, by: None, within_s: 3_600, on_deadline });
        gathering.triggers[1].guards.cooldown_s = cooldown_s;
        all.push((gathering, inputs()));
    }
    let mut keyed = straight(TopicKey::Create);
    keyed.publisher.run = PublisherRun::Sidecar;
    keyed.publisher.trusted_by = [
        "ecs-tasks.amazonaws.com",
        "ec2.amazonaws.com",
        "pods.eks.amazonaws.com",
        "arn:aws:iam::123456789012:role/app",
    ]
    .map(str::to_owned)
    .into();
    all.push((keyed, inputs()));
    all
}

/// A statement, and what it stands in.
struct Found {
    within: String,
    /// Whether it is a role's own: what the role may do.
    is_role_s: bool,
    statement: Value,
}

impl Found {
    fn sid(&self) -> &str {
        self.statement["Sid"].as_str().unwrap_or_default()
    }

    fn texts(&self, key: &str) -> Vec<String> {
        match &self.statement[key] {
            Value::Array(items) => {
                items.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
            }
            Value::String(text) => vec![text.clone()],
            _ => vec![],
        }
    }
}

fn statements() -> Vec<Found> {
    let mut found = Vec::new();
    for (workflow, inputs) in everything() {
        for resource in desired_of(&workflow, &inputs) {
            let within = resource.id().to_string();
            let policies: Vec<(bool, Value)> = match resource.properties {
                Properties::Role(role) => vec![(true, role.policy), (false, role.trust)],
                Properties::Topic(topic) => vec![(false, topic.policy)],
                Properties::Queue(queue) => vec![(false, queue.policy)],
                Properties::Bucket(bucket) => vec![(false, bucket.policy)],
                Properties::Key(key) => vec![(false, key.policy)],
                _ => continue,
            };
            for (is_role_s, policy) in policies {
                let statements = policy["Statement"].as_array().cloned().unwrap_or_default();
                let found_here = statements.into_iter().map(|statement| Found {
                    within: within.clone(),
                    is_role_s,
                    statement,
                });
                found.extend(found_here);
            }
        }
    }
    found
}

/// All that the role of a component may do in one of these workflows or another.
fn allowed_of_roles(component: &str) -> BTreeSet<Allowed> {
    let role = format!("{} wine-{component}", Kind::Role);
    let of_role = statements().into_iter().filter(|found| found.is_role_s && found.within == role);
    of_role
        .flat_map(|found| {
            let sid = found.sid().to_owned();
            let actions = found.texts("Action").into_iter();
            actions.map(|action| Allowed { sid: sid.clone(), action }).collect::<Vec<_>>()
        })
        .collect()
}

/// What the table says of a role is of what the role may do, or it is stale.
#[test]
fn what_nobody_calls_is_listed_of_what_there_is() {
    for (component, uses) in BESIDE_THE_EXAMPLE {
        let role = if component == "function" { "worker" } else { component };
        let allowed = allowed_of_roles(role);
        for one in uses {
            for action in one.actions {
                let listed = Allowed { sid: one.sid.to_owned(), action: (*action).to_owned() };
                assert!(allowed.contains(&listed), "{component}: {listed:?}");
            }
        }
    }
}

/// Asserts that only those are otherwise which a table names, and that each of it is.
fn only_those(table: &[(&str, &str)], otherwise: impl Fn(&Found) -> bool) {
    let mut used = BTreeSet::new();
    for found in statements() {
        if otherwise(&found) {
            let is_named = table.iter().any(|(sid, _)| *sid == found.sid());
            assert!(is_named, "{}: {:#}", found.within, found.statement);
            used.insert(found.sid().to_owned());
        }
    }
    let named: BTreeSet<String> = table.iter().map(|(sid, _)| (*sid).to_owned()).collect();
    assert_eq!(used, named, "what the table names is as it says");
}

#[test]
fn everything_has_statements_of_every_kind() {
    let statements = statements();
    for kind in [Kind::Role, Kind::Topic, Kind::Queue, Kind::Bucket, Kind::Key] {
        let label = kind.label();
        assert!(statements.iter().any(|found| found.within.starts_with(label)), "{label}");
    }
    // One of each Sid that there is: a new one must come here too.
    let sids: BTreeSet<&str> = statements.iter().map(Found::sid).collect();
    assert!(!sids.contains(""), "a statement without a Sid is hard to read in a plan");
    insta::assert_snapshot!("sids", sids.into_iter().collect::<Vec<_>>().join("\n"));
}

/// What a resource may end in where all of it is one resource's own: its objects, its
/// streams, its executions, its revisions.
const PARTS: [&str; 5] = [":s3:::", ":log-group:", ":execution:", ":job-definition/", ":pipeline/"];

#[test]
fn no_resource_is_everything_where_aws_takes_a_narrower_one() {
    let key = Kind::Key.label();
    only_those(&ON_EVERYTHING, |found| {
        // In the policy of a key, everything is that key.
        let is_of_key = found.within.starts_with(key);
        let is_everything = |resource: &String| {
            let owner = |part: &&str| resource.split_once(*part).map(|(_, owner)| owner);
            let is_part =
                PARTS.iter().any(|part| owner(part).is_some_and(|one| !one.starts_with('*')));
            resource == "*" || (resource.ends_with([':', '/', '*']) && !is_part)
        };
        !is_of_key && found.texts("Resource").iter().any(is_everything)
    });
}

#[test]
fn every_action_is_named() {
    only_those(&BY_PATTERN, |found| {
        found.texts("Action").iter().any(|action| action.contains('*'))
            || found.statement.get("NotAction").is_some()
    });
}

#[test]
fn no_role_hands_on_a_role_or_touches_permissions() {
    for found in statements().into_iter().filter(|found| found.is_role_s) {
        for action in found.texts("Action") {
            let is_of_permissions = action.starts_with("iam:") || action.starts_with("sts:");
            assert!(!is_of_permissions, "{}: {:#}", found.within, found.statement);
        }
    }
}

#[test]
fn a_role_is_only_ever_let() {
    for found in statements().into_iter().filter(|found| found.is_role_s) {
        assert_eq!(found.statement["Effect"], "Allow", "{}", found.within);
        assert!(found.statement.get("NotResource").is_none(), "{}", found.within);
    }
}

/// For the account, by number or in the ARN of what it acts for.
#[test]
fn a_service_is_let_in_for_what_is_the_account_s_alone() {
    only_those(&FOR_ANYTHING, |found| {
        if found.statement["Principal"].get("Service").is_none() {
            return false;
        }
        let condition = &found.statement["Condition"];
        let account = &condition["StringEquals"]["aws:SourceAccount"];
        let arns = match &condition["ArnEquals"]["aws:SourceArn"] {
            Value::Array(arns) => arns.clone(),
            Value::Null => vec![],
            arn => vec![arn.clone()],
        };
        let is_ours = |arn: &Value| {
            let arn = arn.as_str().unwrap_or_default();
            !arn.contains('*') && arn.split(':').nth(4) == Some("123456789012")
        };
        let by_arn = !arns.is_empty() && arns.iter().all(is_ours);
        !by_arn && account != "123456789012"
    });
}

/// Where a service tells for what it acts, it may act for that alone.
#[test]
fn a_service_that_tells_for_what_it_acts_may_act_for_that_alone() {
    for found in statements() {
        let services = found.statement["Principal"]["Service"].to_string();
        let tells = ["s3.", "events.", "sns.", "states."].iter().any(|one| services.contains(one));
        let arn = &found.statement["Condition"]["ArnEquals"]["aws:SourceArn"];
        assert!(!tells || !arn.is_null(), "{}: {:#}", found.within, found.statement);
    }
}

#[test]
fn everybody_is_only_ever_refused() {
    for found in statements() {
        let principal = &found.statement["Principal"];
        let is_everybody = *principal == "*" || principal["AWS"] == "*";
        assert!(!is_everybody || found.statement["Effect"] == "Deny", "{:#}", found.statement);
    }
}

/// A permission to invoke is one service's, for one ARN of the account.
#[test]
fn whoever_invokes_the_handler_does_so_for_what_is_ours() {
    let mut count = 0;
    for (workflow, inputs) in everything() {
        for resource in desired_of(&workflow, &inputs) {
            let Properties::Permission(permission) = resource.properties else { continue };
            assert!(permission.principal.ends_with(".amazonaws.com"));
            assert_eq!(permission.source_arn.split(':').nth(4), Some("123456789012"));
            assert!(!permission.source_arn.contains('*'));
            count += 1;
        }
    }
    assert!(count > 0);
}

#[test]
fn everything_has_sources_of_every_kind() {
    let kinds: HashSet<std::mem::Discriminant<SourceKind>> = everything()
        .iter()
        .flat_map(|(workflow, _)| workflow.sources.iter())
        .map(|source| std::mem::discriminant(&source.kind))
        .collect();
    assert!(kinds.len() >= 5, "{}", kinds.len());
}
