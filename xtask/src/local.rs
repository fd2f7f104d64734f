//! `cargo xtask local`: a local AWS that stays, to try things on.

use std::path::PathBuf;
use std::process::ExitCode;

use bellwire_local::{
    AttachError, DetachError, DetachedCloud, Environment, LocalCloud, MINISTACK_VERSION,
    SetupError, StartError, StartOptions, Step as SetUpStep, StopError,
};
use clap::{Args, Subcommand};

use crate::demo;
use crate::interrupt;
use crate::process::ProcessError;
use crate::project::{Project, ProjectError};
use crate::steps::Steps;

/// What `cargo xtask local` takes.
#[derive(Debug, Args)]
pub(crate) struct LocalCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start it, with what it held when it was last stopped
    Up {
        /// Its port on 127.0.0.1 [default: a free one]
        #[arg(long)]
        port: Option<u16>,
    },
    /// Stop it, and what `demo --keep` left running
    Down,
    /// Say whether it runs, and where
    Status,
}

/// Why the local cloud is not as it was asked to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    /// Its environment cannot be set up.
    #[error(transparent)]
    SetUp(#[from] SetupError),
    /// It does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It runs already.
    #[error(
        "a local cloud already runs on {endpoint}; use it, or stop it with `cargo xtask local down`"
    )]
    AlreadyUp { endpoint: String },
    /// It cannot be left running.
    #[error(transparent)]
    Detach(#[from] DetachError),
    /// Its state folder cannot be read.
    #[error(transparent)]
    Find(#[from] AttachError),
    /// It had to be ended by force.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// The project's folders are not known.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// The user interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl LocalCommand {
    /// Does what was asked for.
    pub(crate) fn run(&self) -> Result<ExitCode, LocalError> {
        let project = Project::find()?;
        match self.action {
            Action::Up { port } => up(&project, port),
            Action::Down => down(&project),
            Action::Status => status(&project),
        }
    }
}

/// Sets up the local cloud's environment as one step of a command.
pub(crate) fn set_up_as_step(project: &Project, steps: &Steps) -> Result<Environment, LocalError> {
    let step = steps.begin("set up", format!("local cloud (ministack {MINISTACK_VERSION})"));
    let environment =
        Environment::ensure(&project.state().join("local-cloud"), &mut |progress| match progress {
            SetUpStep::Waiting => step.note("another process sets it up: waiting for it"),
            SetUpStep::CreatingEnvironment { version, .. } => {
                step.note(&format!("virtual environment of Python {version}"));
            }
            SetUpStep::Installing => step.note("installing; only this first time"),
            SetUpStep::Ready { .. } => {}
        });
    interrupt::check()?;
    step.end(&environment, |_| String::new());
    Ok(environment?)
}

/// Starts a local cloud as one step of a command.
pub(crate) fn start_as_step(
    environment: &Environment,
    options: StartOptions,
    steps: &Steps,
) -> Result<LocalCloud, LocalError> {
    let step = steps.begin("start", "local cloud");
    step.note("checking that it behaves as AWS");
    let cloud = LocalCloud::start(environment, options);
    interrupt::check()?;
    step.end(&cloud, |cloud| {
        let check = cloud.self_check();
        format!("self-check {} of {}", check.passed, check.total)
    });
    Ok(cloud?)
}

/// The state folders on which a local cloud may be left running.
fn folders(project: &Project) -> [PathBuf; 2] {
    [project.state().join("local"), demo::cloud_folder(project)]
}

fn running(project: &Project) -> Result<Vec<DetachedCloud>, LocalError> {
    let mut running = Vec::new();
    for folder in folders(project) {
        match LocalCloud::attach(&folder) {
            Ok(cloud) => running.push(cloud),
            Err(AttachError::NotRunning { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(running)
}

fn up(project: &Project, port: Option<u16>) -> Result<ExitCode, LocalError> {
    let [folder, _] = folders(project);
    if let Ok(cloud) = LocalCloud::attach(&folder) {
        return Err(LocalError::AlreadyUp { endpoint: cloud.endpoint_url() });
    }
    let steps = Steps::new();
    let environment = set_up_as_step(project, &steps)?;
    let options =
        StartOptions { port, state_dir: Some(folder), persist: true, ..StartOptions::default() };
    let cloud = start_as_step(&environment, options, &steps)?;
    let cloud = cloud.detach()?;
    println!("\nTo use it from this shell:\n");
    print_variables(&cloud.env());
    println!("\nTo stop it, keeping what it holds: cargo xtask local down");
    Ok(ExitCode::SUCCESS)
}

fn down(project: &Project) -> Result<ExitCode, LocalError> {
    let had_publisher = demo::stop_kept_publisher(project);
    if had_publisher {
        println!("stopped the demo's publisher");
    }
    let running = running(project)?;
    if running.is_empty() && !had_publisher {
        println!("no local cloud runs");
    }
    for cloud in running {
        let endpoint = cloud.endpoint_url();
        cloud.stop()?;
        println!("stopped the local cloud on {endpoint}");
    }
    Ok(ExitCode::SUCCESS)
}

fn status(project: &Project) -> Result<ExitCode, LocalError> {
    let running = running(project)?;
    if running.is_empty() {
        println!("no local cloud runs; `cargo xtask local up` starts one");
        return Ok(ExitCode::FAILURE);
    }
    for cloud in running {
        println!("a local cloud runs on {} (process {})", cloud.endpoint_url(), cloud.process_id());
        println!("  log   {}\n", cloud.log().display());
        print_variables(&cloud.env());
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints variables as a shell takes them.
pub(crate) fn print_variables(variables: &[(String, String)]) {
    for (name, value) in variables {
        println!("  export {name}={value}");
    }
}
