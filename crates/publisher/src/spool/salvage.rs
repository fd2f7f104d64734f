//! What becomes of a damaged file: it is kept under another name, and the whole
//! records in it move to a new one.
//!
//! The file is searched byte by byte, without redb, which refuses a file with one
//! wrong byte and may panic over it. So a record comes back wherever it lies, also
//! where pages that led to it are gone, or its neighbours in its block. One that had been removed shortly before may
//! come back as well: a second event with the same id, which subscribers know to
//! ignore, while a lost one could not be made good.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::SpoolError;
use super::medium::{Medium, sync_folder_of};
use super::search::{Findings, Found, read_found, scan};
use super::store::{Limits, Store};

/// How many bytes of records one transaction puts back.
const RESTORE_BYTES: u64 = 8 * 1024 * 1024;

/// What had to be done about a damaged file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The damaged file, under its new name. Nobody deletes it but you.
    pub set_aside: PathBuf,
    /// How many whole records it had, all of which are in the spool.
    pub records: u64,
    /// What was wrong with it.
    pub cause: String,
}

/// Moves what is whole in the file at `path` to a new one in its place. Whenever it is
/// interrupted, either the damaged file or the complete new one is at `path`.
pub(super) fn salvage(path: &Path, cause: String, now: Timestamp) -> Result<Recovered, SpoolError> {
    let medium = Medium::File(path.to_owned());
    let failed = |error: io::Error| match medium.error(error.into()) {
        // A damaged file is what we are about to mend; here it can only mean the disk.
        SpoolError::Damaged { path, cause } => {
            SpoolError::Io { path, source: io::Error::other(cause) }
        }
        other => other,
    };
    let mut damaged = File::open(path).map_err(failed)?;
    let findings = scan(&mut damaged).map_err(failed)?;
    let records = &findings.records;
    let first_free = records.iter().map(|found| found.sequence + 1).max().unwrap_or_default();
    let found = what_counts(findings);

    let fresh = path.with_added_extension("recovering");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let unlimited = Limits { events_max: u64::MAX, bytes_max: u64::MAX };
    let store = Store::over(Medium::File(fresh.clone()), unlimited)?;
    store.begin_at(first_free);
    for chunk in chunks_of(&found) {
        let records: io::Result<Vec<_>> =
            chunk.iter().map(|found| read_found(&mut damaged, found)).collect();
        store.restore(records.map_err(failed)?)?;
    }
    drop(store);

    let set_aside = free_name(path, now);
    swap(path, &fresh, &set_aside).map_err(failed)?;
    Ok(Recovered { set_aside, records: found.len() as u64, cause })
}

/// Each record once, in order, and none that a later one or a note knows to be removed.
fn what_counts(findings: Findings) -> Vec<Found> {
    let Findings { mut records, settled } = findings;
    let oldest = records.iter().map(|found| found.oldest).max().unwrap_or_default();
    let mut seen = HashSet::new();
    records.retain(|found| {
        found.sequence >= oldest
            && !settled.contains(&found.sequence)
            && seen.insert(found.identity())
    });
    records.sort_by_key(|found| found.sequence);
    records
}

fn chunks_of(found: &[Found]) -> impl Iterator<Item = &[Found]> {
    let mut rest = found;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |found: &&Found| {
            bytes += found.bytes;
            bytes <= RESTORE_BYTES
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (chunk, after) = rest.split_at_checked(count)?;
        rest = after;
        Some(chunk)
    })
}

/// `<name>.damaged-<unix seconds>`, with a counter if there is one already.
fn free_name(path: &Path, now: Timestamp) -> PathBuf {
    let name = format!("damaged-{}", now.as_second());
    let numbered = |count: u32| path.with_added_extension(format!("{name}-{count}"));
    let names = std::iter::once(path.with_added_extension(&name)).chain((2..).map(numbered));
    names.into_iter().find(|name| !name.exists()).unwrap_or_else(|| path.with_extension(&name))
}

fn swap(path: &Path, fresh: &Path, set_aside: &Path) -> io::Result<()> {
    // With a second name for the damaged file there is a file at `path` at any time.
    // Where the file system has no such thing, two renames must do.
    if fs::hard_link(path, set_aside).is_err() {
        fs::rename(path, set_aside)?;
    }
    fs::rename(fresh, path)?;
    sync_folder_of(path)
}
