//! What many seeds came to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use serde_json::json;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::faults::{Fault, FaultCounts};
use crate::run::{Outcome, simulate};

/// With fewer seeds some fault may not happen.
const SEEDS_FOR_EVERY_FAULT: u64 = 300;

/// So many of the seeds that fail are told of.
const FAILURES_MAX: usize = 10;

#[derive(Default)]
pub(crate) struct Report {
    seeds: u64,
    wall_s: f64,
    virtual_ms: u64,
    events: u64,
    duplicates: u64,
    lost: u64,
    /// How often one message was received at most, by the kind of the topic.
    receives: u32,
    receives_fifo: u32,
    faults: FaultCounts,
    pub(crate) missing: Vec<String>,
    /// Seeds with what is wrong with them.
    pub(crate) failures: BTreeMap<u64, String>,
}

impl Report {
    /// Runs seeds on every core.
    pub(crate) fn of(seeds: Range<u64>) -> Self {
        let begin = Instant::now();
        let next = AtomicU64::new(seeds.start);
        let report = Mutex::new(Self::default());
        let work = || {
            let mut own = Self::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end {
                    break;
                }
                own.merge(Self::of_one(seed, simulate(seed)));
            }
            report.lock().unwrap_or_else(PoisonError::into_inner).merge(own);
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(work);
            }
        });
        let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.wall_s = begin.elapsed().as_secs_f64();
        if report.seeds >= SEEDS_FOR_EVERY_FAULT {
            let all = Fault::all().into_iter();
            let missing = all.filter(|fault| !report.faults.contains_key(fault));
            report.missing = missing.map(|fault| fault.to_string()).collect();
        }
        report
    }

    fn of_one(seed: u64, outcome: Outcome) -> Self {
        let Outcome { problem, faults, events, duplicates, lost, virtual_ms, .. } = outcome;
        let (receives, receives_fifo) = match outcome.is_fifo {
            true => (0, outcome.receives),
            false => (outcome.receives, 0),
        };
        let failures = problem.map(|problem| (seed, problem)).into_iter().collect();
        Self {
            seeds: 1,
            virtual_ms,
            events,
            duplicates,
            lost,
            receives,
            receives_fifo,
            faults,
            failures,
            ..Self::default()
        }
    }

    fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.virtual_ms += other.virtual_ms;
        self.events += other.events;
        self.duplicates += other.duplicates;
        self.lost += other.lost;
        self.receives = self.receives.max(other.receives);
        self.receives_fifo = self.receives_fifo.max(other.receives_fifo);
        for (fault, times) in other.faults {
            *self.faults.entry(fault).or_default() += times;
        }
        self.failures.extend(other.failures);
    }

    /// The seeds that fail, and how to see why.
    pub(crate) fn failures_told(&self) -> String {
        let mut text = format!("{} of {} seeds break a promise\n", self.failures.len(), self.seeds);
        for (seed, problem) in self.failures.iter().take(FAILURES_MAX) {
            // Writing to a text does not fail.
            let _ = writeln!(text, "seed {seed}: {problem}");
            let _ = writeln!(text, "  replay: cargo xtask chaos simulation --seed {seed}");
        }
        text
    }

    /// Writes it to where the settings say, if they do.
    pub(crate) fn write(&self) {
        let Some(path) = std::env::var_os("BELLWIRE_SIMULATION_REPORT") else { return };
        let faults: BTreeMap<String, u64> =
            self.faults.iter().map(|(fault, times)| (fault.to_string(), *times)).collect();
        let failure =
            |(seed, problem): (&u64, &String)| json!({ "seed": seed, "problem": problem });
        let failures: Vec<_> = self.failures.iter().map(failure).collect();
        let report = json!({
            "seeds": self.seeds,
            "wall_s": self.wall_s,
            "virtual_s": self.virtual_ms as f64 / 1_000.0,
            "events": self.events,
            "duplicates": self.duplicates,
            "lost": self.lost,
            "receives": self.receives,
            "receives_fifo": self.receives_fifo,
            "faults": faults,
            "missing": self.missing,
            "failures": failures,
        });
        std::fs::write(path, report.to_string()).expect("the report is written");
    }
}

/// A number that the environment sets.
pub(crate) fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(format!("BELLWIRE_SIMULATION_{name}")).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("BELLWIRE_SIMULATION_{name} is a number")))
}

/// Logs everything, with the simulated time.
pub(crate) fn log_to_output() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_timer(SimulatedTime(Mutex::default()))
        .with_ansi(false)
        .with_test_writer();
    subscriber.init();
}

/// Time since the first line that was logged on a runtime.
struct SimulatedTime(Mutex<Option<tokio::time::Instant>>);

impl FormatTime for SimulatedTime {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        if tokio::runtime::Handle::try_current().is_err() {
            return w.write_str("   begin");
        }
        let now = tokio::time::Instant::now();
        let mut begin = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = begin.get_or_insert(now);
        write!(w, "{:9.3}", now.duration_since(*begin).as_secs_f64())
    }
}
