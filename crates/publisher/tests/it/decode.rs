use bellwire_publisher::decode::{Record, Tick, decode};
use bellwire_schema::dead_letter::DeadReason;
use proptest::prelude::*;
use serde_json::{Value, json};

use bellwire_publisher::route::Rules;

use crate::samples::{
    ACCOUNT, TRAIN, TRAIN_RUN, batch_job, every_form, pipeline_event, processing_job, rules,
    s3_body, s3_event, s3_record, scheduled_event, sns_wrapped, status_event, test_event,
    training_job, transform_job,
};

fn one(body: &str) -> Record {
    let mut records = decode(body);
    assert_eq!(records.len(), 1, "{records:?}");
    records.remove(0).unwrap()
}

fn reason_of(body: &str) -> (DeadReason, String) {
    let mut records = decode(body);
    assert_eq!(records.len(), 1, "{records:?}");
    let error = records.remove(0).unwrap_err();
    (error.reason, error.message)
}

#[test]
fn every_form_is_read_alone_and_in_the_wrapping_of_sns() {
    let wrap: [fn(&str) -> String; 2] = [str::to_owned, sns_wrapped];
    for wrapped in wrap {
        assert_eq!(one(&wrapped(&test_event())), Record::TestEvent);
        let Record::Object(object) = one(&wrapped(&s3_body(&["raw/part+3.csv"]))) else { panic!() };
        assert_eq!(object.key, "raw/part 3.csv");
        let ended = one(&wrapped(&status_event("SUCCEEDED", TRAIN, None)));
        let Record::Completion(completion) = ended else { panic!("{ended:?}") };
        assert_eq!(completion.run_arn, TRAIN_RUN);
        assert_eq!(one(&wrapped(&status_event("RUNNING", TRAIN, None))), Record::RunGoesOn);
        let tick = Tick {
            rule_arn: "arn:aws:events:eu-west-1:123456789012:rule/wine-nightly".to_owned(),
            scheduled_time: "2026-11-22T03:00:00Z".to_owned(),
        };
        assert_eq!(one(&wrapped(&scheduled_event("wine-nightly"))), Record::Tick(tick));
    }
}

#[test]
fn what_sagemaker_and_batch_ran_is_read_alone_and_in_the_wrapping_of_sns() {
    let job = |kind: &str| format!("arn:aws:sagemaker:eu-west-1:{ACCOUNT}:{kind}-job/job-1");
    let pipeline = format!("arn:aws:sagemaker:eu-west-1:{ACCOUNT}:pipeline/p");
    let batch =
        format!("arn:aws:batch:eu-west-1:{ACCOUNT}:job/4c7599ae-0a82-49aa-ba5a-4727fcce14a8");
    for (body, arn, word) in [
        (training_job("job-1", "Completed"), job("training"), "Completed"),
        (processing_job("job-1", "Stopped"), job("processing"), "Stopped"),
        (transform_job("job-1", "Failed"), job("transform"), "Failed"),
        (
            pipeline_event("p", "Succeeded"),
            format!("{pipeline}/execution/p4jn9xou8a8s"),
            "Succeeded",
        ),
        (batch_job("q", "FAILED", ""), batch, "FAILED"),
    ] {
        for body in [sns_wrapped(&body), body] {
            let Record::Completion(run) = one(&body) else { panic!("{body}") };
            assert_eq!((run.run_arn.as_str(), run.status_word()), (arn.as_str(), word));
            assert!(run.started_at.is_some() && run.stopped_at.is_some(), "{body}");
        }
    }
}

#[test]
fn a_run_that_goes_on_is_no_end() {
    for body in [
        training_job("job-1", "InProgress"),
        processing_job("job-1", "Stopping"),
        transform_job("job-1", "InProgress"),
        pipeline_event("p", "Executing"),
        batch_job("q", "RUNNABLE", ""),
        batch_job("q", "SUCCEEDED", ":0"),
        batch_job("q", "FAILED", "#1"),
        status_event("PENDING_REDRIVE", TRAIN, None),
    ] {
        assert_eq!(one(&body), Record::RunGoesOn, "{body}");
    }
}

#[test]
fn a_key_is_decoded_where_s3_encoded_it_and_only_there() {
    for (encoded, key) in [
        ("raw/a+b+c.csv", "raw/a b c.csv"),
        ("raw/1%2B1.csv", "raw/1+1.csv"),
        ("raw/100%25.csv", "raw/100%.csv"),
        ("raw/%C3%A9%E2%82%AC%F0%9F%8D%B7.csv", "raw/é€🍷.csv"),
        ("raw/é.csv", "raw/é.csv"),
        ("raw/100%.csv", "raw/100%.csv"),
        ("raw/%2525.csv", "raw/%25.csv"),
    ] {
        let Record::Object(object) = one(&s3_body(&[encoded])) else { panic!("{encoded}") };
        assert_eq!(object.key, key);
        let event = s3_event("Object Created", encoded, &json!({}));
        for body in [sns_wrapped(&event), event] {
            let Record::Object(object) = one(&body) else { panic!("{encoded}") };
            assert_eq!(object.key, encoded, "EventBridge's keys are raw");
        }
    }
    for encoded in ["raw/%FF.csv", "raw/%C3.csv", "raw/%ED%A0%80.csv"] {
        let (reason, message) = reason_of(&s3_body(&[encoded]));
        assert_eq!(reason, DeadReason::KeyNotUtf8);
        assert!(message.contains(encoded), "{message}");
    }
}

#[test]
fn any_minor_version_is_read_whatever_else_is_in_it() {
    for version in ["2.0", "2.1", "2.2", "2.3", "2.9", "2.41"] {
        let mut record = s3_record("s3:ObjectCreated:Put", "raw/a.csv");
        record["eventVersion"] = json!(version);
        record["s3"]["object"]["checksum"] = json!({ "of": ["the", "future"] });
        record["glacierEventData"] = json!({});
        record["x"] = json!(null);
        let Record::Object(object) = one(&json!({ "Records": [record], "more": 1 }).to_string())
        else {
            panic!("{version}")
        };
        assert_eq!(object.event_name, "ObjectCreated:Put");
    }
    for version in ["3.0", "1.0", "", "2"] {
        let mut record = s3_record("ObjectCreated:Put", "raw/a.csv");
        record["eventVersion"] = json!(version);
        let (reason, message) = reason_of(&json!({ "Records": [record] }).to_string());
        assert_eq!(reason, DeadReason::MalformedRecord);
        assert!(message.contains("2.x is read"), "{message}");
    }
}

#[test]
fn what_s3_leaves_out_is_left_out() {
    let mut record = s3_record("ObjectRemoved:Delete", "raw/a.csv");
    record["s3"]["object"] = json!({ "key": "raw/a.csv" });
    let Record::Object(object) = one(&json!({ "Records": [record] }).to_string()) else { panic!() };
    assert_eq!((object.sequencer, object.etag, object.size_bytes), (None, None, 0));
    let created = s3_event("Object Created", "", &json!({ "object": { "key": "raw/a.csv" } }));
    let Record::Object(object) = one(&created) else { panic!() };
    assert_eq!((object.sequencer, object.version_id), (None, None));
}

#[test]
fn a_removal_is_one_however_it_came_about() {
    for name in [
        "ObjectRemoved:Delete",
        "ObjectRemoved:DeleteMarkerCreated",
        "LifecycleExpiration:Delete",
        "LifecycleExpiration:DeleteMarkerCreated",
    ] {
        let body = json!({ "Records": [s3_record(name, "raw/a.csv")] }).to_string();
        let Record::Object(notified) = one(&body) else { panic!("{name}") };
        let by_rule = name.starts_with("Lifecycle");
        let kind =
            if name.ends_with("Created") { "Delete Marker Created" } else { "Permanently Deleted" };
        let detail = json!({
            "reason": if by_rule { "Lifecycle Expiration" } else { "DeleteObject" },
            "deletion-type": kind,
        });
        let Record::Object(bridged) = one(&s3_event("Object Deleted", "raw/a.csv", &detail)) else {
            panic!("{name}")
        };
        assert_eq!((bridged.change, bridged.event_name.as_str()), (notified.change, name));
        assert_eq!(notified.event_name, name);
    }
    for name in
        ["LifecycleTransition", "ObjectTagging:Put", "Replication:OperationFailedReplication"]
    {
        let body = json!({ "Records": [s3_record(name, "raw/a.csv")] }).to_string();
        assert_eq!(one(&body), Record::OtherObjectEvent { event_name: name.to_owned() });
    }
    let other = Record::OtherObjectEvent { event_name: "Object Restore Completed".to_owned() };
    assert_eq!(one(&s3_event("Object Restore Completed", "raw/a.csv", &json!({}))), other);
}

#[test]
fn a_bad_record_leaves_its_neighbours_alone() {
    let mut malformed = s3_record("ObjectCreated:Put", "raw/b.csv");
    malformed["s3"]["object"]["key"] = json!(7);
    let body = json!({ "Records": [
        s3_record("ObjectCreated:Put", "raw/a.csv"),
        s3_record("ObjectCreated:Put", "raw/%FF.csv"),
        malformed,
        s3_record("ObjectRestore:Post", "raw/c.csv"),
        s3_record("ObjectRemoved:Delete", "raw/d.csv"),
    ] });
    let records = decode(&body.to_string());
    assert!(
        matches!(records[0], Ok(Record::Object(_))) && matches!(records[4], Ok(Record::Object(_)))
    );
    assert_eq!(records[1].as_ref().unwrap_err().reason, DeadReason::KeyNotUtf8);
    let error = records[2].as_ref().unwrap_err();
    assert_eq!(error.reason, DeadReason::MalformedRecord);
    assert!(error.message.contains("s3.object.key"), "{error}");
    assert!(matches!(records[3], Ok(Record::OtherObjectEvent { .. })));
}

#[test]
fn what_cannot_be_read_says_why() {
    let (reason, message) = reason_of("not JSON");
    assert_eq!(reason, DeadReason::Undecodable);
    assert!(message.starts_with("not JSON: "), "{message}");
    let (reason, message) = reason_of(&sns_wrapped("{"));
    assert_eq!(reason, DeadReason::Undecodable);
    assert!(message.starts_with("in SNS's wrapping: not JSON"), "{message}");
    let (reason, message) = reason_of("");
    assert_eq!(reason, DeadReason::Undecodable);
    assert!(message.starts_with("not JSON: "), "{message}");
    let deep = "[".repeat(100_000);
    let twice = sns_wrapped(&sns_wrapped("{}"));
    for stranger in [
        "{}",
        "[]",
        "[{}]",
        "null",
        "7",
        "\"\"",
        " ",
        r#"{"Records":[]}"#,
        r#"{"Records":7}"#,
        &deep,
        &twice,
    ] {
        for body in [stranger.to_owned(), sns_wrapped(stranger)] {
            let (reason, message) = reason_of(&body);
            assert_eq!(reason, DeadReason::Undecodable, "{stranger}");
            assert!(!message.is_empty());
        }
    }
    // Scheduler's events are not those of a rule: no source asks for them.
    let scheduler = scheduled_event("x").replace("aws.events", "aws.scheduler");
    let (reason, message) = reason_of(&scheduler);
    assert_eq!(reason, DeadReason::Undecodable);
    assert!(message.contains("`Scheduled Event` of `aws.scheduler`"), "{message}");
    for (body, field) in [
        (training_job("j", "Completed"), "TrainingJobArn"),
        (processing_job("j", "Failed"), "ProcessingJobName"),
        (transform_job("j", "Completed"), "TransformJobStatus"),
        (pipeline_event("p", "Failed"), "pipelineExecutionArn"),
        (batch_job("q", "FAILED", ""), "jobQueue"),
    ] {
        let mut event: Value = serde_json::from_str(&body).unwrap();
        event["detail"][field] = json!(1);
        let (reason, message) = reason_of(&event.to_string());
        assert_eq!(reason, DeadReason::MalformedRecord);
        assert!(message.contains(&format!("detail.{field}")), "{message}");
    }
    let (reason, message) = reason_of(r#"{"source":"aws.ec2","detail-type":"X"}"#);
    assert_eq!(reason, DeadReason::Undecodable);
    assert!(message.contains("`X` of `aws.ec2`"), "{message}");
    let mut status: Value = serde_json::from_str(&status_event("FAILED", TRAIN, None)).unwrap();
    status["detail"]["executionArn"] = json!(1);
    let (reason, message) = reason_of(&status.to_string());
    assert_eq!(reason, DeadReason::MalformedRecord);
    assert!(message.contains("detail.executionArn"), "{message}");
    let (reason, message) = reason_of(r#"{"source":"aws.events","detail-type":"Scheduled Event"}"#);
    assert_eq!(reason, DeadReason::MalformedRecord);
    assert!(message.contains("resources[0]"), "{message}");
}

proptest! {
    /// An empty list would be a message that nobody answers for.
    #[test]
    fn whatever_comes_is_at_least_one_record(text in ".{0,80}", key in ".{0,20}", wrapped: bool) {
        prop_assert!(!decode(&text).is_empty());
        let body = s3_body(&[&key, "raw/a.csv"]);
        let body = if wrapped { sns_wrapped(&body) } else { body };
        let records = decode(&body);
        prop_assert_eq!(records.len(), 2);
        prop_assert!(records[1].is_ok());
        let parts = json!({ "Type": text, "TopicArn": key, "Message": text, "Records": [text] });
        prop_assert!(!decode(&parts.to_string()).is_empty());
    }
}

/// Any value in place of any other, at any depth.
fn mutated(value: &mut Value, path: &[usize], with: &Value) {
    let Some((first, rest)) = path.split_first() else {
        *value = with.clone();
        return;
    };
    let inner = match value {
        Value::Array(items) if !items.is_empty() => {
            let index = first % items.len();
            items.get_mut(index)
        }
        Value::Object(fields) if !fields.is_empty() => {
            let index = first % fields.len();
            fields.values_mut().nth(index)
        }
        _ => None,
    };
    match inner {
        Some(inner) => mutated(inner, rest, with),
        None => *value = with.clone(),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{}])),
    ]
}

/// Whatever can be decoded can be routed, and an event made of it.
fn decode_and_route(rules: &Rules, body: &str) -> usize {
    let records = decode(body);
    for record in records.iter().flatten() {
        let _ = rules.route(record.clone());
        if let Record::Completion(run) = record {
            let _ = run.run_context();
        }
    }
    records.len()
}

proptest! {
    #[test]
    fn no_change_of_a_value_makes_the_decoder_panic_or_fall_silent(
        form in prop::sample::select(every_form()),
        path in prop::collection::vec(any::<usize>(), 0..6),
        with in any_value(),
        wrapped: bool,
    ) {
        let mut body: Value = serde_json::from_str(&form).unwrap();
        mutated(&mut body, &path, &with);
        let body = if wrapped { sns_wrapped(&body.to_string()) } else { body.to_string() };
        prop_assert!(decode_and_route(&rules(), &body) > 0);
    }

    #[test]
    fn no_change_of_a_text_makes_the_decoder_panic_or_fall_silent(
        form in prop::sample::select(every_form()),
        at in any::<prop::sample::Index>(),
        length in 0..30_usize,
        with in ".{0,4}",
        wrapped: bool,
    ) {
        let body = if wrapped { sns_wrapped(&form) } else { form };
        let mut text: Vec<char> = body.chars().collect();
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        text.splice(start..end, with.chars());
        let body: String = text.into_iter().collect();
        prop_assert!(decode_and_route(&rules(), &body) > 0);
    }
}
