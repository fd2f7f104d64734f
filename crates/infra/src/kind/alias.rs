//! Aliases: a function's `live` points to the version that serves.
//!
//! What an alias should serve is a [`Release`]; which number the version of it
//! gets is AWS's affair.

use serde::{Deserialize, Serialize};

use super::function::{Release, release_of, wait_until_ready};
use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::resource::{Observed, Properties};

/// An alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// The function's name.
    pub function: String,
    /// The alias's name.
    pub alias: String,
    /// What the version that it points to runs.
    pub serves: Release,
}

impl Alias {
    pub(crate) fn display_name(&self) -> String {
        format!("{}:{}", self.function, self.alias)
    }

    pub(crate) fn summary(&self) -> String {
        format!("serves code {}", self.serves.code_short())
    }
}

pub(crate) async fn observe(
    aws: &Aws,
    function: &str,
    alias: &str,
) -> Result<Option<Observed>, CallError> {
    let found = aws.lambda.get_function_configuration().function_name(function).qualifier(alias);
    let found = found.send().await.map_err(failed("lambda:GetFunctionConfiguration", function));
    let Some(configuration) = absent_is_none(found)? else {
        return Ok(None);
    };
    let properties = Properties::Alias(Alias {
        function: function.to_owned(),
        alias: alias.to_owned(),
        serves: release_of!(&configuration),
    });
    let version = configuration.version().map(|version| format!("version {version}"));
    Ok(Some(Observed { notes: version.into_iter().collect(), ..Observed::ours(properties) }))
}

/// Publishes what `$LATEST` is as a version; an equal one is not published twice.
async fn publish(aws: &Aws, alias: &Alias) -> Result<String, CallError> {
    wait_until_ready(aws, &alias.function).await?;
    let action = "lambda:PublishVersion";
    let published = aws
        .lambda
        .publish_version()
        .function_name(&alias.function)
        .code_sha256(&alias.serves.code_sha256)
        .send()
        .await
        .map_err(failed(action, &alias.function))?;
    published
        .version
        .ok_or_else(|| CallError::unexpected(action, &alias.function, "no version came back"))
}

pub(crate) async fn create(aws: &Aws, alias: &Alias) -> Result<(), CallError> {
    let version = publish(aws, alias).await?;
    let create = aws.lambda.create_alias().function_name(&alias.function).name(&alias.alias);
    let created = create.function_version(&version).send().await;
    match created.map_err(failed("lambda:CreateAlias", alias.display_name())) {
        Err(error) if error.is_code(&["ResourceConflictException"]) => {
            point_to(aws, &alias.function, &alias.alias, &version).await
        }
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

pub(crate) async fn update(aws: &Aws, alias: &Alias) -> Result<(), CallError> {
    let version = publish(aws, alias).await?;
    point_to(aws, &alias.function, &alias.alias, &version).await
}

/// Makes an alias serve a version that there is.
pub(crate) async fn point_to(
    aws: &Aws,
    function: &str,
    alias: &str,
    version: &str,
) -> Result<(), CallError> {
    let update = aws.lambda.update_alias().function_name(function).name(alias);
    let updated = update.function_version(version).send().await;
    updated.map_err(failed("lambda:UpdateAlias", format!("{function}:{alias}")))?;
    Ok(())
}

/// The version that an alias points to.
pub(crate) async fn version_of(
    aws: &Aws,
    function: &str,
    alias: &str,
) -> Result<Option<String>, CallError> {
    let found = aws.lambda.get_alias().function_name(function).name(alias).send().await;
    let found = found.map_err(failed("lambda:GetAlias", format!("{function}:{alias}")));
    Ok(absent_is_none(found)?.and_then(|found| found.function_version))
}

/// What an alias would be that pointed to a version; `None` where that is gone.
pub(crate) async fn serving(
    aws: &Aws,
    function: &str,
    alias: &str,
    version: &str,
) -> Result<Option<Alias>, CallError> {
    let found = aws.lambda.get_function_configuration().function_name(function).qualifier(version);
    let found = found.send().await.map_err(failed("lambda:GetFunctionConfiguration", function));
    Ok(absent_is_none(found)?.map(|configuration| Alias {
        function: function.to_owned(),
        alias: alias.to_owned(),
        serves: release_of!(&configuration),
    }))
}

/// The newest version that is older than this one.
pub(crate) async fn version_before(
    aws: &Aws,
    function: &str,
    version: &str,
) -> Result<Option<String>, CallError> {
    let present: u64 = version.parse().unwrap_or(0);
    let mut before: Option<u64> = None;
    let listed = aws.lambda.list_versions_by_function().function_name(function);
    let mut pages = listed.into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(failed("lambda:ListVersionsByFunction", function))?;
        let numbers = page.versions().iter().filter_map(|one| one.version()?.parse().ok());
        before = before.max(numbers.filter(|number| *number < present).max());
    }
    Ok(before.map(|number| number.to_string()))
}

pub(crate) async fn delete(aws: &Aws, alias: &Alias) -> Result<(), CallError> {
    let delete = aws.lambda.delete_alias().function_name(&alias.function).name(&alias.alias);
    absent_is_done(delete.send().await.map_err(failed("lambda:DeleteAlias", alias.display_name())))
}
