//! Arize Phoenix, for `cargo xtask demo --traces`: an OpenTelemetry backend with a web page,
//! in a Python environment of its own and on loopback alone.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bellwire_local::{Environment, SetupError, Step};
use serde::Deserialize;
use ureq::Agent;

use super::browser::{self, BrowserError};
use super::publisher::end_of;
use crate::interrupt;
use crate::process::{Group, ProcessError};
use crate::project::Project;
use crate::steps::Steps;

const REQUIREMENTS: &str = include_str!("../../phoenix/requirements.txt");
const LAUNCHER: &str = include_str!("../../phoenix/launcher.py");

/// Phoenix's own, where it is free.
const PORT: u16 = 6006;
/// The project into which Phoenix puts what names none.
const PROJECT: &str = "default";

/// Its first start makes a database.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// It writes spans in batches, some time after it has accepted them.
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);
/// More than a trace of the demo has.
const SPANS_ASKED_FOR: usize = 1_000;

/// A running Phoenix; it ends with this.
#[derive(Debug)]
pub(crate) struct Phoenix {
    group: Group,
    address: String,
    log: PathBuf,
}

/// Why there is no Phoenix, or not the whole trace in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PhoenixError {
    /// Its environment cannot be made.
    #[error("Arize Phoenix, which needs Python 3.11 or newer, cannot be installed")]
    SetUp(#[from] SetupError),
    /// Its files cannot be written.
    #[error("`{}` cannot be written", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// No port.
    #[error("loopback has no port left for Arize Phoenix")]
    Port(#[source] std::io::Error),
    /// It ended, or does not answer.
    #[error("Arize Phoenix {what}; its log, {}, ends:\n{}", log.display(), end_of(log))]
    NotReady { what: String, log: PathBuf },
    /// It has not got everything.
    #[error(
        "Arize Phoenix has {found} of the {expected} spans of trace {trace_id}; its log is {}",
        log.display()
    )]
    Incomplete { trace_id: String, found: usize, expected: usize, log: PathBuf },
    /// Its page does not show the trace.
    #[error(transparent)]
    Page(#[from] BrowserError),
    /// It cannot be started or watched, or the user interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// What `GET /v1/projects/{project}/spans` answers, as far as it is looked at.
#[derive(Deserialize)]
struct Spans {
    data: Vec<serde::de::IgnoredAny>,
}

impl Phoenix {
    /// Installs it where it is not yet, starts it, and waits until it answers.
    pub(crate) fn start_as_step(project: &Project, steps: &Steps) -> Result<Self, PhoenixError> {
        let step = steps.begin("set up", "Arize Phoenix");
        let python = Environment::python_with(&project.state(), REQUIREMENTS, &mut |progress| {
            if progress == Step::Installing {
                step.note("installing, 0.7 GB; only this first time");
            }
        });
        interrupt::check()?;
        step.end(&python, |_| String::new());
        let python = python?;
        let step = steps.begin("start", "Arize Phoenix");
        let phoenix = Self::start(&python, &project.state().join("phoenix"));
        step.end(&phoenix, |phoenix| format!("on {}", phoenix.address));
        phoenix
    }

    fn start(python: &Path, folder: &Path) -> Result<Self, PhoenixError> {
        let made = |path: &Path| {
            let path = path.to_owned();
            move |source| PhoenixError::File { path, source }
        };
        let data = folder.join("data");
        fs::create_dir_all(&data).map_err(made(&data))?;
        let (launcher, log) = (folder.join("launcher.py"), folder.join("phoenix.log"));
        fs::write(&launcher, LAUNCHER).map_err(made(&launcher))?;
        let log_file = File::create(&log).map_err(made(&log))?;
        let port = free_port().map_err(PhoenixError::Port)?;
        let mut command = Command::new(python);
        command
            .arg(&launcher)
            .env("PHOENIX_HOST", "127.0.0.1")
            .env("PHOENIX_PORT", port.to_string())
            .env("PHOENIX_WORKING_DIR", &data)
            // It tells nobody of itself, and fetches nothing.
            .env("PHOENIX_TELEMETRY_ENABLED", "false")
            .env("PHOENIX_ALLOW_EXTERNAL_RESOURCES", "false")
            .stdout(log_file.try_clone().map_err(made(&log))?)
            .stderr(log_file);
        let group = Group::spawn(&mut command)?;
        let mut phoenix = Self { group, address: format!("127.0.0.1:{port}"), log };
        phoenix.wait_until_ready()?;
        Ok(phoenix)
    }

    fn wait_until_ready(&mut self) -> Result<(), PhoenixError> {
        let agent = agent();
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            interrupt::check()?;
            if let Some(status) = self.group.poll()? {
                return Err(self.not_ready(format!("ended at once ({status})")));
            }
            if agent.get(format!("http://{}/healthz", self.address)).call().is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let seconds = READY_WITHIN.as_secs();
                return Err(self.not_ready(format!("did not answer for {seconds} s")));
            }
            thread::sleep(POLL);
        }
    }

    fn not_ready(&self, what: String) -> PhoenixError {
        PhoenixError::NotReady { what, log: self.log.clone() }
    }

    /// What hands an export of traces, in OTLP, on to it. What it does not get is
    /// missed by [`Phoenix::wait_for_trace`].
    pub(crate) fn sink(&self) -> impl Fn(&[u8]) + Send + 'static {
        let (agent, url) = (agent(), format!("http://{}/v1/traces", self.address));
        move |export| {
            let post = agent.post(&url).header("content-type", "application/x-protobuf");
            let _ = post.send(export);
        }
    }

    /// Where a trace is shown.
    pub(crate) fn page_of(&self, trace_id: &str) -> String {
        format!("http://{}/redirects/traces/{trace_id}", self.address)
    }

    /// Waits until it has all spans of a trace.
    pub(crate) fn wait_for_trace(
        &self,
        trace_id: &str,
        expected: usize,
    ) -> Result<(), PhoenixError> {
        let agent = agent();
        let url = format!(
            "http://{}/v1/projects/{PROJECT}/spans?trace_id={trace_id}&limit={SPANS_ASKED_FOR}",
            self.address
        );
        let deadline = Instant::now() + WRITTEN_WITHIN;
        loop {
            interrupt::check()?;
            let answer = agent.get(&url).call().and_then(|mut it| it.body_mut().read_to_vec());
            // Before the first span there is no project, which is an error of its own.
            let spans = answer.ok().and_then(|body| serde_json::from_slice::<Spans>(&body).ok());
            let found = spans.map_or(0, |spans| spans.data.len());
            if found >= expected {
                return Ok(());
            }
            if Instant::now() > deadline {
                let (trace_id, log) = (trace_id.to_owned(), self.log.clone());
                return Err(PhoenixError::Incomplete { trace_id, found, expected, log });
            }
            thread::sleep(POLL);
        }
    }

    /// Has a browser look at a trace's page until it shows spans of all these names, and keeps
    /// a picture of it.
    pub(crate) fn look_at(
        &self,
        trace_id: &str,
        names: &BTreeSet<&str>,
        picture: &Path,
    ) -> Result<(), PhoenixError> {
        let folder = self.log.parent().unwrap_or(Path::new("."));
        Ok(browser::look_at(&self.page_of(trace_id), names, folder, picture)?)
    }

    /// Lets people look until they interrupt, or it ends by itself.
    pub(crate) fn run_until_interrupted(mut self) -> Result<(), PhoenixError> {
        while !interrupt::requested() {
            if let Some(status) = self.group.poll()? {
                return Err(self.not_ready(format!("ended by itself ({status})")));
            }
            thread::sleep(POLL);
        }
        self.group.end();
        Ok(())
    }
}

fn agent() -> Agent {
    Agent::config_builder().timeout_global(Some(CALL_TIMEOUT)).build().new_agent()
}

/// Phoenix takes no port 0: whoever takes this one meanwhile is told of in its log.
fn free_port() -> std::io::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", PORT));
    let listener = listener.or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
    Ok(listener.local_addr()?.port())
}
