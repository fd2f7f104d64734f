//! DynamoDB and Step Functions, as far as the handler calls them for an event that
//! nobody has handled: every condition holds, every execution is new.

use serde_json::{Value, json};

/// The action of a call to one of them; `None` where it is to another service.
pub(crate) fn action_of(target: &str) -> Option<&str> {
    target.strip_prefix("DynamoDB_20120810.").or_else(|| target.strip_prefix("AWSStepFunctions."))
}

/// The answer; `None` where the action is none of the stub's.
pub(crate) fn act(action: &str, body: &[u8]) -> Option<Value> {
    match action {
        "PutItem" | "UpdateItem" | "TransactWriteItems" => Some(json!({})),
        "StartExecution" => {
            let request: Value = serde_json::from_slice(body).ok()?;
            let machine =
                request["stateMachineArn"].as_str()?.replace(":stateMachine:", ":execution:");
            let arn = format!("{machine}:{}", request["name"].as_str()?);
            Some(json!({ "executionArn": arn, "startDate": 1_795_313_647.123 }))
        }
        _ => None,
    }
}
