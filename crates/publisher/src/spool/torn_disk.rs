//! A disk that loses power: what was written since the last sync may be there, or not,
//! or in part, and in any order.

// Compiled into several test programs, each of which needs a part of it.
#![allow(dead_code)]

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// The disk. Clones are handles on the same one.
#[derive(Debug, Clone)]
pub(crate) struct TornDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What has been synced.
    durable: Vec<u8>,
    /// What reads see.
    current: Vec<u8>,
    /// What leads from the one to the other.
    pending: Vec<Change>,
    /// Changes and syncs until the power goes.
    operations_left: Option<u64>,
    /// Whether the failing operation is a passing fault: later ones work.
    is_passing: bool,
    has_power: bool,
    /// Syncs that succeeded.
    syncs: u64,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

impl TornDisk {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            durable: Vec::new(),
            current: Vec::new(),
            pending: Vec::new(),
            operations_left: None,
            is_passing: false,
            has_power: true,
            syncs: 0,
        })))
    }

    /// From the `operations`-th change or sync on, everything fails.
    pub(crate) fn lose_power_after(&self, operations: u64) {
        self.state().operations_left = Some(operations);
    }

    /// The `operations`-th change or sync fails, and later ones work.
    pub(crate) fn fail_once_after(&self, operations: u64) {
        let mut state = self.state();
        state.operations_left = Some(operations);
        state.is_passing = true;
    }

    /// The power goes here and now.
    pub(crate) fn cut_power(&self) {
        self.state().has_power = false;
    }

    /// The power is back and was never gone for what has been written: it was a process
    /// that was killed.
    pub(crate) fn go_on(&self) {
        let mut state = self.state();
        state.operations_left = None;
        state.has_power = true;
    }

    /// Whether anything can be read and written.
    pub(crate) fn has_power(&self) -> bool {
        self.state().has_power
    }

    /// Whether nothing is wrong with it, and nothing is about to be.
    pub(crate) fn is_sound(&self) -> bool {
        let state = self.state();
        state.has_power && state.operations_left.is_none()
    }

    /// Syncs that succeeded so far.
    pub(crate) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Brings the power back. Of what was not synced, any part may have survived;
    /// changes of the length, which file systems keep in order, up to some point.
    pub(crate) fn restore_power(&self, random: &mut fastrand::Rng) {
        let mut state = self.state();
        let pending = std::mem::take(&mut state.pending);
        let (mut writes, mut lengths) = (Vec::new(), Vec::new());
        for change in pending {
            match change {
                Change::Write { .. } => writes.push(change),
                Change::SetLen(_) => lengths.push(change),
            }
        }
        lengths.truncate(random.usize(0..=lengths.len()));
        let survival = *random.choice(&[0.0, 0.1, 0.5, 0.9, 1.0]).unwrap_or(&0.5);
        writes.retain(|_| random.f64() < survival);
        random.shuffle(&mut writes);
        for change in lengths {
            apply(&mut state.durable, &change);
        }
        for change in writes {
            let torn = if random.u8(0..4) == 0 { tear(change, random) } else { change };
            apply(&mut state.durable, &torn);
        }
        state.current = state.durable.clone();
        state.operations_left = None;
        state.has_power = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a part of a write: the beginning, the end, or something between.
fn tear(change: Change, random: &mut fastrand::Rng) -> Change {
    let Change::Write { offset, data } = change else { return change };
    let from = if random.bool() { 0 } else { random.usize(0..=data.len()) };
    let to = if random.bool() { data.len() } else { random.usize(from..=data.len()) };
    Change::Write { offset: offset + from, data: data[from..to].to_vec() }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::SetLen(len) => bytes.resize(*len, 0),
        Change::Write { offset, data } => {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(data);
        }
    }
}

impl State {
    /// Counts an operation down to the fault.
    fn spend(&mut self) -> io::Result<()> {
        self.check_power()?;
        match &mut self.operations_left {
            Some(0) => {
                self.operations_left = None;
                self.has_power = self.is_passing;
                self.is_passing = false;
                Err(io::Error::other("the disk failed"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn check_power(&self) -> io::Result<()> {
        if self.has_power { Ok(()) } else { Err(io::Error::other("the disk has no power")) }
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        let had_power = self.has_power;
        let spent = self.spend();
        // The write during which the power goes may reach the disk.
        if spent.is_ok() || (had_power && !self.has_power) {
            apply(&mut self.current, &change);
            self.pending.push(change);
        }
        spent
    }
}

impl StorageBackend for TornDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        state.check_power()?;
        let offset = offset as usize;
        let end = offset + out.len();
        let bytes = state.current.get(offset..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state().change(Change::SetLen(len as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.spend()?;
        for change in std::mem::take(&mut state.pending) {
            apply(&mut state.durable, &change);
        }
        state.syncs += 1;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.state().change(Change::Write { offset: offset as usize, data: data.to_vec() })
    }
}
