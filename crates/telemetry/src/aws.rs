//! Calls to AWS, counted by operation: whatever client makes them.

use std::time::Instant;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, SharedInterceptor};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, Metadata};
use aws_smithy_runtime_api::client::retries::RequestAttempts;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use opentelemetry::KeyValue;

use crate::metrics::{
    AWS_CALLS, AWS_RETRIES, AWS_THROTTLES, ERROR_TYPE, METHOD, OTHER, RPC_SYSTEM,
};

/// Bytes of a refusal that are looked at.
const REFUSAL_BYTES_MAX: usize = 4_096;

/// Codes by which the services of AWS ask for fewer calls. Source: the common errors of
/// the AWS API references.
const THROTTLES: [&str; 4] = ["Throttl", "TooManyRequests", "RequestLimitExceeded", "SlowDown"];

/// A client of `$sdk` with this `SdkConfig`, whose calls are counted where anybody reads
/// that: `client!(aws_sdk_sns, &config)`.
#[macro_export]
macro_rules! client {
    ($sdk:ident, $config:expr) => {{
        let mut config = $sdk::config::Builder::from($config);
        if let Some(counted) = $crate::aws::counted() {
            config.push_interceptor(counted);
        }
        $sdk::Client::from_conf(config.build())
    }};
}

/// What counts a client's calls; `None` where nobody reads that.
#[must_use]
pub fn counted() -> Option<SharedInterceptor> {
    AWS_CALLS.is_read().then(|| SharedInterceptor::new(Counted))
}

#[derive(Debug)]
struct Counted;

/// When a call began.
#[derive(Debug)]
struct Begun(Instant);

impl Storable for Begun {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Counted {
    fn name(&self) -> &'static str {
        "bellwire-counted"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(Begun(Instant::now()));
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if context.response().is_some_and(is_throttle) {
            AWS_THROTTLES.add(1, || [method_of(config)]);
        }
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(Begun(begun)) = config.load::<Begun>() else { return Ok(()) };
        let seconds = begun.elapsed().as_secs_f64();
        let (system, method) = (RPC_SYSTEM.of("aws-api"), method_of(config));
        match context.output_or_error() {
            Some(Ok(_)) => AWS_CALLS.record(seconds, || [system, method]),
            Some(Err(_)) | None => {
                let error = ERROR_TYPE.of(error_type(context.response()));
                AWS_CALLS.record(seconds, || [system, method, error]);
            }
        }
        let attempts = config.load::<RequestAttempts>().map_or(1, RequestAttempts::attempts);
        if attempts > 1 {
            AWS_RETRIES.add(u64::from(attempts - 1), || [method_of(config)]);
        }
        Ok(())
    }
}

fn method_of(config: &ConfigBag) -> KeyValue {
    match config.load::<Metadata>() {
        Some(call) => METHOD.bounded(&format!("{}/{}", call.service(), call.name())),
        None => METHOD.of(OTHER),
    }
}

/// The status of a refusal, of those that the services answer with.
fn error_type(response: Option<&HttpResponse>) -> &'static str {
    match response.map(|response| response.status().as_u16()) {
        Some(400) => "400",
        Some(403) => "403",
        Some(404) => "404",
        Some(409) => "409",
        Some(412) => "412",
        Some(429) => "429",
        Some(500) => "500",
        Some(503) => "503",
        _ => OTHER,
    }
}

/// The code stands in a header, in JSON, or in XML: wherever it does, it is one of few.
fn is_throttle(response: &HttpResponse) -> bool {
    let status = response.status().as_u16();
    if status < 400 {
        return false;
    }
    let body = response.body().bytes().unwrap_or_default();
    let body = String::from_utf8_lossy(&body[..body.len().min(REFUSAL_BYTES_MAX)]);
    let header = response.headers().get("x-amzn-errortype").unwrap_or_default();
    status == 429 || THROTTLES.iter().any(|code| body.contains(code) || header.contains(code))
}
