//! How a plan, a drift and a rollback look to a person.

mod changes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::diff::warning;
use crate::drift::{Became, Difference, Drift};
use crate::plan::{Action, Plan, Step};
use crate::resource::{Kind, ResourceId};
use crate::rollback::Rollback;

use self::changes::{details, shown};

/// Names are padded to this many characters; longer ones stand out.
const NAME_CHARS_MAX: usize = 44;

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
        let name_width = name_width(self.steps.iter().map(|step| &step.id));
        for step in &self.steps {
            let tone = Tone::Step(step.action);
            let (sign, word) = (step.action.sign(), word_of(step));
            let row = Row { tone, sign, word, id: &step.id, details: details(step) };
            lines.extend(row.lines(kind_width, name_width));
            let asides = warning(step).map(str::to_owned).into_iter().chain(self.kept_within(step));
            lines.extend(asides.map(|text| line(Tone::Aside, format!("               {text}"))));
        }
        for kept in &self.kept {
            let (kind, name, reason) = (kept.id.kind, shown_name(&kept.id), &kept.reason);
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
        heading(account, region, workflow, environment.as_deref())
    }

    fn kind_width(&self) -> usize {
        let steps = self.steps.iter().map(|step| step.id.kind);
        kind_width(steps.chain(self.kept.iter().map(|kept| kept.id.kind)))
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

fn heading(account: &str, region: &str, workflow: &str, environment: Option<&str>) -> String {
    let environment = environment.map_or_else(String::new, |name| format!("  environment {name}"));
    format!("account {account}  region {region}  workflow {workflow}{environment}")
}

fn kind_width(kinds: impl Iterator<Item = Kind>) -> usize {
    kinds.map(|kind| kind.label().len()).max().unwrap_or(0)
}

fn name_width<'a>(ids: impl Iterator<Item = &'a ResourceId>) -> usize {
    ids.map(|id| shown_name(id).chars().count()).max().unwrap_or(0).min(NAME_CHARS_MAX)
}

const fn word_of(step: &Step) -> &'static str {
    if step.adopts { "adopt" } else { step.action.word() }
}

/// A resource's name, without what may be secret in the URL of an endpoint: its password
/// and its query.
fn shown_name(id: &ResourceId) -> String {
    let name = &id.name;
    let Some((before, after)) = name.split_once("://") else { return name.clone() };
    let (way, query) = match after.split_once('?') {
        Some((way, _)) => (way, "?…"),
        None => (after, ""),
    };
    let (authority, path) = way.split_once('/').unwrap_or((way, ""));
    let slash = if way.contains('/') { "/" } else { "" };
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => {
            format!("{}:…@{host}", user.split(':').next().unwrap_or_default())
        }
        None => authority.to_owned(),
    };
    format!("{before}://{authority}{slash}{path}{query}")
}

/// One resource, and what there is to say of it.
struct Row<'a> {
    tone: Tone,
    sign: char,
    word: &'static str,
    id: &'a ResourceId,
    details: Vec<String>,
}

impl Row<'_> {
    fn lines(&self, kind_width: usize, name_width: usize) -> Vec<Line> {
        let Self { tone, sign, word, id, details } = self;
        let (kind, name) = (id.kind, shown_name(id));
        let first = details.first().map_or("", String::as_str);
        let text = format!("  {sign} {word:<8} {kind:<kind_width$}  {name:<name_width$}  {first}");
        let indent = 2 + 2 + 9 + kind_width + 2 + name_width + 2;
        let more = details.iter().skip(1).map(|text| format!("{:indent$}{text}", ""));
        let texts = std::iter::once(text.trim_end().to_owned()).chain(more);
        texts.map(|text| line(*tone, text)).collect()
    }
}

impl Drift {
    /// The lines that its `Display` shows.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let Self { account, region, workflow, environment, .. } = self;
        let mut lines = vec![
            line(Tone::Heading, heading(account, region, workflow, environment.as_deref())),
            line(Tone::Aside, format!("as applied by {}", self.holder)),
            line(Tone::Aside, String::new()),
        ];
        let kind_width = kind_width(self.found.iter().map(|one| one.id.kind));
        let name_width = name_width(self.found.iter().map(|one| &one.id));
        for one in &self.found {
            let (tone, details) = (Tone::Step(one.what.action()), one.details());
            let (sign, word) = (one.what.sign(), one.what.word());
            let row = Row { tone, sign, word, id: &one.id, details };
            lines.extend(row.lines(kind_width, name_width));
        }
        if self.left_out > 0 {
            let text = format!("    not looked at  {}: the record has no room", self.left_out);
            lines.push(line(Tone::Aside, text));
        }
        if !self.found.is_empty() || self.left_out > 0 {
            lines.push(line(Tone::Aside, String::new()));
        }
        lines.push(line(Tone::Heading, self.sum()));
        lines
    }

    fn sum(&self) -> String {
        if self.is_empty() {
            return "Nothing was changed by hand.".to_owned();
        }
        let count = |what: Became| self.found.iter().filter(|one| one.what == what).count();
        let counts = [Became::Changed, Became::Gone, Became::Added].map(|what| (count(what), what));
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let counts: Vec<String> =
            counts.map(|(count, what)| format!("{count} {}", what.word())).collect();
        format!(
            "Drift: {} since the last apply. bellwire plan shows what an apply does about it.",
            counts.join(", ")
        )
    }
}

impl Became {
    /// What an apply would have done to it, by which it is coloured.
    const fn action(self) -> Action {
        match self {
            Self::Changed => Action::Update,
            Self::Gone => Action::Delete,
            Self::Added => Action::Create,
        }
    }
}

impl Difference {
    fn details(&self) -> Vec<String> {
        let mut details: Vec<String> = Vec::new();
        for text in self.changes.iter().flat_map(|change| shown(self.id.kind, change)) {
            if !details.contains(&text) {
                details.push(text);
            }
        }
        match (self.what, details.is_empty()) {
            (Became::Gone, _) => vec!["deleted, or without this workflow's tags".to_owned()],
            (Became::Changed, true) => vec!["another version, of another configuration".to_owned()],
            _ => details,
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.lines().into_iter().map(|line| line.text).collect();
        f.write_str(&texts.join("\n"))
    }
}

impl fmt::Display for Rollback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.moves.iter().map(|one| one.function.chars().count()).max().unwrap_or(0);
        for (index, one) in self.moves.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let changes: Vec<String> =
                one.changes.iter().flat_map(|change| shown(Kind::Function, change)).collect();
            let (function, from, to) = (&one.function, &one.from, &one.to);
            write!(f, "  ~ {function:<width$}  version {from} -> {to}  {}", changes.join(", "))?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_and_no_query_of_an_endpoint_is_shown() {
        let shown = |endpoint: &str| {
            shown_name(&ResourceId::new(Kind::Subscription, format!("wine -> {endpoint}")))
        };
        let url = shown("https://ann:hush@example.com/in?token=hush");
        assert_eq!(url, "wine -> https://ann:…@example.com/in?…");
        assert_eq!(shown("https://example.com/in"), "wine -> https://example.com/in");
        assert_eq!(shown("https://hush@example.com"), "wine -> https://hush:…@example.com");
        assert_eq!(shown("ann@example.com"), "wine -> ann@example.com");
    }
}
