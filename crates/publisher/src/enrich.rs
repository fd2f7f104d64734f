//! `enrich`: what of an event only a look-up can tell. The one step between
//! `route` and `pack` that asks anyone.

use std::collections::BTreeMap;

use bellwire_ledger::Ledger;
use bellwire_schema::completion::CompletionOrigin;
use bellwire_schema::{Envelope, EventContext};
use futures::future::BoxFuture;

use crate::call::CallError;
use crate::route::{Draft, ObjectRef};

/// Where objects' metadata is.
pub trait Objects: Send + Sync {
    /// The metadata of an object, by names without `x-amz-meta-`; `None` where
    /// the object is not there any more.
    fn metadata<'a>(
        &'a self,
        object: &'a ObjectRef,
    ) -> BoxFuture<'a, Result<Option<BTreeMap<String, String>>, CallError>>;
}

/// Where the origin of a run is remembered.
pub trait RunOrigins: Send + Sync {
    /// Why a run was started; `None` where it was not started by Bellwire.
    fn origin_of<'a>(
        &'a self,
        run_arn: &'a str,
    ) -> BoxFuture<'a, Result<Option<CompletionOrigin>, LookUpError>>;
}

/// A look-up that failed: the message comes back.
#[derive(Debug, thiserror::Error)]
pub enum LookUpError {
    /// The object's metadata cannot be read.
    #[error("the metadata of s3://{bucket}/{key} cannot be read now")]
    Object {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// What S3 says.
        source: CallError,
    },
    /// The ledger cannot be asked.
    #[error("the ledger cannot be asked for the run {run_arn} now")]
    Ledger {
        /// The run's ARN.
        run_arn: String,
        /// What the ledger says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Completes an event.
///
/// # Errors
///
/// Where a look-up failed and may succeed later.
pub async fn enrich(
    draft: Draft,
    objects: &dyn Objects,
    origins: &dyn RunOrigins,
) -> Result<Envelope, LookUpError> {
    let envelope = match draft {
        Draft::Whole(envelope) => envelope,
        Draft::Object { mut envelope, object } => {
            envelope.context = context_of(&object, objects).await?;
            envelope
        }
        Draft::Completion { completion, otherwise } => {
            let origin = origins.origin_of(&completion.run_arn).await?;
            completion.to_envelope(&origin.unwrap_or(otherwise))
        }
    };
    Ok(correlated(envelope))
}

/// An event that belongs to no workflow instance begins one. Pure.
pub(crate) fn correlated(mut envelope: Envelope) -> Envelope {
    if envelope.context.correlationid.is_none() {
        envelope.context.correlationid = Some(envelope.id.clone());
    }
    envelope
}

async fn context_of(
    object: &ObjectRef,
    objects: &dyn Objects,
) -> Result<EventContext, LookUpError> {
    let metadata = objects.metadata(object).await.map_err(|source| LookUpError::Object {
        bucket: object.bucket.clone(),
        key: object.key.clone(),
        source,
    })?;
    Ok(metadata.as_ref().map(EventContext::from_object_metadata).unwrap_or_default())
}

/// Objects on S3.
#[derive(Debug, Clone)]
pub struct S3Objects {
    client: aws_sdk_s3::Client,
}

impl S3Objects {
    /// Objects that this client may read.
    #[must_use]
    pub fn new(client: aws_sdk_s3::Client) -> Self {
        Self { client }
    }

    async fn head(
        &self,
        object: &ObjectRef,
    ) -> Result<Option<BTreeMap<String, String>>, CallError> {
        let answer = self
            .client
            .head_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(object.version_id.clone())
            .send()
            .await
            .map_err(|error| CallError::of("s3:HeadObject", &error));
        match answer {
            Ok(answer) => Ok(Some(answer.metadata.unwrap_or_default().into_iter().collect())),
            Err(error) => match meaning_of_head(error.http_status) {
                Head::Retry => Err(error),
                Head::Gone => Ok(None),
                Head::Refused => {
                    tracing::warn!(
                        bucket = object.bucket,
                        key = object.key,
                        status = error.http_status,
                        "no context read: the object is gone, or the publisher's role may not read it (s3:GetObject), or it is encrypted with a key of its writer's (SSE-C)"
                    );
                    Ok(None)
                }
            },
        }
    }
}

impl Objects for S3Objects {
    fn metadata<'a>(
        &'a self,
        object: &'a ObjectRef,
    ) -> BoxFuture<'a, Result<Option<BTreeMap<String, String>>, CallError>> {
        Box::pin(self.head(object))
    }
}

/// What a failed HEAD means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    Gone,
    Refused,
    Retry,
}

/// A HEAD's answer has no body, so that its status is all there is. Without
/// `s3:ListBucket`, which the publisher's role lacks, S3 answers 403 for an
/// object that is gone, and an event must not be lost for that; 405 is a
/// delete marker. 400 is an object under a customer's key (SSE-C), which no try
/// again makes readable.
/// Source: Amazon S3 API reference, `HeadObject`.
fn meaning_of_head(http_status: Option<u16>) -> Head {
    match http_status {
        Some(404 | 405) => Head::Gone,
        Some(400 | 403) => Head::Refused,
        _ => Head::Retry,
    }
}

/// The ledger, asked for the origin of runs.
#[derive(Debug, Clone)]
pub struct LedgerOrigins {
    ledger: Ledger,
}

impl LedgerOrigins {
    /// The origins that this ledger remembers.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger }
    }
}

impl RunOrigins for LedgerOrigins {
    fn origin_of<'a>(
        &'a self,
        run_arn: &'a str,
    ) -> BoxFuture<'a, Result<Option<CompletionOrigin>, LookUpError>> {
        Box::pin(async move {
            match self.ledger.find_by_run(run_arn).await {
                Ok(row) => Ok(row.map(|row| row.completion_origin())),
                Err(error) if error.is_retryable() => {
                    let run_arn = run_arn.to_owned();
                    Err(LookUpError::Ledger { run_arn, source: Box::new(error) })
                }
                // What will never be readable must not hold the completion back.
                Err(error) => {
                    tracing::warn!(run_arn, %error, "the ledger's word on a run cannot be read");
                    Ok(None)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_cannot_be_read_costs_the_context_and_not_the_event() {
        for (status, expected) in [
            (Some(404), Head::Gone),
            (Some(405), Head::Gone),
            (Some(403), Head::Refused),
            (Some(400), Head::Refused),
            (Some(429), Head::Retry),
            (Some(503), Head::Retry),
            (None, Head::Retry),
        ] {
            assert_eq!(meaning_of_head(status), expected, "{status:?}");
        }
    }
}
