//! A FIFO workflow on the local cloud, whole: deployed as its file asks for it, fed by
//! the publisher's own outbox, and handled by the real function from its work queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use aws_sdk_sqs::types::QueueAttributeName;
use bellwire_infra::inputs::Code;
use bellwire_infra::resource::Kind;
use bellwire_publisher::counts::Counts;
use bellwire_publisher::ingest::Admit as _;
use bellwire_publisher::outbox::Outbox;
use bellwire_publisher::pack::Entry;
use bellwire_publisher::publish::{Outlet, SnsTopic};
use bellwire_publisher::quarantine::SqsDeadQueue;
use bellwire_publisher::spool::{Limits, Spool};
use bellwire_schema::Envelope;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::deployed::{Deployed, PATIENCE, execute};

const WORKFLOW: &str = r#"
workflow = "queue"
[topic]
kind = "KIND"
[handler]
delivery = "queued"
[ledger]
deletion_protection = false
[[source]]
name = "app"
kind = "http"
emits = "collection.requested"
[[trigger]]
name = "collect"
stage = "collection"
on = "collection.requested"
start = { step-functions = "pass.asl.json" }
"#;

/// Beside it, in the standard workflow: what another team is told.
const TELLING: &str = r#"
[[trigger]]
name = "tell"
stage = "evaluation"
on = "collection.started"
start = { sqs = "arn:aws:sqs:us-east-1:000000000000:told" }
"#;

const STARTED: &str = "ml.collection.started.v1";
const REQUESTED: &str = "ml.collection.requested.v1";

const LIMITS: Limits = Limits { events_max: 1_000, bytes_max: 16 * 1024 * 1024 };

struct World {
    deployed: Deployed,
    sqs: aws_sdk_sqs::Client,
    topic: &'static str,
}

impl World {
    async fn new(kind: &str) -> Self {
        let telling = if kind == "standard" { TELLING } else { "" };
        let deployed = Deployed::of(WORKFLOW.replace("KIND", kind) + telling).await;
        let sqs = aws_sdk_sqs::Client::new(&deployed.config);
        let topic = if kind == "fifo" { "queue.fifo" } else { "queue" };
        Self { deployed, sqs, topic }
    }

    /// Subscribes a queue of the topic's kind to all that the topic gets.
    async fn hear_everything(&self) {
        let arn = self.deployed.place.queue_arn(&self.heard());
        let policy = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage", "Resource": arn,
        }]});
        let mut queue = self.sqs.create_queue().queue_name(self.heard());
        queue = queue.attributes(QueueAttributeName::Policy, policy.to_string());
        if self.heard() == "heard.fifo" {
            queue = queue.attributes(QueueAttributeName::FifoQueue, "true");
        }
        queue.send().await.unwrap();
        let subscribe = aws_sdk_sns::Client::new(&self.deployed.config).subscribe();
        let subscribe =
            subscribe.topic_arn(self.deployed.place.topic_arn(self.topic)).protocol("sqs");
        let subscribe = subscribe.endpoint(arn).attributes("RawMessageDelivery", "true");
        subscribe.send().await.unwrap();
    }

    fn heard(&self) -> String {
        self.topic.replace("queue", "heard")
    }

    async fn url(&self, queue: &str) -> String {
        self.sqs.get_queue_url().queue_name(queue).send().await.unwrap().queue_url.unwrap()
    }

    /// Publishes as a publisher does what came in over HTTP.
    async fn publish(&self, events: Vec<Envelope>) {
        let sns = aws_sdk_sns::Client::new(&self.deployed.config);
        let topic = SnsTopic::new(sns, self.deployed.place.topic_arn(self.topic));
        let dead = SqsDeadQueue::new(self.sqs.clone(), self.url("queue-dead").await);
        let spool = Spool::in_memory(LIMITS).unwrap();
        let entries = events.into_iter().map(|event| Entry::of(event).unwrap());
        spool.admit(entries.collect()).await.unwrap();
        let outbox = Outbox {
            spool,
            outlet: Arc::new(Outlet::new(Arc::new(topic), 4)),
            dead: Arc::new(dead),
            counts: Arc::new(Counts::default()),
        };
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        assert_eq!(outbox.run(shutdown, PATIENCE).await.unwrap(), 0, "events are left");
    }

    /// What the listener hears until so many events of a type have come.
    async fn hear(&self, event_type: &str, count: usize) -> Vec<Envelope> {
        let is_of_type = |event: &Envelope| event.event_type.as_str() == event_type;
        self.take_until(&self.heard(), |heard| {
            heard.iter().filter(|event| is_of_type(event)).count() >= count
        })
        .await
    }

    /// What is in a queue, once there is so much.
    async fn take(&self, queue: &str, count: usize) -> Vec<Envelope> {
        self.take_until(queue, |taken| taken.len() >= count).await
    }

    async fn take_until(&self, queue: &str, is_all: impl Fn(&[Envelope]) -> bool) -> Vec<Envelope> {
        let (url, begin) = (self.url(queue).await, Instant::now());
        let mut heard: Vec<Envelope> = Vec::new();
        while !is_all(&heard) {
            assert!(begin.elapsed() < PATIENCE, "{queue} did not get all: {heard:#?}");
            let receive = self.sqs.receive_message().queue_url(&url).wait_time_seconds(1);
            let received = receive.max_number_of_messages(10).send().await.unwrap();
            for message in received.messages.unwrap_or_default() {
                heard.push(Envelope::from_json(message.body.unwrap().as_bytes()).unwrap());
                let delete = self.sqs.delete_message().queue_url(&url);
                delete.receipt_handle(message.receipt_handle.unwrap()).send().await.unwrap();
            }
        }
        heard
    }
}

fn requested(id: &str, dataset: &str) -> Envelope {
    let mut event = Envelope::new(id, "/app", "collection.requested".parse().unwrap());
    event.dataset = Some(dataset.to_owned());
    event.with_payload(&json!({ "parameters": {} }))
}

/// By dataset, what was started, in order.
fn started_by_dataset(heard: &[Envelope]) -> BTreeMap<String, Vec<String>> {
    let mut started: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in heard.iter().filter(|event| event.event_type.as_str() == STARTED) {
        let cause = event.data.as_ref().unwrap()["event_id"].as_str().unwrap();
        started.entry(event.dataset.clone().unwrap()).or_default().push(cause.to_owned());
    }
    started
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifo_workflow_starts_what_is_of_one_dataset_in_order() {
    let world = World::new("fifo").await;
    world.deployed.apply().await;
    let provisioner = world.deployed.provisioner().await;
    let (plan, _) = world.deployed.plan(&provisioner).await;
    assert!(plan.is_empty(), "{plan}");
    world.hear_everything().await;

    let ids = |dataset: &str| (0..6).map(|n| format!("{dataset}-{n}")).collect::<Vec<_>>();
    let of = |dataset: &str| {
        ids(dataset).into_iter().map(|id| requested(&id, dataset)).collect::<Vec<_>>()
    };
    let mut events: Vec<Envelope> =
        of("white").into_iter().zip(of("red wine")).flat_map(<[Envelope; 2]>::from).collect();
    // What is delivered a second time is one event: the topic keeps it back.
    events.push(events[0].clone());
    world.publish(events).await;
    let heard = world.hear(STARTED, 12).await;
    let requests = heard.iter().filter(|event| event.event_type.as_str() == REQUESTED).count();
    assert_eq!(requests, 12);
    let expected = ["red wine", "white"].map(|dataset| (dataset.to_owned(), ids(dataset)));
    assert_eq!(started_by_dataset(&heard), expected.into());

    let queues =
        ["queue-ingest", "queue-work.fifo", "queue-dead.fifo", "queue-dead", "queue-ledger"];
    let plan = provisioner.plan_destroy(&queues.map(str::to_owned)).await.unwrap();
    execute(&provisioner, &plan, &Code::default()).await;
    let left = world.sqs.list_queues().send().await.unwrap().queue_urls.unwrap_or_default();
    assert_eq!(left.len(), 1, "the listener's alone: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standard_workflow_is_handled_through_a_work_queue_too() {
    let world = World::new("standard").await;
    world.sqs.create_queue().queue_name("told").send().await.unwrap();
    let plan = world.deployed.apply().await;
    let is_permitted = plan
        .steps
        .iter()
        .any(|step| step.id.kind == Kind::Permission && step.id.name.contains("bellwire-sns"));
    assert!(!is_permitted, "SNS need not invoke the function: {plan}");
    world.hear_everything().await;
    world.publish((0..12).map(|n| requested(&n.to_string(), "wine")).collect()).await;
    let mut started = started_by_dataset(&world.hear(STARTED, 12).await)["wine"].clone();
    started.sort_by_key(|id| id.parse::<u32>().unwrap());
    let expected = (0..12).map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(started, expected);

    // The function was built with this target, and its role may send to that queue.
    let told = world.take("told", 12).await;
    let mut told = started_by_dataset(&told)["wine"].clone();
    told.sort_by_key(|id| id.parse::<u32>().unwrap());
    assert_eq!(told, expected);
}
