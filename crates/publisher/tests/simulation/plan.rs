//! What a seed draws: who there is, what is to be published, and what goes wrong when.
//! Plain data; times are in milliseconds from the begin.

use std::ops::Range;

use fastrand::Rng;

use crate::faults::Call;
use crate::load::{self, Forms, HttpRequest, QueueMessage};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

/// Until when what is planned begins.
const BUSY_MS: u64 = 40 * SECOND;

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) publishers: Vec<PublisherPlan>,
    pub(crate) forms: Forms,
    /// What others put into the ingest queue, in order of time.
    pub(crate) messages: Vec<(u64, QueueMessage)>,
    /// How often each call fails, in the order of [`Call::ALL`].
    pub(crate) rates: [Rates; Call::ALL.len()],
    pub(crate) windows: Vec<Window>,
    /// Entries that fail alone, of each thousand.
    pub(crate) entries: EntryRates,
    /// Whether SNS refuses a whole batch for one event in it.
    pub(crate) refuses_batches: bool,
    /// Calls to the topic in a second, of all publishers together.
    pub(crate) topic_calls_per_s: Option<u64>,
    /// From when nothing goes wrong any more.
    pub(crate) calm_at: u64,
}

/// One publisher: a process that is started again after each end.
#[derive(Debug)]
pub(crate) struct PublisherPlan {
    pub(crate) pipelines: usize,
    pub(crate) calls_max: usize,
    pub(crate) drain_s: u64,
    pub(crate) spool_events_max: u64,
    pub(crate) stops: Vec<Stop>,
    pub(crate) clients: Vec<Vec<HttpRequest>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    pub(crate) at: u64,
    pub(crate) how: How,
    pub(crate) down_ms: u64,
}

/// What happens to a process, or its disk.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    /// SIGTERM.
    Terminate,
    /// SIGKILL: what was written is there.
    Kill,
    /// The disk loses power at one of its next operations, the process a little later.
    LosePower { operations: u64, later_ms: u64 },
    /// One of the disk's next operations fails; the process goes on.
    FailDisk { operations: u64 },
}

/// How often a call goes wrong, in thousandths.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) failed: u32,
    pub(crate) unanswered: u32,
    pub(crate) answer_lost: u32,
}

/// How often an entry of a call goes wrong, in thousandths.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct EntryRates {
    pub(crate) publish_failed: u32,
    pub(crate) publish_denied: u32,
    pub(crate) delete_failed: u32,
    pub(crate) hide_failed: u32,
    pub(crate) delivered_twice: u32,
    pub(crate) resurrected: u32,
}

/// A time in which something does not work at all.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pub(crate) during: Range<u64>,
    pub(crate) trouble: Trouble,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// SNS answers 503, or nothing.
    Topic {
        answers: bool,
    },
    /// The role may not publish.
    Denied,
    Queue,
    DeadQueue,
    /// The claims' store.
    Store,
    /// One publisher's credentials have expired, for whatever it calls.
    Credentials {
        publisher: usize,
    },
}

impl Plan {
    pub(crate) fn draw(random: &mut Rng) -> Self {
        let count = *pick(random, &[1, 1, 2, 3]);
        let forms = forms(random);
        let publishers: Vec<_> = (0..count).map(|index| publisher(index, forms, random)).collect();
        let messages = load::messages(random, forms, BUSY_MS);
        let windows = windows(random, count);
        let stops = publishers.iter().flat_map(|publisher| &publisher.stops);
        let ends = windows.iter().map(|window| window.during.end);
        // The last power may go a little after its time, and a drain takes its own.
        let calm_at = ends.chain(stops.map(|stop| stop.at + stop.down_ms)).max().unwrap_or(0);
        Self {
            publishers,
            forms,
            messages,
            rates: std::array::from_fn(|_| Rates {
                failed: rate(random),
                unanswered: rate(random) / 4,
                answer_lost: rate(random) / 2,
            }),
            windows,
            entries: EntryRates {
                publish_failed: rate(random),
                publish_denied: rate(random) / 4,
                delete_failed: rate(random),
                hide_failed: rate(random) / 2,
                delivered_twice: rate(random) / 4,
                resurrected: rate(random) / 4,
            },
            refuses_batches: random.bool(),
            topic_calls_per_s: random.bool().then(|| random.u64(2..20)),
            calm_at: calm_at.max(BUSY_MS),
        }
    }

    pub(crate) fn rates_of(&self, call: Call) -> Rates {
        Call::ALL
            .iter()
            .zip(self.rates)
            .find(|(of, _)| **of == call)
            .map(|(_, it)| it)
            .unwrap_or_default()
    }
}

pub(crate) fn pick<'a, T>(random: &mut Rng, from: &'a [T]) -> &'a T {
    &from[random.usize(0..from.len())]
}

/// Half of all seeds are spared from each kind of fault, so that the others show by
/// themselves.
fn rate(random: &mut Rng) -> u32 {
    *pick(random, &[0, 0, 0, 20, 100, 250])
}

fn forms(random: &mut Rng) -> Forms {
    Forms {
        is_fifo: random.u8(0..3) == 0,
        has_claims: random.u8(0..3) != 0,
        large: random.u8(0..4) == 0,
        runs: random.bool(),
        ticks: random.bool(),
    }
}

fn publisher(index: usize, forms: Forms, random: &mut Rng) -> PublisherPlan {
    let mut stops: Vec<Stop> = (0..*pick(random, &[0, 1, 1, 2, 3])).map(|_| stop(random)).collect();
    stops.sort_by_key(|stop| stop.at);
    let clients = random.usize(0..=2);
    PublisherPlan {
        pipelines: random.usize(1..=4),
        calls_max: random.usize(1..=8),
        drain_s: *pick(random, &[0, 2, 10, 25]),
        spool_events_max: *pick(random, &[6, 12, 1_000]),
        stops,
        clients: (0..clients)
            .map(|client| load::requests(&format!("p{index}c{client}"), random, forms, BUSY_MS))
            .collect(),
    }
}

fn stop(random: &mut Rng) -> Stop {
    let how = match random.u8(0..5) {
        0 => How::Terminate,
        1 => How::Kill,
        2 | 3 => How::LosePower { operations: random.u64(0..40), later_ms: random.u64(0..2_000) },
        _ => How::FailDisk { operations: random.u64(0..40) },
    };
    Stop { at: random.u64(0..BUSY_MS), how, down_ms: random.u64(0..10 * SECOND) }
}

fn windows(random: &mut Rng, publishers: usize) -> Vec<Window> {
    let mut windows = Vec::new();
    let mut add = |trouble: Trouble, length: u64, random: &mut Rng| {
        let from = random.u64(0..BUSY_MS);
        windows.push(Window { during: from..from + length, trouble });
    };
    let topic = Trouble::Topic { answers: random.bool() };
    match random.u8(0..20) {
        0 => add(topic, random.u64(35 * MINUTE..3 * 60 * MINUTE), random),
        1..8 => add(topic, random.u64(2 * SECOND..3 * MINUTE), random),
        8..10 => add(Trouble::Denied, random.u64(2 * SECOND..10 * MINUTE), random),
        _ => {}
    }
    let others = [Trouble::Queue, Trouble::DeadQueue, Trouble::Store];
    for trouble in others {
        if random.u8(0..4) == 0 {
            add(trouble, random.u64(SECOND..4 * MINUTE), random);
        }
    }
    if random.u8(0..4) == 0 {
        let publisher = random.usize(0..publishers);
        add(Trouble::Credentials { publisher }, random.u64(SECOND..4 * MINUTE), random);
    }
    windows
}
