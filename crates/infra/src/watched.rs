//! The EventBridge patterns of the runs whose ends a workflow hears of: narrowed to
//! what it names, and to ends. Pure.

use std::collections::BTreeSet;

use bellwire_schema::Place;
use bellwire_schema::completion::{RunResource, Watch};
use bellwire_schema::id::run_name_prefix;
use bellwire_schema::workflow::{SourceKind, TargetKind, Workflow};
use serde_json::{Value, json};

use crate::resource::Owner;

/// Jobs of SageMaker, by what their events call them.
const JOBS: [&str; 3] = ["Training", "Processing", "Transform"];
/// How jobs of SageMaker end, in its words.
const JOB_ENDS: [&str; 3] = ["Completed", "Failed", "Stopped"];

/// How executions of pipelines end.
const PIPELINE_ENDS: [&str; 4] = ["Succeeded", "Failed", "Stopped", "CompletedWithFailures"];

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
    Some(of_source(aws, alternatives(&Watch::of(source, place))))
}

fn of_source(aws: &str, alternatives: Vec<Value>) -> Value {
    let mut pattern = match <[Value; 1]>::try_from(alternatives) {
        Ok([only]) => only,
        // Source: Amazon EventBridge user guide, "Comparison operators for use in event
        // patterns", "Or (multiple fields)".
        Err(alternatives) => json!({"$or": alternatives}),
    };
    pattern["source"] = json!([aws]);
    pattern
}

/// The patterns of the pipelines and jobs that triggers start, and that no source
/// watches: each with the trigger that its rule is named after.
#[must_use]
pub(crate) fn own_runs(owner: &Owner, workflow: &Workflow) -> Vec<(String, Value)> {
    let Owner { deployment, place, .. } = owner;
    let by_sources: Vec<Watch> =
        workflow.sources.iter().flat_map(|source| Watch::of(&source.kind, place)).collect();
    let is_watched = |run: &RunResource| by_sources.iter().any(|watch| watch.is_of(run));
    let (mut patterns, mut pipelines) = (Vec::new(), BTreeSet::new());
    for trigger in &workflow.triggers {
        let arn = trigger.target.arn(deployment, place, &trigger.name);
        let pattern = match trigger.target.kind() {
            TargetKind::SagemakerPipeline if !is_watched(&RunResource::Pipeline(arn.clone())) => {
                // Several triggers may start one pipeline.
                if !pipelines.insert(arn.to_ascii_lowercase()) {
                    continue;
                }
                of_source("aws.sagemaker", of_watch(&Watch::Pipeline(arn)))
            }
            TargetKind::Batch if !is_watched(&RunResource::JobQueue(arn.clone())) => {
                // A queue has jobs of anybody's; ours are told by their names.
                let mut pattern = of_source("aws.batch", of_watch(&Watch::JobQueue(arn)));
                pattern["detail"]["jobName"] = json!([{"prefix": run_name_prefix(&trigger.name)}]);
                pattern
            }
            _ => continue,
        };
        patterns.push((trigger.name.clone(), pattern));
    }
    patterns
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
                    "currentPipelineExecutionStatus": PIPELINE_ENDS,
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
