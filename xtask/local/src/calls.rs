//! The calls that the local AWS authorised or refused.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;

/// The file of recorded calls in a state folder.
pub(crate) const CALLS_FILE: &str = "calls.jsonl";

/// One call, and what the local AWS decided about it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct RecordedCall {
    /// The caller's ARN, or the service (`sns.amazonaws.com`) that delivered for its user.
    pub principal: String,
    /// The role of an assumed-role session; empty for other callers.
    pub role: String,
    /// The action as IAM names it: `sns:Publish`, for a batch too.
    pub action: String,
    /// The ARN of what was acted on, or `*`.
    pub resource: String,
    /// What was decided.
    pub decision: Decision,
    /// When, in milliseconds since the epoch.
    pub time_ms: u64,
}

/// What IAM decided about a call.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Decision {
    /// A policy allows it, or the caller is the account's root.
    Allow,
    /// A policy denies it.
    Deny,
    /// No policy allows it.
    ImplicitDeny,
    /// The credentials were refused.
    Unauthenticated,
}

impl Decision {
    /// Whether the call went through.
    #[must_use]
    pub fn is_allowed(self) -> bool {
        self == Decision::Allow
    }
}

/// The calls recorded in `folder` so far; none where nothing is recorded.
pub(crate) fn read(folder: &Path) -> io::Result<Vec<RecordedCall>> {
    let text = match fs::read_to_string(folder.join(CALLS_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::from)).collect()
}
