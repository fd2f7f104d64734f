//! What becomes of asynchronous invocations that fail: how often they are tried
//! again, and where they go then.

use aws_sdk_lambda::types::{DestinationConfig, OnFailure};
use serde::{Deserialize, Serialize};

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::resource::{Observed, Properties};
use crate::wait::{IAM_DELAY, retry};

/// Retry bounds and failure destination of an alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvokeConfig {
    /// The function's name.
    pub function: String,
    /// The alias that it holds for: put on `$LATEST` it would do nothing.
    pub alias: String,
    /// How often a failed invocation is tried again.
    pub retries_max: u32,
    /// How long an event waits at most for a successful invocation.
    pub event_age_max_s: u32,
    /// The ARN of the queue where it goes then.
    pub on_failure_arn: Option<String>,
}

impl InvokeConfig {
    pub(crate) fn display_name(&self) -> String {
        format!("{}:{}", self.function, self.alias)
    }

    pub(crate) fn summary(&self) -> String {
        format!("{} retries, then the dead queue", self.retries_max)
    }
}

pub(crate) async fn observe(
    aws: &Aws,
    function: &str,
    alias: &str,
) -> Result<Option<Observed>, CallError> {
    let found = aws.lambda.get_function_event_invoke_config().function_name(function);
    let found = found.qualifier(alias).send().await;
    let found = found.map_err(failed("lambda:GetFunctionEventInvokeConfig", function));
    let Some(found) = absent_is_none(found)? else {
        return Ok(None);
    };
    let destination = found.destination_config().and_then(DestinationConfig::on_failure);
    let destination = destination.and_then(OnFailure::destination).filter(|arn| !arn.is_empty());
    let config = InvokeConfig {
        function: function.to_owned(),
        alias: alias.to_owned(),
        retries_max: found.maximum_retry_attempts().and_then(|n| n.try_into().ok()).unwrap_or(2),
        event_age_max_s: found
            .maximum_event_age_in_seconds()
            .and_then(|n| n.try_into().ok())
            .unwrap_or(21_600),
        on_failure_arn: destination.map(str::to_owned),
    };
    Ok(Some(Observed::ours(Properties::InvokeConfig(config))))
}

/// Sets all of it, whether or not there was any before.
pub(crate) async fn put(aws: &Aws, config: &InvokeConfig) -> Result<(), CallError> {
    let destination = OnFailure::builder().set_destination(config.on_failure_arn.clone()).build();
    let destination = DestinationConfig::builder().on_failure(destination).build();
    let put = async || {
        aws.lambda
            .put_function_event_invoke_config()
            .function_name(&config.function)
            .qualifier(&config.alias)
            .maximum_retry_attempts(i32::try_from(config.retries_max).unwrap_or(2))
            .maximum_event_age_in_seconds(i32::try_from(config.event_age_max_s).unwrap_or(21_600))
            .destination_config(destination.clone())
            .send()
            .await
            .map_err(failed("lambda:PutFunctionEventInvokeConfig", config.display_name()))
    };
    // Lambda checks that the role may send to the queue, which IAM may not know yet.
    let passes = |error: &CallError| {
        error.is_code(&["InvalidParameterValueException"]) && error.says("permission")
    };
    retry(&IAM_DELAY, passes, put).await?;
    Ok(())
}

pub(crate) async fn delete(aws: &Aws, config: &InvokeConfig) -> Result<(), CallError> {
    let delete = aws.lambda.delete_function_event_invoke_config().function_name(&config.function);
    let deleted = delete.qualifier(&config.alias).send().await;
    absent_is_done(
        deleted.map_err(failed("lambda:DeleteFunctionEventInvokeConfig", config.display_name())),
    )
}
