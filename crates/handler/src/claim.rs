//! The claim check: an event that was too large for SNS comes without its payload,
//! with the URI of it. It is fetched here, where that URI is the workflow's own:
//! anyone may send a `dataref`, and none but ours is followed.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwire_schema::Envelope;
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::limits::CLAIM_BYTES_MAX;
use bellwire_schema::workflow::ClaimCheck;
use tokio::time::timeout;

use crate::call_errors::{GET_OBJECT, Verdict};
use crate::clients::Later;

/// How long a payload may take, all repetitions of the call included.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// CloudEvents' name for a payload in base64, which is no attribute.
const DATA_BASE64: &str = "data_base64";

/// The workflow's claim check.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    client: Later<Client>,
    check: ClaimCheck,
}

/// A payload as it lies in S3.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fetched {
    bytes: Vec<u8>,
    content_type: Option<String>,
}

/// Why a payload was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It is not there: no repetition brings it back.
    #[error("the event's payload {dataref} is not there any more")]
    Missing {
        /// Where it was.
        dataref: String,
    },
    /// It is larger than any that the publisher puts aside.
    #[error("the event's payload {dataref} is larger than {CLAIM_BYTES_MAX} bytes")]
    TooLarge {
        /// Where it is.
        dataref: String,
    },
    /// S3 refuses to give it, and would refuse it again.
    #[error("s3:GetObject of {dataref} was refused for good: {message}")]
    Refused {
        /// Where it should be.
        dataref: String,
        /// What AWS says.
        message: String,
    },
    /// S3 did not give it now.
    #[error(
        "s3:GetObject of {dataref} did not succeed: {message}; may the handler's role read it?"
    )]
    Unavailable {
        /// Where it is.
        dataref: String,
        /// What AWS or the SDK says.
        message: String,
    },
}

impl FetchError {
    /// The reason under which the event goes to the dead queue; `None` where a
    /// repetition may help.
    #[must_use]
    pub const fn reason(&self) -> Option<DeadReason> {
        match self {
            Self::Missing { .. } | Self::Refused { .. } => Some(DeadReason::ClaimMissing),
            Self::TooLarge { .. } => Some(DeadReason::TooLarge),
            Self::Unavailable { .. } => None,
        }
    }
}

/// Whether an event came without its payload and says where that is.
fn is_pointer(event: &Envelope) -> bool {
    event.dataref.is_some() && event.data.is_none() && !event.extensions.contains_key(DATA_BASE64)
}

impl Claims {
    pub(crate) const fn new(client: Later<Client>, check: ClaimCheck) -> Self {
        Self { client, check }
    }

    /// The event with its payload, where it came without it and its `dataref` is
    /// ours; `None` for every other, which is handled as it is.
    pub(crate) async fn resolve(&self, event: &Envelope) -> Result<Option<Envelope>, FetchError> {
        let Some(dataref) = event.dataref.as_deref().filter(|_| is_pointer(event)) else {
            return Ok(None);
        };
        let Some(key) = self.check.key_in(dataref) else { return Ok(None) };
        let fetched = timeout(FETCH_TIMEOUT, self.fetch(key, dataref)).await;
        let fetched = fetched.map_err(|_| FetchError::Unavailable {
            dataref: dataref.to_owned(),
            message: format!("it took longer than {} s", FETCH_TIMEOUT.as_secs()),
        })??;
        Ok(Some(with_payload(event, &fetched)))
    }

    async fn fetch(&self, key: &str, dataref: &str) -> Result<Fetched, FetchError> {
        let dataref = || dataref.to_owned();
        let get = self.client.get_object().bucket(&self.check.bucket).key(key);
        // Without s3:ListBucket S3 would say 403 here; the handler's role has it.
        let mut object = get.send().await.map_err(|error| match error.code() {
            Some("NoSuchKey") => FetchError::Missing { dataref: dataref() },
            code => {
                let (dataref, message) = (dataref(), DisplayErrorContext(&error).to_string());
                match GET_OBJECT.verdict(code) {
                    Verdict::Permanent => FetchError::Refused { dataref, message },
                    _ => FetchError::Unavailable { dataref, message },
                }
            }
        })?;
        let mut bytes = Vec::new();
        while let Some(chunk) = object.body.next().await {
            let chunk = chunk.map_err(|error| FetchError::Unavailable {
                dataref: dataref(),
                message: DisplayErrorContext(&error).to_string(),
            })?;
            if bytes.len() + chunk.len() > CLAIM_BYTES_MAX {
                return Err(FetchError::TooLarge { dataref: dataref() });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Fetched { bytes, content_type: object.content_type })
    }
}

/// The event as if its payload had travelled with it. `dataref` stays, so that a
/// run may tell. What is no JSON is bytes, as CloudEvents writes them in JSON.
fn with_payload(event: &Envelope, fetched: &Fetched) -> Envelope {
    let mut event = event.clone();
    let media_type = fetched.content_type.as_deref().unwrap_or_default();
    let json = match is_json(media_type) {
        true => serde_json::from_slice(&fetched.bytes).ok(),
        false => None,
    };
    match json {
        Some(data) => event.data = Some(data),
        None => {
            let text = STANDARD.encode(&fetched.bytes);
            event.extensions.insert(DATA_BASE64.to_owned(), text.into());
        }
    }
    event
}

/// Source: CloudEvents 1.0.2, JSON event format, section 3.1: `*/json` and `*/*+json`.
fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_becomes_data_and_all_else_base64() {
        let event = Envelope::new("e-1", "/app", "training.requested".parse().unwrap());
        let resolved = |bytes: &[u8], media_type: &str| {
            let content_type = Some(media_type.to_owned());
            with_payload(&event, &Fetched { bytes: bytes.to_vec(), content_type })
        };
        for media_type in ["application/json", "application/foo+JSON; charset=utf-8"] {
            assert_eq!(resolved(br#"{"n":1}"#, media_type).data, Some(json!({ "n": 1 })));
        }
        for (bytes, media_type) in [(&b"7"[..], "text/plain"), (b"\xff", "application/json")] {
            let resolved = resolved(bytes, media_type);
            assert_eq!(resolved.data, None);
            assert_eq!(resolved.extensions[DATA_BASE64], STANDARD.encode(bytes));
            let read = Envelope::from_json(resolved.to_json().as_bytes()).unwrap();
            assert_eq!(read, resolved);
        }
    }
}
