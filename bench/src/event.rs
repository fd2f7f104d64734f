//! The event that a peer sends which does not read the records: the publisher's
//! own, made once.

use bellwire_schema::attributes::{MessageAttribute, attributes_of};
use bellwire_schema::s3::Notification;
use bellwire_schema::workflow::{SourceKind, read};

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
/// Where the stub's messages are not what the workflow file of this crate
/// watches: a defect of this crate.
#[must_use]
pub fn sample() -> Sample {
    let workflow = read(WORKFLOW).expect("the workflow file is sound");
    let source = workflow.sources.first().expect("it has a source");
    let SourceKind::S3(rules) = &source.kind else { panic!("it is of kind s3") };
    let body = serde_json::from_str(&s3_notification(0)).expect("the notification is JSON");
    let Some(Notification::Records(records)) = Notification::decode(&body) else {
        panic!("the body is S3's");
    };
    let object = records.into_iter().next().expect("it has a record").expect("a sound one");
    let mut envelope = object.to_envelope(source, rules);
    // As the publisher completes it: the event begins a workflow instance.
    envelope.context.correlationid = Some(envelope.id.clone());
    let attributes = attributes_of(&envelope, &Default::default()).expect("they are few");
    Sample { body: envelope.to_json(), attributes }
}
