//! How a plan looks to a person.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use crate::diff::warning;
use crate::kind::function::short_code;
use crate::plan::{Action, Change, Plan, Step};
use crate::resource::Kind;

/// Characters of a value that are shown.
const VALUE_CHARS_MAX: usize = 48;

/// One line of a plan as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it tells of: what it may be coloured by.
    pub tone: Tone,
    /// Its text.
    pub text: String,
}

/// What a line tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Where the plan goes, or what it sums up to.
    Heading,
    /// A step.
    Step(Action),
    /// Something beside a step.
    Aside,
}

impl Plan {
    /// The lines that its `Display` shows.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = vec![line(Tone::Heading, self.heading()), line(Tone::Aside, String::new())];
        let kind_width = self.kind_width();
        let name_width =
            self.steps.iter().map(|step| step.id.name.chars().count()).max().unwrap_or(0).min(44);
        for step in &self.steps {
            let (kind, name) = (step.id.kind, &step.id.name);
            let (sign, word) = (step.action.sign(), step.action.word());
            let details = details(step);
            let (first, more) =
                details.split_first().map_or(("", &[][..]), |(f, m)| (f.as_str(), m));
            let text =
                format!("  {sign} {word:<8} {kind:<kind_width$}  {name:<name_width$}  {first}");
            lines.push(line(Tone::Step(step.action), text.trim_end().to_owned()));
            let indent = 2 + 2 + 9 + kind_width + 2 + name_width + 2;
            lines.extend(
                more.iter()
                    .map(|text| line(Tone::Step(step.action), format!("{:indent$}{text}", ""))),
            );
            let asides = warning(step).map(str::to_owned).into_iter().chain(self.kept_within(step));
            lines.extend(asides.map(|text| line(Tone::Aside, format!("               {text}"))));
        }
        for kept in &self.kept {
            let (kind, name, reason) = (kept.id.kind, &kept.id.name, &kept.reason);
            let text = format!("    keep     {kind:<kind_width$}  {name:<name_width$}  {reason}");
            lines.push(line(Tone::Aside, text));
        }
        if !self.unchanged.is_empty() {
            lines.push(line(Tone::Aside, format!("    unchanged  {}", self.unchanged.len())));
        }
        for note in &self.notes {
            lines.push(line(Tone::Aside, format!("    note     {}: {}", note.id, note.text)));
        }
        lines.extend(self.foreign_elsewhere());
        lines.push(line(Tone::Aside, String::new()));
        lines.push(line(Tone::Heading, self.sum()));
        lines
    }

    fn heading(&self) -> String {
        let Self { account, region, workflow, environment, .. } = self;
        let environment =
            environment.as_ref().map_or_else(String::new, |name| format!("  environment {name}"));
        format!("account {account}  region {region}  workflow {workflow}{environment}")
    }

    fn kind_width(&self) -> usize {
        let steps = self.steps.iter().map(|step| step.id.kind);
        let kinds = steps.chain(self.kept.iter().map(|kept| kept.id.kind));
        kinds.map(|kind| kind.label().len()).max().unwrap_or(0)
    }

    /// What is not ours within what a step changes.
    fn kept_within(&self, step: &Step) -> Option<String> {
        let foreign = self.foreign.iter().filter(|foreign| foreign.within == step.id);
        let names: Vec<&str> = foreign.map(|foreign| foreign.name.as_str()).collect();
        foreign_names(&names)
    }

    /// What is not ours within what stays as it is.
    fn foreign_elsewhere(&self) -> Vec<Line> {
        let touched: BTreeSet<_> = self.steps.iter().map(|step| &step.id).collect();
        let mut within: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for foreign in self.foreign.iter().filter(|foreign| !touched.contains(&foreign.within)) {
            within.entry(&foreign.within).or_default().push(&foreign.name);
        }
        let text = within
            .into_iter()
            .filter_map(|(id, names)| Some(format!("    {id}: {}", foreign_names(&names)?)));
        text.map(|text| line(Tone::Aside, text)).collect()
    }

    fn sum(&self) -> String {
        if self.is_empty() {
            return "Nothing to do.".to_owned();
        }
        let counts = [Action::Create, Action::Update, Action::Replace, Action::Delete]
            .into_iter()
            .filter(|action| self.count(*action) > 0)
            .map(|action| format!("{} to {}", self.count(action), action.word()));
        let holders: Vec<&str> = self
            .steps
            .iter()
            .filter(|step| step.with_data)
            .map(|step| step.id.name.as_str())
            .collect();
        let data = match holders.as_slice() {
            [] if self.count(Action::Delete) + self.count(Action::Replace) == 0 => String::new(),
            [] => " None of what goes holds data.".to_owned(),
            names => format!(" Data goes with: {}.", names.join(", ")),
        };
        format!("Plan: {}.{data}", counts.collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.lines().into_iter().map(|line| line.text).collect();
        f.write_str(&texts.join("\n"))
    }
}

fn line(tone: Tone, text: String) -> Line {
    Line { tone, text }
}

fn foreign_names(names: &[&str]) -> Option<String> {
    let entries = if names.len() == 1 { "entry" } else { "entries" };
    (!names.is_empty())
        .then(|| format!("kept, not ours: {} {entries} ({})", names.len(), names.join(", ")))
}

/// What a step is about, a line each.
fn details(step: &Step) -> Vec<String> {
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

fn shown(kind: Kind, change: &Change) -> Vec<String> {
    let Change { field, from, to } = change;
    let last = field.rsplit('.').next().unwrap_or(field);
    match last {
        "code_sha256" => {
            let code = |value: &Value| short_code(value.as_str().unwrap_or_default());
            vec![format!("code {} -> {}", code(from), code(to))]
        }
        "policy" | "trust" => statements(last, from, to),
        "filter_policy" => filter(from, to),
        "pattern" => differences("pattern", &texts_within(from), &texts_within(to)),
        "definition" => vec!["definition changed".to_owned()],
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

/// The statements of a policy document that come, go and change, by Sid.
fn statements(field: &str, from: &Value, to: &Value) -> Vec<String> {
    let by_sid = |document: &Value| -> BTreeMap<String, Value> {
        let statements = document["Statement"].as_array().into_iter().flatten();
        let sid = |(index, statement): (usize, &Value)| {
            let sid = statement["Sid"].as_str().map(str::to_owned);
            (sid.unwrap_or_else(|| format!("(no Sid, {index})")), statement.clone())
        };
        statements.enumerate().map(sid).collect()
    };
    let (old, new) = (by_sid(from), by_sid(to));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let lines = keys.into_iter().filter_map(|sid| match (old.get(sid), new.get(sid)) {
        (Some(before), Some(after)) if before == after => None,
        (Some(before), Some(after)) => {
            Some(format!("{field} ~ {sid}: {}", statement_change(before, after)))
        }
        (Some(before), None) => Some(format!("{field} - {sid}: {}", statement(before))),
        (None, Some(after)) => Some(format!("{field} + {sid}: {}", statement(after))),
        (None, None) => None,
    });
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() { vec![format!("{field} changed")] } else { lines }
}

fn statement(statement: &Value) -> String {
    let side = |key: &str| texts(&statement[key]).into_iter().collect::<Vec<_>>().join(", ");
    let effect = statement["Effect"].as_str().unwrap_or_default().to_lowercase();
    format!("{effect} {} on {}", side("Action"), side("Resource"))
        .trim_end_matches(" on ")
        .to_owned()
}

/// What two statements of one Sid differ in.
fn statement_change(before: &Value, after: &Value) -> String {
    let fields = |statement: &Value| statement.as_object().cloned().unwrap_or_default();
    let (before, after) = (fields(before), fields(after));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let side = |all: &Map<String, Value>, key: &String| all.get(key).cloned().unwrap_or_default();
    let changed = keys.into_iter().flat_map(|key| {
        let (old, new) = (side(&before, key), side(&after, key));
        let (old_texts, new_texts) = (texts_within(&old), texts_within(&new));
        let gone = old_texts.difference(&new_texts).map(|text| format!("- {text}"));
        let come = new_texts.difference(&old_texts).map(|text| format!("+ {text}"));
        let mut shown: Vec<String> = gone.chain(come).collect();
        if shown.is_empty() && old != new {
            shown.push(format!("{key} {} -> {}", brief(&old), brief(&new)));
        }
        shown
    });
    changed.collect::<Vec<_>>().join(" ")
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
