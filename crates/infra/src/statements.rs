//! What changes in a policy, statement by statement. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// The fields that are policies.
pub(crate) const FIELDS: [&str; 2] = ["policy", "trust"];

/// The keys of a statement whose values speak for themselves.
const PLAIN: [&str; 3] = ["Action", "Effect", "Resource"];

/// The statements that go, and those that come: one that changes does both.
pub(crate) fn difference(from: &Value, to: &Value) -> (Vec<Value>, Vec<Value>) {
    let (old, new) = (all(from), all(to));
    let without = |these: &[Value], others: &[Value]| -> Vec<Value> {
        these.iter().filter(|one| !others.contains(one)).cloned().collect()
    };
    (without(&old, &new), without(&new, &old))
}

/// The same for people: a line for each statement that comes or goes, and for one whose
/// Sid stays what comes and goes within it.
pub(crate) fn lines(field: &str, from: &Value, to: &Value) -> Vec<String> {
    let (gone, come) = difference(from, to);
    let by_sid = |statements: &[Value]| -> BTreeMap<String, Value> {
        let sid = |one: &Value| Some((one["Sid"].as_str()?.to_owned(), one.clone()));
        statements.iter().filter_map(sid).collect()
    };
    let (old, new) = (by_sid(&gone), by_sid(&come));
    let stays = |one: &&Value| {
        one["Sid"].as_str().is_some_and(|sid| old.contains_key(sid) && new.contains_key(sid))
    };
    let named = |one: &Value| match one["Sid"].as_str() {
        Some(sid) => format!("{sid}: {}", whole(one)),
        None => whole(one),
    };
    let mut lines: Vec<(String, String)> = Vec::new();
    for one in gone.iter().filter(|one| !stays(one)) {
        lines.push((named(one), format!("{field} - {}", named(one))));
    }
    for one in &come {
        let sid = one["Sid"].as_str().unwrap_or_default();
        match old.get(sid).filter(|_| stays(&one)) {
            Some(before) => {
                lines.push((named(one), format!("{field} ~ {sid}: {}", change(before, one))));
            }
            None => lines.push((named(one), format!("{field} + {}", named(one)))),
        }
    }
    lines.sort();
    match lines.is_empty() {
        true => vec![format!("{field} changed")],
        false => lines.into_iter().map(|(_, line)| line).collect(),
    }
}

fn all(document: &Value) -> Vec<Value> {
    match &document["Statement"] {
        Value::Array(statements) => statements.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    }
}

/// A statement in words: nothing of what it allows or denies is left out.
fn whole(statement: &Value) -> String {
    let side = |key: &str| texts(&statement[key]).into_iter().collect::<Vec<_>>().join(", ");
    let effect = statement["Effect"].as_str().unwrap_or_default().to_lowercase();
    let mut words = vec![match side("Action") {
        actions if actions.is_empty() => effect,
        actions => format!("{effect} {actions}"),
    }];
    if !statement["Resource"].is_null() {
        words[0].push_str(&format!(" on {}", side("Resource")));
    }
    let others = statement.as_object().into_iter().flatten();
    for (key, value) in others.filter(|(key, _)| !PLAIN.contains(&key.as_str()) && *key != "Sid") {
        words.extend(leaves(key, value));
    }
    words.join(", ")
}

/// What two statements of one Sid differ in.
fn change(before: &Value, after: &Value) -> String {
    let fields = |statement: &Value| statement.as_object().cloned().unwrap_or_default();
    let (before, after) = (fields(before), fields(after));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let side = |all: &Map<String, Value>, key: &str| -> BTreeSet<String> {
        let value = all.get(key).unwrap_or(&Value::Null);
        if PLAIN.contains(&key) { texts(value) } else { leaves(key, value) }
    };
    let changed = keys.into_iter().flat_map(|key| {
        let (old, new) = (side(&before, key), side(&after, key));
        let gone: Vec<String> = old.difference(&new).map(|text| format!("- {text}")).collect();
        let come: Vec<String> = new.difference(&old).map(|text| format!("+ {text}")).collect();
        gone.into_iter().chain(come)
    });
    changed.collect::<Vec<_>>().join(" ")
}

/// The texts of a value that is one or a list of them.
fn texts(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Null => BTreeSet::new(),
        Value::String(text) => BTreeSet::from([text.clone()]),
        other => BTreeSet::from([other.to_string()]),
    }
}

/// All texts within a value, each with its way: `Condition ArnEquals aws:SourceArn = …`.
fn leaves(way: &str, value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(fields) => {
            fields.iter().flat_map(|(key, value)| leaves(&format!("{way} {key}"), value)).collect()
        }
        other => texts(other).into_iter().map(|text| format!("{way} = {text}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(statements: &Value) -> Value {
        json!({"Version": "2012-10-17", "Statement": statements})
    }

    #[test]
    fn statements_that_come_go_and_change() {
        let send = |condition: Value| {
            json!({
                "Sid": "Send", "Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"},
                "Action": "sqs:SendMessage", "Resource": "arn:q", "Condition": condition,
            })
        };
        let from = policy(&json!([
            send(json!({"ArnEquals": {"aws:SourceArn": "arn:aws:s3:::lake"}})),
            {"Sid": "Old", "Effect": "Allow", "Action": ["a:One", "a:Two"], "Resource": "arn:x"},
            {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "arn:q"},
        ]));
        let to = policy(&json!([
            send(json!({"ArnLike": {"aws:SourceArn": "arn:aws:s3:::lake"}})),
            {"Effect": "Allow", "Principal": "*", "NotAction": "sqs:Purge", "Resource": "arn:q"},
        ]));
        insta::assert_snapshot!(lines("policy", &from, &to).join("\n"), @r"
        policy - Old: allow a:One, a:Two on arn:x
        policy ~ Send: - Condition ArnEquals aws:SourceArn = arn:aws:s3:::lake + Condition ArnLike aws:SourceArn = arn:aws:s3:::lake
        policy + allow on arn:q, NotAction = sqs:Purge, Principal = *
        policy - deny sqs:* on arn:q, Principal = *
        ");
        let (gone, come) = difference(&from, &to);
        assert_eq!((gone.len(), come.len()), (3, 2));
        assert_eq!(lines("policy", &from, &from), ["policy changed"]);
    }
}
