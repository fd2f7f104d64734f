//! Secure by default, point by point; and what each switch takes back.

use std::collections::BTreeSet;

use bellwire_schema::workflow::{
    Delivery, S3Source, Security, Source, SourceKind, TopicKey, TopicKind, Via, Workflow,
};
use serde_json::{Value, json};

use super::watching::{subscribed, watched};
use super::{as_function, changed, desired_of, plan_of, queued, world_of};
use crate::diff::destruction;
use crate::observe::Observation;
use crate::policy::is_tls_only;
use crate::resource::{Kind, Owner, Properties, Resource, ResourceId};
use crate::testing::{inputs, owner, workflow};
use crate::topic_key;

/// The workflow whose S3 source tells the topic itself, under this key.
pub(super) fn straight(key: TopicKey) -> Workflow {
    let mut workflow = workflow();
    workflow.topic.kms_key = Some(key);
    for source in &mut workflow.sources {
        if let SourceKind::S3(s3) = &mut source.kind {
            s3.via = Via::Topic;
        }
    }
    workflow
}

fn named(key: &str) -> TopicKey {
    TopicKey::Named(key.to_owned())
}

/// Workflows of every shape: what holds of each is no accident of one.
fn shapes() -> Vec<Vec<Resource>> {
    let (function, function_inputs) = as_function();
    let mut hinted = queued(TopicKind::Standard);
    hinted.triggers[0].guards.cooldown_s = Some(10);
    vec![
        desired_of(&workflow(), &inputs()),
        desired_of(&watched(), &inputs()),
        desired_of(&subscribed(), &inputs()),
        desired_of(&function, &function_inputs),
        desired_of(&hinted, &inputs()),
        desired_of(&queued(TopicKind::Fifo), &inputs()),
        desired_of(&straight(TopicKey::Create), &inputs()),
        desired_of(&changed().0, &changed().1),
    ]
}

#[test]
fn a_topic_to_which_only_components_publish_has_the_key_that_aws_manages_for_sns() {
    let keys = |workflow: &Workflow| -> Vec<String> {
        let desired = desired_of(workflow, &inputs()).into_iter();
        let keys = desired.filter_map(|one| match one.properties {
            Properties::Topic(topic) => Some(topic.kms_key),
            Properties::Key(key) => Some(format!("made: {}", key.name)),
            _ => None,
        });
        keys.collect()
    };
    assert_eq!(keys(&workflow()), ["alias/aws/sns"]);
    let arn = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    assert_eq!(keys(&straight(named(arn))), [arn]);
    assert_eq!(keys(&straight(TopicKey::Create)), ["made: alias/wine", "alias/wine"]);
}

#[test]
fn a_key_that_is_made_is_rotated_and_admits_the_account_and_s3_for_its_buckets_alone() {
    let mut workflow = straight(TopicKey::Create);
    let more = |name: &str, bucket: &str, via: Via| {
        let mut source = workflow.sources[0].clone();
        source.name = name.to_owned();
        if let SourceKind::S3(s3) = &mut source.kind {
            (s3.bucket, s3.via) = (bucket.to_owned(), via);
        }
        source
    };
    let sources = [more("more", "more-lake", Via::Topic), more("old", "old-lake", Via::Publisher)];
    workflow.sources.extend(sources);
    let desired = desired_of(&workflow, &inputs());
    let topic = desired.iter().find(|one| one.id().kind == Kind::Topic).expect("a topic");
    assert_eq!(topic.depends_on, [ResourceId::new(Kind::Key, "alias/wine")]);
    let key = desired.iter().find_map(|one| match &one.properties {
        Properties::Key(key) => Some(key),
        _ => None,
    });
    let key = key.expect("a key");
    assert!(key.is_rotated && key.is_enabled);
    insta::assert_snapshot!("key_policy", format!("{:#}", key.policy));
}

#[test]
fn what_publishes_may_use_the_topic_s_key_through_sns_and_nobody_else_may() {
    let using = |workflow: &Workflow| -> Vec<(String, Value)> {
        let desired = desired_of(workflow, &inputs()).into_iter();
        let roles = desired.filter_map(|one| match one.properties {
            Properties::Role(role) => Some(role),
            _ => None,
        });
        roles
            .flat_map(|role| {
                let statements = role.policy["Statement"].as_array().cloned().unwrap_or_default();
                let kms = statements.into_iter().filter(|one| one.to_string().contains("kms:"));
                kms.map(move |one| (role.name.clone(), one)).collect::<Vec<_>>()
            })
            .collect()
    };
    assert_eq!(using(&workflow()), [], "the key of AWS admits all of the account");
    let place = "eu-west-1:123456789012";
    let id = "1234abcd-12ab-34cd-56ef-1234567890ab";
    let other = "arn:aws:kms:eu-west-1:999999999999";
    for (key, resource, alias) in [
        (TopicKey::Create, format!("arn:aws:kms:{place}:key/*"), Some("alias/wine")),
        (named("alias/ml"), format!("arn:aws:kms:{place}:key/*"), Some("alias/ml")),
        (named(&format!("{other}:alias/ml")), format!("{other}:key/*"), Some("alias/ml")),
        (named(id), format!("arn:aws:kms:{place}:key/{id}"), None),
        (named(&format!("{other}:key/{id}")), format!("{other}:key/{id}"), None),
    ] {
        let mut condition =
            json!({"StringEquals": {"kms:ViaService": "sns.eu-west-1.amazonaws.com"}});
        if let Some(alias) = alias {
            condition["ForAnyValue:StringEquals"] = json!({"kms:ResourceAliases": alias});
        }
        let statement = json!({
            "Sid": "UseTopicKey",
            "Effect": "Allow",
            "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
            "Resource": resource,
            "Condition": condition,
        });
        let expected = ["wine-handler", "wine-publisher"];
        let expected = expected.map(|role| (role.to_owned(), statement.clone()));
        assert_eq!(using(&straight(key)), expected);
    }
}

#[test]
fn what_a_named_key_s_policy_must_have_is_told_until_it_has_it() {
    let (owner, workflow) = (owner(), straight(named("alias/ml")));
    let required = topic_key::required(&owner, &workflow);
    let [components, s3] = &required[..] else { panic!("{required:?}") };
    let lacks = |statements: Value| -> Vec<bool> {
        let policy = crate::policy::canonical(&json!({"Statement": statements}));
        required.iter().map(|one| !topic_key::admits(&owner, &policy, one)).collect()
    };
    assert_eq!(lacks(json!([])), [true, true]);
    assert_eq!(lacks(json!([components, s3])), [false, false]);
    let of_account = |principal: &str| json!({"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "kms:*", "Resource": "*"});
    assert_eq!(lacks(json!([of_account("arn:aws:iam::123456789012:root")])), [false, true]);
    assert_eq!(lacks(json!([of_account("123456789012")])), [false, true]);
    assert_eq!(lacks(json!([of_account("arn:aws:iam::999999999999:root")])), [true, true]);
    let with = |key: &str, value: Value| {
        let mut changed = s3.clone();
        changed[key] = value;
        lacks(json!([components, changed]))[1]
    };
    assert!(!with("Action", json!(["kms:GenerateDataKey*", "kms:Decrypt"])));
    assert!(!with("Condition", Value::Null), "wider is enough");
    assert!(with("Action", json!("kms:Decrypt")), "half of it is not");
    assert!(with("Effect", json!("Deny")));
    assert!(with("Principal", json!({"Service": "events.amazonaws.com"})));
    let other = json!({"ArnEquals": {"aws:SourceArn": "arn:aws:s3:::another"}});
    assert!(with("Condition", other), "for another bucket");
}

#[test]
fn no_apply_deletes_a_key_and_a_destroy_only_by_its_name() {
    let keyed = straight(TopicKey::Create);
    let mut world = world_of(&keyed, &inputs());
    let id = ResourceId::new(Kind::Key, "alias/wine");
    for one in &mut world.resources {
        one.data = (one.id() == id).then(|| "the key to what it has encrypted".to_owned());
    }
    let plan = plan_of(&desired_of(&workflow(), &inputs()), &world);
    assert!(plan.steps.iter().all(|step| step.id != id), "{plan}");
    assert!(plan.kept.iter().any(|kept| kept.id == id), "{plan}");
    let deletes = |named: &[String], world: &Observation| {
        let plan = destruction(&owner(), world, named);
        plan.steps.iter().any(|step| step.id == id && step.with_data)
    };
    assert!(!deletes(&[], &world));
    assert!(deletes(&["alias/wine".to_owned()], &world));
}

#[test]
fn queues_are_encrypted() {
    for resource in shapes().into_iter().flatten() {
        if let Properties::Queue(queue) = &resource.properties {
            assert!(queue.encrypted, "{}", queue.name);
        }
    }
}

#[test]
fn topic_queues_and_buckets_refuse_what_is_not_tls() {
    let mut kinds = BTreeSet::new();
    for resource in shapes().into_iter().flatten() {
        let policy = match &resource.properties {
            Properties::Topic(topic) => &topic.policy,
            Properties::Queue(queue) => &queue.policy,
            Properties::Bucket(bucket) => &bucket.policy,
            _ => continue,
        };
        assert!(is_tls_only(policy), "{}: {policy}", resource.id());
        kinds.insert(resource.id().kind);
    }
    assert_eq!(kinds.len(), 3);
}

#[test]
fn a_bucket_that_is_made_is_private_versioned_and_encrypted() {
    let mut count = 0;
    for resource in shapes().into_iter().flatten() {
        if let Properties::Bucket(bucket) = &resource.properties {
            assert!(bucket.public_access_blocked && bucket.versioned);
            assert_eq!(bucket.encryption, "AES256");
            count += 1;
        }
    }
    assert!(count > 0);
}

/// Of every hop the next one: what it cannot hand on goes to a dead queue.
#[test]
fn nothing_is_lost_at_any_hop() {
    let dead = |arn: &Option<String>| arn.as_deref().is_some_and(|arn| arn.contains(":wine-dead"));
    let mut kinds = BTreeSet::new();
    for resource in shapes().into_iter().flatten() {
        match &resource.properties {
            // What alarms tell is no event.
            Properties::Subscription(one) if one.topic_arn.ends_with(":wine-alarms") => {}
            Properties::Subscription(one) => {
                assert!(dead(&one.dead_queue_arn), "{}", resource.id());
            }
            Properties::InvokeConfig(one) => {
                assert!(dead(&one.on_failure_arn), "{}", resource.id());
                assert!(one.retries_max <= 2 && one.event_age_max_s <= 6 * 3_600);
            }
            Properties::Queue(queue) if queue.name.contains("dead") => {
                // Only those that were meant redrive into it.
                assert!(!queue.redrive_from.is_empty(), "{}", queue.name);
                assert_eq!(queue.retention_s, 14 * 86_400);
            }
            // Nobody misses a hint: the sweep is the wake-up that counts.
            Properties::Queue(queue) if queue.name == "wine-hints" => {}
            Properties::Queue(queue) => {
                let redrive = queue.redrive.as_ref().map(|one| one.dead_queue_arn.clone());
                assert!(dead(&redrive), "{}", queue.name);
            }
            Properties::Rule(rule) => {
                for target in rule.targets.values().filter(|one| one.arn.contains(":sqs:")) {
                    assert!(dead(&target.dead_queue_arn), "{}", rule.name);
                }
            }
            _ => continue,
        }
        kinds.insert(resource.id().kind);
    }
    assert_eq!(kinds.len(), 4, "{kinds:?}");
}

#[test]
fn what_a_function_takes_stays_hidden_six_times_as_long_as_the_function_may_run() {
    let mut count = 0;
    for desired in shapes() {
        let mappings = desired.iter().filter_map(|one| match &one.properties {
            Properties::EventSourceMapping(mapping) => Some(mapping),
            _ => None,
        });
        for mapping in mappings {
            let timeout_s = desired.iter().find_map(|one| match &one.properties {
                Properties::Function(function)
                    if mapping.function_arn.starts_with(&function.arn) =>
                {
                    Some(function.release.timeout_s)
                }
                _ => None,
            });
            let hidden_s = desired.iter().find_map(|one| match &one.properties {
                Properties::Queue(queue) if queue.arn == mapping.queue_arn => {
                    Some(queue.visibility_timeout_s)
                }
                _ => None,
            });
            assert!(hidden_s.expect("a queue") >= 6 * timeout_s.expect("a function"));
            count += 1;
        }
    }
    assert!(count >= 3, "{count}");
}

#[test]
fn every_function_s_logs_are_kept_for_a_while_and_not_for_ever() {
    for desired in shapes() {
        let ids: BTreeSet<ResourceId> = desired.iter().map(Resource::id).collect();
        for resource in &desired {
            match &resource.properties {
                Properties::Function(function) => {
                    let group = crate::desired::log_group_of(&function.name);
                    assert!(ids.contains(&ResourceId::new(Kind::LogGroup, group)));
                }
                Properties::LogGroup(group) => assert!(group.retention_days.is_some()),
                _ => {}
            }
        }
    }
}

#[test]
fn the_ledger_can_be_restored_and_is_not_deleted_by_mistake() {
    let tables = shapes().into_iter().flatten().filter_map(|one| match one.properties {
        Properties::Table(table) => Some(table),
        _ => None,
    });
    for table in tables {
        assert!(table.point_in_time_recovery && table.deletion_protection);
    }
}

/// What takes no tags is part of what does, or known by its entry in it.
#[test]
fn everything_that_takes_tags_has_ours() {
    let untagged = [
        Kind::BucketNotification,
        Kind::Alias,
        Kind::InvokeConfig,
        Kind::Permission,
        Kind::FunctionPolicy,
        Kind::Subscription,
        Kind::Dashboard,
    ];
    for resource in shapes().into_iter().flatten() {
        let fields = json!(resource.properties);
        let tags = fields.as_object().and_then(|kind| kind.values().next());
        let tags = tags.map(|fields| fields["tags"].clone()).unwrap_or_default();
        match untagged.contains(&resource.id().kind) {
            true => assert_eq!(tags, Value::Null, "{}", resource.id()),
            false => assert_eq!(tags, json!(owner().tags()), "{}", resource.id()),
        }
    }
}

/// Each switch changes what it names, and nothing else of any resource.
#[test]
fn each_switch_takes_back_what_it_names_alone() {
    type Switch = fn(&mut Security);
    let switches: [(Switch, &[(Kind, &str)]); 6] = [
        (|one| one.encrypt_topic = false, &[(Kind::Topic, "kms_key")]),
        (|one| one.encrypt_queues = false, &[(Kind::Queue, "encrypted")]),
        (
            |one| one.tls_only = false,
            &[(Kind::Topic, "policy"), (Kind::Queue, "policy"), (Kind::Bucket, "policy")],
        ),
        (|one| one.block_public_access = false, &[(Kind::Bucket, "public_access_blocked")]),
        (|one| one.bucket_versioning = false, &[(Kind::Bucket, "versioned")]),
        (|one| one.point_in_time_recovery = false, &[(Kind::Table, "point_in_time_recovery")]),
    ];
    let world = world_of(&workflow(), &inputs());
    for (switch, expected) in switches {
        let mut workflow = workflow();
        switch(&mut workflow.security);
        let plan = plan_of(&desired_of(&workflow, &inputs()), &world);
        let changed: BTreeSet<(Kind, &str)> = plan
            .steps
            .iter()
            .flat_map(|step| {
                step.changes.iter().map(|change| (step.id.kind, change.field.as_str()))
            })
            .collect();
        assert_eq!(changed, BTreeSet::from_iter(expected.iter().copied()), "{plan}");
    }
}

#[test]
fn without_tls_only_whoever_was_let_in_still_is() {
    let mut workflow = workflow();
    workflow.security.tls_only = false;
    let policies: Vec<(String, Value)> = desired_of(&workflow, &inputs())
        .into_iter()
        .filter_map(|one| match one.properties {
            Properties::Topic(topic) => Some((topic.name, topic.policy)),
            Properties::Queue(queue) => Some((queue.name, queue.policy)),
            Properties::Bucket(bucket) => Some((bucket.name, bucket.policy)),
            _ => None,
        })
        .collect();
    let sids = |policy: &Value| -> Vec<String> {
        let statements = policy["Statement"].as_array().into_iter().flatten();
        statements.filter_map(|one| one["Sid"].as_str().map(str::to_owned)).collect()
    };
    let sids: Vec<(&str, Vec<String>)> =
        policies.iter().map(|(name, policy)| (name.as_str(), sids(policy))).collect();
    let texts = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        sids,
        [
            // SNS takes no topic without a policy.
            ("wine", texts(&["AccountPublishes"])),
            ("wine-dead", texts(&["TopicRedrives", "RulesSend"])),
            ("wine-ingest", texts(&["BucketsNotify", "RulesSend"])),
            ("wine-lake", vec![]),
        ]
    );
}

#[test]
fn every_role_is_under_the_path_and_has_the_boundary_that_the_file_asks_for() {
    let mut workflow = straight(TopicKey::Create);
    workflow.security.permissions_boundary = Some("ml-boundary".to_owned());
    workflow.security.role_path = "/teams/ml/".to_owned();
    let owner = Owner::new(owner().deployment, owner().place, &workflow.security);
    let desired = crate::desired::desired(&owner, &workflow, &inputs());
    let path = "/teams/ml/bellwire/wine/";
    let mut count = 0;
    for resource in &desired {
        match &resource.properties {
            Properties::Role(role) => {
                let boundary = "arn:aws:iam::123456789012:policy/ml-boundary";
                assert_eq!(role.permissions_boundary.as_deref(), Some(boundary), "{}", role.name);
                assert_eq!(role.path, path);
                let arn = format!("arn:aws:iam::123456789012:role{path}{}", role.name);
                assert_eq!(role.arn, arn);
                count += 1;
            }
            Properties::Function(function) => {
                assert!(function.release.role_arn.contains(path), "{}", function.name);
            }
            Properties::StateMachine(machine) => assert!(machine.role_arn.contains(path)),
            _ => {}
        }
    }
    assert!(count > 3, "{count}");
    // Under another path it is the same role, made anew.
    let own = |path: &str| owner.may_own_path(path);
    assert!(own(path) && own("/bellwire/wine/") && own("/old/bellwire/wine/"));
    assert!(!own("/bellwire/wine-prod/") && !own("/") && !own("/xbellwire/wine/"));
    let world = world_of(&self::workflow(), &inputs());
    let plan = crate::diff::diff(&owner, &desired, &world).expect("no problems");
    let worker =
        plan.steps.iter().find(|step| step.id == ResourceId::new(Kind::Role, "wine-worker"));
    let reason = worker.and_then(|step| step.reason.as_deref());
    assert_eq!(reason, Some("IAM cannot change the path of a role"));
}

#[test]
fn a_source_s_way_decides_who_publishes_in_both_deliveries() {
    for delivery in [Delivery::Direct, Delivery::Queued] {
        let mut workflow = straight(TopicKey::Create);
        workflow.handler.delivery = delivery;
        let s3 =
            |one: &Source| matches!(&one.kind, SourceKind::S3(S3Source { via: Via::Topic, .. }));
        assert!(workflow.sources.iter().any(s3));
        let services = topic_key::policy(&owner(), &workflow).to_string();
        assert!(services.contains("s3.amazonaws.com"));
        workflow.sources.retain(|one| !s3(one));
        let services = topic_key::policy(&owner(), &workflow).to_string();
        assert!(!services.contains("amazonaws.com"), "{services}");
    }
}
