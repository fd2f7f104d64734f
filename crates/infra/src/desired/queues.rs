//! The ingest queue, the work queue, the queue of hints, and the dead queues behind them.

use std::collections::BTreeMap;

use bellwire_schema::workflow::{PublisherRun, TopicKind, Via, Workflow};
use serde_json::Value;

use super::Desired;
use super::buckets::buckets_via;
use super::rules::rules_into_ingest;
use super::subscribers::made_queues;
use crate::elsewhere::foreign_buckets;
use crate::kind::queue::{Queue, Redrive};
use crate::policy;
use crate::resource::{Kind, Owner, Properties, ResourceId};

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
/// How long a hint is kept, in seconds: what it tells of within a minute the sweep has
/// seen to long before. Nobody misses one, so that no dead queue is behind it.
const HINT_RETENTION_S: u32 = 5 * 60;
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
/// How often the work queue offers a message before it is dead. What can never be
/// handled the handler puts aside at once; an outage of what it calls may last ten
/// hours, at the handler's default timeout. On FIFO a group waits as long.
const WORK_RECEIVES_MAX: u32 = 100;

impl Desired<'_> {
    pub(super) fn queues(&mut self) {
        let Owner { deployment, place, .. } = self.owner;
        let (ingest, dead) = (deployment.ingest_queue(), deployment.dead_queue());
        let rules: Vec<String> = rules_into_ingest(self.owner, self.workflow);
        let buckets = buckets_via(self.workflow, Via::Publisher);
        let mut of_others: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (bucket, account) in foreign_buckets(self.workflow) {
            of_others.entry(account).or_default().push(bucket);
        }
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
        let made = made_queues(self.owner, self.workflow, TopicKind::Standard);
        redriving.extend(made.iter().map(String::as_str));
        let topic = is_shared.then_some(topic_arn.as_str());
        let policy = policy::dead_queue(self.owner, &place.queue_arn(&dead), topic, &rules);
        let mut queues = vec![dead_queue(&dead, redriving, policy)];
        if !is_shared {
            let arn = place.queue_arn(&undelivered);
            let policy = policy::dead_queue(self.owner, &arn, Some(&topic_arn), &[]);
            let made = made_queues(self.owner, self.workflow, TopicKind::Fifo);
            let redriving = [&work].into_iter().chain(&made).map(String::as_str).collect();
            queues.push(dead_queue(&undelivered, redriving, policy));
        }
        let redrive =
            Redrive { dead_queue_arn: place.queue_arn(&dead), receives_max: RECEIVES_MAX };
        let ingest_queue = Queue {
            redrive: Some(redrive),
            policy: policy::ingest_queue(self.owner, &buckets, &of_others, &rules),
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
        if self.workflow.has_short_waits() {
            let hints = deployment.hint_queue();
            let hint_queue = Queue {
                visibility_timeout_s: hidden_for_lambda_s(self.workflow.handler.timeout_s),
                retention_s: HINT_RETENTION_S,
                policy: policy::hint_queue(&place.queue_arn(&hints)),
                ..queue(&hints)
            };
            self.add(Properties::Queue(hint_queue), vec![]);
        }
        for dead in queues {
            self.add(Properties::Queue(dead), vec![]);
        }
        self.add(Properties::Queue(ingest_queue), vec![self.dead_queue_id()]);
        if self.is_queued() {
            let depends_on = vec![ResourceId::new(Kind::Queue, undelivered)];
            self.add(Properties::Queue(work_queue), depends_on);
        }
    }
}

/// The name of the queue where goes what the topic or the work queue could not
/// deliver: what is FIFO redrives into FIFO queues only.
/// Source: Amazon SNS developer guide, "Amazon SNS dead-letter queues"; Amazon SQS
/// developer guide, "Using dead-letter queues in Amazon SQS".
pub(super) fn topic_dead_queue(owner: &Owner, workflow: &Workflow) -> String {
    match workflow.topic.kind {
        TopicKind::Standard => owner.deployment.dead_queue(),
        TopicKind::Fifo => owner.deployment.fifo_dead_queue(),
    }
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
