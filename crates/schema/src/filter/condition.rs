//! One condition of a key's list, and what values meet it.

use std::cmp::Ordering;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Number, Value};

use super::number;
use super::wildcard::Wildcard;

/// A condition with the JSON it was written as, which is what SNS gets and what people are shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    pub(super) json: Value,
    pub(super) test: Test,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    Exists(bool),
    Matches(Matcher),
    AnythingBut(Vec<Matcher>),
}

/// What a single value can be asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Matcher {
    Text(String),
    Number(Number),
    Bool(bool),
    Null,
    Prefix(String),
    Suffix(String),
    EqualsIgnoreCase(String),
    Wildcard(Wildcard),
    Numeric(NumericRange),
    Cidr(IpNet),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct NumericRange {
    pub(super) bottom: Option<Bound>,
    pub(super) top: Option<Bound>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bound {
    pub(super) number: Number,
    pub(super) inclusive: bool,
}

impl Test {
    /// Whether one value meets it; absence is not a value, so `exists: false` is not asked here.
    pub(super) fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Exists(expected) => *expected && is_filled(value),
            Self::Matches(matcher) => matcher.matches(value),
            Self::AnythingBut(matchers) => !matchers.iter().any(|matcher| matcher.matches(value)),
        }
    }

    /// The matchers in it, for the limits that look into them.
    pub(super) fn matchers(&self) -> &[Matcher] {
        match self {
            Self::Exists(_) => &[],
            Self::Matches(matcher) => std::slice::from_ref(matcher),
            Self::AnythingBut(matchers) => matchers,
        }
    }
}

impl Matcher {
    fn matches(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text(expected), Value::String(text)) => expected == text,
            (Self::Prefix(prefix), Value::String(text)) => text.starts_with(prefix.as_str()),
            (Self::Suffix(suffix), Value::String(text)) => text.ends_with(suffix.as_str()),
            (Self::EqualsIgnoreCase(expected), Value::String(text)) => {
                expected.to_lowercase() == text.to_lowercase()
            }
            (Self::Wildcard(wildcard), Value::String(text)) => wildcard.matches(text),
            (Self::Cidr(network), Value::String(text)) => {
                text.parse::<IpAddr>().is_ok_and(|address| network.contains(&address))
            }
            (Self::Number(expected), Value::Number(number)) => {
                number::compare(expected, number) == Some(Ordering::Equal)
            }
            (Self::Numeric(range), Value::Number(number)) => range.contains(number),
            (Self::Bool(expected), Value::Bool(value)) => expected == value,
            (Self::Null, Value::Null) => true,
            _ => false,
        }
    }

    /// The numbers that the policy itself names.
    pub(super) fn numbers(&self) -> Vec<&Number> {
        match self {
            Self::Number(number) => vec![number],
            Self::Numeric(range) => {
                range.bottom.iter().chain(&range.top).map(|bound| &bound.number).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl NumericRange {
    fn contains(&self, number: &Number) -> bool {
        let lets_through =
            |bound: &Bound, side: Ordering| match number::compare(number, &bound.number) {
                Some(Ordering::Equal) => bound.inclusive,
                Some(ordering) => ordering == side,
                None => false,
            };
        self.bottom.as_ref().is_none_or(|bottom| lets_through(bottom, Ordering::Greater))
            && self.top.as_ref().is_none_or(|top| lets_through(top, Ordering::Less))
    }
}

/// "The key must have a non-null and non-empty value" (Amazon SNS Developer Guide, "Key matching").
fn is_filled(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}
