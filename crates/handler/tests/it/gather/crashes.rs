//! The event that ends a window, interrupted wherever its handling waits for something.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::{after, ids, label, world};
use crate::world::delivery;

/// Drops a future once it was polled so often, as a process that dies there; what it has
/// sent may arrive all the same.
async fn interrupted<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        let Some(next) = left.checked_sub(1) else { return Poll::Ready(None) };
        left = next;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_is_one_run_wherever_its_last_event_is_interrupted() {
    let world = world().await;
    let mut interruptions = 0;
    loop {
        let batch = format!("b-{interruptions}");
        for number in [1, 2] {
            world.arrives(&label("counted", &batch, number), after(0)).await;
        }
        let last = delivery(&label("counted", &batch, 3));
        if interrupted(world.handler.handle(&last, after(0)), interruptions).await.is_some() {
            break;
        }
        interruptions += 1;
    }
    // A claim, a closing, a list, a start, an event and a record: each waits at least once.
    assert!(interruptions > 8, "it was done after {interruptions}");
    let all = 0..=interruptions;
    for number in all.clone() {
        world.arrives(&label("counted", &format!("b-{number}"), 3), after(1)).await;
    }
    for seconds in [62, 400, 800] {
        world.sweep(after(seconds)).await;
    }
    let mut runs: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for input in world.inputs("counted").await {
        let key = input["data"]["key"].as_str().unwrap().to_owned();
        runs.entry(key).or_default().push(ids(&input).len());
    }
    for number in all {
        let batch = format!("b-{number}");
        assert_eq!(runs.remove(&batch), Some(vec![3]), "interrupted at {number}");
    }
    assert!(runs.is_empty(), "{runs:?}");
    world.assert_no_dead_letter().await;
}
