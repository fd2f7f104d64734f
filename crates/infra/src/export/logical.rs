//! What resources are called within a template: letters and digits alone.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use crate::resource::{Kind, ResourceId};

/// What stands beside a resource, and must be there before whoever needs it.
pub(super) const POLICY: &str = "Policy";

/// The logical ids of a template.
#[derive(Debug)]
pub(super) struct LogicalIds(BTreeMap<ResourceId, String>);

impl LogicalIds {
    /// The kind and the name in letters and digits; with a hash where two come to the same.
    pub(super) fn of(ids: &[ResourceId]) -> Self {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for id in ids {
            *counts.entry(plain(id)).or_default() += 1;
        }
        let logical = |id: &ResourceId| {
            let plain = plain(id);
            if counts[&plain] == 1 { plain } else { format!("{plain}{}", hash(&id.name)) }
        };
        Self(ids.iter().map(|id| (id.clone(), logical(id))).collect())
    }

    pub(super) fn of_id(&self, id: &ResourceId) -> String {
        // A bucket's notification is a part of the bucket.
        let id = match id.kind {
            Kind::BucketNotification => &ResourceId::new(Kind::Bucket, &id.name),
            _ => id,
        };
        self.0.get(id).cloned().unwrap_or_else(|| plain(id))
    }

    /// Of a part of a resource.
    pub(super) fn part_of(&self, id: &ResourceId, part: &str) -> String {
        format!("{}{part}", self.of_id(id))
    }

    /// Of those among these that the template has, with the policies that let others use them.
    pub(super) fn of_all(&self, ids: &[ResourceId]) -> BTreeSet<String> {
        let is_made = |id: &&ResourceId| match id.kind {
            Kind::BucketNotification => {
                self.0.contains_key(&ResourceId::new(Kind::Bucket, &id.name))
            }
            _ => self.0.contains_key(*id),
        };
        let with_policy = |id: &ResourceId| {
            let has_policy = matches!(id.kind, Kind::Topic | Kind::Queue);
            let policy = has_policy.then(|| self.part_of(id, POLICY));
            [Some(self.of_id(id)), policy].into_iter().flatten()
        };
        ids.iter().filter(is_made).flat_map(with_policy).collect()
    }
}

fn plain(id: &ResourceId) -> String {
    let words = format!("{} {}", id.kind.label(), id.name);
    let words = words.split(|letter: char| !letter.is_ascii_alphanumeric());
    words
        .filter(|word| !word.is_empty())
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        })
        .collect()
}

fn hash(name: &str) -> String {
    Sha256::digest(name)[..4].iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_come_to_the_same_are_told_apart() {
        let ids = ["wine-dead", "wine-Dead", "wine"].map(|name| ResourceId::new(Kind::Queue, name));
        let logical = LogicalIds::of(&ids);
        assert_eq!(logical.of_id(&ids[2]), "SqsQueueWine");
        assert!(logical.of_id(&ids[0]).starts_with("SqsQueueWineDead"));
        assert_ne!(logical.of_id(&ids[0]), logical.of_id(&ids[1]));
    }
}
