//! S3: reads and writes, each under a span of its own.

use std::collections::BTreeMap;
use std::error::Error;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use bellwire_telemetry::semconv::{AWS_S3_BUCKET, AWS_S3_KEY, RPC_METHOD, RPC_SYSTEM_NAME};
use tracing::{Instrument as _, Span};

use crate::error::WorkerError;
use crate::lake::{Location, Object};

const READ: &str = "read";
const WRITE: &str = "write";

/// The lake.
#[derive(Debug, Clone)]
pub struct Store {
    s3: Client,
}

impl Store {
    /// With region, endpoint and credentials as the SDK finds them.
    pub async fn from_environment() -> Self {
        Self::new(Client::new(&aws_config::load_from_env().await))
    }

    /// With a client of the caller's.
    #[must_use]
    pub fn new(s3: Client) -> Self {
        Self { s3 }
    }

    pub(crate) async fn read(&self, location: &Location) -> Result<Vec<u8>, WorkerError> {
        let span = call_span("GetObject", location);
        let result = self.get(location).instrument(span.clone()).await;
        marked(&span, result)
    }

    /// Writes an object with the context that its event is to carry on. A marker
    /// that is there already stays as it is: written again, it would announce the
    /// same objects again.
    pub(crate) async fn write(
        &self,
        object: Object,
        metadata: &BTreeMap<String, String>,
    ) -> Result<(), WorkerError> {
        let span = call_span("PutObject", &object.location);
        let result = self.put(object, metadata).instrument(span.clone()).await;
        marked(&span, result)
    }

    async fn get(&self, location: &Location) -> Result<Vec<u8>, WorkerError> {
        let response = self
            .s3
            .get_object()
            .bucket(&location.bucket)
            .key(&location.key)
            .send()
            .await
            .map_err(|error| failed(READ, location, error))?;
        let body =
            response.body.collect().await.map_err(|error| WorkerError::StorageUnavailable {
                operation: READ,
                location: location.clone(),
                source: error.into(),
            })?;
        Ok(body.to_vec())
    }

    async fn put(
        &self,
        object: Object,
        metadata: &BTreeMap<String, String>,
    ) -> Result<(), WorkerError> {
        let result = self
            .s3
            .put_object()
            .bucket(&object.location.bucket)
            .key(&object.location.key)
            .content_type(object.content_type)
            .set_metadata(Some(metadata.clone().into_iter().collect()))
            .set_if_none_match(object.is_marker.then(|| "*".to_owned()))
            .body(ByteStream::from(object.body))
            .send()
            .await;
        match result {
            Ok(_) => Ok(()),
            Err(error) if object.is_marker && error.code() == Some("PreconditionFailed") => {
                tracing::info!(location = %object.location, "the marker is there already");
                Ok(())
            }
            Err(error) => Err(failed(WRITE, &object.location, error)),
        }
    }
}

fn call_span(method: &'static str, location: &Location) -> Span {
    tracing::info_span!(
        "S3",
        otel.name = format!("S3/{method}"),
        otel.kind = "client",
        { RPC_SYSTEM_NAME } = "aws-api",
        { RPC_METHOD } = format!("S3/{method}"),
        { AWS_S3_BUCKET } = location.bucket,
        { AWS_S3_KEY } = location.key,
    )
}

fn marked<T>(span: &Span, result: Result<T, WorkerError>) -> Result<T, WorkerError> {
    result.inspect_err(|error| bellwire_telemetry::mark_failed(span, error))
}

/// Told by the status: what S3 refuses it will refuse again, but for throttling.
fn failed<E>(operation: &'static str, location: &Location, error: SdkError<E>) -> WorkerError
where
    E: Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let is_refused = status.is_some_and(|status| (400..500).contains(&status) && status != 429);
    let (location, source) = (location.clone(), error.into());
    if is_refused {
        WorkerError::StorageRefused { operation, location, source }
    } else {
        WorkerError::StorageUnavailable { operation, location, source }
    }
}
