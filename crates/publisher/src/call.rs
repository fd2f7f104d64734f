//! Calls to AWS that failed, and what that means for the event at hand.

use std::error::Error;
use std::fmt;

use aws_sdk_sns::config::http::HttpResponse;
use aws_sdk_sns::error::{ProvideErrorMetadata, SdkError};

/// What a failed call means for whatever it was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It may succeed later: throttling, a fault of the service, the network,
    /// credentials that are just being renewed.
    Unavailable,
    /// It fails for everything until a person changes something: a missing
    /// permission, topic, queue or key. No event is to blame.
    Denied,
    /// This very request is wrong, and would be wrong again.
    Refused,
}

/// A call to AWS that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed: {}", reason(.code.as_deref(), .message))]
pub struct CallError {
    /// Service and operation: `sns:PublishBatch`.
    pub call: &'static str,
    /// What it means.
    pub trouble: Trouble,
    /// AWS's code for it, where AWS answered.
    pub code: Option<String>,
    /// The HTTP status, where anything answered.
    pub http_status: Option<u16>,
    /// AWS's words, or the network's.
    pub message: String,
}

fn reason(code: Option<&str>, message: &str) -> String {
    match code {
        Some(code) if message.is_empty() => code.to_owned(),
        Some(code) => format!("{code}: {message}"),
        None => message.to_owned(),
    }
}

impl CallError {
    /// Reads the SDK's error.
    pub fn of<E>(call: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let http_status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.code().map(str::to_owned);
        let trouble = match error {
            SdkError::ConstructionFailure(_) => Trouble::Refused,
            SdkError::ServiceError(_) => {
                trouble_of(code.as_deref().unwrap_or_default(), http_status.unwrap_or(0))
            }
            _ => Trouble::Unavailable,
        };
        let message = match error.message() {
            Some(message) => message.to_owned(),
            None => innermost(error),
        };
        Self { call, trouble, code, http_status, message }
    }

    /// Whether the service asked for fewer calls.
    #[must_use]
    pub fn is_throttling(&self) -> bool {
        self.http_status == Some(429) || self.code.as_deref().is_some_and(is_throttling)
    }

    /// Whether nothing answered at all.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        self.http_status.is_none()
    }
}

/// The last cause is the one that says what happened: the first ones only say
/// "dispatch failure".
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Codes that say that the request's content is wrong. Source: the error lists
/// of `PublishBatch`, `SendMessage` and `DeleteMessageBatch` in their API references.
const REFUSALS: [&str; 11] = [
    "BatchRequestTooLong",
    "InvalidBatchEntryId",
    "InvalidMessageContents",
    "InvalidParameter",
    "InvalidParameterException",
    "InvalidParameterValue",
    "ParameterValueInvalid",
    "ReceiptHandleIsInvalid",
    "AWS.SimpleQueueService.BatchRequestTooLong",
    "ValidationError",
    "ValidationException",
];

/// Codes that a later call may not meet, though their HTTP status is a client's
/// error. Source: the common errors of the AWS API references.
const PASSING: [&str; 9] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "KMSThrottling",
    "KMSThrottlingException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
];

/// What an error code means; what is unknown is nobody's fault until a person
/// has looked, so that no healthy event is given up for it.
#[must_use]
pub fn trouble_of(code: &str, http_status: u16) -> Trouble {
    if http_status >= 500 || http_status == 429 || is_throttling(code) || PASSING.contains(&code) {
        Trouble::Unavailable
    } else if REFUSALS.contains(&code) {
        Trouble::Refused
    } else {
        Trouble::Denied
    }
}

/// Codes by which the services of AWS ask for fewer calls. Source: the common
/// errors of the AWS API references.
fn is_throttling(code: &str) -> bool {
    code.contains("Throttl")
        || code.contains("TooManyRequests")
        || ["RequestLimitExceeded", "SlowDown"].contains(&code)
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Refused => "refused",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wrong_request_is_blamed_on_the_event() {
        for (code, status, expected) in [
            ("InvalidParameter", 400, Trouble::Refused),
            ("ParameterValueInvalid", 400, Trouble::Refused),
            ("Throttling", 400, Trouble::Unavailable),
            ("ThrottledException", 429, Trouble::Unavailable),
            ("KMSThrottling", 400, Trouble::Unavailable),
            ("InternalError", 500, Trouble::Unavailable),
            ("InvalidParameter", 503, Trouble::Unavailable),
            ("ExpiredToken", 403, Trouble::Unavailable),
            ("AuthorizationError", 403, Trouble::Denied),
            ("NotFound", 404, Trouble::Denied),
            ("KMSAccessDenied", 400, Trouble::Denied),
            ("SomethingNew", 400, Trouble::Denied),
        ] {
            assert_eq!(trouble_of(code, status), expected, "{code} {status}");
        }
    }
}
