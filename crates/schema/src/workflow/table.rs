//! One table of the file while it is read: takes values by key, and reports what is
//! missing, misspelt or of the wrong type.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Key, Need, TableKeys};
use super::problem::{Fault, Problem, known_words, nearest, quoted};
use super::spelling;
use super::syntax::Lines;

/// Where the problems of one reading gather.
pub(super) struct Report {
    lines: Lines,
    problems: RefCell<Vec<Problem>>,
    /// Tables of which a syntax error hides a part: what is missing there may be there.
    lost: Vec<String>,
}

impl Report {
    pub(super) fn new(text: &str, problems: Vec<Problem>, lost: Vec<String>) -> Self {
        Self { lines: Lines::of(text), problems: RefCell::new(problems), lost }
    }

    /// Whether a part of the tables of this name could not be read.
    pub(super) fn has_lost(&self, table: &str) -> bool {
        self.lost.iter().any(|lost| lost == table)
    }

    /// Whether any part of the file could not be read.
    pub(super) fn has_lost_any(&self) -> bool {
        !self.lost.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.problems.borrow().len()
    }

    fn add(&self, at: usize, place: &str, fault: Fault) {
        let Fault { cause, remedy } = fault;
        let line = self.lines.line(at);
        self.problems.borrow_mut().push(Problem { line, place: place.to_owned(), cause, remedy });
    }

    /// The problems by line, each once.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        problems.dedup();
        problems
    }
}

/// A value, and the byte where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// A table being read.
#[derive(Clone)]
pub(super) struct Section<'r> {
    report: &'r Report,
    table: &'r DeTable<'r>,
    /// `source "raw"`, as it stands in problems.
    place: String,
    /// Before a key in problems: `gather.`, or nothing.
    prefix: String,
    /// The table of the file that this is, or is a part of: `source`.
    root: &'static str,
    at: usize,
    known: Vec<&'static TableKeys>,
}

impl<'r> Section<'r> {
    pub(super) fn new(
        report: &'r Report,
        (table, at): (&'r DeTable<'r>, usize),
        place: String,
        root: &'static str,
        keys: &'static TableKeys,
    ) -> Self {
        Self { report, table, place, prefix: String::new(), root, at, known: vec![keys] }
    }

    /// Takes more keys for known, which belong to the table's kind.
    pub(super) fn also_knows(&mut self, keys: &'static TableKeys) {
        self.known.push(keys);
    }

    pub(super) fn report(&self) -> &'r Report {
        self.report
    }

    /// Reports a fault of the value at a byte of the file.
    pub(super) fn fault(&self, at: usize, fault: Fault) {
        self.report.add(at, &self.place, fault);
    }

    /// The line of a key's value, or of the whole table where the key is not there.
    pub(super) fn line_of(&self, key: &str) -> usize {
        let at = self.peek(key).map_or(self.at, |value| value.span().start);
        self.report.lines.line(at)
    }

    /// Reports a fault of a key's value, or of the whole table where the key is not there.
    pub(super) fn fault_of(&self, key: &str, fault: Fault) {
        self.fault(self.peek(key).map_or(self.at, |value| value.span().start), fault);
    }

    /// Reports a fault of one element of a key's list, or of its only value.
    pub(super) fn fault_of_element(&self, key: &str, index: usize, fault: Fault) {
        let element = self.peek(key).and_then(|value| value.get_ref().as_array()?.get(index));
        match element {
            Some(element) => self.fault(element.span().start, fault),
            None => self.fault_of(key, fault),
        }
    }

    /// A key's value, unread: nothing is reported.
    pub(super) fn peek(&self, key: &str) -> Option<&'r Spanned<DeValue<'r>>> {
        self.table.get(key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.peek(key).is_some()
    }

    fn key(&self, name: &str) -> &'static Key {
        let mut keys = self.known.iter().flat_map(|keys| keys.keys);
        keys.find(|key| key.name == name)
            .expect("the reader asks only for the keys in its table of keys")
    }

    /// A key's value; a required one that is not there is reported.
    fn get(&self, name: &str) -> Option<&'r Spanned<DeValue<'r>>> {
        let key = self.key(name);
        let value = self.peek(name);
        if value.is_none()
            && let Need::Required(example) = key.need
            && !self.report.has_lost(self.root)
            && !self.is_misspelt(name)
        {
            let prefix = &self.prefix;
            let cause = format!("`{prefix}{name}` is missing");
            self.fault(self.at, Fault::new(cause, format!("add `{name} = {example}`")));
        }
        value
    }

    /// Reports a key that must be there, unless a misspelt one is reported already.
    pub(super) fn missing(&self, name: &str, remedy: &str) {
        if !self.report.has_lost(self.root) && !self.is_misspelt(name) {
            let cause = format!("`{}{name}` is missing", self.prefix);
            self.fault(self.at, Fault::new(cause, remedy));
        }
    }

    fn wrong_type(&self, name: &str, value: &Spanned<DeValue<'_>>) {
        let key = self.key(name);
        let cause = format!("`{}{name}` is {}", self.prefix, kind_of(value.get_ref()));
        let remedy = format!("it takes {}, as in `{name} = {}`", key.takes, key.need.example());
        self.fault(value.span().start, Fault::new(cause, remedy));
    }

    /// A text, which may be empty.
    pub(super) fn text_or_empty(&self, name: &str) -> Option<At<&'r str>> {
        let value = self.get(name)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(name, value);
            return None;
        };
        Some(At { value: text, at: value.span().start })
    }

    /// A text, and what `check` makes of it.
    pub(super) fn checked<T>(
        &self,
        name: &str,
        check: impl Fn(&'r str) -> Result<T, Fault>,
    ) -> Option<T> {
        let text = self.text_or_empty(name)?;
        self.judge(name, text, check)
    }

    fn judge<T>(
        &self,
        name: &str,
        text: At<&'r str>,
        check: impl Fn(&'r str) -> Result<T, Fault>,
    ) -> Option<T> {
        let prefix = &self.prefix;
        let checked = spelling::not_empty(text.value).and_then(|_| check(text.value));
        match checked {
            Ok(value) => Some(value),
            Err(Fault { cause, remedy }) => {
                let cause = match cause.as_str() {
                    "" => format!("`{prefix}{name} = {}`", quoted(text.value)),
                    _ => format!("`{prefix}{name} = {}` {cause}", quoted(text.value)),
                };
                self.fault(text.at, Fault { cause, remedy });
                None
            }
        }
    }

    /// One of the known words.
    pub(super) fn choice<T: Copy>(&self, name: &str, known: &[(&'static str, T)]) -> Option<T> {
        self.checked(name, |text| {
            let found = known.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
            let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
            found.ok_or_else(|| Fault::new("", known_words(text, &words)))
        })
    }

    /// A whole number within bounds, in a unit that the remedy names (or none).
    pub(super) fn integer(
        &self,
        name: &str,
        bounds: RangeInclusive<u64>,
        unit: &str,
    ) -> Option<u64> {
        let value = self.get(name)?;
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(name, value);
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| bounds.contains(number));
        if number.is_none() {
            let (min, max) = bounds.into_inner();
            let cause = format!("`{}{name} = {integer}` is out of bounds", self.prefix);
            let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
            self.fault(value.span().start, Fault::new(cause, format!("from {min} to {max}{unit}")));
        }
        number
    }

    /// As [`Self::integer`], for what the model keeps in 32 bits.
    pub(super) fn integer_u32(
        &self,
        name: &str,
        bounds: RangeInclusive<u32>,
        unit: &str,
    ) -> Option<u32> {
        let (min, max) = bounds.into_inner();
        self.integer(name, u64::from(min)..=u64::from(max), unit)?.try_into().ok()
    }

    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        let value = self.get(name)?;
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.wrong_type(name, value);
        }
        boolean
    }

    /// A duration, in seconds.
    pub(super) fn duration_s(&self, name: &str) -> Option<u64> {
        let value = self.get(name)?;
        if let Some(integer) = value.get_ref().as_integer() {
            let cause = format!("`{}{name} = {integer}` has no unit", self.prefix);
            let remedy =
                format!("write `{name} = \"{integer}s\"`, or m, h, d for minutes, hours, days");
            self.fault(value.span().start, Fault::new(cause, remedy));
            return None;
        }
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(name, value);
            return None;
        };
        self.judge(name, At { value: text, at: value.span().start }, spelling::duration_s)
    }

    /// A list of texts, each checked; `None` where the key is not there, or where any is refused.
    pub(super) fn list<T>(
        &self,
        name: &str,
        check: impl Fn(&'r str) -> Result<T, Fault>,
    ) -> Option<Vec<T>> {
        let value = self.get(name)?;
        match value.get_ref() {
            DeValue::Array(_) => self.elements(name, value, check),
            _ => {
                self.wrong_type(name, value);
                None
            }
        }
    }

    /// As [`Self::list`], where a single text stands for a list of one.
    pub(super) fn one_or_more<T>(
        &self,
        name: &str,
        check: impl Fn(&'r str) -> Result<T, Fault>,
    ) -> Option<Vec<T>> {
        let value = self.get(name)?;
        match value.get_ref() {
            DeValue::Array(elements) if elements.is_empty() => {
                let cause = format!("`{}{name}` is an empty list", self.prefix);
                let remedy = format!(
                    "name at least one, as in `{name} = {}`",
                    self.key(name).need.example()
                );
                self.fault(value.span().start, Fault::new(cause, remedy));
                None
            }
            DeValue::Array(_) | DeValue::String(_) => self.elements(name, value, check),
            _ => {
                self.wrong_type(name, value);
                None
            }
        }
    }

    fn elements<T>(
        &self,
        name: &str,
        value: &'r Spanned<DeValue<'r>>,
        check: impl Fn(&'r str) -> Result<T, Fault>,
    ) -> Option<Vec<T>> {
        let elements: Vec<&'r Spanned<DeValue<'r>>> = match value.get_ref() {
            DeValue::Array(elements) => elements.iter().collect(),
            _ => vec![value],
        };
        let mut seen: Vec<&str> = Vec::new();
        let checked: Vec<Option<T>> = elements
            .into_iter()
            .map(|element| {
                let Some(text) = element.get_ref().as_str() else {
                    self.wrong_type(name, element);
                    return None;
                };
                let at = element.span().start;
                if seen.contains(&text) {
                    let cause = format!("`{}{name}` lists {} twice", self.prefix, quoted(text));
                    self.fault(at, Fault::new(cause, "keep one of the two"));
                    return None;
                }
                seen.push(text);
                self.judge(name, At { value: text, at }, &check)
            })
            .collect();
        checked.into_iter().collect()
    }

    /// A table inside this one.
    pub(super) fn child(&self, name: &str, keys: &'static TableKeys) -> Option<Section<'r>> {
        let value = self.get(name)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(name, value);
            return None;
        };
        Some(Section {
            table,
            prefix: format!("{}{name}.", self.prefix),
            at: value.span().start,
            known: vec![keys],
            ..self.clone()
        })
    }

    /// A table inside this one whose keys are the user's.
    pub(super) fn free_table(&self, name: &str) -> Option<At<&'r DeTable<'r>>> {
        let value = self.get(name)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(name, value);
            return None;
        };
        Some(At { value: table, at: value.span().start })
    }

    /// Exactly one of these keys must be there: which.
    pub(super) fn exactly_one(&self, names: &[&'static str]) -> Option<&'static str> {
        let found: Vec<&'static str> =
            names.iter().copied().filter(|name| self.has(name)).collect();
        let what = self.prefix.trim_end_matches('.');
        match found[..] {
            [name] => return Some(name),
            // A misspelt one is reported as an unknown key, which says enough.
            [] if self.unknown().is_empty() => {
                let remedy = format!("give it one of {}", names.join(", "));
                self.fault(self.at, Fault::new(format!("`{what}` says nothing"), remedy));
            }
            [] => {}
            [_, second, ..] => {
                let cause = format!("`{what}` has {}", found.join(" and "));
                self.fault_of(second, Fault::new(cause, "it takes exactly one of them: keep one"));
            }
        }
        None
    }

    /// Whether an unknown key is reported with the question if this one was meant.
    fn is_misspelt(&self, name: &str) -> bool {
        self.unknown()
            .iter()
            .any(|unknown| nearest(unknown.value, self.known_names()) == Some(name))
    }

    fn known_names(&self) -> impl Iterator<Item = &'static str> {
        self.known.iter().flat_map(|keys| keys.keys).map(|key| key.name)
    }

    fn unknown(&self) -> Vec<At<&'r str>> {
        let keys = self
            .table
            .iter()
            .map(|(key, _)| At { value: key.get_ref().as_ref(), at: key.span().start });
        keys.filter(|key| self.known_names().all(|known| known != key.value)).collect()
    }

    /// Reports the keys that nobody knows; `elsewhere` are those that tables of another kind take.
    pub(super) fn finish(&self, elsewhere: &[(&str, &'static TableKeys)]) {
        let known: Vec<&str> = self.known_names().collect();
        for At { value: name, at } in self.unknown() {
            let owners: Vec<&str> = elsewhere
                .iter()
                .filter(|(_, keys)| keys.keys.iter().any(|key| key.name == name))
                .map(|(kind, _)| *kind)
                .collect();
            let shown = format!("{}{name}", self.prefix);
            // `quoted` escapes what a quoted key may hold; its quotes are not wanted.
            let shown = quoted(&shown);
            let shown = &shown[1..shown.len() - 1];
            let fault = if owners.is_empty() {
                let remedy = match nearest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known: {}", known.join(", ")),
                };
                Fault::new(format!("unknown key `{shown}`"), remedy)
            } else {
                let cause = format!("`{shown}` is no key of this kind");
                Fault::new(cause, format!("only kind {} takes it: drop it", owners.join(", ")))
            };
            self.fault(at, fault);
        }
    }
}

/// A value's type, with its article.
pub(super) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
