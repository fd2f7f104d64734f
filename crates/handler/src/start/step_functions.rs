//! Executions of state machines.
//!
//! **On a crash:** at most one execution for one start. The name is the start
//! key's, which Step Functions keeps taken for 90 days after the execution
//! closed, and the ledger's row outlives that.

use std::collections::BTreeMap;

use aws_sdk_sfn::Client;
use aws_sdk_sfn::error::{DisplayErrorContext, ProvideErrorMetadata};
use bellwire_ledger::Start;
use bellwire_schema::completion::{RunCompletion, RunResource};
use jiff::Timestamp;

use super::{Accepted, StartError};

/// Errors of `StartExecution` that no retry mends. Source: AWS Step Functions
/// API reference, `StartExecution`, and its common errors. A denied call is not
/// among them: a new role's policy takes seconds to act.
pub(super) const REFUSED_FOR_GOOD: [&str; 6] = [
    "InvalidArn",
    "InvalidExecutionInput",
    "InvalidName",
    "StateMachineDeleting",
    "StateMachineDoesNotExist",
    "ValidationException",
];

/// What Step Functions says of an execution.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RunState {
    /// It goes on.
    Running,
    /// It ended.
    Ended(Box<RunCompletion>),
    /// There is none: its state machine was deleted, or it ended over 90 days ago.
    Unknown,
}

/// The client of Step Functions.
#[derive(Debug, Clone)]
pub(crate) struct StepFunctions {
    client: Client,
}

impl StepFunctions {
    pub(crate) const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Starts the execution, or finds that it was started: with the same name
    /// and input Step Functions answers so while it runs, and
    /// `ExecutionAlreadyExists` says the same afterwards.
    pub(crate) async fn start(&self, start: &Start) -> Result<Accepted, StartError> {
        const OPERATION: &str = "states:StartExecution";
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
                    Err(StartError::Refused {
                        operation: OPERATION,
                        target: start.target.clone(),
                        message,
                    })
                }
            },
            Err(error) => {
                let message = match error.message() {
                    Some(message) => message.to_owned(),
                    None => DisplayErrorContext(&error).to_string(),
                };
                Err(StartError::of(OPERATION, start, error.code(), message))
            }
        }
    }

    /// Asks after an execution.
    pub(crate) async fn state_of(
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
            Err(error) => {
                return Err(StartError::Unavailable {
                    operation: "states:DescribeExecution",
                    target: start.target.clone(),
                    message: DisplayErrorContext(&error).to_string(),
                });
            }
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
