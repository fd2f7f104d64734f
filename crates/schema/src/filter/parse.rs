//! From JSON to a policy, with all problems at once.

use ipnet::IpNet;
use serde_json::{Map, Number, Value};

use super::condition::{Bound, Condition, Matcher, NumericRange, Test};
use super::number;
use super::policy::{Entry, FilterPolicy, Group, Leaf, OR, Scope, Step};
use super::problem::{PolicyCause, PolicyProblem};
use super::wildcard::{Wildcard, WildcardFault};

/// Branches into which a policy's `$or`s may multiply out. Not AWS's limit but ours, so that
/// evaluating a policy stays bounded; each branch makes at least one of SNS's 150 combinations, so
/// SNS takes far fewer.
pub const BRANCHES_MAX: usize = 1_024;

/// Words that are no keys in the objects of an `$or`, at least if it is to be an operator: those
/// that the Amazon SNS Developer Guide ("AND/OR logic") calls reserved keywords, listed in the
/// sources of `aws/event-ruler`.
const RESERVED_WORDS: [&str; 24] = [
    "exactly",
    "equals-ignore-case",
    "prefix",
    "suffix",
    "anything-but",
    "exists",
    "wildcard",
    "numeric",
    "cidr",
    "=",
    "<",
    "<=",
    ">",
    ">=",
    "regex",
    "not-wildcard",
    "not-equals-ignore-case",
    "date-after",
    "date-on-or-after",
    "date-before",
    "date-on-or-before",
    "in-date-range",
    "ip-address-in-range",
    "ip-address-not-in-range",
];

/// How a problem's path names the whole policy.
pub(super) const WHOLE: &str = "the policy";

impl FilterPolicy {
    /// Reads a policy as SNS would, finding everything that SNS would refuse for its form; sizes
    /// are for [`check_limits`](Self::check_limits).
    ///
    /// # Errors
    /// All problems of the policy, in its order.
    ///
    /// ```
    /// use bellwire_schema::filter::{FilterPolicy, Scope};
    /// use serde_json::json;
    ///
    /// let problems = FilterPolicy::parse(
    ///     &json!({"dataset": "wine", "data": {"size_bytes": [{"numeric": [">", "0"]}]}}),
    ///     Scope::Body,
    /// ).expect_err("two problems");
    /// assert_eq!(problems.len(), 2);
    /// assert_eq!(problems[0].path, "data.size_bytes[0]");
    /// assert_eq!(problems[1].path, "dataset");
    /// ```
    pub fn parse(policy: &Value, scope: Scope) -> Result<Self, Vec<PolicyProblem>> {
        let mut parser = Parser { scope, leaves: Vec::new(), problems: Vec::new() };
        let root = match policy {
            // At the top, and only there, an empty object is valid: it takes the filter away.
            Value::Object(object) => parser.group(object, &Place::top(), false),
            other => {
                parser
                    .problem(WHOLE.to_owned(), PolicyCause::NotAnObject { found: kind_of(other) });
                Group { entries: Vec::new() }
            }
        };
        let count = root.branch_count();
        if count > BRANCHES_MAX {
            parser.problem(
                WHOLE.to_owned(),
                PolicyCause::TooManyBranches { count, max: BRANCHES_MAX },
            );
        }
        if !parser.problems.is_empty() {
            return Err(parser.problems);
        }
        let branches =
            root.branches().iter().map(|branch| tree_of(branch, &parser.leaves)).collect();
        Ok(Self { scope, root, leaves: parser.leaves, branches })
    }
}

fn tree_of(branch: &[usize], leaves: &[Leaf]) -> Vec<Step> {
    let mut steps = Vec::new();
    for leaf in branch {
        Step::insert(&mut steps, &leaves[*leaf].segments, *leaf);
    }
    steps
}

struct Parser {
    scope: Scope,
    leaves: Vec<Leaf>,
    problems: Vec<PolicyProblem>,
}

/// Where in the policy the parser is.
struct Place {
    /// For people, with the indices of lists.
    written: String,
    /// The keys down to here, without `$or`.
    keys: Vec<String>,
}

impl Place {
    fn top() -> Self {
        Self { written: String::new(), keys: Vec::new() }
    }

    fn key(&self, key: &str) -> Self {
        Self { written: self.join(key), keys: [self.keys.as_slice(), &[key.to_owned()]].concat() }
    }

    fn alternative(&self, index: usize) -> Self {
        Self { written: format!("{}[{index}]", self.join(OR)), keys: self.keys.clone() }
    }

    fn join(&self, key: &str) -> String {
        if self.written.is_empty() { key.to_owned() } else { format!("{}.{key}", self.written) }
    }
}

impl Parser {
    fn problem(&mut self, path: String, cause: PolicyCause) {
        self.problems.push(PolicyProblem { path, cause });
    }

    fn group(&mut self, object: &Map<String, Value>, place: &Place, inside_or: bool) -> Group {
        let mut entries = Vec::new();
        for (key, value) in object {
            if let Some(alternatives) = alternatives_of_or(key, value) {
                entries.push(self.or(&alternatives, place));
            } else {
                entries.extend(self.entry(key, value, &place.key(key), inside_or));
            }
        }
        Group { entries }
    }

    fn or(&mut self, alternatives: &[&Map<String, Value>], place: &Place) -> Entry {
        let groups = alternatives.iter().enumerate().map(|(index, object)| {
            let place = place.alternative(index);
            if object.is_empty() {
                self.problem(place.written.clone(), PolicyCause::EmptyObject);
            }
            self.group(object, &place, true)
        });
        Entry::Or { groups: groups.collect() }
    }

    fn entry(&mut self, key: &str, value: &Value, place: &Place, inside_or: bool) -> Option<Entry> {
        if inside_or && RESERVED_WORDS.contains(&key) {
            self.problem(
                place.written.clone(),
                PolicyCause::ReservedKeyInOr { key: key.to_owned() },
            );
            return None;
        }
        let cause = match value {
            Value::Array(list) if !list.is_empty() => {
                let leaf = self.leaf(list, place);
                return Some(Entry::Leaf { key: key.to_owned(), leaf });
            }
            Value::Object(object) if self.scope == Scope::Body && !object.is_empty() => {
                let group = self.group(object, place, inside_or);
                return Some(Entry::Nested { key: key.to_owned(), group });
            }
            Value::Array(_) => PolicyCause::EmptyList,
            Value::Object(_) if self.scope == Scope::Attributes => PolicyCause::NestedInAttributes,
            Value::Object(_) => PolicyCause::EmptyObject,
            other => PolicyCause::NotAList { found: kind_of(other) },
        };
        self.problem(place.written.clone(), cause);
        None
    }

    fn leaf(&mut self, list: &[Value], place: &Place) -> usize {
        let mut conditions = Vec::new();
        for (index, json) in list.iter().enumerate() {
            match test_of(json) {
                Ok(test) => conditions.push(Condition { json: json.clone(), test }),
                Err(cause) => self.problem(format!("{}[{index}]", place.written), cause),
            }
        }
        let path = place.keys.join(".");
        let segments = match self.scope {
            Scope::Attributes => place.keys.clone(),
            Scope::Body => path.split('.').map(str::to_owned).collect(),
        };
        let level = place.keys.len();
        self.leaves.push(Leaf { path, place: place.written.clone(), segments, level, conditions });
        self.leaves.len() - 1
    }
}

/// The objects of an `$or` that is an operator; nothing for a key, even one called `$or`.
fn alternatives_of_or<'a>(key: &str, value: &'a Value) -> Option<Vec<&'a Map<String, Value>>> {
    let (OR, Value::Array(list)) = (key, value) else {
        return None;
    };
    let objects: Vec<_> = list.iter().map(Value::as_object).collect::<Option<_>>()?;
    let is_operator = objects.len() >= 2
        && !objects
            .iter()
            .any(|object| object.keys().any(|key| RESERVED_WORDS.contains(&key.as_str())));
    is_operator.then_some(objects)
}

fn test_of(json: &Value) -> Result<Test, PolicyCause> {
    let Value::Object(object) = json else {
        return scalar(json).map(Test::Matches);
    };
    let (operator, operand) = only_operator(object)?;
    match operator {
        "anything-but" => anything_but(operand),
        "exists" => match operand {
            Value::Bool(expected) => Ok(Test::Exists(*expected)),
            other => Err(PolicyCause::ExistsNotBool { found: kind_of(other) }),
        },
        "numeric" => numeric(operand).map(|range| Test::Matches(Matcher::Numeric(range))),
        "cidr" => cidr(text("cidr", operand)?).map(|network| Test::Matches(Matcher::Cidr(network))),
        other => match string_operator(other, operand) {
            Some(matcher) => matcher.map(Test::Matches),
            None => Err(PolicyCause::UnknownOperator {
                operator: other.to_owned(),
                after_anything_but: false,
            }),
        },
    }
}

fn only_operator(object: &Map<String, Value>) -> Result<(&str, &Value), PolicyCause> {
    let mut operators = object.iter();
    match (operators.next(), operators.next()) {
        (Some((operator, operand)), None) => Ok((operator, operand)),
        _ => Err(PolicyCause::OperatorCount { count: object.len() }),
    }
}

fn scalar(json: &Value) -> Result<Matcher, PolicyCause> {
    match json {
        Value::String(text) => Ok(Matcher::Text(text.clone())),
        Value::Number(number) => Ok(Matcher::Number(number.clone())),
        Value::Bool(value) => Ok(Matcher::Bool(*value)),
        Value::Null => Ok(Matcher::Null),
        Value::Array(_) | Value::Object(_) => Err(PolicyCause::NotAScalar { found: kind_of(json) }),
    }
}

/// The operators that `anything-but` takes as well; nothing for any other.
fn string_operator(operator: &str, operand: &Value) -> Option<Result<Matcher, PolicyCause>> {
    Some(match operator {
        "prefix" => text("prefix", operand).map(|text| Matcher::Prefix(text.to_owned())),
        "suffix" => text("suffix", operand).map(|text| Matcher::Suffix(text.to_owned())),
        "equals-ignore-case" => text("equals-ignore-case", operand)
            .map(|text| Matcher::EqualsIgnoreCase(text.to_owned())),
        "wildcard" => text("wildcard", operand).and_then(wildcard),
        _ => return None,
    })
}

fn text<'a>(operator: &'static str, operand: &'a Value) -> Result<&'a str, PolicyCause> {
    operand
        .as_str()
        .ok_or_else(|| PolicyCause::OperandNotText { operator, found: kind_of(operand) })
}

fn wildcard(pattern: &str) -> Result<Matcher, PolicyCause> {
    Wildcard::parse(pattern).map(Matcher::Wildcard).map_err(|fault| match fault {
        WildcardFault::ConsecutiveStars => {
            PolicyCause::ConsecutiveWildcards { pattern: pattern.to_owned() }
        }
        WildcardFault::BadEscape => PolicyCause::WildcardEscape { pattern: pattern.to_owned() },
    })
}

fn cidr(text: &str) -> Result<IpNet, PolicyCause> {
    let network: IpNet =
        text.parse().map_err(|_| PolicyCause::NotACidr { text: text.to_owned() })?;
    // `aws/event-ruler` takes such an address for the bottom of the range, other readers for any address
    // of the network.
    if network.addr() != network.network() {
        return Err(PolicyCause::CidrHostBits {
            text: text.to_owned(),
            network: network.trunc().to_string(),
        });
    }
    Ok(network)
}

fn anything_but(operand: &Value) -> Result<Test, PolicyCause> {
    let refused = || PolicyCause::AnythingButForm { found: operand.to_string() };
    let matchers = match operand {
        Value::Object(object) => {
            let (operator, operand) = only_operator(object)?;
            let unknown = || PolicyCause::UnknownOperator {
                operator: operator.to_owned(),
                after_anything_but: true,
            };
            vec![string_operator(operator, operand).ok_or_else(unknown)??]
        }
        Value::Array(list) => list.iter().map(scalar).collect::<Result<_, _>>()?,
        other => vec![scalar(other)?],
    };
    match &matchers[..] {
        [Matcher::Prefix(text)] if text.is_empty() => {
            Err(PolicyCause::AnythingButOfAll { operator: "prefix" })
        }
        [Matcher::Suffix(text)] if text.is_empty() => {
            Err(PolicyCause::AnythingButOfAll { operator: "suffix" })
        }
        [
            Matcher::Prefix(_)
            | Matcher::Suffix(_)
            | Matcher::EqualsIgnoreCase(_)
            | Matcher::Wildcard(_),
        ] => Ok(Test::AnythingBut(matchers)),
        [] => Err(refused()),
        all if all.iter().all(|matcher| matches!(matcher, Matcher::Text(_)))
            || all.iter().all(|matcher| matches!(matcher, Matcher::Number(_))) =>
        {
            Ok(Test::AnythingBut(matchers))
        }
        _ => Err(refused()),
    }
}

fn numeric(operand: &Value) -> Result<NumericRange, PolicyCause> {
    let refused = || PolicyCause::NumericForm { found: operand.to_string() };
    let list = operand.as_array().ok_or_else(refused)?;
    let comparison = |operator: &Value, number: &Value| -> Option<(String, Number)> {
        Some((operator.as_str()?.to_owned(), number.as_number()?.clone()))
    };
    match list.as_slice() {
        [operator, number] => {
            let (operator, number) = comparison(operator, number).ok_or_else(refused)?;
            one_comparison(&operator, &number).ok_or_else(refused)
        }
        [above, bottom, below, top] => {
            let (above, bottom) = comparison(above, bottom).ok_or_else(refused)?;
            let (below, top) = comparison(below, top).ok_or_else(refused)?;
            if !matches!(above.as_str(), ">" | ">=") || !matches!(below.as_str(), "<" | "<=") {
                return Err(refused());
            }
            if number::compare(&bottom, &top) != Some(std::cmp::Ordering::Less) {
                return Err(PolicyCause::NumericRangeEmpty { found: operand.to_string() });
            }
            Ok(NumericRange {
                bottom: Some(Bound { number: bottom, inclusive: above == ">=" }),
                top: Some(Bound { number: top, inclusive: below == "<=" }),
            })
        }
        _ => Err(refused()),
    }
}

fn one_comparison(operator: &str, number: &Number) -> Option<NumericRange> {
    let bound = |inclusive: bool| Some(Bound { number: number.clone(), inclusive });
    let (bottom, top) = match operator {
        "=" => (bound(true), bound(true)),
        ">" => (bound(false), None),
        ">=" => (bound(true), None),
        "<" => (None, bound(false)),
        "<=" => (None, bound(true)),
        _ => return None,
    };
    Some(NumericRange { bottom, top })
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
