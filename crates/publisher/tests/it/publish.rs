use std::sync::Arc;
use std::time::Duration;

use bellwire_publisher::call::{CallError, Trouble};
use bellwire_publisher::pack::Entry;
use bellwire_publisher::publish::{EntryResult, Fate, Outlet, Patience};
use bellwire_schema::Envelope;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fakes::{FakeTopic, call_error, failed};

fn entries(count: usize) -> Vec<Entry> {
    (0..count)
        .map(|id| {
            let event = Envelope::new(&id.to_string(), "/app", "data.arrived".parse().unwrap());
            Entry::of(event).unwrap()
        })
        .collect()
}

fn patience(seconds: u64) -> Patience {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    Patience { deadline, give_up: CancellationToken::new() }
}

async fn fates(topic: &Arc<FakeTopic>, count: usize) -> Vec<Fate> {
    let entries = entries(count);
    let entries: Vec<&Entry> = entries.iter().collect();
    Outlet::new(topic.clone(), 16).publish(&entries, &patience(60)).await
}

fn acting(
    act: impl FnMut(&[&Entry]) -> Result<Vec<EntryResult>, CallError> + Send + Sync + 'static,
) -> Arc<FakeTopic> {
    Arc::new(FakeTopic::acting(act))
}

fn is_left(fate: &Fate, denied: bool) -> bool {
    matches!(fate, Fate::Left { is_denied, .. } if *is_denied == denied)
}

#[tokio::test(start_paused = true)]
async fn only_what_failed_for_a_passing_reason_is_tried_again() {
    let mut call = 0;
    let topic = acting(move |entries| {
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
    let topic = acting(|entries| Ok(vec![failed("NoResult", false); entries.len()]));
    let fates = fates(&topic, 2).await;
    assert!(fates.iter().all(|fate| is_left(fate, false)), "{fates:?}");
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_fails_alone_is_tried_so_often_and_no_more() {
    let topic = acting(|entries| {
        let result = |entry: &&Entry| match entry.envelope().id.as_str() {
            "1" => failed("InternalFailure", false),
            _ => EntryResult::Accepted,
        };
        Ok(entries.iter().map(result).collect())
    });
    let fates = fates(&topic, 3).await;
    assert_eq!((&fates[0], &fates[2]), (&Fate::Published, &Fate::Published));
    assert!(is_left(&fates[1], false), "{:?}", fates[1]);
    assert_eq!(*topic.calls.lock().unwrap(), [3, 1, 1, 1, 1]);
}

/// However long it is down: nothing is given up, and calls are few.
#[tokio::test(start_paused = true)]
async fn a_topic_that_is_down_is_waited_for() {
    for trouble in [Trouble::Unavailable, Trouble::Denied] {
        let up_at = Instant::now() + Duration::from_secs(3_600);
        let topic = acting(move |entries| match Instant::now() < up_at {
            true => Err(call_error(trouble)),
            false => Ok(vec![EntryResult::Accepted; entries.len()]),
        });
        let entries = entries(3);
        let entries: Vec<&Entry> = entries.iter().collect();
        let fates = Outlet::new(topic.clone(), 16).publish(&entries, &patience(7_200)).await;
        assert_eq!(fates, [Fate::Published, Fate::Published, Fate::Published]);
        assert!(Instant::now() >= up_at);
        let calls = topic.calls.lock().unwrap().len();
        assert!((60..400).contains(&calls), "{calls} calls in an hour");
    }
}

#[tokio::test(start_paused = true)]
async fn patience_ends_by_time_and_by_word() {
    let down = || acting(|_| Err(call_error(Trouble::Unavailable)));
    let begin = Instant::now();
    assert!(fates(&down(), 3).await.iter().all(|fate| is_left(fate, false)));
    assert!(begin.elapsed() <= Duration::from_secs(61));

    let outlet = Outlet::new(down(), 16);
    let entries = entries(1);
    let mut patience = patience(3_600);
    patience.give_up = CancellationToken::new();
    let give_up = patience.give_up.clone();
    let publishing = tokio::spawn(async move { outlet.publish(&[&entries[0]], &patience).await });
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(!publishing.is_finished());
    give_up.cancel();
    assert!(is_left(&publishing.await.unwrap()[0], false));
}

/// What breaks every call that carries it does not hold up its neighbours.
#[tokio::test(start_paused = true)]
async fn an_event_that_breaks_its_call_is_found_out() {
    let topic = acting(|entries| match entries.iter().any(|entry| entry.envelope().id == "0") {
        true => Err(call_error(Trouble::Unavailable)),
        false => Ok(vec![EntryResult::Accepted; entries.len()]),
    });
    let fates = fates(&topic, 5).await;
    assert!(is_left(&fates[0], false));
    assert!(fates[1..].iter().all(|fate| *fate == Fate::Published), "{fates:?}");
}

#[tokio::test(start_paused = true)]
async fn one_bad_event_does_not_take_nine_good_ones_with_it() {
    let topic = acting(|entries| match entries.iter().any(|entry| entry.envelope().id == "4") {
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
    let taken = Arc::new(std::sync::Mutex::new(Vec::new()));
    let by_sns = taken.clone();
    let topic = acting(move |entries| {
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
