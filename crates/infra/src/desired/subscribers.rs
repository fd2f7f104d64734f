//! Who else listens on the topic: their queues where the deploy makes them, what lets the
//! topic reach them, and their subscriptions.

use bellwire_schema::workflow::{Protocol, Subscriber, TopicKind, Workflow};
use serde_json::{Value, json};

use super::queues::topic_dead_queue;
use super::topic::subscription;
use super::{ALIAS, Desired};
use crate::kind::function_policy::FunctionPolicy;
use crate::kind::permission::Permission;
use crate::kind::queue::{Queue, Redrive};
use crate::kind::subscription::Subscription;
use crate::policy;
use crate::pushdown;
use crate::resource::{Kind, Owner, Properties, Resource, ResourceId};

/// How long a subscriber has with a message before another receive may have it, where it
/// does not say so itself.
const VISIBILITY_S: u32 = 300;
/// The longest that SQS keeps a message: a subscriber may be away.
const RETENTION_S: u32 = 14 * 24 * 3_600;
/// The longest that a receive waits, by SQS's own limit.
const RECEIVE_WAIT_S: u32 = 20;
/// How often a subscriber gets a message before it is dead: who fails so often on it needs
/// a person.
const RECEIVES_MAX: u32 = 10;
/// The Sid of the topic's statement in the policy of a function of the workflow's own.
const SID: &str = "bellwire-sns";

impl Desired<'_> {
    /// Everything of the subscribers' but their subscriptions.
    pub(super) fn subscribers(&mut self) {
        for subscriber in &self.workflow.subscribers {
            if subscriber.create {
                self.subscriber_queue(subscriber);
            }
            if subscriber.protocol != Protocol::Lambda {
                continue;
            }
            if let Some(function) = own_function(self.owner, self.workflow, &subscriber.endpoint) {
                let permission = Permission {
                    function: function.clone(),
                    alias: ALIAS.to_owned(),
                    sid: SID.to_owned(),
                    principal: "sns.amazonaws.com".to_owned(),
                    source_arn: self.topic_arn(),
                };
                let depends_on = vec![super::alias_id(&function)];
                self.add(Properties::Permission(permission), depends_on);
            } else if let Some(statement) =
                admission(self.owner, &subscriber.endpoint, &self.topic_arn())
            {
                self.add(Properties::FunctionPolicy(statement), vec![self.topic_id()]);
            }
        }
    }

    fn subscriber_queue(&mut self, subscriber: &Subscriber) {
        let Owner { deployment, place, .. } = self.owner;
        let name = deployment.subscriber_queue(&subscriber.name, self.workflow.topic.kind);
        let undelivered = topic_dead_queue(self.owner, self.workflow);
        let arn = place.queue_arn(&name);
        let queue = Queue {
            policy: policy::work_queue(&arn, &self.topic_arn()),
            arn,
            name,
            visibility_timeout_s: VISIBILITY_S,
            retention_s: RETENTION_S,
            receive_wait_s: RECEIVE_WAIT_S,
            encrypted: true,
            redrive: Some(Redrive {
                dead_queue_arn: place.queue_arn(&undelivered),
                receives_max: RECEIVES_MAX,
            }),
            redrive_from: Vec::new(),
            tags: self.owner.tags(),
        };
        self.add(Properties::Queue(queue), vec![ResourceId::new(Kind::Queue, undelivered)]);
    }

    /// What must be there before a subscription, of what is made for a subscriber.
    pub(super) fn before_subscriber(&self, subscription: &Subscription) -> Vec<ResourceId> {
        let is_it = |properties: &Properties| match properties {
            Properties::Queue(queue) => queue.arn == subscription.endpoint,
            Properties::FunctionPolicy(statement) => {
                statement.function_arn == subscription.endpoint
            }
            Properties::Permission(permission) => {
                permission.sid == SID
                    && permission.function != self.owner.deployment.handler()
                    && self.owner.alias_arn(&permission.function) == subscription.endpoint
            }
            _ => false,
        };
        let before = self.resources.iter().filter(|resource| is_it(&resource.properties));
        before.map(Resource::id).collect()
    }
}

/// The queues that are made for subscribers, by name.
pub(super) fn made_queues(owner: &Owner, workflow: &Workflow, kind: TopicKind) -> Vec<String> {
    let made = workflow.subscribers.iter().filter(|subscriber| subscriber.create);
    let name = |one: &Subscriber| owner.deployment.subscriber_queue(&one.name, kind);
    if workflow.topic.kind == kind { made.map(name).collect() } else { Vec::new() }
}

/// Whom a subscriber tells, by SNS's words.
fn endpoint(owner: &Owner, workflow: &Workflow, subscriber: &Subscriber) -> String {
    match subscriber.create {
        true => {
            let kind = workflow.topic.kind;
            owner.place.queue_arn(&owner.deployment.subscriber_queue(&subscriber.name, kind))
        }
        false => subscriber.endpoint.clone(),
    }
}

/// The subscriptions of the workflow's subscribers.
pub(super) fn subscriptions(owner: &Owner, workflow: &Workflow) -> Vec<Subscription> {
    let of = |subscriber: &Subscriber| {
        let protocol = match subscriber.protocol {
            Protocol::Email => "email",
            Protocol::Https => "https",
            Protocol::Sqs => "sqs",
            Protocol::Lambda => "lambda",
        };
        let filter = pushdown::subscriber_filter(workflow, subscriber);
        let endpoint = endpoint(owner, workflow, subscriber);
        let subscription = subscription(owner, workflow, protocol, endpoint, filter);
        Subscription { is_raw: subscriber.raw, ..subscription }
    };
    workflow.subscribers.iter().map(of).collect()
}

/// The function of the workflow's own whose alias an ARN names.
fn own_function(owner: &Owner, workflow: &Workflow, arn: &str) -> Option<String> {
    let names = workflow.functions.iter().map(|one| owner.deployment.function(&one.name));
    names.into_iter().find(|name| owner.alias_arn(name) == arn)
}

/// The statement that lets a topic of ours invoke a function of somebody else's in this
/// account and region. `None` for any other, which is its owner's to add it to, and for the
/// handler, whose permissions are its own.
pub(crate) fn admission(owner: &Owner, function: &str, topic: &str) -> Option<FunctionPolicy> {
    let is_here = function.starts_with(&owner.place.function_arn(""));
    let is_handler = function == owner.alias_arn(&owner.deployment.handler());
    (is_here && !is_handler).then(|| FunctionPolicy::new(owner, function, topic))
}

/// What the owner of a queue that is not ours must add to its policy.
pub(crate) fn queue_statement(topic: &str, queue: &str) -> Value {
    let sid = format!("TopicDelivers{}", topic.rsplit(':').next().unwrap_or_default());
    let sid: String = sid.chars().filter(char::is_ascii_alphanumeric).collect();
    policy::topic_may_send(&sid, queue, topic)
}

/// What the owner of a function that is not ours must add to its policy.
pub(crate) fn function_statement(topic: &str, function: &str) -> Value {
    json!({
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "lambda:InvokeFunction",
        "Resource": function,
        "Condition": {"ArnLike": {"AWS:SourceArn": topic}},
    })
}
