use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// A call to the ledger that failed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The table is not there.
    #[error("the ledger table {table} does not exist; deploy the workflow first")]
    NoTable {
        /// Its name.
        table: String,
    },
    /// The role may not make the call.
    #[error("dynamodb:{operation} on {table} was denied: {message}")]
    Denied {
        /// The call.
        operation: &'static str,
        /// The table's name.
        table: String,
        /// What AWS says.
        message: String,
    },
    /// The row is larger than DynamoDB's 400 KB, or otherwise refused for good.
    #[error("dynamodb:{operation} on {table} was refused: {message}")]
    Refused {
        /// The call.
        operation: &'static str,
        /// The table's name.
        table: String,
        /// What AWS says.
        message: String,
    },
    /// Throttling, a fault of the service or of the network: worth trying again.
    #[error("dynamodb:{operation} on {table} did not succeed: {message}")]
    Unavailable {
        /// The call.
        operation: &'static str,
        /// The table's name.
        table: String,
        /// What the SDK says.
        message: String,
    },
    /// A row that this version cannot read.
    #[error("a row of {table} does not have the ledger's shape: {message}")]
    Row {
        /// The table's name.
        table: String,
        /// What does not fit.
        message: String,
    },
}

impl LedgerError {
    /// Whether the same call may succeed later.
    ///
    /// A denial may: a new role's policy takes seconds to act.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoTable { .. } | Self::Denied { .. } | Self::Unavailable { .. } => true,
            Self::Refused { .. } | Self::Row { .. } => false,
        }
    }

    pub(crate) fn of<E, R>(operation: &'static str, table: &str, error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug,
    {
        let table = table.to_owned();
        let message = match error.message() {
            Some(message) => message.to_owned(),
            None => DisplayErrorContext(error).to_string(),
        };
        match error.code() {
            Some("ResourceNotFoundException") => Self::NoTable { table },
            Some("AccessDeniedException" | "UnrecognizedClientException") => {
                Self::Denied { operation, table, message }
            }
            Some("ValidationException" | "ItemCollectionSizeLimitExceededException") => {
                Self::Refused { operation, table, message }
            }
            _ => Self::Unavailable { operation, table, message },
        }
    }
}
