//! What is refused, where, and why; most of it with the form that SNS itself refuses.

use serde_json::{Value, json};

use super::written;
use crate::filter::{FilterPolicy, PolicyCause, PolicyProblem, Scope};

fn problems(policy: &Value, scope: Scope) -> Vec<PolicyProblem> {
    FilterPolicy::parse(policy, scope).expect_err(&policy.to_string())
}

fn assert_refused(condition: &Value, expected: fn(&PolicyCause) -> bool) {
    for scope in [Scope::Body, Scope::Attributes] {
        let problems = problems(&json!({"key": [condition]}), scope);
        assert_eq!(problems.len(), 1, "{condition}: {problems:?}");
        assert_eq!(problems[0].path, "key[0]", "{condition}");
        assert!(expected(&problems[0].cause), "{condition}: {problems:?}");
    }
}

#[test]
fn conditions_that_sns_refuses_are_refused() {
    assert_refused(&json!(["value"]), |cause| matches!(cause, PolicyCause::NotAScalar { .. }));
    assert_refused(&json!({"wrong-operator": true}), |cause| {
        matches!(cause, PolicyCause::UnknownOperator { .. })
    });
    assert_refused(&json!({"suffix": "a", "prefix": "b"}), |cause| {
        *cause == PolicyCause::OperatorCount { count: 2 }
    });
    assert_refused(&json!({}), |cause| *cause == PolicyCause::OperatorCount { count: 0 });
    for operator in ["prefix", "suffix", "equals-ignore-case", "wildcard", "cidr"] {
        for operand in
            [json!(100), json!(null), json!([]), json!(["test"]), json!({"x": 1}), json!(true)]
        {
            assert_refused(&json!({operator: operand}), |cause| {
                matches!(cause, PolicyCause::OperandNotText { .. })
            });
        }
    }
    for operand in [json!(null), json!("no"), json!(1)] {
        assert_refused(&json!({"exists": operand}), |cause| {
            matches!(cause, PolicyCause::ExistsNotBool { .. })
        });
    }
}

#[test]
fn numeric_has_few_forms() {
    for operand in [
        json!([]),
        json!("="),
        json!(5),
        json!(["operator"]),
        json!(["operator", 1]),
        json!([1, "<="]),
        json!(["=", "000"]),
        json!([">="]),
        json!(["<", 100, ">", 10]),
        json!([">=", 1, ">", 2]),
        json!(["=", 1, "<", 2]),
        json!([">", 20, "<="]),
        json!([">", 20, 30]),
        json!([">", 20, "test"]),
        json!([">", "20", "<", "30"]),
        json!([">", 20, "<", "30"]),
        json!([">", 20, "<", 30, "<", 50]),
    ] {
        assert_refused(&json!({"numeric": operand}), |cause| {
            matches!(cause, PolicyCause::NumericForm { .. })
        });
    }
    for operand in [json!([">", 3, "<", 1]), json!([">=", 3, "<=", 3])] {
        assert_refused(&json!({"numeric": operand}), |cause| {
            matches!(cause, PolicyCause::NumericRangeEmpty { .. })
        });
    }
}

#[test]
fn anything_but_takes_strings_or_numbers() {
    for operand in
        [json!([]), json!(["a", 1]), json!(null), json!(true), json!([null]), json!(["a", false])]
    {
        assert_refused(&json!({"anything-but": operand}), |cause| {
            matches!(cause, PolicyCause::AnythingButForm { .. })
        });
    }
    assert_refused(&json!({"anything-but": [["a"]]}), |cause| {
        matches!(cause, PolicyCause::NotAScalar { .. })
    });
    for operand in
        [json!({"wrong-operator": null}), json!({"exists": false}), json!({"numeric": ["=", 1]})]
    {
        assert_refused(&json!({"anything-but": operand}), |cause| {
            matches!(cause, PolicyCause::UnknownOperator { after_anything_but: true, .. })
        });
    }
    assert_refused(&json!({"anything-but": {"prefix": false}}), |cause| {
        matches!(cause, PolicyCause::OperandNotText { operator: "prefix", .. })
    });
    for operator in ["prefix", "suffix"] {
        assert_refused(&json!({"anything-but": {operator: ""}}), |cause| {
            matches!(cause, PolicyCause::AnythingButOfAll { .. })
        });
    }
    assert_refused(&json!({"anything-but": {"prefix": "a", "suffix": "b"}}), |cause| {
        *cause == PolicyCause::OperatorCount { count: 2 }
    });
}

#[test]
fn patterns_and_networks_are_read_when_the_policy_is() {
    for operator in [json!({"wildcard": "a**b"}), json!({"anything-but": {"wildcard": "**"}})] {
        assert_refused(&operator, |cause| {
            matches!(cause, PolicyCause::ConsecutiveWildcards { .. })
        });
    }
    assert_refused(&json!({"wildcard": r"a\b"}), |cause| {
        matches!(cause, PolicyCause::WildcardEscape { .. })
    });
    for text in [
        "10.0.0.0",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0/24",
        "host/24",
        "10.0.0.0/24/8",
        "10.0.0.0/-1",
    ] {
        assert_refused(&json!({"cidr": text}), |cause| {
            matches!(cause, PolicyCause::NotACidr { .. })
        });
    }
    assert_refused(
        &json!({"cidr": "10.0.0.5/24"}),
        |cause| matches!(cause, PolicyCause::CidrHostBits { network, .. } if network == "10.0.0.0/24"),
    );
}

#[test]
fn keys_hold_lists_or_in_bodies_objects() {
    let cases = [
        (json!({"a": "x"}), Scope::Body, "a"),
        (json!({"a": {"suffix": "x"}}), Scope::Body, "a.suffix"),
        (json!({"a": []}), Scope::Body, "a"),
        (json!({"a": {}}), Scope::Body, "a"),
        (json!({"a": {"b": {}}}), Scope::Body, "a.b"),
        (json!({"a": {"b": ["x"]}}), Scope::Attributes, "a"),
        (json!({"$or": [{"a": ["x"]}, {}]}), Scope::Attributes, "$or[1]"),
        (json!({"$or": [{"a": ["x"]}, {"b": {"prefix": ["x"]}}]}), Scope::Body, "$or[1].b.prefix"),
        (json!(["a"]), Scope::Body, "the policy"),
    ];
    for (policy, scope, path) in cases {
        let problems = problems(&policy, scope);
        assert_eq!(problems.len(), 1, "{policy}: {problems:?}");
        assert_eq!(problems[0].path, path, "{policy}");
    }
}

#[test]
fn a_key_called_or_is_read_as_a_key() {
    let cases = [
        (json!({"$or": [{"numeric": 123}, {"prefix": "abc"}]}), "$or[0]"),
        (json!({"$or": [{"stage": ["training"]}]}), "$or[0]"),
        (json!({"$or": ["x", {"stage": ["training"]}]}), "$or[1]"),
        (json!({"$or": []}), "$or"),
    ];
    for (policy, path) in cases {
        let problems = problems(&policy, Scope::Body);
        assert_eq!(problems.len(), 1, "{policy}: {problems:?}");
        assert_eq!(problems[0].path, path, "{policy}");
    }
}

#[test]
fn all_problems_come_at_once_and_say_what_to_do() {
    let policy = json!({
        "a": "x",
        "b": [{"prefix": 5}, {"numeric": [">", 3, "<", 1]}],
        "c": {"$or": [{"d": []}, {"e": [{"regex": "."}]}]},
    });
    insta::assert_snapshot!(written(&problems(&policy, Scope::Body)).join("\n"), @r#"
    a: a key holds a list of conditions, and this is a string: put the value in brackets
    b[0]: `prefix` takes a string, and this is a number: write one string
    b[1]: the bottom of a range must be less than its top, and this is [">",3,"<",1]: exchange the numbers, or use "=" for one number
    c.$or[0].d: an empty list of conditions can never hold: give it a condition, or leave the key out
    c.$or[1].e[0]: `regex` is not an operator: use anything-but, cidr, equals-ignore-case, exists, numeric, prefix, suffix or wildcard; `$or` takes a list of at least two objects without these words as keys
    "#);
}

#[test]
fn branches_are_bounded() {
    let pair = |key: String| json!({"$or": [{"x": [key.clone()]}, {"y": [key]}]});
    let nested: serde_json::Map<String, Value> =
        (0..11).map(|n| (format!("k{n}"), pair(format!("v{n}")))).collect();
    let problems = problems(&Value::Object(nested), Scope::Body);
    assert_eq!(problems[0].cause, PolicyCause::TooManyBranches { count: 2_048, max: 1_024 });
}

#[test]
fn every_documented_form_is_accepted() {
    for condition in [
        json!("x"),
        json!(5),
        json!(-1.5),
        json!(true),
        json!(null),
        json!({"prefix": ""}),
        json!({"anything-but": "x"}),
        json!({"anything-but": 5}),
        json!({"anything-but": {"prefix": "x"}}),
        json!({"anything-but": {"suffix": "x"}}),
        json!({"anything-but": {"wildcard": "*x"}}),
        json!({"anything-but": {"equals-ignore-case": "x"}}),
        json!({"cidr": "::/0"}),
    ] {
        for scope in [Scope::Body, Scope::Attributes] {
            let policy = json!({"key": [condition]});
            let parsed = FilterPolicy::parse(&policy, scope);
            let parsed = parsed.unwrap_or_else(|problems| panic!("{policy}: {problems:?}"));
            assert_eq!(parsed.to_json(), policy);
            assert_eq!(parsed.scope(), scope);
        }
    }
    assert_eq!(Scope::Body.aws_name(), "MessageBody");
    assert_eq!(Scope::Attributes.aws_name(), "MessageAttributes");
}
