//! Step Functions' word on an execution.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::status_event::Moment;
use super::{RunCompletion, RunResource, StatusEvent};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Execution {
    execution_arn: String,
    state_machine_arn: String,
    status: String,
    start_date: Option<Moment>,
    stop_date: Option<Moment>,
    input: Option<String>,
    output: Option<String>,
    error: Option<String>,
    cause: Option<String>,
    redrive_count: Option<u32>,
}

pub(super) fn execution(detail: Execution) -> StatusEvent {
    let resource = RunResource::StateMachine(detail.state_machine_arn);
    let Some(status) = resource.status_of(&detail.status) else {
        return StatusEvent::Running;
    };
    StatusEvent::ended(RunCompletion {
        run_arn: detail.execution_arn,
        resource,
        status,
        redrive_count: detail.redrive_count.unwrap_or(0),
        started_at: Moment::of(detail.start_date),
        stopped_at: Moment::of(detail.stop_date),
        input: detail.input,
        output: detail.output,
        metrics: BTreeMap::new(),
        artifacts: Vec::new(),
        error: detail.error,
        cause: detail.cause,
    })
}
