//! What can go wrong in a job, named so that a state machine can tell what a
//! retry may help.

use std::error::Error;

use bellwire_telemetry::with_causes;
use lambda_runtime::Diagnostic;

use crate::lake::Location;
use crate::run::Task;

/// Why a job failed.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The input lacks something, or has it in another shape.
    #[error(
        "{task}: the input does not fit at `{field}`: {problem}; see `input` of the trigger in bellwire.toml"
    )]
    Input {
        /// The task that was asked for.
        task: Task,
        /// Where in the input: `artifacts[0].uri`.
        field: String,
        /// What is wrong there.
        problem: String,
    },
    /// An object does not hold what it should.
    #[error("{object} cannot be read: {problem}")]
    Data {
        /// The object: its key, or what it is.
        object: String,
        /// What is wrong with it, with the line where there is one.
        problem: String,
    },
    /// The forest could not be grown or asked.
    #[error("the random forest could not {action}: {problem}")]
    Forest {
        /// `be fitted`, `predict`, `be written`.
        action: &'static str,
        /// What the library says.
        problem: String,
    },
    /// S3 refuses, for good: no such key, or no permission.
    #[error(
        "S3 refuses to {operation} {location}; does the function's `access` in bellwire.toml cover it?"
    )]
    StorageRefused {
        /// `read` or `write`.
        operation: &'static str,
        /// The object.
        location: Location,
        /// What the SDK says.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// S3 could not be reached, or was busy, past the SDK's own retries.
    #[error("S3 could not {operation} {location}; a retry may help")]
    StorageUnavailable {
        /// `read` or `write`.
        operation: &'static str,
        /// The object.
        location: Location,
        /// What the SDK says.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl WorkerError {
    /// The error's name in Step Functions, which `Retry` and `Catch` match.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Input { .. } => "InputRefused",
            Self::Data { .. } => "DataRefused",
            Self::Forest { .. } => "ForestFailed",
            Self::StorageRefused { .. } => "StorageRefused",
            Self::StorageUnavailable { .. } => "StorageUnavailable",
        }
    }
}

impl From<WorkerError> for Diagnostic {
    fn from(error: WorkerError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: with_causes(&error) }
    }
}
