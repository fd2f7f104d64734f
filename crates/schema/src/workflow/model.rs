//! What a workflow file says, after it was read and found sound.
//!
//! The model serialises to the `workflow.json` that lies beside the handler's
//! `bootstrap`; the TOML form is read by [`super::read`], never by serde.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event_type::{EventType, Stage};
use crate::id::claim_name;
use crate::limits::S3_KEY_BYTES_MAX;

use super::alarms::Alarms;
use super::lines::FileLines;
use super::security::{Security, TopicKey};

/// One workflow: everything that one `bellwire.toml` describes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workflow {
    /// Prefixes every name on AWS and stands in every tag.
    pub name: String,
    /// Where set, a deploy to another region is refused.
    pub region: Option<String>,
    /// Where set, a deploy to another account (12 digits) is refused.
    pub account: Option<String>,
    /// The SNS topic that every event travels through.
    pub topic: Topic,
    /// How the bridge from the ingest queue to the topic runs.
    pub publisher: Publisher,
    /// The Lambda function that starts the jobs.
    pub handler: Handler,
    /// The DynamoDB table of starts.
    pub ledger: Ledger,
    /// What is secure, and what every role has.
    pub security: Security,
    /// Where events go that are too large to travel; without it they are refused.
    pub claim_check: Option<ClaimCheck>,
    /// Where traces go.
    pub telemetry: Telemetry,
    /// What alarms there are, and whom they tell.
    pub alarms: Alarms,
    /// Event types that the workflow declares beside Bellwire's own.
    pub event_types: Vec<CustomEventType>,
    /// Where events come from.
    pub sources: Vec<Source>,
    /// Lambda functions of the user's own, which state machines call.
    pub functions: Vec<Function>,
    /// Who else listens on the topic.
    pub subscribers: Vec<Subscriber>,
    /// On which event, what starts.
    pub triggers: Vec<Trigger>,
    /// Where in the file its tables stand.
    #[serde(skip)]
    pub lines: FileLines,
}

/// `[topic]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Standard, or FIFO: in order for each dataset.
    pub kind: TopicKind,
    /// What e-mail and SMS subscribers see as the sender; the workflow's name by default.
    pub display_name: Option<String>,
    /// A customer key; the AWS-managed key of SNS by default.
    pub kms_key: Option<TopicKey>,
}

/// The two kinds of SNS topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopicKind {
    /// At least once, in no order.
    Standard,
    /// In order within a message group, deduplicated for five minutes.
    Fifo,
}

/// `[publisher]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publisher {
    /// As a process beside an application, or as a Lambda function.
    pub run: PublisherRun,
    /// Service principals (`ecs-tasks.amazonaws.com`) and role or account ARNs
    /// that may assume the publisher's role.
    pub trusted_by: Vec<String>,
    /// As a function: the zip that holds its `bootstrap`, relative to the project's root.
    pub artifact: String,
    /// As a function: its memory, in MiB.
    pub memory_mb: u32,
    /// As a function: its timeout, in seconds.
    pub timeout_s: u32,
    /// As a function: environment variables beside those that Bellwire sets.
    pub environment: BTreeMap<String, String>,
    /// As a function: days that its log group keeps.
    pub log_retention_days: u32,
}

/// How the publisher runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublisherRun {
    /// A long-running process.
    Sidecar,
    /// A Lambda function on the ingest queue's event source.
    Lambda,
}

/// `[handler]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handler {
    /// SNS straight to Lambda, or through a work queue.
    pub delivery: Delivery,
    /// The zip that holds the handler's `bootstrap`, relative to the project's root.
    pub artifact: String,
    /// Memory of the function, in MiB.
    pub memory_mb: u32,
    /// Timeout of the function, in seconds.
    pub timeout_s: u32,
    /// Environment variables beside those that Bellwire sets.
    pub environment: BTreeMap<String, String>,
    /// Days that its log group keeps.
    pub log_retention_days: u32,
}

/// How messages reach the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// SNS invokes the function.
    Direct,
    /// SNS fills an SQS queue, from which Lambda takes batches.
    Queued,
}

/// `[ledger]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Days that a start is remembered: at least [`crate::limits::LEDGER_RETENTION_DAYS_MIN`].
    pub retention_days: u32,
    /// Whether the table refuses to be deleted until that is switched off.
    pub deletion_protection: bool,
}

/// `[claim_check]`: the payload of an event that is too large for SNS goes to S3,
/// and the event carries its URI as `dataref` (CloudEvents' claim check extension).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimCheck {
    /// The bucket, which must exist or be one that an S3 source makes.
    pub bucket: String,
    /// What the keys of the payloads begin with; it ends in a slash.
    pub prefix: String,
}

impl ClaimCheck {
    /// The key of an event's payload: the same for every repetition of the event.
    #[must_use]
    pub fn key_of(&self, event_source: &str, event_id: &str) -> String {
        format!("{}{}", self.prefix, claim_name(event_source, event_id))
    }

    /// The `dataref` of the payload under a key.
    #[must_use]
    pub fn uri_of(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }

    /// The key that a `dataref` points to, where that is under this claim check's
    /// bucket and prefix; `None` for every other URI, which anyone may have sent.
    #[must_use]
    pub fn key_in<'a>(&self, dataref: &'a str) -> Option<&'a str> {
        let path = dataref.strip_prefix("s3://")?.strip_prefix(&self.bucket)?;
        let key = path.strip_prefix('/')?;
        let name = key.strip_prefix(&self.prefix)?;
        // S3 takes a key as it is written; whatever stands between may not.
        let is_plain = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        (is_plain && key.len() <= S3_KEY_BYTES_MAX).then_some(key)
    }
}

/// `[telemetry]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telemetry {
    /// Base URL of an OTLP/HTTP receiver, set as `OTEL_EXPORTER_OTLP_ENDPOINT`
    /// on every function; nothing is exported without one.
    pub otlp_endpoint: Option<String>,
}

/// `[[event]]`: an event type of the workflow's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CustomEventType {
    /// Its full name, `ml.<noun>.<verb>.v<N>`.
    pub event_type: EventType,
    /// The JSON Schema file of its payload, relative to the workflow file.
    pub schema: Option<String>,
}

/// `[[source]]`: where events come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its name in this file.
    pub name: String,
    /// The dataset that its events belong to.
    pub dataset: Option<String>,
    /// At most so long between two of its events, in seconds, or an alarm says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_s: Option<u64>,
    /// What it watches.
    pub kind: SourceKind,
}

/// What a source watches, and what it emits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// Objects of a bucket.
    S3(S3Source),
    /// A clock.
    Schedule(ScheduleSource),
    /// Completions of state machine executions that Bellwire did not start.
    StepFunctions(CompletionSource),
    /// Completions of SageMaker jobs and pipelines.
    Sagemaker(CompletionSource),
    /// Completions of AWS Batch jobs.
    Batch(CompletionSource),
    /// Events that applications post to the publisher.
    Http(HttpSource),
}

/// `kind = "s3"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Source {
    /// The bucket's name.
    pub bucket: String,
    /// Only keys that start so; empty: all.
    pub prefix: String,
    /// Only keys that end so; empty: all.
    pub suffix: String,
    /// `ml.data.arrived.v1` for created objects, `ml.data.removed.v1` for removed ones.
    pub emits: EventType,
    /// Whether the deploy makes the bucket; otherwise it must exist.
    pub create: bool,
    /// Through the publisher, or from S3 straight to the topic.
    pub via: Via,
    /// Whether trace and correlation are read from the object's metadata.
    pub context: ContextFrom,
    /// What makes two notifications the same event.
    pub identity: Identity,
    /// The account that the bucket is of, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The ARN of the KMS key under which its objects are encrypted, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<String>,
}

/// Which way an S3 notification takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// S3 to the ingest queue to the publisher to the topic.
    Publisher,
    /// S3 to the topic.
    Topic,
}

/// Where an S3 event takes its trace and correlation from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContextFrom {
    /// From nowhere: each object begins a trace.
    None,
    /// From the object's `x-amz-meta-traceparent`, `-correlationid`, `-causationid` and `-hop`.
    Metadata,
}

/// What the id of an S3 event is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// Bucket, key and version: each write is an event.
    Version,
    /// Bucket, key and eTag: the same bytes under the same key are one event.
    Content,
}

/// `kind = "schedule"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleSource {
    /// An EventBridge expression: `rate(1 day)` or `cron(0 3 * * ? *)`.
    pub expression: String,
    /// The type of its events.
    pub emits: EventType,
    /// The payload's `parameters`.
    pub parameters: BTreeMap<String, Value>,
}

/// `kind = "step-functions" | "sagemaker" | "batch"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionSource {
    /// Name or ARN of the state machine, of the pipeline or job-name prefix, of the job queue.
    pub resource: String,
    /// The stage whose `completed` and `failed` events it emits.
    pub stage: Stage,
}

/// `kind = "http"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpSource {
    /// The type that applications may post.
    pub emits: EventType,
}

/// `[[function]]`: a Lambda function of the user's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name in this file; `${function:NAME}` in a state machine's definition is its ARN.
    pub name: String,
    /// Its zip, relative to the project's root.
    pub artifact: String,
    /// What its role may do.
    pub access: Vec<Access>,
    /// Memory, in MiB.
    pub memory_mb: u32,
    /// Timeout, in seconds.
    pub timeout_s: u32,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Days that its log group keeps.
    pub log_retention_days: u32,
}

/// One line of `access`: `s3:read wine-lake/raw/*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// What may be done.
    pub verb: AccessVerb,
    /// The bucket.
    pub bucket: String,
    /// The keys: everything after the first slash, `*` at the end matches any.
    pub keys: String,
}

/// What an `access` line grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessVerb {
    /// `s3:GetObject`, and `s3:ListBucket` within the prefix, so that a missing key is a 404.
    S3Read,
    /// `s3:PutObject`.
    S3Write,
    /// `s3:DeleteObject`.
    S3Delete,
}

/// `[[subscriber]]`: who else is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscriber {
    /// Its name in this file.
    pub name: String,
    /// How it is reached.
    pub protocol: Protocol,
    /// E-mail address, URL, or ARN; empty where the deploy makes the queue.
    pub endpoint: String,
    /// Whether the deploy makes its queue.
    pub create: bool,
    /// Whether it gets the envelope itself, without SNS's wrapping around it.
    pub raw: bool,
    /// The types that it is told of; empty: all.
    pub on: Vec<EventType>,
    /// Which of those events: a filter policy over the envelope, as JSON; `None`: all.
    pub condition: Option<Value>,
}

/// The protocols of SNS that a subscriber may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// An e-mail address, which must confirm.
    Email,
    /// An HTTPS URL, which must confirm.
    Https,
    /// A queue's ARN.
    Sqs,
    /// A function's ARN.
    Lambda,
}

/// `[[trigger]]`: on which event, where, gathered how, starting what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// Its name in this file.
    pub name: String,
    /// The stage that its runs are of.
    pub stage: Stage,
    /// The types that it starts on: at least one.
    pub on: Vec<EventType>,
    /// The filter policy over the envelope (body scope), as JSON; `None`: all.
    pub condition: Option<Value>,
    /// Many events, one start.
    pub gather: Option<Gather>,
    /// What holds starts back.
    pub guards: Guards,
    /// What is started.
    pub target: Target,
    /// The run's input: a template whose strings that begin with `$` are
    /// JSONPath queries into the event; `None`: the event.
    pub input: Option<Value>,
    /// How long a run may be expected to take, in seconds; past it the sweep
    /// asks the target for the run's state.
    pub expected_duration_s: u64,
    /// Where its runs write objects, as far as the file says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<ObjectPrefix>,
}

/// Objects of one bucket: `s3://bucket/prefix/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectPrefix {
    /// The bucket's name.
    pub bucket: String,
    /// What their keys begin with; empty: all.
    pub prefix: String,
}

impl std::fmt::Display for ObjectPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

/// `gather = { … }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gather {
    /// When a window is complete.
    pub until: GatherUntil,
    /// What keys the windows; `None`: the members' prefix.
    pub by: Option<String>,
    /// From its first event to its deadline, in seconds.
    pub within_s: u64,
    /// What becomes of a window whose deadline passes.
    pub on_deadline: OnDeadline,
}

/// When a gather window is complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatherUntil {
    /// An object whose name after the last slash is this has arrived.
    Marker(String),
    /// An object of this name, which lists the members, and all that it lists have arrived.
    Manifest(String),
    /// So many events have arrived.
    Count(u64),
    /// No event has arrived for so many seconds.
    QuietS(u64),
    /// One event of each type has arrived.
    AllOf(Vec<EventType>),
}

/// What becomes of a gather window whose deadline passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDeadline {
    /// The run starts with what is there.
    Start,
    /// The window goes to the dead queue.
    Dead,
}

/// What holds a trigger's starts back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guards {
    /// Seconds between two starts.
    pub cooldown_s: Option<u64>,
    /// Runs at one time.
    pub max_concurrent: Option<u32>,
    /// Starts in one UTC day.
    pub max_starts_per_day: Option<u32>,
    /// Whether what is held back waits or is dropped.
    pub when_held: WhenHeld,
}

/// What becomes of a start that a guard holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenHeld {
    /// It waits for the sweep to release it.
    Wait,
    /// It is dropped, and recorded as dropped.
    Drop,
}

/// `start = { … }`: what a trigger starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// An execution of a state machine.
    StepFunctions(StateMachine),
    /// An execution of a SageMaker pipeline, by name or ARN.
    SagemakerPipeline(String),
    /// A job of AWS Batch.
    Batch(BatchTarget),
    /// An asynchronous invocation of a function, by name or ARN.
    Lambda(String),
    /// A message to another topic, by ARN.
    Sns(String),
    /// A message to another queue, by ARN.
    Sqs(String),
}

/// A state machine that a trigger starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateMachine {
    /// Ours: made from this definition file (`*.asl.json`, relative to the
    /// workflow file) under the trigger's name.
    Definition(String),
    /// Somebody's: this ARN.
    Arn(String),
}

/// `start = { batch = { … } }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchTarget {
    /// Name or ARN of the job queue.
    pub job_queue: String,
    /// Name or ARN of the job definition.
    pub job_definition: String,
}
