//! `outbox`: from the spool to the topic. An event leaves the spool only after
//! SNS, or the dead queue, has accepted it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bellwire_schema::dead_letter::{DeadReason, Hop};
use bellwire_schema::fifo::group_of;
use bellwire_schema::limits::{SNS_BATCH_ENTRIES_MAX, SNS_MESSAGE_BYTES_MAX};
use bellwire_schema::{DeadLetter, Envelope};
use bellwire_telemetry::metrics::{EVENTS_QUARANTINED, REASON};
use bellwire_telemetry::with_causes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::bridge::{GIVE_UP_AT, log_fate};
use crate::counts::Counts;
use crate::ingest::{Admit, AdmitError};
use crate::pack::Entry;
use crate::publish::{BACKOFF_LAST, Fate, Outlet, Patience, pause_after};
use crate::quarantine::{DeadQueue, quarantine};
use crate::settle::Outcome;
use crate::spans;
use crate::spool::{AppendError, Record, Spool, SpoolError, Stored};

/// Events that are read ahead of the topic, in number and in bytes: a lane that
/// waits for its first event hides so many others at most.
const READ_AHEAD_EVENTS: usize = 512;
const READ_AHEAD_BYTES: usize = 4 * 1024 * 1024;

/// Batches under way together; the gate narrows that to what SNS allows.
const BATCHES_MAX: usize = 16;

/// How long a batch waits for the topic before it is taken up anew.
const PUBLISH_FOR: Duration = Duration::from_secs(3_600);

/// When to come back to a full spool.
const RETRY_AFTER_S: u32 = 2;

/// When what could not be removed from the spool is tried again, unless it is removed
/// with something else before.
const REMOVE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Failures that the pause of a batch whose dead letters were not accepted counts as.
const QUARANTINE_FAILURES: u32 = 6;

impl Admit for Spool {
    fn admit<'a>(&'a self, events: Vec<Entry>) -> BoxFuture<'a, Result<(), AdmitError>> {
        let records = events.into_iter().map(|entry| {
            let (envelope, body) = entry.into_parts();
            // Filled in for nobody: it is the order that the client itself asks for.
            Record { body: body.into_bytes(), lane: envelope.partitionkey }
        });
        let appended = self.append(records.collect());
        async move {
            appended.await.map_err(|error| {
                let message = error.to_string();
                match error {
                    AppendError::Full { .. } | AppendError::TooManyWaiting => {
                        AdmitError::Full { retry_after_s: RETRY_AFTER_S, message }
                    }
                    AppendError::Closed | AppendError::Storage(_) => {
                        AdmitError::Unavailable { message }
                    }
                }
            })
        }
        .boxed()
    }
}

/// An outbox that ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The spool cannot be read.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The spool's thread is gone.
    #[error("the spool has closed by itself: see the log for why, and restart the publisher")]
    Closed,
    /// A batch panicked.
    #[error("a batch of the outbox ended by itself: this is a bug of the publisher")]
    Panicked(#[source] tokio::task::JoinError),
}

/// The way from the spool to the topic.
#[derive(Clone)]
pub struct Outbox {
    /// Where events come from.
    pub spool: Spool,
    /// Where they go to.
    pub outlet: Arc<Outlet>,
    /// Where goes what SNS refuses.
    pub dead: Arc<dyn DeadQueue>,
    /// What becomes of events.
    pub counts: Arc<Counts>,
}

/// An event of the spool that was read and not sent yet.
struct Waiting {
    lane: Option<String>,
    parcel: Parcel,
}

/// What is to be done with an event.
enum Parcel {
    /// It goes to the topic.
    Fit(Box<Entry>),
    /// It can never go there.
    Unfit { reason: DeadReason, message: String, body: Vec<u8> },
}

/// Events by their sequence.
type Batch = Vec<(u64, Waiting)>;

/// What became of a batch: what is done with, and what waits again.
struct Ended {
    lanes: Vec<String>,
    done: Vec<u64>,
    again: Batch,
}

/// What the outbox knows of the spool's content.
struct Desk {
    waiting: BTreeMap<u64, Waiting>,
    /// Lanes of which an event is under way: their others wait, so that nothing overtakes.
    busy: BTreeSet<String>,
    /// The last sequence that was read.
    cursor: u64,
    /// Sequences that are done with and not removed yet.
    done: Vec<u64>,
}

impl Outbox {
    /// Publishes until `shutdown`, and then at most `drain` longer what is there;
    /// answers with how many events stay in the spool, for the next start.
    ///
    /// # Errors
    ///
    /// Where the spool fails or a batch panics.
    pub async fn run(
        self,
        shutdown: CancellationToken,
        drain: Duration,
    ) -> Result<u64, OutboxError> {
        let give_up = CancellationToken::new();
        let ending = async {
            shutdown.cancelled().await;
            sleep(drain.mul_f64(GIVE_UP_AT)).await;
            // The batches under way end with what they know.
            give_up.cancel();
            sleep(drain.mul_f64(1.0 - GIVE_UP_AT)).await;
        };
        tokio::select! {
            biased;
            ended = self.work(&shutdown, &give_up) => ended?,
            () = ending => {}
        }
        Ok(self.spool.depth().events)
    }

    async fn work(
        &self,
        shutdown: &CancellationToken,
        give_up: &CancellationToken,
    ) -> Result<(), OutboxError> {
        let mut appended = self.spool.subscribe();
        let mut desk =
            Desk { waiting: BTreeMap::new(), busy: BTreeSet::new(), cursor: 0, done: Vec::new() };
        let mut under_way: JoinSet<Ended> = JoinSet::new();
        loop {
            let has_more = self.read(&mut desk, &mut appended).await?;
            while under_way.len() < BATCHES_MAX && !give_up.is_cancelled() {
                let batch = desk.take_batch();
                if batch.is_empty() {
                    break;
                }
                under_way.spawn(self.clone().send(batch, give_up.clone()));
            }
            if under_way.is_empty() && (shutdown.is_cancelled() || give_up.is_cancelled()) {
                self.remove(&mut desk).await;
                return Ok(());
            }
            tokio::select! {
                biased;
                Some(ended) = under_way.join_next() => {
                    desk.take_back(ended.map_err(OutboxError::Panicked)?);
                    while let Some(ended) = under_way.try_join_next() {
                        desk.take_back(ended.map_err(OutboxError::Panicked)?);
                    }
                    self.remove(&mut desk).await;
                }
                () = shutdown.cancelled(), if under_way.is_empty() => {}
                changed = appended.changed(), if !has_more => {
                    changed.map_err(|_| OutboxError::Closed)?;
                }
                // A full spool admits nothing with which this could go.
                () = sleep(REMOVE_AGAIN_AFTER), if !desk.done.is_empty() => {
                    self.remove(&mut desk).await;
                }
            }
        }
    }

    /// Reads ahead as far as there is room; answers with whether there is more.
    async fn read(
        &self,
        desk: &mut Desk,
        appended: &mut watch::Receiver<u64>,
    ) -> Result<bool, OutboxError> {
        let newest = *appended.borrow_and_update();
        let room = READ_AHEAD_EVENTS.saturating_sub(desk.waiting.len());
        // In halves, so that a full desk costs no reading for each batch.
        if newest <= desk.cursor || room < READ_AHEAD_EVENTS / 2 {
            return Ok(newest > desk.cursor);
        }
        let is_fifo = self.outlet.topic_name().is_fifo();
        let read = self.spool.read_after(desk.cursor, room, READ_AHEAD_BYTES).await?;
        if read.is_empty() {
            // What is missing up to there left before the last start, or was never kept.
            desk.cursor = newest;
        }
        for stored in read {
            desk.cursor = stored.sequence;
            desk.waiting.insert(stored.sequence, Waiting::of(stored, is_fifo));
        }
        Ok(newest > desk.cursor)
    }

    /// What cannot be removed now is removed a little later; until then a restart
    /// would publish it again, under the same id.
    async fn remove(&self, desk: &mut Desk) {
        if desk.done.is_empty() {
            return;
        }
        match self.spool.remove(desk.done.clone()).await {
            Ok(()) => desk.done.clear(),
            Err(error) => tracing::error!(error = %with_causes(&error), "spool not emptied"),
        }
    }

    async fn send(self, batch: Batch, give_up: CancellationToken) -> Ended {
        let mut ended = Ended {
            lanes: batch.iter().filter_map(|(_, waiting)| waiting.lane.clone()).collect(),
            done: Vec::new(),
            again: Vec::new(),
        };
        let (fit, mut unfit): (Batch, Batch) =
            batch.into_iter().partition(|(_, waiting)| matches!(waiting.parcel, Parcel::Fit(_)));
        let entries: Vec<&Entry> = fit.iter().filter_map(|(_, waiting)| waiting.entry()).collect();
        let patience = Patience { deadline: Instant::now() + PUBLISH_FOR, give_up };
        let fates = self.outlet.publish(&entries, &patience).await;
        for ((sequence, waiting), fate) in fit.into_iter().zip(fates) {
            if let Some(entry) = waiting.entry() {
                log_fate(entry.envelope(), &fate);
            }
            match fate {
                Fate::Published => {
                    self.counts.add(Outcome::Published);
                    ended.done.push(sequence);
                }
                Fate::Refused { message } => unfit.push((sequence, waiting.refused(message))),
                Fate::Left { .. } => ended.again.push((sequence, waiting)),
            }
        }
        for (sequence, waiting) in unfit {
            match self.put_aside(&waiting).await {
                true => ended.done.push(sequence),
                false => ended.again.push((sequence, waiting)),
            }
        }
        ended
    }

    /// Whether the dead queue accepted an event.
    async fn put_aside(&self, waiting: &Waiting) -> bool {
        let Parcel::Unfit { reason, message, body } = &waiting.parcel else { return false };
        let mut letter = DeadLetter::new(*reason, message, Hop::Publisher, body, Timestamp::now());
        if let Ok(event) = Envelope::from_json(body) {
            letter.source = Some(event.source);
            letter.id = Some(event.id);
            letter.traceparent = event.context.traceparent;
        }
        let (code, id) = (reason.as_str(), letter.id.as_deref());
        let span = spans::dead(*reason, letter.traceparent.as_deref());
        let sent = quarantine(self.dead.as_ref(), &letter).instrument(span);
        match timeout(crate::connect::OPERATION_TIMEOUT, sent).await {
            Ok(Ok(())) => {
                self.counts.add(Outcome::Quarantined(*reason));
                EVENTS_QUARANTINED.add(1, || [REASON.of(code)]);
                tracing::warn!(reason = code, id, detail = message, "event quarantined");
                true
            }
            Ok(Err(error)) => {
                tracing::error!(
                    reason = code, id, error = %with_causes(&error),
                    "event not quarantined, kept in the spool"
                );
                sleep(pause_after(QUARANTINE_FAILURES, BACKOFF_LAST)).await;
                false
            }
            Err(_) => {
                tracing::error!(reason = code, id, "no time to quarantine an event, kept");
                false
            }
        }
    }
}

impl Desk {
    /// The next events for one call, in order: within SNS's limits, and one of a
    /// lane at most, since SNS may accept a batch's second entry and not its first.
    fn take_batch(&mut self) -> Batch {
        let (mut sequences, mut bytes) = (Vec::new(), 0);
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for (sequence, waiting) in &self.waiting {
            let is_free = waiting
                .lane
                .as_deref()
                .is_none_or(|lane| !self.busy.contains(lane) && seen.insert(lane));
            if !is_free {
                continue;
            }
            bytes += waiting.entry().map_or(0, Entry::bytes);
            if sequences.len() == SNS_BATCH_ENTRIES_MAX || bytes > SNS_MESSAGE_BYTES_MAX {
                break;
            }
            sequences.push(*sequence);
        }
        let taken = sequences.into_iter().filter_map(|sequence| {
            let waiting = self.waiting.remove(&sequence)?;
            self.busy.extend(waiting.lane.clone());
            Some((sequence, waiting))
        });
        taken.collect()
    }

    fn take_back(&mut self, ended: Ended) {
        for lane in &ended.lanes {
            self.busy.remove(lane);
        }
        self.done.extend(ended.done);
        self.waiting.extend(ended.again);
    }
}

impl Waiting {
    /// On a FIFO topic the lane of an event is its group.
    fn of(stored: Stored, is_fifo: bool) -> Self {
        let unfit = |reason, message, body| Parcel::Unfit { reason, message, body };
        let parcel = match Envelope::from_json(&stored.body) {
            Ok(envelope) => match Entry::of(envelope) {
                Ok(entry) => Parcel::Fit(Box::new(entry)),
                Err(error) => unfit(error.reason(), error.to_string(), stored.body),
            },
            Err(error) => unfit(DeadReason::InvalidEnvelope, error.to_string(), stored.body),
        };
        let lane = match &parcel {
            Parcel::Fit(entry) if is_fifo => Some(group_of(entry.envelope())),
            _ => stored.lane,
        };
        Self { lane, parcel }
    }

    fn entry(&self) -> Option<&Entry> {
        match &self.parcel {
            Parcel::Fit(entry) => Some(entry),
            Parcel::Unfit { .. } => None,
        }
    }

    fn refused(self, message: String) -> Self {
        let parcel = match self.parcel {
            Parcel::Fit(entry) => Parcel::Unfit {
                reason: DeadReason::PublishRefused,
                message,
                body: entry.body().as_bytes().to_vec(),
            },
            unfit @ Parcel::Unfit { .. } => unfit,
        };
        Self { parcel, ..self }
    }
}
