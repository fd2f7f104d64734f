//! CloudEvents over HTTP: what is accepted, and what is answered to the rest.

mod admission;
mod batch;
mod binary;
mod claim;
mod connection;
mod structured;

use std::sync::{Arc, Mutex};

use bellwire_publisher::ingest::{Admit, AdmitError, Ingest, Listen, Listener, serve};
use bellwire_publisher::pack::Entry;
use bellwire_publisher::publish::Topic as _;
use bellwire_schema::Envelope;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use reqwest::Response;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fakes::{FakeTopic, PublishNow};
use crate::samples::workflow;

pub(crate) async fn loopback() -> Listener {
    Listen::Tcp("127.0.0.1:0".parse().unwrap()).bind().await.unwrap()
}

/// The way in that publishes to a topic.
pub(crate) fn ingest(topic: &Arc<FakeTopic>) -> Ingest {
    let admit = PublishNow(topic.clone());
    Ingest::new(&workflow(), topic.name().clone(), Arc::new(admit))
}

pub(crate) struct Server {
    pub(super) url: String,
    pub(crate) topic: Arc<FakeTopic>,
    pub(super) client: reqwest::Client,
    _stop: DropGuard,
}

impl Server {
    pub(crate) async fn start(topic: FakeTopic) -> Self {
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
    pub(super) async fn admitting(admit: Arc<FakeAdmit>) -> Self {
        let name = FakeTopic::default().name().clone();
        Self::with(FakeTopic::default(), |_| Ingest::new(&workflow(), name, admit)).await
    }

    pub(crate) async fn post_batch(&self, events: &Value) -> Response {
        let media_type = "application/cloudevents-batch+json";
        self.post(media_type, events.to_string()).send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    /// The one event that was accepted since the last look.
    pub(super) fn taken(&self) -> Envelope {
        let mut accepted = std::mem::take(&mut *self.topic.accepted.lock().unwrap());
        assert_eq!(accepted.len(), 1);
        accepted.remove(0)
    }

    /// An event in binary mode, with further headers.
    pub(super) fn binary(
        &self,
        pairs: &[(&str, &str)],
        body: &'static [u8],
    ) -> reqwest::RequestBuilder {
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

/// Admits everything, or nothing for its reason.
#[derive(Default)]
pub(super) struct FakeAdmit {
    pub(super) calls: Mutex<Vec<Vec<Envelope>>>,
    pub(super) trouble: Mutex<Option<AdmitError>>,
}

impl Admit for FakeAdmit {
    fn admit<'a>(&'a self, events: Vec<Entry>) -> BoxFuture<'a, Result<(), AdmitError>> {
        async move {
            if let Some(trouble) = self.trouble.lock().unwrap().clone() {
                return Err(trouble);
            }
            let events = events.into_iter().map(|entry| entry.into_parts().0).collect();
            self.calls.lock().unwrap().push(events);
            Ok(())
        }
        .boxed()
    }
}

pub(super) fn requested() -> Value {
    json!({
        "specversion": "1.0", "id": "e-1", "source": "/wine-app", "type": "ml.collection.requested.v1",
        "data": { "parameters": { "rows": 100 } },
    })
}

pub(super) fn requested_with(name: &str, value: Value) -> Value {
    let mut event = requested();
    event[name] = value;
    event
}

pub(super) fn numbered(count: usize) -> Value {
    (0..count).map(|number| requested_with("id", json!(format!("e-{number}")))).collect()
}

/// The status and document of a refusal, which says itself that it is one.
pub(super) async fn problem(response: Response) -> (u16, Value) {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let status = response.status().as_u16();
    let document: Value = response.json().await.unwrap();
    assert_eq!(document["status"], status);
    assert!(document["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    (status, document)
}
