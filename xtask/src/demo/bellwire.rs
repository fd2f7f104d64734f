//! The `bellwire` command, as the demo uses it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::runs::Run;
use crate::process::{self, Line, ProcessError};

/// `bellwire` with a workflow, against a local cloud, as its root.
#[derive(Debug, Clone)]
pub(crate) struct Bellwire {
    pub(crate) program: PathBuf,
    pub(crate) workflow: PathBuf,
    /// What artifacts are relative to.
    pub(crate) root: PathBuf,
    /// The local cloud's variables.
    pub(crate) env: Vec<(String, String)>,
}

/// What `bellwire outputs --json` says, as far as the demo needs it.
#[derive(Debug, Deserialize)]
pub(crate) struct Outputs {
    pub(crate) queues: BTreeMap<String, QueueOutput>,
    pub(crate) log_groups: Vec<String>,
    pub(crate) resources: usize,
}

/// A queue.
#[derive(Debug, Deserialize)]
pub(crate) struct QueueOutput {
    pub(crate) url: String,
}

/// Why `bellwire` did not do what the demo asked it for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BellwireError {
    /// It failed, and said why.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// What it printed is not what this demo reads.
    #[error("`bellwire {command}` printed something unexpected")]
    Form { command: String, source: serde_json::Error },
    /// Apply failed.
    #[error("`bellwire apply` failed:\n{message}")]
    Apply { message: String },
}

impl Bellwire {
    /// The command with arguments, free of the user's own AWS settings.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        without_own_settings(&mut command);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.arg("--workflow").arg(&self.workflow).arg("--root").arg(&self.root);
        command.args(arguments);
        command
    }

    /// Makes everything; `note` is told what is being done.
    pub(crate) fn apply(
        &self,
        otlp_endpoint: &str,
        mut note: impl FnMut(&str),
    ) -> Result<usize, BellwireError> {
        let mut command =
            self.command(&["--json", "apply", "--yes", "--otlp-endpoint", otlp_endpoint]);
        let (mut words, mut done, mut steps) = (String::new(), 0_usize, 0_usize);
        let status = process::run_with_lines(&mut command, |line| match line {
            Line::Stderr(text) => process::push_line(&mut words, &text),
            Line::Stdout(text) => {
                let Ok(event) = serde_json::from_str::<Value>(&text) else { return };
                let text_of = |name: &str| event[name].as_str().unwrap_or_default();
                match text_of("event") {
                    "plan" => steps = event["plan"]["steps"].as_array().map_or(0, Vec::len),
                    "done" => done += 1,
                    "failed" => {
                        let (kind, name) = (text_of("kind"), text_of("name"));
                        process::push_line(
                            &mut words,
                            &format!("{kind} {name}: {}", text_of("error")),
                        );
                    }
                    "started" => note(&format!(
                        "{done} of {steps}, now {} {}",
                        text_of("kind").replace(['-', '_'], " "),
                        text_of("name")
                    )),
                    _ => {}
                }
            }
        })?;
        if status.success() { Ok(done) } else { Err(BellwireError::Apply { message: words }) }
    }

    /// What was made.
    pub(crate) fn outputs(&self) -> Result<Outputs, BellwireError> {
        self.json("outputs")
    }

    /// What was started so far, in the order in which it was claimed.
    pub(crate) fn runs(&self) -> Result<Vec<Run>, BellwireError> {
        self.json("runs")
    }

    fn json<T: DeserializeOwned>(&self, command: &str) -> Result<T, BellwireError> {
        let text = process::output_of(&mut self.command(&["--json", command]))?;
        serde_json::from_str(&text)
            .map_err(|source| BellwireError::Form { command: command.to_owned(), source })
    }
}

/// Removes what the user has set for AWS, OpenTelemetry and Bellwire themselves:
/// the demo's components get the local cloud's settings and no others.
pub(crate) fn without_own_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["AWS_", "OTEL_", "BELLWIRE_"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}
