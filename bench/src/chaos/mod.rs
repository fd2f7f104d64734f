//! A publisher that is killed again and again, at random moments, under load and
//! with faults: is an event ever lost?
//!
//! ```text
//! load: messages, bad ones among them ─► stub's queue ─► publisher ─► stub's topic
//! callers: events over HTTP ──────────────────────────►  (SIGKILL)    stub's dead queue
//!                                                                        │
//! what was sent, what was answered with 202 ─────────────────────────► verdict
//! ```
//!
//! A caller repeats its batch, under the same ids, until it is answered with 202:
//! as callers are told to.

mod callers;
mod victim;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bellwire_schema::DeadLetter;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::event::Objects;
use crate::stub::{self, Faults, Fill, StartError, Stub};
use callers::{Caller, Ledger};
use victim::Victim;
pub use victim::VictimError;

const QUEUE: &str = "bench-ingest";
const DEAD_QUEUE: &str = "bench-dead";

/// How long a message that a killed publisher had stays hidden.
const HIDDEN_MAX: Duration = Duration::from_secs(2);

/// Who posts events at the same time.
const CALLERS: u64 = 4;

/// Messages for each life of the publisher; one in this many of them is bad.
const MESSAGES_A_LIFE: u64 = 40;
const GOOD_FOR_ONE_BAD: u64 = 20;

/// The longest life of a publisher that has begun, and the longest of one that is
/// killed while it begins.
const LIFE_MAX: Duration = Duration::from_millis(300);
const START_MAX: Duration = Duration::from_millis(60);

/// How long one may take to begin: on a busy machine it takes its time.
const BEGIN_WITHIN: Duration = Duration::from_secs(30);

/// One life in so many is that short; in one of so many nothing answers well.
const SHORT_LIFE_ONE_IN: u64 = 5;
const OUTAGE_ONE_IN: u64 = 10;

/// How long the last publisher, which nobody kills, may bring nothing more to its end
/// before what is left counts as lost.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// How long nothing happens, with an empty queue, once the spool is empty too.
const QUIET_AFTER: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(25);

/// What is tried.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The publisher's program.
    pub publisher: PathBuf,
    /// Where spool, log and workflow file are put; empty at the start.
    pub folder: PathBuf,
    /// How often it is killed.
    pub kills: u64,
    /// What its lives' lengths and the faults are made of.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Kills by SIGKILL, each of a process that ran.
    pub kills: u64,
    /// Lives that ended by themselves: nothing answered while they began.
    pub failed_starts: u64,
    /// Messages of the queue that are events.
    pub messages: u64,
    /// Messages that are none, and belong into the dead queue.
    pub bad_messages: u64,
    /// Events that were answered with 202.
    pub accepted: u64,
    /// Different events that the topic has.
    pub published: u64,
    /// How often the topic accepted one that it had, under the same id.
    pub duplicates: u64,
    /// Events that were sent or accepted, and that the topic does not have.
    pub lost: u64,
    /// Bad messages whose bytes the dead queue does not have.
    pub lost_bad: u64,
    /// Events of the topic that nobody has sent: a duplicate under another id would be one.
    pub unknown: u64,
    /// Letters of the dead queue that are of no bad message.
    pub dead_unknown: u64,
}

impl Verdict {
    /// Whether nothing is lost, and nothing is there that should not be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        (self.lost, self.lost_bad, self.unknown, self.dead_unknown) == (0, 0, 0, 0)
    }
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    /// No stub.
    #[error(transparent)]
    Stub(#[from] StartError),
    /// The publisher cannot be run.
    #[error(transparent)]
    Victim(#[from] VictimError),
    /// The callers have no client.
    #[error("the callers have no HTTP client")]
    Client(#[from] reqwest::Error),
    /// A caller panicked.
    #[error("a caller ended by itself")]
    Caller(#[from] tokio::task::JoinError),
}

/// Kills a publisher as often as asked for, lets a last one finish, and compares.
/// `note` is told how often so far.
///
/// # Errors
///
/// Where there is no verdict; losses are one.
pub async fn run(settings: &Settings, note: impl Fn(u64)) -> Result<Verdict, ChaosError> {
    let stub = Stub::start(stub::Settings {
        faults: Faults::default(),
        seed: settings.seed,
        record: true,
        hidden_max: Some(HIDDEN_MAX),
    })
    .await?;
    let mut random = fastrand::Rng::with_seed(settings.seed);
    let mut victim = Victim::new(&settings.publisher, &settings.folder, stub.url())?;
    let ledger = Ledger::default();
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        callers.spawn(Caller::new(number, victim.address(), ledger.clone())?.run());
    }
    let (mut verdict, mut sent) = (Verdict::default(), Sent::default());
    while verdict.kills < settings.kills {
        sent.load(&stub);
        stub.set_faults(faults(&mut random));
        victim.start()?;
        let life = match random.u64(..SHORT_LIFE_ONE_IN) {
            0 => START_MAX,
            _ => {
                victim.has_begun(BEGIN_WITHIN).await?;
                LIFE_MAX
            }
        };
        sleep(life.mul_f64(random.f64())).await;
        match victim.kill().await? {
            true => verdict.kills += 1,
            false => verdict.failed_starts += 1,
        }
        note(verdict.kills);
    }
    stub.set_faults(Faults::default());
    victim.start()?;
    ledger.close();
    while let Some(ended) = callers.join_next().await {
        ended?;
    }
    drain(&stub, &mut victim, || {
        compare(&stub, &ledger, &sent, &mut verdict);
        verdict.is_sound()
    })
    .await?;
    victim.stop().await?;
    compare(&stub, &ledger, &sent, &mut verdict);
    Ok(verdict)
}

/// Waits until the queue is empty, nothing more is published and nothing is missing, or
/// until nothing happens any more.
async fn drain(
    stub: &Stub,
    victim: &mut Victim,
    mut is_sound: impl FnMut() -> bool,
) -> Result<(), ChaosError> {
    let (mut before, mut since) = (stub.counts(), Instant::now());
    loop {
        sleep(POLL).await;
        victim.check()?;
        let counts = stub.counts();
        let is_empty = counts.queues.get(QUEUE).is_none_or(|it| it.ready + it.in_flight == 0);
        let done = |counts: &stub::Counts| (counts.published, counts.deleted, counts.received);
        if done(&counts) != done(&before) {
            (before, since) = (counts, Instant::now());
        }
        // On a busy machine a quiet time alone does not say that the spool is empty.
        let quiet_for = since.elapsed();
        let is_done = is_empty && quiet_for > QUIET_AFTER && is_sound();
        if is_done || quiet_for > STALLED_AFTER {
            return Ok(());
        }
    }
}

/// What is sent to the queue.
#[derive(Debug, Default)]
struct Sent {
    ids: BTreeSet<String>,
    bad: BTreeSet<Vec<u8>>,
    objects: Objects,
}

impl Sent {
    /// More for the publisher to do, good and bad.
    fn load(&mut self, stub: &Stub) {
        for _ in 0..MESSAGES_A_LIFE / GOOD_FOR_ONE_BAD {
            let queue = QUEUE.to_owned();
            stub.fill(&Fill { count: GOOD_FOR_ONE_BAD, body_kind: Default::default(), queue });
            let first = self.ids.len() as u64;
            let numbers = first..first + GOOD_FOR_ONE_BAD;
            self.ids.extend(numbers.map(|number| self.objects.event(number).id));
            let body = format!("this is no event: {}", self.bad.len());
            stub.send(QUEUE, body.clone());
            self.bad.insert(body.into_bytes());
        }
    }
}

fn faults(random: &mut fastrand::Rng) -> Faults {
    if random.u64(..OUTAGE_ONE_IN) == 0 {
        return Faults { server_error: 0.9, ..Faults::default() };
    }
    let mut ratio = |max: f64| max * random.f64();
    Faults {
        throttle: ratio(0.1),
        server_error: ratio(0.1),
        publish_entry_failure: ratio(0.1),
        delete_entry_failure: ratio(0.1),
        lost_response: ratio(0.1),
        latency_ms: random.u64(..5),
    }
}

/// What is there against what must be.
fn compare(stub: &Stub, ledger: &Ledger, sent: &Sent, verdict: &mut Verdict) {
    let published = stub.events();
    let (offered, accepted) = ledger.ids();
    let dead: BTreeSet<Vec<u8>> = stub
        .bodies(DEAD_QUEUE)
        .iter()
        .map(|body| {
            let letter = serde_json::from_str(body).ok();
            let original = letter.and_then(|letter: DeadLetter| letter.body());
            original.unwrap_or_else(|| body.as_bytes().to_vec())
        })
        .collect();
    let count = |number: usize| number as u64;
    verdict.messages = count(sent.ids.len());
    verdict.bad_messages = count(sent.bad.len());
    verdict.accepted = count(accepted.len());
    verdict.published = count(published.len());
    verdict.duplicates = published.values().map(|times| times - 1).sum();
    let is_missing = |id: &&String| !published.contains_key(*id);
    verdict.lost = count(sent.ids.iter().chain(&accepted).filter(is_missing).count());
    verdict.lost_bad = count(sent.bad.difference(&dead).count());
    let is_strange = |id: &&String| !sent.ids.contains(*id) && !offered.contains(*id);
    verdict.unknown = count(published.keys().filter(is_strange).count());
    verdict.dead_unknown = count(dead.difference(&sent.bad).count());
}
