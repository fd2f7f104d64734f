//! The AWS clients that the handler calls with: one a service, of those that its
//! targets need.

use std::sync::{Arc, LazyLock};

use aws_config::SdkConfig;

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
            dynamodb: aws_sdk_dynamodb::Client::new(config),
            s3: later(config, aws_sdk_s3::Client::new),
            sns: aws_sdk_sns::Client::new(config),
            sqs: later(config, aws_sdk_sqs::Client::new),
            #[cfg(feature = "target-batch")]
            batch: aws_sdk_batch::Client::new(config),
            #[cfg(feature = "target-lambda")]
            lambda: aws_sdk_lambda::Client::new(config),
            #[cfg(feature = "target-sagemaker-pipeline")]
            sagemaker: aws_sdk_sagemaker::Client::new(config),
            #[cfg(feature = "target-step-functions")]
            sfn: aws_sdk_sfn::Client::new(config),
        }
    }
}

fn later<C: 'static>(config: &SdkConfig, new: fn(&SdkConfig) -> C) -> Later<C> {
    let config = config.clone();
    Arc::new(LazyLock::new(Box::new(move || new(&config))))
}
