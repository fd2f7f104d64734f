//! What most commands begin with: the workflow file, and where it is deployed.

use std::path::Path;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use bellwire_infra::inputs::{self, Inputs};
use bellwire_infra::{ProvisionError, Provisioner};
use bellwire_schema::Deployment;
use bellwire_schema::workflow::{self, Workflow};

use crate::args::{Global, Overrides};
use crate::error::CommandError;

/// Reads the workflow file.
pub(crate) fn workflow(global: &Global) -> Result<Workflow, CommandError> {
    let file = &global.workflow;
    let text = std::fs::read_to_string(file)
        .map_err(|source| CommandError::NoWorkflow { file: file.clone(), source })?;
    workflow::read(&text)
        .map_err(|problems| CommandError::Workflow { file: file.display().to_string(), problems })
}

/// Reads the workflow file, and puts what the command line says above it.
pub(crate) fn overridden_workflow(
    global: &Global,
    overrides: &Overrides,
) -> Result<Workflow, CommandError> {
    let mut workflow = workflow(global)?;
    if let Some(endpoint) = &overrides.otlp_endpoint {
        workflow.telemetry.otlp_endpoint = Some(endpoint.clone());
    }
    Ok(workflow)
}

/// The workflow in its environment.
pub(crate) fn deployment(global: &Global, workflow: &Workflow) -> Deployment {
    Deployment::new(&workflow.name, global.env.as_deref())
}

/// An answer comes within seconds; what takes longest is the upload of 50 MB of code.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(300);
/// AWS is reached within milliseconds, or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The standard AWS settings, with bounds on how long an answer is waited for.
pub(crate) async fn aws() -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts).load().await
}

/// Connects to where the workflow is, or will be, deployed.
pub(crate) async fn provisioner(
    global: &Global,
    workflow: Workflow,
) -> Result<Provisioner, CommandError> {
    let config = aws().await;
    Ok(Provisioner::connect(&config, workflow, global.env.as_deref()).await?)
}

/// The name of a component's function or role: of the publisher, the handler, or a function
/// of the workflow's own.
pub(crate) fn component(
    deployment: &Deployment,
    workflow: &Workflow,
    component: &str,
) -> Result<String, CommandError> {
    let is_function = workflow.functions.iter().any(|function| function.name == component);
    match component {
        "publisher" => Ok(deployment.publisher()),
        "handler" => Ok(deployment.handler()),
        function if is_function => Ok(deployment.function(function)),
        _ => {
            let functions = workflow.functions.iter().map(|function| function.name.clone());
            let known = ["publisher".to_owned(), "handler".to_owned()];
            let known = known.into_iter().chain(functions).collect();
            Err(CommandError::UnknownComponent { component: component.to_owned(), known })
        }
    }
}

/// Reads artifacts and definitions.
pub(crate) fn inputs(global: &Global, workflow: &Workflow) -> Result<Inputs, CommandError> {
    let folder = global.workflow.parent().unwrap_or(Path::new("."));
    inputs::read(workflow, &global.root, folder)
        .map_err(|problems| CommandError::Provision(ProvisionError::Problems(problems)))
}
