//! The few calls that the demo itself makes to the local cloud, as its root and
//! over plain HTTP: it looks at what is there, and needs no SDK for that.

use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;

/// For a root key, the local cloud takes any signature.
const SIGNATURE: &str = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/any/aws4_request, \
                         SignedHeaders=host, Signature=none";
const TIMEOUT: Duration = Duration::from_secs(10);
const LOG_LINES_MAX: u32 = 10_000;

/// The local cloud, over HTTP.
#[derive(Debug)]
pub(crate) struct LocalAws {
    endpoint: String,
    agent: Agent,
}

/// A call that was not answered as expected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalAwsError {
    /// No answer, or a refusal.
    #[error("{call} on the local cloud failed")]
    Call { call: String, source: ureq::Error },
    /// An answer without what was asked for.
    #[error("{call} on the local cloud answered something unexpected: {answer}")]
    Answer { call: String, answer: String },
}

impl LocalAws {
    pub(crate) fn new(endpoint: &str) -> Self {
        let agent = Agent::config_builder().timeout_global(Some(TIMEOUT)).build().new_agent();
        Self { endpoint: endpoint.to_owned(), agent }
    }

    /// The content of an object, by its `s3://bucket/key`.
    pub(crate) fn object(&self, uri: &str) -> Result<Vec<u8>, LocalAwsError> {
        let place = encoded(uri.strip_prefix("s3://").unwrap_or(uri));
        let failed = |source| LocalAwsError::Call { call: format!("GetObject of {uri}"), source };
        let request = self.agent.get(format!("{}/{place}", self.endpoint));
        let mut answer = request.header("authorization", SIGNATURE).call().map_err(failed)?;
        answer.body_mut().read_to_vec().map_err(failed)
    }

    /// How many messages a queue holds, in flight or not.
    pub(crate) fn queue_depth(&self, queue_url: &str) -> Result<u64, LocalAwsError> {
        let call = "AmazonSQS.GetQueueAttributes";
        let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let answer = self.json(call, &json!({ "QueueUrl": queue_url, "AttributeNames": names }))?;
        let count = |name: &str| answer["Attributes"][name].as_str()?.parse::<u64>().ok();
        names.iter().map(|name| count(name)).sum::<Option<u64>>().ok_or_else(|| {
            LocalAwsError::Answer { call: call.to_owned(), answer: answer.to_string() }
        })
    }

    /// The lines of a log group.
    pub(crate) fn log(&self, group: &str) -> Result<Vec<String>, LocalAwsError> {
        let request = json!({ "logGroupName": group, "limit": LOG_LINES_MAX });
        let answer = self.json("Logs_20140328.FilterLogEvents", &request)?;
        let events = answer["events"].as_array().map_or(&[][..], Vec::as_slice);
        let line = |event: &Value| event["message"].as_str().map(|text| text.trim_end().to_owned());
        Ok(events.iter().filter_map(line).collect())
    }

    fn json(&self, call: &str, request: &Value) -> Result<Value, LocalAwsError> {
        let failed = |source| LocalAwsError::Call { call: call.to_owned(), source };
        let post = self
            .agent
            .post(format!("{}/", self.endpoint))
            .header("authorization", SIGNATURE)
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", call);
        let mut answer = post.send(request.to_string()).map_err(failed)?;
        let text = answer.body_mut().read_to_string().map_err(failed)?;
        serde_json::from_str(&text)
            .map_err(|_| LocalAwsError::Answer { call: call.to_owned(), answer: text })
    }
}

/// A path as it stands in a URL.
fn encoded(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_encoded_and_their_slashes_kept() {
        assert_eq!(encoded("wine-lake/raw/part 3+ü.csv"), "wine-lake/raw/part%203%2B%C3%BC.csv");
    }
}
