//! The whole way, for those who only want to plan, apply, destroy or look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use aws_config::SdkConfig;
use bellwire_schema::Deployment;
use bellwire_schema::workflow::Workflow;

use crate::apply::{Applied, ApplyError, Executor, Progress};
use crate::aws::{Aws, PlaceError, check_place, place_with};
use crate::calls::Calls;
use crate::check::check;
use crate::desired::desired;
use crate::diff::{destruction, diff};
use crate::drift::{Drift, drift};
use crate::elsewhere;
use crate::error::CallError;
use crate::export::{self, Template};
use crate::foreign;
use crate::gather;
use crate::guards;
use crate::inputs::{Code, Inputs};
use crate::kind::queue;
use crate::lookup;
use crate::observe::{Look, Observation, observe};
use crate::outputs::{Outputs, outputs};
use crate::plan::Plan;
use crate::problem::{Problem, Problems};
use crate::prove::{self, Proof, Trial};
use crate::record;
use crate::resource::{Kind, Observed, Owner, Resource};
use crate::rollback::{self, Rollback, RollbackError};
use crate::secured;

/// Provisions one workflow in one place.
#[derive(Debug)]
pub struct Provisioner {
    aws: Aws,
    calls: Calls,
    owner: Owner,
    workflow: Workflow,
    adopt: BTreeSet<String>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// Where to deploy is not known, or is the wrong place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Something has to be mended first.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// AWS could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Why it is not known what was changed by hand.
#[derive(Debug, thiserror::Error)]
pub enum DriftError {
    /// No apply is recorded.
    #[error("no apply of this workflow is recorded here; bellwire apply records one")]
    NothingApplied,
    /// The last apply was interrupted, or some of its steps failed.
    #[error("the last apply was not finished ({holder}); apply again, and look then")]
    Unfinished {
        /// Whose it was.
        holder: String,
    },
    /// AWS could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Provisioner {
    /// Finds out where the credentials in use lead to, and whether the workflow
    /// belongs there.
    ///
    /// # Errors
    /// When there are no credentials or no region, when AWS does not answer, or
    /// when the workflow file names another region or account.
    pub async fn connect(
        config: &SdkConfig,
        workflow: Workflow,
        environment: Option<&str>,
    ) -> Result<Self, ProvisionError> {
        let calls = Calls::default();
        let place = place_with(config, &calls).await?;
        check_place(&workflow, &place)?;
        let deployment = Deployment::new(&workflow.name, environment);
        let aws = Aws::new(config, &calls);
        let owner = Owner::new(deployment, place, &workflow.security);
        Ok(Self { aws, calls, owner, workflow, adopt: BTreeSet::new() })
    }

    /// The same, which takes over the resources of these names where they have a name of
    /// ours and not our tags, and refuses all others.
    #[must_use]
    pub fn adopting(self, names: &[String]) -> Self {
        Self { adopt: names.iter().cloned().collect(), ..self }
    }

    /// What is called, from now on or so far.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// What decides what is ours.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The workflow that is provisioned.
    #[must_use]
    pub fn workflow(&self) -> &Workflow {
        &self.workflow
    }

    /// What has to be done so that all is as the workflow file says.
    ///
    /// # Errors
    /// All problems that stand in the way, or the call that failed.
    pub async fn plan(&self, inputs: &Inputs) -> Result<Plan, ProvisionError> {
        check(&self.owner, &self.workflow, inputs)?;
        let mut problems = foreign::check(&self.aws, &self.owner, &self.workflow).await?;
        let secured = secured::check(&self.aws, &self.owner, &self.workflow).await?;
        problems.extend(secured.problems);
        let looked_up = lookup::check(&self.aws, &self.owner, &self.workflow).await?;
        problems.extend(looked_up.problems);
        Problems::none_of(problems)?;
        let desired = desired(&self.owner, &self.workflow, inputs);
        Problems::none_of(self.unknown_adoptions(&desired))?;
        let look = Look { adopt: &self.adopt, is_data_of_wanted_told: false };
        let observation = observe(&self.aws, &self.owner, &desired, look).await?;
        let mut plan = diff(&self.owner, &desired, &observation)?;
        plan.notes.extend(secured.notes);
        plan.notes.extend(looked_up.notes);
        plan.notes.extend(elsewhere::notes(&self.owner, &self.workflow));
        plan.notes.extend(gather::notes(&self.owner, &self.workflow));
        plan.notes.extend(guards::notes(&self.owner, &self.workflow));
        Ok(plan)
    }

    /// All that the workflow file asks for, as a CloudFormation template. Nothing that is
    /// there is looked at.
    ///
    /// # Errors
    /// All problems of the workflow file and its artifacts.
    pub fn export(&self, inputs: &Inputs) -> Result<Template, ProvisionError> {
        check(&self.owner, &self.workflow, inputs)?;
        let desired = desired(&self.owner, &self.workflow, inputs);
        Ok(export::cloudformation(&self.owner, &self.workflow, &desired))
    }

    /// What has to be done so that nothing of ours is left, but for data that
    /// `delete_data` does not name.
    ///
    /// # Errors
    /// The call that failed.
    pub async fn plan_destroy(&self, delete_data: &[String]) -> Result<Plan, ProvisionError> {
        let observation = self.observe().await?;
        Ok(destruction(&self.owner, &observation, delete_data))
    }

    /// Executes a plan, as it stands.
    ///
    /// `holder` is what another apply is told of this one; each step is told to
    /// `progress`; once `stop` is set no further step is begun.
    ///
    /// # Errors
    /// When another apply is under way, or with all steps that failed.
    pub async fn apply(
        &self,
        plan: &Plan,
        code: &Code,
        holder: &str,
        progress: &Progress<'_>,
        stop: &AtomicBool,
    ) -> Result<Applied, ApplyError> {
        let (aws, owner) = (&self.aws, &self.owner);
        Executor { aws, owner, code, holder, progress, stop }.execute(plan).await
    }

    /// What was changed by hand since the last apply. It takes no artifacts.
    ///
    /// # Errors
    /// Where no apply is recorded, or the last one was not done whole; or the call that
    /// failed.
    pub async fn drift(&self) -> Result<Drift, DriftError> {
        let record = record::read(&self.aws, &self.owner.deployment.ledger_table()).await?;
        let record = record.ok_or(DriftError::NothingApplied)?;
        if !record.seen.is_whole {
            return Err(DriftError::Unfinished { holder: record.holder });
        }
        let observation = self.observe().await?;
        Ok(drift(&self.owner, &record, &observation))
    }

    /// What a rollback would do: to the versions before the last apply; or, where functions
    /// are named, of each to the version before the one that serves.
    ///
    /// # Errors
    /// Where there is nothing to go back to, or the call that failed.
    pub async fn plan_rollback(&self, functions: &[String]) -> Result<Rollback, RollbackError> {
        rollback::plan(&self.aws, &self.owner, functions).await
    }

    /// Moves the aliases back.
    ///
    /// # Errors
    /// When an apply is under way, or the call that failed.
    pub async fn roll_back(&self, rollback: &Rollback, holder: &str) -> Result<(), RollbackError> {
        rollback::execute(&self.aws, &self.owner, rollback, holder).await
    }

    /// Whether an event gets through what a plan has made.
    ///
    /// # Errors
    /// The call that failed.
    pub async fn prove(&self, plan: &Plan, trial: &Trial) -> Result<Proof, CallError> {
        prove::prove(&self.aws, &self.owner, &self.workflow, plan, trial).await
    }

    /// Names that were asked to be taken over, and that nothing of the workflow has.
    fn unknown_adoptions(&self, desired: &[Resource]) -> Vec<Problem> {
        let names: BTreeSet<String> = desired.iter().map(|resource| resource.id().name).collect();
        let unknown = self.adopt.difference(&names).map(|name| {
            let cause = "nothing of this workflow has that name";
            let remedy = "write it as the problem did that asked for it";
            Problem::new(format!("--adopt {name}"), cause, remedy)
        });
        unknown.collect()
    }

    /// What is deployed; nothing in it where nothing is.
    ///
    /// # Errors
    /// The call that failed.
    pub async fn outputs(&self) -> Result<Outputs, ProvisionError> {
        let observation = self.observe().await?;
        let mut urls = BTreeMap::new();
        let ids = observation.resources.iter().map(Observed::id);
        for id in ids.filter(|id| id.kind == Kind::Queue) {
            if let Some(url) = queue::url_of(&self.aws, &id.name).await? {
                urls.insert(id.name, url);
            }
        }
        Ok(outputs(&self.owner, &observation, &urls))
    }

    /// What there is, by the names of what there should be: for that no artifact
    /// is needed.
    async fn observe(&self) -> Result<Observation, CallError> {
        let names = desired(&self.owner, &self.workflow, &Inputs::default());
        let look = Look { adopt: &BTreeSet::new(), is_data_of_wanted_told: true };
        observe(&self.aws, &self.owner, &names, look).await
    }
}
