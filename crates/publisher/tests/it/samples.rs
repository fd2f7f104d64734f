//! A workflow, and what AWS writes of it.

use bellwire_publisher::route::Rules;
use bellwire_schema::workflow::{Workflow, read};
use bellwire_schema::{Deployment, Place};
use serde_json::{Value, json};

pub(crate) const WORKFLOW: &str = r#"
workflow = "wine"
[[source]]
name = "raw"
kind = "s3"
bucket = "wine-lake"
prefix = "raw/"
suffix = ".csv"
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
[[source]]
name = "gone"
kind = "s3"
bucket = "wine-lake"
prefix = "predictions/"
emits = "data.removed"
dataset = "wine"
[[source]]
name = "nightly"
kind = "schedule"
expression = "cron(0 3 * * ? *)"
emits = "collection.requested"
dataset = "wine"
parameters = { full = true }
[[source]]
name = "labelling"
kind = "step-functions"
resource = "somebody-labels"
stage = "collection"
dataset = "labels"
[[source]]
name = "app"
kind = "http"
emits = "collection.requested"
dataset = "wine"
[[trigger]]
name = "train"
stage = "training"
on = "data.arrived"
start = { step-functions = "workflows/train.asl.json" }
"#;

pub(crate) const ACCOUNT: &str = "123456789012";
pub(crate) const QUEUE_ARN: &str = "arn:aws:sqs:eu-west-1:123456789012:wine-ingest";
pub(crate) const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
pub(crate) const TRAIN: &str = "arn:aws:states:eu-west-1:123456789012:stateMachine:wine-train";
pub(crate) const TRAIN_RUN: &str =
    "arn:aws:states:eu-west-1:123456789012:execution:wine-train:train-1";

pub(crate) fn workflow() -> Workflow {
    read(WORKFLOW).unwrap_or_else(|problems| panic!("{problems}"))
}

pub(crate) fn deployment() -> Deployment {
    Deployment::new("wine", None)
}

pub(crate) fn rules() -> Rules {
    Rules::new(&workflow(), &deployment(), &Place::new("eu-west-1", ACCOUNT))
}

/// One record of a notification of S3, with its key as S3 writes it.
pub(crate) fn s3_record(event_name: &str, encoded_key: &str) -> Value {
    json!({
        "eventVersion": "2.6", "eventSource": "aws:s3", "awsRegion": "eu-west-1",
        "eventTime": "2026-11-22T02:14:07.123Z", "eventName": event_name,
        "s3": {
            "bucket": { "name": "wine-lake", "arn": "arn:aws:s3:::wine-lake" },
            "object": { "key": encoded_key, "size": 12100, "eTag": "d41d", "sequencer": "0055AED6DCD90281E5" },
        },
    })
}

pub(crate) fn s3_body(encoded_keys: &[&str]) -> String {
    let records: Vec<Value> =
        encoded_keys.iter().map(|key| s3_record("ObjectCreated:Put", key)).collect();
    json!({ "Records": records }).to_string()
}

pub(crate) fn test_event() -> String {
    json!({ "Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "wine-lake" }).to_string()
}

/// What SNS makes of a message for a queue without raw delivery.
pub(crate) fn sns_wrapped(body: &str) -> String {
    json!({
        "Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:eu-west-1:1:t",
        "Message": body, "Timestamp": "2026-11-22T02:14:07.123Z",
    })
    .to_string()
}

/// EventBridge's word on an execution.
pub(crate) fn status_event(status: &str, machine: &str, input: Option<Value>) -> String {
    json!({
        "version": "0", "source": "aws.states", "region": "eu-west-1",
        "detail-type": "Step Functions Execution Status Change",
        "detail": {
            "executionArn": machine.replace("stateMachine", "execution") + ":train-1",
            "stateMachineArn": machine, "name": "train-1", "status": status,
            "startDate": 1_795_313_647_000_i64, "stopDate": 1_795_313_648_900_i64,
            "input": input.map(|input| input.to_string()),
            "output": r#"{"metrics":{"accuracy":0.68}}"#,
        },
    })
    .to_string()
}

/// The input of a run that Bellwire started.
pub(crate) fn run_input(trigger: &str) -> Value {
    json!({ "bellwire": {
        "trigger": trigger, "stage": "training", "dataset": "hinted", "start_key": "k",
        "event": { "traceparent": TRACEPARENT, "correlationid": "c-1", "causationid": "e-1", "hop": 3 },
    } })
}

pub(crate) fn scheduled_event(rule: &str) -> String {
    json!({
        "version": "0", "id": "random", "source": "aws.events", "detail-type": "Scheduled Event",
        "time": "2026-11-22T03:00:00Z", "region": "eu-west-1", "detail": {},
        "resources": [format!("arn:aws:events:eu-west-1:123456789012:rule/{rule}")],
    })
    .to_string()
}
