use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bellwire_publisher::call::{CallError, Trouble};
use bellwire_publisher::ingest::auth::Token;
use bellwire_publisher::ingest::binding::BATCH_EVENTS_MAX;
use bellwire_publisher::ingest::{
    Admit, AdmitError, Admitted, BATCH_BODY_BYTES_MAX, BATCH_REQUESTS, HEADER_BYTES_MAX,
    HEADERS_MAX, Ingest, Listen, ListenError, Listener, REQUESTS_MAX, Readiness, Report, serve,
};
use bellwire_publisher::pack::Entry;
use bellwire_publisher::probe::{Question, probe};
use bellwire_publisher::publish::{EntryResult, Topic as _};
use bellwire_schema::Envelope;
use bellwire_schema::limits::{HOP_MAX, SNS_MESSAGE_BYTES_MAX};
use cloudevents::message::{
    BinaryDeserializer as _, BinarySerializer, MessageAttributeValue, Result as SdkResult,
};
use cloudevents::{EventBuilder as _, EventBuilderV10};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fakes::{FakeTopic, PublishNow, call_error};
use crate::samples::{TRACEPARENT, workflow};

const SECRET: &str = "s3cret-0123456789";

pub(crate) async fn loopback() -> Listener {
    Listen::Tcp("127.0.0.1:0".parse().unwrap()).bind().await.unwrap()
}

/// The way in that publishes to a topic.
pub(crate) fn ingest(topic: &Arc<FakeTopic>) -> Ingest {
    let admit = PublishNow(topic.clone());
    Ingest::new(&workflow(), topic.name().clone(), Arc::new(admit))
}

pub(crate) struct Server {
    url: String,
    pub(crate) topic: Arc<FakeTopic>,
    client: reqwest::Client,
    _stop: DropGuard,
}

impl Server {
    async fn start(topic: FakeTopic) -> Self {
        Self::with(topic, |ingest| ingest).await
    }

    pub(crate) async fn with(topic: FakeTopic, change: impl FnOnce(Ingest) -> Ingest) -> Self {
        let topic = Arc::new(topic);
        let listener = loopback().await;
        let url = format!("http://{}", listener.address());
        let stop = CancellationToken::new();
        tokio::spawn(serve(Arc::new(change(ingest(&topic))), listener, stop.clone()));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url, topic, client, _stop: stop.drop_guard() }
    }

    /// One that admits, or does not, by itself.
    async fn admitting(admit: Arc<FakeAdmit>) -> Self {
        let name = FakeTopic::default().name().clone();
        Self::with(FakeTopic::default(), |_| Ingest::new(&workflow(), name, admit)).await
    }

    pub(crate) async fn post_batch(&self, events: &Value) -> Response {
        let media_type = "application/cloudevents-batch+json";
        self.post(media_type, events.to_string()).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    /// The one event that was accepted since the last look.
    fn taken(&self) -> Envelope {
        let mut accepted = std::mem::take(&mut *self.topic.accepted.lock().unwrap());
        assert_eq!(accepted.len(), 1);
        accepted.remove(0)
    }

    /// An event in binary mode, with further headers.
    fn binary(&self, pairs: &[(&str, &str)], body: &'static [u8]) -> reqwest::RequestBuilder {
        let mut request = self
            .client
            .post(format!("{}/v1/events", self.url))
            .header("ce-specversion", "1.0")
            .header("ce-type", "ml.collection.requested.v1")
            .header("ce-id", "e-1")
            .header("ce-source", "/wine-app");
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        request.body(body)
    }

    pub(crate) fn post(
        &self,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::RequestBuilder {
        self.client
            .post(format!("{}/v1/events", self.url))
            .header("content-type", content_type)
            .body(body)
    }

    pub(crate) async fn post_event(&self, event: &Value) -> Response {
        self.post("application/cloudevents+json", event.to_string()).send().await.unwrap()
    }
}

fn requested() -> Value {
    json!({
        "specversion": "1.0", "id": "e-1", "source": "/wine-app", "type": "ml.collection.requested.v1",
        "data": { "parameters": { "rows": 100 } },
    })
}

pub(crate) fn requested_with(name: &str, value: Value) -> Value {
    let mut event = requested();
    event[name] = value;
    event
}

/// The status and document of a refusal, which says itself that it is one.
pub(crate) async fn problem(response: Response) -> (u16, Value) {
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
    assert_eq!(problem(response).await.0, 503);
    let response = refused_by_sns(|_| Err(call_error(Trouble::Refused))).await;
    assert_eq!(problem(response).await.0, 503);
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
    assert_eq!(server.get("/healthz").await.status(), 200);

    gate.add_permits(REQUESTS_MAX + 1);
    while let Some(response) = under_way.join_next().await {
        assert_eq!(response.unwrap().unwrap().status(), 202);
    }
    assert_eq!(server.post_event(&requested()).await.status(), 202);
}

#[tokio::test]
async fn a_batch_counts_for_as_many_requests_as_its_body_is_large() {
    let gate = Arc::new(Semaphore::new(0));
    let server = Server::start(FakeTopic::default().gated(gate.clone())).await;
    let mut under_way = JoinSet::new();
    let small = json!([requested()]).to_string();
    // All but one of the largest, and as many small ones as the last place has room for.
    let large_count = REQUESTS_MAX / BATCH_REQUESTS - 1;
    let large = small.clone() + &" ".repeat(BATCH_BODY_BYTES_MAX - small.len());
    let batches = vec![large; large_count].into_iter().chain(vec![small; BATCH_REQUESTS]);
    for batch in batches {
        under_way.spawn(server.post("application/cloudevents-batch+json", batch).send());
    }
    let all_in = async {
        while server.topic.calls.lock().unwrap().len() < large_count + BATCH_REQUESTS {
            server.topic.entered.notified().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_in).await.expect("there is room for all");
    let event = requested();
    let one_more = tokio::time::timeout(Duration::from_secs(30), server.post_event(&event));
    assert_eq!(problem(one_more.await.unwrap()).await.0, 503);
    gate.add_permits(REQUESTS_MAX);
    while let Some(response) = under_way.join_next().await {
        assert_eq!(response.unwrap().unwrap().status(), 202);
    }
}

#[tokio::test]
async fn binary_mode_takes_attributes_from_headers_and_data_from_the_body() {
    let server = Server::start(FakeTopic::default()).await;
    let pairs = [
        ("CE-Subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("ce-note", r#""quoted \"word\"""#),
        ("ce-hop", "3"),
        ("content-type", "application/json; charset=utf-8"),
    ];
    let response = server.binary(&pairs, br#"{"parameters": {"rows": 7}}"#).send().await.unwrap();
    assert_eq!(response.status(), 202);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer, json!({ "id": "e-1", "status": "accepted" }));
    let event = server.taken();
    assert_eq!((event.id.as_str(), event.source.as_str()), ("e-1", "/wine-app"));
    assert_eq!(event.subject.as_deref(), Some("Euro \u{20ac} \u{1f600}"));
    assert_eq!(event.extensions["note"], "quoted \"word\"");
    assert_eq!(event.context.hop, 3);
    assert_eq!(event.datacontenttype.as_deref(), Some("application/json; charset=utf-8"));
    assert_eq!(event.data.unwrap()["parameters"]["rows"], 7);
}

#[tokio::test]
async fn a_cloudevents_media_type_wins_over_attributes_in_headers() {
    let server = Server::start(FakeTopic::default()).await;
    let response = server
        .post("application/cloudevents+json", requested().to_string())
        .header("ce-id", "another")
        .header("ce-specversion", "0.3")
        .send();
    assert_eq!(response.await.unwrap().status(), 202);
    assert_eq!(server.taken().id, "e-1");
    // With plain JSON they are the event, and the body is its data.
    let pairs = [("content-type", "application/json")];
    assert_eq!(server.binary(&pairs, b"{}").send().await.unwrap().status(), 202);
    assert_eq!(server.taken().data, Some(json!({})));
}

#[tokio::test]
async fn what_is_wrong_in_binary_mode_is_named() {
    let server = Server::start(FakeTopic::default()).await;
    let json_type = ("content-type", "application/json");
    for (pairs, body, status, kind, field) in [
        (vec![json_type], &b"{"[..], 400, "not-json", "data"),
        (vec![json_type, ("ce-subject", "%C0%A0")], b"", 422, "not-a-cloudevent", "subject"),
        (vec![json_type, ("ce-id", "e-2")], b"", 422, "not-a-cloudevent", "id"),
        (vec![json_type, ("ce-data", "x")], b"", 422, "not-a-cloudevent", "data"),
        (vec![json_type, ("ce-my_name", "x")], b"", 422, "not-a-cloudevent", "my_name"),
        (vec![("ce-datacontenttype", "a/b")], b"", 422, "not-a-cloudevent", "datacontenttype"),
        (vec![("content-type", "text/plain")], b"7", 422, "invalid-event", "data"),
        (vec![("content-type", "image/png")], b"7", 422, "invalid-event", "data_base64"),
    ] {
        let response = server.binary(&pairs, body).send().await.unwrap();
        let (found, document) = problem(response).await;
        assert_eq!(found, status, "{document}");
        assert_eq!(document["type"], format!("urn:bellwire:problem:{kind}"), "{document}");
        let problems = document["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 1, "{document}");
        // A payload's field may be the whole of `data`.
        assert!(field.starts_with(problems[0]["field"].as_str().unwrap()), "{document}");
    }
    let old = server.post("application/json", "{}").header("ce-specversion", "0.3").send();
    let (status, document) = problem(old.await.unwrap()).await;
    assert_eq!(status, 422);
    let fields: Vec<_> =
        document["problems"].as_array().unwrap().iter().map(|found| &found["field"]).collect();
    assert_eq!(fields, ["specversion", "id", "source", "type"]);
    let charset = [("content-type", "text/plain; charset=latin1")];
    let response = server.binary(&charset, b"x").send().await.unwrap();
    assert_eq!(problem(response).await.0, 415);
    assert!(server.topic.accepted_ids().is_empty());
}

fn numbered(count: usize) -> Value {
    (0..count).map(|number| requested_with("id", json!(format!("e-{number}")))).collect()
}

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
    let found: Vec<_> = calls[0]
        .iter()
        .map(|entry| (entry.lane.as_deref(), entry.envelope.partitionkey.as_deref()))
        .collect();
    assert_eq!(found, [(None, None), (Some("mine"), Some("mine")), (None, None)]);

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

/// Admits everything, or nothing for its reason.
#[derive(Default)]
struct FakeAdmit {
    calls: Mutex<Vec<Vec<Admitted>>>,
    trouble: Mutex<Option<AdmitError>>,
}

impl Admit for FakeAdmit {
    fn admit<'a>(&'a self, entries: Vec<Admitted>) -> BoxFuture<'a, Result<(), AdmitError>> {
        async move {
            if let Some(trouble) = self.trouble.lock().unwrap().clone() {
                return Err(trouble);
            }
            self.calls.lock().unwrap().push(entries);
            Ok(())
        }
        .boxed()
    }
}

#[tokio::test]
async fn what_is_not_admitted_is_told_when_to_come_back() {
    let admit = Arc::new(FakeAdmit::default());
    let server = Server::admitting(admit.clone()).await;
    let message = || "for a reason".to_owned();
    for (trouble, kind, retry_after) in [
        (AdmitError::Full { retry_after_s: 7, message: message() }, "spool-full", "7"),
        (AdmitError::Unavailable { message: message() }, "spool-unavailable", "1"),
    ] {
        *admit.trouble.lock().unwrap() = Some(trouble);
        let responses =
            [server.post_event(&requested()).await, server.post_batch(&numbered(2)).await];
        for response in responses {
            assert_eq!(response.headers()["retry-after"], retry_after);
            let (status, document) = problem(response).await;
            assert_eq!(status, 503);
            assert_eq!(document["type"], format!("urn:bellwire:problem:{kind}"));
            assert_eq!(document["detail"], "for a reason");
        }
    }
}

#[tokio::test]
async fn whoever_does_not_show_the_token_is_not_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("  {SECRET}\n")).unwrap();
    let token = Token::read(&file).unwrap();
    let server = Server::with(FakeTopic::default(), |ingest| ingest.with_token(Some(token))).await;
    for (shown, challenge) in [
        (None, "Bearer"),
        (Some("Basic czNjcmV0".to_owned()), "Bearer"),
        (Some(format!("Bearer {SECRET}x")), "Bearer error=\"invalid_token\""),
    ] {
        let mut request = server.post("application/json", requested().to_string());
        if let Some(shown) = &shown {
            request = request.header("authorization", shown);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], challenge, "{shown:?}");
        let (status, document) = problem(response).await;
        assert_eq!((status, &document["type"]), (401, &json!("urn:bellwire:problem:unauthorized")));
        assert!(!document.to_string().contains(SECRET));
    }
    assert!(server.topic.accepted_ids().is_empty());
    let request = server.post("application/json", requested().to_string());
    assert_eq!(request.bearer_auth(SECRET).send().await.unwrap().status(), 202);
    assert_eq!(server.get("/healthz").await.status(), 200);
    assert_eq!(server.get("/readyz").await.status(), 200);
}

struct Lame;

impl Readiness for Lame {
    fn report(&self) -> Report {
        Report { is_ready: false, details: json!({ "spool": "full" }) }
    }
}

#[tokio::test]
async fn readiness_is_what_is_reported() {
    let server = Server::start(FakeTopic::default()).await;
    let response = server.get("/readyz").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "status": "ready" }));
    let server =
        Server::with(FakeTopic::default(), |ingest| ingest.with_readiness(Arc::new(Lame))).await;
    let response = server.get("/readyz").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "spool": "full" }));
    assert_eq!(server.get("/healthz").await.status(), 200);
    let address = Listen::Tcp(server.url.trim_start_matches("http://").parse().unwrap());
    let error = probe(&address, Question::Readyz).await.unwrap_err();
    assert_eq!(error.to_string(), r#"{"spool":"full"}"#);
    assert_eq!(probe(&address, Question::Healthz).await.unwrap(), r#"{"status":"alive"}"#);
}

#[tokio::test]
async fn headers_have_their_limits() {
    let server = Server::start(FakeTopic::default()).await;
    let large = "x".repeat(HEADER_BYTES_MAX);
    let response = server.binary(&[("ce-note", &large)], b"").send().await.unwrap();
    let (status, document) = problem(response).await;
    assert_eq!(
        (status, &document["type"]),
        (431, &json!("urn:bellwire:problem:headers-too-large"))
    );
    assert!(document["detail"].as_str().unwrap().contains("may be 100 of 32768"), "{document}");
    assert!(server.topic.accepted_ids().is_empty());
}

#[tokio::test]
async fn a_request_with_too_many_headers_is_told_so() {
    let server = Server::start(FakeTopic::default()).await;
    let mut answers = Vec::new();
    // The server's own limit would be 100 too, and its answer without a document.
    for count in [HEADERS_MAX, HEADERS_MAX + 1, 900] {
        let own = "host: x\r\nconnection: close\r\nce-specversion: 1.0\r\nce-source: /wine-app\r\n\
                   ce-type: ml.collection.requested.v1\r\nce-id: e-1\r\n";
        let more: String =
            (own.lines().count()..count).map(|number| format!("x-{number}: y\r\n")).collect();
        let stream = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
        let request = format!("POST /v1/events HTTP/1.1\r\n{own}{more}\r\n");
        answers.push(exchange(stream, &request).await);
    }
    assert!(answers[0].starts_with("HTTP/1.1 202 "), "{}", answers[0]);
    for answer in &answers[1..] {
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        assert!(answer.contains("content-type: application/problem+json\r\n"), "{answer}");
        assert!(answer.contains("urn:bellwire:problem:headers-too-large"), "{answer}");
    }
    assert_eq!(server.topic.accepted_ids(), ["e-1"]);
}

/// Sends a request as it stands, and reads until the server has no more to say.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The clock is the runtime's own: it goes forward while nothing else happens.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::start(FakeTopic::default()).await;
    let stream = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
    let request = "POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                   content-length: 10\r\n\r\n{";
    let answer = exchange(stream, request).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("urn:bellwire:problem:body-timeout"), "{answer}");
}

/// A server on a Unix socket, and how to end it.
async fn on_socket(path: &Path) -> (JoinHandle<()>, CancellationToken, Arc<FakeTopic>) {
    let listener = Listen::Unix(path.to_owned()).bind().await.unwrap();
    assert_eq!(listener.address().to_string(), format!("unix:{}", path.display()));
    let (topic, stop) = (Arc::new(FakeTopic::default()), CancellationToken::new());
    let served = tokio::spawn(serve(Arc::new(ingest(&topic)), listener, stop.clone()));
    (served, stop, topic)
}

#[tokio::test]
async fn events_come_through_a_unix_socket_that_is_there_as_long_as_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ingest.sock");
    let (served, stop, topic) = on_socket(&path).await;
    let found = std::fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o660);
    let body = requested().to_string();
    let request = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/cloudevents+json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(UnixStream::connect(&path).await.unwrap(), &request).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert_eq!(topic.accepted_ids(), ["e-1"]);
    assert!(probe(&Listen::Unix(path.clone()), Question::Healthz).await.is_ok());
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(30), served).await.unwrap().unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_socket_is_replaced_only_where_nobody_answers_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ingest.sock");
    // What a killed publisher leaves: the file, without a listener.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (_served, _stop, _topic) = on_socket(&path).await;
    let error = Listen::Unix(path.clone()).bind().await.unwrap_err();
    assert!(matches!(error, ListenError::Taken), "{error}");
    let request = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = exchange(UnixStream::connect(&path).await.unwrap(), request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "mine").unwrap();
    let error = Listen::Unix(file.clone()).bind().await.unwrap_err();
    assert!(matches!(error, ListenError::NotASocket), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

#[tokio::test]
async fn a_socket_that_took_another_one_s_place_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ingest.sock");
    let first = Listen::Unix(path.clone()).bind().await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let _second = Listen::Unix(path.clone()).bind().await.unwrap();
    drop(first);
    assert!(path.exists());
}

/// Headers and a body, as the SDK has them in binary mode.
#[derive(Default)]
struct SdkRequest {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl BinarySerializer<Self> for SdkRequest {
    fn set_spec_version(self, version: cloudevents::event::SpecVersion) -> SdkResult<Self> {
        self.set_attribute("specversion", MessageAttributeValue::String(version.to_string()))
    }

    fn set_attribute(mut self, name: &str, value: MessageAttributeValue) -> SdkResult<Self> {
        let name = match name {
            "datacontenttype" => "content-type".to_owned(),
            _ => format!("ce-{name}"),
        };
        self.headers.push((name, value.to_string()));
        Ok(self)
    }

    fn set_extension(self, name: &str, value: MessageAttributeValue) -> SdkResult<Self> {
        self.set_attribute(name, value)
    }

    fn end_with_data(mut self, bytes: Vec<u8>) -> SdkResult<Self> {
        self.body = bytes;
        Ok(self)
    }

    fn end(self) -> SdkResult<Self> {
        Ok(self)
    }
}

#[tokio::test]
async fn what_the_official_sdk_sends_arrives_as_it_was() {
    let server = Server::start(FakeTopic::default()).await;
    let sent = EventBuilderV10::new()
        .id("e-1")
        .source("http://example.com/app")
        .ty("ml.collection.requested.v1")
        .subject("raw/a.csv")
        .extension("rows", 7_i64)
        .data("application/json", json!({ "parameters": { "rows": 7 } }))
        .build()
        .unwrap();
    let structured = serde_json::to_string(&sent).unwrap();
    let binary = sent.clone().deserialize_binary(SdkRequest::default()).unwrap();
    let mut request = server.client.post(format!("{}/v1/events", server.url)).body(binary.body);
    for (name, value) in &binary.headers {
        request = request.header(name, value);
    }
    for request in [request, server.post("application/cloudevents+json", structured)] {
        assert_eq!(request.send().await.unwrap().status(), 202);
        let event = server.taken().to_value();
        let expected = serde_json::to_value(&sent).unwrap();
        for name in ["specversion", "id", "source", "type", "subject", "datacontenttype", "data"] {
            assert_eq!(event[name], expected[name], "{name}");
        }
        assert_eq!(event["rows"].as_str().unwrap_or("7"), "7", "headers know only text");
    }
}
