//! From settings to connected edges: who and where we are, and whether what
//! the publisher needs has been deployed.

use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_sdk_sqs::config::ProvideCredentials as _;
use bellwire_ledger::Ledger;
use bellwire_schema::workflow::{SourceKind, Workflow};
use bellwire_schema::{Deployment, Place};
use bellwire_telemetry::client;
use bellwire_telemetry::metrics::{SPOOL_AGE, SPOOL_BYTES, SPOOL_EVENTS};
use jiff::Timestamp;

use crate::bridge::{Bridge, Edges};
use crate::call::{CallError, Trouble};
use crate::claim::{ClaimDesk, S3Claims};
use crate::counts::Counts;
use crate::enrich::{LedgerOrigins, S3Objects};
use crate::ingest::Ingest;
use crate::outbox::Outbox;
use crate::publish::{Outlet, SnsTopic};
use crate::quarantine::SqsDeadQueue;
use crate::ready::Health;
use crate::receive::SqsIngestQueue;
use crate::route::Rules;
use crate::settings::Settings;
use crate::spool::{Recovered, Spool, SpoolError};

/// How long one call may take, with what the SDK repeats of it.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one attempt of a call may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the SDK tries a call that fails for a passing reason.
const SDK_ATTEMPTS_MAX: u32 = 3;

/// Why the publisher cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No region is set.
    #[error(
        "no AWS region is set: set AWS_REGION, or `region` in the workflow file or your profile"
    )]
    NoRegion,
    /// The workflow is for another region.
    #[error(
        "the workflow file is for {wanted}, and the AWS settings for {found}: set AWS_REGION={wanted}"
    )]
    OtherRegion {
        /// What the workflow file says.
        wanted: String,
        /// What the AWS settings say.
        found: String,
    },
    /// There are no credentials, or they cannot be had.
    #[error(
        "no AWS credentials: give the process the workflow's publisher role, by a profile (AWS_PROFILE), AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of its container or instance"
    )]
    NoCredentials(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The spool cannot be opened.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Nothing answers.
    #[error("{endpoint} cannot be reached: check the network, and AWS_ENDPOINT_URL if it is set")]
    Unreachable {
        /// The endpoint, or the service.
        endpoint: String,
        /// What the network says.
        source: CallError,
    },
    /// The queue is not there.
    #[error(
        "there is no queue {queue} in account {account}, region {region}: deploy the workflow first (`cargo xtask deploy` or `bellwire apply`), and check --env"
    )]
    NoQueue {
        /// The queue's name.
        queue: String,
        /// The account.
        account: String,
        /// The region.
        region: String,
        /// What SQS says.
        source: CallError,
    },
    /// AWS refuses a call.
    #[error("AWS refuses {}: check that the credentials are valid, and those of the workflow's publisher role", .0.call)]
    Denied(#[source] CallError),
    /// A call failed for a passing reason.
    #[error("AWS did not answer {} well: try again", .0.call)]
    Unavailable(#[source] CallError),
}

/// A publisher that may begin.
pub struct Connected {
    /// The way from the ingest queue.
    pub bridge: Bridge,
    /// The way in over HTTP.
    pub ingest: Ingest,
    /// The way of what came in over HTTP.
    pub outbox: Outbox,
    /// What becomes of events, on both ways.
    pub counts: Arc<Counts>,
    /// Where all that is.
    pub place: Place,
}

/// Loads the AWS settings, finds account and queues, and makes the edges.
///
/// # Errors
///
/// Where region or credentials are missing, nothing answers, or the workflow
/// was not deployed here.
pub async fn connect(settings: &Settings) -> Result<Connected, ConnectError> {
    let config = load_config(settings).await?;
    let place = place_of(settings, &config).await?;
    let deployment = &settings.deployment;
    let sqs = client!(aws_sdk_sqs, &config);
    let (ingest_queue, dead_queue) = (deployment.ingest_queue(), deployment.dead_queue());
    let (queue_url, dead_url) = tokio::try_join!(
        queue_url(&sqs, &config, &place, &ingest_queue),
        queue_url(&sqs, &config, &place, &dead_queue),
    )?;
    let urls = QueueUrls { ingest: queue_url, dead: dead_url };
    let edges = edges(&config, &settings.workflow, deployment, &place, urls, settings.concurrency);
    let counts = Arc::new(Counts::default());
    let rules = Rules::new(&settings.workflow, deployment, &place);
    let queue_arn = place.queue_arn(&ingest_queue);
    // Without one no event is ever admitted, and no file is needed.
    let spool = match has_http_source(&settings.workflow) {
        true => open_spool(settings)?,
        false => Spool::in_memory(settings.spool_limits)?,
    };
    show(&spool);
    let bridge = Bridge::new(rules, edges.clone(), queue_arn, counts.clone());
    let health = Health {
        queue: bridge.health(),
        outlet: edges.outlet.clone(),
        spool: spool.clone(),
        limits: settings.spool_limits,
    };
    let topic_name = edges.outlet.topic_name().clone();
    let ingest = Ingest::new(&settings.workflow, topic_name, Arc::new(spool.clone()))
        .with_token(settings.token.clone())
        .with_claims(edges.claims.clone())
        .with_readiness(Arc::new(health));
    let Edges { outlet, dead, .. } = edges;
    let outbox = Outbox { spool, outlet, dead, counts: counts.clone() };
    Ok(Connected { ingest, outbox, bridge, counts, place })
}

/// The URLs of a workflow's queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueUrls {
    /// Of the ingest queue.
    pub ingest: String,
    /// Of the dead queue.
    pub dead: String,
}

/// The edges of a workflow in its place, with so many calls to the topic under way
/// at most.
#[must_use]
pub fn edges(
    config: &SdkConfig,
    workflow: &Workflow,
    deployment: &Deployment,
    place: &Place,
    urls: QueueUrls,
    concurrency: usize,
) -> Edges {
    let dynamodb = client!(aws_sdk_dynamodb, config);
    let retention_days = workflow.ledger.retention_days;
    let ledger = Ledger::new(dynamodb, &deployment.ledger_table(), retention_days);
    let topic_arn = place.topic_arn(&deployment.topic(workflow.topic.kind));
    let topic = SnsTopic::new(client!(aws_sdk_sns, config), topic_arn);
    let s3 = client!(aws_sdk_s3, config);
    let claims = workflow.claim_check.clone().map(|check| ClaimDesk {
        claims: Arc::new(S3Claims::new(s3.clone(), &check.bucket)),
        check,
    });
    let sqs = client!(aws_sdk_sqs, config);
    Edges {
        queue: Arc::new(SqsIngestQueue::new(sqs.clone(), urls.ingest)),
        outlet: Arc::new(Outlet::new(Arc::new(topic), concurrency)),
        dead: Arc::new(SqsDeadQueue::new(sqs, urls.dead)),
        objects: Arc::new(S3Objects::new(s3)),
        origins: Arc::new(LedgerOrigins::new(ledger)),
        claims,
    }
}

/// The AWS settings of the environment, under the bounds of every call of ours.
#[must_use]
pub fn config_loader() -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts)
        // It watches how fast long bodies flow; ours are short, and each call has its time.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .retry_config(RetryConfig::standard().with_max_attempts(SDK_ATTEMPTS_MAX))
}

/// Has the spool's metrics ask it.
pub fn show(spool: &Spool) {
    let depth = || {
        let spool = spool.clone();
        move || spool.depth()
    };
    let (events, bytes, oldest) = (depth(), depth(), depth());
    SPOOL_EVENTS.observe(move || events().events as f64);
    SPOOL_BYTES.observe(move || bytes().bytes as f64);
    SPOOL_AGE.observe(move || {
        let age = oldest().oldest_at.map(|at| Timestamp::now().duration_since(at));
        age.map_or(0.0, |age| age.as_secs_f64().max(0.0))
    });
}

/// Whether anything comes in over HTTP.
pub(crate) fn has_http_source(workflow: &Workflow) -> bool {
    workflow.sources.iter().any(|source| matches!(source.kind, SourceKind::Http(_)))
}

fn open_spool(settings: &Settings) -> Result<Spool, SpoolError> {
    let (spool, recovered) = Spool::open(&settings.spool, settings.spool_limits)?;
    if let Some(Recovered { set_aside, records, cause }) = recovered {
        tracing::error!(
            set_aside = %set_aside.display(), records, cause,
            "the spool was damaged: it is set aside, and what was whole in it goes on"
        );
    }
    let events = spool.depth().events;
    if events > 0 {
        tracing::info!(events, "the spool has events of before: they are published now");
    }
    Ok(spool)
}

pub(crate) async fn load_config(settings: &Settings) -> Result<SdkConfig, ConnectError> {
    let mut loader = config_loader();
    let wanted = settings.workflow.region.as_deref();
    let chain = aws_config::default_provider::region::DefaultRegionChain::builder().build();
    let found = chain.region().await.map(|region| region.as_ref().to_owned());
    match (wanted, found) {
        (None, None) => return Err(ConnectError::NoRegion),
        (Some(wanted), Some(found)) if wanted != found => {
            return Err(ConnectError::OtherRegion { wanted: wanted.to_owned(), found });
        }
        (Some(wanted), None) => {
            loader = loader.region(aws_config::Region::new(wanted.to_owned()));
        }
        (_, Some(found)) => loader = loader.region(aws_config::Region::new(found)),
    }
    let config = loader.load().await;
    match config.credentials_provider() {
        Some(provider) => provider
            .provide_credentials()
            .await
            .map_err(|error| ConnectError::NoCredentials(Box::new(error)))?,
        None => return Err(ConnectError::NoCredentials("the SDK has no provider".into())),
    };
    Ok(config)
}

pub(crate) async fn place_of(
    settings: &Settings,
    config: &SdkConfig,
) -> Result<Place, ConnectError> {
    let region = config.region().ok_or(ConnectError::NoRegion)?.as_ref();
    if let Some(account) = &settings.workflow.account {
        return Ok(Place::new(region, account));
    }
    let identity = client!(aws_sdk_sts, config).get_caller_identity().send().await;
    let identity = identity
        .map_err(|error| meaning_of(CallError::of("sts:GetCallerIdentity", &error), config))?;
    Ok(Place::new(region, identity.account().unwrap_or_default()))
}

pub(crate) async fn queue_url(
    client: &aws_sdk_sqs::Client,
    config: &SdkConfig,
    place: &Place,
    queue: &str,
) -> Result<String, ConnectError> {
    let answer = client.get_queue_url().queue_name(queue).send().await;
    match answer.map_err(|error| CallError::of("sqs:GetQueueUrl", &error)) {
        Ok(answer) => Ok(answer.queue_url.unwrap_or_default()),
        Err(source) if is_no_queue(&source) => Err(ConnectError::NoQueue {
            queue: queue.to_owned(),
            account: place.account.clone(),
            region: place.region.clone(),
            source,
        }),
        Err(error) => Err(meaning_of(error, config)),
    }
}

/// SQS's code by the query protocol, and by the JSON one.
fn is_no_queue(error: &CallError) -> bool {
    let code = error.code.as_deref().unwrap_or_default();
    code.ends_with("NonExistentQueue") || code == "QueueDoesNotExist"
}

pub(crate) fn meaning_of(error: CallError, config: &SdkConfig) -> ConnectError {
    if error.is_unanswered() {
        let service = || format!("AWS ({})", error.call.split(':').next().unwrap_or_default());
        let endpoint = config.endpoint_url().map_or_else(service, str::to_owned);
        return ConnectError::Unreachable { endpoint, source: error };
    }
    match error.trouble {
        Trouble::Unavailable => ConnectError::Unavailable(error),
        Trouble::Denied | Trouble::Refused => ConnectError::Denied(error),
    }
}
