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

/// Where the one who asked waits.
type Answer<E> = oneshot::Sender<Result<(), E>>;

/// What the committer is asked for.
#[derive(Debug)]
pub(super) enum Request {
    Append { records: Vec<Record>, answer: Answer<AppendError> },
    Remove { sequences: Vec<u64>, answer: Answer<RemoveError> },
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
    appends: Vec<(Vec<Record>, Answer<AppendError>)>,
    removals: Vec<u64>,
    removers: Vec<Answer<RemoveError>>,
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
        match result {
            Ok(admissions) => {
                for ((_, answer), admission) in self.appends.into_iter().zip(admissions) {
                    let _gone = answer.send(match admission {
                        Admission::Admitted { .. } => Ok(()),
                        Admission::Full { events, bytes } => {
                            Err(AppendError::Full { events, bytes })
                        }
                    });
                }
                for answer in self.removers {
                    let _gone = answer.send(Ok(()));
                }
            }
            Err(error) => {
                let message = with_causes(&error);
                for (_, answer) in self.appends {
                    let _gone = answer.send(Err(AppendError::Storage(message.clone())));
                }
                for answer in self.removers {
                    let _gone = answer.send(Err(RemoveError::Storage(message.clone())));
                }
            }
        }
    }
}
