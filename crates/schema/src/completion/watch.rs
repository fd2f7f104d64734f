//! Which runs a source of completions watches.

use super::RunResource;
use crate::names::Place;
use crate::workflow::SourceKind;

/// The most characters that the name of a SageMaker job has: a longer prefix is that
/// of none. Source: Amazon SageMaker API reference, `CreateTrainingJob`,
/// `CreateProcessingJob`, `CreateTransformJob`.
const JOB_NAME_CHARS_MAX: usize = 63;

/// Runs that a source watches, by what ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watch {
    /// Executions of the state machine of this ARN.
    StateMachine(String),
    /// Executions of the SageMaker pipeline of this ARN. A pipeline is the same in
    /// upper and lower case, and its ARN may come in either.
    Pipeline(String),
    /// SageMaker jobs whose names begin so.
    SagemakerJobs(String),
    /// Jobs of the AWS Batch queue of this ARN.
    JobQueue(String),
}

impl Watch {
    /// What a source watches at a place: nothing, where it is no source of
    /// completions. A plain name of `kind = "sagemaker"` is both a pipeline's and the
    /// prefix of jobs': nothing in the name tells which is meant.
    #[must_use]
    pub fn of(source: &SourceKind, place: &Place) -> Vec<Self> {
        let arn = |resource: &str, of_name: fn(&Place, &str) -> String| match resource
            .starts_with("arn:")
        {
            true => resource.to_owned(),
            false => of_name(place, resource),
        };
        match source {
            SourceKind::StepFunctions(source) => {
                vec![Self::StateMachine(arn(&source.resource, Place::state_machine_arn))]
            }
            SourceKind::Batch(source) => {
                vec![Self::JobQueue(arn(&source.resource, Place::job_queue_arn))]
            }
            SourceKind::Sagemaker(source) => {
                let pipeline = Self::Pipeline(arn(&source.resource, Place::pipeline_arn));
                let is_prefix = !source.resource.starts_with("arn:")
                    && source.resource.len() <= JOB_NAME_CHARS_MAX;
                let jobs = is_prefix.then(|| Self::SagemakerJobs(source.resource.clone()));
                [pipeline].into_iter().chain(jobs).collect()
            }
            SourceKind::S3(_) | SourceKind::Schedule(_) | SourceKind::Http(_) => Vec::new(),
        }
    }

    /// Whether a run of this is watched.
    #[must_use]
    pub fn is_of(&self, resource: &RunResource) -> bool {
        match (self, resource) {
            (Self::StateMachine(watched), RunResource::StateMachine(arn))
            | (Self::JobQueue(watched), RunResource::JobQueue(arn)) => watched == arn,
            (Self::Pipeline(watched), RunResource::Pipeline(arn)) => {
                watched.eq_ignore_ascii_case(arn)
            }
            (Self::SagemakerJobs(prefix), RunResource::SagemakerJob(name)) => {
                name.starts_with(prefix.as_str())
            }
            _ => false,
        }
    }
}
