//! A small workflow on a local cloud, and what its tests ask of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_dynamodb::types::AttributeValue;
use bellwire_handler::plan::plan_start;
use bellwire_handler::{Clients, Handler, Model, Settings};
use bellwire_infra::resource::Owner;
use bellwire_ledger::{Ledger, Start, StartRow, create_table_request};
use bellwire_local::LocalCloud;
use bellwire_schema::workflow::Workflow;
use bellwire_schema::{DeadLetter, Deployment, Envelope, EventContext, Place};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::calls::Calls;

const WORKFLOW: &str = r#"
workflow = "wine"
[claim_check]
bucket = "wine-lake"
[[event]]
type = "label.approved"
[[source]]
name = "app"
kind = "http"
emits = "collection.requested"
[[source]]
name = "app-training"
kind = "http"
emits = "training.requested"
[[source]]
name = "labels"
kind = "http"
emits = "label.approved"
[[source]]
name = "scores"
kind = "step-functions"
resource = "scoring"
stage = "evaluation"
[[trigger]]
name = "collect"
stage = "collection"
on = "collection.requested"
start = { step-functions = "collect.asl.json" }
expected_duration = "1h"
[[trigger]]
name = "train"
stage = "training"
on = "training.requested"
start = { step-functions = "train.asl.json" }
[[trigger]]
name = "label"
stage = "training"
on = "label.approved"
start = { step-functions = "label.asl.json" }
input = { batch = "$.data.parameters.batch" }
[[trigger]]
name = "predict"
stage = "prediction"
on = "evaluation.completed"
where = { data.metrics.accuracy = [{ numeric = [">=", 0.60] }] }
start = { step-functions = "predict.asl.json" }
"#;

/// The state machines that are there; the `train` trigger's is not.
const MACHINES: [&str; 2] = ["collect", "predict"];

pub(crate) const BUCKET: &str = "wine-lake";

const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) handler: Arc<Handler>,
    pub(crate) clients: Clients,
    /// The handler's own: they may do what its role may.
    role: Clients,
    pub(crate) ledger: Ledger,
    /// What was called on DynamoDB, and what fails there.
    pub(crate) calls: Calls,
    listener_url: String,
    dead_queue_url: String,
    pub(crate) cloud: LocalCloud,
}

fn settings() -> Settings {
    settings_of(WORKFLOW)
}

pub(crate) fn settings_of(workflow: &str) -> Settings {
    let workflow = bellwire_schema::workflow::read(workflow);
    let workflow: Workflow = workflow.unwrap_or_else(|problems| panic!("{problems}"));
    let deployment = Deployment::new("wine", None);
    let place = Place::new(bellwire_local::REGION, bellwire_local::ACCOUNT_ID);
    Settings { workflow, deployment, place }
}

pub(crate) fn machine_arn(trigger: &str) -> String {
    let Settings { deployment, place, .. } = settings();
    place.state_machine_arn(&deployment.state_machine(trigger))
}

/// An event that the `collect` trigger wants.
pub(crate) fn requested(id: &str) -> Envelope {
    let event = Envelope::new(id, "/app", "collection.requested".parse().unwrap());
    event.with_payload(&json!({ "parameters": { "seed": 7 } }))
}

/// An event that the `predict` trigger wants where the accuracy is high enough.
pub(crate) fn quality_event(id: &str, accuracy: f64) -> Envelope {
    let event = Envelope::new(id, "/app", "evaluation.completed".parse().unwrap());
    event.with_payload(&json!({
        "run": { "arn": format!("arn:run:{id}"), "status": "SUCCEEDED" },
        "metrics": { "accuracy": accuracy },
    }))
}

/// What SNS invokes the function with.
pub(crate) fn delivery(event: &Envelope) -> Value {
    sns(&event.to_json())
}

pub(crate) fn sns(message: &str) -> Value {
    json!({ "Records": [{
        "EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": "arn:sub",
        "Sns": {
            "Type": "Notification", "MessageId": "m-1", "Subject": null, "Message": message,
            "TopicArn": "arn:aws:sns:us-east-1:000000000000:wine",
            "Timestamp": "2026-11-22T02:14:08.113Z", "SignatureVersion": "1", "Signature": "x",
            "SigningCertUrl": "x", "UnsubscribeUrl": "x", "MessageAttributes": {},
        },
    }] })
}

/// What Lambda invokes the function with for messages of a FIFO queue: id, group, body.
pub(crate) fn batch(queued: &[(&str, &str, String)]) -> Value {
    let record = |(id, group, body): &(&str, &str, String)| {
        json!({
            "messageId": id, "receiptHandle": "r", "body": body, "messageAttributes": {},
            "attributes": { "MessageGroupId": group, "ApproximateReceiveCount": "1" },
            "eventSource": "aws:sqs", "awsRegion": bellwire_local::REGION,
            "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:wine-work.fifo",
        })
    };
    json!({ "Records": queued.iter().map(record).collect::<Vec<_>>() })
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::of(WORKFLOW, &MACHINES, |_| {}).await
    }

    /// The world of another workflow of the same name, in which some state machines are
    /// there, and some services are elsewhere.
    pub(crate) async fn of(
        workflow: &str,
        machines: &[&str],
        alter: impl Fn(&mut Clients),
    ) -> Self {
        let cloud = LocalCloud::for_tests();
        let config = config_at(cloud.endpoint_url(), cloud.region()).await;
        let calls = Calls::default();
        let mut clients = clients_of(&config, &calls);
        alter(&mut clients);
        clients.s3.create_bucket().bucket(BUCKET).send().await.unwrap();
        let settings = settings_of(workflow);
        let policy = handler_policy(&settings);
        let model = Model::compile(settings).unwrap();
        let table = model.deployment.ledger_table();
        create_table_request(&clients.dynamodb, &table).send().await.unwrap();
        let role_arn = create_role(&config).await;
        for machine in machines {
            create_machine(&clients, &role_arn, &model.deployment.state_machine(machine)).await;
        }
        let mut role = clients_of(&assumed(&config, &policy).await, &calls);
        alter(&mut role);
        let dead_queue_url = create_queue(&clients, &model.deployment.dead_queue()).await;
        if model.workflow.has_short_waits() {
            create_queue(&clients, &model.deployment.hint_queue()).await;
        }
        let listener_url = create_listener(&clients, &model).await;
        Self {
            ledger: Ledger::new(clients.dynamodb.clone(), &table, 400),
            handler: Arc::new(Handler::new(model, role.clone())),
            role,
            clients,
            calls,
            listener_url,
            dead_queue_url,
            cloud,
        }
    }

    /// Puts a payload as the publisher does, under a key.
    pub(crate) async fn put_object(&self, key: &str, payload: &Value) {
        let put = self.clients.s3.put_object().bucket(BUCKET).key(key);
        let put =
            put.content_type("application/json").body(payload.to_string().into_bytes().into());
        put.send().await.unwrap();
    }

    pub(crate) async fn executions(&self, trigger: &str) -> Vec<String> {
        let list = self.clients.sfn.list_executions().state_machine_arn(machine_arn(trigger));
        let list = list.send().await.unwrap().executions;
        list.into_iter().map(|execution| execution.execution_arn).collect()
    }

    pub(crate) async fn input_of(&self, run_arn: &str) -> String {
        let describe = self.clients.sfn.describe_execution().execution_arn(run_arn);
        describe.send().await.unwrap().input.unwrap()
    }

    pub(crate) async fn wait_for_end(&self, run_arn: &str) {
        let deadline = Instant::now() + DEADLINE;
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        loop {
            pace.tick().await;
            let describe = self.clients.sfn.describe_execution().execution_arn(run_arn);
            if describe.send().await.unwrap().status.as_str() == "SUCCEEDED" {
                return;
            }
            assert!(Instant::now() < deadline, "{run_arn} did not end");
        }
    }

    /// What a handler leaves that dies between its claim and its start.
    pub(crate) async fn claim_and_crash(&self, event: &Envelope) -> Start {
        let model = Model::compile(settings()).unwrap();
        let context = EventContext {
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
            ..EventContext::default()
        };
        let start = plan_start(&model, &model.triggers[0], event, context).unwrap();
        self.ledger.claim(&start, Timestamp::now()).await.unwrap();
        start
    }

    pub(crate) async fn rows(&self) -> Vec<StartRow> {
        self.ledger.starts_of_day(Timestamp::now()).await.unwrap()
    }

    pub(crate) async fn only_row(&self) -> StartRow {
        let rows = self.rows().await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows.into_iter().next().unwrap()
    }

    pub(crate) async fn row_of(&self, event_id: &str) -> StartRow {
        let rows = self.rows().await;
        rows.into_iter().find(|row| row.start.cause.id == event_id).unwrap()
    }

    /// As where the execution's state machine was deleted and made again.
    pub(crate) async fn point_to_no_run(&self, event_id: &str) {
        let start = self.row_of(event_id).await.start;
        let key = AttributeValue::S(format!("start#{}", start.start_key));
        let run_arn = AttributeValue::S(format!("{}-gone", start.run_arn.unwrap()));
        let update = self.clients.dynamodb.update_item().key("pk", key);
        let update = update.table_name(settings().deployment.ledger_table());
        let update = update.update_expression("SET run_arn = :run_arn");
        update.expression_attribute_values(":run_arn", run_arn).send().await.unwrap();
    }

    pub(crate) async fn delete_bucket(&self) {
        self.clients.s3.delete_bucket().bucket(BUCKET).send().await.unwrap();
    }

    pub(crate) async fn delete_ledger(&self) {
        let table = settings().deployment.ledger_table();
        self.clients.dynamodb.delete_table().table_name(table).send().await.unwrap();
    }

    /// Takes what the handler published of one type since the last look.
    pub(crate) async fn published(&self, event_type: &str) -> Vec<Envelope> {
        let bodies = self.take(&self.listener_url).await;
        let events = bodies.iter().map(|body| Envelope::from_json(body.as_bytes()).unwrap());
        events.filter(|event| event.event_type.as_str() == event_type).collect()
    }

    /// A function of its own, which knows nothing of the others' windows.
    pub(crate) fn another_handler(&self, workflow: &str) -> Handler {
        Handler::new(Model::compile(settings_of(workflow)).unwrap(), self.role.clone())
    }

    pub(crate) async fn dead_letter(&self) -> DeadLetter {
        let letters = self.take(&self.dead_queue_url).await;
        let [letter] = &letters[..] else { panic!("one dead letter: {letters:?}") };
        serde_json::from_str(letter).unwrap()
    }

    pub(crate) async fn assert_no_dead_letter(&self) {
        assert_eq!(self.take(&self.dead_queue_url).await, Vec::<String>::new());
    }

    pub(crate) async fn take(&self, queue_url: &str) -> Vec<String> {
        let receive = self.clients.sqs.receive_message().queue_url(queue_url);
        let messages = receive.max_number_of_messages(10).send().await.unwrap().messages;
        let mut bodies = Vec::new();
        for message in messages.unwrap_or_default() {
            let delete = self.clients.sqs.delete_message().queue_url(queue_url);
            delete.receipt_handle(message.receipt_handle.unwrap()).send().await.unwrap();
            bodies.push(message.body.unwrap());
        }
        bodies
    }
}

/// The configuration of whoever may do everything at an endpoint.
pub(crate) async fn config_at(endpoint_url: impl Into<String>, region: &'static str) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(endpoint_url)
        .region(Region::new(region))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .load()
        .await
}

fn clients_of(config: &SdkConfig, calls: &Calls) -> Clients {
    let counted = aws_sdk_dynamodb::config::Builder::from(config).interceptor(calls.clone());
    let dynamodb = aws_sdk_dynamodb::Client::from_conf(counted.build());
    Clients { dynamodb, ..Clients::new(config) }
}

/// What a deploy lets the handler of a workflow do.
fn handler_policy(settings: &Settings) -> Value {
    let (deployment, place) = (settings.deployment.clone(), settings.place.clone());
    let owner = Owner::new(deployment, place, &settings.workflow.security);
    bellwire_infra::policy::handler(&owner, &settings.workflow)
}

/// The same place, for a role that may do what a policy says and nothing else.
async fn assumed(config: &SdkConfig, policy: &Value) -> SdkConfig {
    let iam = aws_sdk_iam::Client::new(config);
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": { "AWS": format!("arn:aws:iam::{}:root", bellwire_local::ACCOUNT_ID) },
    }] });
    let create = iam.create_role().role_name("wine-handler");
    let role = create.assume_role_policy_document(trust.to_string()).send().await.unwrap();
    let put = iam.put_role_policy().role_name("wine-handler").policy_name("bellwire");
    put.policy_document(policy.to_string()).send().await.unwrap();
    let assume = aws_sdk_sts::Client::new(config).assume_role();
    let assume = assume.role_arn(role.role.unwrap().arn).role_session_name("handler");
    let keys = assume.send().await.unwrap().credentials.unwrap();
    let credentials = Credentials::new(
        keys.access_key_id,
        keys.secret_access_key,
        Some(keys.session_token),
        None,
        "assumed",
    );
    let provider = SharedCredentialsProvider::new(credentials);
    config.to_builder().credentials_provider(provider).build()
}

/// Step Functions takes a state machine only with a role that is there.
async fn create_role(config: &SdkConfig) -> String {
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "Service": "states.amazonaws.com" },
        "Action": "sts:AssumeRole",
    }] });
    let create = aws_sdk_iam::Client::new(config).create_role().role_name("wine-machines");
    let created = create.assume_role_policy_document(trust.to_string()).send().await.unwrap();
    created.role.unwrap().arn
}

async fn create_machine(clients: &Clients, role_arn: &str, name: &str) {
    let definition = json!({
        "StartAt": "Done", "States": { "Done": { "Type": "Pass", "End": true } },
    });
    let create = clients.sfn.create_state_machine().name(name).role_arn(role_arn);
    create.definition(definition.to_string()).send().await.unwrap();
}

async fn create_queue(clients: &Clients, name: &str) -> String {
    clients.sqs.create_queue().queue_name(name).send().await.unwrap().queue_url.unwrap()
}

/// The topic, and a queue that hears everything on it.
async fn create_listener(clients: &Clients, model: &Model) -> String {
    let topic = clients.sns.create_topic().name(model.topic()).send().await.unwrap();
    let queue_url = create_queue(clients, "listener").await;
    let subscribe = clients
        .sns
        .subscribe()
        .topic_arn(topic.topic_arn.unwrap())
        .protocol("sqs")
        .endpoint(model.place.queue_arn("listener"))
        .attributes("RawMessageDelivery", "true");
    let queue_policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "Service": "sns.amazonaws.com" },
        "Action": "sqs:SendMessage", "Resource": model.place.queue_arn("listener"),
    }] });
    let attribute = aws_sdk_sqs::types::QueueAttributeName::Policy;
    let set = clients.sqs.set_queue_attributes().queue_url(&queue_url);
    set.attributes(attribute, queue_policy.to_string()).send().await.unwrap();
    subscribe.send().await.unwrap();
    queue_url
}
