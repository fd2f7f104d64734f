//! A local AWS that runs on after the process that started it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::calls::{self, RecordedCall};
use crate::launcher::{STOP_LIMIT, kill_group};
use crate::state::{LOG_FILE, RUNNING_LOCK, is_free};
use crate::{StopError, endpoint_url, root_variables};

const POLL: Duration = Duration::from_millis(10);

/// A local AWS found by its state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachedCloud {
    folder: PathBuf,
    process_id: u32,
    port: u16,
}

/// Why no local AWS was found.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// None runs there.
    #[error("no local AWS runs on {}\nstart one: cargo xtask local up", folder.display())]
    NotRunning {
        /// The state folder.
        folder: PathBuf,
    },
    /// One is just starting.
    #[error("a local AWS is just starting on {}\ntry again", folder.display())]
    Starting {
        /// The state folder.
        folder: PathBuf,
    },
    /// The state folder cannot be read.
    #[error("could not read {}: {source}", folder.display())]
    Io {
        /// The state folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a local AWS cannot be left running.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// Nobody could find it again.
    #[error("a local AWS with a temporary state folder cannot run on\ngive a state folder")]
    Temporary,
    /// It ended.
    #[error("the local AWS ended: {0}")]
    Ended(io::Error),
    /// It is not found.
    #[error(transparent)]
    NotFound(#[from] AttachError),
}

/// What the launcher writes into its lock file.
#[derive(Deserialize)]
struct Running {
    pid: u32,
    port: u16,
}

impl DetachedCloud {
    pub(crate) fn find(state_dir: &Path) -> Result<DetachedCloud, AttachError> {
        let folder = state_dir.to_owned();
        let path = folder.join(RUNNING_LOCK);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(AttachError::NotRunning { folder });
            }
            Err(source) => return Err(AttachError::Io { folder, source }),
        };
        // The launcher holds the lock for as long as it lives: a process id could be anyone's.
        match file.try_lock() {
            Ok(()) => return Err(AttachError::NotRunning { folder }),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(AttachError::Io { folder, source }),
        }
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(source) => return Err(AttachError::Io { folder, source }),
        };
        let Ok(Running { pid, port }) = serde_json::from_slice(&text) else {
            return Err(AttachError::Starting { folder });
        };
        Ok(DetachedCloud { folder, process_id: pid, port })
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint_url(&self) -> String {
        endpoint_url(self.port)
    }

    /// The port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The launcher's process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// The file of its warnings and errors, unless it was started with another.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join(LOG_FILE)
    }

    /// The variables with which a process calls it as the account's root.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        root_variables(self.port)
    }

    /// The calls so far, if they are recorded.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn calls(&self) -> io::Result<Vec<RecordedCall>> {
        calls::read(&self.folder)
    }

    /// Stops it with all that it started, and waits until it has.
    ///
    /// # Errors
    /// If it had to be killed.
    pub fn stop(self) -> Result<(), StopError> {
        let lock = self.folder.join(RUNNING_LOCK);
        let pid = i32::try_from(self.process_id).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| !is_free(&lock)) {
            // An error is that it has just ended.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_LIMIT;
        while !is_free(&lock) {
            if Instant::now() > deadline {
                kill_group(self.process_id);
                return Err(StopError);
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}
