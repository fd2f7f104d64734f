//! What changes, in words.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::kind::function::short_code;
use crate::plan::{Action, Change, Step};
use crate::resource::Kind;
use crate::statements;

/// Characters of a value that are shown.
const VALUE_CHARS_MAX: usize = 48;

/// What a step is about, a line each.
pub(super) fn details(step: &Step) -> Vec<String> {
    let mut details = match (step.action, &step.desired, &step.observed) {
        (Action::Create, Some(properties), _) | (Action::Delete, _, Some(properties)) => {
            vec![properties.summary()]
        }
        _ => step.changes.iter().flat_map(|change| shown(step.id.kind, change)).collect(),
    };
    details.extend(step.reason.clone());
    if details.is_empty() {
        details.push("a new version, with the configuration as it is now".to_owned());
    }
    details
}

pub(super) fn shown(kind: Kind, change: &Change) -> Vec<String> {
    let Change { field, from, to } = change;
    let last = field.rsplit('.').next().unwrap_or(field);
    match last {
        "code_sha256" => {
            let code = |value: &Value| short_code(value.as_str().unwrap_or_default());
            vec![format!("code {} -> {}", code(from), code(to))]
        }
        _ if statements::FIELDS.contains(&last) => statements::lines(last, from, to),
        "filter_policy" => filter(from, to),
        "pattern" => differences("pattern", &texts_within(from), &texts_within(to)),
        "definition" => vec!["definition changed".to_owned()],
        "body" => vec!["widgets changed".to_owned()],
        // What else a version freezes is shown with its function.
        _ if kind == Kind::Alias => Vec::new(),
        _ if kind == Kind::BucketNotification => {
            let entry = |sign: char, value: &Value| {
                let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
                let destination = text("destination_arn");
                let destination = destination.rsplit(':').next().unwrap_or_default();
                format!("{sign} {} *{} -> {destination}", text("prefix"), text("suffix"))
            };
            let sides = [('-', from), ('+', to)];
            if sides.iter().any(|(_, value)| value.is_object()) {
                let sides = sides.into_iter().filter(|(_, value)| !value.is_null());
                return sides.map(|(sign, value)| entry(sign, value)).collect();
            }
            vec![plainly(field, from, to)]
        }
        _ => vec![plainly(field, from, to)],
    }
}

fn plainly(field: &str, from: &Value, to: &Value) -> String {
    let field = field.strip_prefix("release.").unwrap_or(field);
    match (from.is_null(), to.is_null()) {
        (true, false) => format!("{field}: + {}", brief(to)),
        (false, true) => format!("{field}: - {}", brief(from)),
        _ => format!("{field}: {} -> {}", brief(from), brief(to)),
    }
}

fn brief(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if text.chars().count() <= VALUE_CHARS_MAX {
        return text;
    }
    let cut: String = text.chars().take(VALUE_CHARS_MAX - 1).collect();
    format!("{cut}…")
}

fn texts(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Null => BTreeSet::new(),
        Value::String(text) => BTreeSet::from([text.clone()]),
        other => BTreeSet::from([other.to_string()]),
    }
}

/// All texts anywhere within a document.
fn texts_within(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(fields) => fields.values().flat_map(texts_within).collect(),
        Value::Array(items) => items.iter().flat_map(texts_within).collect(),
        other => texts(other),
    }
}

fn differences(what: &str, old: &BTreeSet<String>, new: &BTreeSet<String>) -> Vec<String> {
    let come = new.difference(old).map(|text| format!("{what}: + \"{text}\""));
    let gone = old.difference(new).map(|text| format!("{what}: - \"{text}\""));
    come.chain(gone).collect()
}

fn filter(from: &Value, to: &Value) -> Vec<String> {
    let empty = Map::new();
    let (old, new) = (from.as_object().unwrap_or(&empty), to.as_object().unwrap_or(&empty));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut changed = Vec::new();
    for key in keys {
        let side = |all: &Map<String, Value>| all.get(key).map(texts).unwrap_or_default();
        changed.extend(differences(&format!("filter {key}"), &side(old), &side(new)));
    }
    changed
}
