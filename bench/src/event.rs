//! The event that a peer sends which does not read the records: the publisher's
//! own, made once.

use bellwire_schema::Envelope;
use bellwire_schema::attributes::{MessageAttribute, attributes_of};
use bellwire_schema::s3::Notification;
use bellwire_schema::workflow::{S3Source, Source, SourceKind, read};

use crate::stub::body::s3_notification;

/// The workflow that everything here is measured under.
pub const WORKFLOW: &str = include_str!("../workflow.toml");

/// An event's body and attributes, as the publisher sends them.
#[derive(Debug, Clone)]
pub struct Sample {
    /// CloudEvents' structured mode.
    pub body: String,
    /// SNS's attributes.
    pub attributes: Vec<MessageAttribute>,
}

/// The event of the stub's first message.
///
/// # Panics
///
/// As [`Objects::event`].
#[must_use]
pub fn sample() -> Sample {
    let mut envelope = Objects::new().event(0);
    // As the publisher completes it: the event begins a workflow instance.
    envelope.context.correlationid = Some(envelope.id.clone());
    let attributes = attributes_of(&envelope, &Default::default()).expect("they are few");
    Sample { body: envelope.to_json(), attributes }
}

/// The source of the workflow file, which makes events of what fills the stub's queue.
#[derive(Debug, Clone)]
pub struct Objects {
    source: Source,
    rules: S3Source,
}

impl Objects {
    /// The source.
    ///
    /// # Panics
    ///
    /// Where the workflow file of this crate has no source of kind `s3`: a defect of
    /// this crate.
    #[must_use]
    pub fn new() -> Self {
        let workflow = read(WORKFLOW).expect("the workflow file is sound");
        let source = workflow.sources.into_iter().next().expect("it has a source");
        let SourceKind::S3(rules) = source.kind.clone() else { panic!("it is of kind s3") };
        Self { source, rules }
    }

    /// The event of the stub's message of this number, as it comes out of S3's record.
    ///
    /// # Panics
    ///
    /// Where the stub's messages are not what the workflow file of this crate
    /// watches: a defect of this crate.
    #[must_use]
    pub fn event(&self, number: u64) -> Envelope {
        let body = serde_json::from_str(&s3_notification(number)).expect("it is JSON");
        let Some(Notification::Records(records)) = Notification::decode(&body) else {
            panic!("the body is S3's");
        };
        let object = records.into_iter().next().expect("it has a record").expect("a sound one");
        object.to_envelope(&self.source, &self.rules)
    }
}

impl Default for Objects {
    fn default() -> Self {
        Self::new()
    }
}
