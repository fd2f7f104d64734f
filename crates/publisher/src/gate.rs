//! `gate`: before every call to the topic, from whichever way it comes: the
//! circuit says whether, the window says how many together.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::circuit::{Admission, Circuit};
use crate::window::Window;

/// The one gate before a topic.
#[derive(Debug)]
pub struct Gate {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    circuit: Circuit,
    window: Window,
    outage: Option<Outage>,
}

/// Why and since when the topic counts as down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// Since when.
    pub since: Timestamp,
    /// What the last call was answered.
    pub cause: String,
}

/// What a gate looks like from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateState {
    /// Why nothing passes, where nothing does.
    pub outage: Option<Outage>,
    /// Calls that may be under way together.
    pub window: usize,
    /// Calls that are.
    pub under_way: usize,
}

/// The right to make one call; how it went must be told, or it was given up.
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a Gate,
    /// Whether this call finds out if the topic is back.
    is_probe: bool,
    is_told: bool,
}

impl Gate {
    /// A gate through which at most so many calls go together.
    #[must_use]
    pub fn new(calls_max: usize) -> Self {
        let inner =
            Inner { circuit: Circuit::default(), window: Window::new(calls_max), outage: None };
        Self { inner: Mutex::new(inner), changed: Notify::new() }
    }

    /// Waits until a call is worth making and there is room for it.
    pub async fn enter(&self) -> Pass<'_> {
        let mut is_probe = false;
        self.wait_for(|inner, now| {
            if inner.window.under_way() >= inner.window.size() {
                return Admission::AfterChange;
            }
            let admission = inner.circuit.admit(now);
            if admission == Admission::Go {
                inner.window.enter();
                is_probe = inner.circuit.is_open();
            }
            admission
        })
        .await;
        Pass { gate: self, is_probe, is_told: false }
    }

    /// Waits until it is worth taking in more: while the topic is down, what is
    /// received only comes nearer to the dead queue.
    pub async fn open(&self) {
        self.wait_for(|inner, now| inner.circuit.look(now)).await;
    }

    /// What it looks like now.
    #[must_use]
    pub fn state(&self) -> GateState {
        let inner = self.lock();
        GateState {
            outage: inner.outage.clone(),
            window: inner.window.size(),
            under_way: inner.window.under_way(),
        }
    }

    async fn wait_for(&self, mut admit: impl FnMut(&mut Inner, Instant) -> Admission) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            let admission = admit(&mut self.lock(), Instant::now());
            match admission {
                Admission::Go => return,
                Admission::AfterChange => changed.await,
                Admission::NotBefore(at) => {
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = sleep_until(at) => {}
                    }
                }
            }
        }
    }

    fn tell(&self, act: impl FnOnce(&mut Inner)) {
        act(&mut self.lock());
        self.changed.notify_waiters();
    }

    /// Its counters are right whatever a panicking thread was doing.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The topic answered, whatever it said of single entries.
    pub fn answered(mut self) {
        self.is_told = true;
        self.gate.tell(|inner| {
            inner.window.passed();
            if inner.circuit.succeeded() {
                inner.outage = None;
                tracing::info!("the topic accepts events again");
            }
        });
    }

    /// The topic was there, and asked for fewer calls.
    pub fn throttled(mut self) {
        self.is_told = true;
        self.gate.tell(|inner| {
            inner.window.throttled();
            // It answers: what comes after an outage is no outage.
            if inner.circuit.succeeded() {
                inner.outage = None;
            }
        });
    }

    /// The topic did not answer, or answered that it cannot, or that nobody may.
    pub fn failed(mut self, cause: &str) {
        self.is_told = true;
        let is_probe = self.is_probe;
        self.gate.tell(|inner| {
            inner.window.leave();
            let was_open = inner.circuit.is_open();
            // A call from before it opened says nothing of the probe under way.
            if was_open && !is_probe {
                return;
            }
            let pause = inner.circuit.failed(Instant::now(), fastrand::f64());
            if pause.is_some() {
                let cause = cause.to_owned();
                match &mut inner.outage {
                    Some(outage) => outage.cause = cause,
                    none => *none = Some(Outage { since: Timestamp::now(), cause }),
                }
            }
            if !was_open && pause.is_some() {
                tracing::error!(
                    reason = cause,
                    "the topic does not accept events: nothing more is received until it does"
                );
            }
        });
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            self.gate.tell(|inner| {
                inner.window.leave();
                if self.is_probe {
                    inner.circuit.abandoned(Instant::now());
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    async fn fail(gate: &Gate, times: usize) {
        for _ in 0..times {
            gate.enter().await.failed("down");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_waited_out_by_one_probe_at_a_time() {
        let gate = Arc::new(Gate::new(8));
        fail(&gate, 5).await;
        assert_eq!(gate.state().outage.unwrap().cause, "down");
        let begin = Instant::now();
        let probe = gate.enter().await;
        assert!(begin.elapsed() >= Duration::from_millis(500));
        let second = tokio::spawn({
            let gate = gate.clone();
            async move {
                gate.open().await;
                gate.enter().await.answered();
            }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        probe.answered();
        second.await.unwrap();
        assert_eq!(gate.state().outage, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_lets_the_next_one_through() {
        let gate = Gate::new(8);
        fail(&gate, 5).await;
        drop(gate.enter().await);
        gate.enter().await.answered();
        assert_eq!(gate.state(), GateState { outage: None, window: 4, under_way: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn calls_from_before_the_outage_do_not_end_the_probe() {
        let gate = Gate::new(8);
        let (dropped, failed) = (gate.enter().await, gate.enter().await);
        fail(&gate, 5).await;
        let probe = gate.enter().await;
        drop(dropped);
        failed.failed("late");
        let second = tokio::time::timeout(Duration::from_secs(60), gate.enter()).await;
        assert!(second.is_err(), "one probe at a time");
        probe.answered();
        gate.enter().await.answered();
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_narrows_the_gate_and_closes_nothing() {
        let gate = Gate::new(8);
        for _ in 0..50 {
            gate.enter().await.throttled();
        }
        let state = gate.state();
        assert_eq!((state.window, state.outage), (1, None));
        let only = gate.enter().await;
        let more = tokio::time::timeout(Duration::from_secs(60), gate.enter()).await;
        assert!(more.is_err(), "there is one place");
        only.answered();
        gate.enter().await.answered();
    }
}
