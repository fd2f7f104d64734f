//! What each decoder owes to whatever it is given. The fuzz targets call these
//! functions, and so does the replay of what fuzzing has found: there is one of each.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use bellwire_publisher::decode::{Record, Undecodable, decode};
use bellwire_publisher::ingest::binding::{BATCH_MEDIA_TYPE, EVENT_MEDIA_TYPE};
use bellwire_publisher::ingest::{Admit, AdmitError, EVENTS_PATH, Ingest};
use bellwire_publisher::pack::Entry;
use bellwire_publisher::quarantine::{DeadQueue, Reject, letter_of, quarantine};
use bellwire_publisher::receive::Message;
use bellwire_publisher::route::{Draft, Routed, Rules};
use bellwire_publisher::spans::TopicName;
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::limits::{SNS_ATTRIBUTES_MAX, SNS_MESSAGE_BYTES_MAX};
use bellwire_schema::workflow::{Workflow, read};
use bellwire_schema::{DeadLetter, Envelope, EventType};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;

use crate::samples::{QUEUE_ARN, rules, sns_wrapped};

/// What a decoder owes to these bytes: it panics where the word is broken.
pub(crate) type Check = fn(&[u8]);

/// By the name that the decoder's corpus and fuzz target have.
pub(crate) const DECODERS: [(&str, Check); 4] = [
    ("queue_body", queue_body),
    ("http_structured", http_structured),
    ("http_batch", http_batch),
    ("http_binary", http_binary),
];

thread_local! {
    static RULES: Rules = rules();
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().unwrap();
    static WAY_IN: WayIn = WayIn::new();
}

/// The body of a message of the ingest queue: each of its records is an event that
/// SNS takes, a named skip, or a reject that keeps the body's bytes; and SNS's
/// wrapping changes none of that.
pub(crate) fn queue_body(bytes: &[u8]) {
    // SQS carries text.
    let body = String::from_utf8_lossy(bytes);
    let records = decode(&body);
    assert!(!records.is_empty(), "a message that nobody answers for");
    for record in &records {
        match record {
            Ok(record) => record_is_event_or_skip(record),
            Err(error) => reject_keeps_its_bytes(error, &body),
        }
    }
    if !is_wrapped(&body) {
        wrapping_changes_nothing(&records, &decode(&sns_wrapped(&body)));
    }
}

fn record_is_event_or_skip(record: &Record) {
    let draft = match RULES.with(|rules| rules.route(record.clone())) {
        Routed::Skip(skip) => return assert!(!skip.as_str().is_empty()),
        Routed::Event(draft) => draft,
    };
    let envelope = match *draft {
        Draft::Whole(envelope) | Draft::Object { envelope, .. } => envelope,
        Draft::Completion { completion, otherwise } => {
            _ = completion.run_context();
            completion.to_envelope(&otherwise)
        }
    };
    assert!(!envelope.id.is_empty() && !envelope.source.is_empty(), "{envelope:?}");
    match Entry::of(envelope) {
        Ok(entry) => entry_is_what_sns_takes(&entry),
        Err(unfit) => {
            let reason = unfit.reason();
            let known = [DeadReason::TooLarge, DeadReason::HopLimit, DeadReason::InvalidAttributes];
            assert!(known.contains(&reason), "{reason:?}");
        }
    }
}

fn entry_is_what_sns_takes(entry: &Entry) {
    assert!(entry.bytes() <= SNS_MESSAGE_BYTES_MAX);
    assert!(entry.attributes().len() <= SNS_ATTRIBUTES_MAX, "{:?}", entry.attributes());
    // SNS refuses an empty value.
    assert!(entry.attributes().iter().all(|attribute| !attribute.value.is_empty()));
    let read = Envelope::from_json(entry.body().as_bytes());
    assert_eq!(read.as_ref(), Ok(entry.envelope()), "what was encoded is read as another event");
}

fn reject_keeps_its_bytes(error: &Undecodable, body: &str) {
    let known = [DeadReason::Undecodable, DeadReason::MalformedRecord, DeadReason::KeyNotUtf8];
    assert!(known.contains(&error.reason) && !error.message.is_empty(), "{error:?}");
    let message = Message {
        id: "m-1".to_owned(),
        receipt: "r-1".to_owned(),
        body: body.to_owned(),
        sent_at: None,
        receives: 1,
    };
    let reject = Reject { reason: error.reason, message: error.message.clone(), traceparent: None };
    let letter = letter_of(&message, &reject, QUEUE_ARN, Timestamp::UNIX_EPOCH);
    let dead = Dead::default();
    RUNTIME.with(|runtime| runtime.block_on(quarantine(&dead, &letter))).unwrap();
    let sent = dead.sent.into_inner().unwrap();
    let kept: DeadLetter = serde_json::from_str(&sent).unwrap();
    assert_eq!((kept.reason, kept.body().as_deref()), (error.reason, Some(body.as_bytes())));
    assert_eq!(kept.source.as_deref(), Some(QUEUE_ARN));
}

fn is_wrapped(body: &str) -> bool {
    serde_json::from_str::<Value>(body).is_ok_and(|body| body.get("TopicArn").is_some())
}

fn wrapping_changes_nothing(
    plain: &[Result<Record, Undecodable>],
    wrapped: &[Result<Record, Undecodable>],
) {
    assert_eq!(plain.len(), wrapped.len());
    for (plain, wrapped) in plain.iter().zip(wrapped) {
        let reason = |error: &Undecodable| error.reason;
        assert_eq!(plain.as_ref().map_err(reason), wrapped.as_ref().map_err(reason));
    }
}

/// The body of a request in structured mode.
pub(crate) fn http_structured(body: &[u8]) {
    let answer = post(&media_type(EVENT_MEDIA_TYPE), body);
    is_admitted_or_a_problem(&answer);
    let event = serde_json::from_slice(body).unwrap_or(Value::Null);
    judged_by_field(&answer, &event);
    if answer.status == StatusCode::ACCEPTED {
        let [admitted] = answer.admitted.as_slice() else { panic!("{:?}", answer.admitted) };
        assert_eq!(answer.document["id"], admitted.id);
        arrives_as_sent(&event, admitted);
    }
}

/// The body of a request in batch mode: all of its events are admitted, or none.
pub(crate) fn http_batch(body: &[u8]) {
    let answer = post(&media_type(BATCH_MEDIA_TYPE), body);
    is_admitted_or_a_problem(&answer);
    let Ok(Value::Array(events)) = serde_json::from_slice(body) else {
        return assert!(answer.status.is_client_error());
    };
    if answer.status == StatusCode::ACCEPTED {
        let ids: Vec<&str> = answer.admitted.iter().map(|admitted| admitted.id.as_str()).collect();
        assert_eq!(answer.document["ids"], json!(ids));
        assert_eq!(events.len(), answer.admitted.len());
        for (event, admitted) in events.iter().zip(&answer.admitted) {
            arrives_as_sent(event, admitted);
        }
    }
    if answer.document["type"] == "urn:bellwire:problem:invalid-batch" {
        let problems = answer.document["problems"].as_array().unwrap();
        assert!(!problems.is_empty());
        for problem in problems {
            let index = problem["index"].as_u64().unwrap() as usize;
            assert!(index < events.len() && problem["kind"].is_string(), "{problem}");
            let is_named = problem["field"] != "" || problem["kind"] == "not-a-cloudevent";
            assert!(is_named, "{problem}");
        }
    }
}

/// A request in binary mode: a header a line, an empty line, the body. A
/// `Content-Type` among its headers may make it one of another mode.
pub(crate) fn http_binary(request: &[u8]) {
    let end = request.windows(2).position(|two| two == b"\n\n");
    let (head, body) = match end {
        Some(end) => (&request[..end], &request[end + 2..]),
        None => (request, &[][..]),
    };
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(line[..colon].trim_ascii());
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        // The server's own parser lets nothing else through.
        let (Ok(name), Ok(value)) = (name, value) else { continue };
        headers.append(name, value);
    }
    let answer = post(&headers, body);
    is_admitted_or_a_problem(&answer);
    let is_binary = headers.contains_key("ce-id")
        && !headers.get(header::CONTENT_TYPE).is_some_and(is_of_whole_events);
    if !is_binary {
        return;
    }
    // Whatever its data is, a request in binary mode is an object with attributes.
    judged_by_field(&answer, &json!({}));
    if answer.status == StatusCode::ACCEPTED {
        let [admitted] = answer.admitted.as_slice() else { panic!("{:?}", answer.admitted) };
        assert_eq!(answer.document["id"], admitted.id);
        assert_eq!(headers.get_all("ce-id").iter().count(), 1);
    }
}

fn is_of_whole_events(media_type: &HeaderValue) -> bool {
    media_type.as_bytes().trim_ascii().to_ascii_lowercase().starts_with(b"application/cloudevents")
}

fn media_type(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))])
}

/// 202 is for what SNS will take; anything else is a problem, and admits nothing.
fn is_admitted_or_a_problem(answer: &Answer) {
    let Answer { status, media_type, document, admitted } = answer;
    if *status == StatusCode::ACCEPTED {
        for envelope in admitted {
            let entry = Entry::of(envelope.clone()).unwrap();
            entry_is_what_sns_takes(&entry);
            assert!(envelope.context.correlationid.is_some() && envelope.time.is_some());
        }
        return assert_eq!(
            (media_type.as_str(), &document["status"]),
            ("application/json", &json!("accepted"))
        );
    }
    assert!(status.is_client_error(), "{status}: {document}");
    assert!(admitted.is_empty(), "{status}: {admitted:?}");
    assert_eq!(media_type, "application/problem+json");
    assert_eq!(document["status"], status.as_u16());
    let text = |name: &str| document[name].as_str().unwrap_or_default();
    assert!(text("type").starts_with("urn:bellwire:problem:"), "{document}");
    assert!(!text("title").is_empty() && !text("detail").is_empty(), "{document}");
    for problem in document["problems"].as_array().into_iter().flatten() {
        assert!(problem["field"].is_string(), "{document}");
        assert!(problem["problem"].as_str().is_some_and(|words| !words.is_empty()), "{document}");
    }
}

/// What is wrong with an event that is an object is wrong with a field of it.
fn judged_by_field(answer: &Answer, event: &Value) {
    if answer.status == StatusCode::UNPROCESSABLE_ENTITY && event.is_object() {
        let problems = answer.document["problems"].as_array();
        assert!(problems.is_some_and(|problems| !problems.is_empty()), "{}", answer.document);
    }
}

fn arrives_as_sent(sent: &Value, admitted: &Envelope) {
    let arrived = admitted.to_value();
    for name in ["id", "source", "type", "subject", "data", "dataset", "partitionkey"] {
        if !sent[name].is_null() {
            assert_eq!(arrived[name], sent[name], "{name}");
        }
    }
}

/// The answer to a request, and what was admitted of it.
struct Answer {
    status: StatusCode,
    media_type: String,
    document: Value,
    admitted: Vec<Envelope>,
}

fn post(headers: &HeaderMap, body: &[u8]) -> Answer {
    WAY_IN.with(|way_in| RUNTIME.with(|runtime| runtime.block_on(way_in.post(headers, body))))
}

/// The routes of a workflow that takes every type over HTTP.
struct WayIn {
    router: Router,
    kept: Arc<Kept>,
}

impl WayIn {
    fn new() -> Self {
        let kept = Arc::new(Kept::default());
        let topic = TopicName { arn: "arn:aws:sns:eu-west-1:123456789012:wine".to_owned() };
        let ingest = Ingest::new(&workflow(), topic, kept.clone());
        Self { router: Arc::new(ingest).router(), kept }
    }

    async fn post(&self, headers: &HeaderMap, body: &[u8]) -> Answer {
        let mut request = Request::post(EVENTS_PATH).body(Body::from(body.to_vec())).unwrap();
        *request.headers_mut() = headers.clone();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let media_type = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let document = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let document = serde_json::from_slice(&document).unwrap();
        let admitted = std::mem::take(&mut *self.kept.admitted.lock().unwrap());
        Answer { status, media_type, document, admitted }
    }
}

/// A source of every known type, and of one whose payload nobody knows.
fn workflow() -> Workflow {
    let known = EventType::known();
    let types = known.iter().map(EventType::short).chain(["wine.tasted"]);
    let sources = types.enumerate().map(|(number, short)| {
        format!("[[source]]\nname = \"s{number}\"\nkind = \"http\"\nemits = \"{short}\"\n")
    });
    let own = "[[event]]\ntype = \"wine.tasted\"\nschema = \"tasted.json\"\n";
    let text = format!("workflow = \"wine\"\n{own}{}", sources.collect::<String>());
    read(&text).unwrap_or_else(|problems| panic!("{problems}"))
}

#[derive(Default)]
struct Kept {
    admitted: Mutex<Vec<Envelope>>,
}

impl Admit for Kept {
    fn admit<'a>(&'a self, events: Vec<Entry>) -> BoxFuture<'a, Result<(), AdmitError>> {
        let events = events.into_iter().map(|entry| entry.into_parts().0);
        self.admitted.lock().unwrap().extend(events);
        async { Ok(()) }.boxed()
    }
}

#[derive(Default)]
struct Dead {
    sent: Mutex<String>,
}

impl DeadQueue for Dead {
    fn send<'a>(
        &'a self,
        body: &'a str,
    ) -> BoxFuture<'a, Result<(), bellwire_publisher::call::CallError>> {
        body.clone_into(&mut self.sent.lock().unwrap());
        async { Ok(()) }.boxed()
    }
}
