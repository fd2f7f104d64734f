//! Laws that hold for every policy and every message.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use super::{attribute_policy, body_policy, oracle};
use crate::filter::{AttributeValue, FilterPolicy, Scope};

fn config() -> ProptestConfig {
    // Failures are reproduced by the seed that they print; no files beside the sources.
    ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() }
}

/// Few keys and few values, so that policies and messages meet.
fn key() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = String> {
    select(vec!["", "x", "xy", "yx", "X", "xyx", "10.0.0.1", "11.0.0.1"]).prop_map(str::to_owned)
}

fn number() -> impl Strategy<Value = Value> {
    select(vec![json!(-1), json!(0), json!(1), json!(1.0), json!(1.5), json!(2)])
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => text().prop_map(Value::String),
        3 => number(),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => Just(Value::Null),
    ]
}

fn some_text() -> impl Strategy<Value = String> {
    text().prop_filter("not empty", |text| !text.is_empty())
}

fn pattern() -> impl Strategy<Value = String> {
    select(vec!["*", "x*", "*x", "x*x", "*y*", "x*y*x", "xy"]).prop_map(str::to_owned)
}

fn numeric() -> impl Strategy<Value = Value> {
    prop_oneof![
        (select(vec!["=", "<", "<=", ">", ">="]), number())
            .prop_map(|(operator, number)| json!([operator, number])),
        (select(vec![">", ">="]), select(vec!["<", "<="]))
            .prop_map(|(above, below)| json!([above, 0, below, 1.5])),
    ]
}

fn string_operator() -> impl Strategy<Value = Value> {
    prop_oneof![
        some_text().prop_map(|text| json!({"prefix": text})),
        some_text().prop_map(|text| json!({"suffix": text})),
        text().prop_map(|text| json!({"equals-ignore-case": text})),
        pattern().prop_map(|pattern| json!({"wildcard": pattern})),
    ]
}

fn anything_but_operand() -> impl Strategy<Value = Value> {
    prop_oneof![
        text().prop_map(Value::String),
        number(),
        vec(text().prop_map(Value::String), 1..3).prop_map(Value::Array),
        vec(number(), 1..3).prop_map(Value::Array),
        string_operator(),
    ]
}

fn condition() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => scalar(),
        2 => string_operator(),
        2 => anything_but_operand().prop_map(|operand| json!({"anything-but": operand})),
        2 => numeric().prop_map(|operand| json!({"numeric": operand})),
        1 => any::<bool>().prop_map(|exists| json!({"exists": exists})),
        1 => Just(json!({"cidr": "10.0.0.0/8"})),
    ]
}

fn conditions() -> impl Strategy<Value = Value> {
    vec(condition(), 1..4).prop_map(Value::Array)
}

/// Keys with lists, without `$or` and nesting: a policy in either scope.
fn flat_policy() -> impl Strategy<Value = Value> {
    proptest::collection::btree_map(key(), conditions(), 1..3)
        .prop_map(|keys| keys.into_iter().collect())
}

fn policy() -> impl Strategy<Value = Value> {
    flat_policy().prop_recursive(3, 12, 3, |inner| {
        let or =
            vec(inner.clone(), 2..4).prop_map(|groups| ("$or".to_owned(), Value::Array(groups)));
        let nested = (key(), inner);
        let leaf = (prop_oneof![4 => key(), 1 => Just("a.b".to_owned())], conditions());
        let entry = prop_oneof![3 => leaf, 2 => nested, 1 => or];
        vec(entry, 1..4).prop_map(|entries| entries.into_iter().collect())
    })
}

fn body() -> impl Strategy<Value = Value> {
    let value = scalar().prop_recursive(4, 24, 3, |inner| {
        let object = proptest::collection::btree_map(key(), inner.clone(), 0..4);
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::Array),
            object.prop_map(|keys| keys.into_iter().collect::<Value>()),
        ]
    });
    proptest::collection::btree_map(key(), value, 0..4).prop_map(|keys| keys.into_iter().collect())
}

/// A value that at least one of the conditions is likely to want.
fn value_for(conditions: &[Value]) -> impl Strategy<Value = Value> + use<> {
    let wanted =
        |condition: &Value| match condition.as_object().and_then(|object| object.iter().next()) {
            None => condition.clone(),
            Some((operator, operand)) => match operator.as_str() {
                "numeric" => operand[1].clone(),
                "cidr" => json!("10.0.0.1"),
                "prefix" | "suffix" | "equals-ignore-case" => operand.clone(),
                _ => json!("xyyx"),
            },
        };
    let wanted: Vec<Value> = conditions.iter().map(wanted).collect();
    let value = prop_oneof![3 => select(wanted), 1 => scalar()];
    prop_oneof![3 => value.clone(), 1 => vec(value, 0..3).prop_map(Value::Array)]
}

/// A body of the policy's shape, here and there as an array, so that many of them match and others
/// only just do not.
fn body_for(policy: &Value) -> BoxedStrategy<Value> {
    let mut parts: Vec<BoxedStrategy<Vec<(String, Value)>>> = Vec::new();
    for (key, value) in policy.as_object().into_iter().flatten() {
        parts.push(match value {
            Value::Array(groups) if key == "$or" => {
                let entries = |body: Value| {
                    body.as_object().cloned().unwrap_or_default().into_iter().collect()
                };
                select(groups.clone())
                    .prop_flat_map(|group| body_for(&group))
                    .prop_map(entries)
                    .boxed()
            }
            Value::Array(conditions) => {
                let key = key.clone();
                let value = proptest::option::weighted(0.9, value_for(conditions));
                value
                    .prop_map(move |value| {
                        value.map(|value| (key.clone(), value)).into_iter().collect()
                    })
                    .boxed()
            }
            nested => {
                let key = key.clone();
                let object = body_for(nested);
                let value =
                    prop_oneof![3 => object.clone(), 2 => vec(object, 1..4).prop_map(Value::Array)];
                value.prop_map(move |value| vec![(key.clone(), value)]).boxed()
            }
        });
    }
    parts.prop_map(|parts| parts.into_iter().flatten().collect()).boxed()
}

fn policy_and_body() -> impl Strategy<Value = (Value, Value)> {
    policy().prop_flat_map(|policy| {
        // The oracle reads no dots in bodies, so they are nested there.
        let near = body_for(&policy).prop_map(|body| undotted(&body));
        let body = prop_oneof![3 => near, 1 => body()];
        (Just(policy), body)
    })
}

fn attributes() -> impl Strategy<Value = BTreeMap<String, AttributeValue>> {
    let attribute = prop_oneof![
        some_text().prop_map(AttributeValue::String),
        number().prop_map(|number| AttributeValue::Number(number.to_string())),
        vec(scalar(), 0..3).prop_map(AttributeValue::StringArray),
        Just(AttributeValue::Binary),
    ];
    proptest::collection::btree_map(key(), attribute, 0..4)
}

/// Any JSON at all, with the words of policies among its keys so that it is often nearly one.
fn any_json() -> impl Strategy<Value = Value> {
    let word = select(vec![
        "$or",
        "anything-but",
        "prefix",
        "suffix",
        "wildcard",
        "numeric",
        "exists",
        "cidr",
        "equals-ignore-case",
        "=",
        "<",
        ">=",
        "a",
        "b",
        "a.b",
        ".",
        "",
    ]);
    let text = prop_oneof![
        word.clone().prop_map(str::to_owned),
        any::<String>(),
        Just("10.0.0.0/8".to_owned())
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 48, 4, move |inner| {
        let key = prop_oneof![4 => word.clone().prop_map(str::to_owned), 1 => any::<String>()];
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::Array),
            proptest::collection::btree_map(key, inner, 0..4)
                .prop_map(|keys| keys.into_iter().collect::<Value>()),
        ]
    })
}

fn with_entry(policy: &Value, key: &str, value: Value) -> Value {
    let mut object = policy.as_object().cloned().unwrap_or_default();
    object.insert(key.to_owned(), value);
    Value::Object(object)
}

/// The same body with every nested object spelled by dotted keys.
fn dotted(value: &Value) -> Value {
    match value {
        Value::Array(array) => array.iter().map(dotted).collect(),
        Value::Object(object) => {
            let mut flat = Map::new();
            for (key, value) in object {
                match dotted(value) {
                    Value::Object(inner) if !inner.is_empty() => {
                        flat.extend(
                            inner
                                .into_iter()
                                .map(|(below, value)| (format!("{key}.{below}"), value)),
                        );
                    }
                    value => {
                        flat.insert(key.clone(), value);
                    }
                }
            }
            Value::Object(flat)
        }
        other => other.clone(),
    }
}

/// A body whose keys with dots are nested objects; where such a key meets an object, the object
/// stays.
fn undotted(body: &Value) -> Value {
    match body {
        Value::Array(array) => array.iter().map(undotted).collect(),
        Value::Object(object) => {
            let mut nested: Map<String, Value> = Map::new();
            for (key, value) in object {
                let (key, value) = match key.split_once('.') {
                    Some((above, below)) => (above, json!({below: undotted(value)})),
                    None => (key.as_str(), undotted(value)),
                };
                nested.insert(key.to_owned(), value);
            }
            Value::Object(nested)
        }
        other => other.clone(),
    }
}

#[test]
fn matches_as_the_naive_implementation_does() {
    let (matched, missed) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig { cases: 6_000, ..config() };
    let result = TestRunner::new(config).run(&policy_and_body(), |(policy, body)| {
        let actual = body_policy(&policy).matches_body(&body);
        prop_assert_eq!(actual, oracle::matches_body(&policy, &body));
        let count = if actual { &matched } else { &missed };
        count.set(count.get() + 1);
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(
        matched.get() > 1_000 && missed.get() > 1_000,
        "{} matched and {} did not",
        matched.get(),
        missed.get()
    );
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn explaining_says_what_matching_says(
        (policy, body) in policy_and_body(),
        flat in flat_policy(),
        attributes in attributes(),
    ) {
        let policy = body_policy(&policy);
        prop_assert_eq!(policy.explain_body(&body).matched, policy.matches_body(&body));
        let flat = attribute_policy(&flat);
        let matched = flat.matches_attributes(&attributes);
        prop_assert_eq!(flat.explain_attributes(&attributes).matched, matched);
    }

    #[test]
    fn a_flat_policy_matches_if_each_key_has_a_condition_that_held(
        policy in flat_policy(),
        attributes in attributes(),
    ) {
        let policy = attribute_policy(&policy);
        let explanation = policy.explain_attributes(&attributes);
        let each = policy.leaf_paths().all(|path| {
            explanation.conditions.iter().any(|outcome| outcome.path == path && outcome.held)
        });
        prop_assert_eq!(explanation.matched, each);
    }

    #[test]
    fn what_was_parsed_comes_back(policy in policy()) {
        let parsed = body_policy(&policy);
        prop_assert_eq!(&parsed.to_json(), &policy);
        prop_assert_eq!(FilterPolicy::parse(&parsed.to_json(), Scope::Body), Ok(parsed));
    }

    #[test]
    fn a_further_value_only_widens(
        (policy, body) in policy_and_body(),
        key in key(),
        list in conditions(),
        more in condition(),
    ) {
        let narrow = with_entry(&policy, &key, list.clone());
        let longer: Value = list.as_array().into_iter().flatten().cloned().chain([more]).collect();
        let wide = with_entry(&policy, &key, longer);
        let (narrow, wide) = (body_policy(&narrow), body_policy(&wide));
        prop_assert!(!narrow.matches_body(&body) || wide.matches_body(&body));
    }

    #[test]
    fn a_further_key_only_narrows((policy, body) in policy_and_body(), list in conditions()) {
        let mut without = policy;
        if let Value::Object(object) = &mut without {
            object.remove("a");
        }
        let with = with_entry(&without, "a", list);
        let (with, without) = (body_policy(&with), body_policy(&without));
        prop_assert!(!with.matches_body(&body) || without.matches_body(&body));
    }

    #[test]
    fn or_is_the_union((first, body) in policy_and_body(), others in vec(policy(), 1..3)) {
        let groups: Vec<Value> = std::iter::once(first).chain(others).collect();
        let union = body_policy(&json!({"$or": groups})).matches_body(&body);
        prop_assert_eq!(union, groups.iter().any(|group| body_policy(group).matches_body(&body)));
    }

    #[test]
    fn anything_but_is_the_complement_where_there_is_one_value(
        operand in anything_but_operand(),
        value in scalar(),
    ) {
        let list = match &operand {
            Value::Array(list) => list.clone(),
            single => vec![single.clone()],
        };
        let body = json!({"a": value});
        let but = body_policy(&json!({"a": [{"anything-but": operand}]}));
        let listed = body_policy(&json!({"a": list}));
        prop_assert_eq!(but.matches_body(&body), !listed.matches_body(&body));
        let elsewhere = json!({"b": value});
        prop_assert!(!but.matches_body(&elsewhere));
    }

    #[test]
    fn ranges_compare_as_numbers_do(
        bottom in -1_000_i32..1_000,
        length in 1_i32..1_000,
        value in -2_500_i32..2_500,
        quarters in 0_u8..4,
    ) {
        let number = f64::from(value) + f64::from(quarters) / 4.0;
        let (bottom, top) = (f64::from(bottom), f64::from(bottom + length));
        let body = json!({"n": number});
        let matches = |operand: Value| {
            body_policy(&json!({"n": [{"numeric": operand}]})).matches_body(&body)
        };
        prop_assert_eq!(matches(json!(["<", bottom])), number < bottom);
        prop_assert_eq!(matches(json!(["<=", bottom])), number <= bottom);
        prop_assert_eq!(matches(json!([">", bottom])), number > bottom);
        prop_assert_eq!(matches(json!([">=", bottom])), number >= bottom);
        prop_assert_eq!(matches(json!(["=", bottom])), (number - bottom).abs() == 0.0);
        prop_assert_eq!(matches(json!([">", bottom, "<", top])), number > bottom && number < top);
        let within = (bottom..=top).contains(&number);
        prop_assert_eq!(matches(json!([">=", bottom, "<=", top])), within);
    }

    #[test]
    fn large_integers_compare_exactly(left in any::<u64>(), difference in 1_u64..3) {
        let right = left.wrapping_add(difference);
        let policy = body_policy(&json!({"n": [left]}));
        let (same, other) = (json!({"n": left}), json!({"n": right}));
        prop_assert!(policy.matches_body(&same));
        prop_assert!(!policy.matches_body(&other));
    }

    #[test]
    fn string_operators_are_what_they_say(part in "[xy]{1,3}", text in "[xyX]{0,6}") {
        let body = json!({"s": text});
        let matches = |condition: Value| body_policy(&json!({"s": [condition]})).matches_body(&body);
        let characters: Vec<char> = text.chars().collect();
        let part_characters: Vec<char> = part.chars().collect();
        prop_assert_eq!(matches(json!({"prefix": part})), characters.starts_with(&part_characters));
        prop_assert_eq!(matches(json!({"suffix": part})), characters.ends_with(&part_characters));
        let same = text.eq_ignore_ascii_case(&part);
        prop_assert_eq!(matches(json!({"equals-ignore-case": part})), same);
    }

    #[test]
    fn wildcards_match_as_trying_every_way_does(
        pieces in vec("[xy]{1,2}", 1..5),
        ends in any::<(bool, bool)>(),
        text in "[xy]{0,8}",
    ) {
        let star = |wanted: bool| if wanted { "*" } else { "" };
        let pattern = format!("{}{}{}", star(ends.0), pieces.join("*"), star(ends.1));
        let (stars, characters): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
        let expected = oracle::wildcard(&stars, &characters);
        let policy = body_policy(&json!({"s": [{"wildcard": pattern}]}));
        prop_assert_eq!(policy.matches_body(&json!({"s": text})), expected);
    }

    #[test]
    fn a_dotted_body_matches_as_the_nested_one((policy, body) in policy_and_body()) {
        let policy = body_policy(&policy);
        prop_assert_eq!(policy.matches_body(&dotted(&body)), policy.matches_body(&body));
    }

    #[test]
    fn attributes_match_as_the_same_flat_body(policy in flat_policy(), attributes in attributes()) {
        let value = |attribute: &AttributeValue| match attribute {
            AttributeValue::String(text) => Some(json!(text)),
            AttributeValue::Number(text) => serde_json::from_str(text).ok(),
            AttributeValue::StringArray(elements) => Some(json!(elements)),
            AttributeValue::Binary => None,
        };
        let body = attributes
            .iter()
            .filter_map(|(name, attribute)| Some((name.clone(), value(attribute)?)))
            .collect();
        let matched = attribute_policy(&policy).matches_attributes(&attributes);
        prop_assert_eq!(matched, body_policy(&policy).matches_body(&body));
    }

    #[test]
    fn nothing_panics_whatever_the_json(
        policy in any_json(),
        list in any_json(),
        body in any_json(),
    ) {
        let deeper = [json!({"a": list}), json!({"a": [list]}), json!({"a": [{"anything-but": list}]})];
        for candidate in deeper.iter().chain([&policy]) {
            for scope in [Scope::Body, Scope::Attributes] {
                match FilterPolicy::parse(candidate, scope) {
                    Ok(parsed) => {
                        prop_assert_eq!(&parsed.to_json(), candidate);
                        let wrapped = json!({"a": body});
                        for body in [&body, &wrapped] {
                            let matched = parsed.matches_body(body);
                            prop_assert_eq!(parsed.explain_body(body).matched, matched);
                        }
                        let problems = parsed.check_limits();
                        prop_assert!(problems.iter().all(|problem| !problem.to_string().is_empty()));
                    }
                    Err(problems) => {
                        prop_assert!(!problems.is_empty());
                        prop_assert!(problems.iter().all(|problem| !problem.to_string().is_empty()));
                    }
                }
            }
        }
    }

    #[test]
    fn no_attribute_text_panics(
        data_type in select(vec!["String", "Number", "String.Array", "Binary", "Other"]),
        text in any::<String>(),
    ) {
        if let Ok(attribute) = AttributeValue::decode(data_type, &text) {
            let list = json!([{"numeric": [">", 0]}, {"cidr": "::/0"}, {"exists": false}]);
            let policy = attribute_policy(&json!({"a": list}));
            let attributes = BTreeMap::from([("a".to_owned(), attribute)]);
            let matched = policy.matches_attributes(&attributes);
            prop_assert_eq!(policy.explain_attributes(&attributes).matched, matched);
        }
    }
}
