use bellwire_schema::completion::{CompletionOrigin, StatusEvent};
use bellwire_schema::s3::{Notification, ObjectEvent, RecordError, decode_key};
use bellwire_schema::workflow::{ContextFrom, Identity, S3Source, Source, SourceKind, Via};
use bellwire_schema::{EventType, Stage};
use proptest::prelude::*;
use serde_json::{Value, json};

fn record(key: &str, changes: &[(&str, Value)]) -> Value {
    let mut record = json!({
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-west-1",
        "eventTime": "2026-11-22T02:14:07.123Z", "eventName": "ObjectCreated:Put",
        "s3": { "bucket": { "name": "wine-lake", "arn": "arn:aws:s3:::wine-lake" },
                "object": { "key": key, "size": 12100, "eTag": "d41d", "sequencer": "0055AED6DCD90281E5" } },
    });
    for (pointer, value) in changes {
        *record.pointer_mut(pointer).unwrap() = value.clone();
    }
    record
}

fn rules(identity: Identity, emits: EventType) -> (Source, S3Source) {
    let rules = S3Source {
        bucket: "wine-lake".to_owned(),
        prefix: "raw/".to_owned(),
        suffix: ".csv".to_owned(),
        emits,
        create: false,
        via: Via::Publisher,
        context: ContextFrom::None,
        identity,
        account: None,
        kms_key: None,
    };
    let kind = SourceKind::S3(rules.clone());
    (
        Source { name: "raw".to_owned(), dataset: Some("wine".to_owned()), expected_s: None, kind },
        rules,
    )
}

fn id_of(record: &Value) -> String {
    let (source, rules) = rules(Identity::Version, EventType::data_arrived());
    ObjectEvent::of_record(record).unwrap().to_envelope(&source, &rules).id
}

#[test]
fn a_plain_notification_is_read_without_a_tree() {
    let body = json!({ "Records": [record("raw/a.csv", &[]), record("raw/%FF", &[])] });
    let read = Notification::read(&body.to_string()).unwrap();
    assert_eq!(Some(read), Notification::decode(&body));
}

#[test]
fn an_id_is_pinned_forever() {
    assert_eq!(id_of(&record("raw/a.csv", &[])), "ff5d4af62023cf99e620405b46609e19");
}

#[test]
fn an_id_depends_on_what_was_written_and_on_nothing_else() {
    let id = id_of(&record("raw/a.csv", &[]));
    for same in [
        record("raw/a.csv", &[("/eventVersion", json!("2.6"))]),
        record("raw/a.csv", &[("/eventTime", json!("2026-11-23T00:00:00Z"))]),
        record("raw/a.csv", &[("/s3/object/eTag", json!("other"))]),
    ] {
        assert_eq!(id_of(&same), id);
    }
    for other in [
        record("raw/b.csv", &[]),
        record("raw/a.csv", &[("/s3/object/sequencer", json!("0055AED6DCD90281E6"))]),
        record("raw/a.csv", &[("/s3/bucket/name", json!("other"))]),
        record("raw/a.csv", &[("/eventName", json!("ObjectRemoved:Delete"))]),
    ] {
        assert_ne!(id_of(&other), id);
    }
}

#[test]
fn a_version_identifies_where_there_is_one() {
    let mut versioned = record("raw/a.csv", &[]);
    versioned["s3"]["object"]["versionId"] = json!("v1");
    let mut replayed = versioned.clone();
    replayed["s3"]["object"]["sequencer"] = json!("00FF");
    assert_eq!(id_of(&versioned), id_of(&replayed));
    versioned["s3"]["object"]["versionId"] = json!("null");
    assert_eq!(id_of(&versioned), id_of(&record("raw/a.csv", &[])));
}

#[test]
fn the_same_bytes_are_one_event_where_content_identifies() {
    let (source, rules) = rules(Identity::Content, EventType::data_arrived());
    let id =
        |record: &Value| ObjectEvent::of_record(record).unwrap().to_envelope(&source, &rules).id;
    let again = record("raw/a.csv", &[("/s3/object/sequencer", json!("00FF"))]);
    let changed = record("raw/a.csv", &[("/s3/object/eTag", json!("other"))]);
    assert_eq!(id(&record("raw/a.csv", &[])), id(&again));
    assert_ne!(id(&record("raw/a.csv", &[])), id(&changed));
}

#[test]
fn s3_and_event_bridge_tell_of_one_event() {
    let bridge = json!({
        "version": "0", "source": "aws.s3", "detail-type": "Object Created", "region": "eu-west-1",
        "time": "2026-11-22T02:14:08Z",
        "detail": { "bucket": { "name": "wine-lake" }, "reason": "PutObject",
            "object": { "key": "raw/part 3.csv", "size": 12100, "etag": "d41d", "sequencer": "0055AED6DCD90281E5" } },
    });
    let bridged = ObjectEvent::of_event_bridge(&bridge).unwrap().unwrap();
    let notified = ObjectEvent::of_record(&record("raw/part+3.csv", &[])).unwrap();
    assert_eq!(bridged.event_name, notified.event_name);
    let (source, rules) = rules(Identity::Version, EventType::data_arrived());
    assert_eq!(bridged.to_envelope(&source, &rules).id, notified.to_envelope(&source, &rules).id);
    assert_eq!(bridged.key, "raw/part 3.csv");
}

#[test]
fn a_test_event_is_known_and_a_stranger_is_not() {
    let test = json!({ "Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "wine-lake" });
    assert_eq!(Notification::decode(&test), Some(Notification::TestEvent));
    for stranger in
        [json!({}), json!([]), json!({ "Records": [] }), json!({ "Records": [{ "Sns": {} }] })]
    {
        assert_eq!(Notification::decode(&stranger), None, "{stranger}");
    }
}

#[test]
fn a_bad_record_leaves_its_neighbours_alone() {
    let body = json!({ "Records": [
        record("raw/a.csv", &[]),
        record("raw/%FF.csv", &[]),
        record("raw/b.csv", &[("/s3/object/key", json!(7))]),
        record("raw/c.csv", &[("/eventVersion", json!("3.0"))]),
        record("raw/d.csv", &[("/eventName", json!("ObjectRestore:Post"))]),
        record("raw/e.csv", &[]),
    ] });
    let Some(Notification::Records(records)) = Notification::decode(&body) else { panic!() };
    assert!(records[0].is_ok() && records[5].is_ok());
    assert!(matches!(records[1], Err(RecordError::KeyNotUtf8 { .. })));
    let Err(RecordError::Shape { field, .. }) = &records[2] else { panic!("{:?}", records[2]) };
    assert_eq!(field, "s3.object.key");
    assert!(matches!(records[3], Err(RecordError::Version { .. })));
    assert!(matches!(records[4], Err(RecordError::OtherEvent { .. })));
}

#[test]
fn a_source_wants_its_own_objects_only() {
    let (_, rules) = rules(Identity::Version, EventType::data_arrived());
    let wants = |record: &Value| rules.wants(&ObjectEvent::of_record(record).unwrap());
    assert!(wants(&record("raw/a.csv", &[])));
    assert!(!wants(&record("raw/a.txt", &[])));
    assert!(!wants(&record("other/a.csv", &[])));
    assert!(!wants(&record("raw/a.csv", &[("/s3/bucket/name", json!("other"))])));
    assert!(!wants(&record("raw/a.csv", &[("/eventName", json!("ObjectRemoved:Delete"))])));
}

fn status_event(status: &str, output: Option<&str>) -> Value {
    json!({
        "source": "aws.states", "detail-type": "Step Functions Execution Status Change",
        "detail": {
            "executionArn": "arn:aws:states:eu-west-1:123456789012:execution:wine-train:train-1",
            "stateMachineArn": "arn:aws:states:eu-west-1:123456789012:stateMachine:wine-train",
            "name": "train-1", "status": status, "startDate": 1_795_313_647_000_i64,
            "stopDate": if status == "RUNNING" { Value::Null } else { json!(1_795_313_648_900_i64) },
            "input": r#"{"bellwire":{"trigger":"train","stage":"training","start_key":"k","event":{"hop":3}}}"#,
            "output": output, "error": "Boom", "cause": "because",
        },
    })
}

fn origin() -> CompletionOrigin {
    CompletionOrigin {
        stage: Stage::Training,
        trigger: Some("train".to_owned()),
        dataset: Some("wine".to_owned()),
        context: Default::default(),
    }
}

#[test]
fn a_completion_carries_metrics_and_artifacts_on() {
    let output = r#"{"metrics":{"accuracy":0.68,"name":"x"},"artifacts":[{"name":"model","uri":"s3://b/k"},5],"rows":3}"#;
    let Some(Ok(StatusEvent::Ended(run))) =
        StatusEvent::decode(&status_event("SUCCEEDED", Some(output)))
    else {
        panic!()
    };
    let event = run.to_envelope(&origin());
    assert_eq!(event.event_type.as_str(), "ml.training.completed.v1");
    let data = event.data.unwrap();
    assert_eq!(data["metrics"], json!({ "accuracy": 0.68 }));
    assert_eq!(data["artifacts"], json!([{ "name": "model", "uri": "s3://b/k" }]));
    assert_eq!(data["output"]["rows"], 3);
    assert_eq!(data["run"]["duration_s"], 1.9);
    assert_eq!(run.run_context().unwrap().event.hop, 3);
}

#[test]
fn a_large_output_is_left_out_and_its_metrics_are_not() {
    let large = format!(r#"{{"metrics":{{"rows":9}},"x":"{}"}}"#, "x".repeat(200_000));
    let Some(Ok(StatusEvent::Ended(run))) =
        StatusEvent::decode(&status_event("SUCCEEDED", Some(&large)))
    else {
        panic!()
    };
    let data = run.to_envelope(&origin()).data.unwrap();
    assert_eq!(data["metrics"]["rows"], 9.0);
    assert!(data.get("output").is_none());
}

#[test]
fn a_failure_is_a_failed_event_and_a_running_run_is_none() {
    for status in ["FAILED", "TIMED_OUT", "ABORTED"] {
        let Some(Ok(StatusEvent::Ended(run))) = StatusEvent::decode(&status_event(status, None))
        else {
            panic!("{status}")
        };
        let event = run.to_envelope(&origin());
        assert_eq!(event.event_type.as_str(), "ml.training.failed.v1");
        assert_eq!(event.data.unwrap()["error"], "Boom");
    }
    assert_eq!(StatusEvent::decode(&status_event("RUNNING", None)), Some(Ok(StatusEvent::Running)));
    assert_eq!(StatusEvent::decode(&json!({ "source": "aws.batch" })), None);
    let mut broken = status_event("FAILED", None);
    broken["detail"]["executionArn"] = json!(1);
    assert_eq!(StatusEvent::decode(&broken).unwrap().unwrap_err().field, "detail.executionArn");
}

/// Bodies that are S3's, almost S3's, and nothing of S3's.
fn bodies() -> impl Strategy<Value = String> {
    let key = prop_oneof![Just("raw/a.csv"), Just("raw/part+3%2B.csv"), Just("raw/%FF")];
    let change = prop_oneof![
        Just(("/eventVersion", json!("3.0"))),
        Just(("/eventVersion", json!(2.1))),
        Just(("/eventName", json!("s3:ObjectRemoved:Delete"))),
        Just(("/eventName", json!("ObjectRestore:Post"))),
        Just(("/eventTime", json!("yesterday"))),
        Just(("/s3/object/size", json!(-1))),
        Just(("/s3/object/size", Value::Null)),
        Just(("/s3/object/eTag", json!("\"quoted\""))),
        Just(("/s3/object", json!({}))),
        Just(("/s3", Value::Null)),
        Just(("/eventSource", json!("aws:sns"))),
    ];
    let changes = prop::collection::vec(change, 0..2);
    let records = prop::collection::vec((key, changes).prop_map(|(k, c)| record(k, &c)), 0..4);
    let beside = prop_oneof![
        4 => Just(json!({})),
        1 => Just(json!({ "Event": "s3:TestEvent" })),
        1 => Just(json!({ "Event": null, "Other": [1, { "Records": [] }] })),
        1 => Just(json!({ "Type": "Notification", "TopicArn": "arn", "Message": "{}" })),
    ];
    (records, beside).prop_map(|(records, mut body)| {
        body["Records"] = records.into();
        body.to_string()
    })
}

proptest! {
    #[test]
    fn what_is_read_without_a_tree_is_what_the_tree_says(body in bodies()) {
        if let Some(read) = Notification::read(&body) {
            let tree: Value = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(Some(read), Notification::decode(&tree));
            prop_assert!(tree.get("Event").is_none_or(Value::is_null));
            prop_assert!(tree.get("Type").is_none());
        }
    }

    #[test]
    fn a_key_is_decoded_as_s3_encoded_it(key in "\\PC{1,40}") {
        let encoded: String = key
            .bytes()
            .map(|byte| match byte {
                b' ' => "+".to_owned(),
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect();
        prop_assert_eq!(decode_key(&encoded).unwrap(), key);
    }

    #[test]
    fn no_text_makes_the_key_decoder_panic(text in ".{0,60}") {
        let _ = decode_key(&text);
    }
}
