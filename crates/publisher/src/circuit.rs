//! The circuit before the topic: whether a call is worth making. Pure.
//!
//! While SNS is down, calls cost time and tell nothing new, and what is received
//! from the queue meanwhile only comes nearer to the dead queue. So after some
//! failures in a row nothing is called for a while, and then one call at a time
//! finds out whether the topic is back.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open the circuit.
const FAILURES_MAX: u32 = 5;

/// How long it stays open at first; each probe that fails doubles it.
const OPEN_FIRST: Duration = Duration::from_secs(1);

/// The longest that it stays open between two probes.
const OPEN_LAST: Duration = Duration::from_secs(30);

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Now.
    Go,
    /// Not before this moment.
    NotBefore(Instant),
    /// Once a call that is under way has ended.
    AfterChange,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, openings: u32 },
    Probing { openings: u32 },
}

/// A circuit breaker. Time and chance come from outside.
#[derive(Debug, Clone)]
pub struct Circuit {
    state: State,
}

impl Default for Circuit {
    fn default() -> Self {
        Self { state: State::Closed { failures: 0 } }
    }
}

impl Circuit {
    /// Whether a call may be made at `now`. `Go` on an open circuit makes the
    /// call its probe: it must be reported by [`Self::succeeded`],
    /// [`Self::failed`] or [`Self::abandoned`].
    pub fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Go,
            State::Probing { .. } => Admission::AfterChange,
            State::Open { until, .. } if now < until => Admission::NotBefore(until),
            State::Open { openings, .. } => {
                self.state = State::Probing { openings };
                Admission::Go
            }
        }
    }

    /// The same without making a probe: whether it is worth receiving.
    #[must_use]
    pub fn look(&self, now: Instant) -> Admission {
        match self.state {
            State::Probing { .. } => Admission::AfterChange,
            State::Open { until, .. } if now < until => Admission::NotBefore(until),
            State::Closed { .. } | State::Open { .. } => Admission::Go,
        }
    }

    /// A call was answered. Answers with whether that closed the circuit.
    pub fn succeeded(&mut self) -> bool {
        let was_open = self.is_open();
        self.state = State::Closed { failures: 0 };
        was_open
    }

    /// A call failed for a reason that is not its own. `chance` is from 0 to 1;
    /// answers with how long the circuit is open from now, where it is.
    pub fn failed(&mut self, now: Instant, chance: f64) -> Option<Duration> {
        let openings = match self.state {
            State::Closed { failures } if failures + 1 < FAILURES_MAX => {
                self.state = State::Closed { failures: failures + 1 };
                return None;
            }
            State::Closed { .. } => 0,
            State::Probing { openings } => openings + 1,
            // A call that was under way when it opened tells nothing new.
            State::Open { until, .. } => return Some(until.saturating_duration_since(now)),
        };
        let bound = OPEN_FIRST.saturating_mul(1 << openings.min(16)).min(OPEN_LAST);
        // Half of it is certain, so that a fleet's probes neither meet nor hurry.
        let pause = bound.mul_f64(0.5 + 0.5 * chance);
        self.state = State::Open { until: now + pause, openings };
        Some(pause)
    }

    /// A call was given up, so that nothing is known of it.
    pub fn abandoned(&mut self, now: Instant) {
        if let State::Probing { openings } = self.state {
            self.state = State::Open { until: now, openings };
        }
    }

    /// Whether the topic counts as down.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 1..FAILURES_MAX {
            assert_eq!(circuit.failed(now, 1.0), None);
        }
        assert_eq!(circuit.failed(now, 1.0), Some(OPEN_FIRST));
        circuit
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        for _ in 0..3 * FAILURES_MAX {
            circuit.failed(now, 1.0);
            assert!(!circuit.succeeded(), "it was never open");
        }
        assert_eq!(circuit.admit(now), Admission::Go);
    }

    #[test]
    fn an_open_circuit_lets_one_probe_through_when_its_time_has_come() {
        let now = Instant::now();
        let mut circuit = opened(now);
        let until = now + OPEN_FIRST;
        assert_eq!(circuit.admit(now), Admission::NotBefore(until));
        assert_eq!(circuit.look(until), Admission::Go, "looking makes no probe");
        assert_eq!(circuit.admit(until), Admission::Go);
        assert_eq!(circuit.admit(until), Admission::AfterChange);
        assert_eq!(circuit.look(until), Admission::AfterChange);
        assert!(circuit.succeeded());
        assert_eq!(circuit.admit(until), Admission::Go);
        assert!(!circuit.is_open());
    }

    #[test]
    fn each_probe_that_fails_doubles_the_pause_up_to_a_bound() {
        let mut now = Instant::now();
        let mut circuit = opened(now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            now += OPEN_LAST;
            assert_eq!(circuit.admit(now), Admission::Go);
            pauses.push(circuit.failed(now, 1.0).unwrap().as_secs());
        }
        assert_eq!(pauses, [2, 4, 8, 16, 30, 30, 30, 30]);
        now += OPEN_LAST;
        assert_eq!(circuit.admit(now), Admission::Go);
        assert_eq!(circuit.failed(now, 0.0), Some(OPEN_LAST / 2), "never at once");
    }

    #[test]
    fn a_probe_that_was_given_up_makes_room_for_the_next() {
        let now = Instant::now();
        let mut circuit = opened(now);
        let until = now + OPEN_FIRST;
        assert_eq!(circuit.admit(until), Admission::Go);
        circuit.abandoned(until);
        assert_eq!(circuit.admit(until), Admission::Go);
    }

    #[test]
    fn a_late_failure_does_not_prolong_what_is_open() {
        let now = Instant::now();
        let mut circuit = opened(now);
        assert_eq!(circuit.failed(now, 1.0), Some(OPEN_FIRST));
        assert_eq!(circuit.admit(now + OPEN_FIRST), Admission::Go);
    }
}
