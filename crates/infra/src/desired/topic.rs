//! The topic, and who is subscribed to it.

use bellwire_schema::filter::Scope;
use bellwire_schema::workflow::{Delivery, Via, Workflow};
use serde_json::Value;

use super::buckets::buckets_via;
use super::queues::topic_dead_queue;
use super::{ALIAS, Desired, subscribers};
use crate::kind::subscription::Subscription;
use crate::kind::topic::Topic;
use crate::resource::{Kind, Owner, Properties, ResourceId};
use crate::{policy, pushdown};

impl Desired<'_> {
    pub(super) fn topic(&mut self) {
        let name = self.owner.deployment.topic(self.workflow.topic.kind);
        let settings = &self.workflow.topic;
        let display_name =
            settings.display_name.clone().unwrap_or_else(|| self.workflow.name.clone());
        let topic = Topic {
            arn: self.owner.place.topic_arn(&name),
            name,
            display_name,
            kms_key: self.key_of_topic(),
            policy: policy::topic(
                self.owner,
                &self.topic_arn(),
                &buckets_via(self.workflow, Via::Topic),
            ),
            tags: self.owner.tags(),
        };
        self.add(Properties::Topic(topic), self.before_topic());
    }

    pub(super) fn subscriptions(&mut self) {
        for subscription in subscriptions(self.owner, self.workflow) {
            let undelivered = topic_dead_queue(self.owner, self.workflow);
            let mut depends_on = vec![self.topic_id(), ResourceId::new(Kind::Queue, undelivered)];
            if self.is_queued()
                && subscription.endpoint == self.owner.place.queue_arn(&self.work_queue())
            {
                depends_on.push(self.work_queue_id());
            }
            if subscription.endpoint == self.owner.alias_arn(&self.owner.deployment.handler()) {
                let handler = self.owner.deployment.handler();
                depends_on.push(self.handler_alias_id());
                depends_on.push(self.permission_id("bellwire-sns"));
                depends_on.push(ResourceId::new(Kind::InvokeConfig, format!("{handler}:{ALIAS}")));
            }
            depends_on.extend(self.before_subscriber(&subscription));
            self.add(Properties::Subscription(subscription), depends_on);
        }
    }
}

/// The handler's subscription, and those of the workflow's subscribers.
fn subscriptions(owner: &Owner, workflow: &Workflow) -> Vec<Subscription> {
    let filter = pushdown::handler_filter(workflow);
    let handler = match workflow.handler.delivery {
        Delivery::Direct => {
            let alias = owner.alias_arn(&owner.deployment.handler());
            subscription(owner, workflow, "lambda", alias, filter)
        }
        Delivery::Queued => {
            let work = owner.place.queue_arn(&owner.deployment.work_queue(workflow.topic.kind));
            let subscription = subscription(owner, workflow, "sqs", work, filter);
            Subscription { is_raw: true, ..subscription }
        }
    };
    [handler].into_iter().chain(subscribers::subscriptions(owner, workflow)).collect()
}

/// A subscription of our topic, which sends what it cannot deliver to our dead queue.
pub(super) fn subscription(
    owner: &Owner,
    workflow: &Workflow,
    protocol: &str,
    endpoint: String,
    (filter_policy, scope): (Value, Scope),
) -> Subscription {
    Subscription {
        topic_arn: owner.place.topic_arn(&owner.deployment.topic(workflow.topic.kind)),
        protocol: protocol.to_owned(),
        endpoint,
        filter_policy,
        filter_scope: match scope {
            Scope::Attributes => "MessageAttributes".to_owned(),
            Scope::Body => "MessageBody".to_owned(),
        },
        is_raw: false,
        dead_queue_arn: Some(owner.place.queue_arn(&topic_dead_queue(owner, workflow))),
    }
}
