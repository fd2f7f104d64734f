//! What is not ours stays as it is.

use std::collections::BTreeSet;

use aws_sdk_s3::types::{Event, NotificationConfiguration, QueueConfiguration};
use aws_sdk_sfn::types::StateMachineType;
use aws_sdk_sqs::types::QueueAttributeName;
use bellwire_infra::plan::Action;
use bellwire_infra::resource::Kind;
use bellwire_infra::{ProvisionError, Provisioner};

use crate::deploy::step_of;
use crate::world::{WORKFLOW, World};

const THEIRS: &str = "nightly-etl";
const REMOVED: &str = "s3:ObjectRemoved:*";

/// The workflow on a bucket that somebody else made.
fn on_their_bucket() -> String {
    WORKFLOW.replace("create = true\n", "")
}

async fn entries(world: &World) -> BTreeSet<String> {
    let s3 = aws_sdk_s3::Client::new(&world.config);
    let found = s3.get_bucket_notification_configuration().bucket("wine-lake").send().await;
    let queues = found.expect("read").queue_configurations.unwrap_or_default();
    queues.into_iter().filter_map(|queue| queue.id).collect()
}

/// A bucket of theirs, which tells a queue of theirs of one kind of event.
async fn make_their_bucket(world: &World, event: &str) {
    let sqs = aws_sdk_sqs::Client::new(&world.config);
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"sqs:SendMessage","Resource":"arn:aws:sqs:us-east-1:000000000000:etl"}]}"#;
    let queue = sqs.create_queue().queue_name("etl").attributes(QueueAttributeName::Policy, policy);
    queue.send().await.expect("created");
    let s3 = aws_sdk_s3::Client::new(&world.config);
    s3.create_bucket().bucket("wine-lake").send().await.expect("created");
    let theirs = QueueConfiguration::builder()
        .id(THEIRS)
        .queue_arn("arn:aws:sqs:us-east-1:000000000000:etl")
        .events(Event::from(event))
        .build()
        .expect("queue and events are set");
    let theirs = NotificationConfiguration::builder().queue_configurations(theirs).build();
    let put = s3.put_bucket_notification_configuration().bucket("wine-lake");
    put.notification_configuration(theirs).send().await.expect("put");
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_notification_is_kept_and_shown() {
    let world = World::new().await;
    make_their_bucket(&world, REMOVED).await;
    let provisioner = world.provisioner(&on_their_bucket()).await;
    let plan = world.apply(&provisioner).await;
    assert!(plan.to_string().contains("kept, not ours: 1 entry (nightly-etl)"), "{plan}");
    assert_eq!(step_of(&plan, Kind::Bucket, "wine-lake"), None, "{plan}");
    assert_eq!(entries(&world).await, set(&[THEIRS, "bellwire-wine-raw"]));

    // A source that is no longer there takes only our entry with it.
    let no_source = on_their_bucket()
        .replace("kind = \"s3\"\nbucket = \"wine-lake\"", "kind = \"s3\"\nbucket = \"other-lake\"");
    let s3 = aws_sdk_s3::Client::new(&world.config);
    s3.create_bucket().bucket("other-lake").send().await.expect("created");
    let plan = world.apply(&world.provisioner(&no_source).await).await;
    let stale = step_of(&plan, Kind::BucketNotification, "wine-lake");
    assert_eq!(stale, Some(Action::Delete), "{plan}");
    assert_eq!(entries(&world).await, set(&[THEIRS]));

    world.apply(&provisioner).await;
    world.destroy(&provisioner, &["wine-ingest"]).await;
    assert_eq!(entries(&world).await, set(&[THEIRS]));
    s3.head_bucket().bucket("wine-lake").send().await.expect("their bucket stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn environments_do_not_touch_each_other() {
    let world = World::new().await;
    make_their_bucket(&world, REMOVED).await;
    let text = on_their_bucket();
    let plain = world.provisioner(&text).await;
    // S3 would refuse to tell both of the same objects.
    let theirs = text.replace("prefix = \"raw/\"", "prefix = \"prod/\"");
    let production: Provisioner = world.provisioner_of(&theirs, Some("prod")).await;
    world.apply(&plain).await;
    let first = world.apply(&production).await;
    assert_eq!(first.count(Action::Create), first.steps.len(), "{first}");
    let (again, _) = world.plan(&plain).await;
    assert!(again.is_empty(), "{again}");
    world.destroy(&plain, &["wine-ingest"]).await;
    assert_eq!(entries(&world).await, set(&[THEIRS, "bellwire-wine-prod-raw"]));
    let (again, _) = world.plan(&production).await;
    assert!(again.is_empty(), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_of_our_name_without_our_tag_is_refused() {
    let world = World::new().await;
    let sqs = aws_sdk_sqs::Client::new(&world.config);
    sqs.create_queue().queue_name("wine-dead").send().await.expect("created");
    make_their_bucket(&world, REMOVED).await;
    let provisioner = world.provisioner(WORKFLOW).await;
    let error = world.try_plan(&provisioner).await.expect_err("refused");
    let ProvisionError::Problems(problems) = error else { panic!("{error}") };
    let places: Vec<&str> =
        problems.problems.iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!(places, ["sqs queue wine-dead", "s3 bucket wine-lake"], "{problems}");

    let text = problems.to_string();
    assert!(text.contains("to take it over: --adopt wine-dead"), "{text}");

    // Nor does a destruction touch them.
    let plan = provisioner.plan_destroy(&["wine-dead".to_owned()]).await.expect("planned");
    assert!(plan.is_empty(), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_adopted_by_name_is_tagged_first_and_managed_then() {
    let world = World::new().await;
    let sqs = aws_sdk_sqs::Client::new(&world.config);
    for name in ["wine-dead", "wine-ingest"] {
        let queue = sqs.create_queue().queue_name(name);
        let queue = queue.attributes(QueueAttributeName::VisibilityTimeout, "7");
        queue.send().await.expect("created");
    }
    make_their_bucket(&world, REMOVED).await;
    let s3 = aws_sdk_s3::Client::new(&world.config);
    let put = s3.put_object().bucket("wine-lake").key("models/theirs");
    put.body(b"model".to_vec().into()).send().await.expect("put");
    let adopting = async |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        world.provisioner(WORKFLOW).await.adopting(&names)
    };
    // Only what is named.
    let error = world.try_plan(&adopting(&["wine-dead", "wine-lake"]).await).await;
    let error = error.expect_err("one is not named").to_string();
    assert!(error.contains("--adopt wine-ingest") && !error.contains("wine-dead"), "{error}");
    let error = world.try_plan(&adopting(&["wine-nothing"]).await).await.expect_err("no such");
    assert!(error.to_string().contains("nothing of this workflow has that name"), "{error}");

    let provisioner = adopting(&["wine-dead", "wine-ingest", "wine-lake"]).await;
    let plan = world.apply(&provisioner).await;
    println!("{plan}");
    assert!(plan.to_string().contains("~ adopt    sqs queue"), "{plan}");
    assert_eq!(plan.steps.iter().filter(|step| step.adopts).count(), 3, "{plan}");
    let (again, _) = world.plan(&world.provisioner(WORKFLOW).await).await;
    assert!(again.is_empty(), "ours without being named again: {again}");
    s3.head_object().bucket("wine-lake").key("models/theirs").send().await.expect("kept");
    assert!(entries(&world).await.contains(THEIRS));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_another_workflow_s_is_never_adopted() {
    let world = World::new().await;
    let others = WORKFLOW.replace("workflow = \"wine\"", "workflow = \"beer\"");
    world.apply(&world.provisioner(&others).await).await;
    let names = ["wine-lake".to_owned()];
    let provisioner = world.provisioner(WORKFLOW).await.adopting(&names);
    let error = world.try_plan(&provisioner).await.expect_err("refused").to_string();
    assert!(error.contains("workflow beer's") && error.contains("another name"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_s3_would_refuse_beside_theirs_is_found_by_the_plan() {
    let world = World::new().await;
    make_their_bucket(&world, "s3:ObjectCreated:Put").await;
    let provisioner = world.provisioner(&on_their_bucket()).await;
    let error = world.try_plan(&provisioner).await.expect_err("refused").to_string();
    assert!(error.contains("bucket notification wine-lake"), "{error}");
    assert!(error.contains("`raw/*_SUCCESS` would overlap with nightly-etl, for `*`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_should_exist_and_does_not_is_a_problem() {
    let world = World::new().await;
    let provisioner = world.provisioner(&on_their_bucket()).await;
    let error = world.try_plan(&provisioner).await.expect_err("refused").to_string();
    assert!(error.contains("s3 bucket wine-lake: there is no such bucket"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_check_needs_a_bucket_that_is_there_or_that_a_source_makes() {
    let world = World::new().await;
    let with = |bucket: &str| format!("{WORKFLOW}\n[claim_check]\nbucket = \"{bucket}\"\n");
    let made = world.provisioner(&with("wine-lake")).await;
    world.try_plan(&made).await.expect("a source makes it");
    let theirs = world.provisioner(&with("wine-claims")).await;
    let error = world.try_plan(&theirs).await.expect_err("refused").to_string();
    assert!(error.contains("claim_check: there is no bucket wine-claims"), "{error}");
    let s3 = aws_sdk_s3::Client::new(&world.config);
    s3.create_bucket().bucket("wine-claims").send().await.expect("created");
    world.try_plan(&theirs).await.expect("it is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_standard_state_machine_that_is_there_is_started() {
    let world = World::new().await;
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"states.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
    let iam = aws_sdk_iam::Client::new(&world.config);
    let role = iam.create_role().role_name("etl").assume_role_policy_document(trust);
    role.send().await.expect("created");
    let sfn = aws_sdk_sfn::Client::new(&world.config);
    for (name, kind) in [("etl", StateMachineType::Standard), ("quick", StateMachineType::Express)]
    {
        let definition = r#"{"StartAt":"End","States":{"End":{"Type":"Succeed"}}}"#;
        let made = sfn.create_state_machine().name(name).r#type(kind).definition(definition);
        let made = made.role_arn("arn:aws:iam::000000000000:role/etl");
        made.send().await.expect("created");
    }
    let starting = |region: &str, name: &str| {
        let arn = format!("arn:aws:states:{region}:000000000000:stateMachine:{name}");
        WORKFLOW.replacen("\"task.asl.json\"", &format!("\"{arn}\""), 1)
    };
    let standard = world.provisioner(&starting("us-east-1", "etl")).await;
    world.try_plan(&standard).await.expect("planned");
    for (region, name, cause, remedy) in [
        ("us-east-1", "quick", "is an EXPRESS state machine", "use a STANDARD one"),
        ("us-east-1", "none", "there is no state machine", "create it first"),
        ("eu-west-1", "etl", "is not in us-east-1", "start something of this region"),
    ] {
        let provisioner = world.provisioner(&starting(region, name)).await;
        let error = world.try_plan(&provisioner).await.expect_err("refused");
        let ProvisionError::Problems(problems) = error else { panic!("{error}") };
        let [problem] = &problems.problems[..] else { panic!("{problems}") };
        assert!(problem.place.starts_with("line ") && problem.place.ends_with("\"collect\""));
        assert!(problem.cause.contains(cause), "{problems}");
        assert!(problem.remedy.contains(remedy), "{problems}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_made_by_hand_is_kept_and_one_of_ours_goes_with_its_subscriber() {
    let world = World::new().await;
    let told = format!(
        "{WORKFLOW}\n[[subscriber]]\nname = \"on-call\"\nprotocol = \"sqs\"\nendpoint = \"arn:aws:sqs:us-east-1:000000000000:labels\"\non = [\"training.failed\"]\n"
    );
    let sqs = aws_sdk_sqs::Client::new(&world.config);
    sqs.create_queue().queue_name("labels").send().await.expect("created");
    world.apply(&world.provisioner(&told).await).await;
    let topic = "arn:aws:sns:us-east-1:000000000000:wine";
    let sns = aws_sdk_sns::Client::new(&world.config);
    let theirs = sns.subscribe().topic_arn(topic).protocol("sqs");
    let theirs = theirs.endpoint("arn:aws:sqs:us-east-1:000000000000:etl");
    theirs.send().await.expect("subscribed");

    let provisioner = world.provisioner(WORKFLOW).await;
    let plan = world.apply(&provisioner).await;
    println!("{plan}");
    let gone = step_of(&plan, Kind::Subscription, "wine -> labels");
    assert_eq!(gone, Some(Action::Delete), "{plan}");
    // The handler's zip holds the workflow, and so changes with it.
    assert_eq!(plan.steps.len(), 3, "{plan}");
    assert!(plan.to_string().contains("kept, not ours: 1 entry (sqs arn:aws:sqs"), "{plan}");
    let listed = sns.list_subscriptions_by_topic().topic_arn(topic).send().await.expect("listed");
    assert_eq!(listed.subscriptions().len(), 2);
}
