//! What a workflow uses and somebody else made: the state machines that triggers
//! start, whether a start of them can be held to happen once; and the claim
//! check's bucket, whether it is there.

use std::collections::BTreeMap;

use aws_sdk_sfn::types::StateMachineType;
use bellwire_schema::workflow::{S3Source, StateMachine, Target, Workflow};

use crate::aws::Aws;
use crate::desired::sources_by_bucket;
use crate::error::{CallError, absent_is_none, failed};
use crate::kind::bucket;
use crate::problem::Problem;
use crate::resource::Owner;

/// Asks for each of them once, and tells what is wrong with it.
pub(crate) async fn check(
    aws: &Aws,
    owner: &Owner,
    workflow: &Workflow,
) -> Result<Vec<Problem>, CallError> {
    let mut problems = Vec::new();
    let mut asked: BTreeMap<&str, Option<(String, String)>> = BTreeMap::new();
    for trigger in &workflow.triggers {
        let Target::StepFunctions(StateMachine::Arn(arn)) = &trigger.target else { continue };
        if !asked.contains_key(arn.as_str()) {
            asked.insert(arn, fault(aws, owner, arn).await?);
        }
        if let Some(Some((cause, remedy))) = asked.get(arn.as_str()) {
            let place = workflow.lines.place("trigger", &trigger.name);
            problems.push(Problem::new(place, cause, remedy));
        }
    }
    problems.extend(claim_check(aws, workflow).await?);
    Ok(problems)
}

/// What is wrong with the claim check's bucket, where no source makes it.
async fn claim_check(aws: &Aws, workflow: &Workflow) -> Result<Option<Problem>, CallError> {
    let Some(check) = &workflow.claim_check else { return Ok(None) };
    let sources = sources_by_bucket(workflow);
    let is_made = sources.get(&check.bucket).is_some_and(|all| all.iter().any(|(_, s3)| s3.create));
    // Another account's may not let itself be seen.
    let is_theirs = |all: &Vec<(&str, &S3Source)>| all.iter().any(|(_, s3)| s3.account.is_some());
    if is_made || sources.get(&check.bucket).is_some_and(is_theirs) {
        return Ok(None);
    }
    if bucket::exists(aws, &check.bucket).await? {
        return Ok(None);
    }
    let cause = format!("there is no bucket {}", check.bucket);
    let remedy =
        "create it first, correct the name, or name one that a source of `create = true` makes";
    Ok(Some(Problem::new("claim_check", cause, remedy)))
}

/// What is wrong with a state machine, and what to do.
async fn fault(aws: &Aws, owner: &Owner, arn: &str) -> Result<Option<(String, String)>, CallError> {
    let place = &owner.place;
    let missing = || {
        let cause = format!("there is no state machine {arn}");
        let remedy = format!(
            "create it first, in region {} of account {}, or correct the ARN",
            place.region, place.account
        );
        Some((cause, remedy))
    };
    // What is elsewhere would be asked for, and started, here in vain.
    if !arn.starts_with(&place.state_machine_arn("")) {
        return Ok(missing());
    }
    let found = aws.sfn.describe_state_machine().state_machine_arn(arn).send().await;
    let found = absent_is_none(found.map_err(failed("states:DescribeStateMachine", arn)))?;
    let Some(found) = found else { return Ok(missing()) };
    // Source: AWS Step Functions API reference, `StartExecution`: it is idempotent
    // for STANDARD workflows, and not for EXPRESS ones.
    Ok((*found.r#type() == StateMachineType::Express).then(|| {
        let cause = format!("{arn} is an EXPRESS state machine");
        let remedy = "its executions are not unique by name, so a start could happen twice; use a STANDARD one";
        (cause, remedy.to_owned())
    }))
}
