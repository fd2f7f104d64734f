//! The plan: plain data, made by [`crate::diff`], shown by its `Display`, and
//! executed without any further choice.

use serde::Serialize;
use serde_json::{Value, json};

use crate::record::RecordSeen;
use crate::resource::{Foreign, Kind, Owner, Properties, ResourceId};
use crate::statements;

/// What will be done, to what, where; and what will not be touched.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The account, 12 digits.
    pub account: String,
    /// The region.
    pub region: String,
    /// The workflow.
    pub workflow: String,
    /// Its environment, where there is one.
    pub environment: Option<String>,
    /// What will be done, each step after those that it depends on.
    pub steps: Vec<Step>,
    /// What is as it should be.
    pub unchanged: Vec<ResourceId>,
    /// What is ours and stays although nothing asks for it, because it holds data.
    pub kept: Vec<Kept>,
    /// What is not ours and stays, in documents that we write to.
    pub foreign: Vec<Foreign>,
    /// What a person should know.
    pub notes: Vec<Note>,
    /// All that there should be once it is done.
    pub(crate) wanted: Vec<Properties>,
    /// The last apply's record, as it was when this was made.
    pub(crate) record: RecordSeen,
}

/// One thing that will be done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// To what.
    pub id: ResourceId,
    /// What.
    pub action: Action,
    /// Which fields change, from what to what.
    pub changes: Vec<Change>,
    /// Why it cannot be changed in place.
    pub reason: Option<String>,
    /// How it should be; `None` for a deletion.
    pub desired: Option<Properties>,
    /// How it is; `None` for a creation.
    pub observed: Option<Properties>,
    /// Whether a deletion takes with it the data that is there.
    pub with_data: bool,
    /// Whether it takes over what was not ours: then the tags come first.
    pub adopts: bool,
    /// Which steps must have been done before.
    pub after: Vec<ResourceId>,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is not there yet.
    Create,
    /// It is there, but not as it should be.
    Update,
    /// It has to be deleted and made anew.
    Replace,
    /// It should not be there any more.
    Delete,
}

impl Action {
    /// The sign that stands before it.
    #[must_use]
    pub const fn sign(self) -> char {
        match self {
            Self::Create => '+',
            Self::Update => '~',
            Self::Replace => '±',
            Self::Delete => '-',
        }
    }

    /// The word that stands beside the sign.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
        }
    }
}

/// One field that changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Its path, joined by dots: `release.memory_mb`.
    pub field: String,
    /// What it is; `null`: absent.
    pub from: Value,
    /// What it will be; `null`: absent.
    pub to: Value,
}

impl Change {
    pub(crate) fn to_json(&self) -> Value {
        let last = self.field.rsplit('.').next().unwrap_or_default();
        if !statements::FIELDS.contains(&last) {
            return json!(self);
        }
        let (removed, added) = statements::difference(&self.from, &self.to);
        json!({"field": self.field, "removed": removed, "added": added})
    }
}

/// Something of ours that stays although nothing asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// What it is.
    pub id: ResourceId,
    /// Why it stays.
    pub reason: String,
}

/// Something to know of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Of which.
    pub id: ResourceId,
    /// What.
    pub text: String,
}

impl Plan {
    /// A plan for this workflow and place, with nothing in it.
    #[must_use]
    pub(crate) fn empty(owner: &Owner) -> Self {
        Self {
            account: owner.place.account.clone(),
            region: owner.place.region.clone(),
            workflow: owner.deployment.workflow.clone(),
            environment: owner.deployment.environment.clone(),
            steps: Vec::new(),
            unchanged: Vec::new(),
            kept: Vec::new(),
            foreign: Vec::new(),
            notes: Vec::new(),
            wanted: Vec::new(),
            record: RecordSeen::default(),
        }
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether there is nothing to do, and the last apply left nothing unfinished: an
    /// apply of any other plan, even of one without steps, has something to write down.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.is_empty() && (self.record.is_whole || self.wanted.is_empty())
    }

    /// How many steps do this.
    #[must_use]
    pub fn count(&self, action: Action) -> usize {
        self.steps.iter().filter(|step| step.action == action).count()
    }

    /// Whether it has this resource in it as one that stays as it is.
    pub(crate) fn has_unchanged(&self, kind: Kind) -> bool {
        self.unchanged.iter().any(|id| id.kind == kind)
    }

    /// The form for programs. It has the changes, without what they are part of; of a
    /// policy the statements that go and come. Values of environment variables are not in it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let id = |id: &ResourceId| json!({"kind": id.kind, "name": id.name});
        let steps = self.steps.iter().map(|step| {
            json!({
                "action": step.action,
                "kind": step.id.kind,
                "name": step.id.name,
                "changes": step.changes.iter().map(Change::to_json).collect::<Vec<_>>(),
                "reason": step.reason,
                "with_data": step.with_data,
                "adopts": step.adopts,
            })
        });
        let kept = self
            .kept
            .iter()
            .map(|kept| json!({"kind": kept.id.kind, "name": kept.id.name, "reason": kept.reason}));
        let notes = self
            .notes
            .iter()
            .map(|note| json!({"kind": note.id.kind, "name": note.id.name, "text": note.text}));
        let foreign = self.foreign.iter().map(|foreign| {
            json!({"kind": foreign.within.kind, "within": foreign.within.name, "name": foreign.name})
        });
        json!({
            "account": self.account,
            "region": self.region,
            "workflow": self.workflow,
            "environment": self.environment,
            "steps": steps.collect::<Vec<_>>(),
            "unchanged": self.unchanged.iter().map(id).collect::<Vec<_>>(),
            "kept": kept.collect::<Vec<_>>(),
            "foreign": foreign.collect::<Vec<_>>(),
            "notes": notes.collect::<Vec<_>>(),
        })
    }
}
