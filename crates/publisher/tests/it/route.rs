use bellwire_publisher::decode::decode;
use bellwire_publisher::route::{Draft, Routed, Rules, Skip};
use bellwire_schema::completion::CompletionOrigin;
use bellwire_schema::workflow::read;
use bellwire_schema::{Envelope, Place, Stage};
use serde_json::json;

use crate::samples::{
    ACCOUNT, TRAIN, batch_job, deployment, pipeline_event, processing_job, rules, run_input,
    s3_body, s3_event, s3_record, scheduled_event, status_event, test_event, training_job,
    transform_job, workflow,
};

fn route(body: &str) -> Routed {
    rules().route(decode(body).remove(0).unwrap())
}

fn draft(body: &str) -> Draft {
    match route(body) {
        Routed::Event(draft) => *draft,
        Routed::Skip(skip) => panic!("{skip}"),
    }
}

fn whole(body: &str) -> Envelope {
    match draft(body) {
        Draft::Whole(envelope) => envelope,
        other => panic!("{other:?}"),
    }
}

fn pretty(envelope: &Envelope) -> String {
    serde_json::to_string_pretty(envelope).unwrap()
}

#[test]
fn a_notification_of_s3_becomes_this_event() {
    insta::assert_snapshot!(pretty(&whole(&s3_body(&["raw/2026/part+3.csv"]))), @r#"
    {
      "specversion": "1.0",
      "id": "385e8af28bbd3e503ca3dd46844cd037",
      "source": "arn:aws:s3:::wine-lake",
      "type": "ml.data.arrived.v1",
      "subject": "raw/2026/part 3.csv",
      "time": "2026-11-22T02:14:07.123Z",
      "datacontenttype": "application/json",
      "dataset": "wine",
      "partitionkey": "wine",
      "sequence": "0055AED6DCD90281E5",
      "hop": 0,
      "data": {
        "bucket": "wine-lake",
        "etag": "d41d",
        "event_name": "ObjectCreated:Put",
        "key": "raw/2026/part 3.csv",
        "region": "eu-west-1",
        "sequencer": "0055AED6DCD90281E5",
        "size_bytes": 12100
      }
    }
    "#);
}

/// The suffix of its source hides it; a trigger that gathers waits for it.
#[test]
fn a_marker_that_a_gather_waits_for_comes_through() {
    let waiting = |gather: &str| {
        let mut workflow = workflow();
        workflow.triggers.extend(
            read(&format!(
                "workflow = \"wine\"\n[[source]]\nname = \"raw\"\nkind = \"s3\"\nbucket = \"wine-lake\"\n\
                 emits = \"data.arrived\"\n[[trigger]]\nname = \"gathered\"\nstage = \"training\"\n\
                 on = \"data.arrived\"\n{gather}\nstart = {{ step-functions = \"train.asl.json\" }}\n"
            ))
            .unwrap()
            .triggers,
        );
        let place = Place::new("eu-west-1", "123456789012");
        Rules::new(&workflow, &deployment(), &place)
    };
    let route = |rules: &Rules, key: &str| rules.route(decode(&s3_body(&[key])).remove(0).unwrap());
    let rules = waiting("gather = { marker = \"_SUCCESS\" }");
    let Routed::Event(draft) = route(&rules, "raw/2026/_SUCCESS") else { panic!("it is hidden") };
    let Draft::Whole(event) = *draft else { panic!("{draft:?}") };
    assert_eq!(
        (event.dataset.as_deref(), event.subject.as_deref()),
        (Some("wine"), Some("raw/2026/_SUCCESS"))
    );
    for key in ["raw/2026/not_SUCCESS", "raw/2026/_SUCCESS/a", "elsewhere/_SUCCESS"] {
        assert_eq!(route(&rules, key), Routed::Skip(Skip::NoRule), "{key}");
    }
    let rules = waiting("");
    assert_eq!(route(&rules, "raw/2026/_SUCCESS"), Routed::Skip(Skip::NoRule));
}

#[test]
fn a_schedule_becomes_this_event() {
    insta::assert_snapshot!(pretty(&whole(&scheduled_event("wine-nightly"))), @r#"
    {
      "specversion": "1.0",
      "id": "f3ee52664467cd2b1c9aa1950814898d",
      "source": "arn:aws:events:eu-west-1:123456789012:rule/wine-nightly",
      "type": "ml.collection.requested.v1",
      "time": "2026-11-22T03:00:00Z",
      "datacontenttype": "application/json",
      "dataset": "wine",
      "partitionkey": "wine",
      "stage": "collection",
      "hop": 0,
      "data": {
        "parameters": {
          "full": true
        }
      }
    }
    "#);
}

#[test]
fn a_completion_of_somebody_s_state_machine_becomes_this_event() {
    let machine = TRAIN.replace("wine-train", "somebody-labels");
    insta::assert_snapshot!(pretty(&whole(&status_event("SUCCEEDED", &machine, None))), @r#"
    {
      "specversion": "1.0",
      "id": "f4dbe852438c507bfd48a97e0ba102af",
      "source": "arn:aws:states:eu-west-1:123456789012:stateMachine:somebody-labels",
      "type": "ml.collection.completed.v1",
      "subject": "arn:aws:states:eu-west-1:123456789012:execution:somebody-labels:train-1",
      "time": "2026-11-22T02:14:08.9Z",
      "datacontenttype": "application/json",
      "dataset": "labels",
      "partitionkey": "labels",
      "stage": "collection",
      "hop": 0,
      "data": {
        "artifacts": [],
        "metrics": {
          "accuracy": 0.68
        },
        "output": {
          "metrics": {
            "accuracy": 0.68
          }
        },
        "run": {
          "arn": "arn:aws:states:eu-west-1:123456789012:execution:somebody-labels:train-1",
          "duration_s": 1.9,
          "started_at": "2026-11-22T02:14:07Z",
          "status": "SUCCEEDED",
          "stopped_at": "2026-11-22T02:14:08.9Z"
        }
      }
    }
    "#);
}

#[test]
fn the_event_of_a_job_says_what_aws_said_of_it() {
    let completed = whole(&training_job("Abalone-1", "Completed"));
    let arn = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/abalone-1";
    assert_eq!((completed.source.as_str(), completed.subject.as_deref()), (arn, Some(arn)));
    let data = completed.data.unwrap();
    assert_eq!(data["run"]["status"], "Completed");
    assert_eq!(data["run"]["duration_s"], 1.9);
    assert_eq!(data["metrics"], json!({ "validation:auc": 0.93 }));
    assert_eq!(data["artifacts"][0]["uri"], "s3://wine-lake/models/model.tar.gz");

    let failed = whole(&batch_job("gpu-queue", "FAILED", ""));
    assert_eq!(failed.source, "arn:aws:batch:eu-west-1:123456789012:job-queue/gpu-queue");
    let data = failed.data.unwrap();
    assert_eq!(data["run"]["status"], "FAILED");
    assert!(data["cause"].as_str().unwrap().contains("OutOfMemoryError"), "{data}");

    let stopped = whole(&pipeline_event("abalone", "Stopped"));
    assert_eq!(stopped.source, "arn:aws:sagemaker:eu-west-1:123456789012:pipeline/abalone");
    assert_eq!(stopped.event_type.as_str(), "ml.training.failed.v1");
    assert_eq!(stopped.data.unwrap()["run"]["status"], "Stopped");
}

#[test]
fn every_run_that_a_source_names_has_its_stage_and_dataset() {
    for (body, event_type, artifact) in [
        (training_job("Abalone-1", "Stopped"), "ml.training.failed.v1", None),
        (processing_job("Abalone-1", "Completed"), "ml.training.completed.v1", Some("train")),
        (transform_job("Abalone-1", "Completed"), "ml.training.completed.v1", Some("predictions")),
        (pipeline_event("Abalone", "Failed"), "ml.training.failed.v1", None),
        (pipeline_event("abalone", "Succeeded"), "ml.training.completed.v1", None),
        (batch_job("gpu-queue", "SUCCEEDED", ""), "ml.prediction.completed.v1", None),
    ] {
        let envelope = whole(&body);
        assert_eq!(envelope.event_type.as_str(), event_type);
        let is_batch = envelope.event_type.as_str().starts_with("ml.prediction");
        assert_eq!(envelope.dataset.as_deref(), Some(if is_batch { "wine" } else { "shells" }));
        let data = envelope.data.unwrap();
        let name = data.pointer("/artifacts/0/name").and_then(serde_json::Value::as_str);
        assert_eq!(name, artifact, "{data}");
    }
}

#[test]
fn one_end_told_twice_is_one_event_and_another_end_is_another() {
    let id = |status: &str| whole(&training_job("Abalone-1", status)).id;
    assert_eq!(id("Completed"), id("Completed"));
    assert_ne!(id("Completed"), id("Failed"));
    assert_ne!(id("Completed"), whole(&training_job("Abalone-2", "Completed")).id);
}

#[test]
fn what_is_no_event_is_skipped_by_name() {
    let removed = |key| json!({ "Records": [s3_record("ObjectRemoved:Delete", key)] }).to_string();
    let restored = json!({ "Records": [s3_record("ObjectRestore:Post", "raw/a.csv")] }).to_string();
    for (body, skip) in [
        (test_event(), Skip::TestEvent),
        (s3_body(&["raw/2026/"]), Skip::FolderMarker),
        (s3_body(&["raw/a.txt"]), Skip::NoRule),
        (s3_body(&["other/a.csv"]), Skip::NoRule),
        (removed("raw/a.csv"), Skip::NoRule),
        (restored, Skip::OtherObjectEvent),
        (status_event("RUNNING", TRAIN, None), Skip::RunStillRunning),
        (status_event("FAILED", &format!("{TRAIN}-other"), None), Skip::NoRule),
        (scheduled_event("somebody-elses"), Skip::NoRule),
        (training_job("abalone-1", "Completed"), Skip::NoRule),
        (training_job("Other", "Failed"), Skip::NoRule),
        (pipeline_event("Abalone-2", "Succeeded"), Skip::NoRule),
        (batch_job("cpu-queue", "FAILED", ""), Skip::NoRule),
        (batch_job("gpu-queue", "FAILED", ":3"), Skip::RunStillRunning),
        (pipeline_event("abalone", "Stopping"), Skip::RunStillRunning),
        (s3_event("Object Created", "raw/2026/", &json!({})), Skip::FolderMarker),
    ] {
        assert_eq!(route(&body), Routed::Skip(skip), "{body}");
    }
}

#[test]
fn only_what_was_created_has_metadata_to_read() {
    let Draft::Object { object, envelope } = draft(&s3_body(&["models/m+1"])) else { panic!() };
    assert_eq!((object.bucket.as_str(), object.key.as_str()), ("wine-lake", "models/m 1"));
    assert_eq!(object.version_id, None);
    assert_eq!(envelope.event_type.as_str(), "ml.data.arrived.v1");
    let removed = json!({ "Records": [s3_record("ObjectRemoved:Delete", "predictions/p")] });
    assert_eq!(whole(&removed.to_string()).event_type.as_str(), "ml.data.removed.v1");
}

/// The origin that a completion has where the ledger knows nothing.
fn otherwise(input: Option<serde_json::Value>) -> CompletionOrigin {
    match draft(&status_event("SUCCEEDED", TRAIN, input)) {
        Draft::Completion { otherwise, .. } => otherwise,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_run_s_input_is_a_hint_only_where_it_agrees_with_the_workflow() {
    let hinted = otherwise(Some(run_input("train")));
    assert_eq!(hinted.stage, Stage::Training);
    assert_eq!(hinted.trigger.as_deref(), Some("train"));
    assert_eq!(hinted.dataset.as_deref(), Some("hinted"));
    assert_eq!(hinted.context.hop, 3);
    for no_hint in [None, Some(json!({})), Some(run_input("forged"))] {
        let origin = otherwise(no_hint);
        assert_eq!(origin.stage, Stage::Training);
        assert_eq!((origin.trigger, origin.dataset), (None, None));
        assert_eq!(origin.context, Default::default());
    }
}

/// Rules of a workflow whose triggers start a pipeline and a job.
fn rules_of_triggers() -> Rules {
    let workflow = read(
        r#"
workflow = "wine"
[handler]
delivery = "queued"
[[source]]
name = "raw"
kind = "s3"
bucket = "wine-lake"
[[trigger]]
name = "fit"
stage = "training"
on = "data.arrived"
start = { sagemaker-pipeline = "Abalone" }
[[trigger]]
name = "score"
stage = "prediction"
on = "data.arrived"
start = { batch = { job_queue = "gpu-queue", job_definition = "score" } }
"#,
    );
    let workflow = workflow.unwrap_or_else(|problems| panic!("{problems}"));
    Rules::new(&workflow, &deployment(), &Place::new("eu-west-1", ACCOUNT))
}

/// Where a completion goes whose context the ledger may know.
fn otherwise_of_triggers(body: &str) -> Result<(String, CompletionOrigin), Skip> {
    match rules_of_triggers().route(decode(body).remove(0).unwrap()) {
        Routed::Skip(skip) => Err(skip),
        Routed::Event(draft) => match *draft {
            Draft::Completion { completion, otherwise } => Ok((completion.run_arn, otherwise)),
            other => panic!("the ledger is not asked: {other:?}"),
        },
    }
}

#[test]
fn the_end_of_a_triggers_pipeline_is_looked_up_whatever_its_arns_case() {
    for name in ["Abalone", "abalone"] {
        let (run_arn, origin) =
            otherwise_of_triggers(&pipeline_event(name, "CompletedWithFailures")).unwrap();
        let arn = "arn:aws:sagemaker:eu-west-1:123456789012:pipeline/abalone";
        assert_eq!(run_arn, format!("{arn}/execution/p4jn9xou8a8s"));
        assert_eq!((origin.stage, origin.trigger), (Stage::Training, None));
    }
    let other = pipeline_event("abalone-2", "Succeeded");
    assert_eq!(otherwise_of_triggers(&other).unwrap_err(), Skip::NoRule);
}

/// A job queue is shared: a job is a trigger's only where it says so itself.
#[test]
fn the_end_of_a_triggers_job_is_told_from_others_of_its_queue() {
    let foreign = batch_job("gpu-queue", "SUCCEEDED", "");
    assert_eq!(otherwise_of_triggers(&foreign).unwrap_err(), Skip::NoRule);
    let ours = |input: serde_json::Value| {
        let mut event: serde_json::Value = serde_json::from_str(&foreign).unwrap();
        event["detail"]["container"]["environment"] = json!([
            { "name": "TRACEPARENT", "value": "x" },
            { "name": "BELLWIRE_INPUT", "value": input.to_string() },
        ]);
        otherwise_of_triggers(&event.to_string())
    };
    let (_, origin) = ours(run_input("score")).unwrap();
    assert_eq!((origin.stage, origin.trigger.as_deref()), (Stage::Prediction, Some("score")));
    assert_eq!((origin.dataset.as_deref(), origin.context.hop), (Some("hinted"), 3));
    assert_eq!(ours(run_input("forged")).unwrap_err(), Skip::NoRule);
}
