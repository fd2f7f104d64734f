//! Several events in batch mode.

use std::sync::Arc;

use bellwire_publisher::ingest::BATCH_BODY_BYTES_MAX;
use bellwire_publisher::ingest::binding::BATCH_EVENTS_MAX;
use bellwire_schema::limits::{HOP_MAX, SNS_MESSAGE_BYTES_MAX};
use serde_json::{Value, json};

use super::{FakeAdmit, Server, numbered, problem, requested};
use crate::fakes::FakeTopic;

#[tokio::test]
async fn a_batch_is_admitted_whole() {
    let admit = Arc::new(FakeAdmit::default());
    let server = Server::admitting(admit.clone()).await;
    let mut events = numbered(3);
    events[1]["partitionkey"] = json!("mine");
    let response = server.post_batch(&events).await;
    assert_eq!(response.status(), 202);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer, json!({ "ids": ["e-0", "e-1", "e-2"], "status": "accepted" }));
    let calls = std::mem::take(&mut *admit.calls.lock().unwrap());
    assert_eq!(calls.len(), 1);
    let keys: Vec<_> = calls[0].iter().map(|event| event.partitionkey.as_deref()).collect();
    assert_eq!(keys, [None, Some("mine"), None]);

    let response = server.post_batch(&json!([])).await;
    assert_eq!(response.status(), 202);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer, json!({ "ids": [], "status": "accepted" }));
    assert!(admit.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_with_wrong_events_names_each_and_admits_none() {
    let admit = Arc::new(FakeAdmit::default());
    let server = Server::admitting(admit.clone()).await;
    let mut events = numbered(7);
    events[1].as_object_mut().unwrap().remove("id");
    events[1]["source"] = json!("");
    events[2]["type"] = json!("ml.training.requested.v1");
    events[3]["data"] = json!({ "parameters": 7 });
    events[4] = json!("no object");
    events[5]["hop"] = json!(HOP_MAX + 1);
    events[6]["data"] = json!({ "parameters": { "x": "x".repeat(SNS_MESSAGE_BYTES_MAX) } });
    let (status, document) = problem(server.post_batch(&events).await).await;
    assert_eq!((status, &document["type"]), (422, &json!("urn:bellwire:problem:invalid-batch")));
    let problems = document["problems"].as_array().unwrap().iter();
    let found: Vec<_> = problems
        .map(|found| {
            assert!(found["problem"].as_str().is_some_and(|words| !words.is_empty()));
            let text = |name: &str| found[name].as_str().unwrap();
            (found["index"].as_u64().unwrap(), text("field"), text("kind"))
        })
        .collect();
    assert_eq!(
        found,
        [
            (1, "id", "not-a-cloudevent"),
            (1, "source", "not-a-cloudevent"),
            (2, "type", "unknown-type"),
            (3, "data.parameters", "invalid-event"),
            (4, "", "not-a-cloudevent"),
            (5, "hop", "hop-limit"),
            (6, "data", "too-large"),
        ]
    );
    let detail = document["detail"].as_str().unwrap();
    assert!(detail.starts_with("6 of 7 events are wrong, so none was accepted"), "{detail}");
    assert!(admit.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_has_its_limits() {
    let server = Server::start(FakeTopic::default()).await;
    assert_eq!(server.post_batch(&numbered(BATCH_EVENTS_MAX)).await.status(), 202);
    assert_eq!(server.topic.accepted_ids().len(), BATCH_EVENTS_MAX);
    let (status, document) =
        problem(server.post_batch(&numbered(BATCH_EVENTS_MAX + 1)).await).await;
    assert_eq!(status, 413);
    assert_eq!(document["type"], "urn:bellwire:problem:too-many-events");
    assert_eq!(problem(server.post_batch(&requested()).await).await.0, 422);
    let media_type = "application/cloudevents-batch+json";
    let body = format!("[{}]", " ".repeat(BATCH_BODY_BYTES_MAX - 2));
    assert_eq!(server.post(media_type, body.clone()).send().await.unwrap().status(), 202);
    let (status, document) =
        problem(server.post(media_type, body + " ").send().await.unwrap()).await;
    assert_eq!((status, &document["type"]), (413, &json!("urn:bellwire:problem:too-large")));
    assert_eq!(problem(server.post(media_type, "[").send().await.unwrap()).await.0, 400);
}
