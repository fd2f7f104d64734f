//! What there should be on AWS: workflow file and artifacts to resources. Pure.

mod alarms;
mod buckets;
mod dashboard;
mod functions;
mod handler;
mod ledger;
mod publisher;
mod queues;
mod rules;
mod security;
mod state_machines;
mod subscribers;
mod topic;

use bellwire_schema::workflow::{Delivery, Workflow};

use crate::inputs::Inputs;
use crate::resource::{Kind, Owner, Properties, Resource, ResourceId};
use crate::source_keys;

pub(crate) use self::buckets::{buckets_via, notification_entries, sources_by_bucket};
pub use self::functions::log_group_of;
pub(crate) use self::state_machines::function_references;
pub(crate) use self::subscribers::{admission, function_statement, queue_statement};

/// The alias that everything hangs on, so that a rollback is one call.
pub const ALIAS: &str = "live";

/// All resources of a workflow, each with what must be there before it.
#[must_use]
pub fn desired(owner: &Owner, workflow: &Workflow, inputs: &Inputs) -> Vec<Resource> {
    let mut desired = Desired { owner, workflow, inputs, resources: Vec::new() };
    desired.topic_key();
    desired.topic();
    desired.queues();
    desired.buckets();
    desired.ledger();
    desired.publisher();
    for function in &workflow.functions {
        desired.user_function(function);
    }
    desired.state_machines();
    desired.handler();
    desired.rules();
    desired.subscribers();
    desired.subscriptions();
    desired.alarms();
    desired.dashboard();
    let mut resources = desired.resources;
    source_keys::settle(owner, workflow, &mut resources);
    security::settle(owner, &workflow.security, &mut resources);
    resources.sort_by_key(Resource::id);
    resources
}

struct Desired<'a> {
    owner: &'a Owner,
    workflow: &'a Workflow,
    inputs: &'a Inputs,
    resources: Vec<Resource>,
}

impl Desired<'_> {
    fn add(&mut self, properties: Properties, depends_on: Vec<ResourceId>) {
        self.resources.push(Resource { properties, depends_on });
    }

    fn topic_id(&self) -> ResourceId {
        ResourceId::new(Kind::Topic, self.owner.deployment.topic(self.workflow.topic.kind))
    }

    fn topic_arn(&self) -> String {
        self.owner.place.topic_arn(&self.owner.deployment.topic(self.workflow.topic.kind))
    }

    fn dead_queue_id(&self) -> ResourceId {
        ResourceId::new(Kind::Queue, self.owner.deployment.dead_queue())
    }

    fn ingest_queue_id(&self) -> ResourceId {
        ResourceId::new(Kind::Queue, self.owner.deployment.ingest_queue())
    }

    fn dead_queue_arn(&self) -> String {
        self.owner.place.queue_arn(&self.owner.deployment.dead_queue())
    }

    fn is_queued(&self) -> bool {
        self.workflow.handler.delivery == Delivery::Queued
    }

    fn work_queue(&self) -> String {
        self.owner.deployment.work_queue(self.workflow.topic.kind)
    }

    fn work_queue_id(&self) -> ResourceId {
        ResourceId::new(Kind::Queue, self.work_queue())
    }

    /// The queue of hints, where a trigger has a wait under a minute.
    fn hint_queue_id(&self) -> Option<ResourceId> {
        let name = self.owner.deployment.hint_queue();
        self.workflow.has_short_waits().then(|| ResourceId::new(Kind::Queue, name))
    }

    fn handler_alias_id(&self) -> ResourceId {
        alias_id(&self.owner.deployment.handler())
    }
}

fn alias_id(function: &str) -> ResourceId {
    ResourceId::new(Kind::Alias, format!("{function}:{ALIAS}"))
}
