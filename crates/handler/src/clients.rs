//! The AWS clients that the handler calls with: one a service, of those that its
//! targets need.

use std::sync::{Arc, LazyLock};

use aws_config::SdkConfig;
use bellwire_telemetry::client;

/// A client that is made where it is first called: making one takes a tenth of all that a
/// handler does before its first event, and most events need neither S3 nor SQS.
pub type Later<C> = Arc<LazyLock<C, Box<dyn FnOnce() -> C + Send>>>;

/// The AWS clients that the handler calls with.
#[derive(Debug, Clone)]
pub struct Clients {
    /// For the ledger.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// For payloads that were too large to travel.
    pub s3: Later<aws_sdk_s3::Client>,
    /// For what the handler announces, and for topics that triggers start.
    pub sns: aws_sdk_sns::Client,
    /// For the dead queue, and for queues that triggers start.
    pub sqs: Later<aws_sdk_sqs::Client>,
    /// For jobs.
    #[cfg(feature = "target-batch")]
    pub batch: aws_sdk_batch::Client,
    /// For functions that triggers start.
    #[cfg(feature = "target-lambda")]
    pub lambda: aws_sdk_lambda::Client,
    /// For pipelines.
    #[cfg(feature = "target-sagemaker-pipeline")]
    pub sagemaker: aws_sdk_sagemaker::Client,
    /// For state machines.
    #[cfg(feature = "target-step-functions")]
    pub sfn: aws_sdk_sfn::Client,
}

impl Clients {
    /// All of them, of one configuration.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        Self {
            dynamodb: client!(aws_sdk_dynamodb, config),
            s3: later(config, |config| client!(aws_sdk_s3, config)),
            sns: client!(aws_sdk_sns, config),
            sqs: later(config, |config| client!(aws_sdk_sqs, config)),
            #[cfg(feature = "target-batch")]
            batch: client!(aws_sdk_batch, config),
            #[cfg(feature = "target-lambda")]
            lambda: client!(aws_sdk_lambda, config),
            #[cfg(feature = "target-sagemaker-pipeline")]
            sagemaker: client!(aws_sdk_sagemaker, config),
            #[cfg(feature = "target-step-functions")]
            sfn: client!(aws_sdk_sfn, config),
        }
    }
}

fn later<C: 'static>(config: &SdkConfig, new: fn(&SdkConfig) -> C) -> Later<C> {
    let config = config.clone();
    Arc::new(LazyLock::new(Box::new(move || new(&config))))
}
