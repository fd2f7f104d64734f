//! `cargo xtask build`: the binaries, and the zips of those that run on Lambda.

mod glibc;
mod targets;
mod zip_file;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::process::{self, Line, ProcessError};
use crate::project::{Project, ProjectError, cargo};
use crate::steps::{Steps, shown_bytes};
use glibc::GlibcError;
pub(crate) use targets::{Targets, TargetsError};
use zip_file::{Packing, ZipError};

/// What runs on Lambda: the handler, the publisher where a workflow wants it there,
/// and the example's own function.
pub(crate) const FUNCTIONS: [&str; 3] =
    ["bellwire-handler", "bellwire-publisher-lambda", "wine-worker"];

/// The other binaries.
const PROGRAMS: [&str; 2] = ["bellwire", "bellwire-publisher"];

/// The packages that make them.
const PACKAGES: [&str; 5] = [
    "bellwire-cli",
    "bellwire-publisher",
    "bellwire-publisher-lambda",
    "bellwire-handler",
    "wine-worker",
];

/// A function's zip is to stay below this, for the sake of cold starts.
const ZIP_BYTES_MAX: u64 = 8_000_000;

/// How the binaries are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Quick to compile: for the local cloud and the tests.
    Dev,
    /// Small and quick to run: for AWS.
    Release,
}

/// What `cargo xtask build` takes.
#[derive(Debug, Args)]
pub(crate) struct BuildCommand {
    /// How to compile: `release` for AWS, `dev` for the local cloud
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
    /// The workflow file whose targets the handler is compiled with [default: the wine example's]
    #[arg(long, value_name = "FILE")]
    workflow: Option<PathBuf>,
    /// What the handler is compiled with: the targets that the workflow file starts, or all
    #[arg(long, value_enum, default_value_t = Choice::Workflow)]
    targets: Choice,
}

/// Which targets the handler is compiled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// Those that the workflow file starts
    Workflow,
    /// Every target that there is
    All,
}

/// What was built, and where it lies.
#[derive(Debug)]
pub(crate) struct Built {
    binaries: BTreeMap<String, PathBuf>,
    /// The functions' zips, in the order of [`FUNCTIONS`].
    pub(crate) zips: Vec<Zip>,
}

/// A function's zip.
#[derive(Debug)]
pub(crate) struct Zip {
    pub(crate) path: PathBuf,
    pub(crate) size_bytes: u64,
    /// Written now, rather than found as it should be.
    pub(crate) is_new: bool,
    /// The newest glibc that its binary needs.
    pub(crate) needs: String,
}

/// Why there is no build.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// Cargo said why, in its own words.
    #[error("the build failed\n{message}")]
    Compile { message: String },
    /// Cargo did not say where a binary lies.
    #[error("cargo built no binary `{name}`; is its package still in the workspace?")]
    Missing { name: String },
    /// A function's binary does not run on Lambda.
    #[error("{function} does not run on AWS Lambda")]
    Lambda { function: String, source: GlibcError },
    /// A zip is larger than it may be.
    #[error(
        "{function}.zip is {}, more than {}; `cargo bloat --release -p {function}` says why",
        shown_bytes(*size_bytes), shown_bytes(ZIP_BYTES_MAX)
    )]
    TooLarge { function: String, size_bytes: u64 },
    /// A zip could not be written.
    #[error("{function}.zip was not written")]
    Zip { function: String, source: ZipError },
    /// What the handler has to start is not known.
    #[error(transparent)]
    Targets(#[from] TargetsError),
    /// Cargo could not be run, or the user interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The project's folders are not known.
    #[error(transparent)]
    Project(#[from] ProjectError),
}

impl Built {
    /// The path of a binary that was built.
    pub(crate) fn binary(&self, name: &str) -> Result<&Path, BuildError> {
        let path = self.binaries.get(name).map(PathBuf::as_path);
        path.ok_or_else(|| BuildError::Missing { name: name.to_owned() })
    }
}

impl BuildCommand {
    /// Builds, and tells the sizes.
    pub(crate) fn run(&self) -> Result<ExitCode, BuildError> {
        let project = Project::find()?;
        let steps = Steps::new();
        let workflow = self.workflow.clone().unwrap_or_else(|| project.example_workflow());
        let targets = match self.targets {
            Choice::Workflow => Targets::of_workflow(&workflow)?,
            Choice::All => Targets::all(),
        };
        let built = run_as_step(&project, self.profile, &targets, &steps)?;
        for zip in &built.zips {
            let limit = match self.profile {
                Profile::Release => format!("of {} at most", shown_bytes(ZIP_BYTES_MAX)),
                Profile::Dev => "for the local cloud only".to_owned(),
            };
            let state = if zip.is_new { "written" } else { "unchanged" };
            anstream::println!(
                "  {:<40} {:>9} {limit}, {}, {state}",
                project.shown(&zip.path),
                shown_bytes(zip.size_bytes),
                zip.needs,
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Builds as one step of a command.
pub(crate) fn run_as_step(
    project: &Project,
    profile: Profile,
    targets: &Targets,
    steps: &Steps,
) -> Result<Built, BuildError> {
    let step = steps.begin("build", "publisher, handler, worker, CLI");
    let built = run(project, profile, targets, |line| step.note(line));
    step.end(&built, |built| {
        let count = built.zips.iter().filter(|zip| zip.is_new).count();
        if count == 0 { "zips unchanged".to_owned() } else { format!("{count} zips written") }
    });
    built
}

/// Builds the binaries and the functions' zips; `note` is told what Cargo does.
pub(crate) fn run(
    project: &Project,
    profile: Profile,
    targets: &Targets,
    note: impl FnMut(&str),
) -> Result<Built, BuildError> {
    let binaries = compile(project, profile, targets, note)?;
    let mut built = Built { binaries, zips: Vec::new() };
    for name in PROGRAMS {
        built.binary(name)?;
    }
    for function in FUNCTIONS {
        let zip = pack(project, profile, function, built.binary(function)?)?;
        built.zips.push(zip);
    }
    Ok(built)
}

/// Cargo's message about something that it built.
#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

fn compile(
    project: &Project,
    profile: Profile,
    targets: &Targets,
    note: impl FnMut(&str),
) -> Result<BTreeMap<String, PathBuf>, BuildError> {
    let mut command = cargo_build(project);
    // Only the handler has default features, so that no other package misses any.
    command.args(targets.arguments()).args(targets.arguments_of_cli());
    let binaries_wanted = PROGRAMS.into_iter().chain(FUNCTIONS);
    match profile {
        // With the features that `cargo test --workspace` compiles with, so that one
        // compilation of the dependencies serves both.
        Profile::Dev => command
            .args(["--workspace", "--example", "features_of_tests"])
            .args(binaries_wanted.flat_map(|binary| ["--bin", binary])),
        Profile::Release => {
            command.arg("--release").args(PACKAGES.iter().flat_map(|package| ["-p", package]))
        }
    };
    run_cargo(&mut command, note)
}

/// Compiles packages, each by itself: with the features that it has where it is
/// used. Answers with their binaries.
pub(crate) fn each_of(
    project: &Project,
    profile: Profile,
    packages: &[&str],
    mut note: impl FnMut(&str),
) -> Result<BTreeMap<String, PathBuf>, BuildError> {
    let mut binaries = BTreeMap::new();
    for package in packages {
        let mut command = cargo_build(project);
        command.args(["-p", package]);
        if profile == Profile::Release {
            command.arg("--release");
        }
        binaries.extend(run_cargo(&mut command, &mut note)?);
    }
    Ok(binaries)
}

/// Compiles the handler by itself, with the targets that a workflow starts.
pub(crate) fn handler_with(
    project: &Project,
    profile: Profile,
    targets: &Targets,
    note: impl FnMut(&str),
) -> Result<BTreeMap<String, PathBuf>, BuildError> {
    let mut command = cargo_build(project);
    command.args(["-p", "bellwire-handler"]).args(targets.arguments());
    if profile == Profile::Release {
        command.arg("--release");
    }
    run_cargo(&mut command, note)
}

/// How large a function's zip is for AWS, in bytes.
pub(crate) fn zip_bytes(function: &str, binary: &Path) -> Result<usize, BuildError> {
    let failed = |source| BuildError::Zip { function: function.to_owned(), source };
    let bootstrap = std::fs::read(binary)
        .map_err(|source| failed(ZipError::File { path: binary.to_owned(), source }))?;
    Ok(zip_file::compose(&bootstrap, Packing::Small).map_err(failed)?.len())
}

/// An integration test that a command runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TestOf {
    pub(crate) package: &'static str,
    pub(crate) test: &'static str,
    /// Cargo's name of how it is compiled.
    pub(crate) profile: &'static str,
}

/// Compiles an integration test; answers with its program.
pub(crate) fn test_of(
    project: &Project,
    wanted: &TestOf,
    note: impl FnMut(&str),
) -> Result<PathBuf, BuildError> {
    let TestOf { package, test, profile } = wanted;
    let mut command = cargo();
    command
        .current_dir(&project.root)
        .args(["test", "--no-run", "--message-format=json-render-diagnostics"])
        .args(["-p", package, "--test", test, "--profile", profile]);
    let mut programs = run_cargo(&mut command, note)?;
    programs.remove(*test).ok_or_else(|| BuildError::Missing { name: (*test).to_owned() })
}

fn cargo_build(project: &Project) -> Command {
    let mut command = cargo();
    command.current_dir(&project.root).args(["build", "--message-format=json-render-diagnostics"]);
    command
}

/// Runs Cargo; answers with the binaries that it made, or found as they should be.
fn run_cargo(
    command: &mut Command,
    mut note: impl FnMut(&str),
) -> Result<BTreeMap<String, PathBuf>, BuildError> {
    if std::io::stderr().is_terminal() {
        command.arg("--color=always");
    }
    let (mut binaries, mut words) = (BTreeMap::new(), String::new());
    let mut compiled = 0_usize;
    let status = process::run_with_lines(command, |line| match line {
        Line::Stdout(text) => {
            let Ok(message) = serde_json::from_str::<Message>(&text) else { return };
            if let (Some(target), Some(executable)) = (message.target, message.executable)
                && message.reason == "compiler-artifact"
            {
                binaries.insert(target.name, executable);
            }
        }
        Line::Stderr(text) => {
            let plain = console::strip_ansi_codes(&text);
            if let Some(package) = plain.trim_start().strip_prefix("Compiling ") {
                compiled += 1;
                let name = package.split(" (").next().unwrap_or(package);
                note(&format!("{compiled} compiled, now {name}"));
            } else {
                process::push_line(&mut words, &text);
            }
        }
    })?;
    if status.success() { Ok(binaries) } else { Err(BuildError::Compile { message: words }) }
}

fn pack(
    project: &Project,
    profile: Profile,
    function: &str,
    binary: &Path,
) -> Result<Zip, BuildError> {
    let failed = |source| BuildError::Zip { function: function.to_owned(), source };
    let read = |path: &Path| {
        std::fs::read(path)
            .map_err(|source| failed(ZipError::File { path: path.to_owned(), source }))
    };
    let path = project.lambda_zip(function);
    let bootstrap = read(binary)?;
    let needs = match (glibc::check(&bootstrap), profile) {
        (Ok(Some(glibc)), _) => format!("needs glibc {glibc}"),
        (Ok(None), _) => "needs no glibc".to_owned(),
        // On the local cloud it runs on this machine's own glibc.
        (Err(GlibcError::TooNew(need)), Profile::Dev) => format!("needs glibc {}", need.glibc),
        (Err(source), _) => {
            return Err(BuildError::Lambda { function: function.to_owned(), source });
        }
    };
    let packing = match profile {
        Profile::Release => Packing::Small,
        Profile::Dev => Packing::Quick,
    };
    let zip = zip_file::compose(&bootstrap, packing).map_err(failed)?;
    let size_bytes = zip.len() as u64;
    if profile == Profile::Release && size_bytes > ZIP_BYTES_MAX {
        return Err(BuildError::TooLarge { function: function.to_owned(), size_bytes });
    }
    let is_new = zip_file::write_if_changed(&path, &zip).map_err(failed)?;
    Ok(Zip { path, size_bytes, is_new, needs })
}
