//! The publisher: a role for the sidecar, or a function on the ingest queue.

use bellwire_schema::workflow::PublisherRun;

use super::{Desired, alias_id};
use crate::kind::event_source_mapping::{BATCH_WITHOUT_WINDOW_MAX, EventSourceMapping};
use crate::kind::function::Function;
use crate::policy;
use crate::resource::{Kind, Properties, ResourceId};

/// Batches that publish together, at most: what a sidecar has by default. With ten
/// messages each, and some ten batches a second, as much as SNS takes in most regions;
/// a backlog is not to use up the account's functions.
const PUBLISHERS_MAX: u32 = 16;

impl Desired<'_> {
    /// A role for whoever runs the sidecar, or a function on the ingest queue.
    pub(super) fn publisher(&mut self) {
        let settings = &self.workflow.publisher;
        let name = self.owner.deployment.publisher();
        let policy = policy::publisher(self.owner, self.workflow);
        let description = format!("Publisher of Bellwire workflow {}", self.workflow.name);
        if settings.run == PublisherRun::Sidecar {
            let trust = policy::trust_publisher(self.owner, &settings.trusted_by);
            return self.role(&name, description, trust, policy);
        }
        let mut environment = settings.environment.clone();
        environment.insert("BELLWIRE_ACCOUNT".to_owned(), self.owner.place.account.clone());
        let artifact = self.inputs.publisher.clone().unwrap_or_default();
        let (memory_mb, timeout_s) = (settings.memory_mb, settings.timeout_s);
        let release = self.release(&name, &artifact, memory_mb, timeout_s, &environment);
        let function = Function {
            arn: self.owner.place.function_arn(&name),
            description,
            release: release.clone(),
            tags: self.owner.tags(),
            name: name.clone(),
        };
        // Lambda refuses a timeout that is longer than its queue hides messages.
        let queue = vec![self.ingest_queue_id()];
        self.function(function, policy, settings.log_retention_days, queue);
        // A version takes messages when all that it reads and writes is there.
        let table = ResourceId::new(Kind::Table, self.owner.deployment.ledger_table());
        self.alias(&name, release, vec![self.topic_id(), self.dead_queue_id(), table]);
        let mapping = EventSourceMapping::new(
            self.owner.place.queue_arn(&self.owner.deployment.ingest_queue()),
            self.owner.alias_arn(&name),
            BATCH_WITHOUT_WINDOW_MAX,
            self.owner.tags(),
        );
        let mapping = EventSourceMapping { concurrency_max: Some(PUBLISHERS_MAX), ..mapping };
        let depends_on =
            vec![alias_id(&name), ResourceId::new(Kind::Role, &name), self.ingest_queue_id()];
        self.add(Properties::EventSourceMapping(mapping), depends_on);
    }
}
