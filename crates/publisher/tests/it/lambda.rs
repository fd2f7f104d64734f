//! Rounds whose messages Lambda deletes: what is answered to it, and when.

use std::sync::Arc;
use std::time::Duration;

use bellwire_publisher::call::Trouble;
use bellwire_publisher::publish::EntryResult;
use bellwire_publisher::receive::Message;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::fakes::{FakeTopic, World, call_error, failed, message};
use crate::samples::{s3_body, test_event};

/// A function's timeout.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The ids of what is left of messages that a bridge works as a function does.
async fn left_of(world: &World, messages: &[Message]) -> Vec<String> {
    let bridge = world.bridge();
    let left = bridge.work_until(messages, Instant::now() + TIMEOUT).await;
    left.into_iter().map(|message| message.id.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_published_skipped_or_quarantined_is_not_left_and_nobody_deletes_it() {
    let world = World::default();
    let messages = [
        message(0, &s3_body(&["raw/a.csv"])),
        message(1, "garbage"),
        message(2, &test_event()),
        message(3, &s3_body(&["raw/b.csv", "raw/%FF.csv"])),
    ];
    assert_eq!(left_of(&world, &messages).await, [""; 0]);
    assert_eq!(world.counts.to_string(), "published 2, skipped 1, quarantined 2, left 0");
    assert_eq!(*world.queue.delete_calls.lock().unwrap(), 0, "Lambda deletes");
    assert!(world.hidden().is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_what_failed_comes_back_and_later_each_time() {
    let world = World::with_topic(FakeTopic::acting(|entries| {
        let result = |subject: Option<&str>| match subject {
            Some("raw/denied.csv") => failed("AuthorizationError", true),
            _ => EntryResult::Accepted,
        };
        Ok(entries.iter().map(|entry| result(entry.envelope().subject.as_deref())).collect())
    }));
    let messages = [
        message(0, &s3_body(&["raw/a.csv"])),
        Message { receives: 4, ..message(1, &s3_body(&["raw/b.csv", "raw/denied.csv"])) },
        message(2, &s3_body(&["raw/c.csv"])),
    ];
    assert_eq!(left_of(&world, &messages).await, ["m1"]);
    assert_eq!(world.hidden(), [("r1".to_owned(), 16)]);
}

#[tokio::test(start_paused = true)]
async fn what_the_dead_queue_does_not_accept_comes_back() {
    let world = World::default();
    *world.dead.trouble.lock().unwrap() = Some(Trouble::Unavailable);
    let messages = [message(0, "garbage"), message(1, &s3_body(&["raw/a.csv"]))];
    assert_eq!(left_of(&world, &messages).await, ["m0"]);
}

/// A sidecar would hold them for hours; a function has to answer.
#[tokio::test(start_paused = true)]
async fn while_the_topic_is_down_all_come_back_before_the_function_is_ended() {
    let world = World::with_topic(FakeTopic::acting(|_| Err(call_error(Trouble::Unavailable))));
    let messages: Vec<Message> =
        (0..10).map(|n| message(n, &s3_body(&[&format!("raw/{n}.csv")]))).collect();
    let begin = Instant::now();
    assert_eq!(left_of(&world, &messages).await.len(), 10);
    assert!(begin.elapsed() <= TIMEOUT / 2, "{:?}", begin.elapsed());
    assert_eq!(world.hidden().len(), 10);
}

/// The answer was lost: what SNS accepted comes again, under the same id.
#[tokio::test(start_paused = true)]
async fn an_event_whose_answer_was_lost_comes_again_with_its_id() {
    let mut calls = 0;
    let world = World::with_topic(FakeTopic::acting(move |entries| {
        calls += 1;
        match calls {
            1 => Err(call_error(Trouble::Unavailable)),
            _ => Ok(vec![EntryResult::Accepted; entries.len()]),
        }
    }));
    let messages = [message(0, &s3_body(&["raw/a.csv"]))];
    assert_eq!(left_of(&world, &messages).await, [""; 0]);
    // Lambda did not hear of it either, and invokes with the same message.
    assert_eq!(left_of(&world, &messages).await, [""; 0]);
    let ids = world.topic.accepted_ids();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
}

/// Not even a call that never ends keeps a function from its answer.
#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_leaves_everything_at_the_deadline() {
    let topic = FakeTopic::default().gated(Arc::new(Semaphore::new(0)));
    let world = World::with_topic(topic);
    let messages = [message(0, &s3_body(&["raw/a.csv"])), message(1, "garbage")];
    let begin = Instant::now();
    assert_eq!(left_of(&world, &messages).await, ["m0", "m1"]);
    assert_eq!(begin.elapsed(), TIMEOUT);
}
