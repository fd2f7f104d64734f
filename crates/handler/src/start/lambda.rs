//! Asynchronous invocations of Lambda functions.
//!
//! **On a crash:** at least one invocation for one start, and a second one only where
//! whoever invoked dies, or loses the answer, before it has recorded that. `Invoke` has
//! no token, and nothing tells afterwards whether there was one: of all who find a start
//! unfinished only the holder of its lease invokes, and whoever takes the lease over
//! invokes again. Lambda itself may invoke a function more than once for one event. So
//! the payload carries `bellwire.start_key`, by which the function can tell.
//!
//! A start is complete when Lambda has accepted it: nothing tells of its end.
//!
//! The SDK must not repeat `Invoke` by itself: where an answer is lost, it would invoke
//! twice within one lease.

use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::operation::RequestId as _;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use bellwire_ledger::Start;
use futures::future::BoxFuture;

use super::{Accepted, Attempt, RunTarget, StartError};
use crate::call_errors::CallErrors;

/// What is wrong with the function itself is mended there, and passes.
pub(super) const INVOKE: CallErrors = CallErrors {
    operation: "lambda:InvokeFunction",
    source: "AWS Lambda API reference, Invoke",
    permanent: &[
        "DurableExecutionAlreadyStartedException",
        "InvalidParameterValueException",
        "InvalidRequestContentException",
        "ModeNotSupportedException",
        "RecursiveInvocationException",
        "RequestTooLargeException",
        "ResourceNotFoundException",
        "SerializedRequestEntityTooLargeException",
        "UnsupportedMediaTypeException",
    ],
    retryable: &[
        "CodeArtifactUserDeletedException",
        "CodeArtifactUserFailedException",
        "CodeArtifactUserPendingException",
        "EC2AccessDeniedException",
        "EC2ThrottledException",
        "EC2UnexpectedException",
        "EFSIOException",
        "EFSMountConnectivityException",
        "EFSMountFailureException",
        "EFSMountTimeoutException",
        "ENILimitReachedException",
        "ENINotReadyException",
        "InvalidRuntimeException",
        "InvalidSecurityGroupIDException",
        "InvalidSubnetIDException",
        "InvalidZipFileException",
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
        "NoPublishedVersionException",
        "ResourceConflictException",
        "ResourceNotReadyException",
        "ServiceException",
        "ServiceQuotaExceededException",
        "SnapStartException",
        "SnapStartNotReadyException",
        "SnapStartRegenerationFailureException",
        "SnapStartTimeoutException",
        "SubnetIPAddressLimitReachedException",
        "TooManyRequestsException",
    ],
};

/// The client of Lambda.
#[derive(Debug)]
pub(super) struct Lambda {
    client: Client,
}

impl Lambda {
    pub(super) const fn new(client: Client) -> Self {
        Self { client }
    }

    async fn invoke(&self, start: &Start) -> Result<Accepted, StartError> {
        let output = self
            .client
            .invoke()
            .function_name(&start.target)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(start.input.as_bytes()))
            .customize()
            .config_override(
                aws_sdk_lambda::Config::builder().retry_config(RetryConfig::disabled()),
            )
            .send()
            .await
            .map_err(|error| INVOKE.error_of(start, &error))?;
        // By this id the function's logs name the invocation.
        let id = output.request_id().unwrap_or(start.start_key.as_str());
        let run_arn = format!("{}/invocation/{id}", start.target);
        Ok(Accepted { run_arn, started_at: None })
    }
}

impl RunTarget for Lambda {
    fn method(&self) -> &'static str {
        "Lambda/Invoke"
    }

    fn start<'a>(
        &'a self,
        start: &'a Start,
        attempt: Attempt,
    ) -> BoxFuture<'a, Result<Accepted, StartError>> {
        if attempt == Attempt::TakenOver {
            let start_key = start.start_key.as_str();
            tracing::warn!(start_key, "taken over: the function may be invoked a second time");
        }
        Box::pin(self.invoke(start))
    }
}
