//! What somebody changed by hand shows in the next plan, and is set right.

use aws_sdk_sqs::types::QueueAttributeName;
use bellwire_infra::plan::Action;
use bellwire_infra::resource::Kind;

use crate::deploy::step_of;
use crate::world::{WORKFLOW, World};

#[tokio::test(flavor = "multi_thread")]
async fn drift_shows_and_is_set_right() {
    let world = World::new().await;
    let provisioner = world.provisioner(WORKFLOW).await;
    world.apply(&provisioner).await;
    change_by_hand(&world).await;

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
