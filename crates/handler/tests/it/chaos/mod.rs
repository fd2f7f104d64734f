//! Many events, each delivered three times at once, while environments are killed
//! before and after each step, the ledger throttles and answers are lost: how many runs
//! does that make?
//!
//! ```text
//! events, three deliveries each ─► handler ─► wire (faults) ─► ledger, topic, Step Functions: local cloud
//!     ▲                               │                        SageMaker, Batch, Lambda: stub
//!     └── not acknowledged ◄──────────┘
//! ```
//!
//! Time goes in rounds: all deliveries that wait are made in one, side by side, each
//! by a clock a little off. When a round is over nobody works any more, as after
//! Lambda's timeout, and what was not acknowledged comes back in the next one, a
//! visibility timeout later by the handler's clock.
//!
//! `cargo xtask chaos handler` runs it with 1,000 events for each kind of target.

mod fate;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::config::retry::RetryConfig;
use bellwire_handler::{Clients, Handler, Moment};
use bellwire_ledger::{StartRow, State};
use bellwire_schema::Envelope;
use fastrand::Rng;
use futures::stream::{self, StreamExt as _};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use crate::stub::Stub;
use crate::world::{self, World};
use fate::{Fate, Step};
use wire::{ATTEMPT, Attempt, Seen, wire};

const WORKFLOW: &str = r#"
workflow = "wine"
[handler]
delivery = "queued"
timeout_s = 60
[[event]]
type = "collect.wanted"
[[event]]
type = "fit.wanted"
[[event]]
type = "score.wanted"
[[event]]
type = "notify.wanted"
[[trigger]]
name = "collect"
stage = "collection"
on = "collect.wanted"
start = { step-functions = "collect.asl.json" }
guards = { max_starts_per_day = 1000000 }
[[trigger]]
name = "fit"
stage = "training"
on = "fit.wanted"
start = { sagemaker-pipeline = "fit" }
input = { Key = "$.data.key" }
guards = { max_starts_per_day = 1000000 }
[[trigger]]
name = "score"
stage = "prediction"
on = "score.wanted"
start = { batch = { job_queue = "gpu", job_definition = "score:3" } }
guards = { max_starts_per_day = 1000000 }
[[trigger]]
name = "notify"
stage = "evaluation"
on = "notify.wanted"
start = { lambda = "notify" }
guards = { max_starts_per_day = 1000000 }
"#;

/// Each trigger by what it starts.
const KINDS: [(&str, &str); 4] = [
    ("step-functions", "collect"),
    ("sagemaker-pipeline", "fit"),
    ("batch", "score"),
    ("lambda", "notify"),
];

const COPIES: u64 = 3;

/// Invocations side by side.
const CONCURRENCY: usize = 48;

/// How far the clocks of two environments are apart, in seconds: less than the ledger
/// takes them to be.
const SKEW_S: i64 = 25;

/// From one round to the next: shorter than a lease, and longer.
const ROUND_S: std::ops::Range<i64> = 40..180;

/// The work queue gives a message up after a hundred receives.
const ROUNDS_MAX: u64 = 100;

/// As part of the tests; below so many not every fault has to happen.
const EVENTS_DEFAULT: u64 = 15;
const EVENTS_FOR_EVERY_FAULT: u64 = 200;

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    /// For each kind of target.
    events: u64,
    copies: u64,
    wall_s: f64,
    /// By the handler's clock.
    passed_s: i64,
    rounds: u64,
    invocations: u64,
    kinds: BTreeMap<&'static str, Kind>,
    /// How often each thing went wrong.
    faults: BTreeMap<String, u64>,
    /// What never went wrong although there were events enough.
    missing: Vec<String>,
}

/// What came of the events of one kind of target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Kind {
    /// What the target has accepted.
    runs: u64,
    /// Events without a run that the ledger knows.
    lost: u64,
    /// Starts of which the topic was not told.
    untold: u64,
    /// Invocations that ended between a start that was accepted and its record.
    windows: u64,
}

/// A message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Delivery {
    kind: &'static str,
    trigger: &'static str,
    event: u64,
    copy: u64,
}

/// What came of one invocation.
struct Outcome {
    delivery: Delivery,
    comes_back: bool,
    fate: Fate,
    seen: Seen,
}

fn event_of(trigger: &str, number: u64) -> Envelope {
    let id = format!("{trigger}-{number}");
    let mut event = Envelope::new(&id, "/chaos", format!("{trigger}.wanted").parse().unwrap());
    event.dataset = Some("wine".to_owned());
    event.with_payload(&json!({ "key": format!("raw/{number}.csv") }))
}

impl Delivery {
    /// Of a target without a lease every other event comes straight from SNS.
    fn payload(&self) -> Value {
        let event = event_of(self.trigger, self.event);
        match ["batch", "lambda"].contains(&self.kind) || self.event.is_multiple_of(2) {
            true => world::batch(&[("q-1", "wine", event.to_json())]),
            false => world::delivery(&event),
        }
    }

    /// The same for the same seed, whatever the machine's pace.
    fn random(&self, seed: u64, round: u64) -> Rng {
        let kind = KINDS.iter().position(|(kind, _)| *kind == self.kind).unwrap_or_default();
        let parts = [kind as u64, self.event, self.copy, round];
        Rng::with_seed(parts.iter().fold(seed, |seed, part| Rng::with_seed(seed).u64(..) ^ part))
    }

    async fn make(self, handler: Arc<Handler>, seed: u64, round: u64, at: Timestamp) -> Outcome {
        let mut random = self.random(seed, round);
        let fate = Fate::draw(&mut random);
        let now = at + SignedDuration::from_secs(random.i64(0..=SKEW_S));
        let moment = Moment { now, deadline: now + SignedDuration::from_secs(60) };
        let (attempt, payload) = (Arc::new(Attempt::new(fate)), self.payload());
        let handled = ATTEMPT.scope(Arc::clone(&attempt), handler.handle(&payload, moment));
        // Whichever comes first: a killed one's future is dropped where it stands.
        let answer = tokio::select! {
            biased;
            () = attempt.death.notified() => None,
            answer = handled => Some(answer),
        };
        let is_done = match answer {
            None | Some(Err(_)) => false,
            Some(Ok(batch)) => batch.is_none_or(|batch| batch.batch_item_failures.is_empty()),
        };
        let is_unheard = [Fate::CrashBefore(Step::Respond), Fate::CrashAfter(Step::Respond)]
            .into_iter()
            .any(|unheard| attempt.meets(unheard));
        Outcome { delivery: self, comes_back: !is_done || is_unheard, fate, seen: attempt.seen() }
    }
}

/// The local cloud and the stub, with faults on the way to them.
async fn world() -> (World, Stub) {
    let stub = Stub::start().await;
    let config = stub.config().await;
    let (wire, retries) = (
        wire(),
        // As the SDK repeats by itself, in a part of the time.
        RetryConfig::standard().with_initial_backoff(Duration::from_millis(20)),
    );
    let world = World::of(WORKFLOW, &["collect"], |clients| {
        clients.sagemaker = aws_sdk_sagemaker::Client::new(&config);
        clients.batch = aws_sdk_batch::Client::new(&config);
        clients.lambda = aws_sdk_lambda::Client::new(&config);
        macro_rules! through_the_wire {
            ($($service:ident: $sdk:ident),*) => {$(
                let config = clients.$service.config().to_builder();
                let config = config.http_client(wire.clone()).retry_config(retries.clone());
                clients.$service = $sdk::Client::from_conf(config.build());
            )*};
        }
        through_the_wire!(
            dynamodb: aws_sdk_dynamodb, sns: aws_sdk_sns, sfn: aws_sdk_sfn,
            sagemaker: aws_sdk_sagemaker, batch: aws_sdk_batch, lambda: aws_sdk_lambda
        );
    })
    .await;
    (world, stub)
}

/// Delivers until everything is acknowledged.
async fn deliver_all(world: &World, events: u64, seed: u64, begin: Timestamp) -> Report {
    let started = Instant::now();
    let mut report = Report {
        events,
        copies: COPIES,
        wall_s: 0.0,
        passed_s: 0,
        rounds: 0,
        invocations: 0,
        kinds: KINDS.iter().map(|(kind, _)| (*kind, Kind::default())).collect(),
        faults: BTreeMap::new(),
        missing: Vec::new(),
    };
    // The copies of an event are neighbours, so that they run side by side.
    let mut waiting: Vec<Delivery> = (0..events)
        .flat_map(|event| {
            KINDS.into_iter().flat_map(move |(kind, trigger)| {
                (0..COPIES).map(move |copy| Delivery { kind, trigger, event, copy })
            })
        })
        .collect();
    let mut told = BTreeSet::new();
    while !waiting.is_empty() {
        let round = report.rounds;
        assert!(round < ROUNDS_MAX, "{} deliveries are never done with", waiting.len());
        let at = begin + SignedDuration::from_secs(report.passed_s);
        let made = waiting.iter().map(|delivery| {
            tokio::spawn(delivery.make(Arc::clone(&world.handler), seed, round, at))
        });
        let outcomes: Vec<_> = stream::iter(made).buffer_unordered(CONCURRENCY).collect().await;
        waiting.clear();
        for outcome in outcomes {
            let Outcome { delivery, comes_back, fate, seen } = outcome.unwrap();
            if comes_back {
                waiting.push(delivery);
            }
            if let Some(name) = fate.name().filter(|_| seen.is_struck) {
                *report.faults.entry(name).or_default() += 1;
            }
            let is_window = seen.starts > 0 && !seen.is_recorded;
            report.kinds.get_mut(delivery.kind).unwrap().windows += u64::from(is_window);
            told.extend(seen.announced);
            report.invocations += 1;
        }
        waiting.sort_by_key(|delivery| (delivery.event, delivery.kind, delivery.copy));
        report.rounds += 1;
        report.passed_s += Rng::with_seed(seed ^ report.rounds).i64(ROUND_S);
    }
    report.wall_s = started.elapsed().as_secs_f64();
    let rows = world.ledger.starts_of_day(begin).await.unwrap();
    count(&mut report, &rows, &told);
    report
}

/// What the ledger and the topic know, against what was sent.
fn count(report: &mut Report, rows: &[StartRow], told: &BTreeSet<String>) {
    let is_finished =
        |row: &&StartRow| matches!(row.state, State::Started | State::Accepted | State::Completed);
    for (kind, trigger) in KINDS {
        let rows = || rows.iter().filter(|row| row.start.trigger == trigger).filter(is_finished);
        let finished: BTreeSet<&str> = rows().map(|row| row.start.cause.id.as_str()).collect();
        let untold = rows().filter(|row| !told.contains(&row.start.start_key.started_event_id()));
        let of_kind = report.kinds.get_mut(kind).unwrap();
        of_kind.lost = report.events - finished.len() as u64;
        of_kind.untold = untold.count() as u64;
    }
    if report.events >= EVENTS_FOR_EVERY_FAULT {
        let never = Fate::names().into_iter().filter(|name| !report.faults.contains_key(name));
        report.missing = never.collect();
    }
}

/// What each target itself says that it has.
async fn runs_of(clients: &Clients, stub: &Stub) -> BTreeMap<&'static str, usize> {
    let list = clients.sfn.list_executions().state_machine_arn(world::machine_arn("collect"));
    let executions = list.into_paginator().items().send().collect::<Vec<_>>().await;
    BTreeMap::from([
        ("step-functions", executions.into_iter().map(Result::unwrap).count()),
        ("sagemaker-pipeline", stub.executions().len()),
        ("batch", stub.jobs().len()),
        ("lambda", stub.invocations().len()),
    ])
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Of a target with a name or token, one event is one run. A job that Batch shows is
/// found, and is one as well. A function is invoked again for each invocation of the
/// handler that ended between Lambda's word and the record, and never otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_one_run_whatever_dies_on_the_way() {
    let events = setting("BELLWIRE_CHAOS_EVENTS").unwrap_or(EVENTS_DEFAULT);
    let seed = setting("BELLWIRE_CHAOS_SEED").unwrap_or(0);
    let (world, stub) = world().await;
    // All of it is within one day of the ledger's.
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let morning = today.to_datetime(Time::constant(1, 0, 0, 0)).to_zoned(TimeZone::UTC).unwrap();
    let mut report = deliver_all(&world, events, seed, morning.timestamp()).await;
    for (kind, runs) in runs_of(&world.clients, &stub).await {
        report.kinds.get_mut(kind).unwrap().runs = runs as u64;
    }
    world.assert_no_dead_letter().await;
    if let Some(path) = std::env::var_os("BELLWIRE_CHAOS_REPORT").map(PathBuf::from) {
        std::fs::write(path, serde_json::to_string(&report).unwrap()).unwrap();
        return;
    }
    let windows = report.kinds["lambda"].windows;
    for (kind, found) in &report.kinds {
        let runs = if *kind == "lambda" { events + windows } else { events };
        let expected = Kind { runs, windows: found.windows, ..Kind::default() };
        assert_eq!(found, &expected, "{kind}: {report:?}");
    }
}
