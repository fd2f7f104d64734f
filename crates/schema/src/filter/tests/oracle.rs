//! A second implementation, as naive as can be: it flattens the body into values that remember the
//! array elements they came through, multiplies the policy out, and tries every assignment of
//! values to keys.

use std::collections::BTreeMap;

use serde_json::Value;

/// Which element of which array, by the array's number.
type Elements = BTreeMap<usize, usize>;

struct FlatValue<'a> {
    path: String,
    value: &'a Value,
    elements: Elements,
}

pub(super) fn matches_body(policy: &Value, body: &Value) -> bool {
    if policy.as_object().is_some_and(serde_json::Map::is_empty) {
        return true;
    }
    let mut flat = Flattener { values: Vec::new(), arrays: 0 };
    if body.is_object() {
        flat.walk("", body, &Elements::new(), &Elements::new());
    }
    branches(policy, "").iter().any(|branch| assign(branch, &flat.values, &Elements::new()))
}

struct Flattener<'a> {
    values: Vec<FlatValue<'a>>,
    arrays: usize,
}

impl<'a> Flattener<'a> {
    /// `through` are the arrays whose elements are objects on the way here; those right above a
    /// value do not bind it.
    fn walk(&mut self, path: &str, value: &'a Value, through: &Elements, right_above: &Elements) {
        match value {
            Value::Object(object) => {
                let through: Elements =
                    through.iter().chain(right_above).map(|(array, at)| (*array, *at)).collect();
                for (key, value) in object {
                    self.walk(&format!("{path}.{key}"), value, &through, &Elements::new());
                }
            }
            Value::Array(array) => {
                self.arrays += 1;
                let number = self.arrays;
                for (index, value) in array.iter().enumerate() {
                    let mut right_above = right_above.clone();
                    right_above.insert(number, index);
                    self.walk(path, value, through, &right_above);
                }
            }
            _ => self.values.push(FlatValue {
                path: path.to_owned(),
                value,
                elements: through.clone(),
            }),
        }
    }
}

type Branch = Vec<(String, Vec<Value>)>;

fn branches(policy: &Value, path: &str) -> Vec<Branch> {
    let mut all: Vec<Branch> = vec![Vec::new()];
    for (key, value) in policy.as_object().into_iter().flatten() {
        let below = format!("{path}.{key}");
        let more: Vec<Branch> = match value {
            Value::Array(list) if key == "$or" => {
                list.iter().flat_map(|group| branches(group, path)).collect()
            }
            Value::Array(list) => vec![vec![(below, list.clone())]],
            _ => branches(value, &below),
        };
        all = all
            .iter()
            .flat_map(|left| more.iter().map(|right| [left.clone(), right.clone()].concat()))
            .collect();
    }
    all
}

fn assign(branch: &[(String, Vec<Value>)], values: &[FlatValue<'_>], chosen: &Elements) -> bool {
    let Some(((path, conditions), rest)) = branch.split_first() else {
        return true;
    };
    let absent = !values.is_empty() && !values.iter().any(|flat| flat.path == *path);
    let wants_absence =
        conditions.iter().any(|condition| condition["exists"] == Value::Bool(false));
    (absent && wants_absence && assign(rest, values, chosen))
        || values.iter().any(|flat| {
            let fits = flat
                .elements
                .iter()
                .all(|(array, at)| chosen.get(array).is_none_or(|other| other == at));
            let holds = flat.path == *path
                && conditions.iter().any(|condition| holds(condition, flat.value));
            let both =
                || flat.elements.iter().chain(chosen).map(|(array, at)| (*array, *at)).collect();
            fits && holds && assign(rest, values, &both())
        })
}

fn holds(condition: &Value, value: &Value) -> bool {
    let Value::Object(object) = condition else {
        return equal(condition, value);
    };
    let text = value.as_str();
    object.iter().all(|(operator, operand)| match operator.as_str() {
        "exists" => *operand == Value::Bool(true) && !value.is_null() && text != Some(""),
        "anything-but" => match operand {
            Value::Array(list) => !list.iter().any(|item| equal(item, value)),
            Value::Object(_) => !holds(operand, value),
            single => !equal(single, value),
        },
        "numeric" => value.as_f64().is_some_and(|number| {
            let list = operand.as_array().map(Vec::as_slice).unwrap_or_default();
            list.chunks(2)
                .all(|pair| compares(&pair[0], number, pair[1].as_f64().unwrap_or(f64::NAN)))
        }),
        "prefix" => text
            .zip(operand.as_str())
            .is_some_and(|(text, part)| text.get(..part.len()) == Some(part)),
        "suffix" => text.zip(operand.as_str()).is_some_and(|(text, part)| {
            text.len() >= part.len() && text.get(text.len() - part.len()..) == Some(part)
        }),
        "equals-ignore-case" => {
            text.zip(operand.as_str()).is_some_and(|(text, other)| text.eq_ignore_ascii_case(other))
        }
        "wildcard" => text.zip(operand.as_str()).is_some_and(|(text, pattern)| {
            wildcard(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
        }),
        "cidr" => operand == "10.0.0.0/8" && text.is_some_and(|text| text.starts_with("10.")),
        other => panic!("the generator makes no {other}"),
    })
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => (left - right).abs() == 0.0,
        _ => left == right,
    }
}

fn compares(operator: &Value, left: f64, right: f64) -> bool {
    match operator.as_str() {
        Some("=") => (left - right).abs() == 0.0,
        Some("<") => left < right,
        Some("<=") => left <= right,
        Some(">") => left > right,
        Some(">=") => left >= right,
        _ => false,
    }
}

/// Every way to spend the characters on the star.
pub(super) fn wildcard(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|taken| wildcard(rest, &text[taken..])),
        Some((literal, rest)) => {
            text.split_first().is_some_and(|(first, text)| first == literal && wildcard(rest, text))
        }
    }
}
