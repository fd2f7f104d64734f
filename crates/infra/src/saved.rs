//! A plan on disk, to be applied later as it was shown, or not at all. Pure.
//!
//! The file has what is shown, and of each step a hash of all that it does: neither code,
//! nor the value of any environment variable. To apply it, a plan is made anew, and has to
//! be the same step by step.

use std::fmt;

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::plan::{Plan, Step};
use crate::resource::ResourceId;

/// The form of the file. A file of another one is refused.
const FORMAT: u32 = 1;

/// A plan as it is saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedPlan {
    /// The form of the file.
    format: u32,
    /// The account, 12 digits.
    account: String,
    /// The region.
    region: String,
    /// The workflow.
    workflow: String,
    /// Its environment, where there is one.
    environment: Option<String>,
    /// The names that it takes over.
    pub adopt: Vec<String>,
    /// Where functions send traces, in place of the workflow file's.
    pub otlp_endpoint: Option<String>,
    /// The applies that there had been.
    generation: u64,
    /// What will be done.
    steps: Vec<SavedStep>,
    /// The form for programs, of the plan as it was shown.
    shown: Value,
}

/// One step as it is saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SavedStep {
    id: ResourceId,
    action: String,
    /// SHA-256 of how it is, how it will be, and what goes with it, in base64.
    sha256: String,
}

impl SavedStep {
    fn of(step: &Step) -> Self {
        let all = json!([step.action, step.desired, step.observed, step.with_data, step.adopts]);
        let sha256 =
            base64::engine::general_purpose::STANDARD.encode(Sha256::digest(all.to_string()));
        Self { id: step.id.clone(), action: step.action.word().to_owned(), sha256 }
    }
}

/// Why a saved plan is not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SavedPlanError {
    /// The file has another form.
    #[error("the plan is of another version of bellwire (form {found}, not {FORMAT}); plan again")]
    Format {
        /// Its form.
        found: u32,
    },
    /// It is for somewhere else.
    #[error(
        "the plan is for {planned}, and this is {here}; switch AWS_PROFILE, AWS_REGION, --workflow or --env, or plan again"
    )]
    Elsewhere {
        /// What it is for.
        planned: String,
        /// What this is.
        here: String,
    },
    /// It would not do what was shown.
    #[error("{}", Moved { moved })]
    Moved {
        /// Which steps are otherwise by now, and how.
        moved: Vec<String>,
    },
}

struct Moved<'a> {
    moved: &'a [String],
}

impl fmt::Display for Moved<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the world has moved since this was planned: AWS, the workflow file or an artifact was changed"
        )?;
        for line in self.moved {
            write!(f, "\n  {line}")?;
        }
        write!(f, "\n\nNothing was changed. Plan again, and look at it again.")
    }
}

impl SavedPlan {
    /// What has to be saved of a plan, and of the options that it was made with.
    #[must_use]
    pub fn of(plan: &Plan, adopt: &[String], otlp_endpoint: Option<&str>) -> Self {
        Self {
            format: FORMAT,
            account: plan.account.clone(),
            region: plan.region.clone(),
            workflow: plan.workflow.clone(),
            environment: plan.environment.clone(),
            adopt: adopt.to_vec(),
            otlp_endpoint: otlp_endpoint.map(str::to_owned),
            generation: plan.record.generation,
            steps: plan.steps.iter().map(SavedStep::of).collect(),
            shown: plan.to_json(),
        }
    }

    fn place(&self) -> String {
        let Self { account, region, workflow, .. } = self;
        let environment = self.environment.as_deref().unwrap_or("none");
        format!(
            "account {account}, region {region}, workflow {workflow}, environment {environment}"
        )
    }

    /// Whether a plan that was made anew is this one.
    ///
    /// # Errors
    /// When it is for somewhere else, or would do anything else.
    pub fn check(&self, now: &Plan) -> Result<(), SavedPlanError> {
        if self.format != FORMAT {
            return Err(SavedPlanError::Format { found: self.format });
        }
        let fresh = Self::of(now, &self.adopt, self.otlp_endpoint.as_deref());
        let (planned, here) = (self.place(), fresh.place());
        if planned != here {
            return Err(SavedPlanError::Elsewhere { planned, here });
        }
        let moved = self.moved(&fresh);
        if moved.is_empty() { Ok(()) } else { Err(SavedPlanError::Moved { moved }) }
    }

    fn moved(&self, fresh: &Self) -> Vec<String> {
        let find =
            |plan: &Self, id: &ResourceId| plan.steps.iter().find(|step| step.id == *id).cloned();
        let mut moved = Vec::new();
        for step in &self.steps {
            let (id, action) = (&step.id, &step.action);
            match find(fresh, id) {
                None => moved.push(format!("{id}: was to {action}, and is as it should be now")),
                Some(now) if now.action != *action => {
                    moved.push(format!("{id}: was to {action}, and would {} now", now.action));
                }
                Some(now) if now != *step => {
                    moved.push(format!("{id}: would {action} otherwise than was shown"));
                }
                Some(_) => {}
            }
        }
        for step in fresh.steps.iter().filter(|step| find(self, &step.id).is_none()) {
            moved.push(format!("{}: was to stay, and would {} now", step.id, step.action));
        }
        if moved.is_empty() && self.generation != fresh.generation {
            moved.push(format!(
                "{} more applies were done, after which the same would be done",
                fresh.generation.saturating_sub(self.generation)
            ));
        }
        moved
    }
}
