//! The wine example, end to end.

mod permissions;

use std::collections::{BTreeMap, BTreeSet};

use bellwire_otlp_receiver::Span;
use bellwire_schema::Envelope;
use bellwire_schema::workflow::TopicKind;
use serde_json::{Value, json};
use wine_tests::{World, until};

const TRIGGERS: [&str; 4] = ["collect", "train", "evaluate", "predict"];

fn is_of<'a>(event_type: &'a str) -> impl Fn(&Envelope) -> bool + 'a {
    move |event| event.event_type.as_str() == event_type
}

fn all_completed(runs: &[Value]) -> bool {
    runs.len() == TRIGGERS.len() && runs.iter().all(|run| run["state"] == "completed")
}

fn run_of<'a>(runs: &'a [Value], trigger: &str) -> &'a Value {
    runs.iter().find(|run| run["trigger"] == trigger).expect("the trigger has a run")
}

/// S3's notification of the object that an event tells of.
fn notification_of(event: &Envelope) -> Value {
    let data = event.data.as_ref().expect("an arrival has data");
    json!({ "Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
        "eventTime": event.time.expect("it has a time").to_string(),
        "eventName": data["event_name"],
        "s3": { "bucket": { "name": data["bucket"] }, "object": {
            "key": data["key"], "size": data["size_bytes"], "eTag": data["etag"],
            "versionId": data.get("version_id"), "sequencer": data.get("sequencer"),
        } },
    }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_becomes_predictions_through_four_stages_in_one_trace() {
    let mut world = World::deploy().await;
    world.request_collection("request-1");
    let mut heard = world.heard_until(is_of("ml.prediction.completed.v1")).await;
    let runs = world.runs_once(all_completed).await;

    // The same S3 event five times more, the way S3 would send it.
    let arrived = heard.iter().find(|event| is_of("ml.data.arrived.v1")(event)).unwrap().clone();
    let sqs = aws_sdk_sqs::Client::new(&world.config);
    let ingest = sqs.get_queue_url().queue_name(world.deployment.ingest_queue()).send().await;
    let ingest = ingest.unwrap().queue_url.unwrap();
    for _ in 0..5 {
        let body = notification_of(&arrived).to_string();
        sqs.send_message().queue_url(&ingest).message_body(body).send().await.unwrap();
        let again = world.heard_until(is_of("ml.data.arrived.v1")).await;
        assert_eq!(again.last().unwrap().id, arrived.id, "one cause is one event");
        heard.extend(again);
    }
    world.request(&heard[0].to_value());
    heard.extend(world.heard_until(is_of("ml.collection.requested.v1")).await);
    world.handler_has_said("duplicate: its start is known", 6).await;
    for trigger in TRIGGERS {
        assert_eq!(world.executions(trigger).await, 1, "{trigger}");
    }
    assert_eq!(world.runs_once(all_completed).await.len(), TRIGGERS.len());

    assert_chain(&heard, &runs);
    assert_predictions(&world, run_of(&runs, "predict")).await;
    world.stop_publisher();
    assert_one_trace(&world, &runs).await;
}

/// Every event of the chain shares the correlation, and its hop tells how many
/// events came before.
fn assert_chain(heard: &[Envelope], runs: &[Value]) {
    let hops: BTreeMap<&str, u32> =
        heard.iter().map(|event| (event.event_type.as_str(), event.context.hop)).collect();
    let expected = BTreeMap::from([
        ("ml.collection.requested.v1", 0),
        ("ml.collection.started.v1", 1),
        ("ml.collection.completed.v1", 1),
        ("ml.data.arrived.v1", 1),
        ("ml.training.started.v1", 2),
        ("ml.training.completed.v1", 2),
        ("ml.evaluation.started.v1", 3),
        ("ml.evaluation.completed.v1", 3),
        ("ml.prediction.started.v1", 4),
        ("ml.prediction.completed.v1", 4),
    ]);
    assert_eq!(hops, expected);
    let correlations: BTreeSet<_> = heard.iter().map(Envelope::correlation).collect();
    assert_eq!(correlations, BTreeSet::from(["request-1"]));
    let accuracy = run_of(runs, "evaluate")["metrics"]["accuracy"].as_f64().unwrap();
    assert!(accuracy >= 0.50, "the trigger's own threshold: {accuracy}");
}

async fn assert_predictions(world: &World, run: &Value) {
    let rows = run["metrics"]["rows"].as_f64().expect("the run counts its rows");
    let uri =
        run["artifacts"].as_array().unwrap().iter().find_map(|artifact| {
            artifact["uri"].as_str().filter(|uri| uri.contains("/predictions/"))
        });
    let (bucket, key) = uri.unwrap().strip_prefix("s3://").unwrap().split_once('/').unwrap();
    let s3 = aws_sdk_s3::Client::new(&world.config);
    let object = s3.get_object().bucket(bucket).key(key).send().await.unwrap();
    let text = object.body.collect().await.unwrap().into_bytes();
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    assert!(rows > 0.0);
    assert_eq!(lines - 1, rows as usize, "one prediction a row, below the header");
}

/// Waits for the last spans: what hangs on nothing yet hangs on one of them.
async fn assert_one_trace(world: &World, runs: &[Value]) {
    let spans = until("all spans hang on the request", async || {
        let spans = world.receiver.spans();
        let ids: BTreeSet<_> = spans.iter().map(|span| span.span_id.as_str()).collect();
        let hangs = |parent: &Option<String>| parent.as_deref().is_some_and(|id| ids.contains(id));
        // What a poll of the queue brings has a trace of its own, to which events are linked.
        let hangs_alone = |span: &&Span| !hangs(&span.parent_id) && !is_receive(span);
        let roots: Vec<_> = spans.iter().filter(hangs_alone).collect();
        let has_last = spans.iter().any(|span| span.name == "predict");
        match &roots[..] {
            [root] if root.name == "POST /v1/events" && has_last => Ok(spans),
            _ => Err(format!("{roots:#?}")),
        }
    })
    .await;
    let in_trace = spans.iter().filter(|span| !is_receive(span));
    let traces: BTreeSet<_> = in_trace.map(|span| span.trace_id.as_str()).collect();
    assert_eq!(traces.len(), 1, "{traces:?}");
    let services: BTreeSet<_> = spans.iter().map(|span| span.service.as_str()).collect();
    assert_eq!(services, BTreeSet::from(["wine-handler", "wine-publisher", "wine-worker"]));
    for run in runs {
        assert_eq!(run["trace_id"].as_str(), traces.first().copied());
    }
    assert_sends(&spans);
    insta::assert_snapshot!("trace", tree(&spans, None, 0));
    // They are sent when the publisher ends, if not before, and by the functions each time.
    for metric in ["bellwire.event.published", "bellwire.start", "rpc.client.call.duration"] {
        let metrics = world.receiver.metrics();
        assert!(metrics.iter().any(|name| name == metric), "{metric} is not in {metrics:?}");
    }
}

/// Nothing waits for the backend: it hangs until the training starts, takes everything until
/// the evaluation starts, and hangs again.
#[tokio::test(flavor = "multi_thread")]
async fn four_stages_come_through_whatever_the_backend_does() {
    let world = World::deploy().await;
    world.receiver.pause();
    world.request_collection("request-1");
    world.heard_until(is_of("ml.training.started.v1")).await;
    until("the handler says that nobody takes its traces", async || {
        let said = world.handler_said("traces are not exported").await;
        if said > 0 { Ok(()) } else { Err("nothing".to_owned()) }
    })
    .await;
    // But for S3's test event, which may have come before.
    let spans = world.receiver.spans();
    assert!(spans.iter().all(is_receive), "{spans:#?}");
    world.receiver.resume();
    world.heard_until(is_of("ml.evaluation.started.v1")).await;
    until("spans of every service arrive again", async || {
        let spans = world.receiver.spans();
        let services: BTreeSet<_> = spans.iter().map(|span| span.service.as_str()).collect();
        let is_all = ["wine-handler", "wine-publisher"].iter().all(|name| services.contains(name));
        if is_all { Ok(()) } else { Err(format!("{services:?}")) }
    })
    .await;
    world.receiver.pause();
    world.heard_until(is_of("ml.prediction.completed.v1")).await;
    let runs = world.runs_once(all_completed).await;
    assert_predictions(&world, run_of(&runs, "predict")).await;
    for trigger in TRIGGERS {
        assert_eq!(world.executions(trigger).await, 1, "{trigger}");
    }
}

fn is_receive(span: &Span) -> bool {
    span.attributes.get("messaging.operation.type").is_some_and(|kind| kind == "receive")
}

/// The spans under one, a line each: kind, service, name, what the conventions require
/// of its kind, and what it is linked to. Spans that say the same, with all below them, are one: how often something
/// is repeated is no part of a trace's shape.
fn tree(spans: &[Span], parent: Option<&str>, depth: usize) -> String {
    const SHOWN: [&str; 8] = [
        "cloudevents.event_type",
        "db.operation.name",
        "faas.trigger",
        "http.response.status_code",
        "messaging.destination.name",
        "messaging.operation.type",
        "messaging.system",
        "rpc.method",
    ];
    const REQUIRED: [&str; 2] = ["faas.invocation_id", "faas.coldstart"];
    let names: BTreeMap<_, _> =
        spans.iter().map(|span| (span.span_id.as_str(), span.name.as_str())).collect();
    let is_child = |span: &&Span| match parent {
        Some(parent) => span.parent_id.as_deref() == Some(parent),
        // Its parent is the caller's, who exports nothing.
        None => !span.parent_id.as_deref().is_some_and(|id| names.contains_key(id)),
    };
    let lines = spans.iter().filter(is_child).filter(|span| !is_send(span)).map(|span| {
        let shown = SHOWN.iter().filter_map(|name| Some((*name, span.attributes.get(*name)?)));
        let shown: String = shown.map(|(name, value)| format!(" {name}={value}")).collect();
        let there = REQUIRED.iter().filter(|name| span.attributes.contains_key(**name));
        let there: String = there.map(|name| format!(" {name}")).collect();
        let linked = span.links.iter().map(|id| names.get(id.as_str()).unwrap_or(&"?"));
        let linked: String = linked.map(|name| format!(" -> {name}")).collect();
        let (indent, failed) = ("  ".repeat(depth), if span.has_failed { " FAILED" } else { "" });
        let (kind, service, name) = (span.kind, &span.service, &span.name);
        let below = tree(spans, Some(&span.span_id), depth + 1);
        format!("{indent}{kind} {service}: {name}{failed}{shown}{there}{linked}\n{below}")
    });
    lines.collect::<BTreeSet<_>>().into_iter().collect()
}

fn is_send(span: &Span) -> bool {
    span.attributes.get("messaging.operation.name").is_some_and(|name| name == "PublishBatch")
}

/// Which events are sent together differs: each batch is linked to the making of each of
/// its events, and hangs on the first.
fn assert_sends(spans: &[Span]) {
    let created: BTreeSet<_> = spans
        .iter()
        .filter(|span| span.kind == "producer")
        .map(|span| span.span_id.as_str())
        .collect();
    let sends: Vec<_> = spans.iter().filter(|span| is_send(span)).collect();
    assert!(!sends.is_empty());
    for send in sends {
        assert_eq!(send.kind, "client");
        let count = send.attributes["messaging.batch.message_count"].parse::<usize>().unwrap();
        assert_eq!(send.links.len(), count, "{send:?}");
        assert!(send.links.iter().all(|link| created.contains(link.as_str())), "{send:?}");
        assert_eq!(send.parent_id.as_ref(), send.links.first(), "{send:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_is_not_invoked_for_what_the_filter_excludes() {
    let world = World::deploy().await;
    let sns = aws_sdk_sns::Client::new(&world.config);
    let topic_arn = world.place.topic_arn(&world.deployment.topic(TopicKind::Standard));
    for (id, event_type) in [("out", "ml.data.removed.v1"), ("in", "ml.evaluation.completed.v1")] {
        let mut event = Envelope::new(id, "/wine-tests", event_type.parse().unwrap());
        event = event.with_payload(&json!({
            "bucket": "wine-lake", "key": "raw/x", "event_name": "ObjectRemoved:Delete",
            "run": { "arn": "arn:run", "status": "SUCCEEDED" },
        }));
        let value = aws_sdk_sns::types::MessageAttributeValue::builder()
            .data_type("String")
            .string_value(event_type)
            .build()
            .unwrap();
        let publish = sns.publish().topic_arn(&topic_arn).message(event.to_json());
        publish.message_attributes("type", value).send().await.unwrap();
    }
    let invocations = || {
        let calls = world.cloud.calls().into_iter();
        calls
            .filter(|call| call.principal == "sns.amazonaws.com")
            .filter(|call| call.action == "lambda:InvokeFunction" && call.decision.is_allowed())
            .count()
    };
    world.handler_has_said(r#""id":"in""#, 1).await;
    let _ = world.heard_until(|event| event.id == "in").await;
    assert_eq!(invocations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_after_an_apply_changes_nothing_and_destroy_leaves_nothing() {
    let mut world = World::deploy().await;
    world.stop_publisher();
    let endpoint = world.receiver.endpoint();
    let plan = ["plan", "--exit-code", "--otlp-endpoint", endpoint.as_str()];
    let output = world.bellwire(&plan);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    // S3's test event may still be in it.
    let ingest_queue = world.deployment.ingest_queue();
    world.bellwire_ok(&["destroy", "--yes", "--delete-data", &ingest_queue]);
    let output = world.bellwire(&["outputs"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("nothing of wine is deployed"), "{message}");
    assert_eq!(world.left_over().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_publisher_needs_its_permission_to_publish() {
    let world = World::deploy().await;
    world.take_permission(&world.deployment.publisher(), "sns:Publish").await;
    // The event is safe in the spool, and whoever asks is told why it stays there.
    world.request_collection("request-1");
    until("the publisher says why it is not ready", async || match world.ready() {
        (503, body) if body.contains("sns:Publish") => Ok(()),
        (status, body) => Err(format!("{status} {body}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_publisher_s_role_may_ask_what_a_check_asks() {
    let world = World::deploy().await;
    let (is_well, report) = world.check_publisher();
    assert!(is_well, "{report}");
    world.take_permission(&world.deployment.publisher(), "sns:GetTopicAttributes").await;
    let (is_well, report) = world.check_publisher();
    assert!(!is_well && report.contains("AWS refuses sns:GetTopicAttributes"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_needs_its_permission_to_start() {
    let world = World::deploy().await;
    world.take_permission(&world.deployment.handler(), "states:StartExecution").await;
    world.request_collection("request-1");
    let dead: Value =
        serde_json::from_str(&world.take(&world.deployment.dead_queue()).await).unwrap();
    let message = dead["responsePayload"]["errorMessage"].as_str().unwrap_or_default();
    assert!(message.contains("states:StartExecution"), "{dead:#}");
    assert_eq!(world.executions("collect").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_needs_its_permission_to_write() {
    let world = World::deploy().await;
    world.take_permission(&world.deployment.function("worker"), "s3:PutObject").await;
    world.request_collection("request-1");
    let failed = world.heard_until(is_of("ml.collection.failed.v1")).await.pop().unwrap();
    let data = failed.data.unwrap();
    assert!(data.to_string().contains("s3:PutObject"), "{data:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_machine_needs_its_permission_to_invoke() {
    let world = World::deploy().await;
    let role = world.deployment.state_machine("collect");
    world.take_permission(&role, "lambda:InvokeFunction").await;
    world.request_collection("request-1");
    let failed = world.heard_until(is_of("ml.collection.failed.v1")).await.pop().unwrap();
    let data = failed.data.unwrap();
    assert!(data.to_string().contains("lambda:InvokeFunction"), "{data:#}");
}
