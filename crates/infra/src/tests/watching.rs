//! Alarms, the dashboard, subscribers, sources of others, and keys of objects.

use bellwire_schema::workflow::{AlarmKind, BatchTarget, SourceKind, Target, Workflow, read};
use serde_json::{Value, json};

use super::desired_of;
use crate::check::check;
use crate::elsewhere;
use crate::kind::alarm::Alarm;
use crate::kind::dashboard::mark;
use crate::kind::queue::Queue;
use crate::kind::subscription::Subscription;
use crate::resource::{Kind, Properties, Resource, ResourceId};
use crate::testing::{inputs, owner, workflow};

const QUEUE: &str = "arn:aws:sqs:eu-west-1:123456789012:labels";
const FUNCTION: &str = "arn:aws:lambda:eu-west-1:123456789012:function:notify:prod";
const THEIR_FUNCTION: &str = "arn:aws:lambda:eu-west-1:210987654321:function:notify";

/// The workflow like wine's, watched.
pub(super) fn watched() -> Workflow {
    let mut workflow = workflow();
    workflow.alarms.enabled = true;
    workflow.alarms.dashboard = true;
    workflow.alarms.email = Some("on-call@example.com".to_owned());
    workflow.sources[0].expected_s = Some(86_400);
    workflow.sources[1].expected_s = Some(2 * 86_400);
    workflow
}

fn alarms(workflow: &Workflow) -> Vec<Alarm> {
    let of_kind = |resource: Resource| match resource.properties {
        Properties::Alarm(alarm) => Some(alarm),
        _ => None,
    };
    desired_of(workflow, &inputs()).into_iter().filter_map(of_kind).collect()
}

fn names(workflow: &Workflow) -> Vec<String> {
    alarms(workflow).into_iter().map(|alarm| alarm.name).collect()
}

fn found<T>(workflow: &Workflow, of: impl Fn(Properties) -> Option<T>) -> Vec<T> {
    let all = desired_of(workflow, &inputs()).into_iter();
    all.filter_map(|resource| of(resource.properties)).collect()
}

#[test]
fn every_alarm_says_what_it_looks_at_and_what_no_data_means() {
    let shown: Vec<String> = alarms(&watched())
        .iter()
        .map(|alarm| {
            let Alarm { name, comparison, threshold, missing_data, datapoints, periods, .. } =
                alarm;
            assert_eq!(datapoints, periods, "{name}");
            format!("{name}: {} {comparison} {threshold}, no data: {missing_data}", alarm.summary())
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn no_data_is_the_alarm_where_data_is_expected_and_nowhere_else() {
    let expected = ["wine-expected-raw", "wine-expected-requests"];
    for alarm in alarms(&watched()) {
        let is_expected = expected.contains(&alarm.name.as_str());
        let no_data = if is_expected { "breaching" } else { "notBreaching" };
        assert_eq!(alarm.missing_data, no_data, "{}", alarm.name);
        assert!(
            !is_expected
                || (alarm.comparison.as_str(), alarm.threshold) == ("LessThanThreshold", 1)
        );
        let most_s = if alarm.period_s < 3_600 { 86_400 } else { 7 * 86_400 };
        assert!(alarm.period_s * alarm.periods <= most_s, "{}", alarm.name);
    }
}

#[test]
fn each_kind_of_alarm_is_switched_off_by_its_name() {
    let all = names(&watched());
    let mut left = all.clone();
    for kind in AlarmKind::ALL {
        let mut workflow = watched();
        workflow.alarms.skip = vec![kind];
        let fewer = names(&workflow);
        assert!(fewer.len() < all.len(), "{kind:?}");
        left.retain(|name| fewer.contains(name));
    }
    assert_eq!(left, Vec::<String>::new(), "each alarm is of a kind");
    let mut workflow = watched();
    workflow.alarms.enabled = false;
    assert!(names(&workflow).is_empty());
    let topics = found(&workflow, |one| matches!(one, Properties::Topic(_)).then_some(()));
    assert_eq!(topics.len(), 1, "no topic without alarms");
}

#[test]
fn runs_that_fail_are_counted_by_aws_or_by_the_handler() {
    let mut workflow = watched();
    workflow.handler.delivery = bellwire_schema::workflow::Delivery::Queued;
    workflow.triggers[0].target = Target::SagemakerPipeline("fit".to_owned());
    workflow.triggers[1].target = Target::Lambda("notify:prod".to_owned());
    let batch = BatchTarget { job_queue: "gpu".to_owned(), job_definition: "fit:3".to_owned() };
    workflow.triggers[2].target = Target::Batch(batch);
    workflow.triggers[3].target = Target::Sqs(QUEUE.to_owned());
    let runs: Vec<String> = alarms(&workflow)
        .into_iter()
        .filter(|alarm| alarm.name.starts_with("wine-runs-"))
        .flat_map(|alarm| alarm.metrics)
        .map(|metric| format!("{} {} {:?}", metric.namespace, metric.name, metric.dimensions))
        .collect();
    insta::assert_snapshot!(runs.join("\n"), @r#"
    AWS/Sagemaker/ModelBuildingPipeline ExecutionFailed {"PipelineName": "fit"}
    Bellwire RunsFailed {"Trigger": "evaluate", "Workflow": "wine"}
    AWS/Lambda Errors {"FunctionName": "notify"}
    "#);
    assert!(names(&workflow).contains(&"wine-work-age".to_owned()));
}

#[test]
fn alarms_tell_a_topic_of_their_own_that_cloudwatch_alone_fills() {
    let workflow = watched();
    let topic_arn = "arn:aws:sns:eu-west-1:123456789012:wine-alarms";
    for alarm in alarms(&workflow) {
        assert_eq!(alarm.tells, [topic_arn], "{}", alarm.name);
        assert_eq!(alarm.tells_when_over, [topic_arn], "{}", alarm.name);
    }
    let topics = found(&workflow, |one| match one {
        Properties::Topic(topic) if topic.arn == topic_arn => Some(topic),
        _ => None,
    });
    let publishes = &topics[0].policy["Statement"][0];
    assert_eq!(publishes["Principal"], json!({"Service": "cloudwatch.amazonaws.com"}));
    assert_eq!(publishes["Condition"]["StringEquals"]["aws:SourceAccount"], "123456789012");
    assert!(
        publishes["Condition"]["ArnLike"]["aws:SourceArn"]
            .as_str()
            .unwrap()
            .ends_with(":alarm:wine-*")
    );
    assert!(crate::policy::is_tls_only(&topics[0].policy));
    let notes = elsewhere::notes(&owner(), &workflow);
    assert!(notes.iter().any(|note| note.text.contains("not encrypted")), "{notes:?}");

    let mut keyed = watched();
    keyed.topic.kms_key = Some(bellwire_schema::workflow::TopicKey::Create);
    let policies = found(&keyed, |one| match one {
        Properties::Key(key) => Some(key.policy.to_string()),
        _ => None,
    });
    assert!(policies[0].contains("cloudwatch.amazonaws.com"), "{}", policies[0]);
    assert!(elsewhere::notes(&owner(), &keyed).is_empty());

    let mut theirs = watched();
    theirs.alarms.email = None;
    let notes = elsewhere::notes(&owner(), &theirs);
    assert!(notes.iter().any(|note| note.text.contains("tell nobody")), "{notes:?}");
    theirs.alarms.topic = Some("arn:aws:sns:eu-west-1:123456789012:pager".to_owned());
    assert_eq!(alarms(&theirs)[0].tells, ["arn:aws:sns:eu-west-1:123456789012:pager"]);
}

#[test]
fn alarms_never_tell_the_topic_of_the_events() {
    for (topic, cause) in [
        ("arn:aws:sns:eu-west-1:123456789012:wine", "the topic that the events travel through"),
        ("arn:aws:sns:us-east-1:123456789012:pager", "is not in eu-west-1"),
    ] {
        let mut workflow = watched();
        (workflow.alarms.email, workflow.alarms.topic) = (None, Some(topic.to_owned()));
        let problems = check(&owner(), &workflow, &inputs()).expect_err("refused");
        assert!(problems.to_string().contains(cause), "{problems}");
    }
    check(&owner(), &watched(), &inputs()).unwrap_or_else(|problems| panic!("{problems}"));
}

#[test]
fn the_dashboard_shows_every_alarm_and_nothing_covers_anything() {
    let workflow = watched();
    let bodies = found(&workflow, |one| match one {
        Properties::Dashboard(dashboard) => Some(dashboard.body),
        _ => None,
    });
    let widgets = bodies[0]["widgets"].as_array().expect("widgets");
    let shown = widgets.iter().find(|one| one["type"] == "alarm").expect("the alarms");
    assert_eq!(shown["properties"]["alarms"].as_array().unwrap().len(), alarms(&workflow).len());
    let heading = widgets[0]["properties"]["markdown"].as_str().unwrap();
    assert!(heading.lines().any(|line| line == mark(&owner())), "{heading}");
    let side = |one: &Value, key: &str| one[key].as_u64().unwrap();
    let area = |one: &Value| {
        let (x, y) = (side(one, "x"), side(one, "y"));
        (x, x + side(one, "width"), y, y + side(one, "height"))
    };
    for (index, one) in widgets.iter().enumerate() {
        let (left, right, top, bottom) = area(one);
        assert!(right <= 24, "{one}");
        for other in &widgets[..index] {
            let (l, r, t, b) = area(other);
            assert!(right <= l || r <= left || bottom <= t || b <= top, "{one} covers {other}");
        }
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&bodies[0]).unwrap());
}

/// Subscribers of every kind.
pub(super) fn subscribed() -> Workflow {
    let text = format!(
        r#"
workflow = "wine"
[alarms]
enabled = false
dashboard = false
[[source]]
name = "raw"
kind = "s3"
bucket = "wine-lake"
create = true
[[subscriber]]
name = "labels"
protocol = "sqs"
create = true
raw = true
on = "data.arrived"
where = {{ dataset = ["wine"] }}
[[subscriber]]
name = "big"
protocol = "sqs"
endpoint = "{QUEUE}"
where = {{ data.size_bytes = [{{ numeric = [">", 5] }}] }}
[[subscriber]]
name = "hook"
protocol = "https"
endpoint = "https://example.com/hook"
raw = true
[[subscriber]]
name = "notify"
protocol = "lambda"
endpoint = "{FUNCTION}"
on = "training.failed"
[[subscriber]]
name = "theirs"
protocol = "lambda"
endpoint = "{THEIR_FUNCTION}"
[[subscriber]]
name = "own"
protocol = "lambda"
endpoint = "arn:aws:lambda:eu-west-1:123456789012:function:wine-worker:live"
[[function]]
name = "worker"
artifact = "worker.zip"
[[trigger]]
name = "train"
stage = "training"
on = "data.arrived"
start = {{ step-functions = "train.asl.json" }}
"#
    );
    read(&text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn subscription(workflow: &Workflow, endpoint: &str) -> Subscription {
    let all = found(workflow, |one| match one {
        Properties::Subscription(subscription) => Some(subscription),
        _ => None,
    });
    all.into_iter().find(|one| one.endpoint == endpoint).unwrap_or_else(|| panic!("{endpoint}"))
}

#[test]
fn each_subscriber_has_a_filter_and_sends_what_fails_to_our_dead_queue() {
    let workflow = subscribed();
    let own = "arn:aws:sqs:eu-west-1:123456789012:wine-to-labels";
    let dead = "arn:aws:sqs:eu-west-1:123456789012:wine-dead";
    for (endpoint, is_raw, scope, filter) in [
        (
            own,
            true,
            "MessageAttributes",
            json!({"type": ["ml.data.arrived.v1"], "dataset": ["wine"]}),
        ),
        (
            QUEUE,
            false,
            "MessageBody",
            json!({
                "type": [{"anything-but": ["ml.bellwire.probe.v1"]}],
                "data": {"size_bytes": [{"numeric": [">", 5]}]},
            }),
        ),
        (
            "https://example.com/hook",
            true,
            "MessageAttributes",
            json!({"type": [{"anything-but": ["ml.bellwire.probe.v1"]}]}),
        ),
        (FUNCTION, false, "MessageAttributes", json!({"type": ["ml.training.failed.v1"]})),
    ] {
        let found = subscription(&workflow, endpoint);
        assert_eq!((found.is_raw, found.filter_scope.as_str()), (is_raw, scope), "{endpoint}");
        assert_eq!(found.filter_policy, filter, "{endpoint}");
        assert_eq!(found.dead_queue_arn.as_deref(), Some(dead), "{endpoint}");
    }
}

#[test]
fn a_queue_that_is_made_admits_the_topic_alone_and_redrives_into_ours() {
    let queues: Vec<Queue> = found(&subscribed(), |one| match one {
        Properties::Queue(queue) => Some(queue),
        _ => None,
    });
    let queue = |name: &str| queues.iter().find(|one| one.name == name).expect("there");
    let made = queue("wine-to-labels");
    assert!(made.encrypted && crate::policy::is_tls_only(&made.policy));
    assert_eq!(
        made.policy["Statement"][0]["Condition"]["ArnEquals"]["aws:SourceArn"],
        "arn:aws:sns:eu-west-1:123456789012:wine"
    );
    assert_eq!(
        made.redrive.as_ref().map(|one| one.dead_queue_arn.as_str()),
        Some(queue("wine-dead").arn.as_str())
    );
    assert!(
        queue("wine-dead").redrive_from.contains(&made.arn),
        "{:?}",
        queue("wine-dead").redrive_from
    );
}

#[test]
fn a_function_is_let_be_invoked_before_it_is_subscribed() {
    let resources = desired_of(&subscribed(), &inputs());
    let of = |name: &str| {
        let id = ResourceId::new(Kind::Subscription, format!("wine -> {name}"));
        let found = resources.iter().find(|resource| resource.id() == id);
        &found.unwrap_or_else(|| panic!("no {id}")).depends_on
    };
    let statement = ResourceId::new(Kind::FunctionPolicy, "notify:prod/bellwire-wine-sns");
    assert!(of("notify:prod").contains(&statement), "{:?}", of("notify:prod"));
    let permission = ResourceId::new(Kind::Permission, "wine-worker:live/bellwire-sns");
    assert!(of("wine-worker:live").contains(&permission), "{:?}", of("wine-worker:live"));
    let statements = resources.iter().filter(|one| one.id().kind == Kind::FunctionPolicy).count();
    assert_eq!(statements, 1, "another account's function is its owner's");
}

/// A bucket of another account, under a key, whose metadata is read.
fn on_their_bucket() -> Workflow {
    let mut workflow = workflow();
    for source in &mut workflow.sources {
        if let SourceKind::S3(s3) = &mut source.kind {
            s3.create = false;
            s3.account = Some("210987654321".to_owned());
            s3.kms_key = Some("arn:aws:kms:eu-west-1:210987654321:key/k".to_owned());
        }
    }
    workflow
}

#[test]
fn what_another_account_must_add_is_printed_and_not_done() {
    let workflow = on_their_bucket();
    let notifications =
        found(&workflow, |one| matches!(one, Properties::BucketNotification(_)).then_some(()));
    assert!(notifications.is_empty());
    let ingest = found(&workflow, |one| match one {
        Properties::Queue(queue) if queue.name == "wine-ingest" => Some(queue.policy),
        _ => None,
    });
    let admitted = &ingest[0]["Statement"][0];
    assert_eq!(admitted["Sid"], "BucketsOf210987654321Notify");
    assert_eq!(admitted["Condition"]["StringEquals"]["aws:SourceAccount"], "210987654321");
    assert!(crate::policy::buckets_of(&ingest[0]).is_empty(), "it is not ours to read");
    let notes: Vec<String> =
        elsewhere::notes(&owner(), &workflow).into_iter().map(|one| one.text).collect();
    insta::assert_snapshot!(notes.join("\n"));
}

#[test]
fn completions_of_another_account_come_over_its_bus() {
    let text = r#"
workflow = "wine"
[alarms]
enabled = false
[[source]]
name = "etl"
kind = "step-functions"
resource = "arn:aws:states:eu-west-1:210987654321:stateMachine:etl"
stage = "collection"
[[trigger]]
name = "train"
stage = "training"
on = "collection.completed"
start = { step-functions = "train.asl.json" }
"#;
    let workflow = read(text).unwrap_or_else(|problems| panic!("{problems}"));
    let notes: Vec<String> =
        elsewhere::notes(&owner(), &workflow).into_iter().map(|one| one.text).collect();
    insta::assert_snapshot!(notes.join("\n"));
}

#[test]
fn who_reads_or_writes_objects_under_a_key_may_use_it_and_nobody_else() {
    let mut workflow = workflow();
    let key = "arn:aws:kms:eu-west-1:123456789012:key/k";
    for source in &mut workflow.sources {
        if let SourceKind::S3(s3) = &mut source.kind {
            s3.kms_key = Some(key.to_owned());
        }
    }
    let uses: Vec<String> = found(&workflow, |one| match one {
        Properties::Role(role) => Some((role.name, role.policy)),
        _ => None,
    })
    .into_iter()
    .flat_map(|(name, policy)| {
        let statements = policy["Statement"].as_array().cloned().unwrap_or_default();
        let of_key = statements.into_iter().filter(|one| one["Resource"] == key);
        of_key
            .map(move |one| format!("{name} {} {}", one["Action"], one["Condition"]))
            .collect::<Vec<_>>()
    })
    .collect();
    insta::assert_snapshot!(uses.join("\n"), @r#"
    wine-publisher "kms:Decrypt" {"StringEquals":{"kms:ViaService":"s3.eu-west-1.amazonaws.com"}}
    wine-worker ["kms:Decrypt","kms:GenerateDataKey"] {"StringEquals":{"kms:ViaService":"s3.eu-west-1.amazonaws.com"}}
    "#);
    let encryption = found(&workflow, |one| match one {
        Properties::Bucket(bucket) => Some(bucket.encryption),
        _ => None,
    });
    assert_eq!(encryption, [key]);
}
