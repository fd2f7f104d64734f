//! What a workflow is made of on AWS: resources, their kinds, and what makes
//! one of them ours.

use std::collections::BTreeMap;
use std::fmt;

use bellwire_schema::workflow::Security;
use bellwire_schema::{Deployment, Place};
use serde::{Deserialize, Serialize};

use crate::kind::alarm::Alarm;
use crate::kind::alias::Alias;
use crate::kind::bucket::Bucket;
use crate::kind::bucket_notification::BucketNotification;
use crate::kind::dashboard::Dashboard;
use crate::kind::event_source_mapping::EventSourceMapping;
use crate::kind::function::Function;
use crate::kind::function_policy::FunctionPolicy;
use crate::kind::invoke_config::InvokeConfig;
use crate::kind::key::KmsKey;
use crate::kind::log_group::LogGroup;
use crate::kind::permission::Permission;
use crate::kind::queue::Queue;
use crate::kind::role::Role;
use crate::kind::rule::Rule;
use crate::kind::state_machine::StateMachine;
use crate::kind::subscription::Subscription;
use crate::kind::table::Table;
use crate::kind::topic::Topic;

/// Tag that names the workflow.
pub const TAG_WORKFLOW: &str = "bellwire:workflow";
/// Tag that names the environment, or `-`.
pub const TAG_ENVIRONMENT: &str = "bellwire:environment";
/// Tag that says that this tool manages the resource: `true`.
pub const TAG_MANAGED: &str = "bellwire:managed";
/// What the Ids and Sids of entries in somebody else's documents begin with.
pub const ENTRY_PREFIX: &str = "bellwire-";

/// The tags of one resource.
pub type Tags = BTreeMap<String, String>;

/// One workflow in one environment, in one region of one account: what decides
/// what is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The workflow and its environment.
    pub deployment: Deployment,
    /// Where it is.
    pub place: Place,
    /// What the IAM paths of all its roles begin with.
    roles_under: String,
}

impl Owner {
    /// The owner of what a workflow of these settings has.
    #[must_use]
    pub fn new(deployment: Deployment, place: Place, security: &Security) -> Self {
        Self { deployment, place, roles_under: security.role_path.clone() }
    }

    /// The tags of everything of ours that takes tags.
    #[must_use]
    pub fn tags(&self) -> Tags {
        let environment = self.deployment.environment.as_deref().unwrap_or("-");
        [
            (TAG_WORKFLOW, self.deployment.workflow.as_str()),
            (TAG_ENVIRONMENT, environment),
            (TAG_MANAGED, "true"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// Whether a resource with these tags is ours.
    #[must_use]
    pub fn owns(&self, tags: &Tags) -> bool {
        self.tags().iter().all(|(key, value)| tags.get(key) == Some(value))
    }

    /// The IAM path that all our roles are under.
    #[must_use]
    pub fn role_path(&self) -> String {
        format!("{}{}", self.roles_under, self.role_path_end())
    }

    fn role_path_end(&self) -> String {
        format!("bellwire/{}/", self.deployment.prefix())
    }

    /// Whether a role under this path may be ours: `role_path` may have been another one.
    #[must_use]
    pub fn may_own_path(&self, path: &str) -> bool {
        path.strip_suffix(&self.role_path_end()).is_some_and(|under| under.ends_with('/'))
    }

    /// The ARN of a role of ours.
    #[must_use]
    pub fn role_arn(&self, name: &str) -> String {
        self.place.role_arn(&self.role_path(), name)
    }

    /// The Id of an entry of ours in a document that others write too.
    #[must_use]
    pub fn entry_id(&self, purpose: &str) -> String {
        format!("{ENTRY_PREFIX}{}-{purpose}", self.deployment.prefix())
    }

    /// The ARN of the `live` alias of a function of ours.
    #[must_use]
    pub fn alias_arn(&self, function: &str) -> String {
        format!("{}:{}", self.place.function_arn(function), crate::desired::ALIAS)
    }
}

/// Of observed tags, those that this tool writes: whatever else an organisation
/// tags its resources with is none of our business.
#[must_use]
pub fn own_tags(tags: impl IntoIterator<Item = (String, String)>) -> Tags {
    tags.into_iter().filter(|(key, _)| key.starts_with("bellwire:")).collect()
}

/// What a resource is. The order is that in which things are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A KMS key with its alias.
    Key,
    /// An SNS topic.
    Topic,
    /// An SQS queue.
    Queue,
    /// An S3 bucket.
    Bucket,
    /// Our entries in a bucket's notification configuration.
    BucketNotification,
    /// A DynamoDB table.
    Table,
    /// A CloudWatch Logs group.
    LogGroup,
    /// An IAM role with its inline policy.
    Role,
    /// A Lambda function.
    Function,
    /// A function's alias, with the version that it points to.
    Alias,
    /// Retry bounds and failure destination of an alias.
    InvokeConfig,
    /// One statement of an alias's resource policy.
    Permission,
    /// A Step Functions state machine.
    StateMachine,
    /// An EventBridge rule with its targets.
    Rule,
    /// What takes a queue's messages to a function.
    EventSourceMapping,
    /// One statement in the policy of a function that is not ours.
    FunctionPolicy,
    /// An SNS subscription.
    Subscription,
    /// A CloudWatch alarm.
    Alarm,
    /// A CloudWatch dashboard.
    Dashboard,
}

impl Kind {
    /// What people call it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Key => "kms key",
            Self::Topic => "sns topic",
            Self::Queue => "sqs queue",
            Self::Bucket => "s3 bucket",
            Self::BucketNotification => "bucket notification",
            Self::Table => "dynamodb table",
            Self::LogGroup => "log group",
            Self::Role => "iam role",
            Self::Function => "lambda function",
            Self::Alias => "lambda alias",
            Self::InvokeConfig => "lambda retries",
            Self::Permission => "lambda permission",
            Self::StateMachine => "state machine",
            Self::Rule => "events rule",
            Self::EventSourceMapping => "event source",
            Self::FunctionPolicy => "function policy",
            Self::Subscription => "sns subscription",
            Self::Alarm => "alarm",
            Self::Dashboard => "dashboard",
        }
    }

    /// Whether it may hold data, which no apply deletes.
    #[must_use]
    pub const fn may_hold_data(self) -> bool {
        matches!(self, Self::Bucket | Self::Key | Self::Queue | Self::Table)
    }

    /// Whether it ends with the function it hangs on.
    #[must_use]
    pub const fn is_part_of_function(self) -> bool {
        matches!(self, Self::Alias | Self::InvokeConfig | Self::Permission)
    }

    /// Whether it only leads from one resource to another: what can be cut first.
    #[must_use]
    pub const fn is_edge(self) -> bool {
        matches!(
            self,
            Self::BucketNotification
                | Self::Rule
                | Self::EventSourceMapping
                | Self::Subscription
                | Self::FunctionPolicy
                | Self::Permission
        )
    }

    /// In which order resources are deleted: all of a lower number first.
    #[must_use]
    pub const fn deletion_rank(self) -> u8 {
        match self {
            // The subscription that goes after it is what it is found by.
            Self::FunctionPolicy => 0,
            Self::BucketNotification
            | Self::Rule
            | Self::EventSourceMapping
            | Self::Subscription
            | Self::Alarm
            | Self::Dashboard => 1,
            Self::Permission | Self::InvokeConfig => 2,
            Self::StateMachine => 3,
            Self::Alias => 4,
            Self::Function => 5,
            Self::Role | Self::LogGroup | Self::Topic => 6,
            Self::Queue | Self::Key => 7,
            Self::Bucket => 8,
            // The table holds the lease under which all this happens.
            Self::Table => 9,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// Which resource: its kind, and its name as people read it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceId {
    /// What it is.
    pub kind: Kind,
    /// What it is called; unique within its kind.
    pub name: String,
}

impl ResourceId {
    /// The resource of that kind and name.
    #[must_use]
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What a resource should be, or is, like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each holds the properties of the kind of that name")]
pub enum Properties {
    Key(KmsKey),
    Topic(Topic),
    Queue(Queue),
    Bucket(Bucket),
    BucketNotification(BucketNotification),
    Table(Table),
    LogGroup(LogGroup),
    Role(Role),
    Function(Function),
    Alias(Alias),
    InvokeConfig(InvokeConfig),
    Permission(Permission),
    StateMachine(StateMachine),
    Rule(Rule),
    EventSourceMapping(EventSourceMapping),
    FunctionPolicy(FunctionPolicy),
    Subscription(Subscription),
    Alarm(Alarm),
    Dashboard(Dashboard),
}

impl Properties {
    /// Kind and name.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        match self {
            Self::Key(key) => ResourceId::new(Kind::Key, &key.name),
            Self::Topic(topic) => ResourceId::new(Kind::Topic, &topic.name),
            Self::Queue(queue) => ResourceId::new(Kind::Queue, &queue.name),
            Self::Bucket(bucket) => ResourceId::new(Kind::Bucket, &bucket.name),
            Self::BucketNotification(notification) => {
                ResourceId::new(Kind::BucketNotification, &notification.bucket)
            }
            Self::Table(table) => ResourceId::new(Kind::Table, &table.name),
            Self::LogGroup(group) => ResourceId::new(Kind::LogGroup, &group.name),
            Self::Role(role) => ResourceId::new(Kind::Role, &role.name),
            Self::Function(function) => ResourceId::new(Kind::Function, &function.name),
            Self::Alias(alias) => ResourceId::new(Kind::Alias, alias.display_name()),
            Self::InvokeConfig(config) => {
                ResourceId::new(Kind::InvokeConfig, config.display_name())
            }
            Self::Permission(permission) => {
                ResourceId::new(Kind::Permission, permission.display_name())
            }
            Self::StateMachine(machine) => ResourceId::new(Kind::StateMachine, &machine.name),
            Self::Rule(rule) => ResourceId::new(Kind::Rule, &rule.name),
            Self::EventSourceMapping(mapping) => {
                ResourceId::new(Kind::EventSourceMapping, mapping.display_name())
            }
            Self::FunctionPolicy(statement) => {
                ResourceId::new(Kind::FunctionPolicy, statement.display_name())
            }
            Self::Alarm(alarm) => ResourceId::new(Kind::Alarm, &alarm.name),
            Self::Dashboard(dashboard) => ResourceId::new(Kind::Dashboard, &dashboard.name),
            Self::Subscription(subscription) => {
                ResourceId::new(Kind::Subscription, subscription.display_name())
            }
        }
    }

    /// Its tags; `None` for what takes none.
    #[must_use]
    pub fn tags(&self) -> Option<&Tags> {
        match self {
            Self::Key(key) => Some(&key.tags),
            Self::Topic(topic) => Some(&topic.tags),
            Self::Queue(queue) => Some(&queue.tags),
            Self::Bucket(bucket) => Some(&bucket.tags),
            Self::Table(table) => Some(&table.tags),
            Self::LogGroup(group) => Some(&group.tags),
            Self::Role(role) => Some(&role.tags),
            Self::Function(function) => Some(&function.tags),
            Self::StateMachine(machine) => Some(&machine.tags),
            Self::Rule(rule) => Some(&rule.tags),
            Self::Alarm(alarm) => Some(&alarm.tags),
            Self::BucketNotification(_)
            | Self::Alias(_)
            | Self::InvokeConfig(_)
            | Self::Permission(_)
            | Self::EventSourceMapping(_)
            | Self::FunctionPolicy(_)
            | Self::Subscription(_)
            | Self::Dashboard(_) => None,
        }
    }

    /// The same with other tags, where it takes any.
    #[must_use]
    pub(crate) fn with_tags(mut self, tags: &Tags) -> Self {
        let own = match &mut self {
            Self::Key(key) => &mut key.tags,
            Self::Topic(topic) => &mut topic.tags,
            Self::Queue(queue) => &mut queue.tags,
            Self::Bucket(bucket) => &mut bucket.tags,
            Self::Table(table) => &mut table.tags,
            Self::LogGroup(group) => &mut group.tags,
            Self::Role(role) => &mut role.tags,
            Self::Function(function) => &mut function.tags,
            Self::StateMachine(machine) => &mut machine.tags,
            Self::Rule(rule) => &mut rule.tags,
            Self::Alarm(alarm) => &mut alarm.tags,
            _ => return self,
        };
        own.clone_from(tags);
        self
    }

    /// What is worth knowing of it, in a few words.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Key(key) => key.summary(),
            Self::Topic(topic) => topic.summary(),
            Self::Queue(queue) => queue.summary(),
            Self::Bucket(bucket) => bucket.summary(),
            Self::BucketNotification(notification) => notification.summary(),
            Self::Table(table) => table.summary(),
            Self::LogGroup(group) => group.summary(),
            Self::Role(role) => role.summary(),
            Self::Function(function) => function.summary(),
            Self::Alias(alias) => alias.summary(),
            Self::InvokeConfig(config) => config.summary(),
            Self::Permission(permission) => permission.summary(),
            Self::StateMachine(machine) => machine.summary(),
            Self::Rule(rule) => rule.summary(),
            Self::EventSourceMapping(mapping) => mapping.summary(),
            Self::FunctionPolicy(statement) => statement.summary(),
            Self::Subscription(subscription) => subscription.summary(),
            Self::Alarm(alarm) => alarm.summary(),
            Self::Dashboard(dashboard) => dashboard.summary(),
        }
    }
}

/// A resource as it should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    /// What it should be like.
    pub properties: Properties,
    /// What must be there before it.
    pub depends_on: Vec<ResourceId>,
}

impl Resource {
    /// Kind and name.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        self.properties.id()
    }
}

/// A resource as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// What it is like.
    pub properties: Properties,
    /// Whether it is ours: by its tag, its path, or its parent.
    pub owned: bool,
    /// What data it holds, in words; `None` where it holds none.
    pub data: Option<String>,
    /// What a person should know of it beside its properties.
    pub notes: Vec<String>,
}

impl Observed {
    /// A resource that is ours and holds no data.
    #[must_use]
    pub fn ours(properties: Properties) -> Self {
        Self { properties, owned: true, data: None, notes: Vec::new() }
    }

    /// Kind and name.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        self.properties.id()
    }
}

/// Something in a document we write to that is not ours: kept as it is, and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// The resource that it is part of.
    pub within: ResourceId,
    /// What it is called there.
    pub name: String,
}
