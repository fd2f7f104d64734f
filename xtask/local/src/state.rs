//! The folder in which one local AWS keeps its state, its recorded calls and its log.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Held by the launcher while it runs; says its process id and port.
pub(crate) const RUNNING_LOCK: &str = "running.lock";
const OWNER_LOCK: &str = "owner.lock";
pub(crate) const LOG_FILE: &str = "launcher.log";

/// A state folder; a temporary one is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct StateFolder {
    pub(crate) path: PathBuf,
    /// Held while a temporary folder is in use, so that nobody sweeps it away.
    owner: Option<File>,
}

impl StateFolder {
    pub(crate) fn kept(path: &Path) -> io::Result<StateFolder> {
        fs::create_dir_all(path)?;
        Ok(StateFolder { path: path.canonicalize()?, owner: None })
    }

    /// Makes a folder under `root`, and removes those that killed processes left there.
    pub(crate) fn temporary(root: &Path) -> io::Result<StateFolder> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let folder = root.join("run");
        fs::create_dir_all(&folder)?;
        let everyone = File::create(root.join("run.lock"))?;
        everyone.lock()?;
        sweep(&folder)?;
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{}-{count}", process::id()));
        fs::create_dir_all(&path)?;
        let owner = File::create(path.join(OWNER_LOCK))?;
        owner.lock()?;
        Ok(StateFolder { path, owner: Some(owner) })
    }

    pub(crate) fn is_temporary(&self) -> bool {
        self.owner.is_some()
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join(LOG_FILE)
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        if self.owner.is_some() {
            // What cannot be removed now is swept at a later start.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if is_free(&path.join(OWNER_LOCK)) && is_free(&path.join(RUNNING_LOCK)) {
            let _ = fs::remove_dir_all(&path);
        }
    }
    Ok(())
}

/// Whether nobody holds the lock.
pub(crate) fn is_free(path: &Path) -> bool {
    match File::open(path) {
        Ok(file) => file.try_lock().is_ok(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}
