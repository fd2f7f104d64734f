//! What an explanation shows.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{attribute_policy, body_policy};
use crate::filter::{AttributeValue, Explanation, FOUND_VALUES_MAX};

/// Path, condition, values found and whether it held, one line for each condition.
fn lines(explanation: &Explanation) -> Vec<String> {
    let line = |path: &str, condition: &Value, found: &[Value], held: bool| {
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        format!("{path} {condition} on [{}]: {held}", found.join(", "))
    };
    let conditions = explanation.conditions.iter();
    conditions
        .map(|outcome| line(&outcome.path, &outcome.condition, &outcome.found, outcome.held))
        .collect()
}

#[test]
fn every_condition_has_its_outcome_whatever_the_result() {
    let policy = body_policy(&json!({
        "dataset": ["wine", {"prefix": "beer"}],
        "$or": [{"data": {"size_bytes": [{"numeric": [">", 0]}]}}, {"stage": [{"exists": false}]}],
    }));
    let explanation = policy.explain_body(&json!({"dataset": "rum", "data": {"size_bytes": 17}}));
    assert!(!explanation.matched);
    insta::assert_snapshot!(lines(&explanation).join("\n"), @r#"
    data.size_bytes {"numeric":[">",0]} on [17]: true
    stage {"exists":false} on []: true
    dataset "wine" on ["rum"]: false
    dataset {"prefix":"beer"} on ["rum"]: false
    "#);
}

#[test]
fn a_condition_that_fails_hides_none_after_it() {
    let policy = body_policy(&json!({"a": ["x"], "a.b": ["y"], "c": ["z"]}));
    let explanation = policy.explain_body(&json!({"a": [1, {"b": "y"}], "c": "z"}));
    assert!(!explanation.matched);
    let held: Vec<_> = explanation.conditions.iter().map(|outcome| outcome.held).collect();
    assert_eq!(held, [false, true, true]);
}

#[test]
fn arrays_show_each_value_once_and_not_too_many() {
    let policy = body_policy(&json!({"records": {"n": [7], "kind": ["a"]}}));
    let records: Value =
        (0..100).map(|n| json!({"n": n, "kind": if n == 8 { "a" } else { "b" }})).collect();
    let explanation = policy.explain_body(&json!({"records": records}));
    assert!(!explanation.matched, "no record has both");
    assert!(
        explanation.conditions.iter().all(|outcome| outcome.held),
        "but each condition holds in one"
    );
    assert_eq!(explanation.conditions[0].found, [json!("b"), json!("a")]);
    assert_eq!(explanation.conditions[1].found.len(), FOUND_VALUES_MAX);
}

#[test]
fn attributes_are_explained_with_their_types() {
    let policy =
        attribute_policy(&json!({"hop": [{"numeric": ["<", 5]}], "raw": [{"exists": true}]}));
    let attributes = BTreeMap::from([
        ("hop".to_owned(), AttributeValue::Number("3".to_owned())),
        ("raw".to_owned(), AttributeValue::Binary),
    ]);
    let explanation = policy.explain_attributes(&attributes);
    assert!(!explanation.matched);
    assert_eq!(
        lines(&explanation),
        [r#"hop {"numeric":["<",5]} on [3]: true"#, r#"raw {"exists":true} on []: false"#]
    );
}

#[test]
fn a_body_that_is_no_object_holds_nothing() {
    let explanation = body_policy(&json!({"a": [{"exists": false}]})).explain_body(&json!("text"));
    assert!(!explanation.matched);
    assert_eq!(lines(&explanation), [r#"a {"exists":false} on []: false"#]);
    assert!(body_policy(&json!({})).explain_body(&json!("text")).matched);
}
