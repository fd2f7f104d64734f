//! Events over HTTP whose payloads are too large for SNS.

use std::sync::Arc;

use bellwire_publisher::call::Trouble;
use bellwire_publisher::claim::ClaimDesk;
use bellwire_publisher::ingest::BATCH_BODY_BYTES_MAX;
use bellwire_schema::limits::SNS_MESSAGE_BYTES_MAX;
use bellwire_schema::workflow::ClaimCheck;
use serde_json::{Value, json};

use super::{Server, problem, requested_with};
use crate::fakes::{FakeClaims, FakeTopic};

async fn server(claims: &Arc<FakeClaims>) -> Server {
    let check = ClaimCheck { bucket: "wine-lake".to_owned(), prefix: "claims/".to_owned() };
    let desk = ClaimDesk { check, claims: claims.clone() };
    Server::with(FakeTopic::default(), |ingest| ingest.with_claims(Some(desk))).await
}

fn event_of(id: &str, bytes: usize) -> Value {
    let mut event = requested_with("data", json!({ "parameters": { "x": "x".repeat(bytes) } }));
    event["id"] = json!(id);
    event
}

#[tokio::test]
async fn a_payload_too_large_for_sns_is_in_the_bucket_before_its_event_is_accepted() {
    let claims = Arc::new(FakeClaims::default());
    let server = server(&claims).await;
    let large = SNS_MESSAGE_BYTES_MAX + 10;
    assert_eq!(server.post_event(&event_of("structured", large)).await.status(), 202);
    let batch = json!([event_of("a", 10), event_of("b", large), event_of("c", large)]);
    assert_eq!(server.post_batch(&batch).await.status(), 202);
    let binary = server.post("application/json", event_of("", large)["data"].to_string());
    let attributes = [
        ("ce-specversion", "1.0"),
        ("ce-id", "binary"),
        ("ce-source", "/wine-app"),
        ("ce-type", "ml.collection.requested.v1"),
    ];
    let binary = attributes.into_iter().fold(binary, |it, (name, value)| it.header(name, value));
    assert_eq!(binary.send().await.unwrap().status(), 202);

    let objects = claims.objects.lock().unwrap();
    for event in server.topic.accepted.lock().unwrap().iter() {
        let Some(dataref) = &event.dataref else {
            assert_eq!((event.id.as_str(), event.data.is_some()), ("a", true));
            continue;
        };
        assert_eq!(event.data, None);
        let (bytes, _) = &objects[dataref.strip_prefix("s3://wine-lake/").unwrap()];
        let payload: Value = serde_json::from_slice(bytes).unwrap();
        assert_eq!(payload["parameters"]["x"].as_str().unwrap().len(), large);
    }
    assert_eq!((server.topic.accepted_ids().len(), objects.len()), (5, 4));
}

#[tokio::test]
async fn where_the_bucket_cannot_be_written_to_nothing_is_accepted() {
    let trouble = Some(Trouble::Unavailable);
    let claims = Arc::new(FakeClaims { trouble, ..FakeClaims::default() });
    let server = server(&claims).await;
    let batch = json!([event_of("a", 10), event_of("b", SNS_MESSAGE_BYTES_MAX)]);
    let answer = server.post_batch(&batch).await;
    assert_eq!(answer.headers()["retry-after"], "1");
    let (status, document) = problem(answer).await;
    assert_eq!(status, 503);
    assert_eq!(document["type"], "urn:bellwire:problem:claim-unavailable");
    assert!(server.topic.accepted_ids().is_empty());
    // What needs no claim goes on.
    assert_eq!(server.post_event(&event_of("c", 10)).await.status(), 202);
}

#[tokio::test]
async fn a_body_has_its_limit_with_a_claim_check_too() {
    let server = server(&Arc::default()).await;
    let (status, document) =
        problem(server.post_event(&event_of("a", BATCH_BODY_BYTES_MAX)).await).await;
    assert_eq!(status, 413);
    assert_eq!(document["type"], "urn:bellwire:problem:too-large");
}

#[tokio::test]
async fn a_batch_with_an_event_that_is_wrong_puts_nothing() {
    let claims = Arc::new(FakeClaims::default());
    let server = server(&claims).await;
    let mut wrong = event_of("b", 10);
    wrong["type"] = json!("ml.nothing.happened.v1");
    let batch = json!([event_of("a", SNS_MESSAGE_BYTES_MAX), wrong]);
    assert_eq!(problem(server.post_batch(&batch).await).await.0, 422);
    assert!(claims.objects.lock().unwrap().is_empty());
}
