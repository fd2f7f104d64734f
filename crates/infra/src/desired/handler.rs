//! The handler's function, and who may call it.

use super::{ALIAS, Desired};
use crate::kind::event_source_mapping::{BATCH_WITHOUT_WINDOW_MAX, EventSourceMapping};
use crate::kind::function::Function;
use crate::kind::invoke_config::InvokeConfig;
use crate::kind::permission::Permission;
use crate::policy;
use crate::resource::{Kind, Properties, Resource, ResourceId};

/// Handlers that take batches from the work queue together, at most. Each works on
/// ten messages side by side, which is more starts a second than Step Functions
/// takes in most regions.
const HANDLERS_MAX: u32 = 16;
/// Handlers that take hints together, at most: the fewest that Lambda can be told.
/// Source: AWS Lambda API reference, `ScalingConfig`.
const HINT_HANDLERS_MAX: u32 = 2;
/// Lambda's own default and most: two further tries, within six hours.
const RETRIES_MAX: u32 = 2;
const EVENT_AGE_MAX_S: u32 = 6 * 3_600;

impl Desired<'_> {
    pub(super) fn handler(&mut self) {
        let settings = &self.workflow.handler;
        let name = self.owner.deployment.handler();
        let mut environment = settings.environment.clone();
        environment.insert("BELLWIRE_ACCOUNT".to_owned(), self.owner.place.account.clone());
        let (memory_mb, timeout_s) = (settings.memory_mb, settings.timeout_s);
        let release = self.release(&name, &self.inputs.handler, memory_mb, timeout_s, &environment);
        let function = Function {
            arn: self.owner.place.function_arn(&name),
            description: format!("Handler of Bellwire workflow {}", self.workflow.name),
            release: release.clone(),
            tags: self.owner.tags(),
            name: name.clone(),
        };
        let policy = policy::handler(self.owner, self.workflow);
        // Lambda refuses a timeout that is longer than its queues hide messages.
        let work = self.is_queued().then(|| self.work_queue_id());
        let queues = work.into_iter().chain(self.hint_queue_id()).collect();
        self.function(function, policy, settings.log_retention_days, queues);
        // A version goes live when all that it starts and writes to is there.
        let machines = self.resources.iter().map(Resource::id);
        let mut before: Vec<ResourceId> =
            machines.filter(|id| id.kind == Kind::StateMachine).collect();
        before.push(ResourceId::new(Kind::Table, self.owner.deployment.ledger_table()));
        self.alias(&name, release, before);
        let config = InvokeConfig {
            function: name.clone(),
            alias: ALIAS.to_owned(),
            retries_max: RETRIES_MAX,
            event_age_max_s: EVENT_AGE_MAX_S,
            on_failure_arn: Some(self.dead_queue_arn()),
        };
        let depends_on = vec![self.handler_alias_id(), self.dead_queue_id()];
        self.add(Properties::InvokeConfig(config), depends_on);
        let sweep_arn = self.owner.place.rule_arn(&self.owner.deployment.rule("sweep"));
        self.permission("bellwire-sweep", "events.amazonaws.com", sweep_arn);
        match self.is_queued() {
            true => self.takes_from(&name, self.work_queue_id(), HANDLERS_MAX),
            false => self.permission("bellwire-sns", "sns.amazonaws.com", self.topic_arn()),
        }
        if let Some(hints) = self.hint_queue_id() {
            self.takes_from(&name, hints, HINT_HANDLERS_MAX);
        }
    }

    /// What takes a queue's messages to the handler.
    fn takes_from(&mut self, handler: &str, queue: ResourceId, concurrency_max: u32) {
        let mapping = EventSourceMapping::new(
            self.owner.place.queue_arn(&queue.name),
            self.owner.alias_arn(handler),
            BATCH_WITHOUT_WINDOW_MAX,
            self.owner.tags(),
        );
        let mapping = EventSourceMapping { concurrency_max: Some(concurrency_max), ..mapping };
        let role = ResourceId::new(Kind::Role, handler);
        let depends_on = vec![self.handler_alias_id(), role, queue];
        self.add(Properties::EventSourceMapping(mapping), depends_on);
    }

    fn permission(&mut self, sid: &str, principal: &str, source_arn: String) {
        let permission = self.handler_permission(sid, principal, source_arn);
        let depends_on = vec![self.handler_alias_id()];
        self.add(Properties::Permission(permission), depends_on);
    }

    fn handler_permission(&self, sid: &str, principal: &str, source_arn: String) -> Permission {
        Permission {
            function: self.owner.deployment.handler(),
            alias: ALIAS.to_owned(),
            sid: sid.to_owned(),
            principal: principal.to_owned(),
            source_arn,
        }
    }

    pub(super) fn permission_id(&self, sid: &str) -> ResourceId {
        let name = self.handler_permission(sid, "", String::new()).display_name();
        ResourceId::new(Kind::Permission, name)
    }
}
