//! Alarms, the dashboard, subscribers and look-ups, applied and read back.

use std::collections::BTreeSet;

use aws_sdk_cloudwatch::types::{MetricAlarm, StateValue};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{FunctionCode, Runtime};
use aws_sdk_sns::types::MessageAttributeValue;
use bellwire_infra::ProvisionError;
use bellwire_infra::plan::Action;
use bellwire_infra::resource::Kind;

use crate::deploy::step_of;
use crate::world::{WORKFLOW, World};

const SUBSCRIBERS: &str = r#"
[[subscriber]]
name = "people"
protocol = "email"
endpoint = "people@example.com"
on = "training.failed"

[[subscriber]]
name = "labels"
protocol = "sqs"
create = true
raw = true
on = "data.arrived"
where = { dataset = ["wine"] }

[[subscriber]]
name = "notify"
protocol = "lambda"
endpoint = "arn:aws:lambda:us-east-1:000000000000:function:notify"
on = "training.failed"

[[subscriber]]
name = "theirs"
protocol = "sqs"
endpoint = "arn:aws:sqs:us-east-1:000000000000:theirs"

[alarms]
email = "on-call@example.com"
"#;

/// The wine workflow, watched: its data is expected every day.
fn watched() -> String {
    let expecting = WORKFLOW.replacen("name = \"raw\"", "name = \"raw\"\nexpected = \"24h\"", 1);
    format!("{expecting}{SUBSCRIBERS}")
}

/// What somebody else made, and the workflow names.
async fn make_theirs(world: &World) {
    let iam = aws_sdk_iam::Client::new(&world.config);
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
    let role = iam.create_role().role_name("notify").assume_role_policy_document(trust);
    role.send().await.expect("created");
    let lambda = aws_sdk_lambda::Client::new(&world.config);
    let code = FunctionCode::builder().zip_file(Blob::new(world.artifact("worker.zip"))).build();
    let made = lambda.create_function().function_name("notify").runtime(Runtime::Providedal2023);
    let made = made.role("arn:aws:iam::000000000000:role/notify").handler("bootstrap").code(code);
    made.send().await.expect("created");
    let permission = lambda.add_permission().function_name("notify").statement_id("theirs");
    let permission = permission.action("lambda:InvokeFunction").principal("s3.amazonaws.com");
    permission.send().await.expect("permitted");
    let sqs = aws_sdk_sqs::Client::new(&world.config);
    sqs.create_queue().queue_name("theirs").send().await.expect("created");
}

async fn statements(world: &World) -> BTreeSet<String> {
    let lambda = aws_sdk_lambda::Client::new(&world.config);
    let policy = lambda.get_policy().function_name("notify").send().await.expect("there");
    let policy = policy.policy.unwrap_or_default();
    let sids = policy.split("\"Sid\"").skip(1).filter_map(|rest| rest.split('"').nth(1));
    sids.map(str::to_owned).collect()
}

async fn alarms(world: &World) -> Vec<MetricAlarm> {
    let cloudwatch = aws_sdk_cloudwatch::Client::new(&world.config);
    let found = cloudwatch.describe_alarms().send().await.expect("described");
    found.metric_alarms.unwrap_or_default()
}

async fn alarm(world: &World, name: &str) -> MetricAlarm {
    let all = alarms(world).await;
    all.into_iter().find(|one| one.alarm_name() == Some(name)).unwrap_or_else(|| panic!("{name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_watches_is_there_and_goes_with_the_workflow() {
    let world = World::new().await;
    make_theirs(&world).await;
    let provisioner = world.provisioner(&watched()).await;
    let plan = world.apply(&provisioner).await;
    let (again, _) = world.plan(&provisioner).await;
    assert!(again.is_empty(), "{again}");
    assert_eq!(again.unchanged.len(), plan.steps.len());

    let names: BTreeSet<String> =
        alarms(&world).await.into_iter().filter_map(|alarm| alarm.alarm_name).collect();
    let outputs = provisioner.outputs().await.expect("outputs");
    assert_eq!(outputs.alarms.iter().cloned().collect::<BTreeSet<_>>(), names);
    assert!(names.contains("wine-dead-queue") && names.contains("wine-runs-train"), "{names:?}");
    assert_eq!(outputs.dashboard.as_deref(), Some("wine"));
    assert_eq!(outputs.topic_arn.as_deref(), Some("arn:aws:sns:us-east-1:000000000000:wine"));
    let runs = alarm(&world, "wine-runs-train").await;
    assert_eq!(runs.metrics().len(), 4, "three metrics and their sum");

    // Another's alarm of a like name is not ours.
    let cloudwatch = aws_sdk_cloudwatch::Client::new(&world.config);
    let put =
        cloudwatch.put_metric_alarm().alarm_name("wine-theirs").namespace("X").metric_name("Y");
    let put =
        put.period(60).evaluation_periods(1).threshold(1.0).comparison_operator(
            aws_sdk_cloudwatch::types::ComparisonOperator::GreaterThanThreshold,
        );
    put.statistic(aws_sdk_cloudwatch::types::Statistic::Sum).send().await.expect("put");

    world.destroy(&provisioner, &["wine-ingest", "wine-dead", "wine-to-labels"]).await;
    let left = provisioner.plan_destroy(&[]).await.expect("planned");
    assert!(left.is_empty() && left.kept.is_empty(), "{left}");
    let names: Vec<Option<String>> =
        alarms(&world).await.into_iter().map(|alarm| alarm.alarm_name).collect();
    assert_eq!(names, [Some("wine-theirs".to_owned())]);
    assert_eq!(statements(&world).await, BTreeSet::from(["theirs".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_does_not_come_is_an_alarm_until_it_does() {
    use aws_sdk_cloudwatch::types::{Dimension, MetricDatum};

    let world = World::new().await;
    make_theirs(&world).await;
    world.apply(&world.provisioner(&watched()).await).await;
    let expected = alarm(&world, "wine-expected-raw").await;
    assert_eq!(expected.treat_missing_data(), Some("breaching"));
    assert_eq!(expected.period().zip(expected.evaluation_periods()), Some((300, 288)));
    assert_eq!(expected.state_value(), Some(&StateValue::Alarm), "nothing has come");
    assert_eq!(alarm(&world, "wine-handler-errors").await.state_value(), Some(&StateValue::Ok));

    let cloudwatch = aws_sdk_cloudwatch::Client::new(&world.config);
    let dimension = |name: &str, value: &str| Dimension::builder().name(name).value(value).build();
    let datum = MetricDatum::builder()
        .metric_name("SourceEvents")
        .value(1.0)
        .dimensions(dimension("Workflow", "wine"))
        .dimensions(dimension("Source", "raw"))
        .build();
    let put = cloudwatch.put_metric_data().namespace("Bellwire").metric_data(datum);
    put.send().await.expect("put");
    let expected = alarm(&world, "wine-expected-raw").await;
    assert_eq!(expected.state_value(), Some(&StateValue::Ok), "it has come");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_has_yet_to_confirm_is_shown_and_asked_once() {
    let world = World::new().await;
    make_theirs(&world).await;
    let provisioner = world.provisioner(&watched()).await;
    world.apply(&provisioner).await;
    let outputs = provisioner.outputs().await.expect("outputs");
    let unconfirmed: BTreeSet<&str> = outputs.unconfirmed.iter().map(String::as_str).collect();
    assert_eq!(unconfirmed, BTreeSet::from(["on-call@example.com", "people@example.com"]));

    // A filter that changes meanwhile waits for the confirmation, too.
    let changed = watched().replacen("on = \"training.failed\"", "on = \"prediction.failed\"", 1);
    let changed = world.provisioner(&changed).await;
    let plan = world.apply(&changed).await;
    let shown = plan.to_string();
    for address in unconfirmed {
        assert!(shown.contains(&format!("{address} has yet to confirm")), "{shown}");
    }
    let asked = changed.calls().take();
    assert!(asked.iter().all(|call| call.operation != "Subscribe"), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_get_what_they_asked_for() {
    let world = World::new().await;
    make_theirs(&world).await;
    let provisioner = world.provisioner(&watched()).await;
    let (plan, _) = world.plan(&provisioner).await;
    let shown = plan.to_string();
    assert!(shown.contains("its owner adds to its policy") && shown.contains(":theirs"), "{shown}");
    world.apply(&provisioner).await;
    assert!(statements(&world).await.contains("bellwire-wine-sns"));

    let sns = aws_sdk_sns::Client::new(&world.config);
    let topic = "arn:aws:sns:us-east-1:000000000000:wine";
    for (dataset, message) in [("beer", "not for it"), ("wine", "for it")] {
        let text = |value: &str| {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value);
            value.build().expect("typed")
        };
        let publish = sns.publish().topic_arn(topic).message(message);
        let publish = publish.message_attributes("type", text("ml.data.arrived.v1"));
        publish.message_attributes("dataset", text(dataset)).send().await.expect("published");
    }
    let sqs = aws_sdk_sqs::Client::new(&world.config);
    let url = sqs.get_queue_url().queue_name("wine-to-labels").send().await.expect("there");
    let url = url.queue_url.expect("a URL");
    let received = sqs.receive_message().queue_url(&url).wait_time_seconds(10).send().await;
    let received = received.expect("received").messages.unwrap_or_default();
    let bodies: Vec<&str> = received.iter().filter_map(|one| one.body()).collect();
    assert_eq!(bodies, ["for it"], "raw, and filtered");

    // Once its policy admits the topic, nothing is left to say.
    let sqs_policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"Topic","Effect":"Allow","Principal":{{"Service":"sns.amazonaws.com"}},"Action":"sqs:SendMessage","Resource":"arn:aws:sqs:us-east-1:000000000000:theirs","Condition":{{"ArnEquals":{{"aws:SourceArn":"{topic}"}}}}}}]}}"#
    );
    let theirs = sqs.get_queue_url().queue_name("theirs").send().await.expect("there");
    let set = sqs.set_queue_attributes().queue_url(theirs.queue_url.expect("a URL"));
    let set = set.attributes(aws_sdk_sqs::types::QueueAttributeName::Policy, sqs_policy);
    set.send().await.expect("set");
    let (plan, _) = world.plan(&provisioner).await;
    assert!(!plan.to_string().contains("its owner adds"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_no_longer_told_loses_our_statement_and_keeps_theirs() {
    let world = World::new().await;
    make_theirs(&world).await;
    world.apply(&world.provisioner(&watched()).await).await;
    let (before, rest) =
        SUBSCRIBERS.split_once("[[subscriber]]\nname = \"notify\"").expect("there");
    let (_, after) = rest.split_once("[[subscriber]]").expect("there");
    let fewer = watched().replace(SUBSCRIBERS, &format!("{before}[[subscriber]]{after}"));
    let provisioner = world.provisioner(&fewer).await;
    let plan = world.apply(&provisioner).await;
    let statement = step_of(&plan, Kind::FunctionPolicy, "notify/bellwire-wine-sns");
    assert_eq!(statement, Some(Action::Delete), "{plan}");
    assert_eq!(
        step_of(&plan, Kind::Subscription, "wine -> notify"),
        Some(Action::Delete),
        "{plan}"
    );
    assert_eq!(statements(&world).await, BTreeSet::from(["theirs".to_owned()]));
    assert!(world.plan(&provisioner).await.0.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_or_dashboard_that_somebody_changed_is_put_right() {
    let world = World::new().await;
    make_theirs(&world).await;
    let provisioner = world.provisioner(&watched()).await;
    world.apply(&provisioner).await;
    let cloudwatch = aws_sdk_cloudwatch::Client::new(&world.config);
    let found = alarm(&world, "wine-expected-raw").await;
    cloudwatch
        .put_metric_alarm()
        .alarm_name("wine-expected-raw")
        .set_namespace(found.namespace)
        .set_metric_name(found.metric_name)
        .set_dimensions(found.dimensions)
        .set_statistic(found.statistic)
        .set_period(found.period)
        .set_evaluation_periods(found.evaluation_periods)
        .set_threshold(found.threshold)
        .set_comparison_operator(found.comparison_operator)
        .set_alarm_description(found.alarm_description)
        .set_alarm_actions(found.alarm_actions)
        .set_ok_actions(found.ok_actions)
        .treat_missing_data("missing")
        .send()
        .await
        .expect("put");
    let body = r#"{"widgets":[]}"#;
    let put = cloudwatch.put_dashboard().dashboard_name("wine").dashboard_body(body).send().await;
    put.expect("put");
    // Without the text on it, it might be anybody's.
    let problems = world.try_plan(&provisioner).await.expect_err("refused").to_string();
    assert!(problems.contains("dashboard wine") && problems.contains("--adopt wine"), "{problems}");
    let adopting = world.provisioner(&watched()).await.adopting(&["wine".to_owned()]);
    let plan = world.apply(&adopting).await;
    let shown = plan.to_string();
    assert_eq!(step_of(&plan, Kind::Alarm, "wine-expected-raw"), Some(Action::Update), "{shown}");
    assert!(shown.contains("breaching"), "{shown}");
    assert!(world.plan(&provisioner).await.0.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_a_problem_at_the_line_that_names_it() {
    let text = r#"
workflow = "wine"

[handler]
artifact = "handler.zip"
delivery = "queued"

[[source]]
name = "app"
kind = "http"
emits = "training.requested"

[[subscriber]]
name = "gone"
protocol = "lambda"
endpoint = "arn:aws:lambda:us-east-1:000000000000:function:gone"

[[trigger]]
name = "fit"
stage = "training"
on = "training.requested"
start = { lambda = "fit" }

[[trigger]]
name = "tell"
stage = "training"
on = "training.requested"
start = { sqs = "arn:aws:sqs:us-east-1:000000000000:nowhere" }

[[trigger]]
name = "publish"
stage = "training"
on = "training.requested"
start = { sns = "arn:aws:sns:us-east-1:000000000000:nothing" }

[[trigger]]
name = "job"
stage = "training"
on = "training.requested"
start = { batch = { job_queue = "gpu", job_definition = "fit" } }

[[trigger]]
name = "elsewhere"
stage = "training"
on = "training.requested"
start = { sqs = "arn:aws:sqs:us-east-1:210987654321:theirs" }
"#;
    let world = World::new().await;
    let provisioner = world.provisioner(text).await;
    let problems = match world.try_plan(&provisioner).await {
        Err(ProvisionError::Problems(problems)) => problems.to_string(),
        other => panic!("{other:?}"),
    };
    for expected in [
        "line 16, subscriber \"gone\": function",
        "line 22, trigger \"fit\": function arn:aws:lambda:us-east-1:000000000000:function:fit",
        "line 28, trigger \"tell\": queue",
        "line 34, trigger \"publish\": topic",
        "line 40, trigger \"job\": job queue arn:aws:batch:us-east-1:000000000000:job-queue/gpu",
        "line 40, trigger \"job\": job definition",
    ] {
        assert!(problems.contains(expected), "{expected} is missing: {problems}");
    }
    assert!(!problems.contains("elsewhere"), "another account's may be there: {problems}");
}
