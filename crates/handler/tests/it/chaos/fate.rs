//! What befalls one invocation for one message: drawn from a seed, so that a seed
//! draws the same for each message and each of its deliveries every time.

use fastrand::Rng;

/// What the handler does for a message, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Claim,
    Start,
    Announce,
    Record,
    /// Its answer to Lambda.
    Respond,
}

impl Step {
    pub(super) const ALL: [Self; 5] =
        [Self::Claim, Self::Start, Self::Announce, Self::Record, Self::Respond];

    const fn name(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Start => "start",
            Self::Announce => "announce",
            Self::Record => "record",
            Self::Respond => "respond",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    Spared,
    /// Its environment is killed and the step never begins.
    CrashBefore(Step),
    /// Its environment is killed when the step is done, before it knows of that.
    CrashAfter(Step),
    /// The ledger throttles so many calls of the step.
    Throttled(Step, u32),
    /// So many calls of the step are done, and their answers are lost.
    AnswerLost(Step, u32),
}

/// The SDK repeats a call twice: of more than two failures it tells.
const FAILURES_MAX: u32 = 4;

impl Fate {
    /// Half of all invocations are spared; a third is killed.
    pub(super) fn draw(random: &mut Rng) -> Self {
        let any = |random: &mut Rng, of: &[Step]| of[random.usize(..of.len())];
        match random.u32(..12) {
            0..6 => Self::Spared,
            6..8 => Self::CrashBefore(any(random, &Step::ALL)),
            8..10 => Self::CrashAfter(any(random, &Step::ALL)),
            10 => {
                let step = any(random, &[Step::Claim, Step::Record]);
                Self::Throttled(step, random.u32(1..=FAILURES_MAX))
            }
            _ => Self::AnswerLost(any(random, &Step::ALL[..4]), random.u32(1..=FAILURES_MAX)),
        }
    }

    /// Its name in a report; `None` where nothing went wrong.
    pub(super) fn name(self) -> Option<String> {
        Some(match self {
            Self::Spared => return None,
            Self::CrashBefore(step) => format!("killed before {}", step.name()),
            Self::CrashAfter(step) => format!("killed after {}", step.name()),
            Self::Throttled(step, _) => format!("throttled: {}", step.name()),
            Self::AnswerLost(step, _) => format!("answer lost: {}", step.name()),
        })
    }

    /// The name of everything that can go wrong.
    pub(super) fn names() -> Vec<String> {
        let crashes = Step::ALL
            .into_iter()
            .flat_map(|step| [Self::CrashBefore(step), Self::CrashAfter(step)].map(Self::name));
        let throttled = [Step::Claim, Step::Record].map(|step| Self::Throttled(step, 1).name());
        let lost = Step::ALL[..4].iter().map(|step| Self::AnswerLost(*step, 1).name());
        crashes.chain(throttled).chain(lost).flatten().collect()
    }
}
