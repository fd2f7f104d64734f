//! What the handler's role may do to what triggers start: each call on exactly what the
//! workflow names. Pure.

use std::collections::BTreeSet;

use bellwire_schema::workflow::{TargetKind, Workflow};
use serde_json::Value;

use crate::policy::allow;
use crate::resource::Owner;

/// The ARNs of what triggers start, of one kind, sorted: of jobs of AWS Batch, those of
/// their queues.
pub(crate) fn started(owner: &Owner, workflow: &Workflow, kind: TargetKind) -> Vec<String> {
    let Owner { deployment, place, .. } = owner;
    let of_kind = workflow.triggers.iter().filter(|trigger| trigger.target.kind() == kind);
    let arns: BTreeSet<String> =
        of_kind.map(|trigger| trigger.target.arn(deployment, place, &trigger.name)).collect();
    arns.into_iter().collect()
}

/// The statements that starting takes, and asking after what was started.
///
/// A topic or queue that is encrypted with a customer key takes `kms:GenerateDataKey`
/// and `kms:Decrypt` too: that key is its owner's, whose key policy has to admit the
/// handler's role.
pub(crate) fn statements(owner: &Owner, workflow: &Workflow) -> Vec<Value> {
    let mut statements = Vec::new();
    let mut add = |sid: &str, actions: &[&str], resources: &[String]| {
        if !resources.is_empty() {
            statements.push(allow(sid, actions, resources));
        }
    };
    let of = |kind: TargetKind| started(owner, workflow, kind);
    let machines = of(TargetKind::StepFunctions);
    let executions: Vec<String> = machines
        .iter()
        .map(|arn| format!("{}:*", arn.replacen(":stateMachine:", ":execution:", 1)))
        .collect();
    add("Start", &["states:StartExecution"], &machines);
    add("AskAfterRuns", &["states:DescribeExecution"], &executions);

    let pipelines = either_case(&of(TargetKind::SagemakerPipeline));
    let executions: Vec<String> =
        pipelines.iter().map(|arn| format!("{arn}/execution/*")).collect();
    add("StartPipelines", &["sagemaker:StartPipelineExecution"], &pipelines);
    add("AskAfterPipelines", &["sagemaker:DescribePipelineExecution"], &executions);

    let queues = of(TargetKind::Batch);
    if !queues.is_empty() {
        let submits_to = [queues, job_definitions(owner, workflow)].concat();
        add("SubmitJobs", &["batch:SubmitJob"], &submits_to);
        // Neither takes a resource. Source: Service Authorization Reference, "Actions,
        // resources, and condition keys for AWS Batch".
        add("FindJobs", &["batch:DescribeJobs", "batch:ListJobs"], &["*".to_owned()]);
    }
    add("InvokeFunctions", &["lambda:InvokeFunction"], &of(TargetKind::Lambda));
    add("PublishToOthers", &["sns:Publish"], &of(TargetKind::Sns));
    add("SendToOthers", &["sqs:SendMessage"], &of(TargetKind::Sqs));
    statements
}

/// As they are named, and in lower case: SageMaker writes the ARN of a pipeline, whose
/// name is the same in either case, in both ways.
fn either_case(pipelines: &[String]) -> Vec<String> {
    let all: BTreeSet<String> =
        pipelines.iter().flat_map(|arn| [arn.clone(), arn.to_ascii_lowercase()]).collect();
    all.into_iter().collect()
}

/// A job definition without a revision stands for its latest, which AWS looks up
/// before it judges: the name alone and all its revisions.
fn job_definitions(owner: &Owner, workflow: &Workflow) -> Vec<String> {
    let targets = workflow.triggers.iter().map(|trigger| &trigger.target);
    let arns = targets.filter_map(|target| target.job_definition_arn(&owner.place));
    let all: BTreeSet<String> = arns
        .flat_map(|arn| match has_revision(&arn) {
            true => vec![arn],
            false => vec![format!("{arn}:*"), arn],
        })
        .collect();
    all.into_iter().collect()
}

fn has_revision(job_definition: &str) -> bool {
    let name = job_definition.rsplit('/').next().unwrap_or_default();
    name.rsplit_once(':').is_some_and(|(_, revision)| revision.bytes().all(|b| b.is_ascii_digit()))
}
