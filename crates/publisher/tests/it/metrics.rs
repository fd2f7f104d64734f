//! Each of the publisher's metrics, moved once. Others of this process move them too, so
//! that what is asked is whether one has grown by what was done here.

use std::sync::Arc;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::config::Credentials;
use axum::http::StatusCode;
use bellwire_publisher::connect::show;
use bellwire_publisher::ingest::Admit as _;
use bellwire_publisher::ingest::auth::Token;
use bellwire_publisher::pack::Entry;
use bellwire_publisher::spool::{Limits, Spool};
use bellwire_schema::Envelope;
use bellwire_telemetry::client;
use bellwire_telemetry::metrics::install_scraped;
use serde_json::json;

use crate::fakes::{FakeTopic, World, failed, message};
use crate::http::Server;
use crate::samples::{s3_body, test_event};

/// The sum of all samples of a name that have this label, as the server shows them.
async fn value(server: &Server, name: &str, label: &str) -> f64 {
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    let is_of = |line: &&str| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        rest.starts_with(['{', ' ']) && line.contains(label)
    };
    let samples = text.lines().filter(is_of).filter_map(|line| line.rsplit(' ').next());
    samples.map(|sample| sample.parse::<f64>().unwrap()).sum()
}

#[tokio::test]
async fn what_becomes_of_events_is_counted() {
    install_scraped();
    let server = Server::start(FakeTopic::default()).await;
    let arrived = r#"cloudevents_event_type="ml.data.arrived.v1""#;
    let bucket = r#"cloudevents_event_source="arn:aws:s3:::"#;
    let moved = [
        ("bellwire_event_received_total", arrived, 2.0),
        ("bellwire_event_received_total", bucket, 2.0),
        ("bellwire_event_received_total", r#"source="/metered""#, 1.0),
        ("bellwire_event_published_total", arrived, 2.0),
        ("bellwire_event_published_total", bucket, 2.0),
        ("bellwire_event_retried_total", "", 1.0),
        ("bellwire_event_skipped_total", r#"reason="test-event""#, 1.0),
        ("bellwire_event_quarantined_total", r#"reason="undecodable""#, 1.0),
        ("bellwire_publish_batch_events_count", "", 2.0),
        ("bellwire_publish_batch_events_sum", "", 3.0),
        ("bellwire_publish_lag_seconds_count", arrived, 2.0),
    ];
    let mut before = Vec::new();
    for (name, label, _) in moved {
        before.push(value(&server, name, label).await);
    }

    let mut calls = 0;
    let topic = FakeTopic::acting(move |entries| {
        calls += 1;
        let mut results = vec![bellwire_publisher::publish::EntryResult::Accepted; entries.len()];
        if calls == 1 {
            results[0] = failed("InternalError", false);
        }
        Ok(results)
    });
    let world = World { topic: Arc::new(topic), ..World::default() };
    let messages = [
        message(0, &s3_body(&["raw/a.csv", "raw/b.csv"])),
        message(1, "not JSON"),
        message(2, &test_event()),
    ];
    world.bridge().work(&messages).await;
    let event = json!({
        "specversion": "1.0", "id": "e-1", "source": "/metered",
        "type": "ml.collection.requested.v1",
    });
    assert_eq!(server.post_batch(&json!([event])).await.status(), StatusCode::ACCEPTED);

    for ((name, label, grown), before) in moved.into_iter().zip(before) {
        let now = value(&server, name, label).await;
        assert!(now >= before + grown, "{name} {label}: {before} became {now}");
    }
}

#[tokio::test]
async fn the_spool_s_depth_and_age_are_shown() {
    install_scraped();
    let spool = Spool::in_memory(Limits { events_max: 10, bytes_max: 1_000_000 }).unwrap();
    show(&spool);
    let event = Envelope::new("e-1", "/app", "collection.requested".parse().unwrap());
    spool.admit(vec![Entry::of(event).unwrap()]).await.unwrap();
    let server = Server::start(FakeTopic::default()).await;
    assert!(value(&server, "bellwire_spool_events", "").await >= 1.0);
    assert!(value(&server, "bellwire_spool_size_bytes", "").await > 0.0);
    let age = value(&server, "bellwire_spool_age_seconds", "").await;
    assert!(age > 0.0 && age < 600.0, "{age}");
}

#[tokio::test]
async fn calls_to_aws_are_counted_with_their_repetitions_and_throttles() {
    install_scraped();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    const REFUSAL: &str = "<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>";
    let refuse = || async { (StatusCode::BAD_REQUEST, REFUSAL) };
    let router = axum::Router::new().fallback(refuse);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(url)
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(aws_config::retry::RetryConfig::standard().with_max_attempts(2))
        .load()
        .await;
    // No other test makes this call.
    client!(aws_sdk_sns, &config).list_subscriptions().send().await.unwrap_err();
    let server = Server::start(FakeTopic::default()).await;
    let method = r#"rpc_method="SNS/ListSubscriptions""#;
    for (name, expected) in [
        ("rpc_client_call_duration_seconds_count", 1.0),
        ("bellwire_aws_retries_total", 1.0),
        ("bellwire_aws_throttles_total", 2.0),
    ] {
        assert_eq!(value(&server, name, method).await, expected, "{name}");
    }
    let refused =
        r#"error_type="400",rpc_method="SNS/ListSubscriptions",rpc_system_name="aws-api""#;
    assert_eq!(value(&server, "rpc_client_call_duration_seconds_count", refused).await, 1.0);
}

#[tokio::test]
async fn who_must_show_a_token_must_show_it_for_metrics_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "0123456789abcdef").unwrap();
    let token = Token::read(&file).unwrap();
    let server = Server::with(FakeTopic::default(), |ingest| ingest.with_token(Some(token))).await;
    assert_eq!(server.get("/metrics").await.status(), 401);
}
