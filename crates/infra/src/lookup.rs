//! What triggers start and subscribers listen with, and somebody else made: whether it is
//! there, before anything is deployed that would start it in vain.

use std::collections::BTreeMap;

use aws_sdk_batch::types::JqState;
use bellwire_schema::workflow::{Protocol, StateMachine, Target, Workflow};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::aws::Aws;
use crate::desired::{function_statement, queue_statement};
use crate::error::{CallError, Cause, absent_is_none, failed};
use crate::plan::Note;
use crate::policy;
use crate::problem::Problem;
use crate::resource::{Kind, Owner, ResourceId};

/// Calls under way at one time.
const CALLS_MAX: usize = 8;

/// What is wrong with it, and what to know of it.
#[derive(Debug, Default)]
pub(crate) struct LookedUp {
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<Note>,
}

/// Something that a workflow file names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    Pipeline(String),
    JobQueue(String),
    JobDefinition(String),
    Function(String),
    Topic(String),
    Queue(String),
}

/// What became of looking for it.
enum Outcome {
    /// It is there; a queue with its policy.
    Found(Option<String>),
    /// It is not, or cannot be started: why.
    Unfit(String),
    /// Nobody here may look.
    Unknown(String),
}

impl Named {
    fn arn(&self) -> &str {
        match self {
            Self::Pipeline(arn)
            | Self::JobQueue(arn)
            | Self::JobDefinition(arn)
            | Self::Function(arn)
            | Self::Topic(arn)
            | Self::Queue(arn) => arn,
        }
    }

    const fn what(&self) -> &'static str {
        match self {
            Self::Pipeline(_) => "pipeline",
            Self::JobQueue(_) => "job queue",
            Self::JobDefinition(_) => "job definition",
            Self::Function(_) => "function",
            Self::Topic(_) => "topic",
            Self::Queue(_) => "queue",
        }
    }
}

/// Asks for each thing once, and tells every place that names it.
pub(crate) async fn check(
    aws: &Aws,
    owner: &Owner,
    workflow: &Workflow,
) -> Result<LookedUp, CallError> {
    let mut named: BTreeMap<Named, Vec<String>> = BTreeMap::new();
    for (place, one) in targets(owner, workflow).chain(subscribed(workflow)) {
        named.entry(one).or_default().push(place);
    }
    let found: Vec<Outcome> = stream::iter(named.keys())
        .map(|one| look(aws, owner, one))
        .buffered(CALLS_MAX)
        .try_collect()
        .await?;
    let mut looked_up = LookedUp::default();
    let mut policies: BTreeMap<&str, Option<String>> = BTreeMap::new();
    for ((one, places), outcome) in named.iter().zip(found) {
        let (arn, what) = (one.arn(), one.what());
        match outcome {
            Outcome::Found(policy) => {
                policies.insert(arn, policy);
            }
            Outcome::Unfit(why) => {
                let remedy = "create it first, or correct its name or ARN";
                let problem =
                    |place: &String| Problem::new(place, format!("{what} {arn} {why}"), remedy);
                looked_up.problems.extend(places.iter().map(problem));
            }
            Outcome::Unknown(why) => {
                let note = |place: &String| Note {
                    id: ResourceId::new(Kind::Function, owner.deployment.handler()),
                    text: format!("{place}: {what} {arn} was not looked up: {why}"),
                };
                looked_up.notes.extend(places.iter().map(note));
            }
        }
    }
    looked_up.notes.extend(to_add(owner, workflow, &policies));
    Ok(looked_up)
}

fn targets<'a>(
    owner: &'a Owner,
    workflow: &'a Workflow,
) -> impl Iterator<Item = (String, Named)> + 'a {
    workflow.triggers.iter().flat_map(move |trigger| {
        let place = workflow.lines.place("trigger", &trigger.name);
        let arn = trigger.target.arn(&owner.deployment, &owner.place, &trigger.name);
        let named = match &trigger.target {
            // What is made is there once it is, and what is not is looked at by `foreign`.
            Target::StepFunctions(StateMachine::Definition(_) | StateMachine::Arn(_)) => None,
            Target::SagemakerPipeline(_) => Some(Named::Pipeline(arn)),
            Target::Batch(_) => Some(Named::JobQueue(arn)),
            Target::Lambda(_) => {
                Some(Named::Function(arn)).filter(|one| !is_made(owner, workflow, one))
            }
            Target::Sns(_) => Some(Named::Topic(arn)),
            Target::Sqs(_) => Some(Named::Queue(arn)),
        };
        let definition = trigger.target.job_definition_arn(&owner.place);
        let all = named.into_iter().chain(definition.map(Named::JobDefinition));
        all.map(move |one| (place.clone(), one))
    })
}

/// Whether the deploy itself makes a function, which then need not be there.
fn is_made(owner: &Owner, workflow: &Workflow, function: &Named) -> bool {
    let names = workflow.functions.iter().map(|one| owner.deployment.function(&one.name));
    let arns = names.flat_map(|name| [owner.place.function_arn(&name), owner.alias_arn(&name)]);
    arns.into_iter().any(|arn| arn == function.arn())
}

fn subscribed(workflow: &Workflow) -> impl Iterator<Item = (String, Named)> + '_ {
    workflow.subscribers.iter().filter(|subscriber| !subscriber.create).filter_map(|subscriber| {
        let place = workflow.lines.place("subscriber", &subscriber.name);
        let arn = subscriber.endpoint.clone();
        match subscriber.protocol {
            Protocol::Sqs => Some((place, Named::Queue(arn))),
            Protocol::Lambda => Some((place, Named::Function(arn))),
            Protocol::Email | Protocol::Https => None,
        }
    })
}

async fn look(aws: &Aws, owner: &Owner, named: &Named) -> Result<Outcome, CallError> {
    let arn = named.arn();
    let [_, _, _, region, account, ..] = arn.split(':').collect::<Vec<_>>()[..] else {
        return Ok(Outcome::Unfit("is no ARN".to_owned()));
    };
    if (region, account) != (owner.place.region.as_str(), owner.place.account.as_str()) {
        return Ok(Outcome::Unknown(format!("it is in {region} of account {account}")));
    }
    let looked = match named {
        Named::Pipeline(_) => pipeline(aws, arn).await,
        Named::JobQueue(_) => job_queue(aws, arn).await,
        Named::JobDefinition(_) => job_definition(aws, arn).await,
        Named::Function(_) => function(aws, arn).await,
        Named::Topic(_) => topic(aws, arn).await,
        Named::Queue(_) => queue(aws, owner, arn).await,
    };
    match looked {
        // Who deploys may have a right to name it and none to read it.
        Err(CallError { cause: Cause::Denied { .. }, action, .. }) => {
            Ok(Outcome::Unknown(format!("the credentials in use lack {action}")))
        }
        looked => looked,
    }
}

/// What is there is fit.
fn there<T>(found: Result<T, CallError>) -> Result<Outcome, CallError> {
    Ok(match absent_is_none(found)? {
        Some(_) => Outcome::Found(None),
        None => not_there(),
    })
}

fn not_there() -> Outcome {
    Outcome::Unfit("is not there".to_owned())
}

#[cfg(feature = "lookup-sagemaker")]
async fn pipeline(aws: &Aws, arn: &str) -> Result<Outcome, CallError> {
    let name = arn.rsplit('/').next().unwrap_or_default();
    let found = aws.sagemaker.describe_pipeline().pipeline_name(name).send().await;
    match found.map_err(failed("sagemaker:DescribePipeline", arn)) {
        Ok(found)
            if found.pipeline_status().is_some_and(|status| status.as_str() == "Deleting") =>
        {
            Ok(Outcome::Unfit("is being deleted".to_owned()))
        }
        // SageMaker's word for what is not there. Source: its API reference, `DescribePipeline`.
        Err(error) if error.is_code(&["ResourceNotFound", "ValidationException"]) => {
            Ok(not_there())
        }
        found => there(found),
    }
}

#[cfg(not(feature = "lookup-sagemaker"))]
#[expect(clippy::unused_async, reason = "with the feature it asks")]
async fn pipeline(_: &Aws, _: &str) -> Result<Outcome, CallError> {
    Ok(Outcome::Unknown("this bellwire was built without the feature lookup-sagemaker".to_owned()))
}

async fn job_queue(aws: &Aws, arn: &str) -> Result<Outcome, CallError> {
    let found = aws.batch.describe_job_queues().job_queues(arn).send().await;
    let found = found.map_err(failed("batch:DescribeJobQueues", arn))?;
    Ok(match found.job_queues() {
        [] => not_there(),
        [queue, ..] if queue.state() == Some(&JqState::Disabled) => {
            Outcome::Unfit("is disabled".to_owned())
        }
        [_, ..] => Outcome::Found(None),
    })
}

/// Without a revision the latest active one is meant.
async fn job_definition(aws: &Aws, arn: &str) -> Result<Outcome, CallError> {
    let name = arn.rsplit('/').next().unwrap_or_default();
    let ask = aws.batch.describe_job_definitions().status("ACTIVE");
    let ask = match name.contains(':') {
        true => ask.job_definitions(arn),
        false => ask.job_definition_name(name),
    };
    let found = ask.send().await.map_err(failed("batch:DescribeJobDefinitions", arn))?;
    // With revisions asked for by ARN, AWS may not heed the status.
    let is_active = found.job_definitions().iter().any(|one| one.status() == Some("ACTIVE"));
    Ok(match is_active {
        true => Outcome::Found(None),
        false => Outcome::Unfit("is not there, or has no active revision".to_owned()),
    })
}

async fn function(aws: &Aws, arn: &str) -> Result<Outcome, CallError> {
    let found = aws.lambda.get_function_configuration().function_name(arn).send().await;
    there(found.map_err(failed("lambda:GetFunctionConfiguration", arn)))
}

async fn topic(aws: &Aws, arn: &str) -> Result<Outcome, CallError> {
    let found = aws.sns.get_topic_attributes().topic_arn(arn).send().await;
    there(found.map_err(failed("sns:GetTopicAttributes", arn)))
}

async fn queue(aws: &Aws, owner: &Owner, arn: &str) -> Result<Outcome, CallError> {
    use aws_sdk_sqs::types::QueueAttributeName;

    let name = arn.rsplit(':').next().unwrap_or_default();
    let ask = aws.sqs.get_queue_attributes().queue_url(owner.place.queue_url(name));
    let found = ask.attribute_names(QueueAttributeName::Policy).send().await;
    let found = absent_is_none(found.map_err(failed("sqs:GetQueueAttributes", arn)))?;
    let Some(found) = found else { return Ok(not_there()) };
    let policy = found.attributes().and_then(|all| all.get(&QueueAttributeName::Policy));
    Ok(Outcome::Found(Some(policy.cloned().unwrap_or_default())))
}

/// The statements that the owners of subscribers' queues and functions must add, where they
/// are not there already, or nobody can tell.
fn to_add(
    owner: &Owner,
    workflow: &Workflow,
    policies: &BTreeMap<&str, Option<String>>,
) -> Vec<Note> {
    let topic = owner.place.topic_arn(&owner.deployment.topic(workflow.topic.kind));
    let short = topic.rsplit(':').next().unwrap_or_default();
    let foreign = workflow.subscribers.iter().filter(|subscriber| !subscriber.create);
    let note = |subscriber: &bellwire_schema::workflow::Subscriber| {
        let endpoint = &subscriber.endpoint;
        let statement = match subscriber.protocol {
            Protocol::Sqs => {
                let wanted = queue_statement(&topic, endpoint);
                let policy = policies.get(endpoint.as_str()).cloned().flatten();
                if policy.is_some_and(|policy| admits(&policy::parse(&policy), &topic)) {
                    return None;
                }
                wanted
            }
            // Where we can, we add it ourselves.
            Protocol::Lambda if crate::desired::admission(owner, endpoint, &topic).is_some() => {
                return None;
            }
            Protocol::Lambda => function_statement(&topic, endpoint),
            Protocol::Email | Protocol::Https => return None,
        };
        let name = endpoint.rsplit(':').next().unwrap_or_default();
        Some(Note {
            id: ResourceId::new(Kind::Subscription, format!("{short} -> {name}")),
            text: format!("nothing gets there before its owner adds to its policy: {statement}"),
        })
    };
    foreign.filter_map(note).collect()
}

/// Whether a queue's policy lets a topic send to it, as far as its statements say so by
/// name; a person judges the others.
fn admits(policy: &serde_json::Value, topic: &str) -> bool {
    let statements = policy["Statement"].as_array().into_iter().flatten();
    let mut allowing = statements.filter(|one| {
        let principal = &one["Principal"];
        one["Effect"] == "Allow"
            && (*principal == "*"
                || principal["Service"] == "sns.amazonaws.com"
                || principal["AWS"] == "*")
            && ["sqs:SendMessage", "sqs:*", "SQS:SendMessage"].iter().any(|a| one["Action"] == *a)
    });
    allowing.any(|one| match policy::source_arn_of(&one["Condition"]).as_str() {
        "" => one["Condition"].is_null() && one["Principal"]["Service"] == "sns.amazonaws.com",
        arn => arn == topic,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_that_names_the_topic_admits_it() {
        let topic = "arn:aws:sns:eu-west-1:123456789012:wine";
        let queue = "arn:aws:sqs:eu-west-1:123456789012:labels";
        let policy =
            |statement: serde_json::Value| policy::canonical(&json!({"Statement": [statement]}));
        let ours = queue_statement(topic, queue);
        assert!(admits(&policy(ours.clone()), topic));
        assert!(!admits(&policy(ours.clone()), "arn:aws:sns:eu-west-1:123456789012:beer"));
        let mut denied = ours;
        denied["Effect"] = json!("Deny");
        assert!(!admits(&policy(denied), topic));
    }
}
