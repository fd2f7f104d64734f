//! `bridge`: from the ingest queue to the topic, round by round.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwire_schema::Envelope;
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::fifo::group_of;
use bellwire_schema::limits::SQS_BATCH_ENTRIES_MAX;
use bellwire_telemetry::with_causes;
use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::call::{CallError, Trouble};
use crate::claim::{ClaimDesk, ClaimError, entry_or_claim};
use crate::counts::Counts;
use crate::decode::{Record, decode};
use crate::enrich::{LookUpError, Objects, RunOrigins, enrich};
use crate::lanes::{Lanes, Line, Ticket};
use crate::pack::{Entry, pack};
use crate::publish::{Fate, Outlet, Patience, pause_after};
use crate::quarantine::{DeadQueue, Reject, letter_of, quarantine};
use crate::receive::{IngestQueue, Message, VISIBILITY_S};
use crate::route::{Draft, Routed, Rules};
use crate::settle::{Decision, Outcome, decide, delete, hidden_s, leave};
use crate::spans;

/// How long a round looks things up, and how long it tries to quarantine.
const ENRICH_FOR: Duration = Duration::from_secs(30);
const QUARANTINE_FOR: Duration = Duration::from_secs(15);

/// How long a round waits for the topic: while that is down, messages are held
/// rather than received again and again. SQS hides a message for 12 hours at most.
/// Source: Amazon SQS developer guide, "Amazon SQS visibility timeout".
const PUBLISH_FOR: Duration = Duration::from_secs(11 * 3_600);

/// How often the messages of a round are hidden anew, each time for
/// [`VISIBILITY_S`]: two of these may fail.
const HIDE_EVERY: Duration = Duration::from_secs(VISIBILITY_S as u64 / 3);

/// Look-ups of one round that are under way together.
const LOOK_UPS_MAX: usize = 10;

/// Batches, and dead letters, of one round that are under way together.
pub const BATCHES_MAX: usize = 4;

/// The longest pause of a pipeline that cannot receive.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The part of a drain's time after which nothing waits for the topic any more.
pub(crate) const GIVE_UP_AT: f64 = 0.75;

/// What the bridge stands between.
#[derive(Clone)]
pub struct Edges {
    /// Where messages come from.
    pub queue: Arc<dyn IngestQueue>,
    /// Where events go to.
    pub outlet: Arc<Outlet>,
    /// Where goes what cannot be handled.
    pub dead: Arc<dyn DeadQueue>,
    /// Where objects' metadata is.
    pub objects: Arc<dyn Objects>,
    /// Where the origin of runs is.
    pub origins: Arc<dyn RunOrigins>,
    /// Where the payload goes of what is too large; `None` without a claim check.
    pub claims: Option<ClaimDesk>,
}

/// The bridge from the ingest queue to the topic.
pub struct Bridge {
    rules: Rules,
    edges: Edges,
    /// The ingest queue's ARN: the source of every dead letter.
    queue_arn: String,
    counts: Arc<Counts>,
    /// Messages that were received and are not settled yet.
    in_work: AtomicUsize,
    pollers: Pollers,
    health: Arc<QueueHealth>,
    /// Whose turn it is, where the topic is FIFO.
    lanes: Option<Lanes>,
    /// Rounds that wait for the topic give up.
    give_up: CancellationToken,
}

/// Which pipelines poll: one at an idle queue, all at a full one.
#[derive(Debug, Default)]
struct Pollers {
    awake: AtomicUsize,
    wake: Notify,
}

/// Whether the ingest queue could be received from, the last time.
#[derive(Debug, Default)]
pub struct QueueHealth {
    trouble: Mutex<Option<String>>,
}

impl QueueHealth {
    /// Why the queue cannot be received from; `None` where it can.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.lock().clone()
    }

    fn note(&self, trouble: Option<String>) {
        *self.lock() = trouble;
    }

    /// A text is right whatever a panicking thread was doing.
    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a round went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Messages that left the queue.
    pub deleted: usize,
    /// Messages that come back.
    pub left: usize,
}

/// A pipeline that ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
#[error("a pipeline of the bridge ended by itself: this is a bug of the publisher")]
pub struct BridgeError(#[source] tokio::task::JoinError);

/// What is known of each record of a round: left, until more is known.
struct Sheet {
    outcomes: Vec<Vec<Outcome>>,
    /// For how many seconds messages are hidden that wait in their groups, by their
    /// places in the round.
    hidden_s: BTreeMap<usize, u32>,
}

/// What is left of a round: messages, each with for how many seconds it is hidden.
type Left<'a> = Vec<(&'a Message, u32)>;

/// A round's records, once they are decoded and routed.
struct Sorted {
    sheet: Sheet,
    drafts: Vec<(Ticket, Draft)>,
    rejects: Vec<(Ticket, Reject)>,
}

/// When the parts of a round end at the latest; no call of theirs is begun later.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    look_up: Instant,
    publish: Instant,
    /// `None`: [`QUARANTINE_FOR`] after the rest.
    quarantine: Option<Instant>,
}

/// Why a draft has no entry.
enum Unready {
    /// A look-up failed: its message comes back.
    LookUp(LookUpError),
    /// Its payload was not put into S3: its message comes back.
    Claim(CallError),
    /// No repetition helps.
    Reject(Reject),
}

impl Sheet {
    fn mark(&mut self, ticket: Ticket, outcome: Outcome) {
        self.outcomes[ticket.message][ticket.record] = outcome;
    }

    fn is_done(&self, ticket: Ticket) -> bool {
        self.outcomes[ticket.message][ticket.record] != Outcome::Left
    }
}

impl Bridge {
    /// A bridge under a workflow's rules.
    #[must_use]
    pub fn new(rules: Rules, edges: Edges, queue_arn: String, counts: Arc<Counts>) -> Self {
        Self {
            lanes: edges.outlet.topic_name().is_fifo().then(Lanes::default),
            rules,
            edges,
            queue_arn,
            counts,
            in_work: AtomicUsize::new(0),
            pollers: Pollers::default(),
            health: Arc::default(),
            give_up: CancellationToken::new(),
        }
    }

    /// Whether its queue can be received from.
    #[must_use]
    pub fn health(&self) -> Arc<QueueHealth> {
        self.health.clone()
    }

    /// Runs so many pipelines until `shutdown`, then waits at most `drain` for
    /// what they have received. Answers with how many messages it left
    /// unfinished: they come back when their visibility timeout ends.
    ///
    /// # Errors
    ///
    /// Where a pipeline panicked: better an end that is seen than a bridge that
    /// carries less than it should.
    pub async fn run(
        self: Arc<Self>,
        pipelines: usize,
        shutdown: CancellationToken,
        drain: Duration,
    ) -> Result<usize, BridgeError> {
        let mut running = JoinSet::new();
        for _ in 0..pipelines {
            running.spawn(self.clone().pipeline(shutdown.clone()));
        }
        while !shutdown.is_cancelled() {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                Some(Err(panicked)) = running.join_next() => return Err(BridgeError(panicked)),
            }
        }
        let drained = async {
            while let Some(ended) = running.join_next().await {
                ended.map_err(BridgeError)?;
            }
            Ok(())
        };
        // What waits for the topic gives up in time to let go of its messages.
        let give_up = async {
            sleep(drain.mul_f64(GIVE_UP_AT)).await;
            self.give_up.cancel();
            std::future::pending().await
        };
        tokio::select! {
            biased;
            ended = timeout(drain, drained) => match ended {
                Ok(ended) => ended.map(|()| 0),
                Err(_) => Ok(self.in_work.load(Ordering::Relaxed)),
            },
            never = give_up => never,
        }
    }

    async fn pipeline(self: Arc<Self>, shutdown: CancellationToken) {
        let mut failures = 0;
        // The first pipeline polls; the others are woken by what is found.
        if self.pollers.awake.fetch_add(1, Ordering::Relaxed) > 0 && !self.sleep(&shutdown).await {
            return;
        }
        loop {
            let received = tokio::select! {
                biased;
                // Only the poll is raced: what was received is worked to its end.
                () = shutdown.cancelled() => return,
                received = self.receive() => received,
            };
            match received {
                Ok(messages) if messages.is_empty() => {
                    failures = 0;
                    if self.pollers.awake.load(Ordering::Relaxed) > 1
                        && !self.sleep(&shutdown).await
                    {
                        return;
                    }
                }
                Ok(messages) => {
                    failures = 0;
                    // There may be more, and somebody must look while this one works.
                    self.pollers.wake.notify_one();
                    self.work(&messages).await;
                }
                Err(error) => {
                    failures += 1;
                    tracing::error!(
                        trouble = %error.trouble, error = %with_causes(&error),
                        "the ingest queue cannot be received from"
                    );
                    let pause = sleep(pause_after(failures, PAUSE_MAX));
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => return,
                        () = pause => {}
                    }
                }
            }
        }
    }

    /// Sleeps until there is more to receive than others can; `false` at the end.
    async fn sleep(&self, shutdown: &CancellationToken) -> bool {
        self.pollers.awake.fetch_sub(1, Ordering::Relaxed);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => false,
            () = self.pollers.wake.notified() => {
                self.pollers.awake.fetch_add(1, Ordering::Relaxed);
                true
            }
        }
    }

    /// Receives once it is worth it.
    async fn receive(&self) -> Result<Vec<Message>, CallError> {
        self.edges.outlet.gate().open().await;
        let received = self.edges.queue.receive().await;
        self.health.note(received.as_ref().err().map(ToString::to_string));
        received
    }

    /// Works one batch of messages to its end: decode, route, enrich, pack,
    /// publish, quarantine, settle; and hides them from others all the while.
    pub async fn work(&self, messages: &[Message]) -> Round {
        self.in_work.fetch_add(messages.len(), Ordering::Relaxed);
        let (deleted, left) = tokio::select! {
            biased;
            round = self.round(messages) => round,
            never = self.keep_hidden(messages) => match never {},
        };
        // Once nobody keeps it hidden any more, which would undo this.
        leave(self.edges.queue.as_ref(), &left).await;
        self.in_work.fetch_sub(messages.len(), Ordering::Relaxed);
        Round { deleted, left: left.len() }
    }

    /// Answers with how many messages it deleted, and those that it leaves.
    async fn round<'a>(&self, messages: &'a [Message]) -> (usize, Left<'a>) {
        let begin = Instant::now();
        let bounds =
            Bounds { look_up: begin + ENRICH_FOR, publish: begin + PUBLISH_FOR, quarantine: None };
        let sheet = self.carry(messages, bounds).await;
        let (done, left) = self.sum_up(messages, &sheet);
        (delete(self.edges.queue.as_ref(), &done).await, left)
    }

    /// Works messages that another deletes, as Lambda does for a function: the same
    /// round until `deadline` at the latest, but for the deletion. Answers with what
    /// must come back, which is hidden until it is worth it; all the others are done.
    pub async fn work_until<'a>(
        &self,
        messages: &'a [Message],
        deadline: Instant,
    ) -> Vec<&'a Message> {
        let begin = Instant::now();
        let until = |part: f64| begin + (deadline - begin).mul_f64(part);
        // What is left has to be hidden in the last quarter.
        let bounds =
            Bounds { look_up: until(0.25), publish: until(0.5), quarantine: Some(until(0.75)) };
        let worked = async {
            let sheet = self.carry(messages, bounds).await;
            let (_, left) = self.sum_up(messages, &sheet);
            leave(self.edges.queue.as_ref(), &left).await;
            left.into_iter().map(|(message, _)| message).collect()
        };
        timeout_at(deadline, worked).await.unwrap_or_else(|_| {
            tracing::error!("there was no time to finish: all messages come back");
            messages.iter().collect()
        })
    }

    /// From messages to what is known of each of their records.
    async fn carry(&self, messages: &[Message], bounds: Bounds) -> Sheet {
        let Sorted { mut sheet, mut drafts, mut rejects } = self.sort(messages);
        let line = self.lanes.as_ref().map(|lanes| {
            // A standard queue hands out a batch in any order.
            drafts.sort_by_key(|(ticket, _)| messages[ticket.message].sent_at);
            lanes.enter(messages, &drafts)
        });
        let (entries, unfit) = self.prepare(drafts, bounds.look_up).await;
        let deadline = bounds.publish;
        let refused = match line {
            Some(line) => self.publish_in_turn(line, &unfit, entries, deadline, &mut sheet).await,
            None => self.publish(entries, deadline, &mut sheet).await,
        };
        rejects.extend(unfit);
        rejects.extend(refused);
        let deadline = bounds.quarantine.unwrap_or_else(|| Instant::now() + QUARANTINE_FOR);
        self.quarantine(messages, rejects, deadline, &mut sheet).await;
        sheet
    }

    async fn keep_hidden(&self, messages: &[Message]) -> Infallible {
        loop {
            sleep(HIDE_EVERY).await;
            for batch in messages.chunks(SQS_BATCH_ENTRIES_MAX) {
                let receipts: Vec<(&str, u32)> =
                    batch.iter().map(|message| (message.receipt.as_str(), VISIBILITY_S)).collect();
                if let Err(error) = self.edges.queue.hide(&receipts).await {
                    tracing::warn!(%error, "messages in work may be received a second time");
                }
            }
        }
    }

    /// Decodes and routes every record.
    fn sort(&self, messages: &[Message]) -> Sorted {
        let outcomes = Vec::with_capacity(messages.len());
        let mut sheet = Sheet { outcomes, hidden_s: BTreeMap::new() };
        let (mut drafts, mut rejects) = (Vec::new(), Vec::new());
        for (message_index, message) in messages.iter().enumerate() {
            tracing::debug!(message_id = message.id, body = message.body, "message received");
            let records = decode(&message.body);
            let count = records.len();
            sheet.outcomes.push(vec![Outcome::Left; count]);
            for (record_index, record) in records.into_iter().enumerate() {
                let ticket = Ticket { message: message_index, record: record_index };
                let key = record.as_ref().ok().and_then(Record::subject).map(str::to_owned);
                match record.map(|record| self.rules.route(record)) {
                    Ok(Routed::Event(draft)) => drafts.push((ticket, *draft)),
                    Ok(Routed::Skip(skip)) => {
                        tracing::info!(reason = %skip, key, message_id = message.id, "record skipped");
                        sheet.mark(ticket, Outcome::Skipped(skip));
                    }
                    Err(error) => {
                        let message = match count {
                            1 => error.message,
                            _ => format!("record {} of {count}: {error}", record_index + 1),
                        };
                        let reject = Reject { reason: error.reason, message, traceparent: None };
                        rejects.push((ticket, reject));
                    }
                }
            }
        }
        Sorted { sheet, drafts, rejects }
    }

    /// Completes every draft, and makes the entry of each: those whose look-up
    /// or claim failed stay left.
    async fn prepare(
        &self,
        drafts: Vec<(Ticket, Draft)>,
        deadline: Instant,
    ) -> (Vec<(Ticket, Entry)>, Vec<(Ticket, Reject)>) {
        let looked_up = drafts.into_iter().map(|(ticket, draft)| async move {
            (ticket, timeout_at(deadline, self.entry_of(draft)).await)
        });
        let looked_up: Vec<_> = stream::iter(looked_up).buffered(LOOK_UPS_MAX).collect().await;
        let (mut entries, mut rejects) = (Vec::new(), Vec::new());
        for (ticket, result) in looked_up {
            match result {
                Ok(Ok(entry)) => entries.push((ticket, entry)),
                Ok(Err(Unready::Reject(reject))) => rejects.push((ticket, reject)),
                Ok(Err(Unready::LookUp(error))) => {
                    tracing::warn!(reason = %with_causes(&error), "event left");
                }
                Ok(Err(Unready::Claim(error))) => log_unclaimed(&error),
                Err(_) => tracing::warn!(reason = "its look-up took too long", "event left"),
            }
        }
        (entries, rejects)
    }

    async fn entry_of(&self, draft: Draft) -> Result<Entry, Unready> {
        let Edges { objects, origins, claims, outlet, .. } = &self.edges;
        let completed = enrich(draft, objects.as_ref(), origins.as_ref()).await;
        let mut envelope = completed.map_err(Unready::LookUp)?;
        spans::create(&mut envelope, outlet.topic_name());
        let traceparent = envelope.context.traceparent.clone();
        entry_or_claim(envelope, claims.as_ref()).await.map_err(|error| match error {
            ClaimError::Unfit(unfit) => {
                let (reason, message) = (unfit.reason(), unfit.to_string());
                Unready::Reject(Reject { reason, message, traceparent })
            }
            ClaimError::Put(error) => Unready::Claim(error),
        })
    }

    /// Publishes in batches; answers with what SNS refused for good.
    async fn publish(
        &self,
        entries: Vec<(Ticket, Entry)>,
        deadline: Instant,
        sheet: &mut Sheet,
    ) -> Vec<(Ticket, Reject)> {
        let patience = &Patience { deadline, give_up: self.give_up.clone() };
        let published = pack(entries).into_iter().map(|batch| async move {
            let entries: Vec<&Entry> = batch.iter().map(|(_, entry)| entry).collect();
            let fates = self.edges.outlet.publish(&entries, patience).await;
            (batch, fates)
        });
        let published: Vec<_> = stream::iter(published).buffered(BATCHES_MAX).collect().await;
        let mut refused = Vec::new();
        for (batch, fates) in published {
            for ((ticket, entry), fate) in batch.into_iter().zip(fates) {
                log_fate(entry.envelope(), &fate);
                match fate {
                    Fate::Published => sheet.mark(ticket, Outcome::Published),
                    Fate::Left { .. } => {}
                    Fate::Refused { message } => {
                        let reason = DeadReason::PublishRefused;
                        let traceparent = entry.envelope().context.traceparent.clone();
                        refused.push((ticket, Reject { reason, message, traceparent }));
                    }
                }
            }
        }
        refused
    }

    /// The same on a FIFO topic: one entry of a group at a time, each behind those that
    /// were received before it. What can never go frees its group; what may go later
    /// holds it.
    async fn publish_in_turn(
        &self,
        mut line: Line<'_>,
        unfit: &[(Ticket, Reject)],
        entries: Vec<(Ticket, Entry)>,
        deadline: Instant,
        sheet: &mut Sheet,
    ) -> Vec<(Ticket, Reject)> {
        for (ticket, _) in unfit {
            line.done(*ticket);
        }
        for (ticket, entry) in &entries {
            line.regroup(*ticket, &group_of(entry.envelope()));
        }
        let mut entries: BTreeMap<Ticket, Entry> = entries.into_iter().collect();
        let mut refused = Vec::new();
        loop {
            let changed = line.changed();
            let turns = line.turns();
            if turns.now.is_empty() {
                let patience = Patience { deadline, give_up: self.give_up.clone() };
                match turns.is_waiting && patience.bound(changed).await.is_some() {
                    true => continue,
                    false => break,
                }
            }
            let batch =
                turns.now.iter().filter_map(|ticket| Some((*ticket, entries.remove(ticket)?)));
            let never = self.publish(batch.collect(), deadline, sheet).await;
            for ticket in turns.now {
                let is_done =
                    sheet.is_done(ticket) || never.iter().any(|(other, _)| *other == ticket);
                if is_done { line.done(ticket) } else { line.hold(ticket) }
            }
            refused.extend(never);
        }
        sheet.hidden_s = line.hidden_s();
        refused
    }

    async fn quarantine(
        &self,
        messages: &[Message],
        rejects: Vec<(Ticket, Reject)>,
        deadline: Instant,
        sheet: &mut Sheet,
    ) {
        let sent = rejects.into_iter().map(|(ticket, reject)| async move {
            let message = &messages[ticket.message];
            let letter = letter_of(message, &reject, &self.queue_arn, Timestamp::now());
            let sent = timeout_at(deadline, quarantine(self.edges.dead.as_ref(), &letter)).await;
            (ticket, reject, sent)
        });
        let sent: Vec<_> = stream::iter(sent).buffered(BATCHES_MAX).collect().await;
        for (ticket, reject, sent) in sent {
            let message_id = &messages[ticket.message].id;
            let (reason, detail) = (reject.reason.as_str(), &reject.message);
            spans::in_trace_of(reject.traceparent.as_deref(), || match sent {
                Ok(Ok(())) => {
                    sheet.mark(ticket, Outcome::Quarantined(reject.reason));
                    tracing::warn!(reason, message_id, detail, "record quarantined");
                }
                Ok(Err(error)) => {
                    let error = with_causes(&error);
                    tracing::error!(reason, message_id, error, "record not quarantined, left");
                }
                Err(_) => {
                    tracing::error!(reason, message_id, "no time to quarantine a record, left");
                }
            });
        }
    }

    /// Counts what became of all records; answers with the messages that leave the
    /// queue, and those that come back.
    fn sum_up<'a>(&self, messages: &'a [Message], sheet: &Sheet) -> (Vec<&'a Message>, Left<'a>) {
        let is_stopping = self.give_up.is_cancelled();
        for outcome in sheet.outcomes.iter().flatten() {
            self.counts.add(*outcome);
        }
        let (mut done, mut left) = (Vec::new(), Left::new());
        for (index, (message, outcomes)) in messages.iter().zip(&sheet.outcomes).enumerate() {
            let in_group = sheet.hidden_s.get(&index).filter(|_| !is_stopping);
            match decide(outcomes) {
                Decision::Delete => done.push(message),
                Decision::Leave => {
                    let own = || hidden_s(message.receives, is_stopping);
                    left.push((message, in_group.copied().unwrap_or_else(own)));
                }
            }
        }
        (done, left)
    }
}

/// A payload that was not put: only what is passing is no error.
fn log_unclaimed(error: &CallError) {
    let reason = with_causes(error);
    match error.trouble {
        Trouble::Unavailable => tracing::warn!(reason, "event left: its payload was not put"),
        Trouble::Denied | Trouble::Refused => tracing::error!(
            reason,
            "event left: the publisher's role or the claim check's bucket needs a change"
        ),
    }
}

/// One line for each event's fate.
pub(crate) fn log_fate(event: &Envelope, fate: &Fate) {
    let (event_type, id, key) = (event.event_type.as_str(), &event.id, event.subject.as_deref());
    let lag_ms = event.time.map(|time| Timestamp::now().duration_since(time).as_millis() as i64);
    spans::in_trace_of(event.context.traceparent.as_deref(), || match fate {
        Fate::Published => {
            tracing::info!("type" = event_type, id, key, lag_ms, "event published");
        }
        Fate::Refused { message } => {
            tracing::warn!("type" = event_type, id, key, reason = message, "event refused");
        }
        Fate::Left { message, is_denied: true } => {
            tracing::error!(
                "type" = event_type,
                id,
                key,
                reason = message,
                "event left: the publisher's role, the topic or its key needs a change"
            );
        }
        Fate::Left { message, is_denied: false } => {
            tracing::warn!("type" = event_type, id, key, reason = message, "event left");
        }
    });
}
