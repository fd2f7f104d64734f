//! Snapshots and properties of the pure half: desired, policies, diff, display.

mod least_privilege;
mod secure;
mod watching;

use std::collections::BTreeMap;

use bellwire_schema::fifo::is_fifo;
use bellwire_schema::workflow::{
    BatchTarget, ClaimCheck, CompletionSource, Delivery, Protocol, PublisherRun, Source,
    SourceKind, Subscriber, Target, TopicKey, TopicKind, Trigger, Workflow,
};
use bellwire_schema::{EventType, Stage};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::check::check;
use crate::desired::desired;
use crate::diff::{destruction, diff};
use crate::inputs::{Artifact, Inputs};
use crate::observe::Observation;
use crate::plan::{Action, Plan, Step};
use crate::resource::{Foreign, Kind, Observed, Properties, Resource, ResourceId};
use crate::testing::{inputs, owner, workflow};

fn desired_of(workflow: &Workflow, inputs: &Inputs) -> Vec<Resource> {
    desired(&owner(), workflow, inputs)
}

fn plan_of(desired: &[Resource], observation: &Observation) -> Plan {
    diff(&owner(), desired, observation).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What the world is like when a plan was executed on it.
fn executed(plan: &Plan, world: &Observation) -> Observation {
    let mut resources: BTreeMap<ResourceId, Observed> =
        world.resources.iter().map(|observed| (observed.id(), observed.clone())).collect();
    for step in &plan.steps {
        match &step.desired {
            Some(properties) => {
                resources.insert(step.id.clone(), Observed::ours(properties.clone()));
            }
            None => {
                resources.remove(&step.id);
                let part_of = format!("{}:", step.id.name);
                resources.retain(|id, _| {
                    step.id.kind != Kind::Function
                        || !id.kind.is_part_of_function()
                        || !id.name.starts_with(&part_of)
                });
            }
        }
    }
    Observation {
        resources: resources.into_values().collect(),
        foreign: world.foreign.clone(),
        problems: vec![],
        record: world.record.clone(),
    }
}

fn world_of(workflow: &Workflow, inputs: &Inputs) -> Observation {
    let nothing = Observation::default();
    executed(&plan_of(&desired_of(workflow, inputs), &nothing), &nothing)
}

#[test]
fn the_first_plan_of_a_workflow_like_wine() {
    let plan = plan_of(&desired_of(&workflow(), &inputs()), &Observation::default());
    insta::assert_snapshot!("first_plan", plan);
}

#[test]
fn the_desired_resources_of_a_workflow_like_wine() {
    let all: BTreeMap<String, Value> = desired_of(&workflow(), &inputs())
        .into_iter()
        .filter(|resource| !matches!(resource.properties, Properties::Role(_)))
        .map(|resource| (resource.id().to_string(), json!(resource)))
        .collect();
    insta::assert_snapshot!("desired", format!("{:#}", json!(all)));
}

#[test]
fn the_roles_of_a_workflow_like_wine() {
    let roles: BTreeMap<String, Value> = desired_of(&workflow(), &inputs())
        .into_iter()
        .filter_map(|resource| match resource.properties {
            Properties::Role(role) => {
                Some((role.name, json!({"trust": role.trust, "policy": role.policy})))
            }
            _ => None,
        })
        .collect();
    insta::assert_snapshot!("roles", format!("{:#}", json!(roles)));
}

/// The workflow with the publisher as a function, and what reading its files gives.
fn as_function() -> (Workflow, Inputs) {
    let (mut workflow, mut inputs) = (workflow(), inputs());
    workflow.publisher.run = PublisherRun::Lambda;
    workflow.sources.retain(|source| !matches!(source.kind, SourceKind::Http(_)));
    inputs.publisher = Some(Artifact {
        code_sha256: "cHVicHVicHVicHVicHVicHVicHVicHVicHVicHVicHU=".to_owned(),
        architecture: "x86_64".to_owned(),
    });
    (workflow, inputs)
}

#[test]
fn the_plan_that_makes_the_publisher_a_function() {
    let (workflow, inputs) = as_function();
    let before = Workflow { publisher: crate::testing::workflow().publisher, ..workflow.clone() };
    let world = world_of(&before, &inputs);
    insta::assert_snapshot!("publisher_plan", plan_of(&desired_of(&workflow, &inputs), &world));
}

#[test]
fn a_publisher_that_is_a_function_may_do_what_it_and_lambda_call_and_is_run_by_lambda_alone() {
    let (workflow, inputs) = as_function();
    let role = desired_of(&workflow, &inputs).into_iter().find_map(|one| match one.properties {
        Properties::Role(role) if role.name == "wine-publisher" => Some(role),
        _ => None,
    });
    let role = role.expect("a role");
    let of = |policy: &Value| -> BTreeMap<String, Value> {
        let statements = policy["Statement"].as_array().expect("statements").clone();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        statements.into_iter().map(|one| (text(&one["Sid"]), one["Action"].clone())).collect()
    };
    let expected = json!({
        "FindRuns": "dynamodb:Query",
        "Publish": "sns:Publish",
        "Quarantine": "sqs:SendMessage",
        "ReadContext": ["s3:GetObject", "s3:GetObjectVersion"],
        "Receive": [
            "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes",
            "sqs:ReceiveMessage",
        ],
        "WriteLogs": ["logs:CreateLogStream", "logs:PutLogEvents"],
    });
    assert_eq!(json!(of(&role.policy)), expected);
    assert_eq!(json!(of(&role.trust)), json!({"LambdaAssumes": "sts:AssumeRole"}));
}

#[test]
fn a_message_is_hidden_for_as_long_as_lambda_wants_it() {
    let (mut workflow, inputs) = as_function();
    workflow.publisher.timeout_s = 100;
    let desired = desired_of(&workflow, &inputs);
    let ingest = desired.iter().find_map(|resource| match &resource.properties {
        Properties::Queue(queue) if queue.name == "wine-ingest" => Some(queue),
        _ => None,
    });
    assert_eq!(ingest.expect("a queue").visibility_timeout_s, 600);
    // Lambda refuses a longer timeout as long as the queue is not changed.
    let function = ResourceId::new(Kind::Function, "wine-publisher");
    let function = desired.iter().find(|resource| resource.id() == function).expect("there");
    assert!(function.depends_on.contains(&ResourceId::new(Kind::Queue, "wine-ingest")));
}

fn with_claim_check() -> Workflow {
    let (bucket, prefix) = ("wine-lake".to_owned(), "claims/".to_owned());
    Workflow { claim_check: Some(ClaimCheck { bucket, prefix }), ..workflow() }
}

#[test]
fn a_claim_check_adds_its_own_prefix_to_two_roles_and_changes_nothing_else() {
    let statements = |workflow: &Workflow, name: &str| -> Vec<Value> {
        let desired = desired_of(workflow, &inputs());
        let role = desired.into_iter().find_map(|resource| match resource.properties {
            Properties::Role(role) if role.name == name => Some(role),
            _ => None,
        });
        role.expect("a role").policy["Statement"].as_array().expect("statements").clone()
    };
    let added = |name: &str| -> Vec<Value> {
        let without = statements(&workflow(), name);
        let with = statements(&with_claim_check(), name);
        with.into_iter().filter(|statement| !without.contains(statement)).collect()
    };
    let keys = "arn:aws:s3:::wine-lake/claims/*";
    assert_eq!(
        added("wine-publisher"),
        [json!({
            "Sid": "PutClaims", "Effect": "Allow", "Action": "s3:PutObject", "Resource": keys,
        })]
    );
    assert_eq!(
        added("wine-handler"),
        [
            json!({
                "Sid": "ReadClaims", "Effect": "Allow", "Action": "s3:GetObject", "Resource": keys,
            }),
            json!({
                "Sid": "TellMissingClaims", "Effect": "Allow", "Action": "s3:ListBucket",
                "Resource": "arn:aws:s3:::wine-lake",
                "Condition": {"StringLike": {"s3:prefix": "claims/*"}},
            }),
        ]
    );
    let others = |workflow: &Workflow| -> Vec<Resource> {
        let desired = desired_of(workflow, &inputs());
        let is_changed = |name: &str| ["wine-publisher", "wine-handler"].contains(&name);
        desired
            .into_iter()
            .filter(|one| !matches!(&one.properties, Properties::Role(r) if is_changed(&r.name)))
            .collect()
    };
    assert_eq!(others(&with_claim_check()), others(&workflow()));
}

#[test]
fn a_source_of_removals_hears_of_what_a_lifecycle_rule_removes() {
    let mut workflow = workflow();
    for source in &mut workflow.sources {
        if let SourceKind::S3(s3) = &mut source.kind {
            s3.emits = EventType::data_removed();
        }
    }
    let desired = desired_of(&workflow, &inputs());
    let entries = desired.iter().filter_map(|resource| match &resource.properties {
        Properties::BucketNotification(notification) => Some(notification.entries.values()),
        _ => None,
    });
    let events: Vec<_> = entries.flatten().map(|entry| entry.events.as_slice()).collect();
    assert!(!events.is_empty());
    for events in events {
        assert_eq!(events, ["s3:LifecycleExpiration:*", "s3:ObjectRemoved:*"]);
    }
}

#[test]
fn a_pod_s_role_may_be_assumed_with_tags_and_by_eks_alone() {
    let trusted_by = ["pods.eks.amazonaws.com", "ecs-tasks.amazonaws.com"].map(str::to_owned);
    let trust = crate::policy::trust_publisher(&owner(), &trusted_by);
    let [pods, others] = trust["Statement"].as_array().expect("statements").as_slice() else {
        panic!("{trust}")
    };
    assert_eq!(pods["Principal"], json!({"Service": "pods.eks.amazonaws.com"}));
    assert_eq!(pods["Action"], json!(["sts:AssumeRole", "sts:TagSession"]));
    assert_eq!(others["Principal"], json!({"Service": "ecs-tasks.amazonaws.com"}));
    assert_eq!(others["Action"], "sts:AssumeRole");
}

/// The workflow after its next change: other code, one trigger less, one subscriber more.
fn changed() -> (Workflow, Inputs) {
    let (mut workflow, mut inputs) = (workflow(), inputs());
    workflow.triggers.retain(|trigger| trigger.name != "predict");
    inputs.definitions.remove("predict");
    workflow.handler.log_retention_days = 90;
    workflow.handler.environment.insert("TOKEN".to_owned(), "hush".to_owned());
    workflow.subscribers.push(Subscriber {
        name: "on-call".to_owned(),
        protocol: Protocol::Email,
        endpoint: "ml-on-call@example.com".to_owned(),
        on: vec!["training.failed".parse::<EventType>().expect("a type")],
        create: false,
        raw: false,
        condition: None,
    });
    for artifact in inputs.functions.values_mut() {
        artifact.code_sha256 = "AQIDAQIDAQIDAQIDAQIDAQIDAQIDAQIDAQIDAQIDAQI=".to_owned();
    }
    (workflow, inputs)
}

#[test]
fn the_plan_of_a_change() {
    let mut world = world_of(&workflow(), &inputs());
    let within = |kind, name: &str| ResourceId::new(kind, name);
    for name in ["nightly-etl", "audit"] {
        let within = within(Kind::BucketNotification, "wine-lake");
        world.foreign.push(Foreign { within, name: name.to_owned() });
    }
    let (workflow, inputs) = changed();
    let plan = plan_of(&desired_of(&workflow, &inputs), &world);
    let text = plan.to_string();
    assert!(!text.contains("hush") && !plan.to_json().to_string().contains("hush"), "{text}");
    insta::assert_snapshot!("changed_plan", text);
}

#[test]
fn the_plan_of_a_destruction() {
    let mut world = world_of(&workflow(), &inputs());
    for observed in &mut world.resources {
        observed.data = match observed.id().kind {
            Kind::Bucket => Some("objects".to_owned()),
            Kind::Table => Some("rows".to_owned()),
            _ => None,
        };
    }
    let plan = destruction(&owner(), &world, &["wine-lake".to_owned()]);
    insta::assert_snapshot!("destruction", plan);
}

/// A workflow that also hears of a pipeline, of jobs and of a queue.
fn watching() -> Workflow {
    let mut workflow = workflow();
    let source = |name: &str, kind: fn(CompletionSource) -> SourceKind, resource: &str| Source {
        name: name.to_owned(),
        dataset: None,
        expected_s: None,
        kind: kind(CompletionSource { resource: resource.to_owned(), stage: Stage::Training }),
    };
    workflow.sources.extend([
        source("labels", SourceKind::StepFunctions, "somebody-labels"),
        source("tuning", SourceKind::Sagemaker, "Tune"),
        source(
            "abalone",
            SourceKind::Sagemaker,
            "arn:aws:sagemaker:eu-west-1:123456789012:pipeline/abalone",
        ),
        source("gpu", SourceKind::Batch, "gpu-queue"),
    ]);
    workflow
}

#[test]
fn each_source_of_completions_has_its_events_and_no_others() {
    check(&owner(), &watching(), &inputs()).unwrap_or_else(|problems| panic!("{problems}"));
    let (mut patterns, mut senders) = (BTreeMap::new(), Vec::new());
    for resource in desired_of(&watching(), &inputs()) {
        match resource.properties {
            Properties::Rule(rule) if rule.schedule.is_none() => {
                patterns.insert(rule.name, rule.pattern);
            }
            Properties::Queue(queue) => senders.push(queue.policy.to_string()),
            _ => {}
        }
    }
    let names: Vec<&str> = patterns.keys().map(String::as_str).collect();
    assert_eq!(names, ["wine-abalone", "wine-completions", "wine-gpu", "wine-tuning"]);
    for policy in senders {
        assert!(names.iter().all(|name| policy.contains(&format!("rule/{name}"))), "{policy}");
    }
    let queue = "arn:aws:batch:eu-west-1:123456789012:job-queue/gpu-queue";
    let expected = json!({
        "source": ["aws.batch"],
        "detail-type": ["Batch Job State Change"],
        "detail": {"jobQueue": [queue], "status": ["SUCCEEDED", "FAILED"]},
    });
    assert_eq!(patterns["wine-gpu"], expected);
    let ends = json!(["Succeeded", "Failed", "Stopped", "CompletedWithFailures"]);
    let abalone = &patterns["wine-abalone"];
    assert_eq!(abalone["detail"]["currentPipelineExecutionStatus"], ends);
    assert!(abalone.get("$or").is_none(), "an ARN is no prefix of jobs: {abalone}");
    let tuning = &patterns["wine-tuning"];
    assert_eq!(tuning["source"], json!(["aws.sagemaker"]));
    let jobs = json!({
        "detail-type": ["SageMaker Training Job State Change"],
        "detail": {
            "TrainingJobName": [{"prefix": "Tune"}],
            "TrainingJobStatus": ["Completed", "Failed", "Stopped"],
        },
    });
    assert_eq!(tuning["$or"][1], jobs);
    assert_eq!(tuning["$or"].as_array().map(Vec::len), Some(4));
}

#[test]
fn the_longest_pattern_fits() {
    let place = owner().place;
    for length in [63, 256] {
        let resource = "T".repeat(length);
        let source = SourceKind::Sagemaker(CompletionSource { resource, stage: Stage::Training });
        let pattern = crate::watched::pattern(&source, &place).expect("a pattern").to_string();
        assert!(pattern.len() <= 2_048, "{length}: {}", pattern.len());
    }
}

/// The same workflow, through a work queue.
fn queued(kind: TopicKind) -> Workflow {
    let mut workflow = workflow();
    workflow.topic.kind = kind;
    workflow.handler.delivery = Delivery::Queued;
    workflow
}

#[test]
fn the_plan_that_puts_a_work_queue_before_the_handler() {
    let world = world_of(&workflow(), &inputs());
    let desired = desired_of(&queued(TopicKind::Standard), &inputs());
    let plan = diff(&owner(), &desired, &world).expect("no problems");
    let at = |action: Action| {
        let is_it = |step: &Step| step.id.kind == Kind::Subscription && step.action == action;
        plan.steps.iter().position(is_it).expect("a step")
    };
    assert!(at(Action::Create) < at(Action::Delete), "nobody would listen meanwhile");
    insta::assert_snapshot!("queued_plan", plan);
}

#[test]
fn the_plan_that_makes_a_workflow_fifo() {
    let world = world_of(&workflow(), &inputs());
    let workflow = queued(TopicKind::Fifo);
    check(&owner(), &workflow, &inputs()).unwrap_or_else(|problems| panic!("{problems}"));
    let plan = diff(&owner(), &desired_of(&workflow, &inputs()), &world).expect("no problems");
    insta::assert_snapshot!("fifo_plan", plan);
}

/// What is FIFO redrives into FIFO queues only, and what S3 and rules fill, or what
/// EventBridge and Lambda put aside, is standard.
#[test]
fn fifo_and_standard_meet_where_aws_lets_them() {
    for kind in [TopicKind::Standard, TopicKind::Fifo] {
        let workflow = queued(kind);
        let has_fifo = kind == TopicKind::Fifo;
        for resource in desired_of(&workflow, &inputs()) {
            match &resource.properties {
                Properties::Topic(topic) => assert_eq!(is_fifo(&topic.name), has_fifo),
                Properties::Queue(queue) => {
                    let dead = queue.redrive.as_ref().map(|redrive| &redrive.dead_queue_arn);
                    assert!(dead.is_none_or(|arn| is_fifo(arn) == is_fifo(&queue.name)));
                    let from = queue.redrive_from.iter();
                    assert!(from.clone().all(|arn| is_fifo(arn) == is_fifo(&queue.name)));
                    let is_notified = queue.name == owner().deployment.ingest_queue();
                    assert!(!is_notified || !is_fifo(&queue.name));
                }
                Properties::Subscription(subscription) => {
                    let dead = subscription.dead_queue_arn.as_deref().expect("one");
                    assert_eq!(is_fifo(dead), has_fifo);
                    let is_ours = subscription.endpoint.contains(":wine-work");
                    assert_eq!(subscription.is_raw, is_ours);
                    assert!(subscription.protocol != "lambda");
                }
                Properties::Rule(rule) => {
                    let dead = rule.targets.values().filter_map(|one| one.dead_queue_arn.as_ref());
                    assert!(dead.into_iter().all(|arn| !is_fifo(arn)));
                }
                Properties::InvokeConfig(config) => {
                    assert!(config.on_failure_arn.as_deref().is_some_and(|arn| !is_fifo(arn)));
                }
                _ => {}
            }
        }
    }
}

/// A message must stay hidden while Lambda tries again, and only the handler takes it.
#[test]
fn the_work_queue_is_the_handler_s_alone() {
    let workflow = queued(TopicKind::Fifo);
    let desired = desired_of(&workflow, &inputs());
    let work = owner().place.queue_arn("wine-work.fifo");
    let mut found = 0;
    for resource in &desired {
        match &resource.properties {
            Properties::Queue(queue) if queue.arn == work => {
                assert_eq!(queue.visibility_timeout_s, 6 * workflow.handler.timeout_s);
                assert!(queue.policy.to_string().contains(":wine.fifo"), "{}", queue.policy);
                found += 1;
            }
            Properties::Role(role) => {
                let takes = role.policy.to_string().contains(&work);
                assert_eq!(takes, role.name == owner().deployment.handler(), "{}", role.name);
                found += usize::from(takes);
            }
            Properties::EventSourceMapping(mapping) => {
                assert_eq!((&mapping.queue_arn, mapping.reports_failures), (&work, true));
                found += 1;
            }
            _ => {}
        }
    }
    assert_eq!(found, 3);
}

/// A wait under a minute has a queue that only the handler fills and takes from; without
/// one there is none, and on FIFO it is standard all the same, for its delays.
#[test]
fn a_wait_under_a_minute_has_a_queue_of_hints_that_is_the_handler_s_alone() {
    for kind in [TopicKind::Standard, TopicKind::Fifo] {
        let mut workflow = queued(kind);
        workflow.triggers[0].guards.cooldown_s = Some(60);
        let without = desired_of(&workflow, &inputs());
        assert!(!json!(without).to_string().contains("wine-hints"));
        workflow.triggers[0].guards.cooldown_s = Some(59);
        let with = desired_of(&workflow, &inputs());
        let hints = owner().place.queue_arn("wine-hints");
        let mut found = Vec::new();
        for resource in with.iter().filter(|resource| !without.contains(resource)) {
            match &resource.properties {
                Properties::Queue(queue) => {
                    assert_eq!((&queue.arn, queue.retention_s), (&hints, 300));
                    assert_eq!(queue.visibility_timeout_s, 6 * workflow.handler.timeout_s);
                    let statements = queue.policy["Statement"].as_array().expect("statements");
                    assert!(statements.iter().all(|one| one["Effect"] == "Deny"), "{statements:?}");
                }
                Properties::EventSourceMapping(mapping) => {
                    assert_eq!((&mapping.queue_arn, mapping.concurrency_max), (&hints, Some(2)));
                    let alias = owner().alias_arn(&owner().deployment.handler());
                    assert_eq!(mapping.function_arn, alias);
                }
                Properties::Role(role) => {
                    let statements = role.policy["Statement"].as_array().expect("statements");
                    let about: BTreeMap<&str, &Value> = statements
                        .iter()
                        .filter(|one| one["Resource"] == json!(hints))
                        .map(|one| (one["Sid"].as_str().expect("a Sid"), &one["Action"]))
                        .collect();
                    let expected = json!({
                        "SendHints": "sqs:SendMessage",
                        "TakeHints": [
                            "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage",
                        ],
                    });
                    assert_eq!(json!(about), expected);
                }
                Properties::Function(_) => {
                    let queue = ResourceId::new(Kind::Queue, "wine-hints");
                    assert!(resource.depends_on.contains(&queue), "it hides long enough first");
                }
                other => panic!("{other:?}"),
            }
            found.push(resource.id().kind);
        }
        assert_eq!(found.len(), 4, "{found:?}");
        let world = executed(&plan_of(&with, &Observation::default()), &Observation::default());
        assert!(plan_of(&with, &world).steps.is_empty(), "nothing is left to do");
    }
}

#[test]
fn the_plan_that_adds_a_wait_under_a_minute() {
    let world = world_of(&workflow(), &inputs());
    let mut workflow = workflow();
    workflow.triggers[1].guards.cooldown_s = Some(10);
    let plan = plan_of(&desired_of(&workflow, &inputs()), &world);
    insta::assert_snapshot!("hints_plan", plan);
}

/// A workflow that starts one of everything.
fn starting_everything() -> Workflow {
    let batch = |job_definition: &str| {
        let (job_queue, job_definition) = ("gpu".to_owned(), job_definition.to_owned());
        Target::Batch(BatchTarget { job_queue, job_definition })
    };
    let arn = |text: &str| format!("arn:aws:{text}");
    let targets = [
        ("fit", Target::SagemakerPipeline("Fit-Wine".to_owned())),
        ("score", batch("score:3")),
        ("rank", batch("rank")),
        ("notify", Target::Lambda("notify:live".to_owned())),
        ("tell", Target::Sns(arn("sns:eu-west-1:999999999999:other"))),
        ("send", Target::Sqs(arn("sqs:eu-west-1:999999999999:other"))),
    ];
    let mut workflow = queued(TopicKind::Standard);
    workflow.triggers.extend(
        targets.map(|(name, target)| Trigger { target, ..crate::testing::trigger(name, "none") }),
    );
    workflow
}

#[test]
fn the_handler_may_start_what_triggers_name_and_ask_after_that_and_nothing_else() {
    let workflow = starting_everything();
    check(&owner(), &workflow, &inputs()).unwrap_or_else(|problems| panic!("{problems}"));
    let statements = |workflow: &Workflow| -> Vec<Value> {
        let policy = crate::policy::handler(&owner(), workflow);
        policy["Statement"].as_array().expect("statements").clone()
    };
    let without = statements(&queued(TopicKind::Standard));
    let added: BTreeMap<String, Value> = statements(&workflow)
        .into_iter()
        .filter(|statement| !without.contains(statement))
        .map(|one| (one["Sid"].to_string(), json!([one["Action"], one["Resource"]])))
        .collect();
    let (place, batch) = ("eu-west-1:123456789012", "arn:aws:batch:eu-west-1:123456789012");
    let pipeline = |name: &str| format!("arn:aws:sagemaker:{place}:pipeline/{name}");
    let expected = json!({
        "\"StartPipelines\"": [
            "sagemaker:StartPipelineExecution", [pipeline("Fit-Wine"), pipeline("fit-wine")],
        ],
        "\"AskAfterPipelines\"": ["sagemaker:DescribePipelineExecution", [
            pipeline("Fit-Wine/execution/*"), pipeline("fit-wine/execution/*"),
        ]],
        "\"SubmitJobs\"": ["batch:SubmitJob", [
            format!("{batch}:job-definition/rank"), format!("{batch}:job-definition/rank:*"),
            format!("{batch}:job-definition/score:3"), format!("{batch}:job-queue/gpu"),
        ]],
        "\"FindJobs\"": [["batch:DescribeJobs", "batch:ListJobs"], "*"],
        "\"InvokeFunctions\"": [
            "lambda:InvokeFunction", format!("arn:aws:lambda:{place}:function:notify:live"),
        ],
        "\"PublishToOthers\"": ["sns:Publish", "arn:aws:sns:eu-west-1:999999999999:other"],
        "\"SendToOthers\"": ["sqs:SendMessage", "arn:aws:sqs:eu-west-1:999999999999:other"],
    });
    assert_eq!(json!(added), expected);
}

#[test]
fn the_ends_of_what_triggers_start_come_without_a_source() {
    let rules = |workflow: &Workflow| -> BTreeMap<String, Value> {
        let desired = desired_of(workflow, &inputs());
        let admitted = desired.iter().filter_map(|one| match &one.properties {
            Properties::Queue(queue) => Some(queue.policy.to_string()),
            _ => None,
        });
        let admitted: String = admitted.collect();
        let rules = desired.into_iter().filter_map(|resource| match resource.properties {
            Properties::Rule(rule) if rule.name.starts_with("wine-runs-") => {
                assert!(admitted.contains(&rule.arn), "{} may not fill the queue", rule.name);
                Some((rule.name, rule.pattern))
            }
            _ => None,
        });
        rules.collect()
    };
    let mut workflow = starting_everything();
    // A second trigger of one pipeline hears by the first one's rule.
    let twin = Trigger {
        target: Target::SagemakerPipeline("fit-wine".to_owned()),
        ..crate::testing::trigger("fit-again", "none")
    };
    workflow.triggers.push(twin);
    let own = rules(&workflow);
    let names: Vec<&str> = own.keys().map(String::as_str).collect();
    assert_eq!(names, ["wine-runs-fit", "wine-runs-rank", "wine-runs-score"]);
    assert_eq!(
        own["wine-runs-score"],
        json!({
            "source": ["aws.batch"],
            "detail-type": ["Batch Job State Change"],
            "detail": {
                "jobName": [{"prefix": "score-"}],
                "jobQueue": ["arn:aws:batch:eu-west-1:123456789012:job-queue/gpu"],
                "status": ["SUCCEEDED", "FAILED"],
            },
        })
    );
    let pipelines = &own["wine-runs-fit"]["detail"]["pipelineArn"];
    assert_eq!(pipelines.as_array().map(Vec::len), Some(2), "in either case: {pipelines}");

    // What a source watches needs no rule of its own.
    let watched = |name: &str, kind: fn(CompletionSource) -> SourceKind, resource: &str| Source {
        name: name.to_owned(),
        dataset: None,
        expected_s: None,
        kind: kind(CompletionSource { resource: resource.to_owned(), stage: Stage::Training }),
    };
    workflow.sources.push(watched("gpu", SourceKind::Batch, "gpu"));
    workflow.sources.push(watched("fits", SourceKind::Sagemaker, "FIT-WINE"));
    assert_eq!(rules(&workflow), BTreeMap::new());
}

#[test]
fn everything_in_the_way_is_said_at_once() {
    let (mut workflow, inputs) = (workflow(), inputs());
    workflow.functions[0].name = "train".to_owned();
    workflow.triggers[1].target =
        Target::Lambda("arn:aws:lambda:us-east-1:123456789012:function:other".to_owned());
    let problems = check(&owner(), &workflow, &inputs).expect_err("not in this version");
    insta::assert_snapshot!("problems", problems);
}

#[test]
fn a_table_with_another_key_is_a_problem_and_never_replaced() {
    let mut world = world_of(&workflow(), &inputs());
    for observed in &mut world.resources {
        if let Properties::Table(table) = &mut observed.properties {
            table.key.hash.name = "id".to_owned();
        }
    }
    let problems =
        diff(&owner(), &desired_of(&workflow(), &inputs()), &world).expect_err("refused");
    assert_eq!(problems.problems[0].place, "dynamodb table wine-ledger");
}

/// A workflow of some of the parts of [`workflow`], with other settings.
fn any_workflow() -> impl Strategy<Value = (Workflow, Inputs)> {
    let triggers =
        prop::sample::subsequence(vec!["collect", "train", "evaluate", "predict"], 1..=4);
    (triggers, any::<(bool, bool, bool, bool, bool)>(), 1..5_u32).prop_map(
        |(triggers, (with_source, is_made, is_told, has_worker, is_function), setting)| {
            let (mut workflow, mut inputs) = (workflow(), inputs());
            if setting > 2 {
                let kind = if is_function { TopicKind::Standard } else { TopicKind::Fifo };
                workflow = queued(kind);
            }
            workflow.triggers.retain(|trigger| triggers.contains(&trigger.name.as_str()));
            inputs.definitions.retain(|name, _| triggers.contains(&name.as_str()));
            if !has_worker {
                workflow.functions.clear();
                let pass = json!({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}});
                inputs.definitions.values_mut().for_each(|definition| *definition = pass.clone());
            }
            workflow.sources.retain(|source| with_source || source.name != "raw");
            for source in &mut workflow.sources {
                if let SourceKind::S3(s3) = &mut source.kind {
                    s3.create = is_made;
                }
            }
            if is_function {
                (workflow.publisher, inputs.publisher) = {
                    let (workflow, inputs) = as_function();
                    (workflow.publisher, inputs.publisher)
                };
            }
            workflow.topic.kms_key = (setting == 2).then_some(TopicKey::Create);
            workflow.security.tls_only = setting != 1;
            workflow.handler.memory_mb = 128 * setting;
            workflow.handler.log_retention_days = setting;
            if is_told {
                workflow.subscribers = changed().0.subscribers;
            }
            (workflow, inputs)
        },
    )
}

proptest! {
    #[test]
    fn what_is_as_it_should_be_needs_no_step((workflow, inputs) in any_workflow()) {
        let world = world_of(&workflow, &inputs);
        let plan = plan_of(&desired_of(&workflow, &inputs), &world);
        prop_assert!(plan.is_empty(), "{}", plan);
        prop_assert_eq!(plan.unchanged.len(), world.resources.len());
    }

    #[test]
    fn an_executed_plan_leaves_nothing_to_do(
        (before, before_inputs) in any_workflow(),
        (after, after_inputs) in any_workflow(),
    ) {
        let world = world_of(&before, &before_inputs);
        let desired = desired_of(&after, &after_inputs);
        let plan = plan_of(&desired, &world);
        let again = plan_of(&desired, &executed(&plan, &world));
        prop_assert!(again.is_empty(), "{}", again);
        prop_assert_eq!(&again.kept, &plan.kept);
    }

    #[test]
    fn each_step_comes_after_those_it_depends_on(
        (before, before_inputs) in any_workflow(),
        (after, after_inputs) in any_workflow(),
    ) {
        let world = world_of(&before, &before_inputs);
        let plan = plan_of(&desired_of(&after, &after_inputs), &world);
        for (index, step) in plan.steps.iter().enumerate() {
            for id in &step.after {
                prop_assert!(plan.steps[..index].iter().any(|step| step.id == *id), "{}", plan);
            }
        }
    }

    #[test]
    fn no_apply_deletes_what_may_hold_data(
        (before, before_inputs) in any_workflow(),
        (after, after_inputs) in any_workflow(),
    ) {
        let world = world_of(&before, &before_inputs);
        let plan = plan_of(&desired_of(&after, &after_inputs), &world);
        let goes = |step: &Step| {
            step.action != Action::Create && step.action != Action::Update
                && matches!(step.id.kind, Kind::Bucket | Kind::Queue | Kind::Table)
        };
        prop_assert!(!plan.steps.iter().any(goes), "{}", plan);
    }

    #[test]
    fn a_destruction_leaves_nothing((workflow, inputs) in any_workflow()) {
        let world = world_of(&workflow, &inputs);
        let left = executed(&destruction(&owner(), &world, &[]), &world);
        prop_assert!(left.resources.is_empty());
    }
}
