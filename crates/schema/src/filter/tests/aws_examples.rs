//! The examples of the Amazon SNS Developer Guide's pages on filter policies, and what is known of
//! SNS from recorded answers, as tables.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{attribute_policy, body_policy};
use crate::filter::AttributeValue;

struct Example {
    policy: Value,
    matching: Vec<Value>,
    other: Vec<Value>,
}

/// What the pages show for bodies and for attributes alike: a value under the key of the policy.
fn value_examples() -> Vec<Example> {
    let example = |policy: Value, matching: &[Value], other: &[Value]| Example {
        policy: json!({"key": [policy]}),
        matching: matching.to_vec(),
        other: other.to_vec(),
    };
    vec![
        // "String value matching"
        example(
            json!("rugby"),
            &[json!("rugby"), json!(["rugby", "tennis"])],
            &[json!("baseball"), json!("Rugby")],
        ),
        example(
            json!({"anything-but": ["rugby", "tennis"]}),
            &[json!("baseball"), json!("football"), json!(["rugby", "baseball"])],
            &[json!("rugby"), json!(["rugby"]), json!(["rugby", "tennis"])],
        ),
        example(
            json!({"anything-but": {"prefix": "order-"}}),
            &[json!("data-entry"), json!("order_number")],
            &[json!("order-cancelled")],
        ),
        example(
            json!({"anything-but": {"wildcard": "*ball"}}),
            &[json!(["hockey", "rugby", "soccer"])],
            &[json!(["baseball", "basketball"])],
        ),
        example(
            json!({"anything-but": {"suffix": "ball"}}),
            &[json!(["hockey", "rugby", "soccer"])],
            &[json!(["baseball", "basketball"])],
        ),
        example(
            json!({"equals-ignore-case": "tennis"}),
            &[json!("TENNIS"), json!("Tennis"), json!("teNnis")],
            &[json!("tenni")],
        ),
        example(
            json!({"cidr": "10.0.0.0/24"}),
            &[json!("10.0.0.0"), json!("10.0.0.255")],
            &[json!("10.1.1.0"), json!("nowhere"), json!("::a00:0")],
        ),
        example(
            json!({"cidr": "2001:db8::/32"}),
            &[json!("2001:db8::1"), json!("2001:0DB8:ffff:0:0:0:0:1")],
            &[json!("2001:db9::1")],
        ),
        example(
            json!({"prefix": "bas"}),
            &[json!("baseball"), json!("basketball")],
            &[json!("rugby")],
        ),
        example(
            json!({"suffix": "ball"}),
            &[json!("baseball"), json!("basketball")],
            &[json!("rugby")],
        ),
        example(
            json!({"wildcard": "*ball"}),
            &[json!(["baseball", "basketball"])],
            &[json!("rugby")],
        ),
        // "Numeric value matching"
        example(
            json!({"numeric": ["=", 301.5]}),
            &[json!(301.5), json!(3.015e2)],
            &[json!("301.5"), json!(301), json!(null)],
        ),
        example(
            json!({"anything-but": [100, 500]}),
            &[json!(101), json!(100.1), json!([100, 50])],
            &[json!(100), json!(500.0)],
        ),
        example(json!({"numeric": ["<", 0]}), &[json!(-1), json!(-0.00001)], &[json!(0), json!(1)]),
        example(
            json!({"numeric": [">", 0, "<=", 150]}),
            &[json!(0.00001), json!(150)],
            &[json!(0), json!(150.00001)],
        ),
        example(json!({"numeric": [">=", 1]}), &[json!(1)], &[json!(0.5)]),
        // Types: SNS compares a policy's string with strings only, its number with numbers only.
        example(
            json!(100),
            &[json!(100), json!(1e2), json!(["a", 100])],
            &[json!("100"), json!(true)],
        ),
        example(json!("100"), &[json!("100")], &[json!(100)]),
        example(json!({"prefix": "1"}), &[json!("10")], &[json!(10), json!(true), json!(null)]),
        example(json!({"anything-but": "x"}), &[json!(5)], &[json!("x"), json!([])]),
    ]
}

fn attribute_of(value: &Value) -> Option<AttributeValue> {
    match value {
        Value::String(text) => AttributeValue::decode("String", text).ok(),
        Value::Number(number) => AttributeValue::decode("Number", &number.to_string()).ok(),
        Value::Array(_) => AttributeValue::decode("String.Array", &value.to_string()).ok(),
        _ => None,
    }
}

#[test]
fn values_match_as_the_guide_shows_in_both_scopes() {
    for Example { policy, matching, other } in value_examples() {
        let (in_body, in_attributes) = (body_policy(&policy), attribute_policy(&policy));
        let values = matching
            .iter()
            .map(|value| (value, true))
            .chain(other.iter().map(|value| (value, false)));
        for (value, expected) in values {
            assert_eq!(
                in_body.matches_body(&json!({"key": value})),
                expected,
                "{policy} on body {value}"
            );
            if let Some(attribute) = attribute_of(value) {
                let attributes = BTreeMap::from([("key".to_owned(), attribute)]);
                assert_eq!(
                    in_attributes.matches_attributes(&attributes),
                    expected,
                    "{policy} on attribute {value}"
                );
            }
        }
    }
}

fn assert_bodies(policy: &Value, matching: &[Value], other: &[Value]) {
    let parsed = body_policy(policy);
    for body in matching {
        assert!(parsed.matches_body(body), "{policy} should match {body}");
    }
    for body in other {
        assert!(!parsed.matches_body(body), "{policy} should not match {body}");
    }
}

#[test]
fn every_key_must_hold_and_one_value_of_each_is_enough() {
    assert_bodies(
        &json!({"customer_interests": ["rugby", "football"], "price_usd": [{"numeric": [">", 100]}]}),
        &[
            json!({"customer_interests": "rugby", "price_usd": 101, "store": "any"}),
            json!({"customer_interests": "football", "price_usd": 100.5}),
        ],
        &[
            json!({"customer_interests": "rugby", "price_usd": 100}),
            json!({"customer_interests": "rugby"}),
            json!({"price_usd": 101}),
        ],
    );
}

#[test]
fn exists_sees_values_and_not_objects() {
    let interests = json!(["baseball", "basketball"]);
    assert_bodies(
        &json!({"store": [{"exists": true}]}),
        &[
            json!({"store": "fans", "customer_interests": interests}),
            json!({"store": [null, 0]}),
            json!({"store": false}),
        ],
        &[
            json!({"customer_interests": interests}),
            json!({"store": {"name": "fans"}}),
            json!({"store": null}),
            json!({"store": ""}),
            json!({"store": []}),
            json!({}),
        ],
    );
    assert_bodies(
        &json!({"store": [{"exists": false}]}),
        &[
            json!({"customer_interests": interests}),
            json!({"store": {"name": "fans"}}),
            json!({"store": [], "other": 1}),
        ],
        &[
            json!({"store": "fans", "customer_interests": interests}),
            json!({"store": null}),
            json!({"store": ""}),
            json!({}),
            json!({"other": []}),
        ],
    );
}

#[test]
fn exists_false_wants_an_attribute_and_ignores_binary_ones() {
    let text = || AttributeValue::String("x".to_owned());
    let cases = [
        (vec![("other", text())], true, false),
        (vec![("other", text()), ("store", AttributeValue::Binary)], true, false),
        (vec![("other", text()), ("store", text())], false, true),
        (vec![("store", AttributeValue::Binary)], false, false),
        (vec![], false, false),
    ];
    let absent = attribute_policy(&json!({"store": [{"exists": false}]}));
    let present = attribute_policy(&json!({"store": [{"exists": true}]}));
    for (attributes, is_absent, is_present) in cases {
        let attributes: BTreeMap<_, _> =
            attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(absent.matches_attributes(&attributes), is_absent, "{attributes:?}");
        assert_eq!(present.matches_attributes(&attributes), is_present, "{attributes:?}");
    }
}

#[test]
fn anything_but_needs_the_key_unless_absence_is_listed_too() {
    let alone = json!({"attr1": [null, {"anything-but": "whatever"}]});
    assert_bodies(
        &alone,
        &[json!({"attr1": "x"}), json!({"attr1": null})],
        &[json!({"other": 1}), json!({})],
    );
    let with_absence = json!({"attr1": [{"anything-but": "whatever"}, {"exists": false}]});
    assert_bodies(
        &with_absence,
        &[json!({"attr1": "x"}), json!({"other": 1})],
        &[json!({"attr1": "whatever"})],
    );
}

#[test]
fn an_array_attribute_matches_by_its_typed_elements() {
    let policy = attribute_policy(&json!({"key": [true, null, 5]}));
    for (data_type, text, expected) in [
        ("String.Array", "[true]", true),
        ("String.Array", "[null]", true),
        ("String.Array", r#"["5", 5.0]"#, true),
        ("String.Array", r#"["true", "null", "5"]"#, false),
        ("String.Array", "[]", false),
        ("String", "true", false),
        ("Number", "5.00", true),
        ("Number", "+5", true),
        ("Number", "five", false),
    ] {
        let attribute = AttributeValue::decode(data_type, text).expect(text);
        let attributes = BTreeMap::from([("key".to_owned(), attribute)]);
        assert_eq!(policy.matches_attributes(&attributes), expected, "{data_type} {text}");
    }
    for (data_type, text) in [("String.Array", "rugby"), ("String.Array", "{}"), ("Strings", "x")] {
        assert!(AttributeValue::decode(data_type, text).is_err(), "{data_type} {text}");
    }
}

#[test]
fn or_joins_what_stands_beside_it() {
    assert_bodies(
        &json!({"source": ["aws.cloudwatch"], "$or": [{"metricName": ["CPUUtilization"]}, {"namespace": ["AWS/EC2"]}]}),
        &[
            json!({"source": "aws.cloudwatch", "metricName": "CPUUtilization"}),
            json!({"source": "aws.cloudwatch", "namespace": "AWS/EC2"}),
        ],
        &[
            json!({"source": "aws.cloudwatch"}),
            json!({"source": "other", "namespace": "AWS/EC2"}),
            json!({"source": "aws.cloudwatch", "namespace": "AWS/ES"}),
        ],
    );
}

#[test]
fn nested_or_joins_at_its_level() {
    let detail = |scope: &str, key: &str, value: &str| json!({"scope": scope, key: value});
    assert_bodies(
        &json!({
            "$or": [{"metricName": ["CPUUtilization", "ReadLatency"]}, {"namespace": ["AWS/EC2", "AWS/ES"]}],
            "detail": {
                "scope": ["Service"],
                "$or": [{"source": ["aws.cloudwatch"]}, {"type": ["CloudWatch Alarm State Change"]}],
            },
        }),
        &[
            json!({"metricName": "CPUUtilization", "detail": detail("Service", "source", "aws.cloudwatch")}),
            json!({"namespace": "AWS/ES", "detail": detail("Service", "source", "aws.cloudwatch")}),
            json!({"metricName": "ReadLatency", "detail": detail("Service", "type", "CloudWatch Alarm State Change")}),
        ],
        &[
            json!({"metricName": "CPUUtilization", "detail": detail("Other", "source", "aws.cloudwatch")}),
            json!({"metricName": "CPUUtilization", "detail": detail("Service", "type", "CPUUtilization")}),
            json!({"metricName": "CPUUtilization", "detail": {"type": "CloudWatch Alarm State Change"}}),
            json!({"metricName": "CPUUtilization", "detail": {"scope": "Service"}}),
            json!({"metricName": "CPUUtilization", "scope": "Service"}),
            json!({"detail": detail("Service", "source", "aws.cloudwatch")}),
        ],
    );
}

#[test]
fn or_that_is_no_operator_is_a_key() {
    assert_bodies(&json!({"$or": ["x", "y"]}), &[json!({"$or": "y"})], &[json!({"x": 1})]);
    assert_bodies(
        &json!({"$or": [{"prefix": "a"}, {"suffix": "b"}]}),
        &[json!({"$or": "ax"})],
        &[json!({"$or": "c"})],
    );
    assert_bodies(
        &json!({"$or": {"metric": ["x"]}}),
        &[json!({"$or": {"metric": "x"}})],
        &[json!({"metric": "x"})],
    );
}

#[test]
fn s3_records_match_only_by_one_record() {
    let policy = json!({
        "Records": {"s3": {"object": {"key": [{"prefix": "auto-"}]}}, "eventName": [{"prefix": "ObjectCreated:"}]},
    });
    let record = |name: &str, key: &str| json!({"eventName": name, "s3": {"object": {"key": key, "size": 17}}});
    let deep = json!({"eventName": "ObjectCreated:Put", "s3": {"object": [[{"key": "auto-insurance-2314.xml"}]]}});
    assert_bodies(
        &policy,
        &[
            json!({"Records": [record("ObjectCreated:Put", "auto-1.xml")]}),
            json!({"Records": [deep, record("ObjectRemoved:Delete", "home-1.xml")]}),
            json!({"Records": [record("ObjectRemoved:Delete", "home-1.xml"), record("ObjectCreated:Copy", "auto-1.xml")]}),
            json!({"Records": record("ObjectCreated:Put", "auto-1.xml")}),
        ],
        &[
            json!({"Records": [record("ObjectRemoved:Delete", "auto-1.xml")]}),
            json!({"Records": [record("ObjectCreated:Put", "home-1.xml")]}),
            json!({"Records": [record("ObjectCreated:Put", "home-1.xml"), record("ObjectRemoved:Delete", "auto-1.xml")]}),
            json!({"Records": []}),
        ],
    );
    // The same wherever the conditions are written: in dotted keys, or beside and inside an `$or`.
    let across = json!({"Records": [record("ObjectCreated:Put", "home-1.xml"), record("ObjectRemoved:Delete", "auto-1.xml")]});
    let within = json!({"Records": [record("ObjectCreated:Put", "auto-1.xml")]});
    assert_bodies(
        &json!({"Records.eventName": [{"prefix": "ObjectCreated:"}], "Records": {"s3.object.key": [{"prefix": "auto-"}]}}),
        std::slice::from_ref(&within),
        std::slice::from_ref(&across),
    );
    assert_bodies(
        &json!({
            "$or": [{"Records": {"eventName": [{"prefix": "ObjectCreated:"}]}}, {"never": [1]}],
            "Records": {"s3": {"object": {"key": [{"prefix": "auto-"}]}}},
        }),
        std::slice::from_ref(&within),
        std::slice::from_ref(&across),
    );
}

#[test]
fn exists_false_asks_about_the_whole_message() {
    assert_bodies(
        &json!({"Records": {"key": ["x"], "versionId": [{"exists": false}]}}),
        &[json!({"Records": [{"key": "x"}, {"key": "y"}]})],
        &[json!({"Records": [{"key": "x"}, {"key": "y", "versionId": "1"}]})],
    );
    assert_bodies(
        &json!({"Records": {"versionId": [{"exists": false}]}, "kind": ["x"]}),
        &[
            json!({"kind": "x"}),
            json!({"kind": "x", "Records": []}),
            json!({"kind": "x", "Records": 5}),
        ],
        &[json!({"kind": "x", "Records": [[{"versionId": null}]]})],
    );
}

#[test]
fn the_longest_body_is_walked_a_few_times_and_not_once_for_each_element() {
    let policy = body_policy(&json!({"a": {"b": [{"exists": false}], "c": [1]}}));
    let empty_objects: Vec<Value> = vec![json!({}); 80_000];
    assert!(!policy.matches_body(&json!({"a": empty_objects})));
    assert!(!policy.matches_body(&json!({"a": empty_objects, "z": 1})));
    let numbers: Vec<Value> = (2..40_000).map(|number| json!({"c": number})).collect();
    assert!(!policy.matches_body(&json!({"a": numbers})));
}

#[test]
fn dots_and_nesting_mean_the_same() {
    let deep = json!({"object.nested.test": ["string.value"]});
    let matching = [
        json!({"object": {"nested": {"test": "string.value"}}}),
        json!({"object.nested.test": "string.value"}),
        json!({"object.nested": {"test": "string.value"}}),
        json!({"object": {"nested.test": "string.value"}}),
    ];
    let other = [
        json!({"object": {"nested": {"test": "string.notvalue"}}}),
        json!({"object.nested": "string.value"}),
    ];
    assert_bodies(&deep, &matching, &other);
    assert_bodies(&json!({"object": {"nested.test": ["string.value"]}}), &matching, &other);
    // Attributes are flat: a dot is part of the name.
    let policy = attribute_policy(&json!({"a.b": ["x"]}));
    let named =
        |name: &str| BTreeMap::from([(name.to_owned(), AttributeValue::String("x".to_owned()))]);
    assert!(policy.matches_attributes(&named("a.b")));
    assert!(!policy.matches_attributes(&named("a")));
    assert!(!policy.matches_attributes(&named("a.b.c")));
}

#[test]
fn a_body_that_is_no_object_passes_only_the_empty_policy() {
    let empty = body_policy(&json!({}));
    let absent = body_policy(&json!({"a": [{"exists": false}]}));
    for body in [json!("Regular string message"), json!(5), json!(null), json!([{"b": 1}])] {
        assert!(empty.matches_body(&body), "{body}");
        assert!(!absent.matches_body(&body), "{body}");
    }
    assert!(empty.is_empty());
    assert!(attribute_policy(&json!({})).matches_attributes(&BTreeMap::new()));
}

#[test]
fn the_guides_transaction_passes_in_both_scopes() {
    let policy = json!({
        "store": ["example_corp"],
        "event": [{"anything-but": "order_cancelled"}],
        "customer_interests": ["rugby", "football", "baseball"],
        "price_usd": [{"numeric": [">=", 100]}],
    });
    let body = json!({
        "customer_interests": ["soccer", "rugby", "hockey"],
        "store": "example_corp",
        "event": "order_placed",
        "price_usd": 210.75,
    });
    let attributes: BTreeMap<_, _> = body
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), attribute_of(value)?)))
        .collect();
    assert_eq!(attributes.len(), 4);
    assert!(body_policy(&policy).matches_body(&body));
    assert!(attribute_policy(&policy).matches_attributes(&attributes));
}
