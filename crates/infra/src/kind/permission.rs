//! Who else may invoke an alias: statements of its resource policy, which are
//! ours by their Sid.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::policy;
use crate::resource::{ENTRY_PREFIX, Observed, Properties};

/// One statement: one service may invoke the alias for one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// The function's name.
    pub function: String,
    /// The alias that may be invoked.
    pub alias: String,
    /// The statement's Sid.
    pub sid: String,
    /// The service: `sns.amazonaws.com`.
    pub principal: String,
    /// The ARN of the resource for which the service calls.
    pub source_arn: String,
}

impl Permission {
    pub(crate) fn display_name(&self) -> String {
        format!("{}:{}/{}", self.function, self.alias, self.sid)
    }

    pub(crate) fn summary(&self) -> String {
        format!("{} for {}", self.principal, self.source_arn)
    }
}

/// All statements of ours on an alias.
pub(crate) async fn observe_all(
    aws: &Aws,
    function: &str,
    alias: &str,
) -> Result<Vec<Observed>, CallError> {
    let found = aws.lambda.get_policy().function_name(function).qualifier(alias).send().await;
    let found = absent_is_none(found.map_err(failed("lambda:GetPolicy", function)))?;
    let document = policy::parse(found.as_ref().and_then(|found| found.policy()).unwrap_or("{}"));
    let statements = document["Statement"].as_array().into_iter().flatten();
    let ours = statements.filter_map(|statement| {
        let sid = statement["Sid"].as_str().filter(|sid| sid.starts_with(ENTRY_PREFIX))?;
        Some(Permission {
            function: function.to_owned(),
            alias: alias.to_owned(),
            sid: sid.to_owned(),
            principal: text_of(&statement["Principal"]["Service"]),
            source_arn: policy::source_arn_of(&statement["Condition"]),
        })
    });
    Ok(ours.map(|permission| Observed::ours(Properties::Permission(permission))).collect())
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub(crate) async fn create(aws: &Aws, permission: &Permission) -> Result<(), CallError> {
    let added = aws
        .lambda
        .add_permission()
        .function_name(&permission.function)
        .qualifier(&permission.alias)
        .statement_id(&permission.sid)
        .action("lambda:InvokeFunction")
        .principal(&permission.principal)
        .source_arn(&permission.source_arn)
        .send()
        .await;
    match added.map_err(failed("lambda:AddPermission", permission.display_name())) {
        Err(error) if !error.is_code(&["ResourceConflictException"]) => Err(error),
        _ => Ok(()),
    }
}

pub(crate) async fn delete(aws: &Aws, permission: &Permission) -> Result<(), CallError> {
    let removed = aws
        .lambda
        .remove_permission()
        .function_name(&permission.function)
        .qualifier(&permission.alias)
        .statement_id(&permission.sid)
        .send()
        .await;
    absent_is_done(removed.map_err(failed("lambda:RemovePermission", permission.display_name())))
}
