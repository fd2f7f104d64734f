//! What the handler owes to whatever invokes it. The fuzz target calls [`invocation`], and
//! so does the replay of what fuzzing has found: there is one of it.

use std::sync::LazyLock;

use bellwire_handler::decode::{Delivery, Invocation, Undeliverable, check_payload};
use bellwire_handler::matching::{EndedRun, matching};
use bellwire_handler::plan::plan_start;
use bellwire_handler::straight::{Told, told_by_s3};
use bellwire_handler::{Model, Settings};
use bellwire_schema::limits::{STEP_FUNCTIONS_INPUT_BYTES_MAX, STEP_FUNCTIONS_NAME_CHARS_MAX};
use bellwire_schema::workflow::{Workflow, read};
use bellwire_schema::{Deployment, Envelope, EventContext, Place};
use serde_json::{Value, json};

const WORKFLOW: &str = r#"
workflow = "wine"
[topic]
kms_key = "alias/ours"
[[event]]
type = "label.approved"
[[source]]
name = "raw"
kind = "s3"
bucket = "wine-lake"
prefix = "raw/"
suffix = ".csv"
via = "topic"
dataset = "wine"
[[source]]
name = "labels"
kind = "http"
emits = "label.approved"
[[trigger]]
name = "train"
stage = "training"
on = "data.arrived"
start = { step-functions = "train.asl.json" }
[[trigger]]
name = "label"
stage = "evaluation"
on = ["label.approved", "training.completed"]
where = { data.batch = [{ prefix = "b" }] }
start = { step-functions = "label.asl.json" }
input = { batch = "$.data.batch", all = "$..parts[*]", fixed = { seed = 7 } }
[[trigger]]
name = "gathered"
stage = "prediction"
on = "label.approved"
gather = { count = 3, by = "$.data.batch", within = "10m" }
start = { step-functions = "gathered.asl.json" }
"#;

static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let workflow: Workflow = read(WORKFLOW).unwrap_or_else(|problems| panic!("{problems}"));
    let deployment = Deployment::new("wine", None);
    let place = Place::new("us-east-1", "123456789012");
    Model::compile(Settings { workflow, deployment, place }).expect("a model")
});

/// The payload of an invocation: of each message in it nothing is forgotten, and each is
/// events, named skips, or something that can never be handled, for a reason; what way a
/// message takes changes none of that.
pub(crate) fn invocation(bytes: &[u8]) {
    // Lambda hands over JSON, and nothing else.
    let Ok(payload) = serde_json::from_slice::<Value>(bytes) else { return };
    let deliveries = match Invocation::decode(&payload) {
        Invocation::Sweep => return assert_eq!(payload["bellwire"], "sweep"),
        Invocation::Unknown => Vec::new(),
        Invocation::Deliveries(deliveries) => deliveries,
        Invocation::Batch(queued) => queued.into_iter().map(|one| one.delivery).collect(),
    };
    let count = |value: &Value| value.as_array().map_or(1, Vec::len);
    let sent = payload.get("Records").map_or_else(|| count(&payload), count);
    assert!(deliveries.is_empty() || deliveries.len() == sent, "a message is forgotten");
    for delivery in &deliveries {
        answers_for(delivery);
    }
    let body = payload.to_string();
    assert_eq!(bodies(&by_sns(&body)), [body.as_str()]);
    assert_eq!(bodies(&by_queue(&wrapped(&body))), [body.as_str()]);
    answers_for(&Delivery { body, ..Delivery::default() });
}

fn answers_for(delivery: &Delivery) {
    match told_by_s3(&MODEL.workflow, &delivery.body) {
        None => is_event_or_has_a_reason(delivery.event()),
        Some(told) => {
            assert!(!told.is_empty(), "a message that nobody answers for");
            for record in told {
                match record {
                    Ok(Told::Event(event)) => is_event_or_has_a_reason(Ok(*event)),
                    Ok(Told::Skip { reason, .. }) => assert!(!reason.is_empty()),
                    Err(error) => is_event_or_has_a_reason(Err(error)),
                }
            }
        }
    }
}

fn is_event_or_has_a_reason(event: Result<Envelope, Undeliverable>) {
    let event = match event.and_then(|event| check_payload(&event).map(|()| event)) {
        Ok(event) => event,
        Err(error) => {
            return assert!(!error.reason().as_str().is_empty() && !error.to_string().is_empty());
        }
    };
    _ = EndedRun::of(&event);
    for trigger in matching(&MODEL, &event) {
        match plan_start(&MODEL, trigger, &event, EventContext::default()) {
            Ok(start) => {
                assert!(start.name.chars().count() <= STEP_FUNCTIONS_NAME_CHARS_MAX);
                assert!(start.input.len() <= STEP_FUNCTIONS_INPUT_BYTES_MAX);
                serde_json::from_str::<Value>(&start.input).expect("an input is JSON");
                let again = plan_start(&MODEL, trigger, &event, EventContext::default());
                assert_eq!(again.as_ref(), Ok(&start), "one cause is one start");
            }
            Err(error) => assert!(!error.reason().as_str().is_empty()),
        }
    }
}

fn bodies(payload: &Value) -> Vec<String> {
    match Invocation::decode(payload) {
        Invocation::Deliveries(deliveries) => deliveries.into_iter().map(|one| one.body).collect(),
        Invocation::Batch(queued) => queued.into_iter().map(|one| one.delivery.body).collect(),
        other => panic!("messages were taken for {other:?}"),
    }
}

fn by_sns(body: &str) -> Value {
    json!({ "Records": [{
        "EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": "arn:sub",
        "Sns": {
            "Type": "Notification", "MessageId": "m-1", "TopicArn": "arn:aws:sns:us-east-1:1:wine",
            "Subject": null, "Message": body, "Timestamp": "2026-11-22T02:14:08.113Z",
            "SignatureVersion": "1", "Signature": "x", "SigningCertUrl": "x",
            "UnsubscribeUrl": "x", "MessageAttributes": {},
        },
    }] })
}

fn wrapped(body: &str) -> String {
    json!({
        "Type": "Notification", "MessageId": "m-1", "TopicArn": "arn:aws:sns:us-east-1:1:wine",
        "Message": body, "Timestamp": "2026-11-22T02:14:08.113Z", "MessageAttributes": {},
    })
    .to_string()
}

fn by_queue(body: &str) -> Value {
    json!({ "Records": [{
        "messageId": "q-1", "receiptHandle": "r", "body": body, "attributes": {},
        "messageAttributes": {}, "md5OfBody": "x", "eventSource": "aws:sqs",
        "awsRegion": "us-east-1", "eventSourceARN": "arn:aws:sqs:us-east-1:1:wine-work",
    }] })
}

#[test]
fn the_handler_keeps_its_word_on_its_whole_corpus() {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/invocation");
    let mut count = 0;
    for file in std::fs::read_dir(&folder).expect("the corpus is there") {
        let path = file.expect("read").path();
        let bytes = std::fs::read(&path).expect("read");
        let kept = std::panic::catch_unwind(|| invocation(&bytes));
        assert!(kept.is_ok(), "see above: {}", path.display());
        count += 1;
    }
    assert!(count >= 10, "{count} files");
}
