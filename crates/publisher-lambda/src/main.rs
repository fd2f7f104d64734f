//! The `bootstrap` of the publisher's function: the same core as the sidecar's, on
//! batches that Lambda takes out of the ingest queue and deletes from it.

mod batch;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bellwire_publisher::bridge::{BATCHES_MAX, Bridge};
use bellwire_publisher::connect::{QueueUrls, config_loader, edges};
use bellwire_publisher::counts::Counts;
use bellwire_publisher::route::Rules;
use bellwire_schema::function::Settings;
use bellwire_telemetry::{FLUSH_TIMEOUT_DEFAULT, LogFormat};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;
use tokio::time::Instant;

use crate::batch::{answer_of, messages_of};

/// What is kept of an invocation's time for its answer, with the telemetry's flush.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

#[tokio::main]
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
    let telemetry = Arc::new(bellwire_telemetry::init("bellwire-publisher", LogFormat::Json)?);
    let settings =
        Settings::read(|name| std::env::var(name).ok(), |path| std::fs::read_to_string(path))?;
    let bridge = Arc::new(bridge_of(&settings).await);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| {
        let (bridge, telemetry) = (Arc::clone(&bridge), Arc::clone(&telemetry));
        async move {
            let deadline = deadline_of(&event);
            let answered = match messages_of(event.payload) {
                Ok(messages) => Ok(answer_of(&bridge.work_until(&messages, deadline).await)),
                Err(error) => Err(Diagnostic {
                    error_type: "NotABatch".to_owned(),
                    error_message: error.to_string(),
                }),
            };
            telemetry.flush(FLUSH_TIMEOUT_DEFAULT);
            answered
        }
    }))
    .await
}

async fn bridge_of(settings: &Settings) -> Bridge {
    let Settings { workflow, deployment, place } = settings;
    let (ingest, dead) = (deployment.ingest_queue(), deployment.dead_queue());
    let urls = QueueUrls { ingest: place.queue_url(&ingest), dead: place.queue_url(&dead) };
    let config = config_loader().load().await;
    // One invocation at a time has this process to itself.
    let edges = edges(&config, workflow, deployment, place, urls, BATCHES_MAX);
    let rules = Rules::new(workflow, deployment, place);
    Bridge::new(rules, edges, place.queue_arn(&ingest), Arc::new(Counts::default()))
}

/// When this invocation must be ready to answer.
fn deadline_of(event: &LambdaEvent<Value>) -> Instant {
    let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now() + left.saturating_sub(ANSWER_WITHIN)
}
