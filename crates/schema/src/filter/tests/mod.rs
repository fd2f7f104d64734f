//! Tests of the engine as a whole: AWS's own examples, refusals, limits, and laws.

mod aws_examples;
mod explaining;
mod limits;
mod oracle;
mod parsing;
mod properties;

use serde_json::Value;

use super::{FilterPolicy, PolicyProblem, Scope};

fn body_policy(json: &Value) -> FilterPolicy {
    FilterPolicy::parse(json, Scope::Body).unwrap_or_else(|problems| panic!("{json}: {problems:?}"))
}

fn attribute_policy(json: &Value) -> FilterPolicy {
    FilterPolicy::parse(json, Scope::Attributes)
        .unwrap_or_else(|problems| panic!("{json}: {problems:?}"))
}

/// Problems as people see them.
fn written(problems: &[PolicyProblem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}
