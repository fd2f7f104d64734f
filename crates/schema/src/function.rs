//! What a function of Bellwire's own is told by its environment and by the file
//! beside its `bootstrap`.

use std::path::PathBuf;

use crate::workflow::Workflow;
use crate::{Deployment, Place};

/// The file beside `bootstrap` that holds the compiled workflow.
pub const WORKFLOW_FILE: &str = "workflow.json";

/// Everything that the function knows before its first event.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The workflow file's content.
    pub workflow: Workflow,
    /// Workflow and environment: what prefixes every name.
    pub deployment: Deployment,
    /// Region and account: what turns names into ARNs.
    pub place: Place,
}

/// Settings that are missing or wrong, all of them.
#[derive(Debug, thiserror::Error)]
#[error("the function cannot start: {}", problems.join("; "))]
pub struct SettingsError {
    /// One sentence each.
    pub problems: Vec<String>,
}

impl Settings {
    /// Reads `LAMBDA_TASK_ROOT`, `AWS_REGION`, `BELLWIRE_ACCOUNT` and
    /// `BELLWIRE_ENVIRONMENT` through `variable`, and the workflow through `read_file`.
    ///
    /// # Errors
    ///
    /// With every setting that is missing or wrong.
    pub fn read(
        variable: impl Fn(&str) -> Option<String>,
        read_file: impl Fn(&PathBuf) -> std::io::Result<String>,
    ) -> Result<Self, SettingsError> {
        let mut problems = Vec::new();
        let mut required = |name: &str, what: &str| {
            variable(name).filter(|value| !value.is_empty()).unwrap_or_else(|| {
                problems.push(format!("{name} is not set ({what})"));
                String::new()
            })
        };
        let root = required("LAMBDA_TASK_ROOT", "Lambda sets it to the folder of bootstrap");
        let region = required("AWS_REGION", "Lambda sets it");
        let account = required("BELLWIRE_ACCOUNT", "the deploy sets it");
        let path = PathBuf::from(root).join(WORKFLOW_FILE);
        let workflow = read_file(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| {
                serde_json::from_str::<Workflow>(&text).map_err(|error| error.to_string())
            })
            .map_err(|error| problems.push(format!("{} cannot be read: {error}", path.display())));
        match workflow {
            Ok(workflow) if problems.is_empty() => {
                let environment = variable("BELLWIRE_ENVIRONMENT").filter(|name| !name.is_empty());
                Ok(Self {
                    deployment: Deployment::new(&workflow.name, environment.as_deref()),
                    place: Place::new(&region, &account),
                    workflow,
                })
            }
            _ => Err(SettingsError { problems }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let no_file = |_: &PathBuf| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
        let error = Settings::read(|_| None, no_file).unwrap_err();
        assert_eq!(error.problems.len(), 4, "{error}");
    }
}
