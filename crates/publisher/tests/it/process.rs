//! The real program on the local cloud.

use std::fs::File;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use bellwire_ledger::{BY_RUN_INDEX, Cause, Ledger, Start};
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::{DeadLetter, Envelope, EventContext, Stage, StartKey};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cloud::{Deployed, read, set_env, until};
use crate::samples::{TRACEPARENT, status_event, test_event};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_bellwire-publisher");

/// Nothing listens there: the port is one that the system does not hand out.
pub(crate) const NOWHERE: &str = "http://127.0.0.1:1";

/// A publisher that runs; it is ended with the test.
pub(crate) struct Running {
    child: Child,
    pub(crate) url: String,
    log: std::path::PathBuf,
}

pub(crate) fn command(deployed: &Deployed) -> Command {
    command_at(deployed, &deployed.environment, "127.0.0.1:0")
}

pub(crate) fn command_at(deployed: &Deployed, environment: &str, address: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    set_env(&mut command);
    for (name, _) in std::env::vars() {
        if name.starts_with("OTEL_") || name.starts_with("BELLWIRE_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
        .arg("--workflow")
        .arg(&deployed.workflow_file)
        .args(["--env", environment, "--listen", address, "--log-format", "human"])
        .arg("--spool")
        .arg(deployed.folder.join("spool.redb"))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

impl Running {
    pub(crate) async fn start(deployed: &Deployed, settings: &[(&str, &str)]) -> Self {
        let log = deployed.folder.join("publisher.log");
        let address_file = deployed.folder.join("address");
        let child = command(deployed)
            .arg("--address-file")
            .arg(&address_file)
            .envs(settings.iter().copied())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut running = Self { child, url: String::new(), log };
        let address = until("the publisher's start", || {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", running.log());
            read(&address_file)
        });
        running.url = format!("http://{}", address.await);
        running
    }

    fn log(&self) -> String {
        read(&self.log).unwrap_or_default()
    }

    pub(crate) async fn stop(mut self) -> (ExitStatus, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = until("the publisher's end", || self.child.try_wait().unwrap()).await;
        (status, self.log())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the publisher:\n{}", self.log());
        }
    }
}

/// The exit code and standard error of a publisher that ends by itself.
pub(crate) async fn ended(command: &mut Command) -> (Option<i32>, String) {
    let mut command =
        tokio::process::Command::from(std::mem::replace(command, Command::new(PROGRAM)));
    let output = command.kill_on_drop(true).stderr(Stdio::piped()).output();
    let output = tokio::time::timeout(Duration::from_secs(30), output).await.unwrap().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn objects_become_events_and_a_malformed_message_stops_nothing() {
    let deployed = Deployed::new("objects").await;
    let running = Running::start(&deployed, &[]).await;
    let garbage = "{\"Records\": [7], \"and\": \"ü";
    deployed.put("raw/part 1+ü.csv", &[]).await;
    deployed.send(garbage).await;
    deployed.send(&test_event()).await;
    deployed.put("raw/folder/", &[]).await;
    deployed.put("elsewhere/a.csv", &[]).await;
    let context = EventContext {
        traceparent: Some(TRACEPARENT.to_owned()),
        correlationid: Some("c-1".to_owned()),
        hop: 4,
        ..EventContext::default()
    };
    let metadata = context.to_object_metadata();
    let metadata: Vec<_> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    deployed.put("models/model 1", &metadata).await;

    let mut heard = deployed.received(&deployed.heard_url, 2).await;
    heard.sort_by_key(|heard| heard.event().subject);
    let (model, part) = (heard[0].event(), heard[1].event());
    assert_eq!(part.subject.as_deref(), Some("raw/part 1+ü.csv"));
    assert_eq!(part.event_type.as_str(), "ml.data.arrived.v1");
    assert_eq!(part.data.as_ref().unwrap()["size_bytes"], 4);
    assert_eq!(part.context.correlationid.as_deref(), Some(part.id.as_str()));
    assert_eq!(heard[1].attribute("type"), Some("ml.data.arrived.v1"));
    assert_eq!(heard[1].attribute("dataset"), Some("wine"));
    assert_eq!(heard[1].attribute("hop"), Some("0"));
    assert_eq!(model.subject.as_deref(), Some("models/model 1"));
    assert_eq!(model.context, context);
    assert_eq!(heard[0].attribute("traceparent"), Some(TRACEPARENT));

    let dead = deployed.received(&deployed.dead_url, 1).await;
    let letter: DeadLetter = serde_json::from_str(&dead[0].body).unwrap();
    assert_eq!(letter.reason, DeadReason::Undecodable);
    assert_eq!(letter.body().unwrap(), garbage.as_bytes());
    deployed.until_empty(&deployed.ingest_url).await;

    let (status, log) = running.stop().await;
    assert!(status.success(), "{status}: {log}");
    // S3 has tried the notification out: that makes two test events.
    let account = log.lines().last().unwrap();
    assert!(account.contains("published 2, skipped 4, quarantined 1, left 0"), "{log}");
    for part in [
        "event published  type=ml.data.arrived.v1 id=",
        " key=\"raw/part 1+ü.csv\" lag_ms=",
        " trace=4bf92f3577b34da6a3ce929d0e0e4736",
        "record skipped  reason=folder-marker key=raw/folder/",
        "record skipped  reason=test-event",
        "record skipped  reason=no-rule key=elsewhere/a.csv",
        "record quarantined  reason=undecodable",
    ] {
        assert!(log.contains(part), "{part:?} is not in\n{log}");
    }
    assert!(!log.contains("Records"), "a body is in the log:\n{log}");
}

#[tokio::test]
async fn a_posted_event_is_on_the_topic_when_202_is_answered() {
    let deployed = Deployed::new("posted").await;
    let running = Running::start(&deployed, &[]).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let event = json!({
        "specversion": "1.0", "id": "e-1", "source": "/wine-app", "type": "ml.collection.requested.v1",
    });
    let post = |event: &Value| {
        client
            .post(format!("{}/v1/events", running.url))
            .json(event)
            .header("traceparent", TRACEPARENT)
    };
    assert_eq!(post(&event).send().await.unwrap().status(), 202);
    let heard = deployed.received(&deployed.heard_url, 1).await.remove(0);
    assert_eq!(heard.event().id, "e-1");
    assert_eq!(heard.event().context.traceparent.as_deref(), Some(TRACEPARENT));
    assert_eq!(heard.attribute("stage"), Some("collection"));
    let unknown = json!({
        "specversion": "1.0", "id": "e-2", "source": "/wine-app", "type": "ml.data.arrived.v1",
    });
    let refused = post(&unknown).send().await.unwrap();
    assert_eq!(refused.status(), 422);
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    let health = client.get(format!("{}/healthz", running.url)).send().await.unwrap();
    assert_eq!(health.status(), 200);
}

pub(crate) async fn make_ledger(deployed: &Deployed, table: &str) -> Ledger {
    let key = |name: &str| {
        let element = KeySchemaElement::builder().attribute_name(name).key_type(KeyType::Hash);
        element.build().unwrap()
    };
    let attribute = |name: &str| {
        let definition = AttributeDefinition::builder().attribute_name(name);
        definition.attribute_type(ScalarAttributeType::S).build().unwrap()
    };
    let by_run = GlobalSecondaryIndex::builder()
        .index_name(BY_RUN_INDEX)
        .key_schema(key("run_arn"))
        .projection(Projection::builder().projection_type(ProjectionType::All).build())
        .build()
        .unwrap();
    deployed
        .dynamodb
        .create_table()
        .table_name(table)
        .attribute_definitions(attribute("pk"))
        .attribute_definitions(attribute("run_arn"))
        .key_schema(key("pk"))
        .global_secondary_indexes(by_run)
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
        .unwrap();
    Ledger::new(deployed.dynamodb.clone(), table, 400)
}

#[tokio::test]
async fn a_completion_finds_its_origin_in_the_ledger() {
    let deployed = Deployed::new("ledger").await;
    let ledger = make_ledger(&deployed, "wine-ledger-ledger").await;
    let machine = "arn:aws:states:us-east-1:000000000000:stateMachine:wine-ledger-train";
    let run_arn = machine.replace("stateMachine", "execution") + ":train-1";
    let context = EventContext {
        traceparent: Some(TRACEPARENT.to_owned()),
        correlationid: Some("c-1".to_owned()),
        causationid: Some("e-1".to_owned()),
        hop: 3,
        ..EventContext::default()
    };
    let start = Start {
        start_key: StartKey::from("k".to_owned()),
        trigger: "train".to_owned(),
        stage: Stage::Training,
        dataset: Some("wine".to_owned()),
        target: machine.to_owned(),
        name: "train-1".to_owned(),
        input: "{}".to_owned(),
        run_arn: Some(run_arn.clone()),
        expected_duration_s: 60,
        details: Default::default(),
        cause: Cause::of(&Envelope::new("e-1", "/app", "data.arrived".parse().unwrap())),
        context: context.clone(),
    };
    ledger.claim(&start, Timestamp::now()).await.unwrap();
    let _running = Running::start(&deployed, &[]).await;
    deployed.send(&status_event("SUCCEEDED", machine, None)).await;
    let event = deployed.received(&deployed.heard_url, 1).await[0].event();
    assert_eq!(event.event_type.as_str(), "ml.training.completed.v1");
    assert_eq!(event.dataset.as_deref(), Some("wine"));
    assert_eq!(event.context, context);
    let data = event.data.unwrap();
    assert_eq!(data["run"]["arn"], run_arn);
    assert_eq!(data["run"]["trigger"], "train");
    assert_eq!(data["metrics"]["accuracy"], 0.68);
}

#[tokio::test]
async fn a_stop_is_quick_and_clean_where_there_is_nothing_to_do() {
    let deployed = Deployed::new("idle").await;
    let running = Running::start(&deployed, &[]).await;
    let begin = Instant::now();
    let (status, log) = running.stop().await;
    assert!(status.success(), "{status}: {log}");
    // Far below the 20 s of the drain, far above what a busy machine needs.
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    assert!(log.contains("publisher ready"), "{log}");
    assert!(log.contains("stopping  signal=SIGTERM"), "{log}");
    assert!(log.contains("publisher stopped: published 0, skipped"), "{log}");
}

#[tokio::test]
async fn where_traces_are_exported_an_event_gets_one_and_a_dead_backend_stops_nothing() {
    let deployed = Deployed::new("traced").await;
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", NOWHERE)];
    let running = Running::start(&deployed, &settings).await;
    deployed.put("raw/a.csv", &[]).await;
    let heard = deployed.received(&deployed.heard_url, 1).await.remove(0);
    let traceparent = heard.event().context.traceparent.unwrap();
    assert_eq!(heard.attribute("traceparent"), Some(traceparent.as_str()));
    let (status, log) = running.stop().await;
    assert!(status.success(), "{status}: {log}");
    let trace = bellwire_telemetry::trace_id(&traceparent).unwrap();
    assert!(log.contains(&format!(" trace={trace}\n")), "{log}");
}

#[tokio::test]
async fn what_keeps_it_from_beginning_is_said_with_the_remedy() {
    let deployed = Deployed::new("errors").await;
    let (code, message) = ended(&mut command_at(&deployed, "nowhere", "127.0.0.1:0")).await;
    assert_eq!(code, Some(1));
    assert!(message.contains("there is no queue wine-nowhere-"), "{message}");
    assert!(message.contains("deploy the workflow first"), "{message}");
    assert!(message.contains("\n  because sqs:GetQueueUrl failed: "), "{message}");

    let (code, message) = ended(command(&deployed).env("AWS_ENDPOINT_URL", NOWHERE)).await;
    assert_eq!(code, Some(1));
    assert!(message.contains(&format!("{NOWHERE} cannot be reached")), "{message}");

    let (code, message) = ended(command(&deployed).env_remove("AWS_ACCESS_KEY_ID")).await;
    assert_eq!(code, Some(1));
    assert!(message.starts_with("error: no AWS credentials: give the process"), "{message}");

    let mut without = command(&deployed);
    without.env_remove("AWS_REGION").env_remove("AWS_DEFAULT_REGION");
    let (code, message) = ended(&mut without).await;
    assert_eq!(code, Some(1));
    assert!(message.contains("no AWS region is set: set AWS_REGION"), "{message}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, message) = ended(&mut command_at(&deployed, "errors", &address)).await;
    assert_eq!(code, Some(1));
    assert!(message.contains(&format!("cannot listen on {address}: choose another")), "{message}");

    let (code, message) = ended(command(&deployed).args(["--drain-timeout-s", "soon"])).await;
    assert_eq!(code, Some(2));
    assert!(message.contains("error: the settings have 1 problem"), "{message}");
}
