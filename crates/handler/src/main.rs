//! The `bootstrap` of the handler's function.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aws_config::BehaviorVersion;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::RuntimeComponents;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use bellwire_handler::{Call, Clients, Handler, HandlerError, Model, Moment, Roots, Settings};
use bellwire_telemetry::{FLUSH_TIMEOUT_DEFAULT, LogFormat, Unexported};
use jiff::Timestamp;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;

/// A call that hangs must leave time for its repetition within one invocation.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(15);

// One event at a time, and calls that wait: a second thread would only be woken.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let begun = Instant::now();
    let telemetry = Arc::new(bellwire_telemetry::init(
        "bellwire-handler",
        LogFormat::Json,
        Unexported::PassContext,
    )?);
    let settings =
        Settings::read(|name| std::env::var(name).ok(), |path| std::fs::read_to_string(path))?;
    let model = Model::compile(settings)?;
    let clients = clients().await;
    clients.warm(&model.triggers.iter().map(|trigger| trigger.destination.kind).collect()).await;
    // Source: AWS Lambda developer guide, "Defined runtime environment variables".
    let version = std::env::var("AWS_LAMBDA_FUNCTION_VERSION").unwrap_or_default();
    let handler = Arc::new(Handler::new(model, clients).of_version(&version));
    let (is_cold, begun_in) = (Arc::new(AtomicBool::new(true)), begun.elapsed());
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| {
        let (handler, telemetry) = (Arc::clone(&handler), Arc::clone(&telemetry));
        let call = call_of(&event, is_cold.swap(false, Ordering::Relaxed), begun_in);
        async move {
            // Boxed: all of it nested is deeper than rustc looks.
            let result =
                Box::pin(handler.handle_call(&event.payload, moment_of(&event), &call)).await;
            telemetry.flush(FLUSH_TIMEOUT_DEFAULT);
            result.map_err(|error| diagnostic(&error))
        }
    }))
    .await
}

/// All of one HTTP client: each of its own would parse the root certificates again.
async fn clients() -> Clients {
    let roots = Roots::of(|name| std::env::var(name).ok()).tls_context();
    // As the SDK makes it by itself, but for the roots.
    let https = Builder::new().build_with_connector_fn(move |settings, components| {
        let tls = tls::Provider::Rustls(CryptoMode::AwsLc);
        let mut connector =
            ConnectorBuilder::default().tls_provider(tls).tls_context(roots.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    });
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(https)
        // Where Lambda puts a function's role; to look anywhere else takes a client of
        // STS and the reading of profiles.
        .credentials_provider(EnvironmentVariableCredentialsProvider::new())
        .timeout_config(timeouts)
        .load()
        .await;
    Clients::new(&config)
}

fn call_of(event: &LambdaEvent<Value>, is_cold: bool, begun_in: Duration) -> Call {
    let context = &event.context;
    Call {
        invocation_id: context.request_id.clone(),
        function_arn: context.invoked_function_arn.clone(),
        is_cold,
        cold_ms: is_cold.then(|| u64::try_from(begun_in.as_millis()).unwrap_or(u64::MAX)),
        xray: context.xray_trace_id.clone(),
    }
}

fn moment_of(event: &LambdaEvent<Value>) -> Moment {
    let now = Timestamp::now();
    let deadline = i64::try_from(event.context.deadline).ok();
    let deadline = deadline.and_then(|at| Timestamp::from_millisecond(at).ok()).unwrap_or(now);
    Moment { now, deadline }
}

/// What Lambda is told of an invocation that must be repeated; it ends in the
/// failure destination's record where no repetition helps.
fn diagnostic(error: &HandlerError) -> Diagnostic {
    let error_type = match error {
        HandlerError::Fetch(_) => "FetchError",
        HandlerError::Lake(_) => "LakeError",
        HandlerError::Ledger(_) => "LedgerError",
        HandlerError::Leased { .. } => "LeasedError",
        HandlerError::Start(_) => "StartError",
        HandlerError::Announce(_) => "AnnounceError",
        HandlerError::Quarantine(_) => "QuarantineError",
    };
    Diagnostic { error_type: error_type.to_owned(), error_message: error.to_string() }
}
