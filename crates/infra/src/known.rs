//! What is known of a resource before it is asked for: one call tells it of many, and each
//! that is not made is one less to wait for.

use std::collections::{BTreeMap, BTreeSet};

use crate::kind::alarm::Alarm;
use crate::resource::{ResourceId, Tags};

/// What an observation knows when it asks for each resource.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The tags of what is tagged as ours, by ARN. What is not in it may be tagged all the
    /// same: the tagging API learns of it later, and of some kinds never.
    pub(crate) tags: BTreeMap<String, Tags>,
    /// All log groups whose names begin so, with their retention in days.
    pub(crate) log_groups: Option<LogGroups>,
    /// All alarms whose names begin as ours do, by name, without their tags.
    pub(crate) alarms: Option<BTreeMap<String, Alarm>>,
    /// What there should be anyway: whether it holds data does not matter.
    pub(crate) wanted: BTreeSet<ResourceId>,
}

/// All log groups of a prefix.
#[derive(Debug)]
pub(crate) struct LogGroups {
    pub(crate) prefix: String,
    pub(crate) retention_days: BTreeMap<String, Option<i32>>,
}

impl Known {
    /// The tags of what is tagged as ours, where they are known.
    pub(crate) fn tags_of(&self, arn: &str) -> Option<Tags> {
        self.tags.get(arn).cloned()
    }

    /// Whether it matters whether a resource holds data.
    pub(crate) fn data_matters(&self, id: &ResourceId) -> bool {
        !self.wanted.contains(id)
    }
}
