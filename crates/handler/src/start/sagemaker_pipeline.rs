//! Executions of SageMaker pipelines.
//!
//! **On a crash:** one execution for one start. The start key is the request's
//! `ClientRequestToken`, and a second request with it and the same parameters answers
//! with the first one's execution; the parameters are the ledger's, so that they are the
//! same. AWS does not say for how long it remembers a token: what is recorded the ledger
//! itself keeps from being started again, so that the token only has to last until the
//! sweep has finished what was left unfinished, five minutes on.

use std::collections::BTreeMap;

use aws_sdk_sagemaker::Client;
use aws_sdk_sagemaker::error::ProvideErrorMetadata as _;
use aws_sdk_sagemaker::types::Parameter;
use bellwire_ledger::Start;
use bellwire_schema::completion::{RunCompletion, RunResource, one_pipeline_arn};
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Accepted, Attempt, RunState, RunTarget, StartError};
use crate::call_errors::CallErrors;
use crate::destination::parameters_of;

/// `ResourceLimitExceeded` passes as other executions end. A token that comes with other
/// parameters, and a parameter that the pipeline does not name, is a
/// `ValidationException`.
pub(super) const START_PIPELINE_EXECUTION: CallErrors = CallErrors {
    operation: "sagemaker:StartPipelineExecution",
    source: "Amazon SageMaker API reference, StartPipelineExecution",
    permanent: &["ResourceNotFound", "ValidationException"],
    retryable: &["ConflictException", "ResourceLimitExceeded"],
};

/// `ResourceNotFound` is an answer: see [`SagemakerPipeline::describe`].
pub(super) const DESCRIBE_PIPELINE_EXECUTION: CallErrors = CallErrors {
    operation: "sagemaker:DescribePipelineExecution",
    source: "Amazon SageMaker API reference, DescribePipelineExecution",
    permanent: &["ValidationException"],
    retryable: &[],
};

/// The client of SageMaker.
#[derive(Debug)]
pub(super) struct SagemakerPipeline {
    client: Client,
}

impl RunTarget for SagemakerPipeline {
    fn method(&self) -> &'static str {
        "SageMaker/StartPipelineExecution"
    }

    fn start<'a>(
        &'a self,
        start: &'a Start,
        _attempt: Attempt,
    ) -> BoxFuture<'a, Result<Accepted, StartError>> {
        Box::pin(self.start_pipeline_execution(start))
    }

    fn state_of<'a>(
        &'a self,
        start: &'a Start,
        run_arn: &'a str,
    ) -> BoxFuture<'a, Result<RunState, StartError>> {
        Box::pin(self.describe(start, run_arn))
    }
}

impl SagemakerPipeline {
    pub(super) const fn new(client: Client) -> Self {
        Self { client }
    }

    async fn start_pipeline_execution(&self, start: &Start) -> Result<Accepted, StartError> {
        let output = self
            .client
            .start_pipeline_execution()
            .pipeline_name(&start.target)
            .pipeline_execution_display_name(&start.name)
            .set_pipeline_parameters(Some(parameters(start)))
            .client_request_token(start.start_key.as_str())
            .send()
            .await
            .map_err(|error| START_PIPELINE_EXECUTION.error_of(start, &error))?;
        match output.pipeline_execution_arn {
            Some(arn) => Ok(Accepted { run_arn: one_pipeline_arn(&arn), started_at: None }),
            None => Err(StartError::Unavailable {
                operation: START_PIPELINE_EXECUTION.operation,
                target: start.target.clone(),
                message: "the answer names no execution".to_owned(),
            }),
        }
    }

    async fn describe(&self, start: &Start, run_arn: &str) -> Result<RunState, StartError> {
        let describe = self.client.describe_pipeline_execution().pipeline_execution_arn(run_arn);
        let run = match describe.send().await {
            Ok(run) => run,
            Err(error) if error.code() == Some("ResourceNotFound") => return Ok(RunState::Unknown),
            Err(error) => return Err(DESCRIBE_PIPELINE_EXECUTION.error_of(start, &error)),
        };
        let pipeline = run.pipeline_arn.as_deref().unwrap_or(&start.target);
        let resource = RunResource::Pipeline(one_pipeline_arn(pipeline));
        let word = run.pipeline_execution_status.as_ref().map_or("", |status| status.as_str());
        let Some(status) = resource.status_of(word) else {
            return Ok(RunState::Running);
        };
        Ok(RunState::Ended(Box::new(RunCompletion {
            run_arn: run_arn.to_owned(),
            resource,
            status,
            redrive_count: 0,
            started_at: run.creation_time.as_ref().and_then(timestamp),
            stopped_at: run.last_modified_time.as_ref().and_then(timestamp),
            input: None,
            output: None,
            metrics: BTreeMap::new(),
            artifacts: Vec::new(),
            error: None,
            cause: run.failure_reason,
        })))
    }
}

/// Those of the input, in the order of their names.
fn parameters(start: &Start) -> Vec<Parameter> {
    let input: Map<String, Value> = serde_json::from_str(&start.input).unwrap_or_default();
    parameters_of(&input)
        .map(|(name, value)| Parameter::builder().name(name).value(value).build())
        .collect()
}

fn timestamp(time: &aws_sdk_sagemaker::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::from_nanosecond(time.as_nanos()).ok()
}
