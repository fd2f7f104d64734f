//! AWS Batch's word on a job.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::status_event::Moment;
use super::{RunCompletion, RunResource, StatusEvent};

/// The environment variable in which a job of ours finds its input. Batch tells a
/// job's environment when it tells of its end, so that the job's context comes back.
pub const INPUT_VARIABLE: &str = "BELLWIRE_INPUT";

/// Source: AWS Batch user guide, "Job state change events"; the fields are those of
/// `JobDetail` in the AWS Batch API reference.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Job {
    job_arn: String,
    job_id: String,
    job_queue: String,
    status: String,
    status_reason: Option<String>,
    started_at: Option<Moment>,
    stopped_at: Option<Moment>,
    container: Option<Container>,
}

#[derive(Deserialize)]
struct Container {
    reason: Option<String>,
    environment: Option<Vec<Variable>>,
}

#[derive(Deserialize)]
struct Variable {
    name: Option<String>,
    value: Option<String>,
}

impl Job {
    /// Whether it is a part of a job: a child of an array job or a node of a
    /// multi-node one, whose id is that of the whole with `:0` or `#0` behind it.
    /// Source: AWS Batch user guide, "Array jobs" and "Multi-node parallel jobs".
    fn is_part(&self) -> bool {
        self.job_id.contains([':', '#'])
    }

    /// Its input, where it is a job of ours.
    fn input(&mut self) -> Option<String> {
        let variables = self.container.as_mut()?.environment.take()?;
        variables.into_iter().find(|one| one.name.as_deref() == Some(INPUT_VARIABLE))?.value
    }

    /// Why it ended, in Batch's words and, where there is one, the container's.
    fn cause(&mut self) -> Option<String> {
        let reasons = [
            self.status_reason.take(),
            self.container.take().and_then(|container| container.reason),
        ];
        let reasons: Vec<String> = reasons.into_iter().flatten().collect();
        (!reasons.is_empty()).then(|| reasons.join(": "))
    }
}

/// A job ends once: a failed attempt that is retried puts it back to `RUNNABLE`, so
/// that `SUCCEEDED` and `FAILED` are final and its attempts say nothing of which end
/// this is. Source: AWS Batch user guide, "Job states" and "Automated job retries".
pub(super) fn job(mut detail: Job) -> StatusEvent {
    let resource = RunResource::JobQueue(detail.job_queue.clone());
    let Some(status) = resource.status_of(&detail.status).filter(|_| !detail.is_part()) else {
        return StatusEvent::Running;
    };
    let (input, cause) = (detail.input(), detail.cause());
    StatusEvent::ended(RunCompletion {
        run_arn: detail.job_arn,
        resource,
        status,
        redrive_count: 0,
        started_at: Moment::of(detail.started_at),
        stopped_at: Moment::of(detail.stopped_at),
        input,
        output: None,
        metrics: BTreeMap::new(),
        artifacts: Vec::new(),
        error: None,
        cause,
    })
}
