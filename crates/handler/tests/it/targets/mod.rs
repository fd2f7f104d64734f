//! Every kind of target: started once where it can be, and told of truly where not.

mod batch;
mod calls;
mod errors;
mod lambda;
mod messages;
mod sagemaker_pipeline;

use aws_sdk_dynamodb::types::AttributeValue;
use bellwire_handler::plan::plan_start;
use bellwire_handler::{Model, Moment};
use bellwire_ledger::{Start, StartRow};
use bellwire_schema::completion::{CompletionOrigin, StatusEvent};
use bellwire_schema::{Envelope, EventContext};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::stub::Stub;
use crate::world::{self, World, settings_of};

const WORKFLOW: &str = r#"
workflow = "wine"
[handler]
delivery = "queued"
timeout_s = 60
SOURCES
[[trigger]]
name = "fit"
stage = "training"
on = "fit.wanted"
start = { sagemaker-pipeline = "Fit-Wine" }
input = { Seed = "$.data.seed", Model = "champion", fast = true }
[[trigger]]
name = "fit-gone"
stage = "training"
on = "gone.wanted"
start = { sagemaker-pipeline = "gone" }
[[trigger]]
name = "score"
stage = "prediction"
on = "score.wanted"
start = { batch = { job_queue = "gpu", job_definition = "score:3" } }
[[trigger]]
name = "notify"
stage = "evaluation"
on = "notify.wanted"
start = { lambda = "notify" }
[[trigger]]
name = "tell"
stage = "evaluation"
on = "tell.wanted"
start = { sns = "arn:aws:sns:us-east-1:000000000000:other.fifo" }
[[trigger]]
name = "queue"
stage = "evaluation"
on = "queue.wanted"
start = { sqs = "arn:aws:sqs:us-east-1:000000000000:other" }
input = { key = "$.data.key" }
[[trigger]]
name = "queue-fifo"
stage = "evaluation"
on = "ordered.wanted"
start = { sqs = "arn:aws:sqs:us-east-1:000000000000:ordered.fifo" }
[[trigger]]
name = "collect"
stage = "collection"
on = "collect.wanted"
start = { step-functions = "collect.asl.json" }
"#;

const WANTED: [&str; 8] = ["fit", "gone", "score", "notify", "tell", "queue", "ordered", "collect"];

fn workflow() -> String {
    let event = |name: &&str| format!("[[event]]\ntype = \"{name}.wanted\"\n");
    WORKFLOW.replace("SOURCES", &WANTED.iter().map(event).collect::<String>())
}

/// The workflow's world, with SageMaker and Batch on a stub.
async fn world() -> (World, Stub) {
    let stub = Stub::start().await;
    let config = stub.config().await;
    let world = World::of(&workflow(), &["collect"], |clients| {
        clients.sagemaker = aws_sdk_sagemaker::Client::new(&config);
        clients.batch = aws_sdk_batch::Client::new(&config);
    })
    .await;
    (world, stub)
}

/// An event that one trigger wants.
fn wanted(what: &str, id: &str) -> Envelope {
    let mut event = Envelope::new(id, "/app", format!("{what}.wanted").parse().unwrap());
    event.dataset = Some("wine".to_owned());
    event.context.traceparent =
        Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    event.with_payload(&json!({ "seed": 7, "key": "raw/a.csv" }))
}

fn at(seconds: i64) -> Moment {
    let now = Timestamp::now() + SignedDuration::from_secs(seconds);
    Moment { now, deadline: now + SignedDuration::from_secs(60) }
}

/// Past the function's timeout and the skew of clocks.
const LEASE_OVER_S: i64 = 60 + 30 + 2;

impl World {
    /// Delivers an event as the work queue does; whether it was done with.
    async fn queued(&self, event: &Envelope, moment: Moment) -> bool {
        let batch = world::batch(&[("q-1", "wine", event.to_json())]);
        let answer = self.handler.handle(&batch, moment).await.unwrap().unwrap();
        answer.batch_item_failures.is_empty()
    }

    async fn queued_side_by_side(&self, event: &Envelope, times: usize) -> usize {
        let deliveries = (0..times).map(|_| {
            let (handler, batch) =
                (self.handler.clone(), world::batch(&[("q-1", "wine", event.to_json())]));
            tokio::spawn(async move { handler.handle(&batch, at(0)).await })
        });
        let mut done = 0;
        for delivery in deliveries.collect::<Vec<_>>() {
            let answer = delivery.await.unwrap().unwrap().unwrap();
            done += usize::from(answer.batch_item_failures.is_empty());
        }
        done
    }

    async fn sweep_at(&self, seconds: i64) {
        self.handler.handle(&json!({ "bellwire": "sweep" }), at(seconds)).await.unwrap();
    }

    /// What a handler leaves that dies between its claim and its start.
    async fn claimed(&self, event: &Envelope) -> Start {
        let model = Model::compile(settings_of(&workflow())).unwrap();
        let trigger = bellwire_handler::matching::matching(&model, event).next().unwrap();
        let context = EventContext {
            traceparent: event.context.traceparent.clone(),
            ..EventContext::default()
        };
        let start = plan_start(&model, trigger, event, context).unwrap();
        self.ledger.claim(&start, Timestamp::now()).await.unwrap();
        start
    }

    /// What a handler leaves that dies between its start and its record.
    async fn forget_record(&self, event_id: &str) {
        let row = self.row_of(event_id).await;
        let due_at = (row.claimed_at + SignedDuration::from_secs(240)).as_second();
        let shard = u32::from_str_radix(&row.start.start_key.as_str()[..2], 16).unwrap();
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let update = self
            .clients
            .dynamodb
            .update_item()
            .table_name("wine-ledger")
            .key("pk", text(&format!("start#{}", row.start.start_key)))
            .update_expression(
                "SET #row.#state = :claimed, due_at = :due_at, due_shard = :shard \
                 REMOVE run_arn, #row.started_at",
            )
            .expression_attribute_names("#row", "row")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":claimed", text("claimed"))
            .expression_attribute_values(":due_at", AttributeValue::N(due_at.to_string()))
            .expression_attribute_values(":shard", text(&format!("due#{}", shard % 4)));
        update.send().await.unwrap();
    }
}

/// The event that a publisher makes of EventBridge's word on a run of ours.
fn event_of(status_event: &Value, row: &StartRow) -> Envelope {
    let origin: CompletionOrigin = row.completion_origin();
    match StatusEvent::decode(status_event) {
        Some(Ok(StatusEvent::Ended(completion))) => completion.to_envelope(&origin),
        other => panic!("{other:?}"),
    }
}
