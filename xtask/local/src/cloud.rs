//! One running local AWS: start, use, stop.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use crate::calls::{self, RecordedCall};
use crate::detached::{AttachError, DetachError, DetachedCloud};
use crate::environment::{Environment, SetupError, Step};
use crate::launcher::{Arguments, Event, FailedCheck, Launcher};
use crate::state::StateFolder;
use crate::{ACCOUNT_ID, REGION, endpoint_url, root_variables};

const LOG_LINES_SHOWN: usize = 30;

/// How a local AWS is started.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// The port on loopback; a free one if none is given.
    pub port: Option<u16>,
    /// Where its state is; a temporary folder, removed at stop, if none is given.
    pub state_dir: Option<PathBuf>,
    /// Whether what is in the state folder is loaded at start and saved at stop.
    pub persist: bool,
    /// Whether each call's principal, action, resource and decision is recorded.
    pub record_calls: bool,
    /// Whether each patched behaviour is checked at start.
    pub self_check: bool,
    /// Where its log goes; into the state folder if nothing is given.
    pub log: Option<PathBuf>,
    /// How long the start may take.
    pub timeout: Duration,
}

impl Default for StartOptions {
    fn default() -> StartOptions {
        StartOptions {
            port: None,
            state_dir: None,
            persist: false,
            record_calls: false,
            self_check: true,
            log: None,
            timeout: Duration::from_secs(60),
        }
    }
}

/// How many patched behaviours were checked at start; none where that was not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfCheck {
    /// How many are those of AWS; all of them, or the start fails.
    pub passed: u32,
    /// How many were checked.
    pub total: u32,
}

/// Why a local AWS did not start, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process listens on the port.
    #[error(
        "port {port} on 127.0.0.1 is taken\n\
         stop what listens there (a local AWS: cargo xtask local down), or choose another port"
    )]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The system does not let this user listen on the port.
    #[error("port {port} on 127.0.0.1 is not allowed to this user\nchoose one above 1023")]
    PortRefused {
        /// The port.
        port: u16,
    },
    /// Another local AWS runs on the same state folder.
    #[error(
        "a local AWS already runs on {}\n\
         stop it (cargo xtask local down), or choose another state folder",
        folder.display()
    )]
    StateInUse {
        /// The state folder.
        folder: PathBuf,
    },
    /// State shall be kept, and no folder is given for it.
    #[error("state can only be kept in a state folder\ngive one, or do not persist")]
    NowhereToPersist,
    /// The installed ministack is not the one that the patches are for.
    #[error("the patches do not fit the installed ministack: {message}")]
    Incompatible {
        /// Which one does not, and why.
        message: String,
    },
    /// Patched behaviours are not those of AWS.
    #[error(
        "the local AWS differs from AWS in {} of {total} checked behaviours:\n{}",
        failed.len(),
        list(failed)
    )]
    SelfCheck {
        /// Which, and what was seen instead.
        failed: Vec<FailedCheck>,
        /// How many were checked.
        total: u32,
    },
    /// The launcher ended before it was ready.
    #[error("the local AWS did not start: {message}\n{log_end}")]
    Failed {
        /// What it said.
        message: String,
        /// The last lines of the log.
        log_end: String,
    },
    /// It took too long.
    #[error("the local AWS was not ready after {} s\n{log_end}", timeout.as_secs())]
    TimedOut {
        /// The limit.
        timeout: Duration,
        /// The last lines of the log.
        log_end: String,
    },
    /// A file, a folder or the process could not be made.
    #[error("could not make {}: {source}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn list(failed: &[FailedCheck]) -> String {
    let lines: Vec<String> =
        failed.iter().map(|check| format!("  {}: {}", check.name, check.detail)).collect();
    lines.join("\n")
}

/// It had ended before, or had to be killed.
#[derive(Debug, thiserror::Error)]
#[error("the local AWS did not stop cleanly: what changed since its start is not saved")]
pub struct StopError;

/// A running local AWS; stopped, with all that it started, when this is dropped.
#[derive(Debug)]
pub struct LocalCloud {
    // First the process, then its folder: fields are dropped in this order.
    launcher: Launcher,
    folder: StateFolder,
    log: PathBuf,
    root: PathBuf,
    port: u16,
    self_check: SelfCheck,
}

impl LocalCloud {
    /// Starts a local AWS, waits until it answers, and checks the patched behaviours.
    ///
    /// # Errors
    /// [`StartError`], whose text says what to do.
    pub fn start(
        environment: &Environment,
        options: StartOptions,
    ) -> Result<LocalCloud, StartError> {
        if options.persist && options.state_dir.is_none() {
            return Err(StartError::NowhereToPersist);
        }
        let root = environment.root.clone();
        let (made, place) = match &options.state_dir {
            Some(path) => (StateFolder::kept(path), path.clone()),
            None => (StateFolder::temporary(&root), root.clone()),
        };
        let folder = made.map_err(|source| StartError::Io { path: place, source })?;
        let log = options.log.unwrap_or_else(|| folder.log());
        let arguments = Arguments {
            port: options.port,
            folder: &folder.path,
            log: &log,
            persist: options.persist,
            record_calls: options.record_calls,
            self_check: options.self_check,
        };
        let launcher = Launcher::spawn(environment, &arguments)
            .map_err(|source| StartError::Io { path: environment.python.clone(), source })?;
        let mut cloud = LocalCloud {
            launcher,
            folder,
            log,
            root,
            port: options.port.unwrap_or(0),
            self_check: SelfCheck { passed: 0, total: 0 },
        };
        cloud.wait_until_ready(options.timeout)?;
        Ok(cloud)
    }

    fn wait_until_ready(&mut self, timeout: Duration) -> Result<(), StartError> {
        let deadline = Instant::now() + timeout;
        let mut failed = Vec::new();
        loop {
            match self.launcher.next_event(deadline) {
                Ok(Event::Listening { port }) => self.port = port,
                Ok(Event::Healthy | Event::Stopped) => {}
                Ok(Event::Check(check)) if check.passed => {}
                Ok(Event::Check(check)) => {
                    failed.push(FailedCheck { name: check.name, detail: check.detail });
                }
                Ok(Event::Ready { passed, total }) => {
                    self.self_check = SelfCheck { passed, total };
                    break;
                }
                Ok(Event::Error { code, message }) => return Err(self.error(&code, message)),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(StartError::TimedOut { timeout, log_end: log_end(&self.log) });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.error("failed", "it ended".to_owned()));
                }
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        Err(StartError::SelfCheck { failed, total: self.self_check.total })
    }

    fn error(&self, code: &str, message: String) -> StartError {
        match code {
            "port_taken" => StartError::PortTaken { port: self.port },
            "port_refused" => StartError::PortRefused { port: self.port },
            "state_in_use" => StartError::StateInUse { folder: self.folder.path.clone() },
            "version" | "patch" => StartError::Incompatible { message },
            _ => StartError::Failed { message, log_end: log_end(&self.log) },
        }
    }

    /// A fresh one for an integration test of this workspace, with its calls recorded.
    ///
    /// The environment is made at first use, in the workspace's target folder. A process's first
    /// one is checked; the others are the same programs.
    ///
    /// # Panics
    /// With the whole message, if it cannot be made or started.
    #[must_use]
    pub fn for_tests() -> LocalCloud {
        static CHECKED: AtomicBool = AtomicBool::new(false);
        let environment = Environment::for_tests().unwrap_or_else(|error| panic!("{error}"));
        let options = StartOptions {
            record_calls: true,
            self_check: !CHECKED.swap(true, Ordering::Relaxed),
            ..StartOptions::default()
        };
        LocalCloud::start(&environment, options).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Where it listens, such as `http://127.0.0.1:41873`.
    #[must_use]
    pub fn endpoint_url(&self) -> String {
        endpoint_url(self.port)
    }

    /// The port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The region of all that is in it.
    #[must_use]
    pub fn region(&self) -> &'static str {
        REGION
    }

    /// The account of the root key `test`, and of all that is made with it.
    #[must_use]
    pub fn account_id(&self) -> &'static str {
        ACCOUNT_ID
    }

    /// The variables with which a process calls it as the account's root.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        root_variables(self.port)
    }

    /// Makes `command` call it as the account's root, whatever AWS settings this process has.
    pub fn set_env(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        command.envs(self.env());
    }

    /// How many patched behaviours were checked at start.
    #[must_use]
    pub fn self_check(&self) -> SelfCheck {
        self.self_check
    }

    /// The launcher's process id, which is also that of the process group of all it started.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.launcher.process_id()
    }

    /// The file of its warnings and errors.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The calls so far, in order; those of the self-check are not among them.
    ///
    /// # Panics
    /// If the record cannot be read.
    #[must_use]
    pub fn calls(&self) -> Vec<RecordedCall> {
        calls::read(&self.folder.path)
            .unwrap_or_else(|error| panic!("recorded calls of the local AWS: {error}"))
    }

    /// Stops it with all that it started, and saves its state if it persists.
    ///
    /// # Errors
    /// If it had ended before, or had to be killed.
    pub fn stop(mut self) -> Result<(), StopError> {
        if self.launcher.stop() { Ok(()) } else { Err(StopError) }
    }

    /// Lets it run on when this process ends; [`LocalCloud::attach`] finds it again.
    ///
    /// # Errors
    /// If its state folder is a temporary one, or it has just ended.
    pub fn detach(mut self) -> Result<DetachedCloud, DetachError> {
        if self.folder.is_temporary() {
            return Err(DetachError::Temporary);
        }
        self.launcher.detach().map_err(DetachError::Ended)?;
        DetachedCloud::find(&self.folder.path).map_err(DetachError::from)
    }

    /// The one that runs on a state folder.
    ///
    /// # Errors
    /// If none does.
    pub fn attach(state_dir: &Path) -> Result<DetachedCloud, AttachError> {
        DetachedCloud::find(state_dir)
    }
}

impl Drop for LocalCloud {
    fn drop(&mut self) {
        self.launcher.stop();
        if thread::panicking() && self.folder.is_temporary() {
            keep_log(&self.log, &self.root, self.launcher.process_id());
        }
    }
}

/// A test failed: its log would go with the temporary folder.
fn keep_log(log: &Path, root: &Path, process_id: u32) {
    let kept = root.join(format!("failed-{process_id}.log"));
    if fs::copy(log, &kept).is_ok_and(|bytes| bytes > 0) {
        eprintln!("log of the local AWS: {}", kept.display());
    }
}

fn log_end(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

impl Environment {
    /// The environment of this workspace's tests, in its target folder.
    ///
    /// # Errors
    /// As [`Environment::ensure`].
    pub fn for_tests() -> Result<Environment, SetupError> {
        let target = option_env!("CARGO_TARGET_DIR")
            .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target"));
        let root = Path::new(target).join("bellwire/local-cloud");
        Environment::ensure(&root, &mut |step| {
            if step == Step::Installing {
                eprintln!("setting up the local AWS in {}: once", root.display());
            }
        })
    }
}
