//! The spool's tables: what was committed together stands together, as blocks of records.
//!
//! ```text
//! events:  the first record's sequence ─► record | record | record …
//! settled: the same sequence           ─► a note of which of these are settled
//! ```
//!
//! A block is one value, since redb takes as long for one of a hundred records as for one
//! of a single record. What is settled of a block is noted beside it until as much of it
//! is settled as is not: then the block is written anew without, so that a block takes at
//! most twice the space of what it is kept for. With its last record it goes.

use std::collections::BTreeSet;

use jiff::{Timestamp, Unit};
use redb::{ReadOnlyTable, ReadableTable, Table, TableDefinition};

use super::frame;
use super::record::{Record, Stored, View, encode_note, note_of};

/// The blocks, by the sequence of the first record that each was made with.
pub(super) const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");

/// What is settled of blocks that are kept for the rest, by the same sequence.
pub(super) const SETTLED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("settled");

/// Bytes of a block, unless its only record is larger: one page of redb's of 64 KiB, with
/// room for redb's own. So little is read, or written anew, for the sake of one record.
const BLOCK_BYTES_MAX: usize = 63 * 1024;

/// How much the spool holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Events.
    pub events: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// When the first of them was admitted.
    pub oldest_at: Option<Timestamp>,
}

/// What the tables hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) depth: Depth,
    /// The first sequence that is kept.
    pub(super) oldest: Option<u64>,
    /// Bytes of the blocks, with what is settled of them.
    pub(super) block_bytes: u64,
}

/// The tables for reading: of a transaction that only reads, or of one that writes.
#[derive(Debug)]
pub(super) struct Blocks<E, S> {
    pub(super) events: E,
    pub(super) settled: S,
}

type BytesTable<'t> = Table<'t, u64, &'static [u8]>;

/// The tables of a transaction that writes.
pub(super) type BlocksMut<'t> = Blocks<BytesTable<'t>, BytesTable<'t>>;

/// Those of one that only reads.
pub(super) type BlocksRead =
    Blocks<ReadOnlyTable<u64, &'static [u8]>, ReadOnlyTable<u64, &'static [u8]>>;

impl<E, S> Blocks<E, S>
where
    E: ReadableTable<u64, &'static [u8]>,
    S: ReadableTable<u64, &'static [u8]>,
{
    /// Reads the records after `sequence`, in order: at most `records_max`, and no more
    /// than `bytes_max` of bodies unless the first alone is more.
    pub(super) fn read_after(
        &self,
        sequence: u64,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Stored>, redb::Error> {
        let (mut read, mut bytes) = (Vec::new(), 0);
        // Its block may have begun before it.
        let from = match self.events.range(..=sequence)?.next_back() {
            Some(entry) => entry?.0.value(),
            None => 0,
        };
        for entry in self.events.range(from..)? {
            let (key, block) = entry?;
            let settled = self.settled_of(key.value())?;
            for record in records_of(key.value(), block.value())? {
                if record.sequence <= sequence || settled.contains(&record.sequence) {
                    continue;
                }
                bytes += record.body.len();
                if read.len() == records_max || (bytes > bytes_max && !read.is_empty()) {
                    return Ok(read);
                }
                read.push(record.stored());
            }
        }
        Ok(read)
    }

    /// Proves every record; answers with what there is, and the sequence after the last.
    pub(super) fn count(&self) -> Result<(Tally, Option<u64>), redb::Error> {
        let (mut tally, mut next_sequence) = (Tally::default(), None);
        for entry in self.events.range::<u64>(..)? {
            let (key, block) = entry?;
            let settled = self.settled_of(key.value())?;
            tally.block_bytes += block.value().len() as u64;
            for record in records_of(key.value(), block.value())? {
                next_sequence = Some(record.sequence + 1);
                if !settled.contains(&record.sequence) {
                    tally.depth.events += 1;
                    tally.depth.bytes += record.encoded_bytes();
                    tally.oldest.get_or_insert(record.sequence);
                    tally.depth.oldest_at.get_or_insert(record.admitted_at);
                }
            }
        }
        Ok((tally, next_sequence))
    }

    /// The first record that is kept: its sequence, and when it was admitted.
    fn first(&self) -> Result<Option<(u64, Timestamp)>, redb::Error> {
        for entry in self.events.range::<u64>(..)? {
            let (key, block) = entry?;
            let settled = self.settled_of(key.value())?;
            let mut records = records_of(key.value(), block.value())?.into_iter();
            if let Some(first) = records.find(|record| !settled.contains(&record.sequence)) {
                return Ok(Some((first.sequence, first.admitted_at)));
            }
        }
        Ok(None)
    }

    fn settled_of(&self, block: u64) -> Result<BTreeSet<u64>, redb::Error> {
        let Some(note) = self.settled.get(block)? else { return Ok(BTreeSet::new()) };
        match frame::split(note.value()) {
            Some((frame, [])) => note_of(&frame).map(Iterator::collect),
            _ => None,
        }
        .ok_or_else(|| not_whole("note", block))
    }
}

impl BlocksMut<'_> {
    /// Removes records, each of them once; what is not there is removed already.
    pub(super) fn settle(
        &mut self,
        sequences: &[u64],
        tally: &mut Tally,
    ) -> Result<(), redb::Error> {
        let sequences: BTreeSet<u64> = sequences.iter().copied().collect();
        let is_oldest_gone = tally.oldest.is_some_and(|oldest| sequences.contains(&oldest));
        let mut after = 0;
        while let Some(&sequence) = sequences.range(after..).next() {
            let block = match self.events.range(..=sequence)?.next_back() {
                Some(entry) => {
                    let (key, block) = entry?;
                    Some((key.value(), block.value().to_vec()))
                }
                None => None,
            };
            after = match block {
                Some((key, block)) => {
                    self.settle_in(key, &block, &sequences, tally)?.max(sequence) + 1
                }
                None => sequence + 1,
            };
        }
        if is_oldest_gone {
            let first = self.first()?;
            tally.oldest = first.map(|(sequence, _)| sequence);
            tally.depth.oldest_at = first.map(|(_, admitted_at)| admitted_at);
        }
        Ok(())
    }

    /// Removes records of one block; answers with its last sequence.
    fn settle_in(
        &mut self,
        key: u64,
        block: &[u8],
        sequences: &BTreeSet<u64>,
        tally: &mut Tally,
    ) -> Result<u64, redb::Error> {
        let records = records_of(key, block)?;
        let mut settled = self.settled_of(key)?;
        let noted = settled.len();
        let mut rest = Vec::with_capacity(records.len());
        for record in &records {
            if settled.contains(&record.sequence) {
                continue;
            }
            if sequences.contains(&record.sequence) {
                settled.insert(record.sequence);
                tally.depth.events -= 1;
                tally.depth.bytes -= record.encoded_bytes();
            } else {
                rest.push(record);
            }
        }
        let last = records.last().map_or(key, |record| record.sequence);
        if settled.len() == noted {
            return Ok(last);
        }
        let rest_bytes = rest.iter().map(|record| record.encoded_bytes()).sum::<u64>() as usize;
        if rest_bytes * 2 > block.len() {
            self.settled.insert(key, encode_note(&settled).as_slice())?;
            return Ok(last);
        }
        let mut anew = Vec::with_capacity(rest_bytes);
        rest.iter().for_each(|record| record.append_to(&mut anew));
        match anew.as_slice() {
            [] => _ = self.events.remove(key)?,
            anew => _ = self.events.insert(key, anew)?,
        }
        self.settled.remove(key)?;
        tally.block_bytes -= (block.len() - anew.len()) as u64;
        Ok(last)
    }
}

/// Appends records as blocks.
pub(super) struct Appending<'a, 't> {
    events: &'a mut BytesTable<'t>,
    block: Vec<u8>,
    /// The first sequence in `block`.
    first: u64,
    tally: Tally,
}

impl<'a, 't> Appending<'a, 't> {
    /// Behind what `tally` counts.
    pub(super) fn new(events: &'a mut BytesTable<'t>, tally: Tally) -> Self {
        Self { events, block: Vec::new(), first: 0, tally }
    }

    /// How much there is, with what was appended.
    pub(super) fn depth(&self) -> Depth {
        self.tally.depth
    }

    /// Appends a record, whose sequence is greater than any before.
    pub(super) fn push(
        &mut self,
        sequence: u64,
        record: &Record,
        admitted_at: Timestamp,
    ) -> Result<(), redb::Error> {
        let bytes = record.encoded_bytes();
        if self.block.len() + bytes as usize > BLOCK_BYTES_MAX {
            self.write_block()?;
        }
        if self.block.is_empty() {
            self.first = sequence;
        }
        // As it will be read.
        let admitted_at = admitted_at.round(Unit::Millisecond).unwrap_or(admitted_at);
        let oldest = *self.tally.oldest.get_or_insert(sequence);
        let (lane, body) = (record.lane.as_deref(), record.body.as_slice());
        View { sequence, oldest, admitted_at, lane, body }.append_to(&mut self.block);
        self.tally.depth.events += 1;
        self.tally.depth.bytes += bytes;
        self.tally.depth.oldest_at.get_or_insert(admitted_at);
        Ok(())
    }

    /// Writes what is not written yet; answers with what there is.
    pub(super) fn finish(mut self) -> Result<Tally, redb::Error> {
        self.write_block()?;
        Ok(self.tally)
    }

    fn write_block(&mut self) -> Result<(), redb::Error> {
        if !self.block.is_empty() {
            self.events.insert(self.first, self.block.as_slice())?;
            self.tally.block_bytes += self.block.len() as u64;
            self.block.clear();
        }
        Ok(())
    }
}

/// The records of a block, each of them proved.
fn records_of(key: u64, block: &[u8]) -> Result<Vec<View<'_>>, redb::Error> {
    let (mut records, mut rest, mut from) = (Vec::new(), block, key);
    while !rest.is_empty() {
        let split = frame::split(rest).and_then(|(frame, rest)| Some((View::of(&frame)?, rest)));
        let Some((record, after)) = split.filter(|(record, _)| record.sequence >= from) else {
            return Err(not_whole("block", key));
        };
        from = record.sequence + 1;
        rest = after;
        records.push(record);
    }
    Ok(records)
}

fn not_whole(what: &str, key: u64) -> redb::Error {
    redb::Error::Corrupted(format!("the {what} of sequence {key} is not whole"))
}
