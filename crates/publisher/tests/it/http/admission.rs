//! Who is let in, when, and what is told to the others.

use std::sync::Arc;
use std::time::Duration;

use bellwire_publisher::call::{CallError, Trouble};
use bellwire_publisher::ingest::auth::Token;
use bellwire_publisher::ingest::{
    AdmitError, BATCH_BODY_BYTES_MAX, BATCH_REQUESTS, Listen, REQUESTS_MAX, Readiness, Report,
};
use bellwire_publisher::pack::Entry;
use bellwire_publisher::probe::{Question, probe};
use bellwire_publisher::publish::EntryResult;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{FakeAdmit, Server, numbered, problem, requested};
use crate::fakes::{FakeTopic, call_error};

const SECRET: &str = "s3cret-0123456789";

async fn refused_by_sns(
    act: impl FnMut(&[&Entry]) -> Result<Vec<EntryResult>, CallError> + Send + Sync + 'static,
) -> Response {
    let server = Server::start(FakeTopic::acting(act)).await;
    let response = server.post_event(&requested()).await;
    assert!(server.topic.accepted_ids().is_empty());
    response
}

#[tokio::test]
async fn what_sns_does_not_accept_is_not_answered_with_202() {
    let response = refused_by_sns(|_| Err(call_error(Trouble::Unavailable))).await;
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(problem(response).await.0, 503);
    let response = refused_by_sns(|_| Err(call_error(Trouble::Denied))).await;
    assert_eq!(problem(response).await.0, 503);
    let response = refused_by_sns(|_| Err(call_error(Trouble::Refused))).await;
    assert_eq!(problem(response).await.0, 503);
}

#[tokio::test]
async fn a_crowd_is_told_to_come_back_and_the_rest_is_answered() {
    let gate = Arc::new(Semaphore::new(0));
    let server = Server::start(FakeTopic::default().gated(gate.clone())).await;
    let mut under_way = JoinSet::new();
    for _ in 0..REQUESTS_MAX {
        under_way.spawn(server.post("application/json", requested().to_string()).send());
    }
    while server.topic.calls.lock().unwrap().len() < REQUESTS_MAX {
        server.topic.entered.notified().await;
    }
    let response = server.post_event(&requested()).await;
    assert_eq!(response.headers()["retry-after"], "1");
    let (status, document) = problem(response).await;
    assert_eq!(status, 503);
    assert_eq!(document["type"], "urn:bellwire:problem:too-many-requests-under-way");
    assert_eq!(server.get("/healthz").await.status(), 200);

    gate.add_permits(REQUESTS_MAX + 1);
    while let Some(response) = under_way.join_next().await {
        assert_eq!(response.unwrap().unwrap().status(), 202);
    }
    assert_eq!(server.post_event(&requested()).await.status(), 202);
}

#[tokio::test]
async fn a_batch_counts_for_as_many_requests_as_its_body_is_large() {
    let gate = Arc::new(Semaphore::new(0));
    let server = Server::start(FakeTopic::default().gated(gate.clone())).await;
    let mut under_way = JoinSet::new();
    let small = json!([requested()]).to_string();
    // All but one of the largest, and as many small ones as the last place has room for.
    let large_count = REQUESTS_MAX / BATCH_REQUESTS - 1;
    let large = small.clone() + &" ".repeat(BATCH_BODY_BYTES_MAX - small.len());
    let batches = vec![large; large_count].into_iter().chain(vec![small; BATCH_REQUESTS]);
    for batch in batches {
        under_way.spawn(server.post("application/cloudevents-batch+json", batch).send());
    }
    let all_in = async {
        while server.topic.calls.lock().unwrap().len() < large_count + BATCH_REQUESTS {
            server.topic.entered.notified().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_in).await.expect("there is room for all");
    let event = requested();
    let one_more = tokio::time::timeout(Duration::from_secs(30), server.post_event(&event));
    assert_eq!(problem(one_more.await.unwrap()).await.0, 503);
    gate.add_permits(REQUESTS_MAX);
    while let Some(response) = under_way.join_next().await {
        assert_eq!(response.unwrap().unwrap().status(), 202);
    }
}

#[tokio::test]
async fn what_is_not_admitted_is_told_when_to_come_back() {
    let admit = Arc::new(FakeAdmit::default());
    let server = Server::admitting(admit.clone()).await;
    let message = || "for a reason".to_owned();
    for (trouble, kind, retry_after) in [
        (AdmitError::Full { retry_after_s: 7, message: message() }, "spool-full", "7"),
        (AdmitError::Unavailable { message: message() }, "spool-unavailable", "1"),
    ] {
        *admit.trouble.lock().unwrap() = Some(trouble);
        let responses =
            [server.post_event(&requested()).await, server.post_batch(&numbered(2)).await];
        for response in responses {
            assert_eq!(response.headers()["retry-after"], retry_after);
            let (status, document) = problem(response).await;
            assert_eq!(status, 503);
            assert_eq!(document["type"], format!("urn:bellwire:problem:{kind}"));
            assert_eq!(document["detail"], "for a reason");
        }
    }
}

#[tokio::test]
async fn whoever_does_not_show_the_token_is_not_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("  {SECRET}\n")).unwrap();
    let token = Token::read(&file).unwrap();
    let server = Server::with(FakeTopic::default(), |ingest| ingest.with_token(Some(token))).await;
    for (shown, challenge) in [
        (None, "Bearer"),
        (Some("Basic czNjcmV0".to_owned()), "Bearer"),
        (Some(format!("Bearer {SECRET}x")), "Bearer error=\"invalid_token\""),
    ] {
        let mut request = server.post("application/json", requested().to_string());
        if let Some(shown) = &shown {
            request = request.header("authorization", shown);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], challenge, "{shown:?}");
        let (status, document) = problem(response).await;
        assert_eq!((status, &document["type"]), (401, &json!("urn:bellwire:problem:unauthorized")));
        assert!(!document.to_string().contains(SECRET));
    }
    assert!(server.topic.accepted_ids().is_empty());
    let request = server.post("application/json", requested().to_string());
    assert_eq!(request.bearer_auth(SECRET).send().await.unwrap().status(), 202);
    assert_eq!(server.get("/healthz").await.status(), 200);
    assert_eq!(server.get("/readyz").await.status(), 200);
}

struct Lame;

impl Readiness for Lame {
    fn report(&self) -> Report {
        Report { is_ready: false, details: json!({ "spool": "full" }) }
    }
}

#[tokio::test]
async fn readiness_is_what_is_reported() {
    let server = Server::start(FakeTopic::default()).await;
    let response = server.get("/readyz").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "status": "ready" }));
    let server =
        Server::with(FakeTopic::default(), |ingest| ingest.with_readiness(Arc::new(Lame))).await;
    let response = server.get("/readyz").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "spool": "full" }));
    assert_eq!(server.get("/healthz").await.status(), 200);
    let address = Listen::Tcp(server.url.trim_start_matches("http://").parse().unwrap());
    let error = probe(&address, Question::Readyz).await.unwrap_err();
    assert_eq!(error.to_string(), r#"{"spool":"full"}"#);
    assert_eq!(probe(&address, Question::Healthz).await.unwrap(), r#"{"status":"alive"}"#);
}
