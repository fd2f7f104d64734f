//! The spans that a batch and a request leave behind.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use bellwire_publisher::ingest::serve;
use bellwire_schema::EventContext;
use opentelemetry::trace::{SpanId, SpanKind, TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::fakes::{FakeObjects, FakeTopic, World, message};
use crate::http::{ingest, loopback};
use crate::samples::{TRACEPARENT, s3_body};

/// Spans of this thread are kept, until the guard goes.
fn recording() -> (InMemorySpanExporter, DefaultGuard) {
    // With one subscriber in all, `tracing` asks that of the thread which comes to a
    // span's place first: a test without one would switch the span off for all.
    static SECOND: LazyLock<Dispatch> =
        LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));
    LazyLock::force(&SECOND);
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(layer);
    (exporter, tracing::subscriber::set_default(subscriber))
}

fn named(exporter: &InMemorySpanExporter, name: &str) -> Vec<SpanData> {
    let spans = exporter.get_finished_spans().unwrap();
    spans.into_iter().filter(|span| span.name == name).collect()
}

fn traceparent_of(span: &SpanData) -> String {
    let context = &span.span_context;
    format!("00-{}-{}-01", context.trace_id(), context.span_id())
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
    found.map(|attribute| attribute.value.as_str().into_owned())
}

fn objects_of_one_trace() -> Arc<FakeObjects> {
    let context =
        EventContext { traceparent: Some(TRACEPARENT.to_owned()), ..EventContext::default() };
    let metadata = context.to_object_metadata();
    let metadata = ["models/a", "models/b"].map(|key| (key.to_owned(), metadata.clone()));
    Arc::new(FakeObjects { metadata: BTreeMap::from(metadata), trouble: None })
}

#[tokio::test]
async fn each_message_has_a_create_span_whose_context_travels() {
    let (exporter, _guard) = recording();
    let world = World { objects: objects_of_one_trace(), ..World::default() };
    world.bridge().work(&[message(0, &s3_body(&["models/a", "models/b"]))]).await;
    let created = named(&exporter, "ml.data.arrived create");
    assert_eq!(created.len(), 2);
    let received = named(&exporter, "wine-ingest receive");
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].span_kind, SpanKind::Client);
    assert_eq!(received[0].parent_span_id, SpanId::INVALID);
    assert_eq!(attribute(&received[0], "messaging.operation.type").as_deref(), Some("receive"));
    assert_eq!(attribute(&received[0], "messaging.batch.message_count").as_deref(), Some("1"));
    let events = world.topic.accepted.lock().unwrap().clone();
    for (span, event) in created.iter().zip(&events) {
        let linked: Vec<_> = span.links.iter().map(|link| link.span_context.span_id()).collect();
        assert_eq!(linked, [received[0].span_context.span_id()]);
        assert_eq!(span.span_kind, SpanKind::Producer);
        assert_eq!(span.parent_span_id, SpanId::from_hex("00f067aa0ba902b7").unwrap());
        assert_eq!(event.context.traceparent, Some(traceparent_of(span)));
        assert_eq!(attribute(span, "messaging.system").as_deref(), Some("aws.sns"));
        assert_eq!(attribute(span, "messaging.operation.type").as_deref(), Some("create"));
        assert_eq!(attribute(span, "messaging.destination.name").as_deref(), Some("wine"));
        assert_eq!(attribute(span, "cloudevents.event_id"), Some(event.id.clone()));
    }
    let sent = named(&exporter, "wine send");
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].span_kind, SpanKind::Client);
    assert_eq!(sent[0].parent_span_id, created[0].span_context.span_id());
    assert_eq!(attribute(&sent[0], "messaging.batch.message_count").as_deref(), Some("2"));
    let linked: Vec<_> = sent[0].links.iter().map(|link| link.span_context.span_id()).collect();
    assert_eq!(linked, [created[0].span_context.span_id(), created[1].span_context.span_id()]);
}

#[tokio::test]
async fn a_batch_of_several_traces_is_linked_and_child_of_none() {
    let (exporter, _guard) = recording();
    let world = World::default();
    world.bridge().work(&[message(0, &s3_body(&["raw/a.csv", "raw/b.csv"]))]).await;
    let created = named(&exporter, "ml.data.arrived create");
    assert_ne!(created[0].span_context.trace_id(), created[1].span_context.trace_id());
    let sent = named(&exporter, "wine send").remove(0);
    assert_eq!(sent.parent_span_id, SpanId::INVALID);
    assert_eq!(sent.links.len(), 2);
}

#[tokio::test]
async fn a_request_s_span_stands_between_its_caller_and_the_event() {
    let (exporter, _guard) = recording();
    let topic = Arc::new(FakeTopic::default());
    let listener = loopback().await;
    let url = format!("http://{}/v1/events", listener.address());
    let stop = CancellationToken::new();
    tokio::spawn(serve(Arc::new(ingest(&topic)), listener, stop.clone()));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let event = json!({
        "specversion": "1.0", "id": "e-1", "source": "/app", "type": "ml.collection.requested.v1",
    });
    let other = "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-01";
    let mut with_own = event.clone();
    with_own["traceparent"] = json!(other);
    for (event, header) in
        [(&event, Some(TRACEPARENT)), (&with_own, None), (&with_own, Some(TRACEPARENT))]
    {
        exporter.reset();
        let mut request = client.post(&url).json(event);
        if let Some(header) = header {
            request = request.header("traceparent", header);
        }
        assert_eq!(request.send().await.unwrap().status(), 202);
        let server = named(&exporter, "POST /v1/events").remove(0);
        assert_eq!(server.span_kind, SpanKind::Server);
        assert_eq!(attribute(&server, "http.response.status_code").as_deref(), Some("202"));
        let created = named(&exporter, "ml.collection.requested create").remove(0);
        let cause = header.unwrap_or(other);
        assert!(cause.contains(&server.parent_span_id.to_string()));
        if header.is_some() && event == &with_own {
            // Two causes: the event's own is its parent, the request is linked.
            assert!(other.contains(&created.parent_span_id.to_string()));
            assert_eq!(created.links[0].span_context.span_id(), server.span_context.span_id());
        } else {
            assert_eq!(created.parent_span_id, server.span_context.span_id());
        }
        let published = topic.accepted.lock().unwrap().pop().unwrap();
        assert_eq!(published.context.traceparent, Some(traceparent_of(&created)));
        let sent = named(&exporter, "wine send").remove(0);
        assert_eq!(sent.parent_span_id, created.span_context.span_id());
    }
    stop.cancel();
}

#[tokio::test]
async fn each_event_of_a_batch_keeps_its_own_trace_or_takes_the_request_s() {
    let (exporter, _guard) = recording();
    let topic = Arc::new(FakeTopic::default());
    let listener = loopback().await;
    let url = format!("http://{}/v1/events", listener.address());
    let stop = CancellationToken::new();
    tokio::spawn(serve(Arc::new(ingest(&topic)), listener, stop.clone()));
    let event = |id: &str| {
        json!({
            "specversion": "1.0", "id": id, "source": "/app", "type": "ml.collection.requested.v1",
        })
    };
    let mut with_own = event("own");
    with_own["traceparent"] = json!(TRACEPARENT);
    let request = reqwest::Client::builder().no_proxy().build().unwrap().post(&url);
    let request = request.header("content-type", "application/cloudevents-batch+json");
    let body = json!([with_own, event("none")]).to_string();
    assert_eq!(request.body(body).send().await.unwrap().status(), 202);
    let server = named(&exporter, "POST /v1/events").remove(0);
    let created = named(&exporter, "ml.collection.requested create");
    assert!(TRACEPARENT.contains(&created[0].parent_span_id.to_string()));
    assert_eq!(created[0].links[0].span_context.span_id(), server.span_context.span_id());
    assert_eq!(created[1].parent_span_id, server.span_context.span_id());
    let published = topic.accepted.lock().unwrap().clone();
    for (event, span) in published.iter().zip(&created) {
        assert_eq!(event.context.traceparent, Some(traceparent_of(span)));
    }
    stop.cancel();
}

#[tokio::test]
async fn baggage_of_a_caller_is_not_forwarded() {
    let (_exporter, _guard) = recording();
    let topic = Arc::new(FakeTopic::default());
    let listener = loopback().await;
    let url = format!("http://{}/v1/events", listener.address());
    let stop = CancellationToken::new();
    tokio::spawn(serve(Arc::new(ingest(&topic)), listener, stop.clone()));
    let event = json!({
        "specversion": "1.0", "id": "e-1", "source": "/app", "type": "ml.collection.requested.v1",
    });
    let request = reqwest::Client::builder().no_proxy().build().unwrap().post(&url).json(&event);
    let request = request.header("traceparent", TRACEPARENT).header("baggage", "user=secret");
    assert_eq!(request.send().await.unwrap().status(), 202);
    let published = topic.accepted.lock().unwrap().pop().unwrap();
    assert!(published.context.traceparent.is_some());
    assert!(!published.to_json().contains("secret"), "{}", published.to_json());
    stop.cancel();
}
