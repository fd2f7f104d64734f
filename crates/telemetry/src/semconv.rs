//! Names of attributes: OpenTelemetry's semantic conventions, in the version of
//! [`SCHEMA_URL`].
//!
//! The one place that names the version: it is that of the
//! `opentelemetry-semantic-conventions` crate in the workspace's manifest, and all
//! spans carry it. The `messaging` conventions are in development.
//!
//! ```
//! use bellwire_telemetry::semconv::{MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM, MESSAGING_SYSTEM_SNS};
//!
//! tracing::info_span!(
//!     "process wine",
//!     otel.kind = "consumer",
//!     { MESSAGING_SYSTEM } = MESSAGING_SYSTEM_SNS,
//!     { MESSAGING_OPERATION_TYPE } = "process",
//! );
//! ```

pub use opentelemetry_semantic_conventions::SCHEMA_URL;
pub use opentelemetry_semantic_conventions::attribute::*;
pub(crate) use opentelemetry_semantic_conventions::metric;

/// `messaging.system` of Amazon SNS.
pub const MESSAGING_SYSTEM_SNS: &str = "aws.sns";

/// `messaging.system` of Amazon SQS: the conventions spell it with an underscore.
pub const MESSAGING_SYSTEM_SQS: &str = "aws_sqs";
