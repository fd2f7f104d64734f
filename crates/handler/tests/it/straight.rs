//! S3 tells the topic itself, of sources with `via = "topic"`.

use bellwire_publisher::decode::decode;
use bellwire_publisher::route::{Draft, Routed, Rules};
use bellwire_schema::dead_letter::DeadReason;
use serde_json::{Value, json};

use crate::gather::after;
use crate::world::{World, settings_of, sns};

const WORKFLOW: &str = r#"
workflow = "wine"
[topic]
kms_key = "alias/ours"
[[source]]
name = "raw"
kind = "s3"
bucket = "wine-lake"
prefix = "raw/"
suffix = ".csv"
via = "topic"
dataset = "wine"
[[trigger]]
name = "collect"
stage = "collection"
on = "data.arrived"
start = { step-functions = "collect.asl.json" }
[[trigger]]
name = "marked"
stage = "training"
on = "data.arrived"
gather = { marker = "_SUCCESS", within = "1h" }
start = { step-functions = "marked.asl.json" }
"#;

fn record(key: &str) -> Value {
    json!({
        "eventVersion": "2.6", "eventSource": "aws:s3", "awsRegion": "us-east-1",
        "eventTime": "2026-11-22T02:14:08.113Z", "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0", "configurationId": "bellwire-wine-raw",
            "bucket": { "name": "wine-lake", "arn": "arn:aws:s3:::wine-lake" },
            "object": {
                "key": key, "size": 7, "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                "versionId": "v1", "sequencer": "0055AED6DCD90281E5",
            },
        },
    })
}

fn told(records: &[Value]) -> String {
    json!({ "Records": records }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_the_same_event_as_the_publisher_makes_of_it() {
    let world = World::of(WORKFLOW, &["collect", "marked"], |_| {}).await;
    let body = told(&[record("raw/2026/part+1%2B%C3%A9.csv")]);
    for _ in 0..2 {
        world.handler.handle(&sns(&body), after(0)).await.unwrap();
    }
    let by_publisher = WORKFLOW.replace("via = \"topic\"\n", "");
    let settings = settings_of(&by_publisher);
    let rules = Rules::new(&settings.workflow, &settings.deployment, &settings.place);
    let routed = decode(&body).into_iter().map(|record| rules.route(record.unwrap()));
    let [Routed::Event(draft)] = &routed.collect::<Vec<_>>()[..] else { panic!("one event") };
    let Draft::Whole(expected) = &**draft else { panic!("it needs no look-up") };
    assert_eq!(world.executions("collect").await.len(), 1, "a duplicate starts nothing");
    let row = world.row_of(&expected.id).await;
    assert_eq!(row.start.trigger, "collect");
    let input = world.only_input("collect").await;
    assert_eq!(input["data"], expected.to_value()["data"]);
    assert_eq!(input["data"]["key"], "raw/2026/part 1+é.csv");
    assert_eq!(input["correlationid"], json!(expected.id), "it begins a workflow instance");
    assert_eq!(input["dataset"], "wine");
    world.assert_no_dead_letter().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_goes_its_own_way() {
    let world = World::of(WORKFLOW, &["collect", "marked"], |_| {}).await;
    let body = told(&[
        record("raw/2026/a.csv"),
        record("raw/2026/%FF.csv"),
        record("raw/2026/readme.txt"),
        record("raw/2026/"),
        record("raw/2026/b.csv"),
    ]);
    world.handler.handle(&sns(&body), after(0)).await.unwrap();
    assert_eq!(world.executions("collect").await.len(), 2);
    let letter = world.dead_letter().await;
    assert_eq!(letter.reason, DeadReason::KeyNotUtf8);
    assert_eq!(letter.body().unwrap(), body.as_bytes(), "it is whole");
    let test_event = json!({ "Service": "Amazon S3", "Event": "s3:TestEvent" }).to_string();
    world.handler.handle(&sns(&test_event), after(0)).await.unwrap();
    world.assert_no_dead_letter().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_source_asks_for_it_a_notification_is_no_event() {
    let world = World::of(&WORKFLOW.replace("via = \"topic\"\n", ""), &["collect"], |_| {}).await;
    let body = told(&[record("raw/2026/a.csv")]);
    world.handler.handle(&sns(&body), after(0)).await.unwrap();
    assert_eq!(world.dead_letter().await.reason, DeadReason::InvalidEnvelope);
}
