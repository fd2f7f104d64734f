use std::time::Duration;

use bellwire_publisher::call::Trouble;
use bellwire_publisher::pack::Entry;
use bellwire_publisher::publish::{EntryResult, Fate, publish};
use bellwire_schema::Envelope;
use tokio::time::Instant;

use crate::fakes::{FakeTopic, call_error, failed};

fn entries(count: usize) -> Vec<Entry> {
    (0..count)
        .map(|id| {
            let event = Envelope::new(&id.to_string(), "/app", "data.arrived".parse().unwrap());
            Entry::of(event).unwrap()
        })
        .collect()
}

async fn fates(topic: &FakeTopic, count: usize) -> Vec<Fate> {
    let entries = entries(count);
    let entries: Vec<&Entry> = entries.iter().collect();
    publish(topic, &entries, Instant::now() + Duration::from_secs(60)).await
}

fn is_left(fate: &Fate, denied: bool) -> bool {
    matches!(fate, Fate::Left { is_denied, .. } if *is_denied == denied)
}

#[tokio::test(start_paused = true)]
async fn only_what_failed_for_a_passing_reason_is_tried_again() {
    let mut call = 0;
    let topic = FakeTopic::acting(move |entries| {
        call += 1;
        let result = |entry: &&Entry| match (entry.envelope().id.as_str(), call) {
            ("1", 1) => failed("InternalFailure", false),
            ("2", 1) => failed("Throttled", true),
            ("3", _) => failed("InvalidParameter", true),
            ("4", _) => failed("AuthorizationError", true),
            _ => EntryResult::Accepted,
        };
        Ok(entries.iter().map(result).collect())
    });
    let fates = fates(&topic, 5).await;
    assert_eq!(fates[..3], [Fate::Published, Fate::Published, Fate::Published]);
    assert!(matches!(&fates[3], Fate::Refused { message } if message.contains("InvalidParameter")));
    assert!(is_left(&fates[4], true), "{:?}", fates[4]);
    assert_eq!(topic.accepted_ids(), ["0", "1", "2"]);
    assert_eq!(*topic.calls.lock().unwrap(), [5, 2]);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_the_answer_does_not_mention_is_not_published() {
    let topic = FakeTopic::acting(|entries| Ok(vec![failed("NoResult", false); entries.len()]));
    let fates = fates(&topic, 2).await;
    assert!(fates.iter().all(|fate| is_left(fate, false)), "{fates:?}");
}

#[tokio::test(start_paused = true)]
async fn tries_are_bounded_in_number_and_in_time() {
    let topic = FakeTopic::acting(|_| Err(call_error(Trouble::Unavailable)));
    assert!(fates(&topic, 3).await.iter().all(|fate| is_left(fate, false)));
    assert_eq!(*topic.calls.lock().unwrap(), [3; 4]);

    let topic = FakeTopic::acting(|_| Err(call_error(Trouble::Unavailable)));
    let entries = entries(1);
    let begin = Instant::now();
    let fates = publish(&topic, &[&entries[0]], begin).await;
    assert!(is_left(&fates[0], false));
    assert!(topic.calls.lock().unwrap().len() <= 1);
    assert!(begin.elapsed() < Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn a_denied_call_is_not_repeated_and_blames_no_event() {
    let topic = FakeTopic::acting(|_| Err(call_error(Trouble::Denied)));
    assert!(fates(&topic, 2).await.iter().all(|fate| is_left(fate, true)));
    assert_eq!(*topic.calls.lock().unwrap(), [2]);
}

#[tokio::test(start_paused = true)]
async fn one_bad_event_does_not_take_nine_good_ones_with_it() {
    let topic =
        FakeTopic::acting(|entries| match entries.iter().any(|entry| entry.envelope().id == "4") {
            true => Err(call_error(Trouble::Refused)),
            false => Ok(vec![EntryResult::Accepted; entries.len()]),
        });
    let fates = fates(&topic, 10).await;
    let refused: Vec<_> =
        (0..10).filter(|index| matches!(fates[*index], Fate::Refused { .. })).collect();
    assert_eq!(refused, [4]);
    assert_eq!(topic.accepted_ids(), ["0", "1", "2", "3", "5", "6", "7", "8", "9"]);
}

/// SNS has taken the batch, and its answer is lost: a duplicate, and no loss.
#[tokio::test(start_paused = true)]
async fn a_lost_response_makes_duplicates_with_the_same_ids() {
    let taken = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let by_sns = taken.clone();
    let topic = FakeTopic::acting(move |entries| {
        let mut taken = taken.lock().unwrap();
        let is_first = taken.is_empty();
        taken.extend(entries.iter().map(|entry| entry.envelope().id.clone()));
        match is_first {
            true => Err(call_error(Trouble::Unavailable)),
            false => Ok(vec![EntryResult::Accepted; entries.len()]),
        }
    });
    assert_eq!(fates(&topic, 2).await, [Fate::Published, Fate::Published]);
    assert_eq!(*by_sns.lock().unwrap(), ["0", "1", "0", "1"]);
}
