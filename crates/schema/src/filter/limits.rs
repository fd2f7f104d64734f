//! What SNS takes, for policies that are sent to it.
//!
//! All numbers are from "Filter policy constraints" of the Amazon SNS Developer Guide.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::{Number, Value};

use super::condition::{Condition, Matcher, Test};
use super::number;
use super::parse::WHOLE;
use super::policy::{Entry, FilterPolicy, Group, Leaf, Scope};
use super::problem::{PolicyCause, PolicyProblem};

/// Keys of a policy. In a nested one only leaf keys count (earlier editions of the page counted
/// top-level keys, which are never more). Nothing is said about a key that comes in several
/// branches of an `$or`: here it counts once.
pub const KEYS_MAX: usize = 5;

/// Combinations: for each key its number of conditions times its nesting level, multiplied over the
/// keys, and added up over the branches of an `$or` ("AND/OR logic").
pub const COMBINATIONS_MAX: u64 = 150;

/// Bytes of the policy as JSON: 256 KB.
pub const POLICY_BYTES_MAX: usize = 262_144;

/// Magnitude of a number: 10⁹, either side of zero.
pub const NUMBER_MAX: i64 = 1_000_000_000;

/// Decimals of a number.
pub const NUMBER_DECIMALS_MAX: usize = 5;

/// Wildcards in one pattern.
pub const PATTERN_WILDCARDS_MAX: usize = 3;

/// Wildcard complexity over all keys: for each the points of its patterns times their number.
pub const WILDCARD_POINTS_MAX: usize = 100;

/// Points of a pattern with one wildcard, and of an `anything-but`.
const SIMPLE_POINTS: usize = 1;

/// Points of each wildcard in a pattern with several. "3 points each" may also mean each such
/// pattern; this is the dearer reading.
const MULTIPLE_POINTS: usize = 3;

impl FilterPolicy {
    /// What SNS would refuse, or might read otherwise than this engine. A policy without problems
    /// here may be sent to SNS; one that is only evaluated here need not pass.
    ///
    /// ```
    /// use bellwire_schema::filter::{FilterPolicy, PolicyCause, Scope};
    /// use serde_json::json;
    ///
    /// let large = json!({"data": {"size_bytes": [{"numeric": [">", 5_000_000_000_u64]}]}});
    /// let policy = FilterPolicy::parse(&large, Scope::Body).expect("well formed");
    /// let problems = policy.check_limits();
    /// assert!(matches!(problems[0].cause, PolicyCause::NumberOutOfBounds { .. }));
    /// assert!(policy.matches_body(&json!({"data": {"size_bytes": 6_000_000_000_u64}})));
    /// ```
    #[must_use]
    pub fn check_limits(&self) -> Vec<PolicyProblem> {
        let mut problems = Vec::new();
        let mut whole = |cause| problems.push(PolicyProblem { path: WHOLE.to_owned(), cause });
        let keys = self.leaf_paths().collect::<BTreeSet<_>>().len();
        if keys > KEYS_MAX {
            whole(PolicyCause::TooManyKeys { count: keys, max: KEYS_MAX });
        }
        let combinations = self.combinations();
        if combinations > COMBINATIONS_MAX {
            whole(PolicyCause::TooManyCombinations { count: combinations, max: COMBINATIONS_MAX });
        }
        let bytes = self.to_json().to_string().len();
        if bytes > POLICY_BYTES_MAX {
            whole(PolicyCause::TooLong { bytes, max: POLICY_BYTES_MAX });
        }
        let points = self.wildcard_points();
        if points > WILDCARD_POINTS_MAX {
            whole(PolicyCause::WildcardComplexity { points, max: WILDCARD_POINTS_MAX });
        }
        self.check_paths(&mut problems);
        self.check_conditions(&mut problems);
        problems
    }

    /// How many combinations of values SNS counts in it, of which it takes [`COMBINATIONS_MAX`]; 1
    /// for an empty policy.
    #[must_use]
    pub fn combinations(&self) -> u64 {
        self.combinations_of(&self.root)
    }

    fn combinations_of(&self, group: &Group) -> u64 {
        group.entries.iter().fold(1, |product: u64, entry| {
            product.saturating_mul(match entry {
                Entry::Leaf { leaf, .. } => {
                    let leaf = &self.leaves[*leaf];
                    (leaf.conditions.len() as u64).saturating_mul(leaf.level as u64)
                }
                Entry::Nested { group, .. } => self.combinations_of(group),
                Entry::Or { groups } => groups
                    .iter()
                    .fold(0, |sum: u64, group| sum.saturating_add(self.combinations_of(group))),
            })
        })
    }

    fn wildcard_points(&self) -> usize {
        let is_wildcard = |matcher: &Matcher| matches!(matcher, Matcher::Wildcard(_));
        let conditions = || self.leaves.iter().flat_map(|leaf| &leaf.conditions);
        // The guide brings the points up only for policies with wildcards, though `anything-but`
        // has some too.
        if !conditions().any(|condition| condition.test.matchers().iter().any(is_wildcard)) {
            return 0;
        }
        self.leaves.iter().map(points_of).sum()
    }

    fn check_paths(&self, problems: &mut Vec<PolicyProblem>) {
        let mut twice = BTreeSet::new();
        self.paths_of(&self.root, &BTreeSet::new(), &mut twice);
        problems.extend(twice.into_iter().map(|path| PolicyProblem {
            path: path.to_owned(),
            cause: PolicyCause::SamePathTwice,
        }));
    }

    /// All paths of a group and of what holds together with it; whatever is met again on the way
    /// goes into `twice`.
    fn paths_of<'a>(
        &'a self,
        group: &Group,
        outside: &BTreeSet<&'a str>,
        twice: &mut BTreeSet<&'a str>,
    ) -> BTreeSet<&'a str> {
        let mut together = outside.clone();
        for entry in &group.entries {
            match entry {
                Entry::Leaf { leaf, .. } => {
                    let path = self.leaves[*leaf].path.as_str();
                    if !together.insert(path) {
                        twice.insert(path);
                    }
                }
                Entry::Nested { group, .. } => together = self.paths_of(group, &together, twice),
                Entry::Or { groups } => {
                    together = groups
                        .iter()
                        .flat_map(|group| self.paths_of(group, &together, twice))
                        .collect();
                }
            }
        }
        together
    }

    fn check_conditions(&self, problems: &mut Vec<PolicyProblem>) {
        for leaf in &self.leaves {
            for (index, condition) in leaf.conditions.iter().enumerate() {
                let path = format!("{}[{index}]", leaf.place);
                let causes = causes_in_condition(condition, self.scope).into_iter();
                problems.extend(causes.map(|cause| PolicyProblem { path: path.clone(), cause }));
            }
        }
    }
}

fn points_of(leaf: &Leaf) -> usize {
    let points = leaf.conditions.iter().map(|condition| {
        let anything_but =
            usize::from(matches!(condition.test, Test::AnythingBut(_))) * SIMPLE_POINTS;
        let wildcards = condition.test.matchers().iter().map(|matcher| match matcher {
            Matcher::Wildcard(wildcard) => match wildcard.stars() {
                stars @ (0 | 1) => stars * SIMPLE_POINTS,
                stars => stars * MULTIPLE_POINTS,
            },
            _ => 0,
        });
        anything_but + wildcards.sum::<usize>()
    });
    points.sum::<usize>() * leaf.conditions.len()
}

fn causes_in_condition(condition: &Condition, scope: Scope) -> Vec<PolicyCause> {
    let matchers = condition.test.matchers();
    let mut causes: Vec<_> = matchers.iter().flat_map(causes_in_matcher).collect();
    if let (Test::AnythingBut(_), [Matcher::EqualsIgnoreCase(_)]) = (&condition.test, matchers) {
        causes
            .push(PolicyCause::NotDocumentedBySns { form: "anything-but with equals-ignore-case" });
    }
    if scope == Scope::Attributes && has_escape(&condition.json) {
        causes.push(PolicyCause::NeedsDoubleEscape { text: condition.json.to_string() });
    }
    causes
}

fn causes_in_matcher(matcher: &Matcher) -> Vec<PolicyCause> {
    let mut causes: Vec<_> = matcher.numbers().into_iter().filter_map(cause_in_number).collect();
    match matcher {
        Matcher::Wildcard(wildcard) if wildcard.stars() > PATTERN_WILDCARDS_MAX => {
            causes.push(PolicyCause::TooManyWildcards {
                count: wildcard.stars(),
                max: PATTERN_WILDCARDS_MAX,
            });
        }
        Matcher::Cidr(network) if network.prefix_len() == network.max_prefix_len() => {
            causes.push(PolicyCause::CidrOfOneAddress { text: network.to_string() });
        }
        _ => {}
    }
    causes
}

/// Whether a string in it has a quote or backslash, which "must be double-escaped" for attributes.
fn has_escape(json: &Value) -> bool {
    match json {
        Value::String(text) => text.contains(['"', '\\']),
        Value::Array(list) => list.iter().any(has_escape),
        Value::Object(object) => object.values().any(has_escape),
        _ => false,
    }
}

fn cause_in_number(number: &Number) -> Option<PolicyCause> {
    let is_beyond = |bound: i64, side: Ordering| {
        number::compare(number, &Number::from(bound)).is_none_or(|ordering| ordering == side)
    };
    if is_beyond(NUMBER_MAX, Ordering::Greater) || is_beyond(-NUMBER_MAX, Ordering::Less) {
        let number = number.to_string();
        return Some(PolicyCause::NumberOutOfBounds { number, max: NUMBER_MAX });
    }
    (number::decimals(number) > NUMBER_DECIMALS_MAX).then(|| PolicyCause::NumberTooFine {
        number: number.to_string(),
        max: NUMBER_DECIMALS_MAX,
    })
}
