//! What is to be published: messages of the ingest queue, good and bad, and what
//! clients send over HTTP.

use std::sync::LazyLock;

use bellwire_publisher::ingest::Admitted;
use bellwire_publisher::route::Rules;
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::workflow::read;
use bellwire_schema::{Deployment, Envelope, Place};
use fastrand::Rng;
use serde_json::{Value, json};

use crate::plan::pick;

pub(crate) const QUEUE_ARN: &str = "arn:aws:sqs:eu-west-1:123456789012:wine-ingest";

/// What the name of an event says that SNS refuses.
pub(crate) const REFUSED: &str = "refused";

const WORKFLOW: &str = r#"
workflow = "wine"
[[source]]
name = "raw"
kind = "s3"
bucket = "wine-lake"
prefix = "raw/"
emits = "data.arrived"
dataset = "wine"
[[source]]
name = "models"
kind = "s3"
bucket = "wine-lake"
prefix = "models/"
emits = "data.arrived"
dataset = "wine"
context = "metadata"
[[trigger]]
name = "train"
stage = "training"
on = "data.arrived"
start = { step-functions = "workflows/train.asl.json" }
"#;

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let workflow = read(WORKFLOW).unwrap_or_else(|problems| panic!("{problems}"));
    Rules::new(&workflow, &Deployment::new("wine", None), &Place::new("eu-west-1", "123456789012"))
});

pub(crate) fn rules() -> Rules {
    RULES.clone()
}

/// What a message of the queue holds, and what is to become of it.
#[derive(Debug, Clone)]
pub(crate) struct QueueMessage {
    pub(crate) body: String,
    pub(crate) records: Vec<Wanted>,
}

/// What is to become of a record, or of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The event of this subject is published.
    Published(String),
    /// SNS refuses the event of this subject: it goes to the dead queue.
    Refused(String),
    /// Nothing.
    Skipped,
    /// It goes to the dead queue for this reason.
    Buried(DeadReason),
}

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
    /// Its id, which is its subject too.
    pub(crate) id: String,
    pub(crate) lane: Option<String>,
    /// Its place among all events of its client.
    pub(crate) number: u64,
}

impl HttpEvent {
    pub(crate) fn is_refused(&self) -> bool {
        self.id.contains(REFUSED)
    }

    pub(crate) fn admitted(&self) -> Admitted {
        let event_type = "collection.requested".parse().expect("a known type");
        let mut envelope = Envelope::new(&self.id, "/app", event_type);
        envelope.subject = Some(self.id.clone());
        envelope.partitionkey = self.lane.clone();
        Admitted { envelope, lane: self.lane.clone() }
    }
}

/// What comes into the ingest queue, in order of time.
pub(crate) fn messages(random: &mut Rng, until: u64) -> Vec<(u64, QueueMessage)> {
    let count_max = *pick(random, &[8, 20, 50]);
    let count = random.usize(1..count_max);
    let is_backlog = random.u8(0..4) == 0;
    let mut next = 0;
    let mut messages: Vec<_> = (0..count)
        .map(|_| {
            let at = if is_backlog { 0 } else { random.u64(0..until) };
            (at, message(&mut next, random))
        })
        .collect();
    messages.sort_by_key(|(at, _)| *at);
    messages
}

fn message(next: &mut u64, random: &mut Rng) -> QueueMessage {
    let mut good = |prefix: &str| {
        *next += 1;
        format!("{prefix}{next}.csv")
    };
    let published = |key: String| (key.clone(), Wanted::Published(key));
    let records = match random.u8(0..40) {
        0..22 => vec![published(good("raw/"))],
        22..26 => (0..random.usize(2..14)).map(|_| published(good("raw/"))).collect(),
        26..30 => vec![published(good("models/")), published(good("raw/"))],
        30..32 => {
            let key = good(&format!("raw/{REFUSED}-"));
            vec![published(good("raw/")), (key.clone(), Wanted::Refused(key))]
        }
        32..34 => vec![
            published(good("raw/")),
            ("raw/%FF.csv".to_owned(), Wanted::Buried(DeadReason::KeyNotUtf8)),
            published(good("raw/")),
        ],
        34 => vec![("raw/folder/".to_owned(), Wanted::Skipped), published(good("raw/"))],
        35 => vec![("elsewhere/x".to_owned(), Wanted::Skipped)],
        36 => {
            let body =
                json!({ "Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "wine-lake" });
            return QueueMessage { body: body.to_string(), records: vec![Wanted::Skipped] };
        }
        37 => {
            let key = good("raw/");
            let body = wrapped_by_sns(&notification(&[&key]));
            return QueueMessage { body, records: vec![Wanted::Published(key)] };
        }
        38 => {
            let records = vec![Wanted::Buried(DeadReason::Undecodable)];
            return QueueMessage { body: format!("garbage {}", random.u32(..)), records };
        }
        _ => {
            let body = json!({ "Records": [{ "eventSource": "aws:s3" }] }).to_string();
            return QueueMessage {
                body,
                records: vec![Wanted::Buried(DeadReason::MalformedRecord)],
            };
        }
    };
    let keys: Vec<&str> = records.iter().map(|(key, _)| key.as_str()).collect();
    let body = notification(&keys);
    QueueMessage { body, records: records.into_iter().map(|(_, wanted)| wanted).collect() }
}

fn notification(keys: &[&str]) -> String {
    let record = |key: &&str| {
        json!({
            "eventVersion": "2.6", "eventSource": "aws:s3", "awsRegion": "eu-west-1",
            "eventTime": "2026-11-22T02:14:07.123Z", "eventName": "ObjectCreated:Put",
            "s3": {
                "bucket": { "name": "wine-lake", "arn": "arn:aws:s3:::wine-lake" },
                "object": { "key": key, "size": 12100, "eTag": "d41d", "sequencer": "0055AED6DCD90281E5" },
            },
        })
    };
    json!({ "Records": keys.iter().map(record).collect::<Vec<Value>>() }).to_string()
}

fn wrapped_by_sns(body: &str) -> String {
    json!({
        "Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:eu-west-1:1:t",
        "Message": body, "Timestamp": "2026-11-22T02:14:07.123Z",
    })
    .to_string()
}

/// What one client sends, request after request.
pub(crate) fn requests(client: &str, random: &mut Rng, until: u64) -> Vec<HttpRequest> {
    let mut number = 0;
    let lanes = [None, Some(format!("{client}-a")), Some(format!("{client}-b"))];
    let mut requests: Vec<HttpRequest> = (0..random.usize(1..10))
        .map(|_| HttpRequest {
            at: random.u64(0..until),
            events: (0..*pick(random, &[1, 1, 2, 5]))
                .map(|_| event(client, &lanes, random))
                .collect(),
            attempts_max: *pick(random, &[3, u32::MAX]),
        })
        .collect();
    requests.sort_by_key(|request| request.at);
    for event in requests.iter_mut().flat_map(|request| &mut request.events) {
        number += 1;
        event.number = number;
        event.id = format!("{}-{number}", event.id);
    }
    requests
}

fn event(client: &str, lanes: &[Option<String>], random: &mut Rng) -> HttpEvent {
    let id = match random.u8(0..16) {
        0 => format!("{client}-{REFUSED}"),
        _ => client.to_owned(),
    };
    HttpEvent { id, lane: pick(random, lanes).clone(), number: 0 }
}
