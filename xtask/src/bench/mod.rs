//! `cargo xtask bench`: what is promised of Bellwire's speed and size, measured
//! against peers that do the same work in the same run.

mod handler;
mod infra;
mod ingest;
mod peer;
mod publisher;
mod stub;
mod telemetry;

use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use bellwire_local::SetupError;
use clap::{Args, Subcommand};

use crate::build::BuildError;
use crate::figures::FiguresError;
use crate::local::LocalError;
use crate::process::ProcessError;
use crate::project::ProjectError;

/// What `cargo xtask bench` takes.
#[derive(Debug, Args)]
pub(crate) struct BenchCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The handler's function, against an empty one, its bare calls, and Python
    Handler(handler::HandlerBench),
    /// The deploy: its calls, its time, and applies that are killed at a random call
    Infra(infra::InfraBench),
    /// The way in over HTTP with its fsync, against one fsync per event
    Ingest(ingest::IngestBench),
    /// What traces and metrics cost publisher and handler, by how much is sampled
    Telemetry(telemetry::TelemetryBench),
    /// The way from the ingest queue to the topic, against a bare SDK loop and boto3
    Publisher(publisher::PublisherBench),
}

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// What is measured could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The local cloud could not be set up, started or ended.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// boto3 could not be had.
    #[error(transparent)]
    SetUp(#[from] SetupError),
    /// A process could not be run, or the user interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The project's folders are not known.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// What was measured could not be kept.
    #[error(transparent)]
    Figures(#[from] FiguresError),
    /// A file could not be read or written.
    #[error("`{}` cannot be read or written", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// Nothing can receive what is exported.
    #[error(transparent)]
    Receiver(#[from] bellwire_otlp_receiver::ReceiverError),
    /// The stub does not do what it is there for.
    #[error("the stub does not answer {call}")]
    Stub { call: &'static str, source: ureq::Error },
    /// The stub answers something that this does not know.
    #[error("the stub's answer to {call} is not understood")]
    StubAnswer { call: &'static str, source: serde_json::Error },
    /// A program was not ready in time.
    #[error("{program} was not ready after {seconds} s")]
    NotReady { program: &'static str, seconds: u64 },
    /// A program ended without what it measured.
    #[error("the bench of the way in ended ({status}) without a rate:\n{output}")]
    NoRate { status: ExitStatus, output: String },
    /// A function could not be measured.
    #[error("the bench of a function ended ({status}) without what it measured:\n{output}")]
    NoMeasure { status: ExitStatus, output: String },
    /// A program ended before its work was done.
    #[error("{program} ended ({status}) before its work was done; its log is {}", log.display())]
    Ended { program: &'static str, status: ExitStatus, log: PathBuf },
    /// A program does nothing any more.
    #[error(
        "{program} published and deleted nothing for {seconds} s; its log is {}", log.display()
    )]
    Stalled { program: &'static str, seconds: u64, log: PathBuf },
    /// What a process took is not told.
    #[error(
        "what {program} took is not in /proc/{id}; only Linux tells it there, and only of a running process"
    )]
    Usage { program: &'static str, id: u32 },
}

impl BenchCommand {
    /// Measures, and tells.
    pub(crate) fn run(&self) -> Result<ExitCode, BenchError> {
        match &self.what {
            What::Handler(handler) => handler.run(),
            What::Infra(infra) => infra.run(),
            What::Ingest(ingest) => ingest.run(),
            What::Publisher(publisher) => publisher.run(),
            What::Telemetry(telemetry) => telemetry.run(),
        }
    }
}

/// An error about a file.
fn file_error(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> BenchError {
    let path = path.to_owned();
    move |source| BenchError::File { path, source }
}
