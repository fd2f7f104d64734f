//! One seed, from its begin to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use fastrand::Rng;
use futures::future::join_all;
use serde_json::Value;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::faults::{Fault, FaultCounts};
use crate::load::HttpRequest;
use crate::plan::{Plan, Trouble};
use crate::process::{Front, Publisher};
use crate::world::{State, World};

/// Once nothing goes wrong any more, all must be done within this. A message that was
/// left is hidden for a quarter of an hour at most.
const CALM_MS_MAX: u64 = 30 * 60 * 1_000;

/// The same for a FIFO topic with several publishers: each keeps the places of messages
/// that another one has meanwhile, for a quarter of an hour each, and so their group.
const CALM_FIFO_MS_MAX: u64 = 8 * CALM_MS_MAX;

const LONG_OUTAGE_MS: u64 = 30 * 60 * 1_000;

const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A client comes back after this at first, and after twice as long each time.
const COME_BACK: Duration = Duration::from_secs(1);
const COME_BACK_MAX: Duration = Duration::from_secs(60);

/// What came of a seed.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) problem: Option<String>,
    pub(crate) faults: FaultCounts,
    pub(crate) events: u64,
    pub(crate) duplicates: u64,
    pub(crate) lost: u64,
    /// How often one message was received at most.
    pub(crate) receives: u32,
    pub(crate) is_fifo: bool,
    pub(crate) virtual_ms: u64,
    /// The same for every run of the seed.
    pub(crate) digest: u64,
}

/// Runs a seed. Everything in it follows from the seed: one thread, a clock that moves
/// only where everybody waits, and no chance but the seed's.
pub(crate) fn simulate(seed: u64) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| simulate_unguarded(seed))).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
        Outcome {
            problem: Some(format!("panicked: {words}")),
            faults: FaultCounts::new(),
            events: 0,
            duplicates: 0,
            lost: 0,
            receives: 0,
            is_fifo: false,
            virtual_ms: 0,
            digest: 0,
        }
    })
}

fn simulate_unguarded(seed: u64) -> Outcome {
    let mut random = Rng::with_seed(seed);
    // The publisher's own jitter.
    fastrand::seed(random.u64(..));
    let plan = Plan::draw(&mut random);
    tracing::info!(target: "world", "{plan:#?}");
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without threads").block_on(async move {
        let world = Arc::new(World::new(plan, random));
        play(&world).await;
        let virtual_ms = world.now();
        let digest = world.digest();
        let mut state = world.state();
        state.audit.end();
        Outcome {
            problem: state.audit.violation().map(str::to_owned),
            faults: std::mem::take(&mut state.faults),
            events: state.audit.events(),
            duplicates: state.audit.duplicates,
            lost: state.audit.lost,
            receives: state.queue.receives_most,
            is_fifo: world.plan.forms.is_fifo,
            virtual_ms,
            digest,
        }
    })
}

async fn play(world: &Arc<World>) {
    let end = CancellationToken::new();
    let publishers: Vec<Arc<Publisher>> = (0..world.plan.publishers.len())
        .map(|index| Arc::new(Publisher::new(world.clone(), index)))
        .collect();
    let mut load = JoinSet::new();
    load.spawn(send_messages(world.clone()));
    let mut lives = Vec::new();
    for (publisher, plan) in publishers.iter().zip(&world.plan.publishers) {
        for requests in plan.clients.clone() {
            load.spawn(client(world.clone(), publisher.clone(), requests));
        }
        let (publisher, end) = (publisher.clone(), end.clone());
        lives.push(tokio::spawn(async move { publisher.live(end).await }));
    }
    let calm_ms_max = match world.plan.forms.is_fifo && publishers.len() > 1 {
        true => CALM_FIFO_MS_MAX,
        false => CALM_MS_MAX,
    };
    loop {
        sleep(LOOK_EVERY).await;
        while load.try_join_next().is_some() {}
        if world.state().audit.violation().is_some() {
            return;
        }
        let is_done = load.is_empty() && world.queue_len() == 0;
        if is_done && world.is_calm() && publishers.iter().all(|it| it.spooled() == Some(0)) {
            break;
        }
        if world.now() > world.plan.calm_at + calm_ms_max {
            let spooled: Vec<_> = publishers.iter().map(|it| it.spooled()).collect();
            let (messages, loads) = (world.queue_len(), load.len());
            return world.state().audit.violated(format!(
                "stuck: {messages} messages, {spooled:?} events in spools and {loads} clients remain"
            ));
        }
    }
    end.cancel();
    for ended in join_all(lives).await {
        if let Err(panicked) = ended {
            world.state().audit.violated(panicked.to_string());
        }
    }
    let is_long = |trouble| matches!(trouble, Trouble::Topic { .. });
    let mut windows = world.plan.windows.iter();
    if windows.any(|it| is_long(it.trouble) && it.during.end - it.during.start > LONG_OUTAGE_MS) {
        world.fault(Fault::LongOutage);
    }
}

async fn send_messages(world: Arc<World>) {
    for (at, message) in &world.plan.messages {
        world.sleep_until(*at).await;
        world.send(message);
    }
}

/// What a request came to.
enum Answer {
    Accepted,
    /// There is no room, or it cannot be accepted now: it is worth sending again.
    Later,
    /// It never will be.
    TooLarge,
}

/// Sends its requests one after the other, each until it is accepted or given up.
async fn client(world: Arc<World>, publisher: Arc<Publisher>, requests: Vec<HttpRequest>) {
    for request in requests {
        world.sleep_until(request.at).await;
        let is_fit =
            world.plan.forms.has_claims || !request.events.iter().any(|event| event.is_large);
        for event in &request.events {
            world.state().audit.event_sent(event, is_fit);
        }
        let to_http = request.to_http();
        let mut pause = COME_BACK;
        for attempt in 1..=request.attempts_max {
            if attempt > 1 {
                sleep(pause).await;
                pause = (pause * 2).min(COME_BACK_MAX);
                world.fault(Fault::SentAgain);
            }
            let Some(front) = publisher.front().clone() else { continue };
            match post(&world, front, to_http(), &request).await {
                Answer::Later => {}
                Answer::Accepted => {
                    world.acknowledged(&request);
                    break;
                }
                Answer::TooLarge => {
                    world.fault(Fault::TooLarge);
                    if is_fit {
                        let problem = format!("refused as too large: {:?}", request.events);
                        world.state().audit.violated(problem);
                    }
                    break;
                }
            }
        }
    }
}

impl World {
    /// A client was told that its events are accepted: whatever they point to is there.
    fn acknowledged(&self, request: &HttpRequest) {
        let mut state = self.state();
        for event in &request.events {
            let State { audit, store, .. } = &*state;
            let payload = audit.payload_of(&event.id);
            let problem = payload.and_then(|it| store.problem_with(&event.event(), it));
            if let Some(problem) = problem {
                state.audit.violated(format!("`{}` was accepted, but {problem}", event.id));
            }
            state.audit.event_acknowledged(event);
        }
    }
}

async fn post(world: &World, front: Front, http: Request<Body>, request: &HttpRequest) -> Answer {
    let answer = front.router.oneshot(http).await.unwrap_or_else(|never| match never {});
    let status = answer.status();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap_or_default();
    let document: Value = serde_json::from_slice(&body).unwrap_or_default();
    let kind = document["type"].as_str().unwrap_or_default();
    let ids: Vec<&str> = request.events.iter().map(|event| event.id.as_str()).collect();
    world.note(format_args!("{ids:?} sent: {status} {kind}"));
    match (status, kind) {
        (StatusCode::ACCEPTED, _) => Answer::Accepted,
        (StatusCode::SERVICE_UNAVAILABLE, kind) => {
            if kind == "urn:bellwire:problem:spool-full" {
                world.fault(Fault::SpoolFull);
            }
            Answer::Later
        }
        (StatusCode::PAYLOAD_TOO_LARGE, _) => Answer::TooLarge,
        (_, "urn:bellwire:problem:invalid-batch") => Answer::TooLarge,
        _ => {
            world.state().audit.violated(format!("{ids:?} sent: {status} {document}"));
            Answer::Later
        }
    }
}
