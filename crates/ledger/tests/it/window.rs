//! Windows against the local cloud's DynamoDB: each event in one of them.

use std::collections::BTreeSet;

use bellwire_ledger::{
    Admission, Admitted, ClosedWindow, DueWindow, Fate, GATE_MARGIN, Gate, Member, Outcome,
    Progress, Refusal, Room, WINDOW_DUE_SHARDS, Window,
};
use bellwire_schema::Envelope;
use bellwire_schema::gathered::{GatherEnd, GatheredMember, member_id};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::{RETENTION_DAYS, World, now, world};

fn member(number: usize) -> Member {
    let event = Envelope::new(&number.to_string(), "/app", "label.approved".parse().unwrap());
    // What no item of DynamoDB's takes as it is: a number like that, and so deep a nest.
    let deep = (0..40).fold(json!(1e300), |inner, _| json!([inner]));
    let event = event.with_payload(&json!({ "n": number, "deep": deep }));
    Member { event: GatheredMember::of(&event), hop: 1, correlationid: None, traceparent: None }
}

/// An event at a gate, which it finds as `room` asks for.
struct At<'a> {
    window: &'a Window,
    generation: u32,
    gate: u32,
    room: Room<'a>,
    now: Timestamp,
}

impl At<'_> {
    async fn admit(&self, world: &World, number: usize) -> Admitted {
        let (member, id) = (member(number), member_id("train", "/app", &number.to_string()));
        let admission = self.admission(&member, &id);
        let admitted = world.ledger.admit(&admission).await.unwrap();
        // Rust and DynamoDB are of one mind.
        if let Admitted::Refused(gate) = &admitted {
            assert_ne!(admission.refusal(gate.as_deref()), None, "{gate:?}");
        }
        admitted
    }

    fn admission<'b>(&'b self, member: &'b Member, member_id: &'b str) -> Admission<'b> {
        Admission {
            window: self.window,
            generation: self.generation,
            gate: self.gate,
            member,
            member_id,
            fate: Fate::Gathered,
            room: self.room,
            is_late: false,
            completes: false,
            due_at: self.now + SignedDuration::from_mins(60),
            now: self.now,
        }
    }
}

fn at(window: &Window, generation: u32, gate: u32) -> At<'_> {
    At { window, generation, gate, room: Room::Any, now: now() }
}

fn closed(window: &Window, generation: u32, gates: &[Option<Gate>]) -> ClosedWindow {
    ClosedWindow {
        window: window.clone(),
        generation,
        ended_by: GatherEnd::Complete,
        cause: None,
        counts: gates.iter().map(|gate| gate.as_ref().map_or(0, |gate| gate.count)).collect(),
        opened_at: now(),
        closed_at: now(),
        marker: None,
        listed_after: None,
        listed_until: None,
        progress: None,
        outcome: None,
    }
}

impl World {
    async fn close(&self, window: &Window, generation: u32) -> ClosedWindow {
        let gates = self.ledger.gates(window, now()).await.unwrap();
        let closed = closed(window, generation, &gates);
        assert!(self.ledger.close_window(&closed, &gates).await.unwrap());
        closed
    }

    async fn due_windows(&self, minutes: i64) -> Vec<DueWindow> {
        let at = now() + SignedDuration::from_mins(minutes);
        let mut due = Vec::new();
        for shard in 0..WINDOW_DUE_SHARDS {
            let found = self.ledger.due_windows(shard, at, 50).await.unwrap();
            due.extend(found.into_iter().map(Result::unwrap));
        }
        due
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_comes_in_once_and_its_row_is_as_it_was() {
    let world = world().await;
    let window = Window::new("train", "wine", 2);
    assert_eq!(at(&window, 0, 0).admit(&world, 1).await, Admitted::Joined);
    let Admitted::Known(row) = at(&window, 0, 1).admit(&world, 1).await else { panic!() };
    assert_eq!((&row.member, row.gate, row.generation), (&member(1), 0, 0));
    let gates = world.ledger.gates(&window, now()).await.unwrap();
    assert_eq!(gates[0].as_ref().map(|gate| gate.count), Some(1));
    assert_eq!(gates[1], None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_has_the_room_that_it_is_asked_for() {
    let world = world().await;
    let window = Window::new("train", "wine", 1);
    let below = |count| At { room: Room::Below(count), ..at(&window, 0, 0) };
    assert_eq!(below(2).admit(&world, 1).await, Admitted::Joined);
    assert_eq!(below(2).admit(&world, 2).await, Admitted::Joined);
    assert!(matches!(below(2).admit(&world, 3).await, Admitted::Refused(Some(_))));

    let typed = Window::new("train", "typed", 1);
    let own = "ml.label.approved.v1".to_owned();
    let missing = |others| At { room: Room::TypesMissing(others), ..at(&typed, 0, 0) };
    let (other, same) = (["ml.label.drawn.v1".to_owned()], [own.clone()]);
    assert_eq!(missing(&other[..]).admit(&world, 4).await, Admitted::Joined);
    let Admitted::Refused(Some(gate)) = missing(&same[..]).admit(&world, 5).await else { panic!() };
    assert_eq!(gate.types, BTreeSet::from([own]));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_slips_into_a_window_while_it_is_closed() {
    let world = world().await;
    let window = Window::new("train", "wine", 4);
    let arrivals = (0..80).map(|number| {
        let (window, ledger) = (window.clone(), world.ledger.clone());
        tokio::spawn(async move {
            let (member, id) = (member(number), member_id("train", "/app", &number.to_string()));
            let gate = u32::try_from(number % 4).unwrap();
            let at = At { window: &window, generation: 0, gate, room: Room::Any, now: now() };
            ledger.admit(&at.admission(&member, &id)).await.unwrap()
        })
    });
    let arrivals: Vec<_> = arrivals.collect();
    let closed = loop {
        let gates = world.ledger.gates(&window, now()).await.unwrap();
        let closed = closed(&window, 0, &gates);
        if world.ledger.close_window(&closed, &gates).await.unwrap() {
            break closed;
        }
    };
    let mut joined = 0;
    for arrival in arrivals {
        joined += u64::from(arrival.await.unwrap() == Admitted::Joined);
    }
    assert_eq!(closed.count(), joined, "whoever is in was in before it was closed");
    let mut listed = 0;
    for gate in 0..4 {
        let page = world.ledger.members(&window.id, 0, gate, None).await.unwrap();
        listed += page.members.len() as u64;
    }
    assert_eq!(listed, joined);
}

/// An event or a marker that comes between the look and the closing is not left behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_is_closed_only_as_it_was_looked_at() {
    let world = world().await;
    let window = Window::new("train", "wine", 2);
    at(&window, 0, 0).admit(&world, 1).await;
    for (number, gate, fate) in
        [(2, 0, Fate::Gathered), (3, 1, Fate::Gathered), (4, 0, Fate::Marker)]
    {
        let gates = world.ledger.gates(&window, now()).await.unwrap();
        let (member, id) = (member(number), member_id("train", "/app", &number.to_string()));
        let at = at(&window, 0, gate);
        let admission = Admission { fate, ..at.admission(&member, &id) };
        assert_eq!(world.ledger.admit(&admission).await.unwrap(), Admitted::Joined);
        let stale = closed(&window, 0, &gates);
        assert!(!world.ledger.close_window(&stale, &gates).await.unwrap(), "{number} was lost");
    }
    assert_eq!(world.close(&window, 0).await.counts, [2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_follow_each_other_and_each_is_closed_once() {
    let world = world().await;
    let window = Window::new("train", "wine", 2);
    at(&window, 0, 0).admit(&world, 1).await;
    let gates = world.ledger.gates(&window, now()).await.unwrap();
    let first = world.close(&window, 0).await;
    assert!(!world.ledger.close_window(&first, &gates).await.unwrap(), "it is closed");

    // The gate that nobody came through has moved on with the other.
    for gate in 0..2 {
        let refused = at(&window, 0, gate).admit(&world, 2).await;
        let Admitted::Refused(Some(found)) = refused else { panic!("{refused:?}") };
        assert_eq!((found.generation, found.count), (1, 0));
        assert_eq!(found.previous.map(|one| one.ended_by), Some(GatherEnd::Complete));
    }
    assert_eq!(at(&window, 1, 1).admit(&world, 2).await, Admitted::Joined);
    assert!(matches!(at(&window, 1, 0).admit(&world, 1).await, Admitted::Known(_)));
    assert_eq!(world.close(&window, 1).await.counts, [0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_in_pages_each_once() {
    let world = world().await;
    let window = Window::new("train", "wine", 1);
    // So large that one answer, of 1 MB, cannot hold them all.
    let large = "x".repeat(300_000);
    for number in 0..8 {
        let mut member = member(number);
        member.event.data = Some(json!(large));
        let id = member_id("train", "/app", &number.to_string());
        let at = at(&window, 0, 0);
        assert_eq!(
            world.ledger.admit(&at.admission(&member, &id)).await.unwrap(),
            Admitted::Joined
        );
    }
    world.close(&window, 0).await;
    let (mut ids, mut pages, mut cursor) = (Vec::new(), 0, None);
    loop {
        let page = world.ledger.members(&window.id, 0, 0, cursor.as_deref()).await.unwrap();
        ids.extend(page.members.into_iter().map(|member| member.event.event_id.unwrap()));
        pages += 1;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert!(pages > 1, "one page");
    ids.sort();
    assert_eq!(ids, ["0", "1", "2", "3", "4", "5", "6", "7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_of_windows_is_found_until_it_is_done() {
    let world = world().await;
    let window = Window::new("train", "wine", 3);
    at(&window, 0, 2).admit(&world, 1).await;
    assert_eq!(world.due_windows(59).await, []);
    let due = world.due_windows(60).await;
    let [DueWindow::Open(gate)] = &due[..] else { panic!("{due:?}") };
    assert_eq!((gate.gate, gate.count), (2, 1));
    let later = now() + SignedDuration::from_mins(90);
    assert!(world.ledger.put_off_gate(gate, later).await.unwrap());
    assert!(!world.ledger.put_off_gate(gate, later).await.unwrap(), "only one puts it off");
    assert_eq!(world.due_windows(60).await, []);

    let closed = world.close(&window, 0).await;
    world.ledger.put_off_gate(gate, now()).await.unwrap();
    assert_eq!(world.due_windows(0).await, [], "a gate that moved on is not due again");
    assert_eq!(world.due_windows(1).await, [DueWindow::Closed(Box::new(closed.clone()))]);
    let progress = Progress { cursor: "{}".to_owned(), partial_key: "k".to_owned() };
    let again = now() + SignedDuration::from_mins(5);
    world.ledger.put_off_closed(&closed, Some(&progress), again).await.unwrap();
    assert_eq!(world.due_windows(4).await, []);
    let due = world.due_windows(5).await;
    let [DueWindow::Closed(resumed)] = &due[..] else { panic!("{due:?}") };
    assert_eq!(resumed.progress, Some(progress));
    world.ledger.record_outcome(&closed, &Outcome::Started("s".to_owned())).await.unwrap();
    assert_eq!(world.due_windows(10_000).await, []);
}

/// A gate has time to live for as long as a window can be open, whoever comes; all
/// gates are given it anew together, and forgotten together.
#[tokio::test(flavor = "multi_thread")]
async fn no_gate_of_an_open_window_is_forgotten() {
    let world = world().await;
    let window = Window::new("train", "wine", 2);
    at(&window, 0, 0).admit(&world, 1).await;
    world.close(&window, 0).await;
    let retention = SignedDuration::from_hours(24 * i64::from(RETENTION_DAYS));
    let old = now() + retention + SignedDuration::from_secs(1);
    let late = At { now: old, ..at(&window, 1, 0) };
    let refused = late.admit(&world, 2).await;
    let Admitted::Refused(Some(gate)) = &refused else { panic!("{refused:?}") };
    let (event, id) = (member(2), member_id("train", "/app", "2"));
    assert_eq!(late.admission(&event, &id).refusal(Some(gate)), Some(Refusal::Expiring));
    let gates = world.ledger.gates(&window, old).await.unwrap();
    assert!(world.ledger.renew_gates(&window, &gates, old).await.unwrap());
    assert_eq!(late.admit(&world, 2).await, Admitted::Joined);

    let gone = old + retention + GATE_MARGIN + SignedDuration::from_secs(1);
    let gates = world.ledger.gates(&window, gone).await.unwrap();
    assert_eq!(gates, [None, None], "past its expiry a gate counts as not there");
    assert!(world.ledger.renew_gates(&window, &gates, gone).await.unwrap());
    let anew = At { now: gone, ..at(&window, 0, 1) };
    assert_eq!(anew.admit(&world, 3).await, Admitted::Joined);
}
