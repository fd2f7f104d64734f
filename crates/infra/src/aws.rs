//! The clients of every service that a deploy calls, and who is calling.

use std::sync::Arc;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use bellwire_schema::Place;
use bellwire_schema::workflow::Workflow;

use crate::calls::Calls;
use crate::error::{CallError, failed};
use crate::known::Known;

/// One client a service, all of one configuration.
#[derive(Debug, Clone)]
pub(crate) struct Aws {
    pub(crate) batch: aws_sdk_batch::Client,
    pub(crate) cloudwatch: aws_sdk_cloudwatch::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) events: aws_sdk_eventbridge::Client,
    pub(crate) iam: aws_sdk_iam::Client,
    pub(crate) kms: aws_sdk_kms::Client,
    pub(crate) lambda: aws_sdk_lambda::Client,
    pub(crate) logs: aws_sdk_cloudwatchlogs::Client,
    #[cfg(feature = "lookup-sagemaker")]
    pub(crate) sagemaker: aws_sdk_sagemaker::Client,
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) sfn: aws_sdk_sfn::Client,
    pub(crate) sns: aws_sdk_sns::Client,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) tagging: aws_sdk_resourcegroupstagging::Client,
    /// What need not be asked for.
    pub(crate) known: Arc<Known>,
}

/// How often a call is sent before throttling, or a failure that passes, counts as one:
/// with the SDK's growing pauses about a minute. More, where the user's settings say so.
const ATTEMPTS_MAX: u32 = 8;

impl Aws {
    /// Clients that tell `calls` what they call.
    pub(crate) fn new(config: &SdkConfig, calls: &Calls) -> Self {
        let retries = config.retry_config().cloned().unwrap_or_else(RetryConfig::standard);
        let attempts = retries.max_attempts().max(ATTEMPTS_MAX);
        let retries = retries.with_max_attempts(attempts);
        macro_rules! client {
            ($sdk:ident) => {{
                let config = $sdk::config::Builder::from(config);
                let config = config.retry_config(retries.clone()).interceptor(calls.clone());
                $sdk::Client::from_conf(config.build())
            }};
        }
        Self {
            batch: client!(aws_sdk_batch),
            cloudwatch: client!(aws_sdk_cloudwatch),
            dynamodb: client!(aws_sdk_dynamodb),
            events: client!(aws_sdk_eventbridge),
            iam: client!(aws_sdk_iam),
            kms: client!(aws_sdk_kms),
            lambda: client!(aws_sdk_lambda),
            logs: client!(aws_sdk_cloudwatchlogs),
            #[cfg(feature = "lookup-sagemaker")]
            sagemaker: client!(aws_sdk_sagemaker),
            s3: client!(aws_sdk_s3),
            sfn: client!(aws_sdk_sfn),
            sns: client!(aws_sdk_sns),
            sqs: client!(aws_sdk_sqs),
            tagging: client!(aws_sdk_resourcegroupstagging),
            known: Arc::default(),
        }
    }

    /// The same clients, which need not ask for this.
    pub(crate) fn knowing(&self, known: Known) -> Self {
        Self { known: Arc::new(known), ..self.clone() }
    }
}

/// Why a deploy cannot know where it goes.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// No region is configured.
    #[error(
        "no AWS region is set; set AWS_REGION, or `region` in the profile that AWS_PROFILE names"
    )]
    NoRegion,
    /// The workflow belongs elsewhere.
    #[error(
        "the workflow file says {what} {wanted}, but the credentials in use are of {found}; switch AWS_PROFILE or AWS_REGION, or change `{what}` in the workflow file"
    )]
    Elsewhere {
        /// `region` or `account`.
        what: &'static str,
        /// What the workflow file says.
        wanted: String,
        /// What the credentials say.
        found: String,
    },
    /// AWS could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Where the credentials in use lead to: their account, and the region configured.
///
/// # Errors
/// When no region is set, when there are no credentials, or AWS does not answer.
pub async fn place_of(config: &SdkConfig) -> Result<Place, PlaceError> {
    place_with(config, &Calls::default()).await
}

pub(crate) async fn place_with(config: &SdkConfig, calls: &Calls) -> Result<Place, PlaceError> {
    let region = config.region().ok_or(PlaceError::NoRegion)?.to_string();
    let action = "sts:GetCallerIdentity";
    let sts = aws_sdk_sts::config::Builder::from(config).interceptor(calls.clone()).build();
    let identity = aws_sdk_sts::Client::from_conf(sts)
        .get_caller_identity()
        .send()
        .await
        .map_err(failed(action, "the credentials in use"))?;
    let account = identity.account().ok_or_else(|| {
        CallError::unexpected(action, "the credentials in use", "no account came back")
    })?;
    Ok(Place::new(&region, account))
}

/// Whether a workflow may be deployed to a place.
///
/// # Errors
/// When the workflow file names another region or account.
pub fn check_place(workflow: &Workflow, place: &Place) -> Result<(), PlaceError> {
    let pairs = [
        ("region", &workflow.region, &place.region),
        ("account", &workflow.account, &place.account),
    ];
    for (what, wanted, found) in pairs {
        if let Some(wanted) = wanted
            && wanted != found
        {
            return Err(PlaceError::Elsewhere {
                what,
                wanted: wanted.clone(),
                found: found.clone(),
            });
        }
    }
    Ok(())
}
