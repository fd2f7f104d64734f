//! The whole way, for those who only want to plan, apply, destroy or look.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use aws_config::SdkConfig;
use bellwire_schema::Deployment;
use bellwire_schema::workflow::Workflow;

use crate::apply::{Applied, ApplyError, Executor, Progress};
use crate::aws::{Aws, PlaceError, check_place, place_of};
use crate::check::check;
use crate::desired::desired;
use crate::diff::{destruction, diff};
use crate::error::CallError;
use crate::foreign;
use crate::gather;
use crate::guards;
use crate::inputs::{Code, Inputs};
use crate::kind::queue;
use crate::observe::{Observation, observe};
use crate::outputs::{Outputs, outputs};
use crate::plan::Plan;
use crate::problem::Problems;
use crate::resource::{Kind, Observed, Owner};

/// Provisions one workflow in one place.
#[derive(Debug)]
pub struct Provisioner {
    aws: Aws,
    owner: Owner,
    workflow: Workflow,
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
        let place = place_of(config).await?;
        check_place(&workflow, &place)?;
        let deployment = Deployment::new(&workflow.name, environment);
        Ok(Self { aws: Aws::new(config), owner: Owner { deployment, place }, workflow })
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
        Problems::none_of(foreign::check(&self.aws, &self.owner, &self.workflow).await?)?;
        let desired = desired(&self.owner, &self.workflow, inputs);
        let observation = observe(&self.aws, &self.owner, &desired).await?;
        let mut plan = diff(&self.owner, &desired, &observation)?;
        plan.notes.extend(gather::notes(&self.owner, &self.workflow));
        plan.notes.extend(guards::notes(&self.owner, &self.workflow));
        Ok(plan)
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
        observe(&self.aws, &self.owner, &names).await
    }
}
