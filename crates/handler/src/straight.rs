//! What S3 tells the topic itself, of sources with `via = "topic"`: the same events, with
//! the same ids, as the publisher makes of it. Pure.

use bellwire_schema::Envelope;
use bellwire_schema::s3::{Notification, ObjectEvent, RecordError};
use bellwire_schema::workflow::{SourceKind, Via, Workflow};

use crate::decode::Undeliverable;

/// What a record of a notification is.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// An event.
    Event(Box<Envelope>),
    /// Nothing that a source watches, and why.
    Skip {
        /// Why, in the publisher's words.
        reason: &'static str,
        /// The object's key, where there is one.
        key: Option<String>,
    },
}

/// The records of a notification of S3, each on its own; `None` where a body is none,
/// or where no source of the workflow has S3 tell the topic.
#[must_use]
pub fn told_by_s3(workflow: &Workflow, body: &str) -> Option<Vec<Result<Told, Undeliverable>>> {
    let is_straight =
        |kind: &SourceKind| matches!(kind, SourceKind::S3(s3) if s3.via == Via::Topic);
    if !workflow.sources.iter().any(|source| is_straight(&source.kind)) {
        return None;
    }
    let decoded = || Notification::decode(&serde_json::from_str(body).ok()?);
    match Notification::read(body).or_else(decoded)? {
        Notification::TestEvent => Some(vec![Ok(Told::skip("test-event", None))]),
        Notification::Records(records) => {
            Some(records.into_iter().map(|record| of_record(workflow, record)).collect())
        }
    }
}

fn of_record(
    workflow: &Workflow,
    record: Result<ObjectEvent, RecordError>,
) -> Result<Told, Undeliverable> {
    let object = match record {
        Ok(object) => object,
        Err(RecordError::OtherEvent { .. }) => return Ok(Told::skip("other-object-event", None)),
        Err(error) => return Err(error.into()),
    };
    if object.is_folder_marker() {
        return Ok(Told::skip("folder-marker", Some(object.key)));
    }
    let Some((source, rules)) = workflow.source_of(&object, Via::Topic) else {
        return Ok(Told::skip("no-rule", Some(object.key)));
    };
    let mut event = object.to_envelope(source, rules);
    // It belongs to no workflow instance yet, and begins one.
    event.context.correlationid = Some(event.id.clone());
    Ok(Told::Event(Box::new(event)))
}

impl Told {
    const fn skip(reason: &'static str, key: Option<String>) -> Self {
        Self::Skip { reason, key }
    }
}
