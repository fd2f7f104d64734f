//! The world around the publishers: one clock, one chance, one queue, one topic, one
//! dead queue, and what goes wrong between them.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwire_publisher::call::{CallError, Trouble as Meaning};
use fastrand::Rng;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::audit::Audit;
use crate::claims::Store;
use crate::faults::{Call, Fault, FaultCounts};
use crate::order::Order;
use crate::plan::{Plan, Trouble};
use crate::queue::Queue;

/// How long a call may take, as the publisher's SDK is set.
const CALL_MAX: Duration = bellwire_publisher::connect::OPERATION_TIMEOUT;

pub(crate) struct World {
    pub(crate) plan: Plan,
    begin: Instant,
    state: Mutex<State>,
    /// Something in the queue may be received now.
    pub(crate) queue_changed: Notify,
}

pub(crate) struct State {
    pub(crate) random: Rng,
    pub(crate) queue: Queue,
    pub(crate) audit: Audit,
    pub(crate) order: Order,
    pub(crate) store: Store,
    pub(crate) faults: FaultCounts,
    /// Calls that the topic lets through now.
    pub(crate) topic_tokens: f64,
    pub(crate) topic_tokens_at: u64,
    /// Of everything that happened, so that two runs of one seed can be compared.
    digest: DefaultHasher,
}

/// One life of one publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holder {
    pub(crate) publisher: usize,
    pub(crate) life: u32,
}

/// A publisher's way to AWS.
#[derive(Clone)]
pub(crate) struct Edge {
    pub(crate) world: Arc<World>,
    pub(crate) holder: Holder,
    pub(crate) topic: Arc<crate::topic::TopicSide>,
}

/// How a call goes.
pub(crate) enum Course {
    /// As it should.
    Through { back: Duration },
    /// It is done, and nobody is told.
    AnswerLost,
    /// Nothing is done.
    Fails(CallError),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}.{}", self.publisher, self.life)
    }
}

impl World {
    pub(crate) fn new(plan: Plan, random: Rng) -> Self {
        let state = State {
            random,
            queue: Queue::default(),
            audit: Audit::default(),
            order: Order::default(),
            store: Store::default(),
            faults: FaultCounts::new(),
            topic_tokens: 1.0,
            topic_tokens_at: 0,
            digest: DefaultHasher::new(),
        };
        Self { plan, begin: Instant::now(), state: Mutex::new(state), queue_changed: Notify::new() }
    }

    /// Milliseconds since the begin.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) async fn sleep_until(&self, at: u64) {
        sleep_until(self.begin + Duration::from_millis(at)).await;
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.now() >= self.plan.calm_at
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what happened: into the log, and into the digest.
    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        let text = what.to_string();
        tracing::info!(target: "world", "{text}");
        let mut state = self.state();
        (self.now(), text).hash(&mut state.digest);
    }

    pub(crate) fn fault(&self, fault: Fault) {
        *self.state().faults.entry(fault).or_default() += 1;
        self.note(format_args!("FAULT {fault}"));
    }

    pub(crate) fn digest(&self) -> u64 {
        self.state().digest.finish()
    }

    /// With a chance of so many in a thousand, unless it is calm.
    pub(crate) fn strikes(&self, thousandths: u32) -> bool {
        thousandths > 0 && !self.is_calm() && self.state().random.u32(0..1_000) < thousandths
    }

    fn in_window(&self, is_it: impl Fn(Trouble) -> bool) -> Option<Trouble> {
        let now = self.now();
        let windows = &self.plan.windows;
        let open = windows.iter().find(|it| it.during.contains(&now) && is_it(it.trouble));
        open.map(|window| window.trouble)
    }
}

impl Edge {
    /// A call on its way there: how it goes on, once the service may have its say.
    pub(crate) async fn call(&self, call: Call) -> Course {
        let (there, back) = self.latency();
        sleep(there).await;
        let world = &self.world;
        let publisher = self.holder.publisher;
        if world.in_window(|it| it == Trouble::Credentials { publisher }).is_some() {
            world.fault(Fault::Expired(call));
            let code = "ExpiredToken";
            return Course::Fails(error(call, Meaning::Unavailable, Some((code, 403))));
        }
        if let Some(answers) = self.down(call) {
            world.fault(Fault::Down(call));
            return Course::Fails(if answers { failed(call) } else { unanswered(call).await });
        }
        if call == Call::Publish && world.in_window(|it| it == Trouble::Denied).is_some() {
            world.fault(Fault::Denied);
            let code = "AuthorizationError";
            return Course::Fails(error(call, Meaning::Denied, Some((code, 403))));
        }
        let rates = world.plan.rates_of(call);
        if world.strikes(rates.failed) {
            world.fault(Fault::Failed(call));
            return Course::Fails(failed(call));
        }
        if world.strikes(rates.unanswered) {
            world.fault(Fault::Unanswered(call));
            return Course::Fails(unanswered(call).await);
        }
        // What is lost of a look-up is the same as no answer.
        if !call.is_look_up() && world.strikes(rates.answer_lost) {
            world.fault(Fault::AnswerLost(call));
            return Course::AnswerLost;
        }
        Course::Through { back }
    }

    /// Whether the called service is down, and whether it says so.
    fn down(&self, call: Call) -> Option<bool> {
        let trouble = self.world.in_window(|it| match it {
            Trouble::Topic { .. } => call == Call::Publish,
            Trouble::Queue => matches!(call, Call::Receive | Call::Delete | Call::Hide),
            Trouble::DeadQueue => call == Call::Bury,
            Trouble::Store => call == Call::Put,
            Trouble::Denied | Trouble::Credentials { .. } => false,
        })?;
        Some(trouble != Trouble::Topic { answers: false })
    }

    /// Milliseconds, and now and then seconds.
    fn latency(&self) -> (Duration, Duration) {
        let mut state = self.world.state();
        let random = &mut state.random;
        let mut way = || match random.u8(0..50) {
            0 => Duration::from_millis(random.u64(0..4_000)),
            _ => Duration::from_millis(random.u64(0..20)),
        };
        (way(), way())
    }
}

impl Course {
    /// The way back of what was done.
    pub(crate) async fn back<T>(self, call: Call, answer: T) -> Result<T, CallError> {
        match self {
            Self::Through { back } => {
                sleep(back).await;
                Ok(answer)
            }
            Self::AnswerLost => Err(unanswered(call).await),
            Self::Fails(error) => Err(error),
        }
    }

    pub(crate) fn is_through(&self) -> bool {
        matches!(self, Self::Through { .. })
    }

    pub(crate) fn is_done(&self) -> bool {
        !matches!(self, Self::Fails(_))
    }
}

pub(crate) fn error(call: Call, trouble: Meaning, answer: Option<(&str, u16)>) -> CallError {
    let (code, http_status) = answer.map(|(code, status)| (code.to_owned(), status)).unzip();
    CallError { call: call.name(), trouble, code, http_status, message: "simulated".to_owned() }
}

fn failed(call: Call) -> CallError {
    error(call, Meaning::Unavailable, Some(("InternalFailure", 500)))
}

async fn unanswered(call: Call) -> CallError {
    sleep(CALL_MAX).await;
    error(call, Meaning::Unavailable, None)
}
