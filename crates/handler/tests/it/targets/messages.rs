//! Messages to other teams' topics and queues.

use aws_sdk_sqs::types::{Message, QueueAttributeName};
use bellwire_ledger::State;
use bellwire_schema::Envelope;
use bellwire_schema::dead_letter::DeadReason;
use serde_json::{Value, json};

use super::{at, wanted, world};
use crate::world::World;

async fn create_queue(world: &World, name: &str) -> String {
    let mut create = world.clients.sqs.create_queue().queue_name(name);
    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "Service": "sns.amazonaws.com" },
        "Action": "sqs:SendMessage", "Resource": "*",
    }] });
    create = create.attributes(QueueAttributeName::Policy, policy.to_string());
    if name.ends_with(".fifo") {
        create = create.attributes(QueueAttributeName::FifoQueue, "true");
    }
    create.send().await.unwrap().queue_url.unwrap()
}

/// What is in a queue, with attributes of both kinds.
async fn received(world: &World, url: &str) -> Vec<Message> {
    let receive = world.clients.sqs.receive_message().queue_url(url).max_number_of_messages(10);
    let receive =
        receive.message_attribute_names("All").message_system_attribute_names("All".into());
    receive.send().await.unwrap().messages.unwrap_or_default()
}

fn attribute(message: &Message, name: &str) -> Option<String> {
    message.message_attributes.as_ref()?.get(name)?.string_value.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_gets_the_input_alone_with_what_tells_of_its_start_in_attributes() {
    let (world, _stub) = world().await;
    let url = create_queue(&world, "other").await;
    let event = wanted("queue", "e-1");
    for _ in 0..3 {
        assert!(world.queued(&event, at(0)).await);
    }
    let messages = received(&world, &url).await;
    let [message] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(message.body.as_deref(), Some(r#"{"key":"raw/a.csv"}"#));
    let row = world.only_row().await;
    let of = |name: &str| attribute(message, name);
    assert_eq!(of("startkey").as_deref(), Some(row.start.start_key.as_str()));
    assert_eq!(of("type").as_deref(), Some("ml.queue.wanted.v1"));
    assert_eq!(of("source").as_deref(), Some("/app"));
    assert_eq!(of("dataset").as_deref(), Some("wine"));
    assert_eq!(of("trigger").as_deref(), Some("queue"));
    assert_eq!(of("traceparent"), row.start.context.traceparent);
    assert_eq!(row.state, State::Accepted);
    let run = format!("{}/message/{}", row.start.target, message.message_id.as_ref().unwrap());
    assert_eq!(row.start.run_arn, Some(run));
    world.sweep_at(100_000).await;
    assert_eq!(received(&world, &url).await.len(), 0, "nothing of it is due");
}

/// A standard queue has no deduplication: the window of a crash shows, and the start
/// key tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_not_recorded_is_sent_again_under_the_same_start_key() {
    let (world, _stub) = world().await;
    let url = create_queue(&world, "other").await;
    let event = wanted("queue", "e-1");
    assert!(world.queued(&event, at(0)).await);
    world.forget_record("e-1").await;
    assert!(world.queued(&event, at(0)).await, "nobody waits");
    let messages = received(&world, &url).await;
    let keys: Vec<_> = messages.iter().map(|message| attribute(message, "startkey")).collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifo_queue_drops_the_repetition_and_groups_by_dataset() {
    let (world, _stub) = world().await;
    let url = create_queue(&world, "ordered.fifo").await;
    let event = wanted("ordered", "e-1");
    assert!(world.queued(&event, at(0)).await);
    world.forget_record("e-1").await;
    assert!(world.queued(&event, at(0)).await);
    let messages = received(&world, &url).await;
    let [message] = &messages[..] else { panic!("{messages:?}") };
    let attributes = message.attributes.as_ref().unwrap();
    assert_eq!(attributes[&"MessageGroupId".into()], "wine");
    // Without an `input` it is the event, which any CloudEvents SDK reads.
    let sent = Envelope::from_json(message.body.as_ref().unwrap().as_bytes()).unwrap();
    assert_eq!((sent.id, sent.extensions.get("bellwire")), ("e-1".to_owned(), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifo_topic_gets_one_message_whatever_crashes() {
    let (world, _stub) = world().await;
    let url = create_queue(&world, "heard.fifo").await;
    let topic = world.clients.sns.create_topic().name("other.fifo");
    let topic = topic.attributes("FifoTopic", "true").send().await.unwrap().topic_arn.unwrap();
    let subscribe = world.clients.sns.subscribe().topic_arn(topic).protocol("sqs");
    let subscribe = subscribe.endpoint("arn:aws:sqs:us-east-1:000000000000:heard.fifo");
    subscribe.attributes("RawMessageDelivery", "true").send().await.unwrap();
    let event = wanted("tell", "e-1");
    world.claimed(&event).await;
    assert!(world.queued(&event, at(0)).await, "nobody waits");
    world.forget_record("e-1").await;
    world.sweep_at(300).await;
    let messages = received(&world, &url).await;
    let [message] = &messages[..] else { panic!("{messages:?}") };
    let body: Value = serde_json::from_str(message.body.as_ref().unwrap()).unwrap();
    assert_eq!(body["id"], "e-1");
    let row = world.only_row().await;
    assert_eq!(attribute(message, "startkey").as_deref(), Some(row.start.start_key.as_str()));
    assert_eq!(row.state, State::Accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_or_topic_that_is_not_there_puts_the_event_aside() {
    let (world, _stub) = world().await;
    for (what, id) in [("queue", "e-1"), ("tell", "e-2")] {
        assert!(world.queued(&wanted(what, id), at(0)).await);
        let letter = world.dead_letter().await;
        assert_eq!(
            (letter.reason, letter.trigger.as_deref()),
            (DeadReason::StartRefused, Some(what))
        );
        assert_eq!(world.row_of(id).await.state, State::Refused);
    }
}
