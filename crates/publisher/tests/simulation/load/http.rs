//! What clients send over HTTP.

use axum::body::{Body, Bytes};
use axum::http::Request;
use bellwire_publisher::ingest::EVENTS_PATH;
use bellwire_schema::Envelope;
use bellwire_schema::fifo::group_of;
use bellwire_schema::limits::SNS_MESSAGE_BYTES_MAX;
use fastrand::Rng;
use serde_json::{Value, json};

use super::{Forms, REFUSED, claim_check};
use crate::plan::pick;

/// The dataset of the workflow's `http` source.
const DATASET: &str = "wine";

/// How often a request with a large event is sent at most.
const LARGE_ATTEMPTS_MAX: u32 = 4;

const TIME: &str = "2026-11-22T02:14:07Z";

/// What a client sends in one request.
#[derive(Debug, Clone)]
pub(crate) struct HttpRequest {
    pub(crate) at: u64,
    pub(crate) events: Vec<HttpEvent>,
    /// How often it is sent at most, where it is not accepted.
    pub(crate) attempts_max: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct HttpEvent {
    pub(crate) client: String,
    /// Its id, which is its subject too.
    pub(crate) id: String,
    pub(crate) partitionkey: Option<String>,
    /// Its place among all events of its client.
    pub(crate) number: u64,
    /// It is over SNS's limit.
    pub(crate) is_large: bool,
}

impl HttpRequest {
    /// As it is sent, each time: one event by itself, several as a batch.
    pub(crate) fn to_http(&self) -> impl Fn() -> Request<Body> + use<> {
        let (media_type, body) = match self.events.as_slice() {
            [only] => ("application/cloudevents+json", only.sent()),
            all => {
                let all = all.iter().map(HttpEvent::sent).collect();
                ("application/cloudevents-batch+json", Value::Array(all))
            }
        };
        let body = Bytes::from(body.to_string());
        move || {
            let request = Request::post(EVENTS_PATH).header("content-type", media_type);
            request.body(body.clone().into()).expect("a request as HTTP has it")
        }
    }
}

impl HttpEvent {
    pub(crate) fn is_refused(&self) -> bool {
        self.id.contains(REFUSED)
    }

    /// Its payload, as text.
    pub(crate) fn payload(&self) -> String {
        let filling = if self.is_large { SNS_MESSAGE_BYTES_MAX } else { 1 };
        json!({ "parameters": { "number": self.number, "filling": "x".repeat(filling) } })
            .to_string()
    }

    fn sent(&self) -> Value {
        let data: Value = serde_json::from_str(&self.payload()).expect("JSON of ours");
        let mut event = json!({
            "specversion": "1.0", "type": "ml.collection.requested.v1", "time": TIME,
            "id": self.id, "source": format!("/{}", self.client), "subject": self.id,
            "datacontenttype": "application/json", "data": data,
        });
        if let Some(key) = &self.partitionkey {
            event["partitionkey"] = json!(key);
        }
        event
    }

    /// The event that it becomes, filled in from the workflow.
    pub(crate) fn event(&self) -> Envelope {
        let event_type = "collection.requested".parse().expect("a known type");
        let mut event = Envelope::new(&self.id, &format!("/{}", self.client), event_type);
        event.subject = Some(self.id.clone());
        event.time = TIME.parse().ok();
        event.datacontenttype = Some("application/json".to_owned());
        event.dataset = Some(DATASET.to_owned());
        event.partitionkey = self.partitionkey.clone().or_else(|| event.dataset.clone());
        event.context.correlationid = Some(self.id.clone());
        match self.is_large {
            true => {
                let check = claim_check();
                let key = check.key_of(&event.source, &event.id);
                event.dataref = Some(check.uri_of(&key));
            }
            false => event.data = serde_json::from_str(&self.payload()).ok(),
        }
        event
    }

    /// Among which of its client's events it keeps its place: those of its partition
    /// key and, on a FIFO topic, those of its group.
    pub(crate) fn lane(&self, is_fifo: bool) -> Option<String> {
        let lane = match is_fifo {
            true => Some(group_of(&self.event())),
            false => self.partitionkey.clone(),
        };
        lane.map(|lane| format!("{lane} of {}", self.client))
    }
}

/// What one client sends, request after request.
pub(crate) fn requests(
    client: &str,
    random: &mut Rng,
    forms: Forms,
    until: u64,
) -> Vec<HttpRequest> {
    let keys = [None, Some(format!("{client}-a")), Some(format!("{client}-b"))];
    let mut requests: Vec<HttpRequest> = (0..random.usize(1..10))
        .map(|_| HttpRequest {
            at: random.u64(0..until),
            events: (0..*pick(random, &[1, 1, 2, 5]))
                .map(|_| event(client, &keys, forms, random))
                .collect(),
            attempts_max: *pick(random, &[3, u32::MAX]),
        })
        .collect();
    requests.sort_by_key(|request| request.at);
    // What is large takes long to send again and again, in hours of an outage.
    for request in requests.iter_mut().filter(|it| it.events.iter().any(|event| event.is_large)) {
        request.attempts_max = LARGE_ATTEMPTS_MAX;
    }
    let events = requests.iter_mut().flat_map(|request| &mut request.events);
    for (number, event) in (1..).zip(events) {
        event.number = number;
        event.id = format!("{}-{number}", event.id);
    }
    requests
}

fn event(client: &str, keys: &[Option<String>], forms: Forms, random: &mut Rng) -> HttpEvent {
    let (id, is_large) = match random.u8(0..16) {
        0 => (format!("{client}-{REFUSED}"), false),
        1 | 2 => (client.to_owned(), forms.large),
        _ => (client.to_owned(), false),
    };
    let partitionkey = pick(random, keys).clone();
    HttpEvent { client: client.to_owned(), id, partitionkey, number: 0, is_large }
}
