//! The limits that Bellwire checks before AWS does, each with its source.

/// SNS: body plus attributes of one message, and the sum over one
/// `PublishBatch`, in bytes. Source: Amazon SNS API reference, `PublishBatch`.
pub const SNS_MESSAGE_BYTES_MAX: usize = 262_144;

/// SNS: entries of one `PublishBatch`. Source: Amazon SNS API reference, `PublishBatch`.
pub const SNS_BATCH_ENTRIES_MAX: usize = 10;

/// SNS: attributes of one message. With raw delivery to SQS a message with more
/// is discarded as a client error. Source: Amazon SNS developer guide, "Message attributes".
pub const SNS_ATTRIBUTES_MAX: usize = 10;

/// SNS and SQS: characters of a FIFO message's group id and deduplication id.
/// Source: Amazon SNS API reference, `Publish`.
pub const FIFO_ID_CHARS_MAX: usize = 128;

/// SNS: bytes of a display name that SMS shows; the field takes 100.
/// Source: Amazon SNS API reference, `SetTopicAttributes`.
pub const SNS_DISPLAY_NAME_CHARS_MAX: usize = 100;

/// SQS: messages of one `ReceiveMessage` or `DeleteMessageBatch`.
/// Source: Amazon SQS API reference.
pub const SQS_BATCH_ENTRIES_MAX: usize = 10;

/// S3: bytes of an object's key. Source: Amazon S3 user guide, "Naming Amazon S3 objects".
pub const S3_KEY_BYTES_MAX: usize = 1_024;

/// The largest payload that the handler fetches for an event, in bytes: ours, not
/// AWS's, so that no `dataref` fills a function's memory. A message
/// of the ingest queue has at most a sixteenth of it.
pub const CLAIM_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Step Functions: bytes of an execution's input. Source: AWS Step Functions
/// developer guide, "Service quotas".
pub const STEP_FUNCTIONS_INPUT_BYTES_MAX: usize = 262_144;

/// Step Functions: characters of an execution's name. Source: AWS Step
/// Functions API reference, `StartExecution`.
pub const STEP_FUNCTIONS_NAME_CHARS_MAX: usize = 80;

/// SageMaker: parameters of one execution of a pipeline, characters of a parameter's
/// name and of its value. Source: Amazon SageMaker API reference,
/// `StartPipelineExecution` and `Parameter`.
pub const PIPELINE_PARAMETERS_MAX: usize = 200;
/// See [`PIPELINE_PARAMETERS_MAX`].
pub const PIPELINE_PARAMETER_NAME_CHARS_MAX: usize = 256;
/// See [`PIPELINE_PARAMETERS_MAX`].
pub const PIPELINE_PARAMETER_VALUE_CHARS_MAX: usize = 1_024;

/// AWS Batch: bytes of one `SubmitJob`. Source: AWS Batch user guide, "AWS Batch
/// service quotas", "Maximum job payload size".
pub const BATCH_SUBMIT_BYTES_MAX: usize = 30 * 1_024;

/// The largest input of a run of Lambda's and the largest message to another topic or
/// queue, in bytes: ours, not AWS's, whose own limits are higher by now, but for those
/// of SNS. An input is kept whole in the ledger, whose rows have at most 400 KB.
pub const INPUT_BYTES_MAX: usize = 250_000;

/// Lambda: bytes of a zip that is uploaded directly. Source: AWS Lambda
/// developer guide, "Lambda quotas".
pub const LAMBDA_ZIP_BYTES_MAX: u64 = 50 * 1024 * 1024;

/// Lambda: bytes of a function's unpacked code. Source: AWS Lambda developer
/// guide, "Lambda quotas".
pub const LAMBDA_UNPACKED_BYTES_MAX: u64 = 250 * 1024 * 1024;

/// Characters of a Lambda function's, an IAM role's and an EventBridge rule's
/// name. Source: the `CreateFunction`, `CreateRole` and `PutRule` API references.
pub const NAME_CHARS_MAX: usize = 64;

/// Characters of an SQS queue's and a state machine's name. Source: the
/// `CreateQueue` and `CreateStateMachine` API references.
pub const LONG_NAME_CHARS_MAX: usize = 80;

/// Characters of a workflow's name, so that most names need no cutting.
pub const WORKFLOW_NAME_CHARS_MAX: usize = 32;

/// Characters of an environment's name, so that most names need no cutting.
pub const ENVIRONMENT_CHARS_MAX: usize = 16;

/// Step Functions keeps an execution's name taken for this many days after it
/// closed; a ledger row that lives shorter could let a name start twice.
/// Source: AWS Step Functions API reference, `StartExecution`.
pub const LEDGER_RETENTION_DAYS_MIN: u32 = 90;

/// How long a ledger row lives by default, in days.
pub const LEDGER_RETENTION_DAYS_DEFAULT: u32 = 400;

/// Events that may follow each other, each caused by the one before, before a
/// loop is assumed. Four stages make a chain of nine events.
pub const HOP_MAX: u32 = 32;

/// `max_starts_per_day` where a trigger sets none: one start in 86 s, so that
/// a loop does not burn a night's money unseen.
pub const STARTS_PER_DAY_DEFAULT: u32 = 1_000;

/// Expected duration of a run where a trigger sets none, in seconds. Past it
/// the sweep asks for the run's state.
pub const EXPECTED_DURATION_S_DEFAULT: u64 = 3_600;

/// The longest name of a probe, in characters: a bound of our own on what the ledger's key
/// is made of.
pub const PROBE_NAME_CHARS_MAX: usize = 100;
