//! What the errors of a call mean, by their codes: a table a call. Those of the calls
//! that start something stand beside these; the ledger has its own.

use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use bellwire_ledger::Start;

use crate::start::StartError;

/// The errors that a call can answer with.
#[derive(Debug)]
pub(crate) struct CallErrors {
    /// The call, as a policy names it: `states:StartExecution`.
    pub(crate) operation: &'static str,
    /// The page of AWS's documentation that lists them.
    pub(crate) source: &'static str,
    /// Those that the same call would get again, unless somebody changes the workflow,
    /// the event or the target's name.
    pub(crate) permanent: &'static [&'static str],
    /// Those that pass by themselves, or that are mended where they are: permissions,
    /// keys, quotas, the target's own configuration.
    pub(crate) retryable: &'static [&'static str],
}

/// The errors that every call of every service can answer with. A denied call passes:
/// a new role's policy takes seconds to act. Source: "Common error types", in the API
/// references of AWS Step Functions, Amazon SageMaker, AWS Batch, AWS Lambda, Amazon SNS
/// and Amazon SQS, where older ones write them without `Exception`.
const COMMON: CallErrors = CallErrors {
    operation: "every call",
    source: "Common error types",
    permanent: &[
        "InvalidAction",
        "InvalidParameterCombination",
        "InvalidParameterValue",
        "InvalidQueryParameter",
        "MalformedHttpRequestException",
        "MalformedQueryString",
        "MissingAction",
        "MissingParameter",
        "RequestEntityTooLargeException",
        "UnknownOperationException",
        "ValidationError",
        "ValidationException",
    ],
    retryable: &[
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "NotAuthorized",
        "OptInRequired",
        "RequestAbortedException",
        "RequestExpired",
        "RequestLimitExceeded",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SignatureDoesNotMatch",
        "Throttled",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "UnrecognizedClientException",
    ],
};

/// For what the handler tells, and for topics that triggers start.
pub(crate) const PUBLISH: CallErrors = CallErrors {
    operation: "sns:Publish",
    source: "Amazon SNS API reference, Publish",
    permanent: &[
        "EndpointDisabled",
        "InvalidParameter",
        "InvalidSecurity",
        "NotFound",
        "ParameterValueInvalid",
        "PlatformApplicationDisabled",
        "ValidationException",
    ],
    retryable: &[
        "AuthorizationError",
        "InternalError",
        "KMSAccessDenied",
        "KMSDisabled",
        "KMSInvalidState",
        "KMSNotFound",
        "KMSOptInRequired",
        "KMSThrottling",
    ],
};

/// For queues that triggers start; a dead letter that is refused brings its message back
/// in any case. SQS names some errors in two ways, by its newer and its older protocol.
#[cfg_attr(not(feature = "target-sqs"), allow(dead_code, reason = "of that target alone"))]
pub(crate) const SEND_MESSAGE: CallErrors = CallErrors {
    operation: "sqs:SendMessage",
    source: "Amazon SQS API reference, SendMessage",
    permanent: &[
        "AWS.SimpleQueueService.NonExistentQueue",
        "AWS.SimpleQueueService.UnsupportedOperation",
        "InvalidAddress",
        "InvalidMessageContents",
        "InvalidParameterValueException",
        "InvalidSecurity",
        "QueueDoesNotExist",
        "UnsupportedOperation",
    ],
    retryable: &[
        "KMS.AccessDeniedException",
        "KMS.DisabledException",
        "KMS.InvalidKeyUsageException",
        "KMS.InvalidStateException",
        "KMS.NotFoundException",
        "KMS.OptInRequired",
        "KMS.ThrottlingException",
        "KmsAccessDenied",
        "KmsDisabled",
        "KmsInvalidKeyUsage",
        "KmsInvalidState",
        "KmsNotFound",
        "KmsOptInRequired",
        "KmsThrottled",
        "RequestThrottled",
    ],
};

/// For payloads that were too large to travel. `NoSuchKey` is the payload that is gone;
/// without a permission to list, S3 would say `AccessDenied` of it.
pub(crate) const GET_OBJECT: CallErrors = CallErrors {
    operation: "s3:GetObject",
    source: "Amazon S3 API reference, GetObject and Error responses",
    permanent: &["InvalidArgument", "InvalidBucketName", "KeyTooLongError", "NoSuchKey"],
    // An archived object can be restored, and a bucket be there again.
    retryable: &[
        "InvalidObjectState",
        "KMS.DisabledException",
        "NoSuchBucket",
        "PermanentRedirect",
        "SlowDown",
        "TemporaryRedirect",
    ],
};

/// What a code says of the same call, made later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Permanent,
    Retryable,
    /// In no table: a new error, an answer of something between us and AWS, or no answer.
    Unknown,
}

impl CallErrors {
    pub(crate) fn verdict(&self, code: Option<&str>) -> Verdict {
        let Some(code) = code else { return Verdict::Unknown };
        for table in [self, &COMMON] {
            if table.permanent.contains(&code) {
                return Verdict::Permanent;
            }
            if table.retryable.contains(&code) {
                return Verdict::Retryable;
            }
        }
        Verdict::Unknown
    }

    /// The error of a start. What is in no table counts as retryable: in the end the
    /// message is dead by its receives, with nothing lost.
    pub(crate) fn error_of<E, R>(&self, start: &Start, error: &SdkError<E, R>) -> StartError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug,
    {
        let (operation, target) = (self.operation, start.target.clone());
        let message = match (error.code(), error.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            _ => DisplayErrorContext(error).to_string(),
        };
        let verdict = self.verdict(error.code());
        if verdict == Verdict::Unknown && error.code().is_some() {
            let known_by = self.source;
            tracing::warn!(
                operation,
                message,
                known_by,
                "unknown error: taken for one that passes"
            );
        }
        match verdict {
            Verdict::Permanent => StartError::Refused { operation, target, message },
            _ => StartError::Unavailable { operation, target, message },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::start::TABLES;

    #[test]
    fn every_code_means_one_thing() {
        for table in TABLES.iter().copied().chain([&COMMON, &PUBLISH, &SEND_MESSAGE, &GET_OBJECT]) {
            let codes = [table.permanent, table.retryable].concat();
            let unique: BTreeSet<_> = codes.iter().collect();
            assert_eq!(unique.len(), codes.len(), "{}: a code is there twice", table.operation);
            assert!(!table.source.is_empty());
        }
    }

    #[test]
    fn what_is_in_no_table_is_tried_again() {
        for table in TABLES {
            assert_eq!(table.verdict(Some("BrandNewException")), Verdict::Unknown);
            assert_eq!(table.verdict(None), Verdict::Unknown, "no answer says nothing");
            assert_eq!(table.verdict(Some("ThrottlingException")), Verdict::Retryable);
            assert_eq!(table.verdict(Some("AccessDeniedException")), Verdict::Retryable);
        }
    }
}
