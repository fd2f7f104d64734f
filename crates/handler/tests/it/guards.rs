//! What holds starts back: on a real ledger, with days and minutes told to the handler.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use bellwire_handler::plan::plan_start;
use bellwire_handler::{Handler, Model, Moment};
use bellwire_ledger::{GuardName, StartRow, State};
use bellwire_schema::completion::{CompletionOrigin, RunCompletion, RunResource, RunStatus};
use bellwire_schema::{Envelope, EventContext, Stage};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::world::{self, World, delivery, settings_of};

const WORKFLOW: &str = r#"
workflow = "wine"
[claim_check]
bucket = "wine-lake"
[[event]]
type = "label.approved"
[[event]]
type = "label.counted"
[[trigger]]
name = "label"
stage = "training"
on = "label.approved"
start = { step-functions = "label.asl.json" }
expected_duration = "10m"
guards = { GUARDS }
[[trigger]]
name = "counted"
stage = "collection"
on = "label.counted"
gather = { count = 2, by = "$.data.batch", within = "10m" }
start = { step-functions = "counted.asl.json" }
guards = { max_starts_per_day = 1 }
"#;

const DAY: SignedDuration = SignedDuration::from_hours(24);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn workflow(guards: &str) -> String {
    WORKFLOW.replace("GUARDS", guards)
}

/// A workflow whose `label` trigger has these guards, and noon of the day on which it begins.
pub(crate) async fn world(guards: &str) -> (World, Timestamp) {
    let world = World::of(&workflow(guards), &["label", "counted"], |_| {}).await;
    (world, noon())
}

/// Of tomorrow: whoever looks at a row's real time finds it within its days.
fn noon() -> Timestamp {
    let midnight = Timestamp::now().as_second().div_euclid(86_400) * 86_400;
    Timestamp::from_second(midnight + 86_400 + 43_200).unwrap()
}

fn approved(id: &str) -> Envelope {
    let event = Envelope::new(id, "/app", "label.approved".parse().unwrap());
    event.with_payload(&json!({ "batch": 7 }))
}

fn counted(id: &str, batch: &str) -> Envelope {
    let event = Envelope::new(id, "/app", "label.counted".parse().unwrap());
    event.with_payload(&json!({ "batch": batch }))
}

fn moment(now: Timestamp) -> Moment {
    Moment { now, deadline: now + MINUTE }
}

impl World {
    pub(crate) async fn approve(&self, id: &str, now: Timestamp) {
        self.handler.handle(&delivery(&approved(id)), moment(now)).await.unwrap();
    }

    async fn sweep_to(&self, now: Timestamp) {
        self.handler.handle(&json!({ "bellwire": "sweep" }), moment(now)).await.unwrap();
    }

    /// The starts of a day, by event.
    async fn starts_on(&self, day: Timestamp) -> BTreeMap<String, StartRow> {
        let rows = self.ledger.starts_of_day(day).await.unwrap();
        rows.into_iter().map(|row| (row.start.cause.id.clone(), row)).collect()
    }

    async fn states(&self, day: Timestamp) -> BTreeMap<Word, Vec<String>> {
        let mut states: BTreeMap<Word, Vec<String>> = BTreeMap::new();
        for (id, row) in self.starts_on(day).await {
            states.entry(row.state.as_str()).or_default().push(id);
        }
        states
    }

    /// What was started of a day's events, whether it ended or not.
    async fn started(&self, day: Timestamp) -> Vec<String> {
        let rows = self.starts_on(day).await.into_iter();
        let is_started = |row: &StartRow| matches!(row.state, State::Started | State::Completed);
        rows.filter(|(_, row)| is_started(row)).map(|(id, _)| id).collect()
    }

    /// The trigger's row of guards; a number of it.
    async fn guard(&self, name: &str) -> i64 {
        let key = AttributeValue::S("guard#label".to_owned());
        let get = self.clients.dynamodb.get_item().table_name("wine-ledger").key("pk", key);
        let item = get.consistent_read(true).send().await.unwrap().item.unwrap_or_default();
        item.get(name).map_or(0, |value| value.as_n().unwrap().parse().unwrap())
    }

    /// As though so many had been started on a day.
    async fn have_started(&self, day: Timestamp, count: u32) {
        let key = AttributeValue::S("guard#label".to_owned());
        let update = self.clients.dynamodb.update_item().table_name("wine-ledger").key("pk", key);
        let update = update.update_expression("SET #day = :count");
        let update = update.expression_attribute_names("#day", starts_of(day));
        let update =
            update.expression_attribute_values(":count", AttributeValue::N(count.to_string()));
        update.send().await.unwrap();
    }

    /// Delivers events side by side, each so many times.
    async fn side_by_side(&self, ids: &[String], times: usize, now: Timestamp) {
        let deliver = |id: &String| {
            let (handler, event) = (Arc::clone(&self.handler), delivery(&approved(id)));
            tokio::spawn(async move { handler.handle(&event, moment(now)).await })
        };
        let all = (0..times).flat_map(|_| ids.iter().map(deliver)).collect::<Vec<_>>();
        for delivered in all {
            delivered.await.unwrap().unwrap();
        }
    }

    async fn complete(&self, id: &str, now: Timestamp) {
        let row = self.starts_on(now).await.remove(id).unwrap();
        let completed = completion_of(&row, now);
        self.handler.handle(&delivery(&completed), moment(now)).await.unwrap();
    }
}

type Word = &'static str;

fn starts_of(day: Timestamp) -> String {
    format!("starts#{}", &day.to_string()[..10])
}

fn completion_of(row: &StartRow, now: Timestamp) -> Envelope {
    let completion = RunCompletion {
        run_arn: row.start.run_arn.clone().unwrap(),
        resource: RunResource::StateMachine(world::machine_arn("label")),
        status: RunStatus::Succeeded,
        redrive_count: 0,
        started_at: None,
        stopped_at: Some(now),
        input: None,
        output: None,
        metrics: BTreeMap::default(),
        artifacts: Vec::new(),
        error: None,
        cause: None,
    };
    completion.to_envelope(&CompletionOrigin {
        stage: Stage::Training,
        trigger: None,
        dataset: None,
        context: EventContext::default(),
    })
}

fn ids(numbers: std::ops::RangeInclusive<u32>) -> Vec<String> {
    numbers.map(|number| format!("e-{number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_past_a_days_limit_waits_for_the_next_day() {
    // The default, which nobody wrote down.
    let (world, noon) = world("").await;
    world.have_started(noon, 999).await;
    world.approve("e-1", noon).await;
    world.approve("e-2", noon + MINUTE).await;
    assert_eq!(world.guard(&starts_of(noon)).await, 1000);
    assert_eq!(world.executions("label").await.len(), 1);
    let held = world.starts_on(noon).await.remove("e-2").unwrap();
    let why = held.held.clone().unwrap();
    assert_eq!((held.state, why.by), (State::Held, GuardName::MaxStartsPerDay));
    let midnight = noon + SignedDuration::from_hours(12);
    assert_eq!(why.until, Some(midnight));

    world.sweep_to(midnight - SignedDuration::from_secs(1)).await;
    assert_eq!(world.executions("label").await.len(), 1, "the day is not over");
    // On the next day it goes before what comes then.
    world.approve("e-3", midnight).await;
    assert_eq!(world.states(midnight).await, BTreeMap::from([("held", vec!["e-3".to_owned()])]));
    world.sweep_to(midnight + MINUTE).await;
    let runs = world.executions("label").await;
    assert_eq!(runs.len(), 3);
    let released = world.starts_on(noon).await.remove("e-2").unwrap();
    assert_eq!(released.state, State::Started);
    assert_eq!(released.start, held.start, "with the name and the input that it came with");
    assert_eq!(world.input_of(released.start.run_arn.as_deref().unwrap()).await, held.start.input);
    assert_eq!(released.held.unwrap().released_at, Some(midnight + MINUTE));
    assert_eq!(world.guard(&starts_of(midnight)).await, 2);
    assert_eq!(world.guard("waiting").await, 0);
    world.sweep_to(midnight + MINUTE * 2).await;
    world.approve("e-4", midnight + MINUTE * 3).await;
    assert_eq!(world.executions("label").await.len(), 4, "nobody waits any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_released_in_order_as_far_as_the_day_allows() {
    let (world, noon) = world("max_starts_per_day = 2").await;
    for (number, id) in ids(1..=6).iter().enumerate() {
        let later = SignedDuration::from_millis(i64::try_from(number).unwrap());
        world.approve(id, noon + later).await;
    }
    for (days, started) in [(0, 2), (1, 4), (2, 6), (3, 6)] {
        world.sweep_to(noon + DAY * days).await;
        let mut states = world.states(noon).await;
        assert_eq!(world.started(noon).await, ids(1..=started), "day {days}");
        assert_eq!(states.remove("held").unwrap_or_default(), ids(started + 1..=6), "day {days}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_start_side_by_side_than_a_day_allows_and_duplicates_count_once() {
    let (world, noon) = world("max_starts_per_day = 3").await;
    world.side_by_side(&ids(1..=8), 3, noon).await;
    assert_eq!(world.executions("label").await.len(), 3);
    assert_eq!(world.guard(&starts_of(noon)).await, 3);
    let states = world.states(noon).await;
    assert_eq!((states["started"].len(), states["held"].len()), (3, 5));
    assert_eq!(world.guard("waiting").await, 5);
    // What is held is held once, however often its event comes.
    world.side_by_side(&ids(1..=8), 2, noon + MINUTE).await;
    assert_eq!(world.guard("waiting").await, 5);
    assert_eq!(world.executions("label").await.len(), 3);
    // Two sweeps at one time release each once.
    let tomorrow = noon + DAY;
    tokio::join!(world.sweep_to(tomorrow), world.sweep_to(tomorrow));
    assert_eq!(world.guard(&starts_of(tomorrow)).await, 3);
    assert_eq!(world.executions("label").await.len(), 6);
    assert_eq!(world.guard("waiting").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_behind_the_claim_is_counted_once() {
    let (world, noon) = world("max_starts_per_day = 1, max_concurrent = 5").await;
    let model = Model::compile(settings_of(&workflow("max_starts_per_day = 1"))).unwrap();
    let trigger = &model.triggers[0];
    let start = plan_start(&model, trigger, &approved("e-1"), EventContext::default()).unwrap();
    let mut guards = trigger.trigger.guards.clone();
    guards.max_concurrent = Some(5);
    world.ledger.claim_guarded(&start, &guards, noon).await.unwrap();
    assert_eq!(world.executions("label").await.len(), 0, "whoever claimed it died");
    world.approve("e-1", noon).await;
    world.approve("e-1", noon).await;
    world.sweep_to(noon + MINUTE * 5).await;
    assert_eq!(world.executions("label").await.len(), 1);
    assert_eq!(world.guard(&starts_of(noon)).await, 1);
    assert_eq!(world.guard("running").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn between_two_starts_the_cooldown_passes() {
    let (world, noon) = world("cooldown = \"10m\"").await;
    for (id, minutes) in [("e-1", 0), ("e-2", 1), ("e-3", 2)] {
        world.approve(id, noon + MINUTE * minutes).await;
    }
    let held = world.starts_on(noon).await.remove("e-2").unwrap().held.unwrap();
    assert_eq!((held.by, held.until), (GuardName::Cooldown, Some(noon + MINUTE * 10)));
    let just_before = noon + MINUTE * 10 - SignedDuration::from_millis(1);
    for (at, started) in [
        (just_before, 1),
        (noon + MINUTE * 10, 2),
        (noon + MINUTE * 19, 2),
        (noon + MINUTE * 20, 3),
    ] {
        world.sweep_to(at).await;
        assert_eq!(world.started(noon).await, ids(1..=started), "{at}");
    }
    world.approve("e-4", noon + MINUTE * 30).await;
    assert_eq!(world.executions("label").await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_so_many_runs_go_on_and_an_end_makes_room() {
    let (world, noon) = world("max_concurrent = 2").await;
    world.side_by_side(&ids(1..=6), 2, noon).await;
    assert_eq!(world.guard("running").await, 2);
    let states = world.states(noon).await;
    assert_eq!((states["started"].len(), states["held"].len()), (2, 4));
    // Nothing ended: nothing is released.
    world.sweep_to(noon + MINUTE).await;
    assert_eq!(world.executions("label").await.len(), 2);
    // Completions come twice, and make room once.
    let first = states["started"][0].clone();
    world.complete(&first, noon).await;
    world.complete(&first, noon).await;
    assert_eq!(world.guard("running").await, 1);
    tokio::join!(world.sweep_to(noon + MINUTE * 2), world.sweep_to(noon + MINUTE * 2));
    assert_eq!(world.guard("running").await, 2);
    assert_eq!(world.executions("label").await.len(), 3);
    assert_eq!(world.states(noon).await["started"].len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_completion_leaks_no_slot() {
    let (world, noon) = world("max_concurrent = 1").await;
    world.approve("e-1", noon).await;
    world.approve("e-2", noon + MINUTE).await;
    let first = world.starts_on(noon).await.remove("e-1").unwrap();
    world.wait_for_end(first.start.run_arn.as_deref().unwrap()).await;
    world.sweep_to(noon + MINUTE * 9).await;
    assert_eq!(world.executions("label").await.len(), 1, "it may go on until its expected end");
    // The sweep finds that it ended, and then has room.
    world.sweep_to(noon + MINUTE * 11).await;
    let states = world.states(noon).await;
    assert_eq!((&states["completed"], &states["started"]), (&ids(1..=1), &ids(2..=2)));
    assert_eq!(world.guard("running").await, 1);
}

/// A run goes on past its expected end: as long as the sweep is told so, its slot does not
/// lapse, however long that is.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_goes_on_keeps_its_slot() {
    let (world, noon) = world("max_concurrent = 1").await;
    let definition = json!({
        "StartAt": "Long", "States": { "Long": { "Type": "Wait", "Seconds": 3_600, "End": true } },
    });
    let machine = world.clients.sfn.update_state_machine();
    let machine = machine.state_machine_arn(world::machine_arn("label"));
    machine.definition(definition.to_string()).send().await.unwrap();
    world.approve("e-1", noon).await;
    world.approve("e-2", noon + MINUTE).await;
    let row = world.starts_on(noon).await.remove("e-1").unwrap();
    let slot = format!("slot#{}", row.start.start_key);
    assert_eq!(world.guard(&slot).await, (noon + MINUTE * 40).as_second());
    for minutes in [11, 41, 60] {
        let now = noon + MINUTE * minutes;
        world.sweep_to(now).await;
        assert_eq!(world.executions("label").await.len(), 1, "after {minutes} minutes");
        assert_eq!(world.guard(&slot).await, (now + MINUTE * 30).as_second());
    }
    assert_eq!(world.guard("running").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_nobody_renews_lapses() {
    let (world, noon) = world("max_concurrent = 1").await;
    world.approve("e-1", noon).await;
    let row = world.starts_on(noon).await.remove("e-1").unwrap();
    // Neither the run's end nor its row is ever seen again.
    let key = AttributeValue::S(format!("start#{}", row.start.start_key));
    let delete = world.clients.dynamodb.delete_item().table_name("wine-ledger").key("pk", key);
    delete.send().await.unwrap();
    let over = noon + MINUTE * 40;
    world.approve("e-2", over).await;
    assert_eq!(world.states(noon).await, BTreeMap::from([("held", vec!["e-2".to_owned()])]));
    world.sweep_to(over + MINUTE).await;
    assert_eq!(world.states(noon).await, BTreeMap::from([("started", vec!["e-2".to_owned()])]));
    assert_eq!(world.guard("running").await, 1, "the lapsed slot is gone");
    assert_eq!(world.guard(&format!("slot#{}", row.start.start_key)).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_its_target_refuses_gives_its_slot_back() {
    let world = World::of(&workflow("max_concurrent = 1"), &["counted"], |_| {}).await;
    let noon = noon();
    for id in ["e-1", "e-2"] {
        world.approve(id, noon).await;
        assert_eq!(world.starts_on(noon).await[id].state, State::Refused);
    }
    assert_eq!(world.guard("running").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_seen_and_never_started() {
    let (world, noon) = world("max_starts_per_day = 1, when_held = \"drop\"").await;
    for id in ["e-1", "e-2", "e-2"] {
        world.approve(id, noon).await;
    }
    let dropped = world.starts_on(noon).await.remove("e-2").unwrap();
    assert_eq!(dropped.state, State::Dropped);
    assert_eq!(dropped.held.unwrap().by, GuardName::MaxStartsPerDay);
    let tomorrow = noon + DAY;
    world.sweep_to(tomorrow).await;
    world.approve("e-2", tomorrow).await;
    assert_eq!(world.executions("label").await.len(), 1, "its duplicate starts nothing either");
    world.approve("e-3", tomorrow).await;
    assert_eq!(world.executions("label").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gathered_window_is_held_too() {
    let (world, noon) = world("").await;
    for (id, batch) in [("a-1", "a"), ("a-2", "a"), ("b-1", "b"), ("b-2", "b")] {
        world.handler.handle(&delivery(&counted(id, batch)), moment(noon)).await.unwrap();
    }
    let runs = world.states(noon).await;
    assert_eq!((runs["started"].len(), runs["held"].len()), (1, 1));
    world.sweep_to(noon + MINUTE).await;
    assert_eq!(world.states(noon).await["held"].len(), 1, "the window is closed, and waits");
    world.sweep_to(noon + DAY).await;
    assert_eq!(world.started(noon).await.len(), 2);
    world.assert_no_dead_letter().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_start_is_two_calls_and_its_duplicate_one() {
    let (world, noon) = world("max_starts_per_day = 1").await;
    world.approve("e-1", noon).await;
    world.calls.take();
    world.approve("e-2", noon).await;
    assert_eq!(world.calls.take(), ["TransactWriteItems", "TransactWriteItems"]);
    world.approve("e-2", noon).await;
    assert_eq!(world.calls.take(), ["TransactWriteItems"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_collides_is_tried_again_and_counted_once() {
    let (world, noon) = world("max_starts_per_day = 2").await;
    // Its first answer is lost: it meets its own claim.
    world.calls.collide(1);
    world.approve("e-1", noon).await;
    assert_eq!(world.executions("label").await.len(), 1);
    assert_eq!(world.guard(&starts_of(noon)).await, 1);
}

/// Others come between at each attempt: the start waits, though what is held is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn what_never_has_its_turn_is_held_and_released_and_counted_once() {
    let (world, noon) = world("max_starts_per_day = 5, when_held = \"drop\"").await;
    world.calls.turn_away(true);
    world.approve("e-1", noon).await;
    world.calls.turn_away(false);
    let calls = world.calls.take();
    assert_eq!(calls.iter().filter(|call| *call == "PutItem").count(), 1, "{calls:?}");
    let held = world.starts_on(noon).await.remove("e-1").unwrap();
    let why = held.held.unwrap();
    assert_eq!((held.state, why.by), (State::Held, GuardName::Contention));
    assert_eq!((why.is_counted, world.guard("waiting").await), (false, 0));
    world.assert_no_dead_letter().await;
    world.approve("e-1", noon).await;
    assert_eq!(world.executions("label").await.len(), 0, "its duplicate waits with it");
    world.sweep_to(noon + MINUTE).await;
    assert_eq!(world.started(noon).await, ids(1..=1));
    assert_eq!(world.guard(&starts_of(noon)).await, 1);
    assert_eq!(world.guard("waiting").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_guards_no_longer_hold_is_released_as_the_new_file_says() {
    let (world, noon) = world("max_starts_per_day = 1").await;
    for id in ids(1..=3) {
        world.approve(&id, noon).await;
    }
    let raised: Handler = world.another_handler(&workflow("max_starts_per_day = 2"));
    let sweep: Value = json!({ "bellwire": "sweep" });
    raised.handle(&sweep, moment(noon + MINUTE)).await.unwrap();
    assert_eq!(world.states(noon).await["started"], ids(1..=2));
}
