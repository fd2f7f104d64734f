//! The topic, and who is subscribed to it.

use bellwire_schema::filter::Scope;
use bellwire_schema::workflow::{Delivery, Protocol, Subscriber, Via, Workflow};
use serde_json::Value;

use super::buckets::buckets_via;
use super::queues::topic_dead_queue;
use super::{ALIAS, Desired};
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
            self.add(Properties::Subscription(subscription), depends_on);
        }
    }
}

/// All subscriptions of our topic: the handler's, and the workflow's subscribers'.
fn subscriptions(owner: &Owner, workflow: &Workflow) -> Vec<Subscription> {
    let subscription =
        |protocol: &str, endpoint: String, (filter_policy, scope): (Value, Scope)| Subscription {
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
        };
    let filter = pushdown::handler_filter(workflow);
    let handler = match workflow.handler.delivery {
        Delivery::Direct => {
            subscription("lambda", owner.alias_arn(&owner.deployment.handler()), filter)
        }
        Delivery::Queued => {
            let work = owner.place.queue_arn(&owner.deployment.work_queue(workflow.topic.kind));
            Subscription { is_raw: true, ..subscription("sqs", work, filter) }
        }
    };
    let others = workflow.subscribers.iter().map(|subscriber: &Subscriber| {
        let protocol = match subscriber.protocol {
            Protocol::Email => "email",
            Protocol::Https => "https",
            Protocol::Sqs => "sqs",
            Protocol::Lambda => "lambda",
        };
        let filter = pushdown::subscriber_filter(workflow, subscriber);
        subscription(protocol, subscriber.endpoint.clone(), filter)
    });
    [handler].into_iter().chain(others).collect()
}
