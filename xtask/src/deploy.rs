//! `cargo xtask deploy`: build for AWS, show the plan, ask, apply, show what is there.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

use clap::Args;

use crate::build::{self, BuildError, Profile, Targets};
use crate::process::{Group, ProcessError, run_on_terminal};
use crate::project::{Project, ProjectError};
use crate::steps::Steps;

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
        if !self.yes && !std::io::stdin().is_terminal() {
            // Said now, not after the build.
            return Err(DeployError::NobodyToAsk);
        }
        let targets = Targets::of_workflow(&workflow).map_err(BuildError::from)?;
        let built = build::run_as_step(&project, Profile::Release, &targets, &Steps::new())?;
        let root = project.artifact_root()?;
        let program = built.binary("bellwire")?;
        let bellwire = |arguments: &[&str]| {
            let mut command = Command::new(program);
            command.arg("--workflow").arg(&workflow).arg("--root").arg(&root);
            command.args(self.env.iter().flat_map(|name| ["--env", name])).args(arguments);
            command
        };
        println!();
        // One and the same plan is shown, asked about and applied: by one command. What
        // it says it says itself; its exit code is this command's.
        let yes: &[&str] = if self.yes { &["--yes"] } else { &[] };
        let mut apply = bellwire(&["apply"]);
        match code_of(run_on_terminal(apply.args(yes))?) {
            0 => {}
            failed => return Ok(exit_code(failed)),
        }
        println!();
        let outputs = Group::spawn(&mut bellwire(&["outputs"]))?.wait()?;
        Ok(exit_code(code_of(outputs)))
    }
}

fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or(1)
}

fn exit_code(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
