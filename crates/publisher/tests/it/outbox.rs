//! From the spool to the topic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bellwire_publisher::call::Trouble;
use bellwire_publisher::ingest::{Admit, AdmitError};
use bellwire_publisher::outbox::Outbox;
use bellwire_publisher::pack::Entry;
use bellwire_publisher::publish::EntryResult;
use bellwire_publisher::spool::{Limits, Record, Spool, Store};
use bellwire_schema::Envelope;
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::fifo::group_of;
use tokio_util::sync::CancellationToken;

use crate::fakes::{FakeTopic, World, call_error, failed};

#[path = "../../src/spool/torn_disk.rs"]
mod torn_disk;

const LIMITS: Limits = Limits { events_max: 10_000, bytes_max: 64 * 1024 * 1024 };
const DRAIN: Duration = Duration::from_secs(120);

/// For what cannot be drained.
const SHORT_DRAIN: Duration = Duration::from_millis(200);

fn admitted(id: usize, lane: Option<&str>) -> Entry {
    let event_type = "data.arrived".parse().unwrap();
    let mut envelope = Envelope::new(&id.to_string(), "/app", event_type);
    envelope.partitionkey = lane.map(str::to_owned);
    Entry::of(envelope).unwrap()
}

fn outbox(world: &World, spool: &Spool) -> Outbox {
    Outbox {
        spool: spool.clone(),
        outlet: world.outlet(),
        dead: world.dead.clone(),
        counts: world.counts.clone(),
    }
}

/// Runs an outbox that is asked to stop at once: it publishes what there is.
async fn drained(world: &World, spool: &Spool) -> u64 {
    drained_within(world, spool, DRAIN).await
}

async fn drained_within(world: &World, spool: &Spool, drain: Duration) -> u64 {
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    outbox(world, spool).run(shutdown, drain).await.unwrap()
}

#[tokio::test]
async fn what_was_admitted_is_published_in_full_batches_and_leaves_the_spool() {
    let (world, spool) = (World::default(), Spool::in_memory(LIMITS).unwrap());
    spool.admit((0..95).map(|id| admitted(id, None)).collect()).await.unwrap();
    assert_eq!(drained(&world, &spool).await, 0);
    let mut ids = world.topic.accepted_ids();
    ids.sort_by_key(|id| id.parse::<usize>().unwrap());
    assert_eq!(ids, (0..95).map(|id| id.to_string()).collect::<Vec<_>>());
    assert_eq!(world.topic.calls.lock().unwrap().len(), 10);
    assert_eq!(world.counts.of("published"), 95);
    assert_eq!(spool.depth().events, 0);
}

#[tokio::test]
async fn what_comes_later_is_published_too() {
    let (world, spool) = (World::default(), Spool::in_memory(LIMITS).unwrap());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(outbox(&world, &spool).run(shutdown.clone(), DRAIN));
    for id in 0..3 {
        spool.admit(vec![admitted(id, None)]).await.unwrap();
        world.topic.entered.notified().await;
    }
    shutdown.cancel();
    assert_eq!(running.await.unwrap().unwrap(), 0);
    assert_eq!(world.topic.accepted_ids(), ["0", "1", "2"]);
}

/// The spool's sequences go on where they were: there is nothing before the new event.
#[tokio::test]
async fn what_comes_after_a_start_over_an_emptied_spool_is_published_too() {
    let (world, spool) = (World::default(), Spool::in_memory(LIMITS).unwrap());
    spool.admit((0..3).map(|id| admitted(id, None)).collect()).await.unwrap();
    assert_eq!(drained(&world, &spool).await, 0);
    world.topic.entered.notified().await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(outbox(&world, &spool).run(shutdown.clone(), DRAIN));
    // It looks at the spool before anything new is there.
    tokio::time::timeout(SHORT_DRAIN, world.topic.entered.notified()).await.unwrap_err();
    spool.admit(vec![admitted(3, None)]).await.unwrap();
    tokio::time::timeout(DRAIN, world.topic.entered.notified()).await.unwrap();
    shutdown.cancel();
    assert_eq!(running.await.unwrap().unwrap(), 0);
    assert_eq!(world.topic.accepted_ids(), ["0", "1", "2", "3"]);
}

/// Else a full spool would stay full: nothing comes in that it could be removed with.
#[tokio::test(start_paused = true)]
async fn what_could_not_be_removed_is_removed_once_the_disk_works_again() {
    let (world, disk) = (World::default(), torn_disk::TornDisk::new());
    let store = Store::with_backend(disk.clone(), Limits { events_max: 1, ..LIMITS }).unwrap();
    let spool = Spool::on_runtime(store).unwrap();
    spool.admit(vec![admitted(0, None)]).await.unwrap();
    disk.fail_once_after(0);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(outbox(&world, &spool).run(shutdown.clone(), DRAIN));
    world.topic.entered.notified().await;
    let next = async {
        while spool.admit(vec![admitted(1, None)]).await.is_err() {
            tokio::time::sleep(SHORT_DRAIN).await;
        }
    };
    tokio::time::timeout(DRAIN, next).await.expect("there is room again");
    assert!(disk.is_sound(), "the removal met the fault");
    shutdown.cancel();
    assert_eq!(running.await.unwrap().unwrap(), 0);
    assert_eq!(world.topic.accepted_ids(), ["0", "1"]);
}

/// Any entry of any call may fail: nothing of its lane overtakes it.
#[tokio::test]
async fn the_events_of_a_lane_stay_in_order_behind_one_that_fails() {
    futures::future::join_all((0..8).map(async |seed| {
        let mut chance = fastrand::Rng::with_seed(seed);
        let world = World::with_topic(FakeTopic::acting(move |entries| {
            if chance.u8(..) < 30 {
                return Err(call_error(Trouble::Unavailable));
            }
            let result = |_: &&Entry| match chance.u8(..) < 100 {
                true => failed("InternalFailure", false),
                false => EntryResult::Accepted,
            };
            Ok(entries.iter().map(result).collect())
        }));
        let spool = Spool::in_memory(LIMITS).unwrap();
        let lanes = ["a", "b", "c"];
        let events = (0..60).map(|id| admitted(id, lanes.get(id % 4).copied()));
        spool.admit(events.collect()).await.unwrap();
        assert_eq!(drained(&world, &spool).await, 0, "seed {seed}");
        let mut by_lane: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::new();
        for event in world.topic.accepted.lock().unwrap().iter() {
            by_lane.entry(event.partitionkey.clone()).or_default().push(event.id.parse().unwrap());
        }
        assert_eq!(by_lane.values().map(Vec::len).sum::<usize>(), 60, "seed {seed}");
        for (lane, ids) in by_lane.iter().filter(|(lane, _)| lane.is_some()) {
            assert!(ids.is_sorted(), "seed {seed}, lane {lane:?}: {ids:?}");
        }
    }))
    .await;
}

/// On a FIFO topic that holds for every event: one without a partition key is of its
/// source's group.
#[tokio::test]
async fn on_a_fifo_topic_every_event_has_its_turn() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = calls.clone();
    let mut chance = fastrand::Rng::with_seed(7);
    let topic = FakeTopic::acting(move |entries| {
        let groups: Vec<String> = entries.iter().map(|entry| group_of(entry.envelope())).collect();
        seen.lock().unwrap().push(groups);
        let result = |_: &&Entry| match chance.bool() {
            true => failed("InternalFailure", false),
            false => EntryResult::Accepted,
        };
        Ok(entries.iter().map(result).collect())
    });
    let world = World::with_topic(topic.fifo());
    let spool = Spool::in_memory(LIMITS).unwrap();
    let events = (0..30).map(|id| admitted(id, (id % 3 == 0).then_some("a")));
    spool.admit(events.collect()).await.unwrap();
    assert_eq!(drained(&world, &spool).await, 0);
    for groups in calls.lock().unwrap().iter() {
        assert!(groups.len() <= 2 && groups.iter().collect::<BTreeSet<_>>().len() == groups.len());
    }
    let mut by_group: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for event in world.topic.accepted.lock().unwrap().iter() {
        by_group.entry(group_of(event)).or_default().push(event.id.parse().unwrap());
    }
    assert_eq!(by_group["a"].len(), 10);
    assert_eq!(by_group["/app"].len(), 20);
    assert!(by_group.values().all(|ids| ids.is_sorted()), "{by_group:?}");
}

#[tokio::test]
async fn what_sns_refuses_and_what_is_no_event_is_quarantined_with_its_bytes() {
    let world = World::with_topic(FakeTopic::acting(|entries| {
        let result = |entry: &&Entry| match entry.envelope().id.as_str() {
            "1" => failed("InvalidParameter", true),
            _ => EntryResult::Accepted,
        };
        Ok(entries.iter().map(result).collect())
    }));
    let spool = Spool::in_memory(LIMITS).unwrap();
    spool.admit((0..3).map(|id| admitted(id, None)).collect()).await.unwrap();
    spool.append(vec![Record { lane: None, body: b"\xffgarbage".to_vec() }]).await.unwrap();
    assert_eq!(drained(&world, &spool).await, 0);
    assert_eq!(world.topic.accepted_ids(), ["0", "2"]);
    let letters = world.letters();
    let reason = |reason| letters.iter().find(|letter| letter.reason == reason).unwrap();
    assert_eq!(letters.len(), 2);
    let refused = reason(DeadReason::PublishRefused);
    assert_eq!((refused.id.as_deref(), refused.source.as_deref()), (Some("1"), Some("/app")));
    let bytes = refused.body().unwrap();
    assert_eq!(Envelope::from_json(&bytes).unwrap().id, "1");
    assert_eq!(reason(DeadReason::InvalidEnvelope).body().unwrap(), b"\xffgarbage");
}

#[tokio::test]
async fn a_stop_in_an_outage_keeps_the_events_and_says_how_many() {
    let world = World::with_topic(FakeTopic::acting(|_| Err(call_error(Trouble::Unavailable))));
    let spool = Spool::in_memory(LIMITS).unwrap();
    spool.admit((0..25).map(|id| admitted(id, None)).collect()).await.unwrap();
    assert_eq!(drained_within(&world, &spool, SHORT_DRAIN).await, 25);

    // The next start has them all.
    let next = World::default();
    assert_eq!(drained(&next, &spool).await, 0);
    assert_eq!(next.topic.accepted_ids().len(), 25);
}

#[tokio::test]
async fn a_full_spool_says_so_until_there_is_room_again() {
    let limits = Limits { events_max: 2, ..LIMITS };
    let (world, spool) = (World::default(), Spool::in_memory(limits).unwrap());
    spool.admit(vec![admitted(0, None), admitted(1, None)]).await.unwrap();
    let full = spool.admit(vec![admitted(2, None)]).await.unwrap_err();
    assert!(matches!(full, AdmitError::Full { retry_after_s: 2, .. }), "{full:?}");
    drained(&world, &spool).await;
    spool.admit(vec![admitted(2, None)]).await.unwrap();
}

/// A dead queue that is down keeps the refused event in the spool.
#[tokio::test]
async fn what_is_not_quarantined_stays() {
    let refusals = Arc::new(Mutex::new(0));
    let count = refusals.clone();
    let world = World::with_topic(FakeTopic::acting(move |entries| {
        *count.lock().unwrap() += 1;
        Ok(vec![failed("InvalidParameter", true); entries.len()])
    }));
    *world.dead.trouble.lock().unwrap() = Some(Trouble::Unavailable);
    let spool = Spool::in_memory(LIMITS).unwrap();
    spool.admit(vec![admitted(0, None)]).await.unwrap();
    assert_eq!(drained_within(&world, &spool, SHORT_DRAIN).await, 1);
    assert_eq!(*refusals.lock().unwrap(), 1, "SNS is not asked again");
    *world.dead.trouble.lock().unwrap() = None;
    assert_eq!(drained(&world, &spool).await, 0);
    assert_eq!(world.letters().len(), 1);
}
