//! What the spool lies on: a file, or in tests a backend of their own.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, Database, RepairSession, StorageBackend};

use super::SpoolError;

/// redb's page cache, at most. The default of 1 GiB is no size for a sidecar.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// What the spool lies on.
#[derive(Debug, Clone)]
pub(super) enum Medium {
    File(PathBuf),
    Backend(Arc<dyn StorageBackend>),
}

impl Medium {
    /// Opens the database, or makes it, and proves every page's checksum.
    pub(super) fn database(&self) -> Result<Database, SpoolError> {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        // Without it redb trusts a file that was closed in order, and may panic over it.
        builder.set_check_integrity_on_open(true);
        let opened = match self {
            Self::File(path) => {
                // redb would make a new database of it, and say nothing.
                if path.metadata().is_ok_and(|metadata| metadata.len() == 0) {
                    let cause = "the file is empty".to_owned();
                    return Err(SpoolError::Damaged { path: self.path(), cause });
                }
                builder.set_repair_callback(refuse_to_go_back);
                builder.create(path)
            }
            Self::Backend(backend) => builder.create_with_backend(Shared(Arc::clone(backend))),
        };
        let database = opened.map_err(|error| self.error(error.into()))?;
        if let Self::File(path) = self {
            sync_folder_of(path).map_err(|error| self.error(error.into()))?;
        }
        Ok(database)
    }

    /// How many bytes it takes.
    pub(super) fn bytes(&self) -> Result<u64, SpoolError> {
        let bytes = match self {
            Self::File(path) => path.metadata().map(|metadata| metadata.len()),
            Self::Backend(backend) => backend.len(),
        };
        bytes.map_err(|error| self.error(error.into()))
    }

    /// Its name, for errors.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Backend(_) => PathBuf::from("(in memory)"),
        }
    }

    /// Tells damage, which a copy can mend, from what somebody else must mend.
    pub(super) fn error(&self, error: redb::Error) -> SpoolError {
        let path = self.path();
        match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
                SpoolError::InUse { path }
            }
            redb::Error::RepairAborted => {
                let cause = "its newest commit is not whole".to_owned();
                SpoolError::Damaged { path, cause }
            }
            redb::Error::Corrupted(cause) => SpoolError::Damaged { path, cause },
            redb::Error::Io(source) => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    SpoolError::Denied { path, source }
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    SpoolError::DiskFull { path, source }
                }
                // What redb says of a file that is none of its own, or too short.
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                    SpoolError::Damaged { path, cause: source.to_string() }
                }
                _ => SpoolError::Io { path, source },
            },
            other => SpoolError::Storage { path, source: Box::new(other) },
        }
    }
}

/// Keeps redb from answering a newest commit that does not verify with the one before,
/// and saying nothing. It takes the newest for one that was torn, whose callers were not
/// told; but it may as well have been acknowledged and damaged later, and only a search
/// of the file brings back what was in it. redb reports progress between nothing and
/// the second of its three passes only then.
fn refuse_to_go_back(session: &mut RepairSession) {
    if session.progress() > 0.0 && session.progress() < 0.5 {
        session.abort();
    }
}

/// Makes the names in the folder of `path` outlive a loss of power, as fsync of a file
/// does for its bytes only.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

/// A backend that outlives the databases over it.
#[derive(Debug)]
struct Shared(Arc<dyn StorageBackend>);

impl StorageBackend for Shared {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
