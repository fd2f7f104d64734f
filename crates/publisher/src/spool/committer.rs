//! What commits: one transaction for whatever waits.

use std::io;
use std::sync::Arc;
use std::thread;

use bellwire_telemetry::with_causes;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::record::Record;
use super::store::{Admission, Store};
use super::{AppendError, Blocking, RemoveError, SpoolError};

/// How many bytes of records go into one commit: one more request is begun while there
/// are fewer.
const BYTES_PER_COMMIT_MAX: u64 = 8 * 1024 * 1024;

/// What the committer is asked for.
#[derive(Debug)]
pub(super) enum Request {
    Append { records: Vec<Record>, answer: oneshot::Sender<Appended> },
    Remove { sequences: Vec<u64>, answer: oneshot::Sender<Result<(), RemoveError>> },
}

/// The answer to who appends.
#[derive(Debug)]
pub(super) struct Appended {
    pub(super) result: Result<(), AppendError>,
    /// To be dropped where the answer is received.
    pub(super) others: Others,
}

/// The answers to the others of a commit, sent when this is dropped.
///
/// To wake a task from the thread that it runs on costs next to nothing; from another
/// one it is a system call each time, and the thread begins to work on the first before
/// it knows of the second. So the committer wakes the first alone, who wakes the others.
/// Where the first has gone away, its answer is dropped, and this with it.
#[derive(Debug, Default)]
pub(super) struct Others(Vec<(oneshot::Sender<Appended>, Result<(), AppendError>)>);

impl Drop for Others {
    fn drop(&mut self) {
        for (answer, result) in self.0.drain(..) {
            // Who has gone away does not want to know.
            let _gone = answer.send(Appended { result, others: Self::default() });
        }
    }
}

/// The committer's belongings.
pub(super) struct Committer {
    // In the order in which they must be dropped: who sees `newest` gone may open the
    // file again.
    pub(super) store: Arc<Store>,
    pub(super) waiting: mpsc::Receiver<Request>,
    pub(super) newest: watch::Sender<u64>,
    pub(super) records_per_commit_max: usize,
}

impl Committer {
    /// Starts it; it ends when every handle is gone and nothing waits.
    pub(super) fn start(mut self, blocking: Blocking) -> io::Result<()> {
        match blocking {
            Blocking::OffRuntime => {
                let work = move || {
                    while let Some(first) = self.waiting.blocking_recv() {
                        self.commit_with(first);
                    }
                };
                thread::Builder::new().name("spool-committer".to_owned()).spawn(work).map(drop)
            }
            Blocking::OnRuntime => {
                tokio::spawn(async move {
                    while let Some(first) = self.waiting.recv().await {
                        self.commit_with(first);
                    }
                });
                Ok(())
            }
        }
    }

    fn commit_with(&mut self, first: Request) {
        let group = self.gather(first);
        self.commit(group);
    }

    fn gather(&mut self, first: Request) -> Group {
        let mut group = Group::default();
        let mut next = Some(first);
        while let Some(request) = next {
            group.add(request);
            let has_room =
                group.records < self.records_per_commit_max && group.bytes < BYTES_PER_COMMIT_MAX;
            next = if has_room { self.waiting.try_recv().ok() } else { None };
        }
        group
    }

    fn commit(&self, group: Group) {
        let appends: Vec<&[Record]> =
            group.appends.iter().map(|(records, _)| records.as_slice()).collect();
        let result = self.store.commit(&appends, &group.removals, Timestamp::now());
        let newest = self.store.next_sequence() - 1;
        // Compacted before the answers, so that nothing is in flight meanwhile.
        if !group.removals.is_empty()
            && let Err(error) = self.store.compact_if_worthwhile()
        {
            tracing::warn!(error = with_causes(&error), "the spool's file was not compacted");
        }
        // Before the answers: who was told that an event is kept must find it.
        self.newest.send_if_modified(|seen| std::mem::replace(seen, newest) != newest);
        group.answer(result);
    }
}

/// What goes into one commit.
#[derive(Default)]
struct Group {
    appends: Vec<(Vec<Record>, oneshot::Sender<Appended>)>,
    removals: Vec<u64>,
    removers: Vec<oneshot::Sender<Result<(), RemoveError>>>,
    /// How many records are appended and removed.
    records: usize,
    /// How many bytes are appended.
    bytes: u64,
}

impl Group {
    fn add(&mut self, request: Request) {
        match request {
            Request::Append { records, answer } => {
                self.records += records.len();
                self.bytes += records.iter().map(Record::encoded_bytes).sum::<u64>();
                self.appends.push((records, answer));
            }
            Request::Remove { sequences, answer } => {
                self.records += sequences.len();
                self.removals.extend(sequences);
                self.removers.push(answer);
            }
        }
    }

    /// Tells everybody; who has gone away does not want to know.
    fn answer(self, result: Result<Vec<Admission>, SpoolError>) {
        let result = result.map_err(|error| with_causes(&error));
        for answer in self.removers {
            let removed = result.as_ref().map(|_| ()).map_err(Clone::clone);
            let _gone = answer.send(removed.map_err(RemoveError::Storage));
        }
        let appended = |index: usize| match &result {
            Ok(admissions) => match admissions[index] {
                Admission::Admitted { .. } => Ok(()),
                Admission::Full { events, bytes } => Err(AppendError::Full { events, bytes }),
            },
            Err(message) => Err(AppendError::Storage(message.clone())),
        };
        let answers = self.appends.into_iter().enumerate();
        let mut answers = answers.map(|(index, (_, answer))| (answer, appended(index)));
        if let Some((first, result)) = answers.next() {
            let _gone = first.send(Appended { result, others: Others(answers.collect()) });
        }
    }
}
