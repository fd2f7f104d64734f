//! `claim`: the payload of an event that is too large for SNS goes to S3, and the
//! event travels with its URI (CloudEvents' claim check extension, `dataref`).
//!
//! Which object that is, and what is in it, is a function of the event alone: a
//! repetition writes the same object again.

use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwire_schema::Envelope;
use bellwire_schema::workflow::ClaimCheck;
use futures::future::BoxFuture;

use crate::call::CallError;
use crate::pack::{Entry, Unfit};

const JSON: &str = "application/json";

/// CloudEvents' name for a payload in base64, which is no attribute.
const DATA_BASE64: &str = "data_base64";

/// Where payloads are put.
pub trait Claims: Send + Sync {
    /// Puts one; what is under the key already is the same.
    fn put<'a>(
        &'a self,
        key: &'a str,
        bytes: Vec<u8>,
        content_type: &'a str,
    ) -> BoxFuture<'a, Result<(), CallError>>;
}

/// A workflow's claim check, and the way to its bucket.
#[derive(Clone)]
pub struct ClaimDesk {
    /// What the workflow file says.
    pub check: ClaimCheck,
    /// Where payloads are put.
    pub claims: Arc<dyn Claims>,
}

/// A payload to put into S3, and the event that points to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The object's key.
    pub key: String,
    /// The payload: JSON as text, or the bytes that were in base64.
    pub bytes: Vec<u8>,
    /// The payload's media type. It tells a reader which of the two it is.
    pub content_type: String,
    /// The event without its payload.
    pub entry: Entry,
}

impl Claim {
    /// Takes an event apart. `None` where nothing is gained: it has no payload to
    /// put aside, it points to one already, or it is too large without it too.
    #[must_use]
    pub fn of(check: &ClaimCheck, mut envelope: Envelope) -> Option<Self> {
        if envelope.dataref.is_some() {
            return None;
        }
        let (bytes, content_type) = match envelope.data.take() {
            Some(data) => (data.to_string().into_bytes(), JSON.to_owned()),
            None => {
                let text = envelope.extensions.remove(DATA_BASE64)?;
                let media_type = envelope.datacontenttype.clone();
                let media_type =
                    media_type.unwrap_or_else(|| "application/octet-stream".to_owned());
                (STANDARD.decode(text.as_str()?).ok()?, media_type)
            }
        };
        let key = check.key_of(&envelope.source, &envelope.id);
        envelope.dataref = Some(check.uri_of(&key));
        let entry = Entry::of(envelope).ok()?;
        Some(Self { key, bytes, content_type, entry })
    }
}

/// How an event goes to the topic: the one way from an event to what SNS takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Fit {
    /// As it is.
    Whole(Box<Entry>),
    /// Without its payload, once that is in S3.
    Claim(Box<Claim>),
}

impl Fit {
    /// Pure.
    ///
    /// # Errors
    ///
    /// Where the event is over a limit, and no claim check helps.
    pub fn of(envelope: Envelope, claims: Option<&ClaimDesk>) -> Result<Self, Unfit> {
        let (unfit, envelope) = match Entry::or_back(envelope) {
            Ok(entry) => return Ok(Self::Whole(Box::new(entry))),
            Err(back) => back,
        };
        match (claims, &unfit) {
            (Some(desk), Unfit::TooLarge { .. }) => Claim::of(&desk.check, *envelope)
                .map(|claim| Self::Claim(Box::new(claim)))
                .ok_or(unfit),
            _ => Err(unfit),
        }
    }

    /// The entry, with its payload put where there is one to put.
    ///
    /// # Errors
    ///
    /// Where it cannot be put now.
    pub async fn put(self, claims: Option<&ClaimDesk>) -> Result<Entry, CallError> {
        let claim = match self {
            Self::Whole(entry) => return Ok(*entry),
            Self::Claim(claim) => *claim,
        };
        let Claim { key, bytes, content_type, entry } = claim;
        if let Some(desk) = claims {
            desk.claims.put(&key, bytes, &content_type).await?;
        }
        Ok(entry)
    }
}

/// Payloads in a bucket, encrypted as the bucket says.
#[derive(Debug, Clone)]
pub struct S3Claims {
    client: aws_sdk_s3::Client,
    bucket: String,
}

impl S3Claims {
    /// The payloads in this bucket.
    #[must_use]
    pub fn new(client: aws_sdk_s3::Client, bucket: &str) -> Self {
        Self { client, bucket: bucket.to_owned() }
    }
}

impl Claims for S3Claims {
    fn put<'a>(
        &'a self,
        key: &'a str,
        bytes: Vec<u8>,
        content_type: &'a str,
    ) -> BoxFuture<'a, Result<(), CallError>> {
        Box::pin(async move {
            let put = self.client.put_object().bucket(&self.bucket).key(key);
            let put = put.content_type(content_type).body(ByteStream::from(bytes));
            let answer = put.send().await;
            answer.map(drop).map_err(|error| CallError::of("s3:PutObject", &error))
        })
    }
}

#[cfg(test)]
mod tests {
    use bellwire_schema::limits::SNS_MESSAGE_BYTES_MAX;
    use serde_json::{Value, json};

    use super::*;

    fn check() -> ClaimCheck {
        ClaimCheck { bucket: "lake".to_owned(), prefix: "claims/".to_owned() }
    }

    fn event(data: &Value) -> Envelope {
        let mut event = Envelope::new("e-1", "/app", "training.requested".parse().unwrap());
        event.context.correlationid = Some("c-1".to_owned());
        event.with_payload(data)
    }

    #[test]
    fn the_event_keeps_all_but_its_payload_and_points_to_it() {
        let data = json!({ "parameters": { "text": "x".repeat(SNS_MESSAGE_BYTES_MAX) } });
        let claim = Claim::of(&check(), event(&data)).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&claim.bytes).unwrap(), data);
        assert_eq!(claim.content_type, JSON);
        let mut expected = event(&data);
        expected.data = None;
        expected.dataref = Some(format!("s3://lake/{}", claim.key));
        assert_eq!(*claim.entry.envelope(), expected);
        assert!(claim.key.starts_with("claims/"));

        assert_eq!(Claim::of(&check(), event(&data)).unwrap(), claim, "a repetition");
        let mut other = event(&data);
        other.id = "e-2".to_owned();
        assert_ne!(Claim::of(&check(), other).unwrap().key, claim.key);
    }

    #[test]
    fn bytes_are_put_aside_as_bytes() {
        let mut bytes = event(&json!(null));
        bytes.data = None;
        bytes.datacontenttype = Some("image/png".to_owned());
        bytes.extensions.insert(DATA_BASE64.to_owned(), STANDARD.encode(b"\x89PNG").into());
        let claim = Claim::of(&check(), bytes).unwrap();
        assert_eq!((&claim.bytes[..], claim.content_type.as_str()), (&b"\x89PNG"[..], "image/png"));
        let travels = claim.entry.envelope();
        assert!(travels.extensions.is_empty(), "{travels:?}");
        assert_eq!(travels.datacontenttype.as_deref(), Some("image/png"));
    }

    #[test]
    fn what_would_gain_nothing_is_left_as_it_is() {
        let large = || "x".repeat(SNS_MESSAGE_BYTES_MAX);
        let mut pointing = event(&json!(large()));
        pointing.dataref = Some("https://example.com/data".to_owned());
        let mut without = event(&json!(1));
        without.data = None;
        let mut large_itself = event(&json!(1));
        large_itself.subject = Some(large());
        for envelope in [pointing, without, large_itself] {
            assert_eq!(Claim::of(&check(), envelope), None);
        }
    }
}
