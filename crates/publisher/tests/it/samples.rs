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
name = "pipelines"
kind = "sagemaker"
resource = "Abalone"
stage = "training"
dataset = "shells"
[[source]]
name = "gpu"
kind = "batch"
resource = "gpu-queue"
stage = "prediction"
dataset = "wine"
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

/// EventBridge's word on a job of SageMaker, as its documentation shows it: with its
/// times as text for training, and as numbers or RFC 3339 for the others.
pub(crate) fn sagemaker_job(job: &str, name: &str, status: &str) -> Value {
    let arn = format!(
        "arn:aws:sagemaker:eu-west-1:{ACCOUNT}:{}-job/{}",
        job.to_lowercase(),
        name.to_lowercase()
    );
    let mut event = json!({
        "version": "0", "id": "844e2571-85d4-695f-b930-0153b71dcb42", "account": ACCOUNT,
        "detail-type": format!("SageMaker {job} Job State Change"), "source": "aws.sagemaker",
        "time": "2026-11-22T02:14:09Z", "region": "eu-west-1", "resources": [arn],
        "detail": {
            (format!("{job}JobName")): name, (format!("{job}JobArn")): arn,
            (format!("{job}JobStatus")): status,
            "RoleArn": "arn:aws:iam::111122223333:role/SMRole", "Tags": {},
        },
    });
    let detail = event["detail"].as_object_mut().unwrap();
    let times = match job {
        "Training" => [json!("1795313647000"), json!("1795313648900")],
        "Processing" => [json!(1_795_313_647_000_i64), json!(1_795_313_648_900_i64)],
        _ => [json!("2026-11-22T02:14:07Z"), json!("2026-11-22T02:14:08.9Z")],
    };
    let [start, end] = times;
    detail.insert(format!("{job}StartTime"), start);
    detail.insert(format!("{job}EndTime"), end);
    if status == "Failed" {
        detail.insert("FailureReason".to_owned(), json!("AlgorithmError: exit code 1"));
    }
    event
}

pub(crate) fn training_job(name: &str, status: &str) -> String {
    let mut event = sagemaker_job("Training", name, status);
    event["detail"]["SecondaryStatus"] = json!(status);
    event["detail"]["ModelArtifacts"] =
        json!({ "S3ModelArtifacts": "s3://wine-lake/models/model.tar.gz" });
    event["detail"]["FinalMetricDataList"] = json!([
        { "MetricName": "validation:auc", "Value": 0.93, "Timestamp": 1_795_313_648_i64 },
        { "MetricName": "no-number", "Value": "NaN" },
    ]);
    event.to_string()
}

pub(crate) fn processing_job(name: &str, status: &str) -> String {
    let mut event = sagemaker_job("Processing", name, status);
    event["detail"]["ProcessingOutputConfig"] = json!({ "Outputs": [
        { "OutputName": "train", "S3Output": { "S3Uri": "s3://wine-lake/train", "LocalPath": "/p" } },
        { "OutputName": "features", "FeatureStoreOutput": { "FeatureGroupName": "g" } },
    ] });
    event.to_string()
}

pub(crate) fn transform_job(name: &str, status: &str) -> String {
    let mut event = sagemaker_job("Transform", name, status);
    event["detail"]["TransformOutput"] = json!({ "S3OutputPath": "s3://wine-lake/scored" });
    event.to_string()
}

/// EventBridge's word on an execution of a pipeline.
pub(crate) fn pipeline_event(pipeline: &str, status: &str) -> String {
    let arn = format!("arn:aws:sagemaker:eu-west-1:{ACCOUNT}:pipeline/{pipeline}");
    let execution = format!("{arn}/execution/p4jn9xou8a8s");
    json!({
        "version": "0", "id": "315c1398-40ff-a850-213b-158f73kd93ir",
        "detail-type": "SageMaker Model Building Pipeline Execution Status Change",
        "source": "aws.sagemaker", "account": ACCOUNT, "time": "2026-11-22T02:14:09Z",
        "region": "eu-west-1", "resources": [arn, execution],
        "detail": {
            "pipelineExecutionDisplayName": "SomeDisplayName",
            "currentPipelineExecutionStatus": status, "previousPipelineExecutionStatus": "Executing",
            "executionStartTime": "2026-11-22T02:14:07Z", "executionEndTime": "2026-11-22T02:14:08Z",
            "pipelineExecutionDescription": "SomeDescription",
            "pipelineArn": arn, "pipelineExecutionArn": execution,
        },
    })
    .to_string()
}

/// EventBridge's word on a job of AWS Batch; a part of a job has `:0` or `#0` behind its id.
pub(crate) fn batch_job(queue: &str, status: &str, part: &str) -> String {
    let id = format!("4c7599ae-0a82-49aa-ba5a-4727fcce14a8{part}");
    let arn = format!("arn:aws:batch:eu-west-1:{ACCOUNT}:job/{id}");
    json!({
        "version": "0", "id": "c8f9c4b5-76e5-d76a-f980-7011e206042b",
        "detail-type": "Batch Job State Change", "source": "aws.batch", "account": ACCOUNT,
        "time": "2026-11-22T02:14:09Z", "region": "eu-west-1", "resources": [arn],
        "detail": {
            "jobArn": arn, "jobName": "event-test", "jobId": id,
            "jobQueue": format!("arn:aws:batch:eu-west-1:{ACCOUNT}:job-queue/{queue}"),
            "status": status, "statusReason": "Essential container in task exited",
            "attempts": [{ "container": { "exitCode": 1 }, "startedAt": 1, "stoppedAt": 2 }],
            "createdAt": 1_795_313_640_000_i64, "startedAt": 1_795_313_647_000_i64,
            "stoppedAt": 1_795_313_648_900_i64, "retryStrategy": { "attempts": 2 },
            "jobDefinition": format!("arn:aws:batch:eu-west-1:{ACCOUNT}:job-definition/score:1"),
            "parameters": {}, "tags": {},
            "container": {
                "image": "busybox", "exitCode": 1,
                "reason": "OutOfMemoryError: Container killed due to memory usage",
            },
        },
    })
    .to_string()
}

/// EventBridge's word on an object, with its key as it is.
pub(crate) fn s3_event(kind: &str, key: &str, detail: &Value) -> String {
    let mut event = json!({
        "version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "source": "aws.s3",
        "detail-type": kind, "account": ACCOUNT, "region": "eu-west-1",
        "time": "2026-11-22T02:14:08Z", "resources": ["arn:aws:s3:::wine-lake"],
        "detail": { "version": "0", "bucket": { "name": "wine-lake" },
            "object": { "key": key, "sequencer": "00" } },
    });
    for (name, value) in detail.as_object().unwrap() {
        event["detail"][name] = value.clone();
    }
    event.to_string()
}

/// One body of each form that the ingest queue gets.
pub(crate) fn every_form() -> Vec<String> {
    vec![
        test_event(),
        s3_body(&["raw/part+3.csv", "raw/b.csv"]),
        s3_event("Object Created", "raw/a+b%20.csv", &json!({ "reason": "PutObject" })),
        status_event("SUCCEEDED", TRAIN, Some(run_input("train"))),
        status_event("RUNNING", TRAIN, None),
        scheduled_event("wine-nightly"),
        training_job("Abalone-1", "Completed"),
        processing_job("Abalone-1", "Failed"),
        transform_job("Abalone-1", "Stopped"),
        pipeline_event("abalone", "Succeeded"),
        batch_job("gpu-queue", "FAILED", ""),
    ]
}
