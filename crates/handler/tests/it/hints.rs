//! What is due within a minute: a hint has it looked at when it is, and where the hint is
//! lost the sweep does.

use aws_sdk_sqs::types::QueueAttributeName;
use bellwire_handler::Moment;
use bellwire_ledger::{GuardName, State};
use bellwire_schema::Envelope;
use bellwire_schema::dead_letter::DeadReason;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::gather::{ids, label};
use crate::world::{World, delivery};

const WORKFLOW: &str = r#"
workflow = "wine"
[claim_check]
bucket = "wine-lake"
[[event]]
type = "label.heard"
[[event]]
type = "label.approved"
[[trigger]]
name = "heard"
stage = "collection"
on = "label.heard"
gather = { quiet = "QUIET", by = "$.data.batch" }
start = { step-functions = "heard.asl.json" }
[[trigger]]
name = "label"
stage = "training"
on = "label.approved"
start = { step-functions = "label.asl.json" }
guards = { cooldown = "10s" }
"#;

/// A world in which `heard` waits for so much quiet.
async fn world(quiet: &str) -> World {
    World::of(&WORKFLOW.replace("QUIET", quiet), &["heard", "label"], |_| {}).await
}

fn at(begin: Timestamp, seconds: i64) -> Moment {
    let now = begin + SignedDuration::from_secs(seconds);
    Moment { now, deadline: now + SignedDuration::from_mins(1) }
}

/// What Lambda invokes the function with for a message of the queue of hints.
fn hinted(body: &str) -> Value {
    json!({ "Records": [{
        "messageId": "h-1", "receiptHandle": "r", "body": body, "messageAttributes": {},
        "attributes": { "ApproximateReceiveCount": "1" },
        "eventSource": "aws:sqs", "awsRegion": bellwire_local::REGION,
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:wine-hints",
    }] })
}

fn of_window(key: &str) -> Value {
    hinted(&json!({ "trigger": "heard", "window": key }).to_string())
}

fn approved(id: &str) -> Envelope {
    let event = Envelope::new(id, "/app", "label.approved".parse().unwrap());
    event.with_payload(&json!({ "batch": 7 }))
}

impl World {
    async fn hint_queue_url(&self) -> String {
        let url = self.clients.sqs.get_queue_url().queue_name("wine-hints").send().await;
        url.unwrap().queue_url.unwrap()
    }

    /// Hints that wait to be delivered, and those that may be by now.
    async fn hints_sent(&self) -> u32 {
        let counts = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let ask = self.clients.sqs.get_queue_attributes().queue_url(self.hint_queue_url().await);
        let ask = ask.set_attribute_names(Some(counts.to_vec())).send().await.unwrap();
        ask.attributes.unwrap().values().map(|count| count.parse::<u32>().unwrap()).sum()
    }

    /// Waits for a hint, as Lambda does.
    async fn next_hint(&self) -> String {
        let receive = self.clients.sqs.receive_message().queue_url(self.hint_queue_url().await);
        let messages = receive.wait_time_seconds(20).send().await.unwrap().messages;
        messages.unwrap_or_default().remove(0).body.unwrap()
    }

    /// Invokes the function with a hint: nothing of it ever comes back.
    async fn is_told(&self, hint: &Value, moment: Moment) {
        let answer = self.handler.handle(hint, moment).await.unwrap();
        assert_eq!(json!(answer), json!({ "batchItemFailures": [] }));
    }

    async fn states_of(&self, ids: [&str; 3]) -> [State; 3] {
        let rows = self.rows().await;
        ids.map(|id| rows.iter().find(|row| row.start.cause.id == id).unwrap().state)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_comes_when_a_window_is_quiet_and_starts_it_without_a_sweep() {
    let world = world("1s").await;
    let begin = Timestamp::now();
    for number in 1..=3 {
        world.calls.take();
        world.arrives(&label("heard", "a", number), at(begin, 0)).await;
        assert_eq!(world.calls.take(), ["TransactWriteItems"], "a hint asks the ledger nothing");
    }
    let hint = world.next_hint().await;
    assert!(Timestamp::now() >= begin + SignedDuration::from_secs(1), "not before it is due");
    assert_eq!(world.hints_sent().await, 0, "one hint for all three");
    world.calls.take();
    world.is_told(&hinted(&hint), at(begin, 1)).await;
    let input = world.only_input("heard").await;
    assert_eq!(ids(&input), ["heard-a-1", "heard-a-2", "heard-a-3"]);
    assert_eq!(world.calls.take()[0], "BatchGetItem", "it looks at that window alone");

    // It comes twice, and is about a window that nothing is due of.
    world.is_told(&hinted(&hint), at(begin, 1)).await;
    world.is_told(&of_window("b"), at(begin, 1)).await;
    assert_eq!(world.inputs("heard").await.len(), 1);
    assert_eq!(world.hints_sent().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_not_quiet_yet_has_one_hint_more_whoever_comes() {
    let world = world("30s").await;
    let begin = Timestamp::now();
    world.arrives(&label("heard", "a", 1), at(begin, 0)).await;
    world.arrives(&label("heard", "a", 2), at(begin, 20)).await;
    assert_eq!(world.hints_sent().await, 1);
    world.is_told(&of_window("a"), at(begin, 29)).await;
    assert_eq!(world.hints_sent().await, 1, "it came too early: nothing is due");
    for _ in 0..3 {
        world.is_told(&of_window("a"), at(begin, 30)).await;
    }
    assert_eq!(world.hints_sent().await, 2, "of three at once, the first tells of it anew");
    world.arrives(&label("heard", "a", 3), at(begin, 40)).await;
    world.is_told(&of_window("a"), at(begin, 41)).await;
    assert_eq!(world.hints_sent().await, 2, "the one for its due time is on its way");
    world.is_told(&of_window("a"), at(begin, 50)).await;
    assert_eq!(world.hints_sent().await, 3);
    assert_eq!(world.inputs("heard").await.len(), 0);
    world.is_told(&of_window("a"), at(begin, 70)).await;
    assert_eq!(ids(&world.only_input("heard").await).len(), 3);
    // What comes then is another window, with a hint of its own.
    world.arrives(&label("heard", "a", 4), at(begin, 71)).await;
    assert_eq!(world.hints_sent().await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_that_is_lost_costs_time_and_nothing_else() {
    let world = world("30s").await;
    let begin = Timestamp::now();
    let queue_url = world.hint_queue_url().await;
    world.clients.sqs.delete_queue().queue_url(queue_url).send().await.unwrap();
    world.arrives(&label("heard", "a", 1), at(begin, 0)).await;
    for id in ["e-1", "e-2"] {
        world.arrives(&approved(id), at(begin, 0)).await;
    }
    assert_eq!(world.row_of("e-2").await.state, State::Held);
    world.sweep(at(begin, 60)).await;
    assert_eq!(world.inputs("heard").await.len(), 1);
    assert_eq!(world.row_of("e-2").await.state, State::Started);
    world.assert_no_dead_letter().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cools_down_is_released_by_its_hint_one_after_the_other() {
    let world = world("30s").await;
    let begin = Timestamp::now();
    let all = ["e-1", "e-2", "e-3"];
    for (id, seconds) in all.into_iter().zip([0, 1, 2]) {
        world.arrives(&approved(id), at(begin, seconds)).await;
    }
    assert_eq!(world.states_of(all).await, [State::Started, State::Held, State::Held]);
    assert_eq!(world.row_of("e-3").await.held.unwrap().by, GuardName::Cooldown);
    assert_eq!(world.hints_sent().await, 1, "both wait for the same");
    let hint = hinted(r#"{ "trigger": "label" }"#);
    world.is_told(&hint, at(begin, 9)).await;
    assert_eq!(world.states_of(all).await[1], State::Held, "it came too early");
    world.is_told(&hint, at(begin, 10)).await;
    assert_eq!(world.states_of(all).await, [State::Started, State::Started, State::Held]);
    assert_eq!(world.hints_sent().await, 2, "the next waits anew");
    world.is_told(&hint, at(begin, 20)).await;
    assert_eq!(world.states_of(all).await, [State::Started; 3]);
    assert_eq!(world.hints_sent().await, 2, "nothing waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_hint_is_put_aside_and_an_event_cannot_be_one() {
    let world = world("30s").await;
    let now = at(Timestamp::now(), 0);
    world.is_told(&hinted("look!"), now).await;
    assert_eq!(world.dead_letter().await.reason, DeadReason::Undecodable);
    world.is_told(&hinted(r#"{ "trigger": "gone", "window": "a" }"#), now).await;
    let published = crate::world::sns(r#"{ "trigger": "heard", "window": "a" }"#);
    world.handler.handle(&published, now).await.unwrap();
    assert_eq!(world.dead_letter().await.reason, DeadReason::InvalidEnvelope);
    world.handler.handle(&delivery(&approved("e-1")), now).await.unwrap();
    world.assert_no_dead_letter().await;
}
