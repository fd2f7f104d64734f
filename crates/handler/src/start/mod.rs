//! Starting a run under what the ledger holds, one file a kind of target, each with
//! what it guarantees where whoever starts dies on the way.

#![cfg_attr(
    not(all(
        feature = "target-batch",
        feature = "target-lambda",
        feature = "target-sagemaker-pipeline",
        feature = "target-sns",
        feature = "target-sqs",
        feature = "target-step-functions",
    )),
    allow(dead_code, unused_variables, reason = "some of this only some targets need")
)]

mod message;

#[cfg(feature = "target-batch")]
mod batch;
#[cfg(feature = "target-lambda")]
mod lambda;
#[cfg(feature = "target-sagemaker-pipeline")]
mod sagemaker_pipeline;
#[cfg(feature = "target-sns")]
mod sns;
#[cfg(feature = "target-sqs")]
mod sqs;
#[cfg(feature = "target-step-functions")]
mod step_functions;

use std::collections::BTreeMap;
use std::fmt::Debug;

use bellwire_ledger::Start;
use bellwire_schema::completion::RunCompletion;
use bellwire_schema::workflow::TargetKind;
use bellwire_telemetry::semconv::{
    AWS_STEP_FUNCTIONS_STATE_MACHINE_ARN, RPC_METHOD, RPC_SYSTEM_NAME,
};
use futures::future::BoxFuture;
use jiff::Timestamp;
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info_span};

use crate::clients::Clients;

/// A kind of thing that can be started.
pub(crate) trait RunTarget: Debug + Send + Sync {
    /// The call that starts one, by its service and name: `SFN/StartExecution`.
    fn method(&self) -> &'static str;

    /// Starts what is claimed, or finds that it was started.
    fn start<'a>(
        &'a self,
        start: &'a Start,
        attempt: Attempt,
    ) -> BoxFuture<'a, Result<Accepted, StartError>>;

    /// Asks after a run. Who accepts and tells nothing more has none to ask after.
    fn state_of<'a>(
        &'a self,
        _start: &'a Start,
        _run_arn: &'a str,
    ) -> BoxFuture<'a, Result<RunState, StartError>> {
        Box::pin(async { Ok(RunState::Unknown) })
    }
}

/// Who makes a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Whoever claimed it; or, of a target that refuses a second start, anybody.
    Claimed,
    /// Somebody who took over another's lease: it may have been started before.
    TakenOver,
}

/// A start that the target has accepted, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The run's ARN. A message and an asynchronous invocation have none by AWS: theirs
    /// is the target's, with `/message/` or `/invocation/` and AWS's id behind it.
    pub(crate) run_arn: String,
    /// When the target says that it began; `None` where it does not say.
    pub(crate) started_at: Option<Timestamp>,
}

/// What a target says of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RunState {
    /// It goes on.
    Running,
    /// It ended.
    Ended(Box<RunCompletion>),
    /// There is none, or none any more: deleted, or forgotten after its time.
    Unknown,
}

/// A start that the target did not accept.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It would refuse it again.
    #[error("{operation} on {target} was refused for good: {message}")]
    Refused {
        /// The call.
        operation: &'static str,
        /// The target's ARN.
        target: String,
        /// What AWS says.
        message: String,
    },
    /// It may accept it later.
    #[error("{operation} on {target} did not succeed: {message}")]
    Unavailable {
        /// The call.
        operation: &'static str,
        /// The target's ARN.
        target: String,
        /// What AWS or the SDK says.
        message: String,
    },
    /// This handler was compiled for a workflow that no longer starts such targets.
    #[error(
        "this handler was built without what {target} needs; build it with all targets to finish what was begun: cargo xtask build --targets all"
    )]
    NotCompiled {
        /// The target's ARN.
        target: String,
    },
}

/// The targets that this handler was compiled with.
#[derive(Debug)]
pub(crate) struct Targets {
    by_kind: BTreeMap<TargetKind, Box<dyn RunTarget>>,
}

/// Whether this handler was compiled with a kind of target.
pub(crate) const fn is_compiled(kind: TargetKind) -> bool {
    match kind {
        TargetKind::StepFunctions => cfg!(feature = "target-step-functions"),
        TargetKind::SagemakerPipeline => cfg!(feature = "target-sagemaker-pipeline"),
        TargetKind::Batch => cfg!(feature = "target-batch"),
        TargetKind::Lambda => cfg!(feature = "target-lambda"),
        TargetKind::Sns => cfg!(feature = "target-sns"),
        TargetKind::Sqs => cfg!(feature = "target-sqs"),
    }
}

impl Targets {
    pub(crate) fn new(clients: &Clients) -> Self {
        let targets: Vec<(TargetKind, Box<dyn RunTarget>)> = vec![
            #[cfg(feature = "target-batch")]
            (TargetKind::Batch, Box::new(batch::Batch::new(clients.batch.clone()))),
            #[cfg(feature = "target-lambda")]
            (TargetKind::Lambda, Box::new(lambda::Lambda::new(clients.lambda.clone()))),
            #[cfg(feature = "target-sagemaker-pipeline")]
            (
                TargetKind::SagemakerPipeline,
                Box::new(sagemaker_pipeline::SagemakerPipeline::new(clients.sagemaker.clone())),
            ),
            #[cfg(feature = "target-sns")]
            (TargetKind::Sns, Box::new(sns::Sns::new(clients.sns.clone()))),
            #[cfg(feature = "target-sqs")]
            (TargetKind::Sqs, Box::new(sqs::Sqs::new(clients.sqs.clone()))),
            #[cfg(feature = "target-step-functions")]
            (
                TargetKind::StepFunctions,
                Box::new(step_functions::StepFunctions::new(clients.sfn.clone())),
            ),
        ];
        Self { by_kind: targets.into_iter().collect() }
    }

    fn of(&self, start: &Start) -> Result<&dyn RunTarget, StartError> {
        TargetKind::of_arn(&start.target)
            .and_then(|kind| self.by_kind.get(&kind))
            .map(AsRef::as_ref)
            .ok_or_else(|| StartError::NotCompiled { target: start.target.clone() })
    }

    /// Starts what is claimed, or finds that it was started, under a client's span.
    pub(crate) async fn start(
        &self,
        start: &Start,
        attempt: Attempt,
    ) -> Result<Accepted, StartError> {
        let target = self.of(start)?;
        target.start(start, attempt).instrument(span_of(target.method(), start)).await
    }

    /// Asks after a run.
    pub(crate) async fn state_of(
        &self,
        start: &Start,
        run_arn: &str,
    ) -> Result<RunState, StartError> {
        self.of(start)?.state_of(start, run_arn).await
    }
}

fn span_of(method: &'static str, start: &Start) -> Span {
    let call = method.rsplit('/').next().unwrap_or_default();
    let name = start.target.rsplit([':', '/']).next().unwrap_or_default();
    let span = info_span!(
        "start call",
        otel.name = format!("{call} {name}"),
        otel.kind = "client",
        { RPC_SYSTEM_NAME } = "aws-api",
        { RPC_METHOD } = method,
        { AWS_STEP_FUNCTIONS_STATE_MACHINE_ARN } = Empty,
    );
    if TargetKind::of_arn(&start.target) == Some(TargetKind::StepFunctions) {
        span.record(AWS_STEP_FUNCTIONS_STATE_MACHINE_ARN, &start.target);
    }
    span
}

/// Every table of errors that is compiled in.
#[cfg(test)]
pub(crate) const TABLES: &[&crate::call_errors::CallErrors] = &[
    #[cfg(feature = "target-batch")]
    &batch::SUBMIT_JOB,
    #[cfg(feature = "target-batch")]
    &batch::LIST_JOBS,
    #[cfg(feature = "target-batch")]
    &batch::DESCRIBE_JOBS,
    #[cfg(feature = "target-lambda")]
    &lambda::INVOKE,
    #[cfg(feature = "target-sagemaker-pipeline")]
    &sagemaker_pipeline::START_PIPELINE_EXECUTION,
    #[cfg(feature = "target-sagemaker-pipeline")]
    &sagemaker_pipeline::DESCRIBE_PIPELINE_EXECUTION,
    #[cfg(feature = "target-step-functions")]
    &step_functions::START_EXECUTION,
    #[cfg(feature = "target-step-functions")]
    &step_functions::DESCRIBE_EXECUTION,
];
