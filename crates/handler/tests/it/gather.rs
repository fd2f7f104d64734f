//! Many events, one start: against a real ledger, real buckets and real state machines.

mod crashes;
mod deployed;
mod ends;
mod links;
mod objects;

use bellwire_handler::Moment;
use bellwire_schema::Envelope;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::world::{World, delivery};

pub(crate) const DATA: &str = "wine-data";

pub(crate) const WORKFLOW: &str = r#"
workflow = "wine"
[claim_check]
bucket = "wine-lake"
[[event]]
type = "label.counted"
[[event]]
type = "label.heard"
[[event]]
type = "label.drawn"
[[event]]
type = "label.checked"
[[event]]
type = "label.timed"
[[event]]
type = "label.massed"
[[source]]
name = "raw"
kind = "s3"
bucket = "wine-data"
prefix = "raw/"
suffix = ".csv"
emits = "data.arrived"
dataset = "wine"
[[source]]
name = "lists"
kind = "s3"
bucket = "wine-data"
prefix = "lists/"
suffix = ".csv"
emits = "data.arrived"
dataset = "beer"
[[trigger]]
name = "counted"
stage = "collection"
on = "label.counted"
gather = { count = 3, by = "$.data.batch", within = "10m" }
start = { step-functions = "counted.asl.json" }
[[trigger]]
name = "heard"
stage = "collection"
on = "label.heard"
gather = { quiet = "30s", by = "$.data.batch" }
start = { step-functions = "heard.asl.json" }
[[trigger]]
name = "paired"
stage = "collection"
on = ["label.drawn", "label.checked"]
gather = { all_of = ["label.drawn", "label.checked"], by = "$.data.batch" }
start = { step-functions = "paired.asl.json" }
input = { drawn = "$.data.members[?@.event_type == 'ml.label.drawn.v1'].data.n", list = "$.dataref" }
[[trigger]]
name = "timed"
stage = "collection"
on = "label.timed"
gather = { count = 3, by = "$.data.batch", within = "10m", on_deadline = "start" }
start = { step-functions = "timed.asl.json" }
[[trigger]]
name = "massed"
stage = "collection"
on = "label.massed"
gather = { count = 3000, by = "$.data.batch" }
start = { step-functions = "massed.asl.json" }
[[trigger]]
name = "marked"
stage = "training"
on = "data.arrived"
where = { dataset = ["wine"], data.size_bytes = [{ numeric = [">", 0] }] }
gather = { marker = "_SUCCESS", within = "1h" }
start = { step-functions = "marked.asl.json" }
[[trigger]]
name = "listed"
stage = "training"
on = "data.arrived"
where = { dataset = ["beer"] }
gather = { manifest = "manifest.json", within = "1h" }
start = { step-functions = "listed.asl.json" }
"#;

const MACHINES: [&str; 7] = ["counted", "heard", "paired", "timed", "massed", "marked", "listed"];

pub(crate) async fn world() -> World {
    World::of(WORKFLOW, &MACHINES, |_| {}).await
}

/// A moment so many seconds from now.
pub(crate) fn after(seconds: i64) -> Moment {
    let now = Timestamp::now() + SignedDuration::from_secs(seconds);
    Moment { now, deadline: now + SignedDuration::from_mins(1) }
}

pub(crate) fn label(verb: &str, batch: &str, number: usize) -> Envelope {
    let event_type = format!("label.{verb}").parse().unwrap();
    let event = Envelope::new(&format!("{verb}-{batch}-{number}"), "/app", event_type);
    event.with_payload(&json!({ "batch": batch, "n": number }))
}

impl World {
    pub(crate) async fn arrives(&self, event: &Envelope, moment: Moment) {
        self.handler.handle(&delivery(event), moment).await.unwrap();
    }

    pub(crate) async fn sweep(&self, moment: Moment) {
        self.handler.handle(&json!({ "bellwire": "sweep" }), moment).await.unwrap();
    }

    /// The inputs of a trigger's runs.
    pub(crate) async fn inputs(&self, trigger: &str) -> Vec<Value> {
        let mut inputs = Vec::new();
        for run in self.executions(trigger).await {
            inputs.push(serde_json::from_str(&self.input_of(&run).await).unwrap());
        }
        inputs
    }

    pub(crate) async fn only_input(&self, trigger: &str) -> Value {
        let inputs = self.inputs(trigger).await;
        let [input] = &inputs[..] else { panic!("one run of {trigger}: {inputs:?}") };
        input.clone()
    }

    /// What the ledger keeps of an event that a trigger gathers.
    pub(crate) async fn member_row(&self, trigger: &str, source: &str, id: &str) -> Value {
        let id = bellwire_schema::gathered::member_id(trigger, source, id);
        let get = self.clients.dynamodb.get_item().table_name("wine-ledger");
        let key = aws_sdk_dynamodb::types::AttributeValue::S(format!("member#{id}"));
        let item = get.key("pk", key).send().await.unwrap().item.expect("it is remembered");
        serde_dynamo::from_attribute_value(item["row"].clone()).unwrap()
    }

    /// The lines of the list that an input points to.
    pub(crate) async fn list_of(&self, input: &Value) -> Vec<Value> {
        let uri = input["dataref"].as_str().expect("there is a list");
        let (bucket, key) = uri.strip_prefix("s3://").unwrap().split_once('/').unwrap();
        let get = self.clients.s3.get_object().bucket(bucket).key(key).send().await.unwrap();
        let bytes = get.body.collect().await.unwrap().to_vec();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The ids of an input's members, sorted.
pub(crate) fn ids(input: &Value) -> Vec<String> {
    let members = input["data"]["members"].as_array().expect("it has its members");
    let id = |member: &Value| member["event_id"].as_str().unwrap_or("none").to_owned();
    let mut ids: Vec<_> = members.iter().map(id).collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_events_are_one_run_with_each_of_them_once() {
    let world = world().await;
    for number in [1, 2, 1, 2, 2] {
        world.arrives(&label("counted", "a", number), after(0)).await;
    }
    world.arrives(&label("counted", "b", 1), after(0)).await;
    assert_eq!(
        world.inputs("counted").await.len(),
        0,
        "two are not three, however often they come"
    );
    world.arrives(&label("counted", "a", 3), after(0)).await;
    let input = world.only_input("counted").await;
    assert_eq!(ids(&input), ["counted-a-1", "counted-a-2", "counted-a-3"]);
    assert_eq!(
        (&input["data"]["key"], &input["data"]["ended_by"]),
        (&json!("a"), &json!("complete"))
    );
    assert_eq!(world.list_of(&input).await.len(), 3);

    // Duplicates open no new window; the next three are another run.
    for number in [3, 2, 1, 4, 5, 1] {
        world.arrives(&label("counted", "a", number), after(1)).await;
    }
    assert_eq!(world.inputs("counted").await.len(), 1);
    world.arrives(&label("counted", "a", 6), after(1)).await;
    let inputs = world.inputs("counted").await;
    assert_eq!(inputs.len(), 2);
    let all: std::collections::BTreeSet<_> = inputs.iter().flat_map(ids).collect();
    assert_eq!(all.len(), 6, "no event is in two windows");
    world.assert_no_dead_letter().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_come_at_once_are_each_in_one_window() {
    let world = world().await;
    let deliveries = (0..30).map(|index| {
        let (handler, event) = (world.handler.clone(), label("counted", "a", index % 15));
        tokio::spawn(async move { handler.handle(&delivery(&event), after(0)).await })
    });
    for delivery in deliveries.collect::<Vec<_>>() {
        delivery.await.unwrap().unwrap();
    }
    let inputs = world.inputs("counted").await;
    let members: Vec<String> = inputs.iter().flat_map(ids).collect();
    let all: std::collections::BTreeSet<_> = members.iter().collect();
    assert_eq!((inputs.len(), members.len(), all.len()), (5, 15, 15));
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_starts_when_nothing_has_come_for_so_long() {
    let world = world().await;
    world.arrives(&label("heard", "a", 1), after(0)).await;
    world.sweep(after(20)).await;
    world.arrives(&label("heard", "a", 2), after(25)).await;
    world.sweep(after(40)).await;
    assert_eq!(world.inputs("heard").await.len(), 0, "it was heard fifteen seconds ago");
    world.sweep(after(60)).await;
    let input = world.only_input("heard").await;
    assert_eq!(ids(&input), ["heard-a-1", "heard-a-2"]);
    world.sweep(after(600)).await;
    world.arrives(&label("heard", "a", 2), after(700)).await;
    world.sweep(after(800)).await;
    assert_eq!(world.inputs("heard").await.len(), 1, "a duplicate opens no window");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_each_type_is_a_run_and_its_input_picks_of_them() {
    let world = world().await;
    for (verb, batch, number) in
        [("drawn", "a", 1), ("drawn", "a", 2), ("checked", "b", 3), ("drawn", "a", 2)]
    {
        world.arrives(&label(verb, batch, number), after(0)).await;
    }
    assert_eq!(world.inputs("paired").await.len(), 0, "they are of two keys");
    world.arrives(&label("checked", "a", 4), after(0)).await;
    let input = world.only_input("paired").await;
    assert_eq!(input["drawn"], json!([1, 2]));
    assert!(input["list"].as_str().unwrap().starts_with("s3://wine-lake/"), "{input}");
    world.arrives(&label("drawn", "b", 5), after(0)).await;
    assert_eq!(world.inputs("paired").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_one_call_whatever_its_window_holds() {
    let world = world().await;
    let mut units = Vec::new();
    for number in 0..200 {
        world.calls.take();
        world.arrives(&label("massed", "a", number), after(0)).await;
        assert_eq!(world.calls.take(), ["TransactWriteItems"], "event {number}");
        units.push(world.calls.take_units());
    }
    println!("write units of an event: first {}, last {}", units[0], units[199]);
    assert_eq!(units[0], units[199]);
    world.arrives(&label("massed", "a", 7), after(0)).await;
    assert_eq!(world.calls.take(), ["TransactWriteItems"], "a duplicate");

    // The generation that is open is known once it was asked for.
    for number in 1..=3 {
        world.arrives(&label("counted", "a", number), after(0)).await;
    }
    world.calls.take();
    world.arrives(&label("counted", "a", 4), after(0)).await;
    assert_eq!(world.calls.take().len(), 1);
}
