//! What cannot be deployed, and what AWS would refuse: found before
//! anything is called, all of it at once. Pure.

use bellwire_schema::filter::FilterPolicy;
use bellwire_schema::workflow::{Trigger, Workflow};

use crate::desired::{desired, function_references};
use crate::gather;
use crate::inputs::Inputs;
use crate::limits;
use crate::problem::{Problem, Problems};
use crate::pushdown;
use crate::resource::Owner;

/// Checks all that workflow file and artifacts decide.
///
/// # Errors
/// All the problems that were found.
pub fn check(owner: &Owner, workflow: &Workflow, inputs: &Inputs) -> Result<(), Problems> {
    let mut problems = parts(workflow);
    problems
        .extend(workflow.triggers.iter().filter_map(|one| target_elsewhere(owner, workflow, one)));
    problems.extend(references(workflow, inputs));
    problems.extend(filter(workflow));
    problems.extend(gather::problems(workflow));
    problems.extend(alarms(owner, workflow));
    problems.extend(limits::problems(&desired(owner, workflow, inputs)));
    Problems::none_of(problems)
}

fn parts(workflow: &Workflow) -> Vec<Problem> {
    let mut problems = Vec::new();
    if workflow.triggers.is_empty() {
        let remedy = "add a [[trigger]]: without one nothing ever starts";
        problems.push(Problem::new("workflow", "it has no triggers", remedy));
    }
    problems
}

/// What alarms tell must hear of the events of nobody: what failed there would be an alarm
/// of itself. And CloudWatch reaches topics of its own region only.
fn alarms(owner: &Owner, workflow: &Workflow) -> Option<Problem> {
    let topic = workflow.alarms.topic.as_ref()?;
    let Owner { deployment, place, .. } = owner;
    let problem = |cause: String, remedy: &str| Some(Problem::new("alarms", cause, remedy));
    if *topic == place.topic_arn(&deployment.topic(workflow.topic.kind)) {
        let cause = format!("{topic} is the topic that the events travel through");
        return problem(cause, "name another topic, or an `email`");
    }
    if topic.split(':').nth(3) != Some(place.region.as_str()) {
        let cause = format!("{topic} is not in {}", place.region);
        return problem(cause, "name a topic of this region");
    }
    None
}

/// The handler calls the services of its own region.
fn target_elsewhere(owner: &Owner, workflow: &Workflow, trigger: &Trigger) -> Option<Problem> {
    let Owner { deployment, place, .. } = owner;
    let arns = [
        Some(trigger.target.arn(deployment, place, &trigger.name)),
        trigger.target.job_definition_arn(place),
    ];
    let is_elsewhere = |arn: &String| arn.split(':').nth(3) != Some(place.region.as_str());
    let arn = arns.into_iter().flatten().find(is_elsewhere)?;
    let cause = format!("{arn} is not in {}", place.region);
    let remedy = "start something of this region, which may reach the other one itself";
    Some(Problem::new(workflow.lines.place("trigger", &trigger.name), cause, remedy))
}

fn references(workflow: &Workflow, inputs: &Inputs) -> Vec<Problem> {
    let known: Vec<&str> = workflow.functions.iter().map(|one| one.name.as_str()).collect();
    let mut problems = Vec::new();
    for (trigger, definition) in &inputs.definitions {
        for name in function_references(definition) {
            if !known.contains(&name.as_str()) {
                let cause =
                    format!("its definition calls ${{function:{name}}}, which is not there");
                let remedy = if known.is_empty() {
                    "add a [[function]] of that name".to_owned()
                } else {
                    format!("known functions: {}", known.join(", "))
                };
                problems.push(Problem::new(format!("trigger \"{trigger}\""), cause, remedy));
            }
        }
    }
    problems
}

/// What SNS would say of the subscriptions' filter policies.
fn filter(workflow: &Workflow) -> Vec<Problem> {
    let (policy, scope) = pushdown::handler_filter(workflow);
    let handler = ("handler".to_owned(), policy, scope);
    let others = workflow.subscribers.iter().map(|subscriber| {
        let place = format!("subscriber \"{}\"", subscriber.name);
        let (policy, scope) = pushdown::subscriber_filter(workflow, subscriber);
        (place, policy, scope)
    });
    let policies = [handler].into_iter().chain(others).filter(|(_, policy, _)| !policy.is_null());
    policies
        .flat_map(|(place, policy, scope)| {
            let found = match FilterPolicy::parse(&policy, scope) {
                Ok(policy) => policy.check_limits(),
                Err(problems) => problems,
            };
            found.into_iter().map(move |problem| {
                let cause = format!("its filter policy: {}: {}", problem.path, problem.cause);
                Problem::new(place.clone(), cause, problem.cause.remedy())
            })
        })
        .collect()
}
