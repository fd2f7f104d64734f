//! The publisher as a process that is killed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// What the publisher runs under.
const WORKFLOW: &str = include_str!("../../chaos.toml");

/// Settings of the person's own that would change what it does.
const OWN_SETTINGS: [&str; 4] = ["AWS_", "OTEL_", "BELLWIRE_", "RUST_LOG"];

const POLL: Duration = Duration::from_millis(5);

/// Why the publisher cannot be run, or does not do as it is told.
#[derive(Debug, thiserror::Error)]
pub enum VictimError {
    /// Its folder cannot be written to.
    #[error("`{}` cannot be written", path.display())]
    Folder {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be started, or ended.
    #[error("the publisher cannot be run")]
    Process(#[from] io::Error),
    /// It ended although nobody killed it, and everything answered.
    #[error("the publisher ended by itself ({status}): see {}", log.display())]
    Ended {
        /// How.
        status: ExitStatus,
        /// What it said.
        log: PathBuf,
    },
}

/// A publisher, one life after the other.
pub(super) struct Victim {
    program: PathBuf,
    folder: PathBuf,
    endpoint: String,
    running: Option<Running>,
    /// Where the one that runs now listens, for whoever calls it.
    address: watch::Sender<Option<String>>,
}

struct Running {
    child: Child,
    looking: JoinHandle<()>,
}

impl Victim {
    pub(super) fn new(program: &Path, folder: &Path, endpoint: &str) -> Result<Self, VictimError> {
        let path = folder.join("bellwire.toml");
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, WORKFLOW))
            .map_err(|source| VictimError::Folder { path, source })?;
        Ok(Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            endpoint: endpoint.to_owned(),
            running: None,
            address: watch::Sender::new(None),
        })
    }

    pub(super) fn address(&self) -> watch::Receiver<Option<String>> {
        self.address.subscribe()
    }

    /// Begins a life; over the spool that the last one left.
    pub(super) fn start(&mut self) -> Result<(), VictimError> {
        let address_file = self.folder.join("address");
        match fs::remove_file(&address_file) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(VictimError::Folder { path: address_file, source });
            }
            _ => {}
        }
        // Each life's log over the last one's: that of the one that went wrong is left.
        let log = File::create(self.log()).map_err(VictimError::Process)?;
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if OWN_SETTINGS.iter().any(|own| text.starts_with(own)) {
                command.env_remove(&name);
            }
        }
        let child = command
            .arg("--workflow")
            .arg(self.folder.join("bellwire.toml"))
            .arg("--spool")
            .arg(self.folder.join("spool.redb"))
            .arg("--address-file")
            .arg(&address_file)
            .args(["--listen", "127.0.0.1:0"])
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "chaos")
            .env("AWS_SECRET_ACCESS_KEY", "chaos")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let address = self.address.clone();
        let looking = tokio::spawn(async move {
            loop {
                if let Ok(text) = fs::read_to_string(&address_file)
                    && !text.is_empty()
                {
                    address.send_replace(Some(text));
                    return;
                }
                sleep(POLL).await;
            }
        });
        self.running = Some(Running { child, looking });
        Ok(())
    }

    /// Waits until it listens, or has ended: where nothing answers it does.
    pub(super) async fn has_begun(&mut self, within: Duration) -> Result<(), VictimError> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let mut address = self.address.subscribe();
        let listens = timeout(within, address.wait_for(Option::is_some));
        tokio::select! {
            _ = listens => {}
            ended = running.child.wait() => drop(ended?),
        }
        Ok(())
    }

    /// Ends a life by SIGKILL; `false` where it had ended by itself.
    pub(super) async fn kill(&mut self) -> Result<bool, VictimError> {
        let Some(mut running) = self.running.take() else { return Ok(false) };
        running.looking.abort();
        self.address.send_replace(None);
        let is_alive = running.child.try_wait()?.is_none();
        running.child.kill().await?;
        Ok(is_alive)
    }

    /// An error where the one that nobody kills has ended.
    pub(super) fn check(&mut self) -> Result<(), VictimError> {
        let Some(running) = &mut self.running else { return Ok(()) };
        match running.child.try_wait()? {
            Some(status) => Err(VictimError::Ended { status, log: self.log() }),
            None => Ok(()),
        }
    }

    /// Asks it to stop, and waits: it must do so by itself, and in peace.
    pub(super) async fn stop(&mut self) -> Result<(), VictimError> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        running.looking.abort();
        let id = running.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(id) = id {
            kill_process(id, Signal::TERM).map_err(io::Error::from)?;
        }
        let status = running.child.wait().await?;
        match status.success() {
            true => Ok(()),
            false => Err(VictimError::Ended { status, log: self.log() }),
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.join("publisher.log")
    }
}
