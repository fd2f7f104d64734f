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

/// What DynamoDB answers to `PutItem`, `UpdateItem` and `Query`, beside
/// `ConditionalCheckFailedException`, which is an answer and no failure. Source: Amazon
/// DynamoDB API reference, the three calls and "Common errors"; Amazon DynamoDB developer
/// guide, "Error handling with DynamoDB".
const NO_TABLE: [&str; 1] = ["ResourceNotFoundException"];
const DENIED: [&str; 6] = [
    "AccessDeniedException",
    "ExpiredTokenException",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
];
const REFUSED: [&str; 3] =
    ["ItemCollectionSizeLimitExceededException", "SerializationException", "ValidationException"];
#[cfg(test)]
const PASSING: [&str; 8] = [
    "InternalServerError",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "ReplicatedWriteConflictException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ThrottlingException",
    "TransactionConflictException",
];

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
            Some(code) if NO_TABLE.contains(&code) => Self::NoTable { table },
            Some(code) if DENIED.contains(&code) => Self::Denied { operation, table, message },
            Some(code) if REFUSED.contains(&code) => Self::Refused { operation, table, message },
            // Those of `PASSING`, those that nobody knew of, and no answer at all.
            _ => Self::Unavailable { operation, table, message },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aws_sdk_dynamodb::error::{ErrorMetadata, SdkError};
    use aws_sdk_dynamodb::operation::put_item::PutItemError;

    use super::*;

    #[test]
    fn every_error_of_dynamodb_is_told_apart() {
        let of = |code: &str| {
            let metadata = ErrorMetadata::builder().code(code).message("m").build();
            let error = SdkError::service_error(PutItemError::generic(metadata), ());
            LedgerError::of("PutItem", "wine-ledger", &error)
        };
        let mut all = BTreeSet::new();
        for code in REFUSED {
            assert!(!of(code).is_retryable(), "{code}");
        }
        for code in NO_TABLE.iter().chain(&DENIED).chain(&PASSING).chain(&["BrandNew"]) {
            assert!(of(code).is_retryable(), "{code}");
        }
        for code in NO_TABLE.iter().chain(&DENIED).chain(&REFUSED).chain(&PASSING) {
            assert!(all.insert(*code), "{code} is there twice");
        }
        assert!(matches!(of(DENIED[0]), LedgerError::Denied { .. }));
    }
}
