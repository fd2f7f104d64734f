//! Jobs of AWS Batch.
//!
//! **On a crash:** one job for one start, but for a window. `SubmitJob` has neither a
//! token nor unique names, so that nothing but the ledger keeps a second job back: of all
//! who find a start unfinished only the holder of its lease submits. A lease lasts longer
//! than its holder can, so that whoever takes it over finds nobody who still submits, and
//! looks for the job by its name, which is the start key's, before it submits. Batch
//! keeps jobs for seven days after they ended. What is left: a request that reached Batch
//! and shows in no `ListJobs` when the lease is over, at the least
//! [`CLOCK_SKEW_MAX_S`](bellwire_ledger::CLOCK_SKEW_MAX_S) later.
//!
//! The SDK must not repeat `SubmitJob` by itself: where an answer is lost, it would
//! submit twice within one lease.

use std::collections::BTreeMap;

use aws_sdk_batch::Client;
use aws_sdk_batch::config::retry::RetryConfig;
use aws_sdk_batch::types::{ContainerOverrides, JobDetail, KeyValuePair, KeyValuesPair};
use bellwire_ledger::Start;
use bellwire_schema::completion::{INPUT_VARIABLE, RunCompletion, RunResource};
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Accepted, Attempt, RunState, RunTarget, StartError};
use crate::call_errors::CallErrors;
use crate::destination::parameters_of;

/// The variables that a job finds beside its input.
const START_KEY_VARIABLE: &str = "BELLWIRE_START_KEY";
/// As OpenTelemetry names it. Source: OpenTelemetry specification, "Environment
/// variables as context propagation carriers".
const TRACEPARENT_VARIABLE: &str = "TRACEPARENT";

/// A `ClientException` is what Batch says of all that is wrong with a request: a queue
/// that is not there or is disabled, a definition that is not active.
pub(super) const SUBMIT_JOB: CallErrors = CallErrors {
    operation: "batch:SubmitJob",
    source: "AWS Batch API reference, SubmitJob",
    permanent: &["ClientException"],
    retryable: &["ServerException"],
};
/// The look for a job says nothing of the start itself: whatever it fails by, the start
/// is tried again.
pub(super) const LIST_JOBS: CallErrors = CallErrors {
    operation: "batch:ListJobs",
    source: "AWS Batch API reference, ListJobs",
    permanent: &[],
    retryable: &["ClientException", "ServerException"],
};
pub(super) const DESCRIBE_JOBS: CallErrors = CallErrors {
    operation: "batch:DescribeJobs",
    source: "AWS Batch API reference, DescribeJobs",
    permanent: &["ClientException"],
    retryable: &["ServerException"],
};

/// The client of AWS Batch.
#[derive(Debug)]
pub(super) struct Batch {
    client: Client,
}

impl RunTarget for Batch {
    fn method(&self) -> &'static str {
        "Batch/SubmitJob"
    }

    fn start<'a>(
        &'a self,
        start: &'a Start,
        attempt: Attempt,
    ) -> BoxFuture<'a, Result<Accepted, StartError>> {
        Box::pin(async move {
            if attempt == Attempt::TakenOver
                && let Some(found) = self.find(start).await?
            {
                tracing::info!(job = found.run_arn, "the job was submitted before");
                return Ok(found);
            }
            self.submit(start).await
        })
    }

    fn state_of<'a>(
        &'a self,
        start: &'a Start,
        run_arn: &'a str,
    ) -> BoxFuture<'a, Result<RunState, StartError>> {
        Box::pin(self.describe(start, run_arn))
    }
}

impl Batch {
    pub(super) const fn new(client: Client) -> Self {
        Self { client }
    }

    async fn submit(&self, start: &Start) -> Result<Accepted, StartError> {
        let input: Map<String, Value> = serde_json::from_str(&start.input).unwrap_or_default();
        let parameters = parameters_of(&input).map(|(name, value)| (name.clone(), value));
        let output = self
            .client
            .submit_job()
            .job_name(&start.name)
            .job_queue(&start.target)
            .set_job_definition(start.details.job_definition.clone())
            .set_parameters(Some(parameters.collect()))
            .container_overrides(environment(start))
            .customize()
            .config_override(aws_sdk_batch::Config::builder().retry_config(RetryConfig::disabled()))
            .send()
            .await
            .map_err(|error| SUBMIT_JOB.error_of(start, &error))?;
        match output.job_arn {
            Some(run_arn) => Ok(Accepted { run_arn, started_at: None }),
            None => Err(StartError::Unavailable {
                operation: SUBMIT_JOB.operation,
                target: start.target.clone(),
                message: "the answer names no job".to_owned(),
            }),
        }
    }

    /// The job of this start, whatever its state: the first, were there several. The
    /// filter knows no case, the name does.
    async fn find(&self, start: &Start) -> Result<Option<Accepted>, StartError> {
        let by_name = KeyValuesPair::builder().name("JOB_NAME").values(&start.name).build();
        let jobs = self.client.list_jobs().job_queue(&start.target).filters(by_name);
        let mut pages = jobs.into_paginator().items().send();
        let mut first: Option<(Option<i64>, String)> = None;
        while let Some(job) = pages.next().await {
            let job = job.map_err(|error| LIST_JOBS.error_of(start, &error))?;
            let Some(arn) = job.job_arn.filter(|_| job.job_name.as_deref() == Some(&start.name))
            else {
                continue;
            };
            if first.as_ref().is_none_or(|(created_at, _)| job.created_at < *created_at) {
                first = Some((job.created_at, arn));
            }
        }
        Ok(first.map(|(created_at, run_arn)| Accepted {
            run_arn,
            started_at: created_at.and_then(timestamp),
        }))
    }

    async fn describe(&self, start: &Start, run_arn: &str) -> Result<RunState, StartError> {
        let id = run_arn.rsplit('/').next().unwrap_or_default();
        let described = self.client.describe_jobs().jobs(id).send().await;
        let described = described.map_err(|error| DESCRIBE_JOBS.error_of(start, &error))?;
        let jobs = described.jobs.unwrap_or_default();
        let is_it = |job: &JobDetail| job.job_arn.as_deref() == Some(run_arn);
        let Some(job) = jobs.into_iter().find(is_it) else {
            return Ok(RunState::Unknown);
        };
        let queue = job.job_queue.as_deref().unwrap_or(&start.target);
        let resource = RunResource::JobQueue(queue.to_owned());
        let word = job.status.as_ref().map_or("", |status| status.as_str());
        let Some(status) = resource.status_of(word) else {
            return Ok(RunState::Running);
        };
        let reasons = [job.status_reason, job.container.and_then(|container| container.reason)];
        let reasons: Vec<String> = reasons.into_iter().flatten().collect();
        Ok(RunState::Ended(Box::new(RunCompletion {
            run_arn: run_arn.to_owned(),
            resource,
            status,
            redrive_count: 0,
            started_at: job.started_at.and_then(timestamp),
            stopped_at: job.stopped_at.and_then(timestamp),
            input: None,
            output: None,
            metrics: BTreeMap::new(),
            artifacts: Vec::new(),
            error: None,
            cause: (!reasons.is_empty()).then(|| reasons.join(": ")),
        })))
    }
}

/// What the job finds in its environment: its whole input, and what it can tell itself
/// from others by.
fn environment(start: &Start) -> ContainerOverrides {
    let variables = [
        (INPUT_VARIABLE, Some(start.input.as_str())),
        (START_KEY_VARIABLE, Some(start.start_key.as_str())),
        (TRACEPARENT_VARIABLE, start.context.traceparent.as_deref()),
    ];
    let variables = variables
        .into_iter()
        .filter_map(|(name, value)| Some(KeyValuePair::builder().name(name).value(value?).build()));
    ContainerOverrides::builder().set_environment(Some(variables.collect())).build()
}

/// Batch writes times in milliseconds.
fn timestamp(milliseconds: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(milliseconds).ok()
}
