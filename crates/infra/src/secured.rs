//! What a workflow file names for its security, and somebody else made: the topic's key and
//! the boundary of the roles. Whether they are there and fit, and what the key's policy
//! must say.

use aws_sdk_kms::types::{KeyManagerType, KeyMetadata, KeySpec};
use bellwire_schema::workflow::{TopicKey, Workflow};

use crate::aws::Aws;
use crate::error::{CallError, Cause, absent_is_none, failed};
use crate::kind::key;
use crate::plan::Note;
use crate::problem::Problem;
use crate::resource::{Kind, Owner, ResourceId};
use crate::topic_key;

/// What is wrong with them, and what to know of them.
#[derive(Debug, Default)]
pub(crate) struct Secured {
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<Note>,
}

/// Asks only for what the file names.
pub(crate) async fn check(
    aws: &Aws,
    owner: &Owner,
    workflow: &Workflow,
) -> Result<Secured, CallError> {
    let mut secured = Secured::default();
    if let Some(TopicKey::Named(name)) = workflow.topic_key() {
        let topic = ResourceId::new(Kind::Topic, owner.deployment.topic(workflow.topic.kind));
        let note = |text: String| Note { id: topic.clone(), text };
        match named_key(aws, owner, workflow, name).await? {
            Ok(texts) => secured.notes.extend(texts.into_iter().map(note)),
            Err(problem) => secured.problems.push(problem),
        }
    }
    secured.problems.extend(boundary(aws, owner, workflow).await?);
    Ok(secured)
}

/// What a person must do about the key, in words; or why it cannot be used.
async fn named_key(
    aws: &Aws,
    owner: &Owner,
    workflow: &Workflow,
    name: &str,
) -> Result<Result<Vec<String>, Problem>, CallError> {
    let required = topic_key::required(owner, workflow);
    let told = |why: &str, statements: &[serde_json::Value]| -> Vec<String> {
        let told = statements
            .iter()
            .map(|statement| format!("{why} key {name} must have in its policy: {statement}"));
        told.collect()
    };
    let found = match key::describe(aws, name).await {
        // Another account's, as a rule: whoever has it has to see to it.
        Err(CallError { cause: Cause::Denied { .. }, .. }) => {
            return Ok(Ok(told("it cannot be read from here;", &required)));
        }
        found => found?,
    };
    let problem = |(cause, remedy): (String, &str)| Problem::new("topic", cause, remedy);
    let Some(found) = found else {
        let cause = format!("there is no key {name} in {}", owner.place.region);
        let remedy = "correct `kms_key`, create the key first, or write `kms_key = \"create\"`";
        return Ok(Err(problem((cause, remedy))));
    };
    if let Some(fault) = fault(&found, name) {
        return Ok(Err(problem(fault)));
    }
    let policy = match key::policy_of(aws, found.arn().unwrap_or(found.key_id())).await {
        Err(CallError { cause: Cause::Denied { .. }, .. }) => {
            return Ok(Ok(told("its policy cannot be read from here;", &required)));
        }
        policy => policy?,
    };
    let missing: Vec<_> =
        required.into_iter().filter(|one| !topic_key::admits(owner, &policy, one)).collect();
    Ok(Ok(told("as it is, what is published fails;", &missing)))
}

/// Why SNS would not encrypt with a key. Source: Amazon SNS developer guide, "Key
/// management": symmetric keys, of its own region; AWS KMS developer guide, "Key states".
fn fault(key: &KeyMetadata, name: &str) -> Option<(String, &'static str)> {
    let create = "name a customer key, or write `kms_key = \"create\"`";
    if key.key_manager() == Some(&KeyManagerType::Aws) {
        return Some((format!("{name} is a key that AWS manages"), create));
    }
    if key.key_spec() != Some(&KeySpec::SymmetricDefault) {
        return Some((format!("{name} is no symmetric key that encrypts"), create));
    }
    let state = key.key_state().map_or("in no state", |state| state.as_str());
    let remedy = "enable it, or call its deletion off; else name another key";
    (!key.enabled()).then(|| (format!("{name} cannot be used: it is {state}"), remedy))
}

/// Whether the boundary is there: IAM would refuse every role.
async fn boundary(
    aws: &Aws,
    owner: &Owner,
    workflow: &Workflow,
) -> Result<Option<Problem>, CallError> {
    let Some(arn) = workflow.security.boundary_arn(&owner.place) else { return Ok(None) };
    let found = aws.iam.get_policy().policy_arn(&arn).send().await;
    let found = match found.map_err(failed("iam:GetPolicy", &arn)) {
        // Who deploys may have a boundary to set and no right to read it.
        Err(CallError { cause: Cause::Denied { .. }, .. }) => return Ok(None),
        found => absent_is_none(found)?,
    };
    let cause = format!("there is no managed policy {arn}");
    let remedy = "create it first, or correct `permissions_boundary`";
    Ok(found.is_none().then(|| Problem::new("security", cause, remedy)))
}
