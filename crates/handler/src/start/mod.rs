//! Starting a run under the name that the ledger holds, one file a kind of target.

mod step_functions;

use bellwire_ledger::Start;
use jiff::Timestamp;

pub(crate) use step_functions::{RunState, StepFunctions};

/// A start that the target has accepted, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The run's ARN.
    pub(crate) run_arn: String,
    /// When the target says that it began; `None` where it only says that it had.
    pub(crate) started_at: Option<Timestamp>,
}

/// A start that the target did not accept.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It would refuse it again.
    #[error("{operation} on {target} was refused for good: {message}")]
    Refused {
        /// The call.
        operation: &'static str,
        /// The target's ARN.
        target: String,
        /// What AWS says.
        message: String,
    },
    /// It may accept it later.
    #[error("{operation} on {target} did not succeed: {message}")]
    Unavailable {
        /// The call.
        operation: &'static str,
        /// The target's ARN.
        target: String,
        /// What AWS or the SDK says.
        message: String,
    },
}

impl StartError {
    /// Sorts an answer of AWS by its code.
    fn of(operation: &'static str, start: &Start, code: Option<&str>, message: String) -> Self {
        let target = start.target.clone();
        match code {
            Some(code) if step_functions::REFUSED_FOR_GOOD.contains(&code) => {
                Self::Refused { operation, target, message: format!("{code}: {message}") }
            }
            _ => Self::Unavailable { operation, target, message },
        }
    }
}
