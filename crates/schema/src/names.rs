//! Names and ARNs of everything a workflow owns: pure functions of workflow,
//! environment, region and account, so that no component has to look one up.

use sha2::{Digest, Sha256};

use crate::limits::{ENVIRONMENT_CHARS_MAX, LONG_NAME_CHARS_MAX, NAME_CHARS_MAX};
use crate::workflow::TopicKind;

/// Hex characters of the hash that ends a name which had to be cut.
const CUT_HASH_CHARS: usize = 8;

/// How the names of FIFO topics and queues end. Source: the `CreateTopic` and
/// `CreateQueue` API references.
pub(crate) const FIFO_SUFFIX: &str = ".fifo";

/// A text that names no environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an environment's name takes lower-case letters, digits and hyphens, begins with a letter, does not end in a hyphen, and has at most {ENVIRONMENT_CHARS_MAX} characters"
)]
pub struct InvalidEnvironment;

/// The name of an environment (`--env`), as it may stand in every name on AWS.
///
/// # Errors
/// Where it is none.
pub fn parse_environment(text: &str) -> Result<String, InvalidEnvironment> {
    let is_name = text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && text.len() <= ENVIRONMENT_CHARS_MAX;
    if is_name { Ok(text.to_owned()) } else { Err(InvalidEnvironment) }
}

/// A workflow in one environment: what prefixes every name and stands in every tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// The workflow's name.
    pub workflow: String,
    /// The environment (`--env`), where one was given.
    pub environment: Option<String>,
}

impl Deployment {
    /// A workflow in an environment.
    #[must_use]
    pub fn new(workflow: &str, environment: Option<&str>) -> Self {
        Self { workflow: workflow.to_owned(), environment: environment.map(str::to_owned) }
    }

    /// `workflow`, or `workflow-environment`.
    #[must_use]
    pub fn prefix(&self) -> String {
        match &self.environment {
            Some(environment) => format!("{}-{environment}", self.workflow),
            None => self.workflow.clone(),
        }
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self, kind: TopicKind) -> String {
        match kind {
            TopicKind::Standard => self.prefix(),
            TopicKind::Fifo => format!("{}{FIFO_SUFFIX}", self.prefix()),
        }
    }

    /// The queue between the topic and the handler, where `delivery = "queued"`;
    /// of the topic's own kind.
    #[must_use]
    pub fn work_queue(&self, kind: TopicKind) -> String {
        match kind {
            TopicKind::Standard => self.named("work", LONG_NAME_CHARS_MAX),
            TopicKind::Fifo => self.named_fifo("work"),
        }
    }

    /// The queue that S3 and EventBridge fill and the publisher empties.
    #[must_use]
    pub fn ingest_queue(&self) -> String {
        self.named("ingest", LONG_NAME_CHARS_MAX)
    }

    /// The queue where everything that could not be handled ends.
    #[must_use]
    pub fn dead_queue(&self) -> String {
        self.named("dead", LONG_NAME_CHARS_MAX)
    }

    /// Beside it, where the topic is FIFO: what a FIFO topic or queue could not
    /// deliver goes to a FIFO queue only.
    #[must_use]
    pub fn fifo_dead_queue(&self) -> String {
        self.named_fifo("dead")
    }

    /// The queue of what the handler tells itself to look at within a minute. Never
    /// FIFO: there a message has no delay of its own. Source: Amazon SQS API reference,
    /// `SendMessage`, `DelaySeconds`.
    #[must_use]
    pub fn hint_queue(&self) -> String {
        self.named("hints", LONG_NAME_CHARS_MAX)
    }

    /// The alias of the KMS key that encrypts the topic, where the deploy makes one.
    #[must_use]
    pub fn key_alias(&self) -> String {
        format!("alias/{}", self.prefix())
    }

    /// The queue that is made for a subscriber, of the topic's own kind.
    #[must_use]
    pub fn subscriber_queue(&self, subscriber: &str, kind: TopicKind) -> String {
        let part = format!("to-{subscriber}");
        match kind {
            TopicKind::Standard => self.named(&part, LONG_NAME_CHARS_MAX),
            TopicKind::Fifo => self.named_fifo(&part),
        }
    }

    /// The topic that alarms publish to, where they tell an e-mail address.
    #[must_use]
    pub fn alarm_topic(&self) -> String {
        self.named("alarms", LONG_NAME_CHARS_MAX)
    }

    /// The alarm of that purpose.
    #[must_use]
    pub fn alarm(&self, purpose: &str) -> String {
        self.named(purpose, LONG_NAME_CHARS_MAX)
    }

    /// The DynamoDB table of starts.
    #[must_use]
    pub fn ledger_table(&self) -> String {
        self.named("ledger", NAME_CHARS_MAX)
    }

    /// The handler's function, and its role.
    #[must_use]
    pub fn handler(&self) -> String {
        self.named("handler", NAME_CHARS_MAX)
    }

    /// The publisher's role; its function too, where it runs as one.
    #[must_use]
    pub fn publisher(&self) -> String {
        self.named("publisher", NAME_CHARS_MAX)
    }

    /// The state machine that a trigger starts, and its role.
    #[must_use]
    pub fn state_machine(&self, trigger: &str) -> String {
        self.named(trigger, NAME_CHARS_MAX)
    }

    /// The user's own function of that name, and its role.
    #[must_use]
    pub fn function(&self, function: &str) -> String {
        self.named(function, NAME_CHARS_MAX)
    }

    /// The EventBridge rule of that purpose.
    #[must_use]
    pub fn rule(&self, purpose: &str) -> String {
        self.named(purpose, NAME_CHARS_MAX)
    }

    /// The EventBridge rule that tells of the ends of what a trigger starts, where it has
    /// one of its own.
    #[must_use]
    pub fn runs_rule(&self, trigger: &str) -> String {
        self.rule(&format!("runs-{trigger}"))
    }

    fn named_fifo(&self, part: &str) -> String {
        let name = self.named(part, LONG_NAME_CHARS_MAX - FIFO_SUFFIX.len());
        format!("{name}{FIFO_SUFFIX}")
    }

    /// `prefix-part`; where that is longer than the limit it is cut and ends in
    /// a hash of the full identity, so that two long names stay two.
    fn named(&self, part: &str, chars_max: usize) -> String {
        let full = format!("{}-{part}", self.prefix());
        if full.len() <= chars_max {
            return full;
        }
        let identity = format!(
            "{}\0{}\0{part}",
            self.workflow,
            self.environment.as_deref().unwrap_or_default()
        );
        let hash = hex(&Sha256::digest(identity)[..CUT_HASH_CHARS / 2]);
        format!("{}-{hash}", &full[..chars_max - CUT_HASH_CHARS - 1])
    }
}

/// Where on AWS a deployment is: what turns its names into ARNs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
    /// `eu-west-1`.
    pub region: String,
    /// Twelve digits.
    pub account: String,
}

impl Place {
    /// A region of an account, in the partition that the region is of.
    #[must_use]
    pub fn new(region: &str, account: &str) -> Self {
        let partition = match region {
            _ if region.starts_with("cn-") => "aws-cn",
            _ if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        Self {
            partition: partition.to_owned(),
            region: region.to_owned(),
            account: account.to_owned(),
        }
    }

    fn arn(&self, service: &str, resource: &str) -> String {
        let Self { partition, region, account } = self;
        format!("arn:{partition}:{service}:{region}:{account}:{resource}")
    }

    /// A topic's ARN.
    #[must_use]
    pub fn topic_arn(&self, name: &str) -> String {
        self.arn("sns", name)
    }

    /// A queue's ARN.
    #[must_use]
    pub fn queue_arn(&self, name: &str) -> String {
        self.arn("sqs", name)
    }

    /// A queue's URL, as SQS takes it in any region of the partition.
    #[must_use]
    pub fn queue_url(&self, name: &str) -> String {
        let Self { partition, region, account } = self;
        let suffix = if partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("https://sqs.{region}.{suffix}/{account}/{name}")
    }

    /// A table's ARN.
    #[must_use]
    pub fn table_arn(&self, name: &str) -> String {
        self.arn("dynamodb", &format!("table/{name}"))
    }

    /// A function's ARN, unqualified.
    #[must_use]
    pub fn function_arn(&self, name: &str) -> String {
        self.arn("lambda", &format!("function:{name}"))
    }

    /// A state machine's ARN.
    #[must_use]
    pub fn state_machine_arn(&self, name: &str) -> String {
        self.arn("states", &format!("stateMachine:{name}"))
    }

    /// An execution's ARN.
    #[must_use]
    pub fn execution_arn(&self, state_machine: &str, execution: &str) -> String {
        self.arn("states", &format!("execution:{state_machine}:{execution}"))
    }

    /// The ARN of a SageMaker pipeline.
    #[must_use]
    pub fn pipeline_arn(&self, name: &str) -> String {
        self.arn("sagemaker", &format!("pipeline/{name}"))
    }

    /// The ARN of a job queue of AWS Batch.
    #[must_use]
    pub fn job_queue_arn(&self, name: &str) -> String {
        self.arn("batch", &format!("job-queue/{name}"))
    }

    /// The ARN of a job definition of AWS Batch: of a revision, where the name ends in one.
    #[must_use]
    pub fn job_definition_arn(&self, name: &str) -> String {
        self.arn("batch", &format!("job-definition/{name}"))
    }

    /// A rule's ARN, on the default event bus.
    #[must_use]
    pub fn rule_arn(&self, name: &str) -> String {
        self.arn("events", &format!("rule/{name}"))
    }

    /// An alarm's ARN.
    #[must_use]
    pub fn alarm_arn(&self, name: &str) -> String {
        self.arn("cloudwatch", &format!("alarm:{name}"))
    }

    /// A log group's ARN, without the trailing `:*`.
    #[must_use]
    pub fn log_group_arn(&self, name: &str) -> String {
        self.arn("logs", &format!("log-group:{name}"))
    }

    /// A role's ARN under a path that begins and ends in a slash.
    #[must_use]
    pub fn role_arn(&self, path: &str, name: &str) -> String {
        let Self { partition, account, .. } = self;
        format!("arn:{partition}:iam::{account}:role{path}{name}")
    }

    /// A bucket's ARN.
    #[must_use]
    pub fn bucket_arn(&self, bucket: &str) -> String {
        format!("arn:{}:s3:::{bucket}", self.partition)
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("a nibble is a digit");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xF)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_and_stays_its_own() {
        let deployment = Deployment::new(&"w".repeat(32), Some("production"));
        let a = deployment.state_machine(&format!("{}a", "t".repeat(40)));
        let b = deployment.state_machine(&format!("{}b", "t".repeat(40)));
        assert_eq!(a.len(), NAME_CHARS_MAX);
        assert_ne!(a, b);
        assert_eq!(deployment.handler(), format!("{}-production-handler", "w".repeat(32)));
    }

    #[test]
    fn what_is_fifo_ends_in_fifo_within_the_limit() {
        let deployment = Deployment::new(&"w".repeat(32), Some("production"));
        assert_eq!(
            deployment.topic(TopicKind::Fifo),
            format!("{}-production.fifo", "w".repeat(32))
        );
        assert_eq!(deployment.topic(TopicKind::Standard), deployment.prefix());
        for name in [deployment.work_queue(TopicKind::Fifo), deployment.fifo_dead_queue()] {
            assert!(name.ends_with(".fifo") && name.len() <= LONG_NAME_CHARS_MAX, "{name}");
        }
        assert!(!deployment.work_queue(TopicKind::Standard).contains('.'));
    }

    #[test]
    fn workflow_and_environment_cannot_be_confused_in_a_cut_name() {
        let part = "t".repeat(80);
        let one = Deployment::new("a-b", None).state_machine(&part);
        let other = Deployment::new("a", Some("b")).state_machine(&part);
        assert_ne!(one, other);
    }

    #[test]
    fn an_environment_has_a_short_plain_name() {
        for name in ["a", "prod", "eu-1", &"e".repeat(16)] {
            assert_eq!(parse_environment(name).as_deref(), Ok(name));
        }
        for text in ["", "Prod", "1a", "-a", "a-", "a_b", "ä", &"e".repeat(17)] {
            assert_eq!(parse_environment(text), Err(InvalidEnvironment), "{text}");
        }
    }

    #[test]
    fn arns_follow_from_region_and_account() {
        let place = Place::new("cn-north-1", "123456789012");
        assert_eq!(place.topic_arn("wine"), "arn:aws-cn:sns:cn-north-1:123456789012:wine");
        assert_eq!(
            place.execution_arn("wine-train", "train-1"),
            "arn:aws-cn:states:cn-north-1:123456789012:execution:wine-train:train-1"
        );
    }
}
