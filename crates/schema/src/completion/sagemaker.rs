//! SageMaker's word on a job or on an execution of a pipeline.
//!
//! SageMaker may send several events for one change of state; their ids are the
//! same. Source of all shapes: Amazon SageMaker AI developer guide, "Events that
//! Amazon SageMaker AI sends to Amazon EventBridge".

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::status_event::Moment;
use super::{RunCompletion, RunResource, StatusEvent};
use crate::payload::Artifact;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TrainingJob {
    training_job_name: String,
    training_job_arn: String,
    training_job_status: String,
    training_start_time: Option<Moment>,
    training_end_time: Option<Moment>,
    failure_reason: Option<String>,
    model_artifacts: Option<ModelArtifacts>,
    final_metric_data_list: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct ModelArtifacts {
    #[serde(rename = "S3ModelArtifacts")]
    uri: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ProcessingJob {
    processing_job_name: String,
    processing_job_arn: String,
    processing_job_status: String,
    processing_start_time: Option<Moment>,
    processing_end_time: Option<Moment>,
    failure_reason: Option<String>,
    processing_output_config: Option<ProcessingOutputs>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProcessingOutputs {
    outputs: Option<Vec<ProcessingOutput>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProcessingOutput {
    output_name: String,
    s3_output: Option<S3Output>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct S3Output {
    s3_uri: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TransformJob {
    transform_job_name: String,
    transform_job_arn: String,
    transform_job_status: String,
    transform_start_time: Option<Moment>,
    transform_end_time: Option<Moment>,
    failure_reason: Option<String>,
    transform_output: Option<TransformOutput>,
}

#[derive(Deserialize)]
struct TransformOutput {
    #[serde(rename = "S3OutputPath")]
    uri: Option<String>,
}

/// Its times are RFC 3339, and it has no reason for a failure: that is in the
/// events of its steps.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PipelineExecution {
    pipeline_arn: String,
    pipeline_execution_arn: String,
    current_pipeline_execution_status: String,
    execution_start_time: Option<Moment>,
    execution_end_time: Option<Moment>,
}

pub(super) fn training_job(detail: TrainingJob) -> StatusEvent {
    let model = detail.model_artifacts.and_then(|model| model.uri);
    let metrics = detail.final_metric_data_list.unwrap_or_default();
    ended(Ended {
        arn: detail.training_job_arn,
        resource: RunResource::SagemakerJob(detail.training_job_name),
        status: detail.training_job_status,
        began: Moment::of(detail.training_start_time),
        ended: Moment::of(detail.training_end_time),
        cause: detail.failure_reason,
        metrics: metrics.iter().filter_map(metric).collect(),
        artifacts: model.map(|uri| artifact("model", uri)).into_iter().collect(),
    })
}

pub(super) fn processing_job(detail: ProcessingJob) -> StatusEvent {
    let outputs = detail.processing_output_config.and_then(|config| config.outputs);
    let made = |output: ProcessingOutput| {
        Some(artifact(&output.output_name, output.s3_output.and_then(|output| output.s3_uri)?))
    };
    ended(Ended {
        arn: detail.processing_job_arn,
        resource: RunResource::SagemakerJob(detail.processing_job_name),
        status: detail.processing_job_status,
        began: Moment::of(detail.processing_start_time),
        ended: Moment::of(detail.processing_end_time),
        cause: detail.failure_reason,
        metrics: BTreeMap::new(),
        artifacts: outputs.into_iter().flatten().filter_map(made).collect(),
    })
}

pub(super) fn transform_job(detail: TransformJob) -> StatusEvent {
    let output = detail.transform_output.and_then(|output| output.uri);
    ended(Ended {
        arn: detail.transform_job_arn,
        resource: RunResource::SagemakerJob(detail.transform_job_name),
        status: detail.transform_job_status,
        began: Moment::of(detail.transform_start_time),
        ended: Moment::of(detail.transform_end_time),
        cause: detail.failure_reason,
        metrics: BTreeMap::new(),
        artifacts: output.map(|uri| artifact("predictions", uri)).into_iter().collect(),
    })
}

/// The ARN of a pipeline, or of an execution of it, as everybody here writes it. Names
/// of pipelines are the same in upper and lower case, and SageMaker writes their ARNs as
/// they were named or in lower case: a run must have one ARN, whoever tells of it.
#[must_use]
pub fn one_pipeline_arn(arn: &str) -> String {
    arn.to_ascii_lowercase()
}

pub(super) fn pipeline_execution(detail: PipelineExecution) -> StatusEvent {
    ended(Ended {
        arn: one_pipeline_arn(&detail.pipeline_execution_arn),
        resource: RunResource::Pipeline(one_pipeline_arn(&detail.pipeline_arn)),
        status: detail.current_pipeline_execution_status,
        began: Moment::of(detail.execution_start_time),
        ended: Moment::of(detail.execution_end_time),
        cause: None,
        metrics: BTreeMap::new(),
        artifacts: Vec::new(),
    })
}

/// What SageMaker's events have in common, under one name each.
struct Ended {
    arn: String,
    resource: RunResource,
    status: String,
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
    cause: Option<String>,
    metrics: BTreeMap<String, f64>,
    artifacts: Vec<Artifact>,
}

fn ended(run: Ended) -> StatusEvent {
    let Some(status) = run.resource.status_of(&run.status) else {
        return StatusEvent::Running;
    };
    StatusEvent::ended(RunCompletion {
        run_arn: run.arn,
        resource: run.resource,
        status,
        redrive_count: 0,
        started_at: run.began,
        stopped_at: run.ended,
        input: None,
        output: None,
        metrics: run.metrics,
        artifacts: run.artifacts,
        error: None,
        cause: run.cause,
    })
}

/// A metric as `DescribeTrainingJob` tells it; what is no number is none.
fn metric(metric: &Value) -> Option<(String, f64)> {
    Some((metric.get("MetricName")?.as_str()?.to_owned(), metric.get("Value")?.as_f64()?))
}

fn artifact(name: &str, uri: String) -> Artifact {
    Artifact { name: name.to_owned(), uri, size_bytes: None }
}
