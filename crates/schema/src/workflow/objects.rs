//! Which source tells of an object; and the objects that gathers wait for, as far as the
//! sources' own rules would hide them.

use std::collections::BTreeSet;

use super::model::{GatherUntil, S3Source, Source, SourceKind, Via, Workflow};
use crate::event_type::EventType;
use crate::id::ObjectChange;
use crate::s3::ObjectEvent;

impl Workflow {
    /// The names of markers and manifests that a source's suffix hides, and that a
    /// trigger waits for which gathers what the source emits.
    #[must_use]
    pub fn hidden_markers(&self, source: &S3Source) -> BTreeSet<&str> {
        if source.emits != EventType::data_arrived() {
            return BTreeSet::new();
        }
        let waiting = self.triggers.iter().filter(|trigger| trigger.on.contains(&source.emits));
        let names = waiting.filter_map(|trigger| match &trigger.gather.as_ref()?.until {
            GatherUntil::Marker(name) | GatherUntil::Manifest(name) => Some(name.as_str()),
            _ => None,
        });
        names.filter(|name| !name.ends_with(&source.suffix)).collect()
    }

    /// The source that tells of an object which came by this way. The first that wants
    /// it has it: the event's id is the same whichever source it is of. What a gather
    /// waits for comes through, though its source's suffix hides it.
    #[must_use]
    pub fn source_of(&self, object: &ObjectEvent, via: Via) -> Option<(&Source, &S3Source)> {
        let sources = || {
            self.sources.iter().filter_map(move |source| match &source.kind {
                SourceKind::S3(s3) if s3.via == via => Some((source, s3)),
                _ => None,
            })
        };
        let by_rule = sources().find(|(_, s3)| s3.wants(object));
        by_rule.or_else(|| {
            let name = object.key.rsplit('/').next().unwrap_or(&object.key);
            let is_marker = |s3: &S3Source| {
                s3.bucket == object.bucket
                    && object.key.starts_with(&s3.prefix)
                    && self.hidden_markers(s3).contains(name)
            };
            let is_created = object.change == ObjectChange::Created;
            sources().find(|(_, s3)| is_created && is_marker(s3))
        })
    }
}
