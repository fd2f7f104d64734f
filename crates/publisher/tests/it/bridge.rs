use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bellwire_publisher::bridge::Round;
use bellwire_publisher::call::Trouble;
use bellwire_publisher::publish::EntryResult;
use bellwire_publisher::receive::{Message, VISIBILITY_S};
use bellwire_schema::completion::CompletionOrigin;
use bellwire_schema::dead_letter::{DeadReason, Hop};
use bellwire_schema::limits::HOP_MAX;
use bellwire_schema::payload::DataArrived;
use bellwire_schema::{EventContext, Stage};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fakes::{
    FakeClaims, FakeObjects, FakeOrigins, FakeTopic, World, call_error, failed, message,
};
use crate::samples::{
    QUEUE_ARN, TRACEPARENT, TRAIN, run_input, s3_body, s3_record, status_event, test_event,
};

fn context() -> EventContext {
    EventContext {
        traceparent: Some(TRACEPARENT.to_owned()),
        tracestate: None,
        correlationid: Some("c-1".to_owned()),
        causationid: Some("e-1".to_owned()),
        hop: 2,
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_message_is_quarantined_while_its_neighbours_go_on() {
    let world = World::default();
    let messages = [
        message(0, &s3_body(&["raw/a.csv"])),
        message(1, "garbage \u{FFFF}"),
        message(2, &s3_body(&["raw/b.csv", "raw/%FF.csv", "raw/c.csv"])),
        message(3, &test_event()),
        message(4, &s3_body(&["raw/folder/", "other/x"])),
    ];
    let round = world.bridge().work(&messages).await;
    assert_eq!(round, Round { deleted: 5, left: 0 });
    assert_eq!(world.deleted(), ["r0", "r1", "r2", "r3", "r4"]);
    let subjects: Vec<_> =
        world.topic.accepted.lock().unwrap().iter().map(|e| e.subject.clone().unwrap()).collect();
    assert_eq!(subjects, ["raw/a.csv", "raw/b.csv", "raw/c.csv"]);
    assert_eq!(*world.topic.calls.lock().unwrap(), [3], "one batch for all messages");
    let letters = world.letters();
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0].reason, DeadReason::Undecodable);
    assert_eq!(letters[0].body().unwrap(), messages[1].body.as_bytes());
    assert_eq!(letters[0].id.as_deref(), Some("m1"));
    assert_eq!(letters[0].source.as_deref(), Some(QUEUE_ARN));
    assert_eq!(letters[0].hop, Hop::Publisher);
    assert_eq!(letters[1].reason, DeadReason::KeyNotUtf8);
    assert!(letters[1].message.starts_with("record 2 of 3: "), "{}", letters[1].message);
    assert_eq!(letters[1].body().unwrap(), messages[2].body.as_bytes());
    assert_eq!(world.counts.to_string(), "published 3, skipped 3, quarantined 2, left 0");
    assert_eq!(world.counts.of("skipped.folder-marker"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_dead_queue_does_not_accept_stays() {
    let world = World::default();
    *world.dead.trouble.lock().unwrap() = Some(Trouble::Unavailable);
    let messages = [message(0, "garbage"), message(1, &s3_body(&["raw/a.csv"]))];
    assert_eq!(world.bridge().work(&messages).await, Round { deleted: 1, left: 1 });
    assert_eq!(world.deleted(), ["r1"]);
}

/// In base64 it would be larger than any message: the queue's own redrive takes it.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_for_a_letter_stays() {
    let world = World::default();
    let large = message(0, &"x".repeat(900_000));
    assert_eq!(world.bridge().work(&[large]).await, Round { deleted: 0, left: 1 });
    assert!(world.letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_stays_until_each_of_its_events_is_accepted() {
    let world = World::with_topic(FakeTopic::acting(|entries| {
        let result = |subject: &str| match subject {
            "raw/throttled.csv" => failed("Throttled", true),
            "raw/denied.csv" => failed("AuthorizationError", true),
            "raw/bad.csv" => failed("InvalidParameter", true),
            _ => EntryResult::Accepted,
        };
        let subject_of = |entry: &&bellwire_publisher::pack::Entry| {
            result(entry.envelope().subject.as_deref().unwrap())
        };
        Ok(entries.iter().map(subject_of).collect())
    }));
    let messages = [
        message(0, &s3_body(&["raw/a.csv"])),
        message(1, &s3_body(&["raw/b.csv", "raw/throttled.csv"])),
        message(2, &s3_body(&["raw/denied.csv"])),
        message(3, &s3_body(&["raw/bad.csv"])),
    ];
    assert_eq!(world.bridge().work(&messages).await, Round { deleted: 2, left: 2 });
    assert_eq!(world.deleted(), ["r0", "r3"]);
    let letters = world.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason, DeadReason::PublishRefused);
    assert_eq!(world.counts.of("left"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_of_hundreds_of_records_is_packed_and_nothing_is_lost() {
    let world = World::default();
    let keys: Vec<String> = (0..333).map(|n| format!("raw/{n}.csv")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    world.bridge().work(&[message(0, &s3_body(&keys))]).await;
    let subjects: Vec<_> =
        world.topic.accepted.lock().unwrap().iter().map(|e| e.subject.clone().unwrap()).collect();
    assert_eq!(subjects.len(), 333);
    assert_eq!(world.topic.calls.lock().unwrap().len(), 34);
    assert_eq!(world.deleted(), ["r0"]);
}

#[tokio::test(start_paused = true)]
async fn an_object_s_context_comes_from_its_metadata() {
    let objects = FakeObjects {
        metadata: BTreeMap::from([("models/m".to_owned(), context().to_object_metadata())]),
        trouble: None,
    };
    let world = World { objects: Arc::new(objects), ..World::default() };
    world.bridge().work(&[message(0, &s3_body(&["models/m", "models/gone", "raw/a.csv"]))]).await;
    let events = world.topic.accepted.lock().unwrap();
    assert_eq!(events[0].context, context());
    for event in &events[1..] {
        let own = EventContext { correlationid: Some(event.id.clone()), ..Default::default() };
        assert_eq!(event.context, own);
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_fails_leaves_its_message_and_no_other() {
    let objects = FakeObjects { trouble: Some(Trouble::Unavailable), ..FakeObjects::default() };
    let origins = FakeOrigins { is_down: true, origin: None };
    let world =
        World { objects: Arc::new(objects), origins: Arc::new(origins), ..World::default() };
    let messages = [
        message(0, &s3_body(&["models/m"])),
        message(1, &status_event("SUCCEEDED", TRAIN, Some(run_input("train")))),
        message(2, &s3_body(&["raw/a.csv"])),
    ];
    assert_eq!(world.bridge().work(&messages).await, Round { deleted: 1, left: 2 });
    assert_eq!(world.deleted(), ["r2"]);
}

#[tokio::test(start_paused = true)]
async fn a_completion_s_origin_is_the_ledger_s_then_the_input_s_then_the_trigger_s() {
    let remembered = CompletionOrigin {
        stage: Stage::Evaluation,
        trigger: Some("from-the-ledger".to_owned()),
        dataset: Some("remembered".to_owned()),
        context: context(),
    };
    for (origin, input, event_type, trigger, dataset, hop) in [
        (
            Some(remembered),
            Some(run_input("train")),
            "ml.evaluation.completed.v1",
            json!("from-the-ledger"),
            Some("remembered"),
            2,
        ),
        (
            None,
            Some(run_input("train")),
            "ml.training.completed.v1",
            json!("train"),
            Some("hinted"),
            3,
        ),
        (None, None, "ml.training.completed.v1", json!(null), None, 0),
    ] {
        let origins = Arc::new(FakeOrigins { origin, is_down: false });
        let world = World { origins, ..World::default() };
        world.bridge().work(&[message(0, &status_event("SUCCEEDED", TRAIN, input))]).await;
        let event = world.topic.accepted.lock().unwrap()[0].clone();
        assert_eq!(event.event_type.as_str(), event_type);
        assert_eq!(
            event.data.as_ref().unwrap()["run"].get("trigger").unwrap_or(&json!(null)),
            &trigger
        );
        assert_eq!(event.dataset.as_deref(), dataset);
        assert_eq!(event.context.hop, hop);
        let correlation = if hop == 0 { event.id.as_str() } else { "c-1" };
        assert_eq!(event.context.correlationid.as_deref(), Some(correlation));
    }
}

#[tokio::test(start_paused = true)]
async fn a_loop_ends_in_the_dead_queue() {
    let context = EventContext { hop: HOP_MAX + 1, ..context() };
    let objects = FakeObjects {
        metadata: BTreeMap::from([("models/m".to_owned(), context.to_object_metadata())]),
        trouble: None,
    };
    let world = World { objects: Arc::new(objects), ..World::default() };
    world.bridge().work(&[message(0, &s3_body(&["models/m"]))]).await;
    let letter = world.letters().remove(0);
    assert_eq!(letter.reason, DeadReason::HopLimit);
    assert_eq!(letter.traceparent.as_deref(), Some(TRACEPARENT));
    assert_eq!(world.deleted(), ["r0"]);
}

/// A message with an event that is too large, and one that is not.
fn large_and_small() -> Message {
    let mut large = s3_record("ObjectCreated:Put", "raw/large.csv");
    large["s3"]["object"]["eTag"] = json!("x".repeat(270_000));
    let body = json!({ "Records": [large, s3_record("ObjectCreated:Put", "raw/a.csv")] });
    message(0, &body.to_string())
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_too_large_travels_without_its_payload() {
    let claims = Arc::new(FakeClaims::default());
    let world = World { claims: Some(claims.clone()), ..World::default() };
    for _ in 0..2 {
        let round = world.bridge().work(&[large_and_small()]).await;
        assert_eq!(round, Round { deleted: 1, left: 0 });
    }
    assert!(world.letters().is_empty());
    let events = world.topic.accepted.lock().unwrap();
    let objects = claims.objects.lock().unwrap();
    assert_eq!((events.len(), objects.len()), (4, 1), "a repetition writes the same object");
    let (key, (bytes, content_type)) = objects.iter().next().unwrap();
    assert_eq!(events[0].dataref.as_deref(), Some(format!("s3://wine-lake/{key}").as_str()));
    assert_eq!((&events[0].data, &events[1].dataref), (&None, &None));
    assert_eq!(content_type, "application/json");
    let payload: DataArrived = serde_json::from_slice(bytes).unwrap();
    assert_eq!(payload.key, "raw/large.csv");
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_cannot_be_put_leaves_its_message_and_no_other() {
    for trouble in [Trouble::Unavailable, Trouble::Denied] {
        let claims = Arc::new(FakeClaims { trouble: Some(trouble), ..FakeClaims::default() });
        let world = World { claims: Some(claims), ..World::default() };
        let messages = [large_and_small(), message(1, &s3_body(&["raw/b.csv"]))];
        assert_eq!(world.bridge().work(&messages).await, Round { deleted: 1, left: 1 });
        assert_eq!(world.deleted(), ["r1"]);
        assert!(world.letters().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_claim_check_an_event_that_is_too_large_is_quarantined_alone() {
    let world = World::default();
    world.bridge().work(&[large_and_small()]).await;
    assert_eq!(world.letters()[0].reason, DeadReason::TooLarge);
    assert_eq!(world.topic.accepted_ids().len(), 1);
    assert_eq!(world.deleted(), ["r0"]);
}

/// Gives the topic a gate: a call waits there until it is opened.
fn gated() -> (World, Arc<tokio::sync::Semaphore>) {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let world =
        World { topic: Arc::new(FakeTopic::default().gated(gate.clone())), ..World::default() };
    let batch = vec![message(0, &s3_body(&["raw/a.csv"]))];
    world.queue.to_receive.lock().unwrap().push_back(Ok(batch));
    (world, gate)
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_was_received() {
    let (world, gate) = gated();
    let shutdown = CancellationToken::new();
    let bridge = Arc::new(world.bridge());
    let running = tokio::spawn(bridge.run(2, shutdown.clone(), Duration::from_secs(20)));
    world.topic.entered.notified().await;
    shutdown.cancel();
    gate.add_permits(1);
    assert_eq!(running.await.unwrap().unwrap(), 0);
    assert_eq!(world.deleted(), ["r0"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_says_what_it_left_when_its_time_is_up() {
    let (world, _gate) = gated();
    let shutdown = CancellationToken::new();
    let bridge = Arc::new(world.bridge());
    let running = tokio::spawn(bridge.run(2, shutdown.clone(), Duration::from_secs(20)));
    world.topic.entered.notified().await;
    shutdown.cancel();
    assert_eq!(running.await.unwrap().unwrap(), 1);
    assert!(world.deleted().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_fails_is_asked_again_later() {
    let world = World::default();
    {
        let mut queue = world.queue.to_receive.lock().unwrap();
        queue.push_back(Err(call_error(Trouble::Unavailable)));
        queue.push_back(Err(call_error(Trouble::Denied)));
        queue.push_back(Ok(vec![]));
        queue.push_back(Ok(vec![message(0, &s3_body(&["raw/a.csv"]))]));
    }
    let shutdown = CancellationToken::new();
    let bridge = Arc::new(world.bridge());
    let running = tokio::spawn(bridge.run(1, shutdown.clone(), Duration::from_secs(20)));
    world.topic.entered.notified().await;
    shutdown.cancel();
    assert_eq!(running.await.unwrap().unwrap(), 0);
    assert_eq!(world.deleted(), ["r0"]);
}

/// While the topic is down, receiving only brings messages nearer to the dead
/// queue: what was received is held, and hidden from others; nothing more comes.
#[tokio::test(start_paused = true)]
async fn an_outage_of_hours_costs_no_message_a_second_receive() {
    let up_at = Instant::now() + Duration::from_secs(6 * 3_600);
    let topic = FakeTopic::acting(move |entries| match Instant::now() < up_at {
        true => Err(call_error(Trouble::Denied)),
        false => Ok(vec![EntryResult::Accepted; entries.len()]),
    });
    let world = World::with_topic(topic);
    for number in 0..40 {
        let batch = vec![message(number, &s3_body(&["raw/a.csv"]))];
        world.queue.to_receive.lock().unwrap().push_back(Ok(batch));
    }
    let shutdown = CancellationToken::new();
    let bridge = Arc::new(world.bridge());
    let running = tokio::spawn(bridge.run(3, shutdown.clone(), Duration::from_secs(20)));
    tokio::time::sleep_until(up_at - Duration::from_secs(1)).await;
    assert_eq!(world.queue.to_receive.lock().unwrap().len(), 37, "a batch for each pipeline");
    assert!(world.deleted().is_empty());
    let hidden = world.hidden();
    let times = hidden.iter().filter(|(receipt, _)| receipt == "r0").count();
    assert_eq!(times, 6 * 3_600 / 20 - 1, "hidden anew every 20 s");
    assert!(hidden.iter().all(|(_, seconds)| *seconds == VISIBILITY_S));
    tokio::time::sleep_until(up_at + Duration::from_secs(120)).await;
    assert_eq!(world.deleted().len(), 40);
    shutdown.cancel();
    assert_eq!(running.await.unwrap().unwrap(), 0);
    assert_eq!(world.counts.of("left"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_an_outage_gives_its_messages_back_at_once() {
    let world = World::with_topic(FakeTopic::acting(|_| Err(call_error(Trouble::Unavailable))));
    let batch = vec![message(0, &s3_body(&["raw/a.csv"]))];
    world.queue.to_receive.lock().unwrap().push_back(Ok(batch));
    let shutdown = CancellationToken::new();
    let bridge = Arc::new(world.bridge());
    let running = tokio::spawn(bridge.run(2, shutdown.clone(), Duration::from_secs(20)));
    world.topic.entered.notified().await;
    let begin = Instant::now();
    shutdown.cancel();
    assert_eq!(running.await.unwrap().unwrap(), 0, "nothing is left in work");
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert_eq!(world.hidden().last(), Some(&("r0".to_owned(), 0)));
    assert_eq!(world.counts.of("left"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_comes_back_later_each_time() {
    let objects = FakeObjects { trouble: Some(Trouble::Unavailable), ..FakeObjects::default() };
    let world = World { objects: Arc::new(objects), ..World::default() };
    let again = Message { receives: 4, ..message(1, &s3_body(&["models/m"])) };
    world.bridge().work(&[message(0, &s3_body(&["models/m"])), again]).await;
    assert_eq!(world.hidden(), [("r0".to_owned(), 2), ("r1".to_owned(), 16)]);
}
