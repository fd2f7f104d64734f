//! `cargo xtask chaos`: what is promised of Bellwire's safety, under faults.

mod handler;
mod publisher;
mod simulation;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;

use crate::build::BuildError;
use crate::figures::FiguresError;
use crate::process::{self, Line, ProcessError};
use crate::project::{Project, ProjectError};

/// What `cargo xtask chaos` takes.
#[derive(Debug, Args)]
pub(crate) struct ChaosCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The handler, killed before and after each step: one event, one run
    Handler(handler::HandlerChaos),
    /// A publisher that is killed at random moments, under load and with faults
    Publisher(publisher::PublisherChaos),
    /// The publisher in a simulated world whose faults a seed draws: no network, no real clock
    Simulation(simulation::Simulation),
}

/// Why nothing is proven.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChaosError {
    /// What is to be tried could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A process could not be run, or the user interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The project's folders are not known.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// What was found could not be kept.
    #[error(transparent)]
    Figures(#[from] FiguresError),
    /// A file could not be made or removed.
    #[error("`{}` cannot be written or removed", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// A program ended without its verdict.
    #[error("{program} ended ({status}) without a verdict:\n{output}")]
    NoVerdict { program: &'static str, status: ExitStatus, output: String },
    /// A program ended without its report.
    #[error("{program} ended ({status}) without a report in `{}`:\n{output}", path.display())]
    NoReport { program: &'static str, status: ExitStatus, path: PathBuf, output: String },
}

impl ChaosCommand {
    /// Tries, and tells.
    pub(crate) fn run(&self) -> Result<ExitCode, ChaosError> {
        match &self.what {
            What::Handler(handler) => handler.run(),
            What::Publisher(publisher) => publisher.run(),
            What::Simulation(simulation) => simulation.run(),
        }
    }
}

/// A place for a test's report, where none lies from before.
fn report_path(project: &Project, file: &str) -> Result<PathBuf, ChaosError> {
    let folder = project.state().join("chaos");
    let path = folder.join(file);
    let made = fs::create_dir_all(&folder).and_then(|()| match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    });
    made.map(|()| path.clone()).map_err(|source| ChaosError::File { path, source })
}

/// Runs a test, and reads the report that it writes to a path; `program` is what an
/// error calls it.
fn report_of<T: DeserializeOwned>(
    command: &mut Command,
    path: &Path,
    program: &'static str,
) -> Result<T, ChaosError> {
    let mut output = String::new();
    let status = process::run_with_lines(command, |line| match line {
        Line::Stdout(text) | Line::Stderr(text) => process::push_line(&mut output, &text),
    })?;
    let text = fs::read_to_string(path).unwrap_or_default();
    serde_json::from_str(&text).map_err(|_| {
        let path = path.to_owned();
        ChaosError::NoReport { program, status, path, output }
    })
}
