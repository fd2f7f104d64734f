//! S3 tells the topic itself.

use std::time::{Duration, Instant};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Event, NotificationConfiguration, TopicConfiguration};
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::Value;

use crate::world::{WORKFLOW, World};

const DEADLINE: Duration = Duration::from_secs(20);

const TOPIC: &str = "arn:aws:sns:us-east-1:000000000000:wine";

/// The workflow whose source takes this way.
fn by(via: &str) -> String {
    let source = "suffix = \"_SUCCESS\"\n";
    let text = WORKFLOW
        .replace("context = \"metadata\"\n", "")
        .replace("[handler]\n", "[topic]\nkms_key = \"create\"\n[handler]\n");
    text.replacen(source, &format!("{source}via = \"{via}\"\n"), 1)
}

/// A queue that hears what the handler hears: by the filter of its subscription.
async fn listener(world: &World) -> String {
    let (sns, sqs) =
        (aws_sdk_sns::Client::new(&world.config), aws_sdk_sqs::Client::new(&world.config));
    let queue_arn = "arn:aws:sqs:us-east-1:000000000000:listener";
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Service":"sns.amazonaws.com"}},"Action":"sqs:SendMessage","Resource":"{queue_arn}"}}]}}"#
    );
    let queue = sqs.create_queue().queue_name("listener");
    let queue = queue.attributes(QueueAttributeName::Policy, policy).send().await.expect("created");
    let found = sns.list_subscriptions_by_topic().topic_arn(TOPIC).send().await.expect("listed");
    let handlers = found.subscriptions.unwrap_or_default().into_iter().find(|subscription| {
        subscription.endpoint.as_deref().is_some_and(|endpoint| endpoint.contains("wine-handler"))
    });
    let arn = handlers.and_then(|one| one.subscription_arn).expect("the handler's subscription");
    let found = sns.get_subscription_attributes().subscription_arn(arn).send().await;
    let attributes = found.expect("read").attributes.expect("attributes");
    let subscribe = sns.subscribe().topic_arn(TOPIC).protocol("sqs").endpoint(queue_arn);
    let subscribe = subscribe.attributes("RawMessageDelivery", "true");
    ["FilterPolicy", "FilterPolicyScope"]
        .into_iter()
        .fold(subscribe, |subscribe, name| subscribe.attributes(name, &attributes[name]))
        .send()
        .await
        .expect("subscribed");
    queue.queue_url.expect("a URL")
}

async fn heard(world: &World, url: &str) -> Vec<String> {
    let sqs = aws_sdk_sqs::Client::new(&world.config);
    let received = sqs.receive_message().queue_url(url).max_number_of_messages(10).send().await;
    let mut bodies = Vec::new();
    for message in received.expect("received").messages.unwrap_or_default() {
        let delete = sqs.delete_message().queue_url(url);
        let receipt = message.receipt_handle.expect("a receipt");
        delete.receipt_handle(receipt).send().await.expect("deleted");
        bodies.push(message.body.expect("a body"));
    }
    bodies
}

async fn topics_told(world: &World) -> Vec<(String, String)> {
    let s3 = aws_sdk_s3::Client::new(&world.config);
    let found = s3.get_bucket_notification_configuration().bucket("wine-lake").send().await;
    let topics = found.expect("read").topic_configurations.unwrap_or_default();
    topics.into_iter().map(|topic| (topic.id.unwrap_or_default(), topic.topic_arn)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_s3_tells_the_topic_itself_comes_through_the_filter() {
    let world = World::new().await;
    let provisioner = world.provisioner(&by("topic")).await;
    world.apply(&provisioner).await;
    assert!(world.plan(&provisioner).await.0.steps.is_empty(), "nothing is left to do");
    let listener = listener(&world).await;
    let s3 = aws_sdk_s3::Client::new(&world.config);
    for key in ["raw/1/data.csv", "raw/1/_SUCCESS", "other/_SUCCESS"] {
        let put = s3.put_object().bucket("wine-lake").key(key).body(ByteStream::from_static(b"x"));
        put.send().await.expect("put");
    }
    let sns = aws_sdk_sns::Client::new(&world.config);
    for event_type in ["ml.training.started.v1", "ml.training.completed.v1"] {
        let body = format!(r#"{{"specversion":"1.0","type":"{event_type}"}}"#);
        sns.publish().topic_arn(TOPIC).message(body).send().await.expect("published");
    }
    let begin = Instant::now();
    let mut bodies = Vec::new();
    while bodies.len() < 2 {
        assert!(begin.elapsed() < DEADLINE, "{bodies:?}");
        bodies.extend(heard(&world, &listener).await);
    }
    bodies.extend(heard(&world, &listener).await);
    let bodies: Vec<Value> =
        bodies.iter().map(|body| serde_json::from_str(body).expect("JSON")).collect();
    let keys: Vec<&Value> = bodies
        .iter()
        .map(|body| &body["Records"][0]["s3"]["object"]["key"])
        .filter(|key| key.is_string())
        .collect();
    assert_eq!((bodies.len(), keys), (2, vec![&Value::from("raw/1/_SUCCESS")]), "{bodies:?}");
    assert!(bodies.iter().any(|body| body["type"] == "ml.training.completed.v1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_topic_stays_when_a_source_changes_its_way() {
    let world = World::new().await;
    let provisioner = world.provisioner(&by("topic")).await;
    world.apply(&provisioner).await;
    let s3 = aws_sdk_s3::Client::new(&world.config);
    let theirs = "arn:aws:sns:us-east-1:000000000000:etl";
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Service":"s3.amazonaws.com"}},"Action":"sns:Publish","Resource":"{theirs}"}}]}}"#
    );
    let sns = aws_sdk_sns::Client::new(&world.config);
    sns.create_topic().name("etl").attributes("Policy", policy).send().await.expect("created");
    let ours = s3.get_bucket_notification_configuration().bucket("wine-lake").send().await;
    let mut topics = ours.expect("read").topic_configurations.unwrap_or_default();
    let entry = TopicConfiguration::builder().id("nightly-etl").topic_arn(theirs);
    let entry = entry.events(Event::from("s3:ObjectRemoved:*")).build();
    topics.push(entry.expect("topic and events are set"));
    let put = s3.put_bucket_notification_configuration().bucket("wine-lake");
    let both = NotificationConfiguration::builder().set_topic_configurations(Some(topics)).build();
    put.notification_configuration(both).send().await.expect("put");
    assert_eq!(topics_told(&world).await.len(), 2);

    let plan = world.apply(&world.provisioner(&by("publisher")).await).await.to_string();
    assert!(plan.contains("kept, not ours: 1 entry (nightly-etl)"), "{plan}");
    let kept = [("nightly-etl".to_owned(), theirs.to_owned())];
    assert_eq!(topics_told(&world).await, kept);
    let policy = sns.get_topic_attributes().topic_arn(TOPIC);
    let attributes = policy.send().await.expect("read").attributes.expect("attributes");
    assert!(!attributes["Policy"].contains("s3.amazonaws.com"), "S3 may not publish any more");
}
