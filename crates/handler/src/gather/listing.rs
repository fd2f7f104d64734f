//! What a listing of all versions shows of a time: each object once, in the version
//! that was its newest then. Pure.

use bellwire_ledger::Member;
use bellwire_schema::id::ObjectChange;
use bellwire_schema::s3::ObjectEvent;
use bellwire_schema::workflow::{Identity, S3Source, Source, SourceKind};
use bellwire_schema::{Envelope, EventType};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::rules::{member_of, to_second};
use crate::model::{CompiledTrigger, Model};

/// A version of an object, or a delete marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) version_id: Option<String>,
    pub(super) modified: Timestamp,
    pub(super) is_latest: bool,
    /// Size in bytes and eTag; `None` for a delete marker.
    pub(super) object: Option<(u64, Option<String>)>,
}

/// A page of a listing: ordered by key, and of one key the newest first, but for
/// delete markers, which S3 lists apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListPage {
    pub(super) entries: Vec<Entry>,
    pub(super) next: Option<ListCursor>,
}

/// Where a listing goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListCursor {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key_marker: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version_id_marker: Option<String>,
    /// The last key of which a version was taken: its older ones may follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) decided: Option<String>,
}

/// The time that a listing is taken of: what was written after the one bound and up
/// to the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) after: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
}

/// The objects of a page, each in the version that was its newest at the end of the
/// span, where that was written within it; and the last key that was decided.
pub(super) fn newest(
    mut entries: Vec<Entry>,
    decided: Option<String>,
    span: Span,
) -> (Vec<Entry>, Option<String>) {
    entries.retain(|entry| span.until.is_none_or(|until| to_second(entry.modified) <= until));
    entries.sort_by(|one, other| {
        let newest_first = (other.modified, other.is_latest).cmp(&(one.modified, one.is_latest));
        one.key.cmp(&other.key).then(newest_first)
    });
    let mut taken = Vec::new();
    let mut last = decided;
    for entry in entries {
        if last.as_ref() == Some(&entry.key) {
            continue;
        }
        last = Some(entry.key.clone());
        let is_new = span.after.is_none_or(|after| to_second(entry.modified) > after);
        if entry.object.is_some() && is_new {
            taken.push(entry);
        }
    }
    (taken, last)
}

/// The member that an object of a listing is, where a source of the workflow would
/// have told of it and the trigger's `where` holds.
pub(super) fn member(
    model: &Model,
    trigger: &CompiledTrigger,
    bucket: &str,
    entry: Entry,
) -> Option<Member> {
    let source = source_of(model, trigger, bucket, &entry.key)?;
    let (_, s3) = source;
    if !entry.key.ends_with(&s3.suffix) {
        return None;
    }
    let (event, member) = arrival_of(model, source, bucket, entry)?;
    let is_wanted = trigger
        .condition
        .as_ref()
        .is_none_or(|condition| condition.matches_body(&event.to_value()));
    let is_marker = trigger.gather.as_ref().is_some_and(|rules| rules.is_marker(&event));
    (is_wanted && !is_marker).then_some(member)
}

/// The member that an object is which a manifest names, whatever it is called.
pub(super) fn named(
    model: &Model,
    trigger: &CompiledTrigger,
    bucket: &str,
    entry: Entry,
) -> Option<Member> {
    let source = source_of(model, trigger, bucket, &entry.key)?;
    Some(arrival_of(model, source, bucket, entry)?.1)
}

/// The first source under whose prefix a key lies, of those that the trigger starts on.
pub(super) fn source_of<'a>(
    model: &'a Model,
    trigger: &CompiledTrigger,
    bucket: &str,
    key: &str,
) -> Option<(&'a Source, &'a S3Source)> {
    model.workflow.sources.iter().find_map(|source| match &source.kind {
        SourceKind::S3(s3)
            if s3.bucket == bucket
                && key.starts_with(&s3.prefix)
                && s3.emits == EventType::data_arrived()
                && trigger.trigger.on.contains(&s3.emits) =>
        {
            Some((source, s3))
        }
        _ => None,
    })
}

/// The event that told, or would have told, of an object.
fn arrival_of(
    model: &Model,
    (source, s3): (&Source, &S3Source),
    bucket: &str,
    entry: Entry,
) -> Option<(Envelope, Member)> {
    let (size_bytes, etag) = entry.object?;
    let has_own_id = entry.version_id.is_some() || s3.identity == Identity::Content;
    let object = ObjectEvent {
        change: ObjectChange::Created,
        event_name: "ObjectCreated:Put".to_owned(),
        time: entry.modified,
        region: model.place.region.clone(),
        bucket: bucket.to_owned(),
        key: entry.key,
        size_bytes,
        etag,
        version_id: entry.version_id,
        sequencer: None,
    };
    if object.is_folder_marker() {
        return None;
    }
    let event = object.to_envelope(source, s3);
    let mut member = member_of(&event);
    if !has_own_id {
        // The event's own id is made of a sequencer, which no listing shows.
        member.event.event_id = None;
    }
    Some((event, member))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn entry(key: &str, version: &str, second: i64, is_object: bool) -> Entry {
        Entry {
            key: key.to_owned(),
            version_id: Some(version.to_owned()),
            modified: at(second),
            is_latest: false,
            object: is_object.then_some((1, None)),
        }
    }

    fn keys(entries: &[Entry]) -> Vec<(&str, &str)> {
        entries.iter().map(|one| (one.key.as_str(), one.version_id.as_deref().unwrap())).collect()
    }

    #[test]
    fn an_object_is_taken_in_the_version_that_was_its_newest_then() {
        let entries = vec![
            entry("a", "a3", 9, true),
            entry("a", "a2", 5, true),
            entry("a", "a1", 1, true),
            entry("b", "b1", 3, true),
            entry("gone", "g1", 2, true),
            entry("gone", "g2", 4, false),
            entry("old", "o1", 1, true),
        ];
        let span = Span { after: Some(at(1)), until: Some(at(6)) };
        let (taken, decided) = newest(entries, None, span);
        assert_eq!(keys(&taken), [("a", "a2"), ("b", "b1")]);
        assert_eq!(decided.as_deref(), Some("old"));
        let (taken, _) = newest(vec![entry("a", "a1", 1, true)], Some("a".to_owned()), span);
        assert_eq!(keys(&taken), [], "its newest was on the page before");
    }

    proptest! {
        /// However a history is split into windows by markers, each version of an
        /// object that was the newest at a marker is in one of them alone.
        #[test]
        fn no_version_is_in_two_windows(
            written in prop::collection::vec((0..4_u8, 0..20_i64, any::<bool>()), 0..30),
            mut markers in prop::collection::btree_set(0..20_i64, 1..5),
            page_entries in 1..7_usize,
        ) {
            let mut entries: Vec<Entry> = written.iter().enumerate().map(|(number, write)| {
                let (key, second, is_object) = *write;
                entry(&format!("k{key}"), &format!("v{number}"), second, is_object)
            }).collect();
            // As S3 lists them.
            entries.sort_by(|a, b| a.key.cmp(&b.key).then(b.modified.cmp(&a.modified)));
            let mut seen = std::collections::BTreeSet::new();
            let mut after = None;
            while let Some(until) = markers.pop_first() {
                let span = Span { after, until: Some(at(until)) };
                let (mut taken, mut decided) = (Vec::new(), None);
                for page in entries.chunks(page_entries) {
                    let (more, last) = newest(page.to_vec(), decided, span);
                    taken.extend(more);
                    decided = last;
                }
                let mut keys = std::collections::BTreeSet::new();
                for one in taken {
                    prop_assert!(keys.insert(one.key.clone()), "{} twice in one window", one.key);
                    prop_assert!(seen.insert(one.version_id), "a version in two windows");
                }
                after = Some(at(until));
            }
        }
    }
}
