//! The EventBridge patterns of the runs whose ends a workflow hears of: narrowed to
//! what it names, and to ends. Pure.

use bellwire_schema::Place;
use bellwire_schema::completion::Watch;
use bellwire_schema::workflow::SourceKind;
use serde_json::{Value, json};

/// Jobs of SageMaker, by what their events call them.
const JOBS: [&str; 3] = ["Training", "Processing", "Transform"];
/// How jobs of SageMaker end, in its words.
const JOB_ENDS: [&str; 3] = ["Completed", "Failed", "Stopped"];

/// The pattern of executions of state machines that ended. Source: AWS Step Functions
/// developer guide, "Automating Step Functions event delivery with EventBridge".
#[must_use]
pub(crate) fn executions(machines: &[String]) -> Value {
    json!({
        "source": ["aws.states"],
        "detail-type": ["Step Functions Execution Status Change"],
        "detail": {
            "stateMachineArn": machines,
            "status": ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"],
        },
    })
}

/// The pattern of a source that has a rule of its own; `None` for the others. One rule
/// a source keeps each pattern within EventBridge's 2,048 characters, however many
/// sources there are. Source: Amazon EventBridge user guide, "Amazon EventBridge
/// quotas", "Event pattern size".
#[must_use]
pub(crate) fn pattern(source: &SourceKind, place: &Place) -> Option<Value> {
    if !matches!(source, SourceKind::Sagemaker(_) | SourceKind::Batch(_)) {
        return None;
    }
    let aws = if matches!(source, SourceKind::Batch(_)) { "aws.batch" } else { "aws.sagemaker" };
    let mut pattern = match <[Value; 1]>::try_from(alternatives(&Watch::of(source, place))) {
        Ok([only]) => only,
        // Source: Amazon EventBridge user guide, "Comparison operators for use in event
        // patterns", "Or (multiple fields)".
        Err(alternatives) => json!({"$or": alternatives}),
    };
    pattern["source"] = json!([aws]);
    Some(pattern)
}

fn alternatives(watches: &[Watch]) -> Vec<Value> {
    watches.iter().flat_map(of_watch).collect()
}

/// Sources: Amazon SageMaker AI developer guide, "Events that Amazon SageMaker AI sends
/// to Amazon EventBridge"; AWS Batch user guide, "Job state change events".
fn of_watch(watch: &Watch) -> Vec<Value> {
    match watch {
        // Those of all sources and triggers are in one rule.
        Watch::StateMachine(_) => Vec::new(),
        Watch::Pipeline(arn) => {
            // SageMaker writes a pipeline's ARN as it was named or in lower case.
            let mut arns = vec![arn.clone(), arn.to_lowercase()];
            arns.dedup();
            vec![json!({
                "detail-type": ["SageMaker Model Building Pipeline Execution Status Change"],
                "detail": {
                    "pipelineArn": arns,
                    "currentPipelineExecutionStatus": ["Succeeded", "Failed", "Stopped"],
                },
            })]
        }
        Watch::SagemakerJobs(prefix) => JOBS
            .iter()
            .map(|job| {
                json!({
                    "detail-type": [format!("SageMaker {job} Job State Change")],
                    "detail": {
                        (format!("{job}JobName")): [{"prefix": prefix}],
                        (format!("{job}JobStatus")): JOB_ENDS,
                    },
                })
            })
            .collect(),
        Watch::JobQueue(arn) => vec![json!({
            "detail-type": ["Batch Job State Change"],
            "detail": {"jobQueue": [arn], "status": ["SUCCEEDED", "FAILED"]},
        })],
    }
}
