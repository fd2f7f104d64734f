//! What a command says when it fails.

use std::path::PathBuf;

use bellwire_infra::apply::ApplyError;
use bellwire_infra::rollback::RollbackError;
use bellwire_infra::saved::SavedPlanError;
use bellwire_infra::{CallError, DriftError, PlaceError, ProvisionError};
use bellwire_ledger::LedgerError;
use bellwire_schema::workflow::Problems;

/// Why a command failed: its text says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("cannot read {}: {source}; name the workflow file with --workflow", file.display())]
    NoWorkflow { file: PathBuf, source: std::io::Error },
    #[error("{}", problems.display(file))]
    Workflow { file: String, problems: Problems },
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Drift(#[from] DriftError),
    #[error(transparent)]
    Rollback(#[from] RollbackError),
    #[error(transparent)]
    SavedPlan(#[from] SavedPlanError),
    #[error("cannot write the plan to {}: {source}", file.display())]
    NotSaved { file: PathBuf, source: std::io::Error },
    #[error("{} is no plan that was saved: {cause}; bellwire plan --out FILE saves one", file.display())]
    NoPlan { file: PathBuf, cause: String },
    #[error("all was applied, and could not be proven: {0}")]
    Prove(CallError),
    #[error("what was applied does not work; {fate}")]
    NotProven { fate: &'static str },
    #[error("this asks before it changes anything, and there is nobody to ask; add --yes")]
    NobodyToAsk,
    #[error("not confirmed; nothing was changed")]
    NotConfirmed,
    #[error(
        "nothing of {what} is deployed in account {account}, region {region}; bellwire apply makes it"
    )]
    NothingDeployed { what: String, account: String, region: String },
    #[error("cannot read the event from {place}: {cause}")]
    NoEvent { place: String, cause: String },
    #[error("`--data` is not JSON: {cause}")]
    DataNotJson { cause: String },
    #[error("the publisher at {url} did not take the event: {cause}")]
    Publisher { url: String, cause: String },
    #[error("the event cannot be published to {topic}: {cause}")]
    Topic { topic: String, cause: String },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("`{component}` has no role; known: {}", known.join(", "))]
    UnknownComponent { component: String, known: Vec<String> },
    #[error(
        "cannot assume {role}: {cause}; its trust policy says who may, see [publisher] trusted_by"
    )]
    NotAssumed { role: String, cause: String },
}
