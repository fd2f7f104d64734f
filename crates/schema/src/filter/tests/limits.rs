//! The limits, at their edges and by the guide's own calculations.

use serde_json::{Map, Value, json};

use super::{attribute_policy, body_policy};
use crate::filter::{COMBINATIONS_MAX, FilterPolicy, PolicyCause};

fn causes(policy: &FilterPolicy) -> Vec<PolicyCause> {
    policy.check_limits().into_iter().map(|problem| problem.cause).collect()
}

fn values(count: usize) -> Value {
    (0..count).map(|number| format!("value{number}")).collect()
}

#[test]
fn combinations_are_counted_as_the_guide_does() {
    let flat = json!({"key_a": values(3), "key_b": values(1), "key_c": values(2)});
    assert_eq!(attribute_policy(&flat).combinations(), 6);
    let nested = json!({"key_a": {"key_b": {"key_c": values(4)}}, "key_d": {"key_e": values(3)}});
    assert_eq!(body_policy(&nested).combinations(), 72);
    let with_or = |source: usize, metric: usize, kind: usize, id: usize, space: usize| {
        json!({
            "source": values(source),
            "$or": [
                {"metricName": values(metric)},
                {"metricType": values(kind), "$or": [{"metricId": values(id)}, {"spaceId": values(space)}]},
            ],
        })
    };
    assert_eq!(attribute_policy(&with_or(1, 2, 1, 2, 3)).combinations(), 7);
    assert_eq!(attribute_policy(&with_or(3, 6, 4, 4, 7)).combinations(), 150);
    assert_eq!(causes(&attribute_policy(&with_or(3, 6, 4, 4, 7))), []);
    let refused = causes(&attribute_policy(&with_or(4, 6, 4, 4, 4)));
    assert_eq!(refused, [PolicyCause::TooManyCombinations { count: 152, max: COMBINATIONS_MAX }]);
    let nested_or = |metric: usize, namespace: usize, scope: usize, source: usize, kind: usize| {
        json!({
            "$or": [{"metricName": values(metric)}, {"namespace": values(namespace)}],
            "detail": {"scope": values(scope), "$or": [{"source": values(source)}, {"type": values(kind)}]},
        })
    };
    assert_eq!(body_policy(&nested_or(2, 2, 1, 1, 1)).combinations(), 32);
    assert_eq!(body_policy(&nested_or(3, 2, 2, 1, 3)).combinations(), 160);
    assert_eq!(body_policy(&json!({})).combinations(), 1);
}

#[test]
fn combinations_and_keys_end_where_sns_ends() {
    assert_eq!(causes(&attribute_policy(&json!({"key": values(150)}))), []);
    let one_more = causes(&attribute_policy(&json!({"key": values(151)})));
    assert_eq!(one_more, [PolicyCause::TooManyCombinations { count: 151, max: 150 }]);
    let keys = |count: usize| -> Value {
        Value::Object(
            (0..count).map(|number| (format!("key{number}"), values(1))).collect::<Map<_, _>>(),
        )
    };
    assert_eq!(causes(&attribute_policy(&keys(5))), []);
    assert_eq!(
        causes(&attribute_policy(&keys(6))),
        [PolicyCause::TooManyKeys { count: 6, max: 5 }]
    );
    let below_one = causes(&body_policy(&json!({"top": keys(6)})));
    assert_eq!(below_one[0], PolicyCause::TooManyKeys { count: 6, max: 5 });
    let same_keys = json!({"$or": [keys(5), keys(5)]});
    assert_eq!(causes(&attribute_policy(&same_keys)), []);
}

#[test]
fn the_policys_bytes_are_counted_as_json() {
    let policy = |length: usize| attribute_policy(&json!({"key": ["x".repeat(length)]}));
    // {"key":["..."]} is 12 bytes around the value.
    assert_eq!(causes(&policy(262_144 - 12)), []);
    assert_eq!(
        causes(&policy(262_144 - 11)),
        [PolicyCause::TooLong { bytes: 262_145, max: 262_144 }]
    );
}

#[test]
fn numbers_stay_within_what_sns_compares() {
    let cases = [
        (json!(1_000_000_000), 0),
        (json!(-1_000_000_000), 0),
        (json!(1_000_000_001), 1),
        (json!(-1_000_000_000.5), 1),
        (json!(0.00001), 0),
        (json!(0.000_001), 1),
        (json!({"numeric": [">", -2_000_000_000, "<", 2_000_000_000_i64]}), 2),
        (json!({"numeric": [">", 0.123_456]}), 1),
        (json!({"anything-but": [1, 5_000_000_000_i64]}), 1),
    ];
    for (condition, expected) in cases {
        let found = causes(&body_policy(&json!({"key": ["fine", condition]})));
        assert_eq!(found.len(), expected, "{condition}: {found:?}");
    }
}

#[test]
fn wildcards_are_few() {
    let found = causes(&body_policy(&json!({"key": [{"wildcard": "a*b*c*d*e"}]})));
    assert_eq!(found, [PolicyCause::TooManyWildcards { count: 4, max: 3 }]);
    // Ten patterns of one point each: 10 x 10. One more: 11 x 11.
    let patterns = |count: usize| -> Value {
        (0..count).map(|n| json!({"wildcard": format!("{n}*")})).collect()
    };
    assert_eq!(causes(&body_policy(&json!({"key": patterns(10)}))), []);
    let found = causes(&body_policy(&json!({"key": patterns(11)})));
    assert_eq!(found, [PolicyCause::WildcardComplexity { points: 121, max: 100 }]);
    // Over all keys: (1 + 1) x 2 and (9 + 1 + 1 + 3) x 7.
    let two_keys = json!({
        "filename": [{"wildcard": "*.txt"}, {"wildcard": "log*"}],
        "other": [{"wildcard": "*a*b*"}, {"anything-but": {"wildcard": "x*"}}, {"anything-but": "y"}, 1, 2, 3, 4],
    });
    let found = causes(&body_policy(&two_keys));
    assert_eq!(found, [], "4 + (9 + 2 + 1) x 7 = 88");
    let mut more = two_keys;
    more["filename"] = patterns(4);
    assert_eq!(causes(&body_policy(&more)), []);
    more["filename"] = patterns(5);
    assert_eq!(
        causes(&body_policy(&more)),
        [PolicyCause::WildcardComplexity { points: 109, max: 100 }]
    );
    // Without a wildcard `anything-but` costs nothing.
    let many: Value = (0..20).map(|n| json!({"anything-but": n})).collect();
    assert_eq!(causes(&body_policy(&json!({"key": many}))), []);
}

#[test]
fn what_sns_may_read_otherwise_is_found() {
    let twice = |policy: &Value| -> Vec<String> {
        let problems = body_policy(policy).check_limits().into_iter();
        problems
            .filter(|problem| problem.cause == PolicyCause::SamePathTwice)
            .map(|problem| problem.path)
            .collect()
    };
    assert_eq!(twice(&json!({"a": ["x"], "$or": [{"a": ["y"]}, {"b": ["z"]}]})), ["a"]);
    assert_eq!(twice(&json!({"$or": [{"z": ["y"]}, {"b": ["z"]}], "z": ["x"]})), ["z"]);
    assert_eq!(twice(&json!({"a.b": ["x"], "a": {"b": ["y"]}})), ["a.b"]);
    assert_eq!(twice(&json!({"$or": [{"a": ["y"]}, {"a": ["z"], "b": ["z"]}]})), [] as [&str; 0]);
    assert_eq!(
        twice(
            &json!({"d": {"$or": [{"a": ["y"]}, {"b": ["z"]}]}, "e": {"$or": [{"a": ["y"]}, {"b": ["z"]}]}})
        ),
        [] as [&str; 0]
    );

    let quote = json!({"$or": [{"key": [r#"say "x""#]}, {"key": [{"anything-but": {"wildcard": r"a\*"}}]}]});
    let problems = attribute_policy(&quote).check_limits();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!(problems[1].path, "$or[1].key[0]");
    assert!(
        problems
            .iter()
            .all(|problem| matches!(problem.cause, PolicyCause::NeedsDoubleEscape { .. }))
    );
    assert_eq!(causes(&body_policy(&quote)), []);

    let undocumented =
        causes(&body_policy(&json!({"key": [{"anything-but": {"equals-ignore-case": "x"}}]})));
    assert!(matches!(undocumented[..], [PolicyCause::NotDocumentedBySns { .. }]));
    let one_address =
        causes(&body_policy(&json!({"key": [{"cidr": "10.0.0.1/32"}, {"cidr": "::1/128"}]})));
    assert!(matches!(
        one_address[..],
        [PolicyCause::CidrOfOneAddress { .. }, PolicyCause::CidrOfOneAddress { .. }]
    ));
}
