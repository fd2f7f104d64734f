//! What Lambda says of an invocation, and the span of it.

use bellwire_telemetry::semconv::{
    AWS_LAMBDA_INVOKED_ARN, FAAS_COLDSTART, FAAS_INVOCATION_ID, FAAS_TRIGGER,
    MESSAGING_BATCH_MESSAGE_COUNT,
};
use bellwire_telemetry::{link_xray, set_parent};
use tracing::{Span, info_span};

use crate::decode::Invocation;

/// The span attribute of how long the environment took to begin, in milliseconds.
const COLD_MS: &str = "bellwire.coldstart.ms";

/// What Lambda says of an invocation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// Lambda's id for it.
    pub invocation_id: String,
    /// The function, as it was invoked.
    pub function_arn: String,
    /// Whether it is the environment's first.
    pub is_cold: bool,
    /// How long the process took from its begin to the first invocation, where this is it.
    pub cold_ms: Option<u64>,
    /// AWS X-Ray's header.
    pub xray: Option<String>,
}

impl Call {
    /// The function's own span, under the message that it was invoked for: of several
    /// none is its parent, and theirs are linked to it.
    pub(crate) fn span(&self, invocation: &Invocation) -> Span {
        let (faas_trigger, count, only) = match invocation {
            Invocation::Deliveries(deliveries) => match deliveries.as_slice() {
                [only] => ("pubsub", 1, Some(only)),
                all => ("pubsub", all.len(), None),
            },
            Invocation::Batch(batch) => ("pubsub", batch.len(), None),
            // Nobody's message: a call by hand, or the sweep, which has no span of its own.
            Invocation::Sweep | Invocation::Unknown => ("other", 0, None),
        };
        let span = info_span!(
            "invoke",
            otel.name = self.function_arn.split(':').nth(6).unwrap_or("handler"),
            otel.kind = "server",
            otel.status_code = tracing::field::Empty,
            { FAAS_TRIGGER } = faas_trigger,
            { FAAS_COLDSTART } = self.is_cold,
            { FAAS_INVOCATION_ID } = self.invocation_id,
            { AWS_LAMBDA_INVOKED_ARN } = self.function_arn,
            { COLD_MS } = self.cold_ms,
            { MESSAGING_BATCH_MESSAGE_COUNT } = (count > 1).then_some(count),
        );
        if let Some(delivery) = only {
            let text = |name: &str| delivery.attributes.get(name).map(String::as_str);
            set_parent(&span, text("traceparent"), text("tracestate"));
        }
        if let Some(header) = &self.xray {
            link_xray(&span, header);
        }
        span
    }
}
