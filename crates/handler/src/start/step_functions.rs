//! Executions of state machines.
//!
//! **On a crash:** at most one execution for one start. The name is the start
//! key's, which Step Functions keeps taken for 90 days after the execution
//! closed, and the ledger's row outlives that.

use std::collections::BTreeMap;

use aws_sdk_sfn::Client;
use aws_sdk_sfn::error::ProvideErrorMetadata as _;
use bellwire_ledger::Start;
use bellwire_schema::completion::{RunCompletion, RunResource};
use futures::future::BoxFuture;
use jiff::Timestamp;

use super::{Accepted, Attempt, RunState, RunTarget, StartError};
use crate::call_errors::CallErrors;

/// `ExecutionAlreadyExists` is no failure: see [`StepFunctions::start_execution`].
pub(super) const START_EXECUTION: CallErrors = CallErrors {
    operation: "states:StartExecution",
    source: "AWS Step Functions API reference, StartExecution",
    permanent: &[
        "InvalidArn",
        "InvalidExecutionInput",
        "InvalidName",
        "StateMachineDeleting",
        "StateMachineDoesNotExist",
        "ValidationException",
    ],
    retryable: &[
        "ExecutionLimitExceeded",
        "KmsAccessDeniedException",
        "KmsInvalidStateException",
        "KmsThrottlingException",
    ],
};

/// `ExecutionDoesNotExist` is an answer: see [`StepFunctions::describe_execution`].
pub(super) const DESCRIBE_EXECUTION: CallErrors = CallErrors {
    operation: "states:DescribeExecution",
    source: "AWS Step Functions API reference, DescribeExecution",
    permanent: &["InvalidArn"],
    retryable: &["KmsAccessDeniedException", "KmsInvalidStateException", "KmsThrottlingException"],
};

/// The client of Step Functions.
#[derive(Debug)]
pub(super) struct StepFunctions {
    client: Client,
}

impl RunTarget for StepFunctions {
    fn method(&self) -> &'static str {
        "SFN/StartExecution"
    }

    fn start<'a>(
        &'a self,
        start: &'a Start,
        _attempt: Attempt,
    ) -> BoxFuture<'a, Result<Accepted, StartError>> {
        Box::pin(self.start_execution(start))
    }

    fn state_of<'a>(
        &'a self,
        start: &'a Start,
        run_arn: &'a str,
    ) -> BoxFuture<'a, Result<RunState, StartError>> {
        Box::pin(self.describe_execution(start, run_arn))
    }
}

impl StepFunctions {
    pub(super) const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Starts the execution, or finds that it was started: with the same name
    /// and input Step Functions answers so while it runs, and
    /// `ExecutionAlreadyExists` says the same afterwards.
    async fn start_execution(&self, start: &Start) -> Result<Accepted, StartError> {
        let result = self
            .client
            .start_execution()
            .state_machine_arn(&start.target)
            .name(&start.name)
            .input(&start.input)
            .send()
            .await;
        match result {
            Ok(output) => Ok(Accepted {
                started_at: timestamp(&output.start_date),
                run_arn: output.execution_arn,
            }),
            Err(error) if error.code() == Some("ExecutionAlreadyExists") => match &start.run_arn {
                Some(run_arn) => Ok(Accepted { run_arn: run_arn.clone(), started_at: None }),
                None => {
                    let message = "it exists, and its ARN does not follow from its name".to_owned();
                    let operation = START_EXECUTION.operation;
                    Err(StartError::Refused { operation, target: start.target.clone(), message })
                }
            },
            Err(error) => Err(START_EXECUTION.error_of(start, &error)),
        }
    }

    /// Asks after an execution. There is none where its state machine was deleted, or
    /// where it ended over 90 days ago.
    async fn describe_execution(
        &self,
        start: &Start,
        run_arn: &str,
    ) -> Result<RunState, StartError> {
        let result = self.client.describe_execution().execution_arn(run_arn).send().await;
        let run = match result {
            Ok(run) => run,
            Err(error) if error.code() == Some("ExecutionDoesNotExist") => {
                return Ok(RunState::Unknown);
            }
            Err(error) => return Err(DESCRIBE_EXECUTION.error_of(start, &error)),
        };
        let resource = RunResource::StateMachine(run.state_machine_arn);
        let Some(status) = resource.status_of(run.status.as_str()) else {
            return Ok(RunState::Running);
        };
        Ok(RunState::Ended(Box::new(RunCompletion {
            run_arn: run.execution_arn,
            resource,
            status,
            redrive_count: run.redrive_count.and_then(|count| count.try_into().ok()).unwrap_or(0),
            started_at: timestamp(&run.start_date),
            stopped_at: run.stop_date.as_ref().and_then(timestamp),
            input: run.input,
            output: run.output,
            metrics: BTreeMap::new(),
            artifacts: Vec::new(),
            error: run.error,
            cause: run.cause,
        })))
    }
}

fn timestamp(time: &aws_sdk_sfn::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::from_nanosecond(time.as_nanos()).ok()
}
