//! What stands in the spool for one event, and how such records are found in a
//! file that redb cannot read any more.
//!
//! ```text
//! magic (8) | bytes of the payload, u32 | CRC-32 of length and payload, u32 | payload
//! payload: sequence, u64 | oldest, u64 | admitted at, i64 ms | bytes of the lane, u32 | lane | body
//! ```
//!
//! All integers are little-endian. redb keeps a value in one piece, so a whole
//! record can be found by its magic and proved by its checksum wherever it lies.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use jiff::Timestamp;

/// Begins each record; its last byte is the version of the encoding.
const MAGIC: [u8; 8] = *b"BWspool\x01";

/// The magic, the payload's length and the checksum.
const HEADER_BYTES: usize = MAGIC.len() + 4 + 4;

/// The part of the payload that every record has.
const FIXED_BYTES: usize = 8 + 8 + 8 + 4;

/// Stands for the length of a lane that there is not.
const NO_LANE: u32 = u32::MAX;

/// How much of a file the search for a magic reads at once.
const WINDOW_BYTES: usize = 16 * 1024;

/// An event to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What must stay in order among itself, if anything must.
    pub lane: Option<String>,
    /// The event, as JSON; the spool does not look into it.
    pub body: Vec<u8>,
}

impl Record {
    /// How many bytes the record takes in the spool, its header included.
    #[must_use]
    pub fn encoded_bytes(&self) -> u64 {
        let lane_bytes = self.lane.as_ref().map_or(0, String::len);
        (HEADER_BYTES + FIXED_BYTES + lane_bytes + self.body.len()) as u64
    }
}

/// An event that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the order of admission; never given twice.
    pub sequence: u64,
    /// What must stay in order among itself, if anything must.
    pub lane: Option<String>,
    /// The event, as JSON.
    pub body: Vec<u8>,
    /// When it was admitted, to the millisecond.
    pub admitted_at: Timestamp,
}

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

/// Writes a record as it stands in the spool. `oldest` is the first sequence that
/// is still kept: a search of a damaged file leaves out what came before it.
pub(super) fn encode(record: &Stored, oldest: u64) -> Vec<u8> {
    let lane = record.lane.as_deref().unwrap_or_default();
    let payload_bytes = FIXED_BYTES + lane.len() + record.body.len();
    // redb refuses values of 3 GiB, so that neither length can be cut here unnoticed.
    let length = u32::try_from(payload_bytes).unwrap_or(u32::MAX);
    let lane_length = record.lane.as_ref().map_or(NO_LANE, |lane| lane.len() as u32);
    let mut encoded = Vec::with_capacity(HEADER_BYTES + payload_bytes);
    encoded.extend_from_slice(&MAGIC);
    encoded.extend_from_slice(&length.to_le_bytes());
    encoded.extend_from_slice(&[0; 4]);
    encoded.extend_from_slice(&record.sequence.to_le_bytes());
    encoded.extend_from_slice(&oldest.to_le_bytes());
    encoded.extend_from_slice(&record.admitted_at.as_millisecond().to_le_bytes());
    encoded.extend_from_slice(&lane_length.to_le_bytes());
    encoded.extend_from_slice(lane.as_bytes());
    encoded.extend_from_slice(&record.body);
    let checksum = checksum_of(length, &encoded[HEADER_BYTES..]);
    encoded[MAGIC.len() + 4..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    encoded
}

/// Reads a record, and the `oldest` it was written with; `None` if it is not whole.
pub(super) fn decode(encoded: &[u8]) -> Option<(Stored, u64)> {
    let (length, checksum) = header_of(encoded)?;
    let payload = encoded.get(HEADER_BYTES..)?;
    if payload.len() != length as usize || checksum_of(length, payload) != checksum {
        return None;
    }
    let sequence = u64::from_le_bytes(*payload.first_chunk()?);
    let oldest = u64::from_le_bytes(*payload.get(8..)?.first_chunk()?);
    let admitted_at_ms = i64::from_le_bytes(*payload.get(16..)?.first_chunk()?);
    let lane_length = u32::from_le_bytes(*payload.get(24..)?.first_chunk()?);
    let rest = payload.get(FIXED_BYTES..)?;
    let (lane, body) = if lane_length == NO_LANE {
        (None, rest)
    } else {
        let (lane, body) = rest.split_at_checked(lane_length as usize)?;
        (Some(String::from_utf8(lane.to_vec()).ok()?), body)
    };
    let admitted_at = Timestamp::from_millisecond(admitted_at_ms).ok()?;
    Some((Stored { sequence, lane, body: body.to_vec(), admitted_at }, oldest))
}

/// Finds every whole record in `file`, in the order in which they lie there.
///
/// # Errors
/// Those of reading the file.
pub(super) fn scan(file: &mut File) -> io::Result<Vec<Found>> {
    let file_bytes = file.metadata()?.len();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = find_magic(file, at)? {
        at = offset + 1;
        let mut header = [0; HEADER_BYTES];
        if !read_whole(file, offset, &mut header)? {
            break;
        }
        let Some((length, checksum)) = header_of(&header) else { continue };
        let bytes = HEADER_BYTES as u64 + u64::from(length);
        // A damaged length must not make us reserve more than there is.
        if offset + bytes > file_bytes {
            continue;
        }
        let Some((stored, oldest)) = decode(&read_at(file, offset, bytes)?) else { continue };
        found.push(Found { sequence: stored.sequence, oldest, offset, bytes, checksum });
        at = offset + bytes;
    }
    Ok(found)
}

/// Reads what [`scan`] found.
///
/// # Errors
/// Those of reading the file, and `InvalidData` if the record is not there any more.
pub(super) fn read_found(file: &mut File, found: &Found) -> io::Result<Stored> {
    let encoded = read_at(file, found.offset, found.bytes)?;
    let changed = || io::Error::new(io::ErrorKind::InvalidData, "the file changed meanwhile");
    decode(&encoded).map(|(stored, _)| stored).ok_or_else(changed)
}

fn header_of(encoded: &[u8]) -> Option<(u32, u32)> {
    let rest = encoded.strip_prefix(&MAGIC)?;
    let length = u32::from_le_bytes(*rest.first_chunk()?);
    let checksum = u32::from_le_bytes(*rest.get(4..)?.first_chunk()?);
    Some((length, checksum))
}

fn checksum_of(length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
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

/// Fills `buffer`; answers whether the file was long enough.
fn read_whole(file: &mut File, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
    let read = read_at(file, offset, buffer.len() as u64)?;
    let is_whole = read.len() == buffer.len();
    if is_whole {
        buffer.copy_from_slice(&read);
    }
    Ok(is_whole)
}
