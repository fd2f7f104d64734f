//! One statement of ours in the resource policy of a function that is somebody else's, so
//! that the topic may invoke it. It is ours by its Sid, and nothing else there is touched.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::policy;
use crate::resource::{Observed, Owner, Properties};

/// The statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionPolicy {
    /// The ARN that is invoked: of the function, of a version or of an alias.
    pub function_arn: String,
    /// The statement's Sid.
    pub sid: String,
    /// The service: `sns.amazonaws.com`.
    pub principal: String,
    /// The ARN of the topic for which it calls.
    pub source_arn: String,
}

impl FunctionPolicy {
    /// That lets our topic invoke what this ARN names.
    pub(crate) fn new(owner: &Owner, function_arn: &str, topic_arn: &str) -> Self {
        Self {
            function_arn: function_arn.to_owned(),
            sid: owner.entry_id("sns"),
            principal: "sns.amazonaws.com".to_owned(),
            source_arn: topic_arn.to_owned(),
        }
    }

    pub(crate) fn display_name(&self) -> String {
        let name = self.function_arn.split(":function:").nth(1).unwrap_or(&self.function_arn);
        format!("{name}/{}", self.sid)
    }

    pub(crate) fn summary(&self) -> String {
        format!("{} for {}", self.principal, self.source_arn)
    }

    /// The function's ARN alone, and the version or alias.
    fn parts(&self) -> (&str, Option<&str>) {
        match self.function_arn.match_indices(':').nth(6) {
            Some((at, _)) => (&self.function_arn[..at], Some(&self.function_arn[at + 1..])),
            None => (&self.function_arn, None),
        }
    }
}

/// What our statement says on what this one is for; `None` where there is none.
pub(crate) async fn observe(
    aws: &Aws,
    wanted: &FunctionPolicy,
) -> Result<Option<Observed>, CallError> {
    let (function, qualifier) = wanted.parts();
    let found = aws.lambda.get_policy().function_name(function);
    let found = found.set_qualifier(qualifier.map(str::to_owned)).send().await;
    let found = absent_is_none(found.map_err(failed("lambda:GetPolicy", &wanted.function_arn)))?;
    let document = policy::parse(found.as_ref().and_then(|found| found.policy()).unwrap_or("{}"));
    let mut statements = document["Statement"].as_array().into_iter().flatten();
    let Some(ours) = statements.find(|statement| statement["Sid"] == wanted.sid.as_str()) else {
        return Ok(None);
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = FunctionPolicy {
        principal: text(&ours["Principal"]["Service"]),
        source_arn: policy::source_arn_of(&ours["Condition"]),
        ..wanted.clone()
    };
    Ok(Some(Observed::ours(Properties::FunctionPolicy(found))))
}

pub(crate) async fn create(aws: &Aws, statement: &FunctionPolicy) -> Result<(), CallError> {
    let (function, qualifier) = statement.parts();
    let add = aws
        .lambda
        .add_permission()
        .function_name(function)
        .set_qualifier(qualifier.map(str::to_owned))
        .statement_id(&statement.sid)
        .action("lambda:InvokeFunction")
        .principal(&statement.principal)
        .source_arn(&statement.source_arn);
    match add.send().await.map_err(failed("lambda:AddPermission", &statement.function_arn)) {
        Err(error) if !error.is_code(&["ResourceConflictException"]) => Err(error),
        _ => Ok(()),
    }
}

pub(crate) async fn delete(aws: &Aws, statement: &FunctionPolicy) -> Result<(), CallError> {
    let (function, qualifier) = statement.parts();
    let remove = aws.lambda.remove_permission().function_name(function);
    let remove = remove.set_qualifier(qualifier.map(str::to_owned)).statement_id(&statement.sid);
    let removed = remove.send().await;
    absent_is_done(removed.map_err(failed("lambda:RemovePermission", &statement.function_arn)))
}
