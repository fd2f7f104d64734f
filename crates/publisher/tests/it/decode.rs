use bellwire_publisher::decode::{Record, Tick, decode};
use bellwire_schema::dead_letter::DeadReason;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::samples::{
    TRAIN, TRAIN_RUN, s3_body, s3_record, scheduled_event, sns_wrapped, status_event, test_event,
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
fn event_bridge_s_word_on_an_object_has_a_raw_key() {
    let event = |kind: &str| {
        json!({
            "version": "0", "source": "aws.s3", "detail-type": kind, "region": "eu-west-1",
            "time": "2026-11-22T02:14:08Z",
            "detail": { "bucket": { "name": "wine-lake" },
                "object": { "key": "raw/a+b%20.csv", "size": 1, "sequencer": "00" } },
        })
        .to_string()
    };
    let Record::Object(object) = one(&event("Object Created")) else { panic!() };
    assert_eq!(object.key, "raw/a+b%20.csv");
    let other = Record::OtherObjectEvent { event_name: "Object Restore Completed".to_owned() };
    assert_eq!(one(&event("Object Restore Completed")), other);
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
    for stranger in ["{}", "[]", "null", "7", r#"{"Records":[]}"#, &sns_wrapped(&sns_wrapped("{}"))]
    {
        assert_eq!(reason_of(stranger).0, DeadReason::Undecodable, "{stranger}");
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
