//! `spool`: what HTTP ingest has taken in, on disk until SNS has it.
//!
//! ```text
//! append ─┐                                              ┌─► read_after ─► outbox
//! append ─┼─► committer thread: one transaction, one fsync
//! remove ─┘                                              └─► answers: admitted, or full
//! ```
//!
//! Whatever waits when a commit begins goes into it together, as one block of records, so
//! that a hundred callers cost one fsync and little more than the work of one.

mod blocks;
mod committer;
mod frame;
mod medium;
mod record;
mod salvage;
mod search;
mod store;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod torn_disk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::InMemoryBackend;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::yield_now;

pub use blocks::Depth;
pub use record::{Record, Stored};
pub use salvage::Recovered;
pub use store::{Admission, Limits, Opened, Store};

use committer::{Appended, Committer, Request};

/// How many requests may wait for a commit.
const REQUESTS_WAITING_MAX: usize = 4096;

/// How many records go into one commit, unless told otherwise.
const RECORDS_PER_COMMIT_MAX: usize = 1024;

/// Why the spool's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another process has it.
    #[error(
        "the spool {path} is in use by another process: end that one, or give each publisher a \
         spool of its own"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// We may not read or write it.
    #[error(
        "the spool {path} may not be read and written by this process: give its user the right \
         to both, and to make files in its folder"
    )]
    Denied {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no room for it.
    #[error(
        "there is no room on the disk of the spool {path}: make room, or move the spool or lower \
         its limits"
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The disk, or the system, refuses.
    #[error("the spool {path} cannot be read or written: see that its folder and disk are there")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds something other than what was written.
    #[error(
        "the spool {path} is damaged ({cause}): restart the publisher, which sets the file aside \
         and recovers what is whole in it"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// redb refuses.
    #[error("the spool {path} cannot be used by this version: see the cause, and report it")]
    Storage {
        /// The file.
        path: PathBuf,
        /// What redb says.
        source: Box<redb::Error>,
    },
    /// A write failed before, and the file could not be opened again since.
    #[error("the spool {path} could not be opened again after a failed write: see the log for it")]
    Unavailable {
        /// The file.
        path: PathBuf,
    },
    /// The committer's thread could not be started.
    #[error("the system has no thread for the spool: raise the limit of threads")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
}

/// Why records were not admitted. None of the request was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// There is no room until something was published.
    #[error("the spool is full, at {events} events of {bytes} bytes: try again later")]
    Full {
        /// Events in the spool.
        events: u64,
        /// Bytes in the spool.
        bytes: u64,
    },
    /// More requests wait for the disk than it can serve.
    #[error("too many requests wait for the spool's disk: try again later")]
    TooManyWaiting,
    /// The spool has ended.
    #[error("the spool is closed: the publisher is ending")]
    Closed,
    /// The disk failed.
    #[error("the event could not be written to disk ({0}): try again later")]
    Storage(String),
}

/// Why records were not removed. They may be removed again, or come back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// The spool has ended.
    #[error("the spool is closed: the publisher is ending")]
    Closed,
    /// The disk failed.
    #[error("what was published could not be removed from disk ({0}): try again later")]
    Storage(String),
}

/// Where the spool's disk makes its caller wait.
#[derive(Debug, Clone, Copy)]
enum Blocking {
    /// On threads of its own: the runtime goes on meanwhile.
    OffRuntime,
    /// In the runtime's own tasks.
    OnRuntime,
}

/// The spool. Clones are handles on the same one; with the last of them it ends, after
/// what waits has been committed.
#[derive(Debug, Clone)]
pub struct Spool {
    // Before the store, so that a thread that ends with the last handle sees it last.
    requests: mpsc::Sender<Request>,
    appended: watch::Receiver<u64>,
    store: Arc<Store>,
    blocking: Blocking,
}

impl Spool {
    /// Opens the file at `path`, or makes it, and starts the committer. Log what was
    /// recovered from a damaged file.
    ///
    /// # Errors
    /// Those of [`Store::open`], and where there is no thread to be had.
    pub fn open(path: &Path, limits: Limits) -> Result<(Self, Option<Recovered>), SpoolError> {
        let Opened { store, recovery } = Store::open(path, limits)?;
        Ok((Self::over(store, RECORDS_PER_COMMIT_MAX)?, recovery))
    }

    /// A spool that is gone with its last handle, for tests.
    ///
    /// # Errors
    /// Where there is no thread to be had.
    pub fn in_memory(limits: Limits) -> Result<Self, SpoolError> {
        let store = Store::with_backend(InMemoryBackend::new(), limits)?;
        Self::over(store, RECORDS_PER_COMMIT_MAX)
    }

    /// A spool over an open store, whose commits take up to `records_per_commit_max`
    /// records: one more request is begun while there are fewer. At 1 every request has
    /// an fsync of its own.
    ///
    /// # Errors
    /// Where there is no thread to be had.
    pub fn over(store: Store, records_per_commit_max: usize) -> Result<Self, SpoolError> {
        Self::start(store, records_per_commit_max, Blocking::OffRuntime)
    }

    /// A spool over an open store on a disk that is memory, for simulations: it has no
    /// thread, so that a runtime of one thread with a paused clock sees the same run again.
    /// To be called on that runtime.
    ///
    /// # Errors
    /// None today.
    pub fn on_runtime(store: Store) -> Result<Self, SpoolError> {
        Self::start(store, RECORDS_PER_COMMIT_MAX, Blocking::OnRuntime)
    }

    fn start(
        store: Store,
        records_per_commit_max: usize,
        blocking: Blocking,
    ) -> Result<Self, SpoolError> {
        let store = Arc::new(store);
        let (requests, waiting) = mpsc::channel(REQUESTS_WAITING_MAX);
        let (newest, appended) = watch::channel(store.next_sequence() - 1);
        let committer =
            Committer { store: Arc::clone(&store), waiting, newest, records_per_commit_max };
        committer.start(blocking).map_err(|source| SpoolError::Thread { source })?;
        Ok(Self { requests, appended, store, blocking })
    }

    /// Keeps all of `records` or none, in their order; returns once they are on disk.
    /// If the caller goes away while it waits, they may be kept all the same.
    ///
    /// # Errors
    /// Where there is no room, too much waits already, or the disk fails.
    pub async fn append(&self, records: Vec<Record>) -> Result<(), AppendError> {
        // Whoever is about to append on this thread does so first, so that the committer,
        // which begins with whatever it finds, finds all of them.
        yield_now().await;
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(Request::Append { records, answer }).map_err(
            |error| match error {
                mpsc::error::TrySendError::Full(_) => AppendError::TooManyWaiting,
                mpsc::error::TrySendError::Closed(_) => AppendError::Closed,
            },
        )?;
        match answered.await {
            Ok(Appended { result, others }) => {
                drop(others);
                result
            }
            Err(_) => Err(AppendError::Closed),
        }
    }

    /// Removes what SNS has accepted; returns once that is on disk. What is not there
    /// is removed already.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn remove(&self, sequences: Vec<u64>) -> Result<(), RemoveError> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Remove { sequences, answer };
        self.requests.send(request).await.map_err(|_| RemoveError::Closed)?;
        answered.await.unwrap_or(Err(RemoveError::Closed))
    }

    /// Reads what is kept after `sequence` (0 is before all), in order: at most
    /// `records_max`, and at most `bytes_max` of bodies unless the first alone is more.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn read_after(
        &self,
        sequence: u64,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Stored>, SpoolError> {
        let store = Arc::clone(&self.store);
        let read = move || store.read_after(sequence, records_max, bytes_max);
        match self.blocking {
            // It may wait for a compaction.
            Blocking::OffRuntime => tokio::task::spawn_blocking(read)
                .await
                .map_err(|source| SpoolError::Thread { source: io::Error::other(source) })?,
            Blocking::OnRuntime => read(),
        }
    }

    /// The sequence of the newest record, for waiting: look with `borrow_and_update`,
    /// read, and if there was nothing, `changed().await`. It ends with an error when the
    /// spool has closed.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.appended.clone()
    }

    /// How much there is.
    #[must_use]
    pub fn depth(&self) -> Depth {
        self.store.depth()
    }

    /// Transactions so far, each on disk by one fsync.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.store.commits()
    }

    /// Gives this handle up and waits until the others are gone too, all is committed,
    /// and the file is closed.
    pub async fn close(self) {
        let mut appended = self.appended.clone();
        drop(self);
        while appended.changed().await.is_ok() {}
    }
}
