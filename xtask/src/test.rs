//! `cargo xtask test`: everything that the tests need, then all of them.

use std::process::{Command, ExitCode};

use clap::Args;

use crate::build::{self, BuildError, Profile, Targets};
use crate::local;
use crate::process::{Group, ProcessError};
use crate::project::{Project, cargo};
use crate::steps::Steps;

/// What `cargo xtask test` takes.
#[derive(Debug, Args)]
pub(crate) struct TestCommand {
    /// Handed on to `cargo test`, as in `cargo xtask test -p bellwire-schema`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

/// Why the tests did not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TestError {
    /// The local cloud's environment could not be set up.
    #[error(transparent)]
    Environment(#[from] local::LocalError),
    /// What the tests need could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Cargo could not be run, or the user interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl TestCommand {
    /// Runs the tests; their exit code is this command's.
    pub(crate) fn run(&self) -> Result<ExitCode, TestError> {
        let project = Project::find().map_err(BuildError::from)?;
        let steps = Steps::new();
        local::set_up_as_step(&project, &steps)?;
        build::run_as_step(&project, Profile::Dev, &Targets::all(), &steps)?;
        println!();
        let status = Group::spawn(&mut self.cargo_test(&project))?.wait()?;
        Ok(status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from))
    }

    fn cargo_test(&self, project: &Project) -> Command {
        let mut command = cargo();
        command.current_dir(&project.root).arg("test");
        // Without a choice of packages: all of them.
        let chooses = |argument: &String| {
            argument == "-p" || argument.starts_with("--package") || argument == "--workspace"
        };
        if !self.arguments.iter().any(chooses) {
            command.arg("--workspace");
        }
        command.args(&self.arguments);
        command
    }
}
