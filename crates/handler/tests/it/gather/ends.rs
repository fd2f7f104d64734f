//! How windows end: deadlines, interruptions, and what comes too late.

use bellwire_schema::dead_letter::DeadReason;
use serde_json::{Value, json};

use super::{WORKFLOW, after, ids, label, world};
use crate::world::{World, delivery};

#[tokio::test(flavor = "multi_thread")]
async fn a_window_whose_deadline_passes_starts_with_what_is_there_or_is_dead() {
    let world = world().await;
    for number in [1, 2] {
        world.arrives(&label("timed", "a", number), after(0)).await;
        world.arrives(&label("counted", "a", number), after(0)).await;
    }
    world.sweep(after(590)).await;
    assert_eq!(world.inputs("timed").await.len(), 0, "there are ten seconds left");
    world.sweep(after(601)).await;
    let input = world.only_input("timed").await;
    assert_eq!(ids(&input), ["timed-a-1", "timed-a-2"]);
    assert_eq!(input["data"]["ended_by"], "deadline");

    let letter = world.dead_letter().await;
    assert_eq!(letter.reason, DeadReason::GatherDeadline);
    assert_eq!(letter.trigger.as_deref(), Some("counted"));
    assert!(letter.message.contains("2 events had arrived"), "{}", letter.message);
    let body: Value = serde_json::from_slice(&letter.body().unwrap()).unwrap();
    assert_eq!(ids(&body), ["counted-a-1", "counted-a-2"]);
    assert_eq!(world.inputs("counted").await.len(), 0);

    world.sweep(after(1_300)).await;
    world.assert_no_dead_letter().await;
    assert_eq!(world.inputs("timed").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_late_is_in_the_next_window_and_is_told_so() {
    let world = world().await;
    for number in [1, 2] {
        world.arrives(&label("timed", "a", number), after(0)).await;
    }
    world.sweep(after(601)).await;
    world.arrives(&label("timed", "a", 3), after(610)).await;
    world.arrives(&label("timed", "a", 1), after(610)).await;
    let late = world.member_row("timed", "/app", "timed-a-3").await;
    assert_eq!((late["is_late"].clone(), late["generation"].clone()), (json!(true), json!(1)));
    let member = world.member_row("timed", "/app", "timed-a-1").await;
    assert_eq!((member["is_late"].clone(), member["generation"].clone()), (json!(false), json!(0)));
    world.sweep(after(1_300)).await;
    let inputs = world.inputs("timed").await;
    let mut counts: Vec<_> = inputs.iter().map(|input| ids(input).len()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_was_closed_and_not_started_is_started_by_the_sweep() {
    let world = world().await;
    for number in [1, 2] {
        world.arrives(&label("counted", "a", number), after(0)).await;
    }
    world.calls.fail(Some("Query"));
    world.arrives(&label("counted", "a", 3), after(0)).await;
    world.calls.fail(None);
    assert_eq!(world.inputs("counted").await.len(), 0, "its members could not be read");
    world.arrives(&label("counted", "a", 3), after(1)).await;
    world.arrives(&label("counted", "a", 4), after(1)).await;
    assert_eq!(world.inputs("counted").await.len(), 0);
    world.sweep(after(62)).await;
    assert_eq!(ids(&world.only_input("counted").await).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_waits_until_the_index_shows_all_of_it() {
    let world = world().await;
    for number in [1, 2] {
        world.arrives(&label("counted", "a", number), after(0)).await;
    }
    world.calls.lag(true);
    world.arrives(&label("counted", "a", 3), after(0)).await;
    world.calls.lag(false);
    assert_eq!(world.inputs("counted").await.len(), 0, "the index shows none of its events yet");
    world.sweep(after(62)).await;
    assert_eq!(ids(&world.only_input("counted").await).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_full_and_not_closed_is_closed_by_whoever_comes_next() {
    let world = world().await;
    for number in [1, 2] {
        world.arrives(&label("counted", "a", number), after(0)).await;
        world.arrives(&label("counted", "b", number), after(0)).await;
    }
    world.calls.fail(Some("BatchGetItem"));
    for batch in ["a", "b"] {
        let third = delivery(&label("counted", batch, 3));
        world.handler.handle(&third, after(0)).await.unwrap_err();
    }
    world.calls.fail(None);
    assert_eq!(world.inputs("counted").await.len(), 0);
    let other = world.another_handler(WORKFLOW);
    other.handle(&delivery(&label("counted", "a", 3)), after(0)).await.unwrap();
    assert_eq!(world.inputs("counted").await.len(), 1, "the redelivery closes it");
    other.handle(&delivery(&label("counted", "b", 4)), after(0)).await.unwrap();
    let inputs = world.inputs("counted").await;
    assert_eq!(inputs.len(), 2, "and so does an event that finds no room");
    assert!(inputs.iter().all(|input| ids(input).len() == 3));
}

/// The first answer is lost: the event is in, and its repetition finds that it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_collided_is_tried_again_and_is_in_once() {
    let world = world().await;
    world.arrives(&label("counted", "a", 1), after(0)).await;
    world.calls.take();
    world.calls.collide(2);
    world.arrives(&label("counted", "a", 2), after(0)).await;
    assert_eq!(world.calls.take().len(), 3);
    world.arrives(&label("counted", "a", 3), after(0)).await;
    assert_eq!(ids(&world.only_input("counted").await).len(), 3);
    world.calls.collide(1_000);
    let event = delivery(&label("counted", "a", 4));
    let error = world.handler.handle(&event, after(0)).await.unwrap_err();
    assert!(error.to_string().contains("at the same time"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_closes_what_is_full() {
    let world = world().await;
    for number in [1, 2] {
        world.arrives(&label("counted", "a", number), after(0)).await;
    }
    world.calls.fail(Some("BatchGetItem"));
    let third = delivery(&label("counted", "a", 3));
    world.handler.handle(&third, after(0)).await.unwrap_err();
    world.calls.fail(None);
    world.sweep(after(1)).await;
    assert_eq!(world.inputs("counted").await.len(), 1, "it does not wait for the deadline");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_belongs_to_no_window_is_put_aside() {
    let world = world().await;
    let mut event = label("counted", "a", 1);
    event.data = Some(json!({ "n": 1 }));
    world.arrives(&event, after(0)).await;
    let letter = world.dead_letter().await;
    assert_eq!(letter.reason, DeadReason::InvalidInput);
    assert!(letter.message.contains("gather.by"), "{}", letter.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_no_input_takes_is_dead_where_there_is_nowhere_to_put_it() {
    let without = WORKFLOW.replace("[claim_check]\nbucket = \"wine-lake\"\n", "");
    let world = World::of(&without, &["counted"], |_| {}).await;
    for number in [1, 2, 3] {
        let mut event = label("counted", "a", number);
        event.data = Some(json!({ "batch": "a", "text": "x".repeat(100_000) }));
        world.arrives(&event, after(0)).await;
    }
    let letter = world.dead_letter().await;
    assert_eq!(letter.reason, DeadReason::TooLarge);
    assert!(letter.message.contains("[claim_check]"), "{}", letter.message);
    let body: Value = serde_json::from_slice(&letter.body().unwrap()).unwrap();
    assert_eq!(body["data"]["count"], 3);
    assert_eq!(world.inputs("counted").await.len(), 0);
    world.sweep(after(600)).await;
    world.assert_no_dead_letter().await;
}

/// Every gate takes its share, the last event of all closes, and the list is read in
/// pages and put into S3, since no input would take it.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_thousands_is_one_run_with_a_list_of_all() {
    let world = world().await;
    let mut units = Vec::new();
    for chunk in (0..3_000).collect::<Vec<usize>>().chunks(50) {
        let arrivals = chunk.iter().map(|number| {
            let (handler, event) = (world.handler.clone(), label("massed", "a", *number));
            async move { handler.handle(&delivery(&event), after(0)).await.unwrap() }
        });
        futures::future::join_all(arrivals).await;
        units.push(world.calls.take_units() / 50.0);
    }
    println!("write units an event: at first {}, before the last {}", units[0], units[58]);
    assert!((units[0] - units[58]).abs() < 0.5, "{units:?}");
    let input = world.only_input("massed").await;
    assert_eq!((&input["data"]["count"], input["data"].get("members")), (&json!(3_000), None));
    let list = world.list_of(&input).await;
    let all: std::collections::BTreeSet<_> =
        list.iter().map(|member| member["event_id"].as_str().unwrap()).collect();
    assert_eq!((list.len(), all.len()), (3_000, 3_000));
}
