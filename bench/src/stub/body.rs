//! The bodies of the messages that fill a queue. They are written when they are
//! received: a million of them waiting take no memory of theirs.

use serde::{Deserialize, Serialize};

/// The bucket that the notifications tell of.
pub const BUCKET: &str = "bench-lake";

/// What a queue is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyKind {
    /// S3's notification of one new object, each of another key.
    #[default]
    S3,
    /// What S3 sends when a notification is configured.
    S3TestEvent,
}

/// The body of a queue's message.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// As it was sent.
    Sent(String),
    /// To be written when it is wanted.
    Filled { kind: BodyKind, number: u64 },
}

impl Body {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Sent(text) => text.clone(),
            Self::Filled { kind: BodyKind::S3, number } => s3_notification(*number),
            Self::Filled { kind: BodyKind::S3TestEvent, number } => format!(
                r#"{{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-03-01T12:00:00.000Z","Bucket":"{BUCKET}","RequestId":"{number:016X}","HostId":"stub"}}"#
            ),
        }
    }
}

/// S3's notification of one new object: version 2.1, one record, as S3 writes
/// it. The key needs decoding, as keys of partitioned data do.
#[must_use]
pub fn s3_notification(number: u64) -> String {
    format!(
        concat!(
            r#"{{"Records":[{{"eventVersion":"2.1","eventSource":"aws:s3","#,
            r#""awsRegion":"eu-central-1","eventTime":"2026-03-01T12:00:{seconds:02}.123Z","#,
            r#""eventName":"ObjectCreated:Put","#,
            r#""userIdentity":{{"principalId":"AWS:AROAEXAMPLEEXAMPLE123:wine-importer"}},"#,
            r#""requestParameters":{{"sourceIPAddress":"192.0.2.17"}},"#,
            r#""responseElements":{{"x-amz-request-id":"{number:016X}","#,
            r#""x-amz-id-2":"EXAMPLE123/5678abcdefghijklambdaisawesome/mnopqrstuvwxyzABCDEFGH{number:08X}"}},"#,
            r#""s3":{{"s3SchemaVersion":"1.0","configurationId":"bellwire-objects","#,
            r#""bucket":{{"name":"{bucket}","#,
            r#""ownerIdentity":{{"principalId":"A3NL1KOZZKExample"}},"arn":"arn:aws:s3:::{bucket}"}},"#,
            r#""object":{{"key":"raw/day%3D2026-03-{day:02}/part+{part:08}.csv","size":{size},"#,
            r#""eTag":"d41d8cd98f00b204{number:016x}","#,
            r#""sequencer":"0055AED6{number:010X}"}}}}}}]}}"#,
        ),
        number = number,
        part = number,
        seconds = number % 60,
        day = number % 28 + 1,
        bucket = BUCKET,
        size = 1024 + number % 100_000,
    )
}
