//! What was changed by hand since the last apply. Pure.

use serde::Serialize;
use serde_json::{Value, json};

use crate::diff::changes;
use crate::observe::Observation;
use crate::plan::Change;
use crate::record::{Record, recorded};
use crate::resource::{Owner, ResourceId};

/// What is not as the last apply left it.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// The account, 12 digits.
    pub account: String,
    /// The region.
    pub region: String,
    /// The workflow.
    pub workflow: String,
    /// Its environment, where there is one.
    pub environment: Option<String>,
    /// Who applied last, and when.
    pub holder: String,
    /// The resources that are otherwise; none: there is no drift.
    pub found: Vec<Difference>,
    /// Resources that were not looked at, since the record has no room for them.
    pub left_out: u64,
}

/// One resource that is not as it was left.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Which.
    pub id: ResourceId,
    /// What became of it.
    pub what: Became,
    /// Which fields were changed, from what to what.
    pub changes: Vec<Change>,
}

/// What became of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Became {
    /// It is there, and otherwise.
    Changed,
    /// It is not there any more, or no longer tagged as ours.
    Gone,
    /// It is new, and tagged as ours or within what is.
    Added,
}

impl Became {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Gone => "gone",
            Self::Added => "added",
        }
    }

    pub(crate) const fn sign(self) -> char {
        match self {
            Self::Changed => '~',
            Self::Gone => '-',
            Self::Added => '+',
        }
    }
}

impl Drift {
    /// Whether all is as the last apply left it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The form for programs. Values of environment variables are not in it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let found = self.found.iter().map(|difference| {
            json!({
                "became": difference.what,
                "kind": difference.id.kind,
                "name": difference.id.name,
                "changes": difference.changes.iter().map(Change::to_json).collect::<Vec<_>>(),
            })
        });
        json!({
            "account": self.account,
            "region": self.region,
            "workflow": self.workflow,
            "environment": self.environment,
            "applied_by": self.holder,
            "left_out": self.left_out,
            "drift": found.collect::<Vec<_>>(),
        })
    }
}

/// Compares what there is with what the last apply left.
#[must_use]
pub fn drift(owner: &Owner, record: &Record, observation: &Observation) -> Drift {
    let mut found = Vec::new();
    for (id, left) in &record.resources {
        let Some(observed) = observation.find(id) else {
            found.push(Difference { id: id.clone(), what: Became::Gone, changes: Vec::new() });
            continue;
        };
        let changes = changes(left, &recorded(&observed.properties));
        if !changes.is_empty() {
            found.push(Difference { id: id.clone(), what: Became::Changed, changes });
        }
    }
    for observed in &observation.resources {
        let id = observed.id();
        // What holds data stays where it is no longer wanted, and is in no record then.
        let is_known = record.left_out > 0 || record.resources.contains_key(&id);
        if !is_known && !id.kind.may_hold_data() {
            found.push(Difference { id, what: Became::Added, changes: Vec::new() });
        }
    }
    Drift {
        account: owner.place.account.clone(),
        region: owner.place.region.clone(),
        workflow: owner.deployment.workflow.clone(),
        environment: owner.deployment.environment.clone(),
        holder: record.holder.clone(),
        found,
        left_out: record.left_out,
    }
}
