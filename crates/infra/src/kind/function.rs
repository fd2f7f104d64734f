//! Lambda functions: what `$LATEST` is. What is invoked is the alias.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_lambda::operation::get_function::GetFunctionOutput;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{
    Architecture, Environment, FunctionCode, LastUpdateStatus, Runtime, State,
};
use serde::{Deserialize, Serialize};

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::inputs::Code;
use crate::resource::{Observed, Owner, Properties, Tags, own_tags};
use crate::wait::{IAM_DELAY, Patience, poll, retry};

/// A function takes seconds to take over a new configuration.
const READY_WITHIN: Patience = Patience {
    first: Duration::from_millis(50),
    longest: Duration::from_secs(2),
    total: Duration::from_secs(120),
};

/// A function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its ARN, unqualified.
    pub arn: String,
    /// What it is for.
    pub description: String,
    /// What it runs.
    pub release: Release,
    /// Its tags, as far as they are ours.
    pub tags: Tags,
}

/// Code and configuration: what a version freezes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// SHA-256 of its zip, in base64.
    pub code_sha256: String,
    /// `arm64` or `x86_64`.
    pub architecture: String,
    /// `provided.al2023`.
    pub runtime: String,
    /// The role that it runs as.
    pub role_arn: String,
    /// Memory, in MiB.
    pub memory_mb: u32,
    /// Timeout, in seconds.
    pub timeout_s: u32,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
}

impl Release {
    /// The first six hexadecimal characters of the code's hash.
    #[must_use]
    pub fn code_short(&self) -> String {
        short_code(&self.code_sha256)
    }
}

/// The first six hexadecimal characters of a hash in base64.
pub(crate) fn short_code(code_sha256: &str) -> String {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(code_sha256).unwrap_or_default();
    bytes.iter().take(3).map(|byte| format!("{byte:02x}")).collect()
}

impl Function {
    pub(crate) fn summary(&self) -> String {
        let Release { architecture, memory_mb, timeout_s, .. } = &self.release;
        format!(
            "code {}, {architecture}, {memory_mb} MiB, {timeout_s} s",
            self.release.code_short()
        )
    }
}

/// The fields of a function configuration that a [`Release`] has; both of the
/// SDK's shapes of it have these methods and no common type.
macro_rules! release_of {
    ($configuration:expr) => {{
        let configuration = $configuration;
        let variables = configuration.environment().and_then(|found| found.variables()).cloned();
        $crate::kind::function::Release {
            code_sha256: configuration.code_sha256().unwrap_or_default().to_owned(),
            architecture: configuration
                .architectures()
                .first()
                .map_or("x86_64", |architecture| architecture.as_str())
                .to_owned(),
            runtime: configuration.runtime().map_or("", |found| found.as_str()).to_owned(),
            role_arn: configuration.role().unwrap_or_default().to_owned(),
            memory_mb: configuration.memory_size().and_then(|mb| mb.try_into().ok()).unwrap_or(128),
            timeout_s: configuration.timeout().and_then(|s| s.try_into().ok()).unwrap_or(3),
            environment: variables.unwrap_or_default().into_iter().collect(),
        }
    }};
}
pub(crate) use release_of;

async fn get(aws: &Aws, name: &str) -> Result<Option<GetFunctionOutput>, CallError> {
    let found = aws.lambda.get_function().function_name(name).send().await;
    absent_is_none(found.map_err(failed("lambda:GetFunction", name)))
}

pub(crate) async fn observe(
    aws: &Aws,
    owner: &Owner,
    name: &str,
) -> Result<Option<Observed>, CallError> {
    let Some(found) = get(aws, name).await? else {
        return Ok(None);
    };
    let Some(configuration) = found.configuration else {
        return Ok(None);
    };
    let tags = own_tags(found.tags.unwrap_or_default());
    let owned = owner.owns(&tags);
    let function = Function {
        name: name.to_owned(),
        arn: owner.place.function_arn(name),
        description: configuration.description().unwrap_or_default().to_owned(),
        release: release_of!(&configuration),
        tags,
    };
    Ok(Some(Observed { owned, ..Observed::ours(Properties::Function(function)) }))
}

/// Whether Lambda refuses a role that IAM has not told it of yet.
fn is_iam_delay(error: &CallError) -> bool {
    error.is_code(&["InvalidParameterValueException"])
        && (error.says("cannot be assumed") || error.says("does not have permissions"))
}

/// Whether another change of the function is still under way.
fn is_in_progress(error: &CallError) -> bool {
    error.is_code(&["ResourceConflictException"]) && error.says("in progress")
}

fn environment_of(release: &Release) -> Environment {
    let variables = release.environment.clone().into_iter().collect();
    Environment::builder().set_variables(Some(variables)).build()
}

fn zip_of(function: &Function, code: &Code) -> Result<Blob, CallError> {
    let hash = &function.release.code_sha256;
    let zip = code.zip(hash).ok_or_else(|| {
        let message =
            format!("the plan wants code {hash}, which is not what was built; plan again");
        CallError::unexpected("lambda:UpdateFunctionCode", &function.name, message)
    })?;
    Ok(Blob::new(zip))
}

pub(crate) async fn create(aws: &Aws, function: &Function, code: &Code) -> Result<(), CallError> {
    let release = &function.release;
    let zip = FunctionCode::builder().zip_file(zip_of(function, code)?).build();
    let tags: std::collections::HashMap<_, _> = function.tags.clone().into_iter().collect();
    let create = async || {
        aws.lambda
            .create_function()
            .function_name(&function.name)
            .description(&function.description)
            .runtime(Runtime::from(release.runtime.as_str()))
            .handler("bootstrap")
            .role(&release.role_arn)
            .architectures(Architecture::from(release.architecture.as_str()))
            .memory_size(i32::try_from(release.memory_mb).unwrap_or(i32::MAX))
            .timeout(i32::try_from(release.timeout_s).unwrap_or(i32::MAX))
            .environment(environment_of(release))
            .set_tags(Some(tags.clone()))
            .code(zip.clone())
            .send()
            .await
            .map_err(failed("lambda:CreateFunction", &function.name))
    };
    match retry(&IAM_DELAY, is_iam_delay, create).await {
        Err(error) if !error.is_code(&["ResourceConflictException"]) => return Err(error),
        _ => {}
    }
    wait_until_ready(aws, &function.name).await
}

/// Waits until the function has taken over its last change.
pub(crate) async fn wait_until_ready(aws: &Aws, name: &str) -> Result<(), CallError> {
    let action = "lambda:GetFunctionConfiguration";
    let is_ready = async || {
        let found = aws.lambda.get_function_configuration().function_name(name).send().await;
        let found = found.map_err(failed(action, name))?;
        if found.state() == Some(&State::Failed)
            || found.last_update_status() == Some(&LastUpdateStatus::Failed)
        {
            let reason = found.last_update_status_reason().or(found.state_reason());
            let reason = reason.unwrap_or("no reason given");
            return Err(CallError::unexpected(
                action,
                name,
                format!("the change failed: {reason}"),
            ));
        }
        // Absent where nothing was ever pending.
        Ok(found.state().is_none_or(|state| *state == State::Active)
            && found
                .last_update_status()
                .is_none_or(|status| *status == LastUpdateStatus::Successful))
    };
    if poll(&READY_WITHIN, is_ready).await? {
        return Ok(());
    }
    Err(CallError::unexpected(action, name, "it did not become ready in time; apply again"))
}

pub(crate) async fn update(
    aws: &Aws,
    function: &Function,
    observed: &Function,
    code: &Code,
) -> Result<(), CallError> {
    let (new, old) = (&function.release, &observed.release);
    if new.code_sha256 != old.code_sha256 || new.architecture != old.architecture {
        let zip = zip_of(function, code)?;
        let update = async || {
            aws.lambda
                .update_function_code()
                .function_name(&function.name)
                .architectures(Architecture::from(new.architecture.as_str()))
                .zip_file(zip.clone())
                .send()
                .await
                .map_err(failed("lambda:UpdateFunctionCode", &function.name))
        };
        retry(&READY_WITHIN, is_in_progress, update).await?;
        wait_until_ready(aws, &function.name).await?;
    }
    let code_aside = Release {
        code_sha256: new.code_sha256.clone(),
        architecture: new.architecture.clone(),
        ..old.clone()
    };
    if *new != code_aside || function.description != observed.description {
        update_configuration(aws, function).await?;
    }
    if function.tags != observed.tags {
        let tags = Some(function.tags.clone().into_iter().collect());
        let tagged = aws.lambda.tag_resource().resource(&function.arn).set_tags(tags).send().await;
        tagged.map_err(failed("lambda:TagResource", &function.name))?;
    }
    Ok(())
}

async fn update_configuration(aws: &Aws, function: &Function) -> Result<(), CallError> {
    let release = &function.release;
    let update = async || {
        aws.lambda
            .update_function_configuration()
            .function_name(&function.name)
            .description(&function.description)
            .runtime(Runtime::from(release.runtime.as_str()))
            .role(&release.role_arn)
            .memory_size(i32::try_from(release.memory_mb).unwrap_or(i32::MAX))
            .timeout(i32::try_from(release.timeout_s).unwrap_or(i32::MAX))
            .environment(environment_of(release))
            .send()
            .await
            .map_err(failed("lambda:UpdateFunctionConfiguration", &function.name))
    };
    let passes = |error: &CallError| is_iam_delay(error) || is_in_progress(error);
    retry(&IAM_DELAY, passes, update).await?;
    wait_until_ready(aws, &function.name).await
}

/// Deletes a function with all its versions and aliases.
pub(crate) async fn delete(aws: &Aws, function: &Function) -> Result<(), CallError> {
    let deleted = aws.lambda.delete_function().function_name(&function.name).send().await;
    absent_is_done(deleted.map_err(failed("lambda:DeleteFunction", &function.name)))
}
