//! What can go wrong between here and AWS.

use std::error::Error as StdError;
use std::fmt;

use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};

/// A call to AWS that failed: which call, on what, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub struct CallError {
    /// The IAM name of the call: `sns:CreateTopic`.
    pub action: &'static str,
    /// What it was about: a name or an ARN.
    pub resource: String,
    /// Why it failed.
    pub cause: Cause,
    /// The SDK's own error.
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// AWS says that we may not.
    Denied {
        /// What AWS said.
        message: String,
    },
    /// There are no credentials, or they could not be loaded, or have expired.
    NoCredentials {
        /// What the SDK said.
        message: String,
    },
    /// Nobody answered.
    Unreachable {
        /// What the SDK said.
        message: String,
    },
    /// AWS answered with another error.
    Service {
        /// Its code: `InvalidParameterValueException`.
        code: String,
        /// What AWS said.
        message: String,
    },
    /// AWS answered well, but not what it should have.
    Unexpected {
        /// What was expected, and what came.
        message: String,
    },
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, resource, cause, .. } = self;
        match cause {
            Cause::Denied { message } => write!(
                f,
                "{action} on {resource} is denied: {message}; allow {action} on it to the credentials in use"
            ),
            Cause::NoCredentials { message } => write!(
                f,
                "no usable AWS credentials ({message}); log in (`aws sso login`, `aws configure`) or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ),
            Cause::Unreachable { message } => write!(
                f,
                "AWS did not answer {action} ({message}); check the network, the region, and AWS_ENDPOINT_URL if it is set"
            ),
            Cause::Service { code, message } => {
                let message =
                    if message.is_empty() { String::new() } else { format!(": {message}") };
                write!(f, "{action} on {resource} failed: {code}{message}; {}", remedy_for(code))
            }
            Cause::Unexpected { message } => write!(f, "{action} on {resource}: {message}"),
        }
    }
}

/// What to do about an answer of AWS, by its code.
fn remedy_for(code: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| code.contains(word));
    if says(&["Throttl", "TooManyRequests", "SlowDown", "RequestLimitExceeded"]) {
        "AWS throttles this account; it was tried for a minute: apply again a little later"
    } else if says(&["LimitExceeded", "QuotaExceeded", "TooManyEntities", "TooManyBuckets"]) {
        "a quota of the account is used up: ask for more in Service Quotas, or delete what is not needed, and apply again"
    } else if says(&["BucketAlreadyExists"]) {
        "names of buckets are global, and somebody has this one: choose another"
    } else if says(&["Conflict", "InUse", "ConcurrentModification", "OperationAborted"]) {
        "another change of it is under way: apply again when it is done"
    } else if says(&["ServiceUnavailable", "InternalError", "InternalFailure", "Internal"]) {
        "AWS had a fault of its own: apply again"
    } else if says(&["NoSuch", "NotFound", "DoesNotExist", "NonExistent"]) {
        "it has gone meanwhile: plan and apply again"
    } else {
        "mend what AWS says, and apply again"
    }
}

/// Codes by which services say that the caller may not.
const DENIED: &[&str] = &[
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "AuthorizationErrorException",
    "NotAuthorized",
    "UnauthorizedOperation",
];

/// Codes by which services say that the credentials themselves are no good.
const BAD_CREDENTIALS: &[&str] = &[
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

impl CallError {
    /// What AWS answered is not what it should be.
    pub(crate) fn unexpected(
        action: &'static str,
        resource: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        let cause = Cause::Unexpected { message: message.into() };
        Self { action, resource: resource.into(), cause, source: None }
    }

    /// Whether AWS answered with one of these codes.
    pub(crate) fn is_code(&self, codes: &[&str]) -> bool {
        matches!(&self.cause, Cause::Service { code, .. } if codes.contains(&code.as_str()))
    }

    /// Whether AWS said this, in a code or in words.
    pub(crate) fn says(&self, words: &str) -> bool {
        matches!(&self.cause, Cause::Service { message, .. } if message.contains(words))
    }
}

/// Makes a [`CallError`] of the SDK's: `.map_err(failed("sns:CreateTopic", name))`.
pub(crate) fn failed<E, R>(
    action: &'static str,
    resource: impl Into<String>,
) -> impl FnOnce(SdkError<E, R>) -> CallError
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    R: fmt::Debug + Send + Sync + 'static,
{
    let resource = resource.into();
    move |error| {
        let cause = cause_of(&error);
        CallError { action, resource, cause, source: Some(Box::new(error)) }
    }
}

fn cause_of<E, R>(error: &SdkError<E, R>) -> Cause
where
    E: ProvideErrorMetadata + StdError + 'static,
    R: fmt::Debug + 'static,
{
    if let SdkError::ServiceError(service) = error {
        let code = service.err().code().unwrap_or("unknown error").to_owned();
        let message = service.err().message().unwrap_or_default().to_owned();
        // Queries answer with `AWS.SimpleQueueService.NonExistentQueue` and its like.
        let short = code.rsplit(['.', '#']).next().unwrap_or(&code).to_owned();
        return if DENIED.contains(&short.as_str()) {
            Cause::Denied { message }
        } else if BAD_CREDENTIALS.contains(&short.as_str()) {
            Cause::NoCredentials { message: format!("{short}: {message}") }
        } else {
            Cause::Service { code: short, message }
        };
    }
    let message = innermost(error);
    let is_about_credentials = chain(error).any(|text| text.contains("credential"));
    match error {
        _ if is_about_credentials => Cause::NoCredentials { message },
        SdkError::ResponseError(_) => Cause::Unexpected { message },
        _ => Cause::Unreachable { message },
    }
}

/// The texts of an error and of all that caused it.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = String> + 'a {
    std::iter::successors(Some(error), |error: &&(dyn StdError + 'static)| (*error).source())
        .map(ToString::to_string)
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().unwrap_or_default()
}

/// Whether a call failed for want of the thing it was about.
pub(crate) fn is_absent(error: &CallError) -> bool {
    error.is_code(&[
        "NotFound",
        "NotFoundException",
        "DashboardNotFoundError",
        "ResourceNotFound",
        "ResourceNotFoundException",
        "NonExistentQueue",
        "QueueDoesNotExist",
        "NoSuchEntity",
        "NoSuchEntityException",
        "NoSuchBucket",
        "NoSuchTagSet",
        "NoSuchBucketPolicy",
        "NoSuchPublicAccessBlockConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
        "StateMachineDoesNotExist",
        "SubscriptionNotFound",
    ])
}

/// `Ok(None)` where the thing is not there.
pub(crate) fn absent_is_none<T>(result: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Success where the thing is already gone.
pub(crate) fn absent_is_done<T>(result: Result<T, CallError>) -> Result<(), CallError> {
    absent_is_none(result).map(|_| ())
}
