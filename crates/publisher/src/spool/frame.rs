//! How what the spool keeps stands in its file: each record, and each note of what is
//! settled, is framed and proved by itself.
//!
//! ```text
//! magic (7) | kind (1) | bytes of the payload, u32 | CRC-32 of length and payload, u32 | payload
//! ```
//!
//! All integers are little-endian. redb keeps a value in one piece, so a whole frame can
//! be found by its magic and proved by its checksum wherever it lies, in a file that redb
//! cannot read any more, too.

/// Begins each frame.
pub(super) const MAGIC: [u8; 7] = *b"BWspool";

/// The magic, the kind, the payload's length and the checksum.
pub(super) const HEADER_BYTES: usize = MAGIC.len() + 1 + 4 + 4;

/// Where the length stands.
const LENGTH_AT: usize = MAGIC.len() + 1;

/// Where the checksum stands.
const CHECKSUM_AT: usize = LENGTH_AT + 4;

/// What a frame holds, in one version of its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A record.
    Record,
    /// A note of what is settled.
    Note,
}

/// A frame that is whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) checksum: u32,
    pub(super) payload: &'a [u8],
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Record => 1,
            Self::Note => 2,
        }
    }

    fn of(code: u8) -> Option<Self> {
        [Self::Record, Self::Note].into_iter().find(|kind| kind.code() == code)
    }
}

/// Appends a frame whose payload is what `payload` appends.
pub(super) fn append(buffer: &mut Vec<u8>, kind: Kind, payload: impl FnOnce(&mut Vec<u8>)) {
    let begin = buffer.len();
    buffer.extend_from_slice(&MAGIC);
    buffer.push(kind.code());
    buffer.extend_from_slice(&[0; 8]);
    payload(buffer);
    let frame = &mut buffer[begin..];
    // redb refuses values of 3 GiB, so that the length cannot be cut here unnoticed.
    let length = u32::try_from(frame.len() - HEADER_BYTES).unwrap_or(u32::MAX);
    let checksum = checksum_of(length, &frame[HEADER_BYTES..]);
    frame[LENGTH_AT..CHECKSUM_AT].copy_from_slice(&length.to_le_bytes());
    frame[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

/// The frame that `encoded` begins with, and what comes after it; `None` if it is not
/// whole.
pub(super) fn split(encoded: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let bytes = bytes_of(encoded)?;
    let (encoded, rest) = encoded.split_at_checked(bytes)?;
    let kind = Kind::of(encoded[MAGIC.len()])?;
    let checksum = u32::from_le_bytes(*encoded[CHECKSUM_AT..].first_chunk()?);
    let payload = &encoded[HEADER_BYTES..];
    let length = u32::try_from(payload.len()).ok()?;
    let frame = Frame { kind, checksum, payload };
    (checksum_of(length, payload) == checksum).then_some((frame, rest))
}

/// How long a frame is, by its header.
pub(super) fn bytes_of(header: &[u8]) -> Option<usize> {
    let rest = header.strip_prefix(&MAGIC)?;
    let length = u32::from_le_bytes(*rest.get(1..)?.first_chunk()?);
    HEADER_BYTES.checked_add(length as usize)
}

fn checksum_of(length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}
