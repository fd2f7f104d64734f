use bellwire_schema::envelope::EnvelopeError;
use bellwire_schema::payload::{DataArrived, Payload};
use bellwire_schema::{Envelope, EventContext, EventType};
use cloudevents::{AttributesReader, Data, Event};
use proptest::prelude::*;
use serde_json::{Value, json};

/// An event that has every attribute.
pub(crate) fn full_event() -> Envelope {
    let mut event = Envelope::new("5c0e", "arn:aws:s3:::wine-lake", EventType::data_arrived());
    event.subject = Some("raw/part 3.csv".to_owned());
    event.time = Some("2026-11-22T02:14:07.123Z".parse().unwrap());
    event.dataschema = Some("https://example.com/schema".to_owned());
    event.stage = Some(bellwire_schema::Stage::Training);
    event.dataset = Some("wine".to_owned());
    event.partitionkey = Some("wine".to_owned());
    event.sequence = Some("0055AED6DCD90281E5".to_owned());
    event.dataref = Some("s3://wine-lake/large".to_owned());
    event.context = EventContext {
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        tracestate: Some("vendor=1".to_owned()),
        correlationid: Some("c".to_owned()),
        causationid: Some("e".to_owned()),
        hop: 2,
    };
    event.extensions.insert("tenant".to_owned(), json!("blue"));
    event.with_payload(&DataArrived {
        bucket: "wine-lake".to_owned(),
        key: "raw/part 3.csv".to_owned(),
        size_bytes: 12_100,
        etag: Some("d41d8cd9".to_owned()),
        version_id: Some("3sL4kqt".to_owned()),
        sequencer: None,
        event_name: "ObjectCreated:Put".to_owned(),
        region: Some("eu-west-1".to_owned()),
    })
}

#[test]
fn the_cloudevents_sdk_reads_it() {
    let event: Event = serde_json::from_str(&full_event().to_json()).unwrap();
    assert_eq!(event.id(), "5c0e");
    assert_eq!(event.ty(), "ml.data.arrived.v1");
    assert_eq!(event.source(), "arn:aws:s3:::wine-lake");
    assert_eq!(event.subject(), Some("raw/part 3.csv"));
    assert_eq!(event.time().unwrap().timestamp_millis(), 1_795_313_647_123);
    assert_eq!(event.extension("correlationid").unwrap().to_string(), "c");
    assert_eq!(event.extension("hop").unwrap().to_string(), "2");
    assert_eq!(event.extension("tenant").unwrap().to_string(), "blue");
    let Some(Data::Json(data)) = event.data() else { panic!("data is JSON: {:?}", event.data()) };
    assert_eq!(data["size_bytes"], 12_100);
}

#[test]
fn what_the_cloudevents_sdk_writes_is_read() {
    let written: Event = serde_json::from_str(&full_event().to_json()).unwrap();
    let read = Envelope::from_json(&serde_json::to_vec(&written).unwrap()).unwrap();
    assert_eq!(read, full_event());
}

#[test]
fn unknown_fields_survive_a_round_trip() {
    let text = json!({
        "specversion": "1.0", "id": "1", "source": "/a", "type": "ml.data.arrived.v1",
        "rating": 5, "data": { "bucket": "b", "key": "k", "size_bytes": 1, "event_name": "x", "colour": "red" },
    });
    let event = Envelope::from_value(text).unwrap();
    assert!(matches!(Payload::of(&event), Ok(Payload::DataArrived(_))));
    let written = event.to_value();
    assert_eq!(written["rating"], 5);
    assert_eq!(written["data"]["colour"], "red");
}

#[test]
fn an_unknown_type_or_version_is_passed_through() {
    for event_type in ["ml.label.approved.v1", "ml.data.arrived.v2"] {
        let event = Envelope::new("1", "/a", event_type.parse().unwrap());
        assert_eq!(Payload::of(&event), Ok(Payload::Unknown), "{event_type}");
    }
}

#[test]
fn a_payload_of_the_wrong_shape_names_the_field() {
    let mut event = full_event();
    event.data.as_mut().unwrap()["size_bytes"] = json!("large");
    let error = Payload::of(&event).unwrap_err();
    assert_eq!(error.field, "data.size_bytes");
    event.data = None;
    assert_eq!(Payload::of(&event).unwrap_err().field, "data");
}

#[test]
fn all_wrong_attributes_are_named_at_once() {
    let bad = json!({
        "specversion": "0.3", "source": 7, "type": "arrived", "time": "yesterday",
        "traceparent": "x", "hop": -2, "Tenant": "a", "data": 1, "data_base64": "AA==",
        "nested": {}, "id": "1",
    });
    let Err(EnvelopeError::Attributes { problems }) = Envelope::from_value(bad) else { panic!() };
    let mut named: Vec<_> = problems.iter().map(|problem| problem.attribute.as_str()).collect();
    named.sort_unstable();
    assert_eq!(
        named,
        [
            "Tenant",
            "data_base64",
            "hop",
            "nested",
            "source",
            "specversion",
            "time",
            "traceparent",
            "type"
        ]
    );
}

#[test]
fn what_is_no_event_says_so() {
    assert!(matches!(Envelope::from_json(b"\xff"), Err(EnvelopeError::NotJson { .. })));
    assert_eq!(Envelope::from_json(b"[]"), Err(EnvelopeError::NotAnObject));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_read_is_written_and_read_again(
        id in ".{1,20}", source in ".{1,20}", dataset in proptest::option::of(".{1,10}"),
        hop in any::<u32>(), data in any_json(), tenant in ".{1,8}",
    ) {
        let mut event = Envelope::new(&id, &source, "data.arrived".parse().unwrap());
        event.dataset = dataset;
        event.context.hop = hop;
        event.data = (!data.is_null()).then_some(data);
        event.extensions.insert("tenant".to_owned(), tenant.into());
        prop_assert_eq!(Envelope::from_json(event.to_json().as_bytes()).unwrap(), event);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), json in any_json()) {
        let _ = Envelope::from_json(&bytes);
        let _ = Envelope::from_value(json);
    }
}
