//! How records, and notes of what is settled, are found in a file that redb cannot read
//! any more.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use super::frame::{self, HEADER_BYTES, Kind, MAGIC};
use super::record::{Stored, View, note_of};

/// How much of a file the search for a magic reads at once.
const WINDOW_BYTES: usize = 16 * 1024;

/// Where a whole record lies in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) sequence: u64,
    /// Everything before this sequence had been removed when the record was written.
    pub(super) oldest: u64,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    checksum: u32,
}

impl Found {
    /// What two copies of one record have in common, and two records have not.
    pub(super) fn identity(&self) -> (u64, u64, u32) {
        (self.sequence, self.bytes, self.checksum)
    }
}

/// What is whole in a file.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Records, in the order in which they lie there.
    pub(super) records: Vec<Found>,
    /// Sequences of which some note says that they are settled. It is true of them
    /// however old the note is, since no sequence is given twice.
    pub(super) settled: HashSet<u64>,
}

/// Finds what is whole in `file`.
///
/// # Errors
/// Those of reading the file.
pub(super) fn scan(file: &mut File) -> io::Result<Findings> {
    let file_bytes = file.metadata()?.len();
    let mut findings = Findings::default();
    let mut at = 0;
    while let Some(offset) = find_magic(file, at)? {
        at = offset + 1;
        let header = read_at(file, offset, HEADER_BYTES as u64)?;
        let Some(bytes) = frame::bytes_of(&header).map(|bytes| bytes as u64) else { continue };
        // A damaged length must not make us reserve more than there is.
        if offset + bytes > file_bytes {
            continue;
        }
        let encoded = read_at(file, offset, bytes)?;
        let Some((frame, _)) = frame::split(&encoded) else { continue };
        match frame.kind {
            Kind::Record => {
                let Some(View { sequence, oldest, .. }) = View::of(&frame) else { continue };
                let checksum = frame.checksum;
                findings.records.push(Found { sequence, oldest, offset, bytes, checksum });
            }
            Kind::Note => {
                let Some(settled) = note_of(&frame) else { continue };
                findings.settled.extend(settled);
            }
        }
        at = offset + bytes;
    }
    Ok(findings)
}

/// Reads what [`scan`] found.
///
/// # Errors
/// Those of reading the file, and `InvalidData` if the record is not there any more.
pub(super) fn read_found(file: &mut File, found: &Found) -> io::Result<Stored> {
    let encoded = read_at(file, found.offset, found.bytes)?;
    let record = frame::split(&encoded).and_then(|(frame, _)| View::of(&frame));
    let changed = || io::Error::new(io::ErrorKind::InvalidData, "the file changed meanwhile");
    record.map(|record| record.stored()).ok_or_else(changed)
}

/// The offset of the first magic at or after `at`.
fn find_magic(file: &mut File, mut at: u64) -> io::Result<Option<u64>> {
    let mut window = Vec::with_capacity(WINDOW_BYTES);
    loop {
        window.clear();
        file.seek(SeekFrom::Start(at))?;
        file.by_ref().take(WINDOW_BYTES as u64).read_to_end(&mut window)?;
        if window.len() < MAGIC.len() {
            return Ok(None);
        }
        if let Some(position) = window.windows(MAGIC.len()).position(|bytes| bytes == MAGIC) {
            return Ok(Some(at + position as u64));
        }
        // A magic may begin in this window and end in the next.
        at += (window.len() - MAGIC.len() + 1) as u64;
    }
}

fn read_at(file: &mut File, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    file.seek(SeekFrom::Start(offset))?;
    file.by_ref().take(bytes).read_to_end(&mut read)?;
    Ok(read)
}
