//! The objects that gathers wait for, as far as the sources' own rules would hide them.

use std::collections::BTreeSet;

use super::model::{GatherUntil, S3Source, Source, SourceKind, Workflow};
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

    /// The first source under whose prefix an object is the marker or manifest that a
    /// trigger waits for, where no source tells of it by its own rules.
    #[must_use]
    pub fn source_of_marker(&self, object: &ObjectEvent) -> Option<(&Source, &S3Source)> {
        if object.change != ObjectChange::Created {
            return None;
        }
        let name = object.key.rsplit('/').next().unwrap_or(&object.key);
        self.sources.iter().find_map(|source| match &source.kind {
            SourceKind::S3(s3)
                if s3.bucket == object.bucket
                    && object.key.starts_with(&s3.prefix)
                    && self.hidden_markers(s3).contains(name) =>
            {
                Some((source, s3))
            }
            _ => None,
        })
    }
}
