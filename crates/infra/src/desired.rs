//! What there should be on AWS: workflow file and artifacts to resources. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bellwire_schema::EventType;
use bellwire_schema::completion::Watch;
use bellwire_schema::workflow::{
    Delivery, Protocol, PublisherRun, S3Source, SourceKind, StateMachine as Machine, Subscriber,
    Target, TopicKind, Workflow,
};
use serde_json::{Value, json};

use crate::inputs::{Artifact, Inputs};
use crate::kind::alias::Alias;
use crate::kind::bucket::Bucket;
use crate::kind::bucket_notification::{BucketNotification, Entry};
use crate::kind::event_source_mapping::{BATCH_WITHOUT_WINDOW_MAX, EventSourceMapping};
use crate::kind::function::{Function, Release};
use crate::kind::invoke_config::InvokeConfig;
use crate::kind::log_group::LogGroup;
use crate::kind::permission::Permission;
use crate::kind::queue::{Queue, Redrive};
use crate::kind::role::Role;
use crate::kind::rule::{self, Rule};
use crate::kind::state_machine::StateMachine;
use crate::kind::subscription::Subscription;
use crate::kind::table::{Key, KeyAttribute, Table};
use crate::kind::topic::Topic;
use crate::resource::{Kind, Owner, Properties, Resource, ResourceId};
use crate::{gather, policy, pushdown, watched};

/// The alias that everything hangs on, so that a rollback is one call.
pub const ALIAS: &str = "live";
/// The key that AWS manages for SNS.
const SNS_KEY: &str = "alias/aws/sns";
/// The longest that SQS keeps a message, 14 days: a publisher may be away, and
/// somebody has to look at what is dead.
const QUEUE_RETENTION_S: u32 = 14 * 24 * 3_600;
/// How long a message of the ingest queue is hidden from others by whoever receives
/// it without a word on that, such as a person; a sidecar asks for its own time.
const INGEST_VISIBILITY_S: u32 = 60;
/// For Lambda a message is hidden six times as long as its function may take, so that
/// an invocation that Lambda has to try again still finds it hidden.
/// Source: AWS Lambda developer guide, "Creating and configuring an Amazon SQS event
/// source mapping".
const VISIBILITY_PER_TIMEOUT: u32 = 6;
/// Batches that publish together, at most: what a sidecar has by default. With ten
/// messages each, and some ten batches a second, as much as SNS takes in most regions;
/// a backlog is not to use up the account's functions.
const PUBLISHERS_MAX: u32 = 16;
/// How long a message of the dead queue is hidden from others who look at it.
const DEAD_VISIBILITY_S: u32 = 30;
/// The longest that a receive waits, by SQS's own limit.
const RECEIVE_WAIT_S: u32 = 20;
/// How often the ingest queue offers a message before it is dead: the most that SQS
/// takes. While SNS is down a sidecar holds what it has received, for eleven hours a
/// receive; what it leaves for another reason, and whatever a function leaves, it hides
/// longer each time, up to 15 minutes, so that this lasts ten days. A message that is bad itself it quarantines at
/// once: this count guards only against a publisher that cannot settle.
/// Source: Amazon SQS API reference, `SetQueueAttributes`: 1 to 1,000.
const RECEIVES_MAX: u32 = 1_000;
/// Handlers that take batches from the work queue together, at most. Each works on
/// ten messages side by side, which is more starts a second than Step Functions
/// takes in most regions.
const HANDLERS_MAX: u32 = 16;
/// How often the work queue offers a message before it is dead. What can never be
/// handled the handler puts aside at once; an outage of what it calls may last ten
/// hours, at the handler's default timeout. On FIFO a group waits as long.
const WORK_RECEIVES_MAX: u32 = 100;
/// Lambda's own default and most: two further tries, within six hours.
const RETRIES_MAX: u32 = 2;
const EVENT_AGE_MAX_S: u32 = 6 * 3_600;
/// How often the handler looks for what is due.
const SWEEP_EXPRESSION: &str = "rate(1 minute)";
/// The Id of every rule's only target.
const TARGET_ID: &str = "bellwire";

/// The log group that Lambda writes a function's logs to.
#[must_use]
pub fn log_group_of(function: &str) -> String {
    format!("/aws/lambda/{function}")
}

/// All resources of a workflow, each with what must be there before it.
#[must_use]
pub fn desired(owner: &Owner, workflow: &Workflow, inputs: &Inputs) -> Vec<Resource> {
    let mut desired = Desired { owner, workflow, inputs, resources: Vec::new() };
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
    desired.subscriptions();
    let mut resources = desired.resources;
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

    fn handler_alias_id(&self) -> ResourceId {
        alias_id(&self.owner.deployment.handler())
    }

    fn topic(&mut self) {
        let name = self.owner.deployment.topic(self.workflow.topic.kind);
        let settings = &self.workflow.topic;
        let display_name =
            settings.display_name.clone().unwrap_or_else(|| self.workflow.name.clone());
        let topic = Topic {
            arn: self.owner.place.topic_arn(&name),
            name,
            display_name,
            kms_key: settings.kms_key.clone().unwrap_or_else(|| SNS_KEY.to_owned()),
            policy: policy::topic(&self.topic_arn()),
            tags: self.owner.tags(),
        };
        self.add(Properties::Topic(topic), vec![]);
    }

    fn queues(&mut self) {
        let Owner { deployment, place } = self.owner;
        let (ingest, dead) = (deployment.ingest_queue(), deployment.dead_queue());
        let rules: Vec<String> = rules_into_ingest(self.owner, self.workflow);
        let buckets: Vec<String> = sources_by_bucket(self.workflow).into_keys().collect();
        let queue = |name: &str| Queue {
            name: name.to_owned(),
            arn: place.queue_arn(name),
            visibility_timeout_s: ingest_visibility_s(self.workflow),
            retention_s: QUEUE_RETENTION_S,
            receive_wait_s: RECEIVE_WAIT_S,
            encrypted: true,
            redrive: None,
            redrive_from: Vec::new(),
            policy: Value::Null,
            tags: self.owner.tags(),
        };
        let topic_arn = self.topic_arn();
        let (undelivered, work) = (topic_dead_queue(self.owner, self.workflow), self.work_queue());
        let is_shared = undelivered == dead;
        let dead_queue = |name: &str, redrive_from: Vec<&str>, policy: Value| Queue {
            visibility_timeout_s: DEAD_VISIBILITY_S,
            redrive_from: redrive_from.into_iter().map(|name| place.queue_arn(name)).collect(),
            policy,
            ..queue(name)
        };
        let mut redriving = vec![ingest.as_str()];
        redriving.extend((self.is_queued() && is_shared).then_some(work.as_str()));
        let topic = is_shared.then_some(topic_arn.as_str());
        let policy = policy::dead_queue(self.owner, &place.queue_arn(&dead), topic, &rules);
        let mut queues = vec![dead_queue(&dead, redriving, policy)];
        if !is_shared {
            let arn = place.queue_arn(&undelivered);
            let policy = policy::dead_queue(self.owner, &arn, Some(&topic_arn), &[]);
            queues.push(dead_queue(&undelivered, vec![&work], policy));
        }
        let redrive =
            Redrive { dead_queue_arn: place.queue_arn(&dead), receives_max: RECEIVES_MAX };
        let ingest_queue = Queue {
            redrive: Some(redrive),
            policy: policy::ingest_queue(self.owner, &buckets, &rules),
            ..queue(&ingest)
        };
        let work_queue = Queue {
            visibility_timeout_s: hidden_for_lambda_s(self.workflow.handler.timeout_s),
            redrive: Some(Redrive {
                dead_queue_arn: place.queue_arn(&undelivered),
                receives_max: WORK_RECEIVES_MAX,
            }),
            policy: policy::work_queue(&place.queue_arn(&work), &topic_arn),
            ..queue(&work)
        };
        for dead in queues {
            self.add(Properties::Queue(dead), vec![]);
        }
        self.add(Properties::Queue(ingest_queue), vec![self.dead_queue_id()]);
        if self.is_queued() {
            let depends_on = vec![ResourceId::new(Kind::Queue, undelivered)];
            self.add(Properties::Queue(work_queue), depends_on);
        }
    }

    fn buckets(&mut self) {
        for (bucket, sources) in sources_by_bucket(self.workflow) {
            let mut depends_on = vec![self.ingest_queue_id()];
            if sources.iter().any(|(_, source)| source.create) {
                depends_on.push(ResourceId::new(Kind::Bucket, &bucket));
                let properties = Bucket {
                    name: bucket.clone(),
                    region: self.owner.place.region.clone(),
                    public_access_blocked: true,
                    versioned: true,
                    encryption: "AES256".to_owned(),
                    policy: policy::bucket(self.owner, &bucket),
                    tags: self.owner.tags(),
                };
                self.add(Properties::Bucket(properties), vec![]);
            }
            let queue_arn = self.owner.place.queue_arn(&self.owner.deployment.ingest_queue());
            let entry = |(name, source): &(&str, &S3Source)| {
                let entry = Entry {
                    events: notified_events(&source.emits),
                    prefix: source.prefix.clone(),
                    suffix: source.suffix.clone(),
                    queue_arn: queue_arn.clone(),
                };
                (self.owner.entry_id(name), entry)
            };
            let markers = gather::markers(self.workflow, &bucket).into_iter().map(|marker| {
                let entry = Entry {
                    events: notified_events(&EventType::data_arrived()),
                    prefix: marker.prefix.to_owned(),
                    suffix: marker.name.to_owned(),
                    queue_arn: queue_arn.clone(),
                };
                (self.owner.entry_id(&marker.purpose()), entry)
            });
            let entries = sources.iter().map(entry).chain(markers).collect();
            let notification = BucketNotification { bucket, entries };
            self.add(Properties::BucketNotification(notification), depends_on);
        }
    }

    fn ledger(&mut self) {
        let name = self.owner.deployment.ledger_table();
        // Of all that the ledger's keys are made of, only what is due is no text.
        let attribute = |name: &str| match name {
            "due_at" => KeyAttribute::number(name),
            _ => KeyAttribute::text(name),
        };
        let index = |(name, hash, range): (&str, &str, Option<&str>)| {
            (name.to_owned(), Key { hash: attribute(hash), range: range.map(attribute) })
        };
        let table = Table {
            arn: self.owner.place.table_arn(&name),
            name,
            key: Key { hash: attribute(bellwire_ledger::KEY), range: None },
            indexes: bellwire_ledger::INDEXES.map(index).into(),
            expiry_attribute: Some(bellwire_ledger::EXPIRY_ATTRIBUTE.to_owned()),
            point_in_time_recovery: true,
            deletion_protection: self.workflow.ledger.deletion_protection,
            tags: self.owner.tags(),
        };
        self.add(Properties::Table(table), vec![]);
    }

    fn role(&mut self, name: &str, description: String, trust: Value, policy: Value) {
        let role = Role {
            name: name.to_owned(),
            path: self.owner.role_path(),
            arn: self.owner.role_arn(name),
            description,
            trust,
            policy,
            other_policies: Vec::new(),
            tags: self.owner.tags(),
        };
        self.add(Properties::Role(role), vec![]);
    }

    /// A role for whoever runs the sidecar, or a function on the ingest queue.
    fn publisher(&mut self) {
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

    /// Role, log group and function, which comes after these and what `more` names.
    fn function(
        &mut self,
        function: Function,
        policy: Value,
        retention_days: u32,
        more: Vec<ResourceId>,
    ) {
        let name = function.name.clone();
        let log_group = LogGroup {
            name: log_group_of(&name),
            arn: self.owner.place.log_group_arn(&log_group_of(&name)),
            retention_days: i32::try_from(retention_days).ok(),
            tags: self.owner.tags(),
        };
        self.role(&name, function.description.clone(), policy::trust_lambda(), policy);
        let parts = vec![
            ResourceId::new(Kind::Role, &name),
            ResourceId::new(Kind::LogGroup, &log_group.name),
        ];
        let depends_on = [parts, more].concat();
        self.add(Properties::LogGroup(log_group), vec![]);
        self.add(Properties::Function(function), depends_on);
    }

    fn release(
        &self,
        name: &str,
        artifact: &Artifact,
        memory_mb: u32,
        timeout_s: u32,
        environment: &BTreeMap<String, String>,
    ) -> Release {
        let mut all = BTreeMap::from([("OTEL_SERVICE_NAME".to_owned(), name.to_owned())]);
        if let Some(environment) = &self.owner.deployment.environment {
            all.insert("BELLWIRE_ENVIRONMENT".to_owned(), environment.clone());
        }
        if let Some(endpoint) = &self.workflow.telemetry.otlp_endpoint {
            all.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint.clone());
        }
        // What the user sets has the last word.
        all.extend(environment.clone());
        Release {
            code_sha256: artifact.code_sha256.clone(),
            architecture: artifact.architecture.clone(),
            runtime: "provided.al2023".to_owned(),
            role_arn: self.owner.role_arn(name),
            memory_mb,
            timeout_s,
            environment: all,
        }
    }

    fn alias(&mut self, function: &str, serves: Release, more: Vec<ResourceId>) {
        let depends_on = [vec![ResourceId::new(Kind::Function, function)], more].concat();
        let alias = Alias { function: function.to_owned(), alias: ALIAS.to_owned(), serves };
        self.add(Properties::Alias(alias), depends_on);
    }

    fn user_function(&mut self, settings: &bellwire_schema::workflow::Function) {
        let name = self.owner.deployment.function(&settings.name);
        let artifact = self.inputs.functions.get(&settings.name).cloned().unwrap_or_default();
        let release = self.release(
            &name,
            &artifact,
            settings.memory_mb,
            settings.timeout_s,
            &settings.environment,
        );
        let function = Function {
            arn: self.owner.place.function_arn(&name),
            description: format!(
                "Function {} of Bellwire workflow {}",
                settings.name, self.workflow.name
            ),
            release: release.clone(),
            tags: self.owner.tags(),
            name: name.clone(),
        };
        let policy = policy::function(self.owner, &name, &settings.access);
        self.function(function, policy, settings.log_retention_days, vec![]);
        self.alias(&name, release, vec![]);
    }

    fn state_machines(&mut self) {
        for trigger in &self.workflow.triggers {
            if !matches!(&trigger.target, Target::StepFunctions(Machine::Definition(_))) {
                continue;
            }
            let name = self.owner.deployment.state_machine(&trigger.name);
            let mut definition =
                self.inputs.definitions.get(&trigger.name).cloned().unwrap_or_default();
            let functions: BTreeSet<String> = function_references(&definition)
                .into_iter()
                .map(|function| self.owner.deployment.function(&function))
                .collect();
            substitute(&mut definition, self.owner);
            let arns: Vec<String> =
                functions.iter().map(|function| self.owner.alias_arn(function)).collect();
            let trust = policy::trust_state_machine(self.owner, &name);
            let description = format!(
                "State machine {} of Bellwire workflow {}",
                trigger.name, self.workflow.name
            );
            self.role(&name, description, trust, policy::state_machine(&arns));
            let mut depends_on = vec![ResourceId::new(Kind::Role, &name)];
            depends_on.extend(functions.iter().map(|function| alias_id(function)));
            let machine = StateMachine {
                arn: self.owner.place.state_machine_arn(&name),
                role_arn: self.owner.role_arn(&name),
                definition,
                tags: self.owner.tags(),
                name,
            };
            self.add(Properties::StateMachine(machine), depends_on);
        }
    }

    fn handler(&mut self) {
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
        let machines = machines_started(self.owner, self.workflow);
        let policy = policy::handler(self.owner, self.workflow, &machines);
        // Lambda refuses a timeout that is longer than its queue hides messages.
        let queue = self.is_queued().then(|| self.work_queue_id());
        self.function(function, policy, settings.log_retention_days, queue.into_iter().collect());
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
            true => self.work(&name),
            false => self.permission("bellwire-sns", "sns.amazonaws.com", self.topic_arn()),
        }
    }

    /// What takes the work queue's messages to the handler.
    fn work(&mut self, handler: &str) {
        let mapping = EventSourceMapping::new(
            self.owner.place.queue_arn(&self.work_queue()),
            self.owner.alias_arn(handler),
            BATCH_WITHOUT_WINDOW_MAX,
            self.owner.tags(),
        );
        let mapping = EventSourceMapping { concurrency_max: Some(HANDLERS_MAX), ..mapping };
        let role = ResourceId::new(Kind::Role, handler);
        let depends_on = vec![self.handler_alias_id(), role, self.work_queue_id()];
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

    fn permission_id(&self, sid: &str) -> ResourceId {
        let name = self.handler_permission(sid, "", String::new()).display_name();
        ResourceId::new(Kind::Permission, name)
    }

    fn rule(&mut self, purpose: &str, rule: RuleOf, depends_on: Vec<ResourceId>) {
        let name = self.owner.deployment.rule(purpose);
        let rule = Rule {
            arn: self.owner.place.rule_arn(&name),
            name,
            description: rule.description,
            schedule: rule.schedule,
            pattern: rule.pattern,
            enabled: true,
            targets: BTreeMap::from([(TARGET_ID.to_owned(), rule.target)]),
            tags: self.owner.tags(),
        };
        self.add(Properties::Rule(rule), depends_on);
    }

    fn rules(&mut self) {
        let into_ingest = || rule::Target {
            arn: self.owner.place.queue_arn(&self.owner.deployment.ingest_queue()),
            input: Value::Null,
            dead_queue_arn: Some(self.dead_queue_arn()),
        };
        let queues = vec![self.ingest_queue_id(), self.dead_queue_id()];
        let machines = machines_watched(self.owner, self.workflow);
        let mut rules = Vec::new();
        if !machines.is_empty() {
            let rule = RuleOf {
                description: format!("Runs of Bellwire workflow {} that ended", self.workflow.name),
                schedule: None,
                pattern: watched::executions(&machines),
                target: into_ingest(),
            };
            rules.push(("completions".to_owned(), rule, queues.clone()));
        }
        for source in &self.workflow.sources {
            let (schedule, pattern) = match &source.kind {
                SourceKind::Schedule(schedule) => (Some(schedule.expression.clone()), Value::Null),
                kind => match watched::pattern(kind, &self.owner.place) {
                    Some(pattern) => (None, pattern),
                    None => continue,
                },
            };
            let (name, workflow) = (&source.name, &self.workflow.name);
            let description = format!("Source {name} of Bellwire workflow {workflow}");
            let rule = RuleOf { description, schedule, pattern, target: into_ingest() };
            rules.push((name.clone(), rule, queues.clone()));
        }
        let sweep = RuleOf {
            description: format!("What is due in Bellwire workflow {}", self.workflow.name),
            schedule: Some(SWEEP_EXPRESSION.to_owned()),
            pattern: Value::Null,
            target: rule::Target {
                arn: self.owner.alias_arn(&self.owner.deployment.handler()),
                input: json!({"bellwire": "sweep"}),
                dead_queue_arn: None,
            },
        };
        let depends_on = vec![self.handler_alias_id(), self.permission_id("bellwire-sweep")];
        rules.push(("sweep".to_owned(), sweep, depends_on));
        for (purpose, rule, depends_on) in rules {
            self.rule(&purpose, rule, depends_on);
        }
    }

    fn subscriptions(&mut self) {
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

/// What one rule differs from another in.
struct RuleOf {
    description: String,
    schedule: Option<String>,
    pattern: Value,
    target: rule::Target,
}

fn alias_id(function: &str) -> ResourceId {
    ResourceId::new(Kind::Alias, format!("{function}:{ALIAS}"))
}

/// All subscriptions of our topic: the handler's, and the workflow's subscribers'.
pub(crate) fn subscriptions(owner: &Owner, workflow: &Workflow) -> Vec<Subscription> {
    let subscription = |protocol: &str, endpoint: String, filter_policy: Value| Subscription {
        topic_arn: owner.place.topic_arn(&owner.deployment.topic(workflow.topic.kind)),
        protocol: protocol.to_owned(),
        endpoint,
        filter_policy,
        filter_scope: "MessageAttributes".to_owned(),
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
        let filter = pushdown::subscriber_filter(subscriber);
        subscription(protocol, subscriber.endpoint.clone(), filter)
    });
    [handler].into_iter().chain(others).collect()
}

/// The name of the queue where goes what the topic or the work queue could not
/// deliver: what is FIFO redrives into FIFO queues only.
/// Source: Amazon SNS developer guide, "Amazon SNS dead-letter queues"; Amazon SQS
/// developer guide, "Using dead-letter queues in Amazon SQS".
fn topic_dead_queue(owner: &Owner, workflow: &Workflow) -> String {
    match workflow.topic.kind {
        TopicKind::Standard => owner.deployment.dead_queue(),
        TopicKind::Fifo => owner.deployment.fifo_dead_queue(),
    }
}

/// The S3 sources, by bucket, each with its name.
pub(crate) fn sources_by_bucket(workflow: &Workflow) -> BTreeMap<String, Vec<(&str, &S3Source)>> {
    let mut buckets: BTreeMap<String, Vec<(&str, &S3Source)>> = BTreeMap::new();
    for source in &workflow.sources {
        if let SourceKind::S3(s3) = &source.kind {
            buckets.entry(s3.bucket.clone()).or_default().push((&source.name, s3));
        }
    }
    buckets
}

/// The S3 events that make events of a type, sorted. What a lifecycle rule removes, S3
/// tells of under a name of its own. Source: Amazon S3 user guide, "Event notification
/// types and destinations".
fn notified_events(emits: &EventType) -> Vec<String> {
    let events: &[&str] = match *emits == EventType::data_removed() {
        true => &["s3:LifecycleExpiration:*", "s3:ObjectRemoved:*"],
        false => &["s3:ObjectCreated:*"],
    };
    events.iter().map(|event| (*event).to_owned()).collect()
}

/// The ARNs of the state machines that triggers start.
fn machines_started(owner: &Owner, workflow: &Workflow) -> Vec<String> {
    let machine = |trigger: &bellwire_schema::workflow::Trigger| match &trigger.target {
        Target::StepFunctions(Machine::Definition(_)) => {
            let name = owner.deployment.state_machine(&trigger.name);
            Some(owner.place.state_machine_arn(&name))
        }
        Target::StepFunctions(Machine::Arn(arn)) => Some(arn.clone()),
        _ => None,
    };
    let machines: BTreeSet<String> = workflow.triggers.iter().filter_map(machine).collect();
    machines.into_iter().collect()
}

/// The ARNs of the state machines whose completions matter: those that triggers
/// start, and those that sources name.
fn machines_watched(owner: &Owner, workflow: &Workflow) -> Vec<String> {
    let mut machines: BTreeSet<String> = machines_started(owner, workflow).into_iter().collect();
    for source in &workflow.sources {
        machines.extend(Watch::of(&source.kind, &owner.place).into_iter().filter_map(|watch| {
            match watch {
                Watch::StateMachine(arn) => Some(arn),
                _ => None,
            }
        }));
    }
    machines.into_iter().collect()
}

/// How long the ingest queue hides what was received, in seconds.
fn ingest_visibility_s(workflow: &Workflow) -> u32 {
    match workflow.publisher.run {
        PublisherRun::Sidecar => INGEST_VISIBILITY_S,
        PublisherRun::Lambda => hidden_for_lambda_s(workflow.publisher.timeout_s),
    }
}

/// How long a queue hides a message from others while a function has it, in seconds.
fn hidden_for_lambda_s(timeout_s: u32) -> u32 {
    VISIBILITY_PER_TIMEOUT.saturating_mul(timeout_s)
}

/// The names of the rules that fill the ingest queue.
fn rules_into_ingest(owner: &Owner, workflow: &Workflow) -> Vec<String> {
    let has_rule = |kind: &SourceKind| {
        matches!(kind, SourceKind::Schedule(_) | SourceKind::Sagemaker(_) | SourceKind::Batch(_))
    };
    let sources = workflow.sources.iter().filter(|source| has_rule(&source.kind));
    let sources = sources.map(|source| owner.deployment.rule(&source.name));
    let watches = !machines_watched(owner, workflow).is_empty();
    let completions = watches.then(|| owner.deployment.rule("completions"));
    completions.into_iter().chain(sources).collect()
}

const REFERENCE: &str = "${function:";

/// The names in all `${function:NAME}` of a definition.
pub(crate) fn function_references(definition: &Value) -> BTreeSet<String> {
    match definition {
        Value::String(text) => text
            .split(REFERENCE)
            .skip(1)
            .filter_map(|rest| Some(rest.split_once('}')?.0.to_owned()))
            .collect(),
        Value::Array(items) => items.iter().flat_map(function_references).collect(),
        Value::Object(fields) => fields.values().flat_map(function_references).collect(),
        _ => BTreeSet::new(),
    }
}

/// Puts alias ARNs in place of all `${function:NAME}`.
fn substitute(definition: &mut Value, owner: &Owner) {
    match definition {
        Value::String(text) => {
            for name in function_references(&Value::String(text.clone())) {
                let arn = owner.alias_arn(&owner.deployment.function(&name));
                *text = text.replace(&format!("{REFERENCE}{name}}}"), &arn);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| substitute(item, owner)),
        Value::Object(fields) => fields.values_mut().for_each(|value| substitute(value, owner)),
        _ => {}
    }
}
