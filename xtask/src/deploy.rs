//! `cargo xtask deploy`: build for AWS, show the plan, ask, apply, show what is there.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Args;

use crate::build::{self, BuildError, Profile};
use crate::process::{Group, ProcessError};
use crate::project::{Project, ProjectError};
use crate::steps::Steps;

/// `bellwire plan --exit-code`: there is something to do.
const SOMETHING_TO_DO: i32 = 2;

/// What `cargo xtask deploy` takes.
#[derive(Debug, Args)]
pub(crate) struct DeployCommand {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// The environment: part of every name, so that one account holds several
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    /// The workflow file [default: the wine example's]
    #[arg(long, value_name = "FILE")]
    workflow: Option<PathBuf>,
}

/// Why nothing was deployed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeployError {
    /// There is no such file.
    #[error("there is no workflow file `{}`", path.display())]
    NoWorkflow { path: PathBuf },
    /// Nobody said yes.
    #[error("not confirmed: nothing was changed")]
    NotConfirmed,
    /// Nobody can be asked.
    #[error("there is no terminal to ask for confirmation; add --yes")]
    NobodyToAsk,
    /// The build failed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The project's folders are not known.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// `bellwire` could not be run, or the user interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl DeployCommand {
    /// Deploys to the account that the user's AWS settings lead to.
    pub(crate) fn run(&self) -> Result<ExitCode, DeployError> {
        let project = Project::find()?;
        let workflow = self.workflow.clone().unwrap_or_else(|| project.example_workflow());
        if !workflow.is_file() {
            return Err(DeployError::NoWorkflow { path: workflow });
        }
        let built = build::run_as_step(&project, Profile::Release, &Steps::new())?;
        let root = project.artifact_root()?;
        let program = built.binary("bellwire")?;
        let bellwire = |arguments: &[&str]| {
            let mut command = Command::new(program);
            command.arg("--workflow").arg(&workflow).arg("--root").arg(&root);
            command.args(self.env.iter().flat_map(|name| ["--env", name])).args(arguments);
            command
        };
        println!();
        // What it says it says itself; its exit code is this command's.
        match code_of(&mut bellwire(&["plan", "--exit-code"]))? {
            0 => return Ok(exit_code(code_of(&mut bellwire(&["outputs"]))?)),
            SOMETHING_TO_DO => {}
            failed => return Ok(exit_code(failed)),
        }
        if !self.yes {
            confirm()?;
        }
        println!();
        match code_of(&mut bellwire(&["apply", "--yes"]))? {
            0 => {}
            failed => return Ok(exit_code(failed)),
        }
        println!();
        Ok(exit_code(code_of(&mut bellwire(&["outputs"]))?))
    }
}

/// Runs a command whose output is the user's; its exit code.
fn code_of(command: &mut Command) -> Result<i32, ProcessError> {
    Ok(Group::spawn(command)?.wait()?.code().unwrap_or(1))
}

fn exit_code(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Asks; only `yes` is a yes.
fn confirm() -> Result<(), DeployError> {
    if !std::io::stdin().is_terminal() {
        return Err(DeployError::NobodyToAsk);
    }
    print!("\nApply this plan? Type yes to go on: ");
    // Unseen, the question is still answered or not.
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "yes" { Ok(()) } else { Err(DeployError::NotConfirmed) }
}
