//! Every key of the workflow file: what the reader knows, and what `docs/workflow-file.md` shows.

/// A key's part in the file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Need {
    /// It must be there. With an example, as TOML.
    Required(&'static str),
    /// Without it, something is not done, or is decided elsewhere. With an example, as TOML.
    Optional(&'static str),
    /// Without it, this value holds, as TOML.
    Default(&'static str),
}

impl Need {
    pub(super) fn example(self) -> &'static str {
        match self {
            Self::Required(example) | Self::Optional(example) | Self::Default(example) => example,
        }
    }
}

/// A key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// Its type, with its article.
    pub(super) takes: &'static str,
    pub(super) need: Need,
    pub(super) meaning: &'static str,
}

/// The keys of one table.
#[derive(Debug)]
pub(super) struct TableKeys {
    /// How the page names the table.
    pub(super) heading: &'static str,
    pub(super) keys: &'static [Key],
}

impl Key {
    /// Its row in the page.
    fn row(&self) -> String {
        let default = match self.need {
            Required(example) => format!("required, as in `{example}`"),
            Optional("[]") => "none".to_owned(),
            Optional(example) => format!("none; as in `{example}`"),
            Default(value) => format!("`{value}`"),
        };
        format!("| `{}` | {} | {default} | {} |\n", self.name, self.takes, self.meaning)
    }
}

/// Every table of the workflow file with all its keys, as Markdown: what the second half of
/// `docs/workflow-file.md` is made of.
#[must_use]
pub fn reference() -> String {
    let table = |table: &&TableKeys| {
        let rows: String = table.keys.iter().map(Key::row).collect();
        format!(
            "### {}\n\n| Key | Takes | Default | Meaning |\n| --- | --- | --- | --- |\n{rows}",
            table.heading
        )
    };
    ALL.iter().map(table).collect::<Vec<_>>().join("\n")
}

use Need::{Default, Optional, Required};

const fn key(name: &'static str, takes: &'static str, need: Need, meaning: &'static str) -> Key {
    Key { name, takes, need, meaning }
}

/// All tables, in the order of the page.
pub(super) const ALL: [&TableKeys; 22] = [
    &ROOT,
    &TOPIC,
    &PUBLISHER,
    &HANDLER,
    &LEDGER,
    &SECURITY,
    &CLAIM_CHECK,
    &TELEMETRY,
    &ALARMS,
    &EVENT,
    &SOURCE,
    &SOURCE_S3,
    &SOURCE_SCHEDULE,
    &SOURCE_COMPLETION,
    &SOURCE_HTTP,
    &FUNCTION,
    &SUBSCRIBER,
    &TRIGGER,
    &GATHER,
    &GUARDS,
    &START,
    &START_BATCH,
];

pub(super) const ROOT: TableKeys = TableKeys {
    heading: "top level",
    keys: &[
        key(
            "workflow",
            "a string",
            Required("\"wine\""),
            "The workflow's name, which prefixes every name on AWS and stands in every tag: lower-case letters, digits and hyphens, at most 32.",
        ),
        key(
            "region",
            "a string",
            Optional("\"eu-west-1\""),
            "The only region that it may be deployed to.",
        ),
        key(
            "account",
            "a string",
            Optional("\"123456789012\""),
            "The only account that it may be deployed to: 12 digits.",
        ),
        key("topic", "a table", Optional("{ kind = \"standard\" }"), "See `[topic]`."),
        key("publisher", "a table", Optional("{ run = \"sidecar\" }"), "See `[publisher]`."),
        key("handler", "a table", Optional("{ delivery = \"direct\" }"), "See `[handler]`."),
        key("ledger", "a table", Optional("{ retention_days = 400 }"), "See `[ledger]`."),
        key("security", "a table", Optional("{ tls_only = true }"), "See `[security]`."),
        key(
            "claim_check",
            "a table",
            Optional("{ bucket = \"wine-lake\" }"),
            "See `[claim_check]`.",
        ),
        key(
            "telemetry",
            "a table",
            Optional("{ otlp_endpoint = \"http://localhost:4318\" }"),
            "See `[telemetry]`.",
        ),
        key(
            "alarms",
            "a table",
            Optional("{ email = \"on-call@example.com\" }"),
            "See `[alarms]`.",
        ),
        key("event", "a list of tables", Optional("[]"), "See `[[event]]`."),
        key("source", "a list of tables", Optional("[]"), "See `[[source]]`."),
        key("function", "a list of tables", Optional("[]"), "See `[[function]]`."),
        key("subscriber", "a list of tables", Optional("[]"), "See `[[subscriber]]`."),
        key("trigger", "a list of tables", Optional("[]"), "See `[[trigger]]`."),
    ],
};

pub(super) const TOPIC: TableKeys = TableKeys {
    heading: "`[topic]`",
    keys: &[
        key(
            "kind",
            "a string",
            Default("\"standard\""),
            "`standard`, or `fifo`: in order within a group, which is a dataset where events have no `partitionkey`. FIFO takes `delivery = \"queued\"`, a publisher that runs as a sidecar, no source with `via = \"topic\"`, and subscribers by SQS only.",
        ),
        key(
            "display_name",
            "a string",
            Optional("\"Wine quality\""),
            "What e-mail subscribers see as the sender, at most 100 characters; without it, the workflow's name.",
        ),
        key(
            "kms_key",
            "a string",
            Optional("\"create\""),
            "The customer key that encrypts the topic: `create` has one made, with a policy that admits who publishes; or ARN, id or alias of one that exists. Without it, the key that AWS manages for SNS.",
        ),
    ],
};

pub(super) const PUBLISHER: TableKeys = TableKeys {
    heading: "`[publisher]`",
    keys: &[
        key(
            "run",
            "a string",
            Default("\"sidecar\""),
            "`sidecar`: a process beside an application; `lambda`: a function on the ingest queue, which takes no HTTP.",
        ),
        key(
            "trusted_by",
            "a list of strings",
            Default("[]"),
            "Who may assume the publisher's role: service principals (`ecs-tasks.amazonaws.com`), account numbers, or ARNs of roles, users and accounts.",
        ),
        key(
            "artifact",
            "a string",
            Default("\"target/lambda/bellwire-publisher-lambda.zip\""),
            "As a function: the zip that holds its `bootstrap`, relative to the project's root.",
        ),
        key(
            "memory_mb",
            "an integer",
            Default("256"),
            "As a function: memory in MiB, from 128 to 10240.",
        ),
        key(
            "timeout_s",
            "an integer",
            Default("60"),
            "As a function: timeout in seconds, from 1 to 900.",
        ),
        key(
            "environment",
            "a table of strings",
            Default("{}"),
            "As a function: environment variables beside those that Bellwire and Lambda set.",
        ),
        key(
            "log_retention_days",
            "an integer",
            Default("30"),
            "As a function: days that its log group keeps, one of the numbers that CloudWatch Logs takes.",
        ),
    ],
};

pub(super) const HANDLER: TableKeys = TableKeys {
    heading: "`[handler]`",
    keys: &[
        key(
            "delivery",
            "a string",
            Default("\"direct\""),
            "`direct`: SNS invokes the function; `queued`: SNS fills a queue, from which Lambda takes batches, which bursts and the targets `batch` and `lambda` need.",
        ),
        key(
            "artifact",
            "a string",
            Default("\"target/lambda/bellwire-handler.zip\""),
            "The zip that holds the handler's `bootstrap`, relative to the project's root.",
        ),
        key("memory_mb", "an integer", Default("256"), "Memory in MiB, from 128 to 10240."),
        key("timeout_s", "an integer", Default("60"), "Timeout in seconds, from 1 to 900."),
        key(
            "environment",
            "a table of strings",
            Default("{}"),
            "Environment variables beside those that Bellwire and Lambda set. Its calls trust Amazon's \
             certification authorities; `SSL_CERT_FILE` names others, as for a proxy that ends TLS.",
        ),
        key(
            "log_retention_days",
            "an integer",
            Default("30"),
            "Days that its log group keeps: one of the numbers that CloudWatch Logs takes.",
        ),
    ],
};

pub(super) const LEDGER: TableKeys = TableKeys {
    heading: "`[ledger]`",
    keys: &[
        key(
            "retention_days",
            "an integer",
            Default("400"),
            "Days that a start is remembered, from 90 (Step Functions takes a name again after 90) to 3650.",
        ),
        key(
            "deletion_protection",
            "a boolean",
            Default("true"),
            "Whether the table refuses to be deleted until this is switched off.",
        ),
    ],
};

pub(super) const SECURITY: TableKeys = TableKeys {
    heading: "`[security]`",
    keys: &[
        key(
            "encrypt_topic",
            "a boolean",
            Default("true"),
            "Whether SNS encrypts what it keeps: with `[topic] kms_key`, or the key that AWS manages for it.",
        ),
        key(
            "encrypt_queues",
            "a boolean",
            Default("true"),
            "Whether SQS encrypts what it keeps, with a key of its own (SSE-SQS).",
        ),
        key(
            "tls_only",
            "a boolean",
            Default("true"),
            "Whether topic, queues and the buckets that the deploy makes refuse what does not come over TLS.",
        ),
        key(
            "block_public_access",
            "a boolean",
            Default("true"),
            "Whether the buckets that the deploy makes have all of S3's four blocks of public access.",
        ),
        key(
            "bucket_versioning",
            "a boolean",
            Default("true"),
            "Whether the buckets that the deploy makes keep every version of an object. Switched off later, what there is stays.",
        ),
        key(
            "point_in_time_recovery",
            "a boolean",
            Default("true"),
            "Whether the ledger can be restored to any second of the last 35 days.",
        ),
        key(
            "permissions_boundary",
            "a string",
            Optional("\"ml-boundary\""),
            "A managed policy that no role of the workflow may go beyond: its name, or its ARN. It must exist.",
        ),
        key(
            "role_path",
            "a string",
            Default("\"/\""),
            "What the IAM paths of all roles begin with, as in `/teams/ml/`; then come `bellwire/` and the workflow's name.",
        ),
    ],
};

pub(super) const CLAIM_CHECK: TableKeys = TableKeys {
    heading: "`[claim_check]`",
    keys: &[
        key(
            "bucket",
            "a string",
            Required("\"wine-lake\""),
            "The bucket where payloads go that are too large for SNS: the event carries their URI as `dataref`. It must exist, or be one that an S3 source makes.",
        ),
        key(
            "prefix",
            "a string",
            Default("\"claims/\""),
            "What their keys begin with, outside what any S3 source watches. Let a lifecycle rule of the bucket expire them after 30 days or more: SNS tries for 23.",
        ),
    ],
};

pub(super) const TELEMETRY: TableKeys = TableKeys {
    heading: "`[telemetry]`",
    keys: &[key(
        "otlp_endpoint",
        "a string",
        Optional("\"http://localhost:4318\""),
        "Base URL of an OTLP/HTTP receiver, given to every function; without it nothing is exported.",
    )],
};

pub(super) const ALARMS: TableKeys = TableKeys {
    heading: "`[alarms]`",
    keys: &[
        key("enabled", "a boolean", Default("true"), "Whether there are alarms at all."),
        key(
            "email",
            "a string",
            Optional("\"ml-on-call@example.com\""),
            "Whom the alarms tell: an e-mail address, which must confirm; for it a topic of the alarms' own is made.",
        ),
        key(
            "topic",
            "a string",
            Optional("\"arn:aws:sns:eu-west-1:123456789012:on-call\""),
            "Instead of `email`: the ARN of a standard topic of yours, in the deploy's region.",
        ),
        key(
            "queue_age",
            "a duration",
            Default("\"15m\""),
            "The alarm `queue-age` goes off when a message has waited in the ingest or the work queue for so long.",
        ),
        key(
            "skip",
            "a list of strings",
            Default("[]"),
            "Alarms that are not made: `dead-queue`, `queue-age`, `handler-errors`, `handler-throttles`, `deliveries`, `runs`, `expected`.",
        ),
        key(
            "dashboard",
            "a boolean",
            Default("true"),
            "Whether a CloudWatch dashboard of the workflow is made.",
        ),
    ],
};

pub(super) const EVENT: TableKeys = TableKeys {
    heading: "`[[event]]`",
    keys: &[
        key(
            "type",
            "a string",
            Required("\"label.reviewed\""),
            "An event type of your own: `<noun>.<verb>`, or in full `ml.<noun>.<verb>.v<N>`.",
        ),
        key(
            "schema",
            "a string",
            Optional("\"schemas/label-reviewed.json\""),
            "The JSON Schema of its payload: a `.json` file, relative to the workflow file; without it the payload is not checked.",
        ),
    ],
};

pub(super) const SOURCE: TableKeys = TableKeys {
    heading: "`[[source]]`",
    keys: &[
        key(
            "name",
            "a string",
            Required("\"raw\""),
            "Its name in this file: lower-case letters, digits and hyphens.",
        ),
        key(
            "kind",
            "a string",
            Required("\"s3\""),
            "`s3`, `schedule`, `step-functions`, `sagemaker`, `batch` or `http`; the further keys depend on it.",
        ),
        key("dataset", "a string", Optional("\"wine\""), "The dataset that its events belong to."),
        key(
            "expected",
            "a duration",
            Optional("\"24h\""),
            "An alarm goes off when the handler has heard of no event of it for so long: whole minutes from 5m to 24h, or whole hours to 7d.",
        ),
    ],
};

pub(super) const SOURCE_S3: TableKeys = TableKeys {
    heading: "`[[source]]` with `kind = \"s3\"`",
    keys: &[
        key("bucket", "a string", Required("\"wine-lake\""), "The bucket's name."),
        key("prefix", "a string", Default("\"\""), "Only objects whose keys start so; empty: all."),
        key("suffix", "a string", Default("\"\""), "Only objects whose keys end so; empty: all."),
        key(
            "emits",
            "a string",
            Default("\"data.arrived\""),
            "`data.arrived` for objects that were created, `data.removed` for objects that were removed.",
        ),
        key(
            "create",
            "a boolean",
            Default("false"),
            "Whether the deploy makes the bucket; otherwise it must exist.",
        ),
        key(
            "via",
            "a string",
            Default("\"publisher\""),
            "`publisher`: through the ingest queue; `topic`: S3 notifies the topic itself, which needs `[topic] kms_key`.",
        ),
        key(
            "context",
            "a string",
            Default("\"none\""),
            "`metadata`: trace and correlation are read from the object's metadata; `none`: each object begins a trace.",
        ),
        key(
            "identity",
            "a string",
            Default("\"version\""),
            "`version`: each write is an event; `content`: the same bytes under the same key are one event, which markers cannot have.",
        ),
        key(
            "account",
            "a string",
            Optional("\"210987654321\""),
            "The bucket's account, where that is another one: 12 digits. The plan prints what its owner must add.",
        ),
        key(
            "kms_key",
            "a string",
            Optional(
                "\"arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab\"",
            ),
            "The ARN of the KMS key under which its objects are encrypted: who reads them may decrypt with it. With `create = true` the bucket encrypts with it.",
        ),
    ],
};

pub(super) const SOURCE_SCHEDULE: TableKeys = TableKeys {
    heading: "`[[source]]` with `kind = \"schedule\"`",
    keys: &[
        key(
            "expression",
            "a string",
            Required("\"rate(1 day)\""),
            "An EventBridge expression: `rate(1 day)` or `cron(0 3 * * ? *)`, in UTC.",
        ),
        key(
            "emits",
            "a string",
            Required("\"collection.requested\""),
            "A stage's `requested`, or a type of `[[event]]`.",
        ),
        key("parameters", "a table", Default("{}"), "The payload's `parameters`."),
    ],
};

pub(super) const SOURCE_COMPLETION: TableKeys = TableKeys {
    heading: "`[[source]]` with `kind = \"step-functions\"`, `\"sagemaker\"` or `\"batch\"`",
    keys: &[
        key(
            "resource",
            "a string",
            Required("\"nightly-training\""),
            "Whose completions: name or ARN of a state machine, of a SageMaker pipeline (or the prefix of job names), of a Batch job queue.",
        ),
        key(
            "stage",
            "a string",
            Required("\"training\""),
            "The stage whose `completed` and `failed` it emits.",
        ),
    ],
};

pub(super) const SOURCE_HTTP: TableKeys = TableKeys {
    heading: "`[[source]]` with `kind = \"http\"`",
    keys: &[key(
        "emits",
        "a string",
        Required("\"collection.requested\""),
        "The type that applications may post to the publisher.",
    )],
};

pub(super) const FUNCTION: TableKeys = TableKeys {
    heading: "`[[function]]`",
    keys: &[
        key(
            "name",
            "a string",
            Required("\"worker\""),
            "Its name in this file; `${function:worker}` in a state machine's definition becomes its ARN.",
        ),
        key(
            "artifact",
            "a string",
            Required("\"target/lambda/wine-worker.zip\""),
            "Its zip, relative to the project's root.",
        ),
        key(
            "access",
            "a list of strings",
            Default("[]"),
            "What its role may do: `s3:read`, `s3:write` or `s3:delete`, a blank, and `bucket/keys`, where a `*` at the end matches any rest.",
        ),
        key("memory_mb", "an integer", Default("1024"), "Memory in MiB, from 128 to 10240."),
        key("timeout_s", "an integer", Default("300"), "Timeout in seconds, from 1 to 900."),
        key(
            "environment",
            "a table of strings",
            Default("{}"),
            "Environment variables beside those that Bellwire and Lambda set.",
        ),
        key(
            "log_retention_days",
            "an integer",
            Default("30"),
            "Days that its log group keeps: one of the numbers that CloudWatch Logs takes.",
        ),
    ],
};

pub(super) const SUBSCRIBER: TableKeys = TableKeys {
    heading: "`[[subscriber]]`",
    keys: &[
        key("name", "a string", Required("\"on-call\""), "Its name in this file."),
        key(
            "protocol",
            "a string",
            Required("\"email\""),
            "`email`, `https`, `sqs` or `lambda`. The first two must confirm.",
        ),
        key(
            "endpoint",
            "a string",
            Optional("\"ml-on-call@example.com\""),
            "The e-mail address, the URL, or the ARN of the queue or function. It must be there, unless `create = true`.",
        ),
        key(
            "create",
            "a boolean",
            Default("false"),
            "For `sqs`: whether the deploy makes the queue, `<workflow>-to-<name>`; then there is no `endpoint`.",
        ),
        key(
            "raw",
            "a boolean",
            Default("false"),
            "For `https` and `sqs`: whether the envelope comes as it is, and not in SNS's wrapping.",
        ),
        key(
            "on",
            "a string or a list of strings",
            Default("[]"),
            "The types that it is told of; an empty list: all.",
        ),
        key(
            "where",
            "a table",
            Optional("{ dataset = [\"wine\"] }"),
            "Which of those events: an SNS filter policy over the envelope; without it, all.",
        ),
    ],
};

pub(super) const TRIGGER: TableKeys = TableKeys {
    heading: "`[[trigger]]`",
    keys: &[
        key(
            "name",
            "a string",
            Required("\"train\""),
            "Its name in this file, and of the state machine that is made for it.",
        ),
        key(
            "stage",
            "a string",
            Required("\"training\""),
            "The stage that its runs are of: `collection`, `training`, `evaluation` or `prediction`.",
        ),
        key(
            "on",
            "a string or a list of strings",
            Required("\"data.arrived\""),
            "The event types that it starts on.",
        ),
        key(
            "where",
            "a table",
            Optional("{ dataset = [\"wine\"] }"),
            "Which of those events: an SNS filter policy over the envelope; without it, all.",
        ),
        key(
            "gather",
            "a table",
            Optional("{ marker = \"_SUCCESS\" }"),
            "Many events, one start: see `gather`.",
        ),
        key("guards", "a table", Default("{}"), "What holds starts back: see `guards`."),
        key(
            "start",
            "a table",
            Required("{ step-functions = \"workflows/train.asl.json\" }"),
            "What is started: see `start`.",
        ),
        key(
            "input",
            "a table",
            Optional("{ data = \"$.data\", model = \"champion\" }"),
            "The run's input, in which strings that begin with `$` are JSONPath (RFC 9535) into the event; without it, the event. Bellwire adds the key `bellwire`.",
        ),
        key(
            "expected_duration",
            "a duration",
            Default("\"1h\""),
            "How long a run may be expected to take; past it, Bellwire asks for its state.",
        ),
        key(
            "outputs",
            "a list of strings",
            Optional("[\"s3://wine-lake/models/\"]"),
            "Where its runs write objects. A file is refused in which that leads back to the trigger, over sources and other triggers.",
        ),
    ],
};

pub(super) const GATHER: TableKeys = TableKeys {
    heading: "`gather` of a `[[trigger]]`",
    keys: &[
        key(
            "marker",
            "a string",
            Optional("\"_SUCCESS\""),
            "Complete when an object of this name, after its last slash, has arrived. Exactly one of `marker`, `manifest`, `count`, `quiet` and `all_of` must be there.",
        ),
        key(
            "manifest",
            "a string",
            Optional("\"manifest.json\""),
            "Complete when an object of this name has arrived, and all that it lists.",
        ),
        key(
            "count",
            "an integer",
            Optional("200"),
            "Complete when so many events have arrived, from 1 to 100000.",
        ),
        key(
            "quiet",
            "a duration",
            Optional("\"5m\""),
            "Complete when no event has arrived for so long, as the sweep sees once a minute, or a hint where it is under a minute; shorter than `within`.",
        ),
        key(
            "all_of",
            "a list of strings",
            Optional("[\"data.arrived\", \"training.completed\"]"),
            "Complete when one event of each of these types has arrived; each must also be in the trigger's `on`.",
        ),
        key(
            "by",
            "a string",
            Optional("\"$.dataset\""),
            "What tells windows apart: JSONPath into the event; without it, the prefix of the objects, or the dataset where the trigger starts on other events too.",
        ),
        key(
            "within",
            "a duration",
            Default("\"1h\""),
            "From a window's first event to its deadline.",
        ),
        key(
            "on_deadline",
            "a string",
            Default("\"dead\""),
            "What becomes of a window that is not complete then: `dead`, it goes to the dead queue; `start`, the run starts with what is there.",
        ),
    ],
};

pub(super) const GUARDS: TableKeys = TableKeys {
    heading: "`guards` of a `[[trigger]]`",
    keys: &[
        key("cooldown", "a duration", Optional("\"10m\""), "At least so long between two starts."),
        key(
            "max_concurrent",
            "an integer",
            Optional("1"),
            "At most so many runs at one time, up to 1000.",
        ),
        key(
            "max_starts_per_day",
            "an integer",
            Default("1000"),
            "At most so many starts in one UTC day: what a loop can cost.",
        ),
        key(
            "when_held",
            "a string",
            Default("\"wait\""),
            "What becomes of a start that is held back: `wait`, until it may; `drop`, and it is recorded as dropped.",
        ),
    ],
};

pub(super) const START: TableKeys = TableKeys {
    heading: "`start` of a `[[trigger]]`",
    keys: &[
        key(
            "step-functions",
            "a string",
            Optional("\"workflows/train.asl.json\""),
            "A state machine: a definition file (`*.asl.json`, relative to the workflow file), which becomes one of the trigger's name; or the ARN of an existing one. Exactly one key of this table must be there.",
        ),
        key(
            "sagemaker-pipeline",
            "a string",
            Optional("\"train-pipeline\""),
            "Name or ARN of a SageMaker pipeline.",
        ),
        key(
            "batch",
            "a table",
            Optional("{ job_queue = \"gpu\", job_definition = \"train:3\" }"),
            "A job of AWS Batch: see `batch`. It needs `delivery = \"queued\"`.",
        ),
        key(
            "lambda",
            "a string",
            Optional("\"notify\""),
            "Name or ARN of a function, invoked asynchronously. It needs `delivery = \"queued\"`.",
        ),
        key(
            "sns",
            "a string",
            Optional("\"arn:aws:sns:eu-west-1:123456789012:other\""),
            "ARN of another topic, which gets a message.",
        ),
        key(
            "sqs",
            "a string",
            Optional("\"arn:aws:sqs:eu-west-1:123456789012:other\""),
            "ARN of a queue, which gets a message.",
        ),
    ],
};

pub(super) const START_BATCH: TableKeys = TableKeys {
    heading: "`batch` of a trigger's `start`",
    keys: &[
        key("job_queue", "a string", Required("\"gpu\""), "Name or ARN of the job queue."),
        key(
            "job_definition",
            "a string",
            Required("\"train:3\""),
            "Name, `name:revision` or ARN of the job definition.",
        ),
    ],
};
