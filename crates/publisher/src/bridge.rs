//! `bridge`: from the ingest queue to the topic, round by round.

mod carry;

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwire_schema::limits::SQS_BATCH_ENTRIES_MAX;
use bellwire_telemetry::with_causes;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use self::carry::{Bounds, Sheet};
use crate::call::CallError;
use crate::claim::ClaimDesk;
use crate::counts::Counts;
use crate::enrich::{Objects, RunOrigins};
use crate::lanes::Lanes;
use crate::publish::{Outlet, pause_after};
use crate::quarantine::DeadQueue;
use crate::receive::{IngestQueue, Message, VISIBILITY_S};
use crate::route::Rules;
use crate::settle::{Decision, decide, delete, hidden_s, leave};

pub(crate) use self::carry::{log_fate, type_and_source};

/// How long a round looks things up.
const ENRICH_FOR: Duration = Duration::from_secs(30);

/// How long a round waits for the topic: while that is down, messages are held
/// rather than received again and again. SQS hides a message for 12 hours at most.
/// Source: Amazon SQS developer guide, "Amazon SQS visibility timeout".
const PUBLISH_FOR: Duration = Duration::from_secs(11 * 3_600);

/// How often the messages of a round are hidden anew, each time for
/// [`VISIBILITY_S`]: two of these may fail.
const HIDE_EVERY: Duration = Duration::from_secs(VISIBILITY_S as u64 / 3);

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

/// What is left of a round: messages, each with for how many seconds it is hidden.
type Left<'a> = Vec<(&'a Message, u32)>;

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
