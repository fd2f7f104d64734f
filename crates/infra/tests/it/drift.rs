//! What somebody changed by hand shows in the next plan, and is set right.

use aws_sdk_sqs::types::QueueAttributeName;
use bellwire_infra::inputs::Code;
use bellwire_infra::plan::Action;
use bellwire_infra::resource::Kind;
use bellwire_infra::{DriftError, Provisioner};

use crate::deploy::step_of;
use crate::world::{WORKFLOW, World, execute};

#[tokio::test(flavor = "multi_thread")]
async fn drift_shows_and_is_set_right() {
    let world = World::new().await;
    let provisioner = world.provisioner(WORKFLOW).await;
    world.apply(&provisioner).await;
    let drift = provisioner.drift().await.expect("recorded");
    assert!(drift.is_empty(), "{drift}");
    change_by_hand(&world).await;
    tells_what_was_changed(&provisioner).await;

    let plan = world.apply(&provisioner).await;
    println!("{plan}");
    let updated = [
        (Kind::Topic, "wine"),
        (Kind::Queue, "wine-ingest"),
        (Kind::Bucket, "wine-lake"),
        (Kind::Table, "wine-ledger"),
        (Kind::LogGroup, "/aws/lambda/wine-worker"),
        (Kind::Role, "wine-handler"),
        (Kind::InvokeConfig, "wine-handler:live"),
        (Kind::Rule, "wine-sweep"),
        (Kind::Subscription, "wine -> wine-handler:live"),
    ];
    for (kind, name) in updated {
        assert_eq!(step_of(&plan, kind, name), Some(Action::Update), "{kind} {name}\n{plan}");
    }
    let removed = step_of(&plan, Kind::Permission, "wine-handler:live/bellwire-sns");
    assert_eq!(removed, Some(Action::Create), "{plan}");
    assert_eq!(plan.steps.len(), updated.len() + 1, "{plan}");
    let (again, _) = world.plan(&provisioner).await;
    assert!(again.is_empty(), "{again}");
}

/// Against the record alone: neither the workflow file's changes nor artifacts matter.
async fn tells_what_was_changed(provisioner: &Provisioner) {
    let drift = provisioner.drift().await.expect("recorded");
    let text = drift.to_string();
    println!("{text}");
    assert_eq!(drift.found.len(), 10, "{text}");
    for line in [
        "other_policies: [] -> [\"by-hand\"]",
        "retention_days: 30 -> 1",
        "visibility_timeout_s: ",
        "- gone     lambda permission  wine-handler:live/bellwire-sns",
        "filter type: + \"x\"",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(text.ends_with("9 changed, 1 gone since the last apply. bellwire plan shows what an apply does about it."), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_changed_by_hand_is_drift() {
    let world = World::new().await;
    let secret = |value: &str| format!("{WORKFLOW}environment = {{ TOKEN = \"{value}\" }}\n");
    let provisioner = world.provisioner(&secret("hush")).await;
    let nothing = provisioner.drift().await.expect_err("nothing is recorded");
    assert!(matches!(nothing, DriftError::NothingApplied), "{nothing}");
    world.apply(&provisioner).await;

    // The file has changed, and was not applied yet.
    let ahead = world.provisioner(&secret("other")).await;
    assert!(!world.plan(&ahead).await.0.is_empty());
    let drift = ahead.drift().await.expect("recorded");
    assert!(drift.is_empty(), "{drift}");

    // Somebody changes a secret, and adds an entry that leads to our queue.
    let lambda = aws_sdk_lambda::Client::new(&world.config);
    let found = lambda.get_function_configuration().function_name("wine-handler").send().await;
    let mut variables =
        found.unwrap().environment.and_then(|found| found.variables).unwrap_or_default();
    variables.insert("TOKEN".to_owned(), "by-hand".to_owned());
    let environment = aws_sdk_lambda::types::Environment::builder();
    let changed = lambda.update_function_configuration().function_name("wine-handler");
    let changed = changed.environment(environment.set_variables(Some(variables)).build());
    changed.send().await.expect("changed");
    let drift = ahead.drift().await.expect("recorded");
    let (text, json) = (drift.to_string(), drift.to_json().to_string());
    assert!(text.contains("environment.TOKEN: (set) -> (set otherwise)"), "{text}");
    assert_eq!(drift.found.len(), 1, "{text}");
    for secret in ["hush", "by-hand", "other"] {
        assert!(!json.contains(&format!("\"{secret}\"")), "{json}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_apply_that_was_not_finished_nobody_knows_what_is_drift() {
    let world = World::new().await;
    let provisioner = world.provisioner(WORKFLOW).await;
    let (plan, _) = world.plan(&provisioner).await;
    let failed = execute(&provisioner, &plan, &Code::default()).await;
    failed.expect_err("there is no code");
    let unfinished = provisioner.drift().await.expect_err("it is not whole");
    assert!(matches!(unfinished, DriftError::Unfinished { .. }), "{unfinished}");
    world.apply(&provisioner).await;
    assert!(provisioner.drift().await.expect("recorded").is_empty());
}

async fn change_by_hand(world: &World) {
    let config = &world.config;
    let topic = "arn:aws:sns:us-east-1:000000000000:wine";
    let sns = aws_sdk_sns::Client::new(config);
    let renamed = sns.set_topic_attributes().topic_arn(topic).attribute_name("DisplayName");
    renamed.attribute_value("by hand").send().await.expect("set");
    let listed = sns.list_subscriptions_by_topic().topic_arn(topic).send().await.expect("listed");
    let subscription = listed.subscriptions()[0].subscription_arn().expect("an ARN");
    let opened = sns.set_subscription_attributes().subscription_arn(subscription);
    let opened = opened.attribute_name("FilterPolicy").attribute_value(r#"{"type":["x"]}"#);
    opened.send().await.expect("set");

    let sqs = aws_sdk_sqs::Client::new(config);
    let url = sqs.get_queue_url().queue_name("wine-ingest").send().await.expect("there");
    let hidden = sqs.set_queue_attributes().queue_url(url.queue_url().expect("a URL"));
    let hidden = hidden.attributes(QueueAttributeName::VisibilityTimeout, "7");
    hidden.send().await.expect("set");

    let s3 = aws_sdk_s3::Client::new(config);
    s3.delete_public_access_block().bucket("wine-lake").send().await.expect("deleted");
    let dynamodb = aws_sdk_dynamodb::Client::new(config);
    let open = dynamodb.update_table().table_name("wine-ledger").deletion_protection_enabled(false);
    open.send().await.expect("updated");
    let logs = aws_sdk_cloudwatchlogs::Client::new(config);
    let kept = logs.put_retention_policy().log_group_name("/aws/lambda/wine-worker");
    kept.retention_in_days(1).send().await.expect("put");
    let iam = aws_sdk_iam::Client::new(config);
    let more = iam.put_role_policy().role_name("wine-handler").policy_name("by-hand");
    let more = more.policy_document(
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#,
    );
    more.send().await.expect("put");
    let lambda = aws_sdk_lambda::Client::new(config);
    let none = lambda.put_function_event_invoke_config().function_name("wine-handler");
    none.qualifier("live").maximum_retry_attempts(0).send().await.expect("put");
    let closed = lambda.remove_permission().function_name("wine-handler").qualifier("live");
    closed.statement_id("bellwire-sns").send().await.expect("removed");
    aws_sdk_eventbridge::Client::new(config)
        .disable_rule()
        .name("wine-sweep")
        .send()
        .await
        .expect("disabled");
}
