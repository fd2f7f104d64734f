//! What stands in the spool for one event, and what notes that some are settled.
//!
//! ```text
//! record: sequence, u64 | oldest, u64 | admitted at, i64 ms | bytes of the lane, u32 | lane | body
//! note:   sequence, u64, of each that is settled
//! ```

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::frame::{self, Frame, HEADER_BYTES, Kind};

/// The part of a record's payload that every record has.
const FIXED_BYTES: usize = 8 + 8 + 8 + 4;

/// Stands for the length of a lane that there is not.
const NO_LANE: u32 = u32::MAX;

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

/// A record where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) sequence: u64,
    /// Everything before this sequence had been removed when the record was written: a
    /// search of a damaged file leaves out what came before it.
    pub(super) oldest: u64,
    pub(super) admitted_at: Timestamp,
    pub(super) lane: Option<&'a str>,
    pub(super) body: &'a [u8],
}

impl<'a> View<'a> {
    /// Reads a record; `None` if the frame is none.
    pub(super) fn of(frame: &Frame<'a>) -> Option<Self> {
        if frame.kind != Kind::Record {
            return None;
        }
        let (sequence, rest) = frame.payload.split_first_chunk()?;
        let (oldest, rest) = rest.split_first_chunk()?;
        let (admitted_at_ms, rest) = rest.split_first_chunk()?;
        let (lane_length, rest) = rest.split_first_chunk()?;
        let (lane, body) = match u32::from_le_bytes(*lane_length) {
            NO_LANE => (None, rest),
            length => {
                let (lane, body) = rest.split_at_checked(length as usize)?;
                (Some(str::from_utf8(lane).ok()?), body)
            }
        };
        Some(Self {
            sequence: u64::from_le_bytes(*sequence),
            oldest: u64::from_le_bytes(*oldest),
            admitted_at: Timestamp::from_millisecond(i64::from_le_bytes(*admitted_at_ms)).ok()?,
            lane,
            body,
        })
    }

    /// Writes the record behind what is in `buffer`.
    pub(super) fn append_to(&self, buffer: &mut Vec<u8>) {
        let lane = self.lane.unwrap_or_default();
        // No lane is as long as a request may be.
        let lane_length = self.lane.map_or(NO_LANE, |lane| lane.len() as u32);
        frame::append(buffer, Kind::Record, |payload| {
            payload.extend_from_slice(&self.sequence.to_le_bytes());
            payload.extend_from_slice(&self.oldest.to_le_bytes());
            payload.extend_from_slice(&self.admitted_at.as_millisecond().to_le_bytes());
            payload.extend_from_slice(&lane_length.to_le_bytes());
            payload.extend_from_slice(lane.as_bytes());
            payload.extend_from_slice(self.body);
        });
    }

    /// How many bytes it takes in the spool, its header included.
    pub(super) fn encoded_bytes(&self) -> u64 {
        let lane_bytes = self.lane.map_or(0, str::len);
        (HEADER_BYTES + FIXED_BYTES + lane_bytes + self.body.len()) as u64
    }

    /// The same on its own.
    pub(super) fn stored(&self) -> Stored {
        Stored {
            sequence: self.sequence,
            lane: self.lane.map(str::to_owned),
            body: self.body.to_vec(),
            admitted_at: self.admitted_at,
        }
    }
}

/// Writes down what is settled.
pub(super) fn encode_note(settled: &BTreeSet<u64>) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(HEADER_BYTES + settled.len() * 8);
    frame::append(&mut encoded, Kind::Note, |payload| {
        payload.extend(settled.iter().flat_map(|sequence| sequence.to_le_bytes()));
    });
    encoded
}

/// Reads what is settled; `None` if the frame is no note.
pub(super) fn note_of<'a>(frame: &Frame<'a>) -> Option<impl Iterator<Item = u64> + use<'a>> {
    let (sequences, rest) = frame.payload.as_chunks();
    let is_note = frame.kind == Kind::Note && rest.is_empty();
    is_note.then(|| sequences.iter().map(|sequence| u64::from_le_bytes(*sequence)))
}
