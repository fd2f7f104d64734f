//! What the stub remembers, behind one lock that is never held over an await.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::Settings;
use super::body::{Body, BodyKind};
use super::faults::{Dice, Faults};
use super::queue::Queue;

/// What happened since the start or the last reset.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Calls by action, those that failed included.
    pub calls: BTreeMap<String, u64>,
    /// Bytes of all calls' bodies.
    pub request_bytes: u64,
    /// Entries that the topic accepted.
    pub published: u64,
    /// Bytes of the bodies of the calls that published.
    pub published_bytes: u64,
    /// Different event ids among those, where they are recorded.
    pub distinct: Option<u64>,
    /// Polls that wait for a message now; they are among the calls.
    pub waiting: u64,
    /// Messages that were handed out.
    pub received: u64,
    /// Messages that were deleted, from all queues.
    pub deleted: u64,
    /// What is in each queue.
    pub queues: BTreeMap<String, QueueCounts>,
}

/// What is in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueCounts {
    /// Messages that wait.
    pub ready: usize,
    /// Messages that are somebody's for a while.
    pub in_flight: usize,
    /// Messages that were deleted.
    pub deleted: u64,
}

/// Asks to fill a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fill {
    /// With how many messages.
    pub count: u64,
    /// Of which kind.
    #[serde(default)]
    pub body_kind: BodyKind,
    /// Which queue.
    #[serde(default = "default_queue")]
    pub queue: String,
}

fn default_queue() -> String {
    "bench-ingest".to_owned()
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) queues: HashMap<String, Queue>,
    pub(crate) dice: Dice,
    pub(crate) counts: Counts,
    /// How often each event was accepted, by its id; `None` where nobody asked.
    pub(crate) events: Option<BTreeMap<String, u64>>,
    filled: u64,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Rung when a queue may have something for those who wait.
    pub(crate) bell: Notify,
    /// `http://host:port`, for queue URLs.
    pub(crate) url: String,
    seed: u64,
    hidden_max: Option<Duration>,
}

impl Shared {
    pub(crate) fn new(url: String, settings: Settings) -> Self {
        let Settings { faults, seed, record, hidden_max } = settings;
        let state = State {
            queues: HashMap::new(),
            dice: Dice::new(faults, seed),
            counts: Counts::default(),
            events: record.then(BTreeMap::new),
            filled: 0,
        };
        Self { state: Mutex::new(state), bell: Notify::new(), url, seed, hidden_max }
    }

    /// For how long a message is hidden whose receiver asks for so many seconds.
    pub(crate) fn hidden_for(&self, seconds: u64) -> Duration {
        let asked = Duration::from_secs(seconds);
        self.hidden_max.map_or(asked, |max| asked.min(max))
    }

    pub(crate) fn send(&self, queue: &str, body: String) -> u64 {
        let id = self.lock().queue(queue).send(Body::Sent(body), now_ms());
        self.bell.notify_waiters();
        id
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock loses at most one call: the rest stays of use.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fill(&self, fill: &Fill) {
        let mut state = self.lock();
        let (first, sent_ms) = (state.filled, now_ms());
        state.filled += fill.count;
        let queue = state.queue(&fill.queue);
        for number in first..first + fill.count {
            queue.send(Body::Filled { kind: fill.body_kind, number }, sent_ms);
        }
        drop(state);
        self.bell.notify_waiters();
    }

    /// As after the start, but for the faults, whose randomness begins anew.
    pub(crate) fn reset(&self) {
        let mut state = self.lock();
        let record = state.events.is_some();
        *state = State {
            queues: HashMap::new(),
            dice: Dice::new(state.dice.faults, self.seed),
            counts: Counts::default(),
            events: record.then(BTreeMap::new),
            filled: 0,
        };
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.lock().dice.faults = faults;
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.lock();
        let mut counts = state.counts.clone();
        counts.distinct = state.events.as_ref().map(|events| events.len() as u64);
        for (name, queue) in &state.queues {
            let in_queue = QueueCounts {
                ready: queue.ready_count(),
                in_flight: queue.in_flight_count(),
                deleted: queue.deleted,
            };
            counts.deleted += queue.deleted;
            counts.queues.insert(name.clone(), in_queue);
        }
        counts
    }
}

impl State {
    /// The queue of that name, which is made where there is none: whether it was
    /// deployed is not what is measured.
    pub(crate) fn queue(&mut self, name: &str) -> &mut Queue {
        if !self.queues.contains_key(name) {
            self.queues.insert(name.to_owned(), Queue::default());
        }
        self.queues.get_mut(name).expect("it was made")
    }

    pub(crate) fn count_call(&mut self, action: &str) {
        match self.counts.calls.get_mut(action) {
            Some(count) => *count += 1,
            None => {
                self.counts.calls.insert(action.to_owned(), 1);
            }
        }
    }

    pub(crate) fn accept(&mut self, message: &str) {
        self.counts.published += 1;
        let Some(events) = &mut self.events else { return };
        let event: serde_json::Value = serde_json::from_str(message).unwrap_or_default();
        let id = event.get("id").and_then(|id| id.as_str()).unwrap_or("not an event");
        *events.entry(id.to_owned()).or_default() += 1;
    }
}

/// A poll that waits, for as long as this is held: its client may leave meanwhile.
pub(crate) struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    pub(crate) fn begin(shared: &'a Shared) -> Self {
        shared.lock().counts.waiting += 1;
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // A reset may have come between.
        let mut state = self.0.lock();
        state.counts.waiting = state.counts.waiting.saturating_sub(1);
    }
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}
