//! One event in structured mode.

use bellwire_schema::limits::{HOP_MAX, SNS_MESSAGE_BYTES_MAX};
use serde_json::{Value, json};

use super::{Server, problem, requested, requested_with};
use crate::fakes::FakeTopic;
use crate::samples::TRACEPARENT;

#[tokio::test]
async fn an_accepted_event_is_on_the_topic_and_filled_in() {
    let server = Server::start(FakeTopic::default()).await;
    let response = server.post_event(&requested()).await;
    assert_eq!(response.status(), 202);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer, json!({ "id": "e-1", "status": "accepted" }));
    let event = server.topic.accepted.lock().unwrap()[0].clone();
    assert_eq!(event.dataset.as_deref(), Some("wine"));
    assert_eq!(event.partitionkey, None, "it asks for an order that the client did not");
    assert_eq!(event.context.correlationid.as_deref(), Some("e-1"));
    assert_eq!(event.stage.unwrap().as_str(), "collection");
    assert!(event.time.is_some());
    assert_eq!(event.data.unwrap()["parameters"]["rows"], 100);
}

#[tokio::test]
async fn the_client_s_own_word_stands() {
    let server = Server::start(FakeTopic::default()).await;
    let mut event = requested_with("dataset", json!("beer"));
    event["correlationid"] = json!("c-1");
    event["time"] = json!("2026-11-22T02:14:07Z");
    let response =
        server.post("application/json; charset=UTF-8", event.to_string()).send().await.unwrap();
    assert_eq!(response.status(), 202);
    let event = server.topic.accepted.lock().unwrap()[0].clone();
    assert_eq!(event.dataset.as_deref(), Some("beer"));
    assert_eq!(event.correlation(), "c-1");
    assert_eq!(event.time.unwrap().to_string(), "2026-11-22T02:14:07Z");
}

#[tokio::test]
async fn the_trace_comes_from_the_header_where_the_event_carries_none() {
    let server = Server::start(FakeTopic::default()).await;
    let other = TRACEPARENT.replace("4bf9", "5bf9");
    for (own, header, expected) in [
        (None, Some(TRACEPARENT), Some(TRACEPARENT)),
        (Some(TRACEPARENT), None, Some(TRACEPARENT)),
        (Some(TRACEPARENT), Some(other.as_str()), Some(TRACEPARENT)),
        (None, Some("garbage"), None),
        (None, None, None),
    ] {
        let event = own.map_or_else(requested, |own| requested_with("traceparent", json!(own)));
        let mut request = server.post("application/json", event.to_string());
        if let Some(header) = header {
            request = request.header("traceparent", header);
        }
        assert_eq!(request.send().await.unwrap().status(), 202);
        let event = server.topic.accepted.lock().unwrap().pop().unwrap();
        assert_eq!(event.context.traceparent.as_deref(), expected, "{own:?} {header:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_an_event_is_named() {
    let server = Server::start(FakeTopic::default()).await;
    for (event, kind, field) in [
        (requested_with("data", json!({ "parameters": 7 })), "invalid-event", "data.parameters"),
        (requested_with("stage", json!("training")), "invalid-event", "stage"),
        (requested_with("specversion", json!("0.3")), "not-a-cloudevent", "specversion"),
        (requested_with("traceparent", json!("x")), "not-a-cloudevent", "traceparent"),
    ] {
        let (status, document) = problem(server.post_event(&event).await).await;
        assert_eq!(status, 422, "{document}");
        assert_eq!(document["type"], format!("urn:bellwire:problem:{kind}"));
        assert_eq!(document["problems"][0]["field"], field);
    }
    let mut binary = requested_with("data_base64", json!("AA=="));
    binary.as_object_mut().unwrap().remove("data");
    let (status, document) = problem(server.post_event(&binary).await).await;
    assert_eq!((status, &document["problems"][0]["field"]), (422, &json!("data_base64")));
    let (status, document) =
        problem(server.post_event(&requested_with("hop", json!(HOP_MAX + 1))).await).await;
    assert_eq!((status, &document["type"]), (422, &json!("urn:bellwire:problem:hop-limit")));
    assert!(server.topic.accepted_ids().is_empty());
}

#[tokio::test]
async fn a_type_that_no_http_source_emits_is_refused_with_the_known_ones() {
    let server = Server::start(FakeTopic::default()).await;
    let event = requested_with("type", json!("ml.training.requested.v1"));
    let (status, document) = problem(server.post_event(&event).await).await;
    assert_eq!(status, 422);
    assert_eq!(document["type"], "urn:bellwire:problem:unknown-type");
    assert_eq!(document["known"], json!(["ml.collection.requested.v1"]));
}

#[tokio::test]
async fn what_is_no_json_or_of_another_media_type_is_refused() {
    let server = Server::start(FakeTopic::default()).await;
    let (status, _) = problem(server.post("application/json", "{").send().await.unwrap()).await;
    assert_eq!(status, 400);
    for media_type in
        ["text/plain", "application/cloudevents+avro", "application/json; charset=latin1", ""]
    {
        let response = server.post(media_type, requested().to_string()).send().await.unwrap();
        assert_eq!(
            response.headers()["accept"],
            "application/cloudevents+json, application/cloudevents-batch+json, application/json"
        );
        assert_eq!(problem(response).await.0, 415, "{media_type}");
    }
    let response = server.client.get(format!("{}/v1/events", server.url)).send().await.unwrap();
    assert_eq!(response.headers()["allow"], "POST");
    assert_eq!(problem(response).await.0, 405);
    let response = server.client.get(format!("{}/nowhere", server.url)).send().await.unwrap();
    assert_eq!(problem(response).await.0, 404);
    let response = server.client.get(format!("{}/healthz", server.url)).send().await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn an_event_that_is_too_large_is_refused() {
    let server = Server::start(FakeTopic::default()).await;
    let body = vec![b' '; SNS_MESSAGE_BYTES_MAX + 1];
    let response = server.post("application/json", body).send().await.unwrap();
    assert_eq!(problem(response).await.0, 413);
    // The body fits, and with what is filled in the event does not.
    let event = requested_with("data", json!({ "parameters": { "x": "" } }));
    let room = SNS_MESSAGE_BYTES_MAX - event.to_string().len();
    let event = requested_with("data", json!({ "parameters": { "x": "x".repeat(room) } }));
    let (status, document) = problem(server.post_event(&event).await).await;
    assert_eq!(status, 413);
    assert!(document["detail"].as_str().unwrap().contains("SNS takes 262144"), "{document}");
}
