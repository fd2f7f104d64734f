//! What of a role's policy is used by whom: while the example runs, every call is recorded
//! with the role that made it; and whatever no role called is in one table, with who uses
//! it all the same, and for what. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

/// One call that a role made, or that AWS made in its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// As IAM names it.
    pub action: String,
    /// The ARN of what it was about, or `*`.
    pub resource: String,
}

/// One action that one statement of a policy allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allowed {
    /// The statement's Sid.
    pub sid: String,
    /// The action.
    pub action: String,
}

/// Who uses what the example does not call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// AWS itself, in the name of the role.
    Aws,
    /// The component, on a way that is taken when something has gone wrong, or not often.
    Rarely,
}

/// A statement of which no call is recorded, and why it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// The statement's Sid.
    pub sid: &'static str,
    /// The actions of it.
    pub actions: &'static [&'static str],
    /// Who uses it.
    pub by: By,
    /// For what.
    pub feature: &'static str,
}

const LOGS: Use = Use {
    sid: "WriteLogs",
    actions: &["logs:CreateLogStream", "logs:PutLogEvents"],
    by: By::Aws,
    feature: "Lambda writes what the function logs",
};

const fn taken_by_lambda(sid: &'static str, feature: &'static str) -> Use {
    let actions = &["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"];
    Use { sid, actions, by: By::Aws, feature }
}

const fn rarely(sid: &'static str, actions: &'static [&'static str], feature: &'static str) -> Use {
    Use { sid, actions, by: By::Rarely, feature }
}

const HANDLER: [Use; 5] = [
    LOGS,
    taken_by_lambda("TakeWork", "`delivery = \"queued\"`: Lambda takes batches of the work queue"),
    taken_by_lambda("TakeHints", "waits under a minute: Lambda takes the hints"),
    rarely(
        "AskAfterRuns",
        &["states:DescribeExecution"],
        "the sweep asks after a run that is past its end",
    ),
    rarely(
        "Quarantine",
        &["sqs:SendMessage"],
        "what can never be handled; Lambda itself sends an event whose every try has failed",
    ),
];

const PUBLISHER: [Use; 4] = [
    Use { feature: "`run = \"lambda\"`: Lambda writes what the function logs", ..LOGS },
    rarely("Quarantine", &["sqs:SendMessage"], "what can never be published"),
    rarely("ReadContext", &["s3:GetObject"], "an object of a bucket without versions"),
    rarely(
        "Receive",
        &["sqs:ChangeMessageVisibility"],
        "what could not be published now is hidden longer each time",
    ),
];

const FUNCTION: [Use; 2] = [
    LOGS,
    rarely("List0", &["s3:ListBucket"], "an object that is not there is told from a denied one"),
];

/// What a run of the example does not call, by the component whose role it is: `function`
/// stands for each of the workflow's own.
pub const BESIDE_THE_EXAMPLE: [(&str, &[Use]); 3] =
    [("handler", &HANDLER), ("publisher", &PUBLISHER), ("function", &FUNCTION)];

/// Whether the table says why an action is allowed that a component was not seen to call.
#[must_use]
pub fn is_accounted_for(component: &str, allowed: &Allowed) -> bool {
    let of_component = BESIDE_THE_EXAMPLE.iter().filter(|(of, _)| *of == component);
    let mut uses = of_component.flat_map(|(_, uses)| uses.iter());
    uses.any(|one| one.sid == allowed.sid && one.actions.contains(&allowed.action.as_str()))
}

/// The actions of a policy that none of the calls used, statement by statement.
#[must_use]
pub fn unused(policy: &Value, calls: &BTreeSet<Call>) -> BTreeSet<Allowed> {
    let statements = policy["Statement"].as_array().into_iter().flatten();
    let allowing = statements.filter(|statement| statement["Effect"] == "Allow");
    allowing
        .flat_map(|statement| {
            let resources = texts(&statement["Resource"]);
            let is_used = move |action: &String| {
                calls.iter().any(|call| {
                    call.action == *action
                        && resources.iter().any(|one| covers(one, &call.resource))
                })
            };
            let sid = statement["Sid"].as_str().unwrap_or_default().to_owned();
            texts(&statement["Action"])
                .into_iter()
                .filter(move |action| !is_used(action))
                .map(move |action| Allowed { sid: sid.clone(), action })
        })
        .collect()
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        _ => Vec::new(),
    }
}

/// Whether a resource of a policy, in which `*` stands for any text, is this one.
fn covers(pattern: &str, resource: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == resource };
    let Some(tail) = resource.strip_prefix(start) else { return false };
    let ends = tail.char_indices().map(|(at, _)| at).chain([tail.len()]);
    ends.into_iter().any(|at| covers(rest, &tail[at..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(action: &str, resource: &str) -> Call {
        Call { action: action.to_owned(), resource: resource.to_owned() }
    }

    /// A call is of a statement where action and resource are both the statement's.
    #[test]
    fn an_action_is_used_on_what_its_statement_names() {
        let policy = json!({"Statement": [
            {"Sid": "Send", "Effect": "Allow", "Action": ["sqs:SendMessage", "sqs:GetQueueUrl"],
             "Resource": "arn:aws:sqs:r:1:dead"},
            {"Sid": "Read", "Effect": "Allow", "Action": "s3:GetObject",
             "Resource": ["arn:aws:s3:::lake/raw/*_SUCCESS", "arn:aws:s3:::lake/models/*"]},
            {"Sid": "Tls", "Effect": "Deny", "Action": "sqs:*", "Resource": "*"},
        ]});
        let left = |calls: &[Call]| -> Vec<String> {
            let left = unused(&policy, &calls.iter().cloned().collect());
            left.into_iter().map(|one| format!("{} {}", one.sid, one.action)).collect()
        };
        let all = ["Read s3:GetObject", "Send sqs:GetQueueUrl", "Send sqs:SendMessage"];
        assert_eq!(left(&[]), all);
        assert_eq!(left(&[call("sqs:SendMessage", "arn:aws:sqs:r:1:work")]), all);
        assert_eq!(left(&[call("s3:GetObject", "arn:aws:s3:::lake/raw/part.csv")]), all);
        let used = [
            call("sqs:SendMessage", "arn:aws:sqs:r:1:dead"),
            call("s3:GetObject", "arn:aws:s3:::lake/raw/1/_SUCCESS"),
        ];
        assert_eq!(left(&used), ["Send sqs:GetQueueUrl"]);
    }
}
