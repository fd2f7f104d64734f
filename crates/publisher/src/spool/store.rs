//! The spool's file: records in order of admission, in blocks.
//!
//! Everything here blocks. [`Spool`](super::Spool) calls it from a thread of its own.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::Timestamp;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase as _, StorageBackend, TableDefinition,
    WriteTransaction,
};

use super::SpoolError;
use super::blocks::{Appending, Blocks, BlocksMut, BlocksRead, Depth, EVENTS, SETTLED, Tally};
use super::medium::Medium;
use super::record::{Record, Stored};
use super::salvage::{Recovered, salvage};

/// What must outlive the records: the next sequence.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// In [`META`].
pub(super) const NEXT_SEQUENCE: &str = "next_sequence";

/// The first sequence of all, so that "after 0" is everything.
const FIRST_SEQUENCE: u64 = 1;

/// A file up to this size is not worth compacting.
const COMPACT_OVER_BYTES: u64 = 64 * 1024 * 1024;

/// Nor is one of which more than this part is blocks.
const COMPACT_OVER_RATIO: u64 = 4;

/// How much the spool may hold. What was recovered from a damaged file is kept even
/// beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Events, at most.
    pub events_max: u64,
    /// Bytes of records, at most. The file takes about three times as much, since redb
    /// rounds a block up to pages and copies what it changes; and up to twice that while
    /// blocks are kept of which a half is settled.
    pub bytes_max: u64,
}

/// What became of one batch of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// All of them are on disk.
    Admitted {
        /// The last one's sequence.
        newest: u64,
    },
    /// None of them is, since all would be too much.
    Full {
        /// Events in the spool.
        events: u64,
        /// Bytes in the spool.
        bytes: u64,
    },
}

/// A store that was opened, and what had to be recovered for it.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// What was set aside and recovered, if the file was damaged.
    pub recovery: Option<Recovered>,
}

/// The spool's file.
#[derive(Debug)]
pub struct Store {
    medium: Medium,
    limits: Limits,
    /// `None` after a failed commit whose reopening failed too.
    database: RwLock<Option<Database>>,
    /// Held for as long as a commit takes, so that there is one at a time.
    writer: Mutex<Writer>,
    tally: Mutex<Tally>,
    commits: AtomicU64,
}

#[derive(Debug)]
struct Writer {
    next_sequence: u64,
    /// Set by a failed commit: whatever of it may have reached the disk begins here.
    undo_from: Option<u64>,
}

/// What one transaction did.
struct Written {
    next_sequence: u64,
    tally: Tally,
    admissions: Vec<Admission>,
}

impl Store {
    /// Opens the file at `path`, or makes it. A damaged file is set aside under a name
    /// of its own, and what is readable of it is in the store.
    ///
    /// # Errors
    /// Where another process holds the file, where it may not be read or written, and
    /// where the disk fails.
    pub fn open(path: &Path, limits: Limits) -> Result<Opened, SpoolError> {
        let medium = Medium::File(path.to_owned());
        match Self::over(medium.clone(), limits) {
            Ok(store) => Ok(Opened { store, recovery: None }),
            Err(SpoolError::Damaged { cause, .. }) => {
                let recovered = salvage(path, cause, Timestamp::now())?;
                Ok(Opened { store: Self::over(medium, limits)?, recovery: Some(recovered) })
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a store over something other than a file, for tests.
    ///
    /// # Errors
    /// Those of the backend; damage is an error too.
    pub fn with_backend(backend: impl StorageBackend, limits: Limits) -> Result<Self, SpoolError> {
        Self::over(Medium::Backend(Arc::new(backend)), limits)
    }

    pub(super) fn over(medium: Medium, limits: Limits) -> Result<Self, SpoolError> {
        let store = Self {
            medium,
            limits,
            database: RwLock::new(None),
            writer: Mutex::new(Writer { next_sequence: FIRST_SEQUENCE, undo_from: None }),
            tally: Mutex::new(Tally::default()),
            commits: AtomicU64::new(0),
        };
        store.reopen(&mut lock(&store.writer))?;
        Ok(store)
    }

    /// Removes `removals`, then appends each batch of `appends` whole or not at all,
    /// and answers for each; all of it in one transaction, which is on disk when this
    /// returns. Removing what is not there is no error.
    ///
    /// # Errors
    /// Those of the disk; then nothing was admitted, and the next call tries anew.
    pub fn commit(
        &self,
        appends: &[&[Record]],
        removals: &[u64],
        now: Timestamp,
    ) -> Result<Vec<Admission>, SpoolError> {
        let mut writer = lock(&self.writer);
        if self.is_closed() {
            self.reopen(&mut writer)?;
        }
        match self.write(writer.next_sequence, appends, removals, now) {
            Ok(written) => {
                writer.next_sequence = written.next_sequence;
                *lock(&self.tally) = written.tally;
                self.commits.fetch_add(1, Ordering::Relaxed);
                Ok(written.admissions)
            }
            Err(error) => {
                let undo_from = writer.next_sequence;
                writer.undo_from.get_or_insert(undo_from);
                writer.next_sequence += appends.iter().map(|batch| batch.len() as u64).sum::<u64>();
                // redb takes no more writes after a failed one. If the disk has not come
                // back yet, the next commit tries again and reports why not.
                let _not_yet = self.reopen(&mut writer);
                Err(error)
            }
        }
    }

    /// Reads the records after `sequence`, in order: at most `records_max`, and no more
    /// than `bytes_max` of bodies unless the first alone is more.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn read_after(
        &self,
        sequence: u64,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Stored>, SpoolError> {
        self.with_database(|database| {
            let blocks = tables_of(&database.begin_read()?)?;
            blocks.read_after(sequence, records_max, bytes_max)
        })
    }

    /// How much there is. Does not wait for a commit.
    pub fn depth(&self) -> Depth {
        lock(&self.tally).depth
    }

    /// Bytes of the blocks, with what is settled of them.
    pub(super) fn block_bytes(&self) -> u64 {
        lock(&self.tally).block_bytes
    }

    /// How many transactions were committed since the store was opened.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// The sequence that the next record gets.
    pub fn next_sequence(&self) -> u64 {
        lock(&self.writer).next_sequence
    }

    /// Gives disk space back where a file of more than 64 MiB is more than four times
    /// as large as its blocks; answers whether it did. Nothing is read or written
    /// meanwhile.
    ///
    /// # Errors
    /// Those of the disk; the records are as they were.
    pub fn compact_if_worthwhile(&self) -> Result<bool, SpoolError> {
        self.compact_if_over(COMPACT_OVER_BYTES)
    }

    pub(super) fn compact_if_over(&self, file_bytes_max: u64) -> Result<bool, SpoolError> {
        let file_bytes = self.medium.bytes()?;
        let worth_keeping = self.block_bytes().saturating_mul(COMPACT_OVER_RATIO);
        if file_bytes <= file_bytes_max || file_bytes <= worth_keeping {
            return Ok(false);
        }
        let mut writer = lock(&self.writer);
        let compacted = {
            let mut database = write_lock(&self.database);
            let Some(database) = database.as_mut() else { return Ok(false) };
            database.compact()
        };
        compacted.map_err(|error| {
            let _not_yet = self.reopen(&mut writer);
            self.medium.error(error.into())
        })
    }

    /// Puts records back that were found in a damaged file, as they were but for their
    /// sequences, and whatever the limits.
    pub(super) fn restore(&self, records: Vec<Stored>) -> Result<(), SpoolError> {
        let mut writer = lock(&self.writer);
        let (tally, mut next_sequence) = (*lock(&self.tally), writer.next_sequence);
        let restored = self.with_database(|database| {
            let transaction = database.begin_write()?;
            let restored = {
                let mut events = transaction.open_table(EVENTS)?;
                let mut appending = Appending::new(&mut events, tally);
                for Stored { lane, body, admitted_at, .. } in records {
                    appending.push(next_sequence, &Record { lane, body }, admitted_at)?;
                    next_sequence += 1;
                }
                transaction.open_table(META)?.insert(NEXT_SEQUENCE, next_sequence)?;
                appending.finish()?
            };
            transaction.commit()?;
            Ok(restored)
        })?;
        writer.next_sequence = next_sequence;
        *lock(&self.tally) = restored;
        Ok(())
    }

    /// Makes sure that sequences begin no lower than this.
    pub(super) fn begin_at(&self, sequence: u64) {
        let mut writer = lock(&self.writer);
        writer.next_sequence = writer.next_sequence.max(sequence);
    }

    fn write(
        &self,
        next_sequence: u64,
        appends: &[&[Record]],
        removals: &[u64],
        now: Timestamp,
    ) -> Result<Written, SpoolError> {
        let mut written = Written {
            next_sequence,
            tally: *lock(&self.tally),
            admissions: Vec::with_capacity(appends.len()),
        };
        self.with_database(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            {
                let mut blocks = tables_to_write(&transaction)?;
                blocks.settle(removals, &mut written.tally)?;
                self.append(&mut blocks, appends, now, &mut written)?;
                let mut meta = transaction.open_table(META)?;
                meta.insert(NEXT_SEQUENCE, written.next_sequence)?;
            }
            // A full spool costs no fsync for each of those whom it turns away.
            if removals.is_empty() && written.next_sequence == next_sequence {
                return Ok(transaction.abort()?);
            }
            Ok(transaction.commit()?)
        })?;
        Ok(written)
    }

    fn append(
        &self,
        blocks: &mut BlocksMut<'_>,
        appends: &[&[Record]],
        now: Timestamp,
        written: &mut Written,
    ) -> Result<(), redb::Error> {
        let mut appending = Appending::new(&mut blocks.events, written.tally);
        for batch in appends {
            let Depth { events, bytes, .. } = appending.depth();
            let events_after = events + batch.len() as u64;
            let bytes_after = bytes + batch.iter().map(Record::encoded_bytes).sum::<u64>();
            if events_after > self.limits.events_max || bytes_after > self.limits.bytes_max {
                written.admissions.push(Admission::Full { events, bytes });
                continue;
            }
            for record in *batch {
                appending.push(written.next_sequence, record, now)?;
                written.next_sequence += 1;
            }
            written.admissions.push(Admission::Admitted { newest: written.next_sequence - 1 });
        }
        written.tally = appending.finish()?;
        Ok(())
    }

    /// Opens the database anew, takes back what a failed commit may have left, proves
    /// every record and counts them.
    fn reopen(&self, writer: &mut Writer) -> Result<(), SpoolError> {
        let mut slot = write_lock(&self.database);
        // The old one must let go of the file first.
        *slot = None;
        let database = self.medium.database()?;
        let counted = prepare(&database, writer.undo_from).and_then(|()| count(&database));
        let (next_sequence, tally) = counted.map_err(|error| self.medium.error(error))?;
        writer.undo_from = None;
        writer.next_sequence = writer.next_sequence.max(next_sequence);
        *lock(&self.tally) = tally;
        *slot = Some(database);
        Ok(())
    }

    fn is_closed(&self) -> bool {
        self.database.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn with_database<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, SpoolError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = database.as_ref() else {
            return Err(SpoolError::Unavailable { path: self.medium.path() });
        };
        work(database).map_err(|error| self.medium.error(error))
    }
}

fn tables_to_write(transaction: &WriteTransaction) -> Result<BlocksMut<'_>, redb::TableError> {
    Ok(Blocks {
        events: transaction.open_table(EVENTS)?,
        settled: transaction.open_table(SETTLED)?,
    })
}

fn tables_of(transaction: &ReadTransaction) -> Result<BlocksRead, redb::TableError> {
    Ok(Blocks {
        events: transaction.open_table(EVENTS)?,
        settled: transaction.open_table(SETTLED)?,
    })
}

/// Makes the tables of a new file, and takes back what a failed commit may have left:
/// it may have become durable all the same, but nobody was told so.
fn prepare(database: &Database, undo_from: Option<u64>) -> Result<(), redb::Error> {
    let is_new = match tables_of(&database.begin_read()?) {
        Ok(_) => false,
        Err(redb::TableError::TableDoesNotExist(_)) => true,
        Err(error) => return Err(error.into()),
    };
    if is_new || undo_from.is_some() {
        let transaction = database.begin_write()?;
        {
            let mut blocks = tables_to_write(&transaction)?;
            if let Some(from) = undo_from {
                // No block has records of two commits.
                blocks.events.retain_in(from.., |_, _| false)?;
            }
            transaction.open_table(META)?;
        }
        transaction.commit()?;
    }
    Ok(())
}

/// Proves every record; answers with the next sequence, and with what there is.
fn count(database: &Database) -> Result<(u64, Tally), redb::Error> {
    let transaction = database.begin_read()?;
    let (tally, next_sequence) = tables_of(&transaction)?.count()?;
    let recorded = transaction.open_table(META)?.get(NEXT_SEQUENCE)?.map(|next| next.value());
    let next_sequence = next_sequence.unwrap_or(FIRST_SEQUENCE);
    Ok((recorded.unwrap_or(FIRST_SEQUENCE).max(next_sequence), tally))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_lock<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
