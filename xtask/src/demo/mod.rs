//! `cargo xtask demo`: the wine example, whole, on a local AWS.
//!
//! ```text
//! set up -> build -> start -> apply -> run the publisher -> post one event
//!        -> follow the stages -> summary -> trace -> end everything
//! ```

mod bellwire;
mod browser;
mod follow;
mod local_aws;
mod phoenix;
mod publisher;
mod runs;
mod summary;
mod trace;
mod traces;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use bellwire_local::{LocalCloud, StartOptions};
use bellwire_otlp_receiver::ReceiverError;
use clap::Args;
use serde_json::{Value, json};

use crate::build::{self, BuildError, Profile, Targets};
use crate::local::{self, LocalError};
use crate::process::ProcessError;
use crate::project::{Project, ProjectError};
use crate::steps::Steps;
pub(crate) use bellwire::without_own_settings;
use bellwire::{Bellwire, BellwireError, Outputs};
use follow::FollowError;
use local_aws::{LocalAws, LocalAwsError};
use phoenix::PhoenixError;
use publisher::{Publisher, PublisherError, Setting};
use runs::Run;
use traces::{OTLP_ENDPOINT, Traces};

/// The artifact of the last stage.
const PREDICTIONS: &str = "predictions";

/// What the handler logs of an event that has started its run before.
const DUPLICATE: &str = "duplicate";

/// What `cargo xtask demo` takes.
#[derive(Debug, Args)]
pub(crate) struct DemoCommand {
    /// Leave everything running, to look around
    #[arg(long)]
    keep: bool,
    /// Send the traces to Arize Phoenix, which is installed and started here, and print the
    /// address of the page that shows them
    #[arg(long)]
    traces: bool,
    /// With --traces: look at that page with headless Chromium, fail where it lacks a span, keep
    /// a picture of it, and end
    #[arg(long, value_name = "FILE", requires = "traces")]
    picture: Option<PathBuf>,
}

/// Why the demo did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// A demo is running, or one was left running.
    #[error("the demo already runs ({what}); end it first: {remedy}")]
    AlreadyRuns { what: String, remedy: &'static str },
    /// The demo's own folder cannot be used.
    #[error("`{}` cannot be used", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    /// A stage failed or nothing happened any more.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// The last stage made no predictions.
    #[error("prediction completed, but its output names no artifact `{PREDICTIONS}`")]
    NoPredictions,
    /// The local cloud cannot be set up or started.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The build failed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// `bellwire` failed.
    #[error(transparent)]
    Bellwire(#[from] BellwireError),
    /// The publisher failed.
    #[error(transparent)]
    Publisher(#[from] PublisherError),
    /// Traces cannot be received.
    #[error(transparent)]
    Receiver(#[from] ReceiverError),
    /// Phoenix does not run, or has not got the trace.
    #[error(transparent)]
    Phoenix(#[from] PhoenixError),
    /// The local cloud does not answer.
    #[error(transparent)]
    LocalAws(#[from] LocalAwsError),
    /// The project's folders are not known.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// The user interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// The demo's own folder. It is emptied when a demo begins, except for its lock.
fn folder(project: &Project) -> PathBuf {
    project.state().join("demo")
}

/// Where the demo's local cloud keeps its state.
pub(crate) fn cloud_folder(project: &Project) -> PathBuf {
    folder(project).join("cloud")
}

/// Ends the publisher of a demo that was kept. Says whether there was one.
pub(crate) fn stop_kept_publisher(project: &Project) -> bool {
    publisher::stop_left_running(&folder(project))
}

impl DemoCommand {
    /// Shows everything, from nothing to the predictions.
    pub(crate) fn run(&self) -> Result<ExitCode, DemoError> {
        let project = Project::find()?;
        let steps = Steps::new();
        let _lock = take_folder(&project)?;
        anstream::println!("bellwire demo  wine quality, four stages, on a local AWS\n");
        let environment = local::set_up_as_step(&project, &steps)?;
        let targets =
            Targets::of_workflow(&project.example_workflow()).map_err(BuildError::from)?;
        let built = build::run_as_step(&project, Profile::Dev, &targets, &steps)?;
        let traces = Traces::choose(self.traces, self.picture.clone(), &project, &steps)?;
        let options =
            StartOptions { state_dir: Some(cloud_folder(&project)), ..StartOptions::default() };
        let cloud = local::start_as_step(&environment, options, &steps)?;
        let bellwire = Bellwire {
            program: built.binary("bellwire")?.to_owned(),
            workflow: project.example_workflow(),
            root: project.artifact_root()?,
            env: cloud.env(),
        };
        apply(&bellwire, &traces, &steps)?;
        let folder = folder(&project);
        let publisher = start_publisher(
            &Setting {
                program: built.binary("bellwire-publisher")?,
                bellwire: &bellwire,
                folder: &folder,
                telemetry: &traces.variables(),
            },
            &steps,
        )?;
        let outputs = bellwire.outputs()?;
        let aws = LocalAws::new(&cloud.endpoint_url());
        println!();
        publisher.post(&collection_requested())?;
        let look = follow::WhereToLook { folder: &folder, outputs: &outputs, aws: &aws };
        let runs = follow::to_the_end(&bellwire, &steps, &look)?;
        println!();
        tell(&project, &outputs, &aws, &runs)?;
        self.end(
            &project,
            publisher,
            cloud,
            traces,
            &Told { aws: &aws, outputs: &outputs, runs: &runs },
        )
    }

    /// Ends everything, or leaves it, and tells the events and the trace.
    fn end(
        &self,
        project: &Project,
        publisher: Publisher,
        cloud: LocalCloud,
        traces: Traces,
        told: &Told<'_>,
    ) -> Result<ExitCode, DemoError> {
        let address = publisher.address().to_owned();
        let duplicates = duplicates(told)?;
        let dead = dead(told)?;
        if !self.keep {
            // Its last spans are on their way when it has ended.
            publisher.stop();
            traces.tell(told.runs, duplicates, dead)?;
            cloud.stop().map_err(LocalError::from)?;
            traces.show_until_interrupted()?;
            return Ok(ExitCode::SUCCESS);
        }
        traces.tell(told.runs, duplicates, dead)?;
        publisher.leave_running(&folder(project))?;
        let cloud = cloud.detach().map_err(|error| {
            // Without a cloud it has nothing to publish to.
            stop_kept_publisher(project);
            LocalError::from(error)
        })?;
        let has_traces = traces.outlive_the_demo();
        tell_how_to_look_around(project, &address, &cloud.env(), has_traces)?;
        traces.show_until_interrupted()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What is known when the last stage has ended.
struct Told<'a> {
    aws: &'a LocalAws,
    outputs: &'a Outputs,
    runs: &'a [Run],
}

/// Locks the demo's folder for this process, and empties it.
fn take_folder(project: &Project) -> Result<File, DemoError> {
    let folder = folder(project);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DemoError::Folder { path, source }
    };
    fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let lock_path = project.state().join("demo.lock");
    let lock = File::create(&lock_path).map_err(failed(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let what = "another `cargo xtask demo` is going on".to_owned();
            return Err(DemoError::AlreadyRuns { what, remedy: "Ctrl-C there" });
        }
        Err(TryLockError::Error(source)) => return Err(failed(&lock_path)(source)),
    }
    if let Ok(cloud) = LocalCloud::attach(&cloud_folder(project)) {
        let what = format!("kept on {}", cloud.endpoint_url());
        return Err(DemoError::AlreadyRuns { what, remedy: "cargo xtask local down" });
    }
    // A kept demo whose cloud is gone has nothing to publish to.
    stop_kept_publisher(project);
    fs::remove_dir_all(&folder).map_err(failed(&folder))?;
    fs::create_dir_all(&folder).map_err(failed(&folder))?;
    Ok(lock)
}

fn apply(bellwire: &Bellwire, traces: &Traces, steps: &Steps) -> Result<(), DemoError> {
    let step = steps.begin("apply", "the workflow's resources");
    let applied = bellwire.apply(&traces.endpoint(), |note| step.note(note));
    step.end(&applied, |count| format!("{count} resources"));
    applied?;
    Ok(())
}

fn start_publisher(setting: &Setting<'_>, steps: &Steps) -> Result<Publisher, DemoError> {
    let step = steps.begin("run", "publisher (role wine-publisher)");
    let publisher = Publisher::start(setting);
    match &publisher {
        Ok(publisher) => step.end_well("ready", &format!("on {}", publisher.address())),
        Err(_) => step.end(&publisher, |_| String::new()),
    }
    Ok(publisher?)
}

/// The event that begins it all; a new one at each demo.
fn collection_requested() -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "specversion": "1.0",
        "id": format!("demo-{}", now.as_millis()),
        "source": "/bellwire/demo",
        "type": "ml.collection.requested.v1",
        "time": jiff::Timestamp::now().to_string(),
        "datacontenttype": "application/json",
        "stage": "collection",
        "dataset": "wine",
        "data": { "parameters": {} },
    })
}

/// Tells runs and resources, and where the predictions are.
fn tell(
    project: &Project,
    outputs: &Outputs,
    aws: &LocalAws,
    runs: &[Run],
) -> Result<(), DemoError> {
    let uri =
        runs.iter().find_map(|run| run.artifact(PREDICTIONS)).ok_or(DemoError::NoPredictions)?;
    let path = folder(project).join("predictions.csv");
    fs::write(&path, aws.object(uri)?)
        .map_err(|source| DemoError::Folder { path: path.clone(), source })?;
    print!("{}", summary::runs(runs));
    println!("  predictions  {uri}");
    println!("               copied to {}", project.shown(&path));
    println!("  resources    {} created", outputs.resources);
    Ok(())
}

fn duplicates(told: &Told<'_>) -> Result<usize, DemoError> {
    let mut duplicates = 0;
    for group in told.outputs.log_groups.iter().filter(|group| group.ends_with("-handler")) {
        let is_duplicate = |line: &&String| {
            let message = serde_json::from_str::<Value>(line);
            message.is_ok_and(|line| {
                line["message"].as_str().is_some_and(|text| text.starts_with(DUPLICATE))
            })
        };
        duplicates += told.aws.log(group)?.iter().filter(is_duplicate).count();
    }
    Ok(duplicates)
}

fn dead(told: &Told<'_>) -> Result<u64, DemoError> {
    match told.outputs.queues.iter().find(|(name, _)| name.ends_with("-dead")) {
        Some((_, queue)) => Ok(told.aws.queue_depth(&queue.url)?),
        None => Ok(0),
    }
}

fn tell_how_to_look_around(
    project: &Project,
    publisher: &str,
    variables: &[(String, String)],
    has_traces: bool,
) -> Result<(), DemoError> {
    let workflow = project.example_workflow();
    let workflow = project.shown(&workflow);
    println!("\nEverything still runs. To look around, in this shell:\n");
    local::print_variables(variables);
    println!(
        "  alias bellwire='{}/debug/bellwire --workflow {workflow}'",
        project.shown(&project.target)
    );
    println!("\n  bellwire runs");
    println!("  bellwire outputs");
    println!(
        "  bellwire emit --publisher http://{publisher} --type collection.requested --dataset wine --data '{{\"parameters\":{{}}}}'"
    );
    println!("  aws s3 ls --recursive s3://wine-lake");
    if !has_traces {
        println!(
            "\nThe demo's own trace receiver has ended: later traces go nowhere; to keep them, set {OTLP_ENDPOINT} before the demo."
        );
    }
    println!("\nTo stop it: cargo xtask local down");
    Ok(())
}
