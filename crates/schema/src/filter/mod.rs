//! Amazon SNS filter policies: read, checked against AWS's limits, evaluated and explained, without
//! any I/O.
//!
//! One engine serves both sides of a subscription. What SNS is asked to let through (the push-down)
//! is a [`FilterPolicy`] held to [`FilterPolicy::check_limits`]; a trigger's own `where`, which the
//! handler evaluates, is the same type without those limits, so that both always mean the same.
//!
//! # The rules, and where they come from
//! From the Amazon SNS Developer Guide unless another source is named:
//! - Every key must hold, and one value of its list is enough ("AND/OR logic").
//! - `$or` is an operator only when it holds an array of at least two objects, none of which has a
//!   key that is a reserved word; otherwise it is a key like any other ("AND/OR logic").
//! - Values have types: the string `"5"` is not the number 5 ("String value matching", "Numeric
//!   value matching").
//! - A value that is an array matches when any of its elements does. That holds for `anything-but`
//!   too: the guide's examples let `["rugby", "baseball"]` pass `anything-but` `rugby` ("String
//!   value matching"). The same page says in prose that none may be listed; its examples say
//!   otherwise, for attributes and bodies alike.
//! - `anything-but` needs the key to exist. `exists` sees values only, never intermediate objects;
//!   `true` wants one that is neither null nor empty; `false` wants at least one other value in the
//!   message ("Key matching"). An empty array holds no value, so that its key does not exist.
//! - Binary attributes are ignored, so that even `exists` does not see them ("Filter policy
//!   constraints").
//! - Arrays of objects at any level are looked into ("Payload-based message filtering", AWS Compute
//!   Blog). The guide does not say whether conditions on two keys may be met by two different
//!   elements. AWS's open matcher (`aws/event-ruler`, whose very error messages SNS answers with)
//!   has an older mode that allows it and a current one that does not, and its README calls the
//!   second the fix. Here one element must meet them all. This is the narrower reading, so that a
//!   policy which SNS reads the other way still lets through whatever this engine would match.
//! - A dot in a key means the same as nesting, in policy and body alike (README of
//!   `aws/event-ruler`). A body that spells one and the same path both ways, once through an array,
//!   is matched by each spelling alone.
//! - Numbers are compared exactly here. SNS compares within ±10⁹ and five decimals only, so a field
//!   that can leave those bounds must not be pushed down; [`FilterPolicy::check_limits`] sees the
//!   policy's own numbers.
//!
//! # Example
//! ```
//! use bellwire_schema::filter::{FilterPolicy, Scope};
//! use serde_json::json;
//!
//! let policy = FilterPolicy::parse(
//!     &json!({"dataset": ["wine"], "data": {"size_bytes": [{"numeric": [">", 0]}]}}),
//!     Scope::Body,
//! ).expect("a valid policy");
//! assert!(policy.matches_body(&json!({"dataset": "wine", "data": {"size_bytes": 17}})));
//! assert!(!policy.matches_body(&json!({"dataset": "wine", "data": {"size_bytes": 0}})));
//! ```

mod attribute;
mod condition;
mod evaluate;
mod limits;
mod number;
mod parse;
mod policy;
mod problem;
mod wildcard;

#[cfg(test)]
mod tests;

pub use attribute::{AttributeError, AttributeValue};
pub use evaluate::{ConditionOutcome, Explanation, FOUND_VALUES_MAX};
pub use limits::{
    COMBINATIONS_MAX, KEYS_MAX, NUMBER_DECIMALS_MAX, NUMBER_MAX, PATTERN_WILDCARDS_MAX,
    POLICY_BYTES_MAX, WILDCARD_POINTS_MAX,
};
pub use parse::BRANCHES_MAX;
pub use policy::{FilterPolicy, Scope};
pub use problem::{PolicyCause, PolicyProblem};
