use std::sync::Arc;

use bellwire_publisher::call::{CallError, Trouble};
use bellwire_publisher::counts::Counts;
use bellwire_publisher::ingest::{Ingest, REQUESTS_MAX, serve};
use bellwire_publisher::pack::Entry;
use bellwire_publisher::publish::EntryResult;
use bellwire_publisher::publish::Outlet;
use bellwire_schema::limits::{HOP_MAX, SNS_MESSAGE_BYTES_MAX};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fakes::{FakeTopic, call_error};
use crate::samples::{TRACEPARENT, workflow};

struct Server {
    url: String,
    topic: Arc<FakeTopic>,
    client: reqwest::Client,
    _stop: DropGuard,
}

impl Server {
    async fn start(topic: FakeTopic) -> Self {
        let topic = Arc::new(topic);
        let ingest = Ingest::new(
            &workflow(),
            Arc::new(Outlet::new(topic.clone(), 16)),
            Arc::new(Counts::default()),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(serve(Arc::new(ingest), listener, stop.clone()));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url, topic, client, _stop: stop.drop_guard() }
    }

    fn post(&self, content_type: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.client
            .post(format!("{}/v1/events", self.url))
            .header("content-type", content_type)
            .body(body)
    }

    async fn post_event(&self, event: &Value) -> Response {
        self.post("application/cloudevents+json", event.to_string()).send().await.unwrap()
    }
}

fn requested() -> Value {
    json!({
        "specversion": "1.0", "id": "e-1", "source": "/wine-app", "type": "ml.collection.requested.v1",
        "data": { "parameters": { "rows": 100 } },
    })
}

fn requested_with(name: &str, value: Value) -> Value {
    let mut event = requested();
    event[name] = value;
    event
}

/// The status and document of a refusal, which says itself that it is one.
async fn problem(response: Response) -> (u16, Value) {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let status = response.status().as_u16();
    let document: Value = response.json().await.unwrap();
    assert_eq!(document["status"], status);
    assert!(document["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    (status, document)
}

#[tokio::test]
async fn an_accepted_event_is_on_the_topic_and_filled_in() {
    let server = Server::start(FakeTopic::default()).await;
    let response = server.post_event(&requested()).await;
    assert_eq!(response.status(), 202);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer, json!({ "id": "e-1", "status": "accepted" }));
    let event = server.topic.accepted.lock().unwrap()[0].clone();
    assert_eq!(event.dataset.as_deref(), Some("wine"));
    assert_eq!(event.partitionkey.as_deref(), Some("wine"));
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
        ["text/plain", "application/cloudevents-batch+json", "application/json; charset=latin1", ""]
    {
        let response = server.post(media_type, requested().to_string()).send().await.unwrap();
        assert!(response.headers()["accept"].to_str().unwrap().contains("cloudevents+json"));
        assert_eq!(problem(response).await.0, 415, "{media_type}");
    }
    let response = server.client.get(format!("{}/v1/events", server.url)).send().await.unwrap();
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

async fn refused_by_sns(
    act: impl FnMut(&[&Entry]) -> Result<Vec<EntryResult>, CallError> + Send + Sync + 'static,
) -> Response {
    let server = Server::start(FakeTopic::acting(act)).await;
    let response = server.post_event(&requested()).await;
    assert!(server.topic.accepted_ids().is_empty());
    response
}

#[tokio::test]
async fn what_sns_does_not_accept_is_not_answered_with_202() {
    let response = refused_by_sns(|_| Err(call_error(Trouble::Unavailable))).await;
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(problem(response).await.0, 503);
    let response = refused_by_sns(|_| Err(call_error(Trouble::Denied))).await;
    assert_eq!(problem(response).await.0, 502);
    let response = refused_by_sns(|_| Err(call_error(Trouble::Refused))).await;
    assert_eq!(problem(response).await.0, 422);
}

#[tokio::test]
async fn a_crowd_is_told_to_come_back_and_the_rest_is_answered() {
    let gate = Arc::new(Semaphore::new(0));
    let server = Server::start(FakeTopic::default().gated(gate.clone())).await;
    let mut under_way = JoinSet::new();
    for _ in 0..REQUESTS_MAX {
        under_way.spawn(server.post("application/json", requested().to_string()).send());
    }
    while server.topic.calls.lock().unwrap().len() < REQUESTS_MAX {
        server.topic.entered.notified().await;
    }
    let response = server.post_event(&requested()).await;
    assert_eq!(response.headers()["retry-after"], "1");
    let (status, document) = problem(response).await;
    assert_eq!(status, 503);
    assert_eq!(document["type"], "urn:bellwire:problem:too-many-requests-under-way");

    gate.add_permits(REQUESTS_MAX + 1);
    while let Some(response) = under_way.join_next().await {
        assert_eq!(response.unwrap().unwrap().status(), 202);
    }
    assert_eq!(server.post_event(&requested()).await.status(), 202);
}
