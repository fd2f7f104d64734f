//! The bridge to a FIFO topic: order within a group, whatever fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bellwire_publisher::bridge::{Bridge, Edges};
use bellwire_publisher::call::{CallError, Trouble};
use bellwire_publisher::counts::Counts;
use bellwire_publisher::enrich::Objects;
use bellwire_publisher::pack::Entry;
use bellwire_publisher::publish::{EntryResult, Outlet};
use bellwire_publisher::receive::{IngestQueue, Message, NotDone, VISIBILITY_S};
use bellwire_publisher::route::{ObjectRef, Rules};
use bellwire_schema::Place;
use bellwire_schema::fifo::group_of;
use bellwire_schema::workflow::read;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::fakes::{FakeDead, FakeOrigins, FakeTopic, call_error, failed};
use crate::samples::{ACCOUNT, QUEUE_ARN, deployment, s3_body};

const GROUPS: [&str; 3] = ["a", "b", "c"];

/// A source for each group; the objects of `c` have metadata to be read.
fn rules() -> Rules {
    let mut text =
        "workflow = \"wine\"\n[topic]\nkind = \"fifo\"\n[handler]\ndelivery = \"queued\"\n"
            .to_owned();
    for group in GROUPS {
        let context = if group == "c" { "context = \"metadata\"" } else { "" };
        text += &format!(
            "[[source]]\nname = \"{group}\"\nkind = \"s3\"\nbucket = \"wine-lake\"\nprefix = \"{group}/\"\nemits = \"data.arrived\"\ndataset = \"{group}\"\n{context}\n"
        );
    }
    let workflow = read(&text).unwrap_or_else(|problems| panic!("{problems}"));
    Rules::new(&workflow, &deployment(), &Place::new("eu-west-1", ACCOUNT))
}

/// A standard queue: it hands out what is visible in any order, and again what is
/// not deleted in time.
struct StandardQueue {
    chance: Mutex<fastrand::Rng>,
    messages: Mutex<Vec<Stored>>,
    /// By group, the keys in the order in which they were first received.
    first_received: Mutex<BTreeMap<String, Vec<String>>>,
    is_empty: Notify,
}

struct Stored {
    message: Message,
    keys: Vec<String>,
    visible_at: Instant,
}

impl StandardQueue {
    fn new(seed: u64, bodies: Vec<Vec<String>>) -> Self {
        let stored = |(number, keys): (usize, Vec<String>)| {
            let body = s3_body(&keys.iter().map(String::as_str).collect::<Vec<_>>());
            let mut message = crate::fakes::message(number, &body);
            message.receives = 0;
            Stored { message, keys, visible_at: Instant::now() }
        };
        Self {
            chance: Mutex::new(fastrand::Rng::with_seed(seed)),
            messages: Mutex::new(bodies.into_iter().enumerate().map(stored).collect()),
            first_received: Mutex::default(),
            is_empty: Notify::new(),
        }
    }

    fn take(&self) -> Vec<Message> {
        let (mut stored, mut chance) = (self.messages.lock().unwrap(), self.chance.lock().unwrap());
        let now = Instant::now();
        let mut visible: Vec<&mut Stored> =
            stored.iter_mut().filter(|one| one.visible_at <= now).collect();
        chance.shuffle(&mut visible);
        visible.truncate(chance.usize(1..=10));
        let receive = |one: &mut Stored| {
            if one.message.receives == 0 {
                let mut first = self.first_received.lock().unwrap();
                for key in &one.keys {
                    first.entry(key[..1].to_owned()).or_default().push(key.clone());
                }
            }
            one.message.receives += 1;
            one.visible_at = now + Duration::from_secs(VISIBILITY_S.into());
            one.message.clone()
        };
        visible.into_iter().map(receive).collect()
    }
}

impl IngestQueue for StandardQueue {
    fn receive(&self) -> BoxFuture<'_, Result<Vec<Message>, CallError>> {
        async move {
            let end = Instant::now() + Duration::from_secs(20);
            loop {
                let taken = self.take();
                let next = self.messages.lock().unwrap().iter().map(|one| one.visible_at).min();
                if !taken.is_empty() || Instant::now() >= end {
                    return Ok(taken);
                }
                sleep_until(next.unwrap_or(end).min(end)).await;
            }
        }
        .boxed()
    }

    fn delete<'a>(
        &'a self,
        receipts: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<NotDone>, CallError>> {
        async move {
            let mut messages = self.messages.lock().unwrap();
            messages.retain(|one| !receipts.contains(&one.message.receipt.as_str()));
            if messages.is_empty() {
                self.is_empty.notify_one();
            }
            Ok(Vec::new())
        }
        .boxed()
    }

    fn hide<'a>(
        &'a self,
        receipts: &'a [(&'a str, u32)],
    ) -> BoxFuture<'a, Result<Vec<NotDone>, CallError>> {
        async move {
            for (receipt, seconds) in receipts {
                let mut messages = self.messages.lock().unwrap();
                let found = messages.iter_mut().find(|one| one.message.receipt == *receipt);
                if let Some(stored) = found {
                    stored.visible_at = Instant::now() + Duration::from_secs((*seconds).into());
                }
            }
            Ok(Vec::new())
        }
        .boxed()
    }
}

/// Look-ups that take a while, and fail now and then.
struct FlakyObjects(Mutex<fastrand::Rng>);

impl Objects for FlakyObjects {
    fn metadata<'a>(
        &'a self,
        _object: &'a ObjectRef,
    ) -> BoxFuture<'a, Result<Option<BTreeMap<String, String>>, CallError>> {
        async move {
            let (pause_ms, is_failing) = {
                let mut chance = self.0.lock().unwrap();
                (chance.u64(0..3_000), chance.u8(..) < 30)
            };
            sleep(Duration::from_millis(pause_ms)).await;
            match is_failing {
                true => Err(call_error(Trouble::Unavailable)),
                false => Ok(None),
            }
        }
        .boxed()
    }
}

struct World {
    queue: Arc<StandardQueue>,
    topic: Arc<FakeTopic>,
    dead: Arc<FakeDead>,
}

impl World {
    fn new(seed: u64, bodies: Vec<Vec<String>>, topic: FakeTopic) -> Self {
        let (queue, topic) = (Arc::new(StandardQueue::new(seed, bodies)), Arc::new(topic.fifo()));
        Self { queue, topic, dead: Arc::default() }
    }

    fn bridge(&self, seed: u64) -> Arc<Bridge> {
        let edges = Edges {
            queue: self.queue.clone(),
            outlet: Arc::new(Outlet::new(self.topic.clone(), 16)),
            dead: self.dead.clone(),
            objects: Arc::new(FlakyObjects(Mutex::new(fastrand::Rng::with_seed(seed)))),
            origins: Arc::new(FakeOrigins::default()),
            claims: None,
        };
        Arc::new(Bridge::new(rules(), edges, QUEUE_ARN.to_owned(), Arc::new(Counts::default())))
    }

    /// Runs three pipelines for so long, or until the queue is empty.
    async fn run(&self, seed: u64, at_most: Duration) {
        let shutdown = CancellationToken::new();
        let running =
            tokio::spawn(self.bridge(seed).run(3, shutdown.clone(), Duration::from_secs(20)));
        let _ended = timeout(at_most, self.queue.is_empty.notified()).await;
        shutdown.cancel();
        running.await.unwrap().unwrap();
    }

    /// By group, the keys in the order in which they were first accepted.
    fn accepted(&self) -> BTreeMap<String, Vec<String>> {
        let mut accepted: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in self.topic.accepted.lock().unwrap().iter() {
            let keys = accepted.entry(group_of(event)).or_default();
            let key = event.subject.clone().unwrap();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        accepted
    }
}

/// Messages of one, two or three records, each of any group.
fn bodies(chance: &mut fastrand::Rng) -> Vec<Vec<String>> {
    let body = |number: usize| {
        let keys = 0..chance.usize(1..=3);
        keys.map(|record| format!("{}/{number}-{record}", GROUPS[chance.usize(..3)])).collect()
    };
    (0..30).map(body).collect()
}

fn each(
    entries: &[&Entry],
    result: impl FnMut(&&Entry) -> EntryResult,
) -> Result<Vec<EntryResult>, CallError> {
    let groups: BTreeSet<String> = entries.iter().map(|entry| group_of(entry.envelope())).collect();
    assert_eq!(groups.len(), entries.len(), "two of a group in one call");
    Ok(entries.iter().map(result).collect())
}

/// Any look-up, call and entry may fail, and a message may come back many times:
/// nothing of a group overtakes what was received before it.
#[tokio::test(start_paused = true)]
async fn nothing_overtakes_within_a_group() {
    for seed in 0..50 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let bodies = bodies(&mut chance);
        let topic = FakeTopic::acting(move |entries| {
            if chance.u8(..) < 20 {
                return Err(call_error(Trouble::Unavailable));
            }
            each(entries, |_| match chance.u8(..) < 150 {
                true => failed("InternalFailure", false),
                false => EntryResult::Accepted,
            })
        });
        let world = World::new(seed, bodies, topic);
        world.run(seed, Duration::from_secs(48 * 3_600)).await;
        assert!(world.queue.messages.lock().unwrap().is_empty(), "seed {seed}: not all gone");
        let received = world.queue.first_received.lock().unwrap().clone();
        assert_eq!(world.accepted(), received, "seed {seed}");
    }
}

fn one_each(count: usize) -> Vec<Vec<String>> {
    (0..count).map(|number| vec![format!("{}/{number}", GROUPS[number % 2])]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_group_that_fails_waits_alone_and_goes_on_in_order() {
    let up_at = Instant::now() + Duration::from_secs(1_800);
    let topic = FakeTopic::acting(move |entries| {
        each(entries, |entry| match group_of(entry.envelope()) == "a" && Instant::now() < up_at {
            true => failed("InternalFailure", false),
            false => EntryResult::Accepted,
        })
    });
    let world = World::new(1, one_each(40), topic);
    world.run(1, Duration::from_secs(1_700)).await;
    let accepted = world.accepted();
    assert_eq!((accepted.get("a"), accepted["b"].len()), (None, 20));
    world.run(1, Duration::from_secs(48 * 3_600)).await;
    assert_eq!(world.accepted()["a"].len(), 20);
}

#[tokio::test(start_paused = true)]
async fn what_can_never_go_is_quarantined_and_its_group_goes_on() {
    let topic = FakeTopic::acting(|entries| {
        each(entries, |entry| match entry.envelope().subject.as_deref() {
            Some("a/0" | "a/10") => failed("InvalidParameter", true),
            _ => EntryResult::Accepted,
        })
    });
    let world = World::new(2, one_each(40), topic);
    world.run(2, Duration::from_secs(600)).await;
    let mut received = world.queue.first_received.lock().unwrap().clone();
    received.get_mut("a").unwrap().retain(|key| key != "a/0" && key != "a/10");
    assert_eq!(world.accepted(), received);
    assert_eq!(world.dead.letters.lock().unwrap().len(), 2);
}
