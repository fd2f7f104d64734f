//! Invocations against an S3 in this process: what is read and written, in what
//! order, with what headers, and how refusals come out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use bellwire_schema::EventContext;
use serde_json::{Value, json};
use wine_worker::{Invocation, Output, Store, WorkerError};

use crate::{RUN, context, typed};

#[derive(Clone, Default)]
struct Lake(Arc<Mutex<Objects>>);

#[derive(Default)]
struct Objects {
    bodies: BTreeMap<String, Vec<u8>>,
    /// Each accepted write: path, and the context in its metadata.
    written: Vec<(String, EventContext)>,
    /// Answered to everything.
    refusal: Option<StatusCode>,
}

impl Lake {
    async fn start(&self) -> Store {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(Credentials::for_tests())
            .retry_config(RetryConfig::disabled())
            .endpoint_url(endpoint)
            .build();
        Store::new(aws_sdk_s3::Client::from_conf(config))
    }

    fn written(&self) -> Vec<(String, EventContext)> {
        self.0.lock().unwrap().written.clone()
    }
}

async fn answer(
    State(Lake(objects)): State<Lake>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    let mut objects = objects.lock().unwrap();
    let path = uri.path().trim_start_matches('/').to_owned();
    let error = |code: &str| format!("<Error><Code>{code}</Code></Error>").into_bytes();
    if let Some(status) = objects.refusal {
        return (status, error("Refused"));
    }
    if method == Method::GET {
        return match objects.bodies.get(&path) {
            Some(body) => (StatusCode::OK, body.clone()),
            None => (StatusCode::NOT_FOUND, error("NoSuchKey")),
        };
    }
    if headers.contains_key("if-none-match") && objects.bodies.contains_key(&path) {
        return (StatusCode::PRECONDITION_FAILED, error("PreconditionFailed"));
    }
    let metadata = headers
        .iter()
        .filter_map(|(name, value)| {
            Some((
                name.as_str().strip_prefix("x-amz-meta-")?.to_owned(),
                value.to_str().ok()?.to_owned(),
            ))
        })
        .collect();
    objects.written.push((path.clone(), EventContext::from_object_metadata(&metadata)));
    objects.bodies.insert(path, body.to_vec());
    (StatusCode::OK, Vec::new())
}

async fn run(store: &Store, task: &str, input: Value) -> Result<Output, WorkerError> {
    let invocation: Invocation = typed(json!({"task": task, "input": input}));
    wine_worker::run(store, invocation, "request-1").await
}

fn collect_input() -> Value {
    json!({"request": {"data": {}}, "bucket": "wine-lake", "bellwire": context("collect", "collection")})
}

#[tokio::test]
async fn the_marker_comes_last_and_once_and_all_objects_carry_the_context() {
    let lake = Lake::default();
    let store = lake.start().await;
    run(&store, "collect", collect_input()).await.unwrap();
    let marker = format!("wine-lake/raw/{RUN}/_SUCCESS");
    let written = lake.written();
    assert_eq!(written.len(), 7);
    assert_eq!(written.last().unwrap().0, marker);
    for (path, context) in &written {
        assert_eq!(context.correlationid.as_deref(), Some("c-1"), "{path}");
        assert_eq!(context.hop, 1, "{path}");
        assert!(
            context.traceparent.as_deref().unwrap().contains("4bf92f3577b34da6a3ce929d0e0e4736"),
            "{path}"
        );
    }

    // As when Step Functions retries: the same keys, and no second arrival.
    run(&store, "collect", collect_input()).await.unwrap();
    let again = lake.written();
    assert_eq!(again.iter().filter(|(path, _)| *path == marker).count(), 1);
    let paths: std::collections::BTreeSet<_> = again.iter().map(|(path, _)| path).collect();
    assert_eq!(paths.len(), 7);
}

#[tokio::test]
async fn training_reads_what_the_marker_names() {
    let lake = Lake::default();
    let store = lake.start().await;
    run(&store, "collect", collect_input()).await.unwrap();
    let marker = json!({"bucket": "wine-lake", "key": format!("raw/{RUN}/_SUCCESS")});
    let input = json!({"marker": marker, "trees": 2, "bellwire": context("train", "training")});
    let output = run(&store, "train", input).await.unwrap();
    assert_eq!(output.metrics["training_rows"], 959.0);
    let uris: Vec<&str> = output.artifacts.iter().map(|artifact| artifact.uri.as_str()).collect();
    let expected = [
        format!("models/{RUN}/forest.postcard"),
        format!("held-out/{RUN}.csv"),
        format!("unseen/{RUN}.csv"),
    ];
    assert_eq!(uris, expected.map(|key| format!("s3://wine-lake/{key}")));
}

#[tokio::test]
async fn refusals_are_told_from_outages() {
    for (status, name) in [
        (StatusCode::FORBIDDEN, "StorageRefused"),
        (StatusCode::TOO_MANY_REQUESTS, "StorageUnavailable"),
        (StatusCode::SERVICE_UNAVAILABLE, "StorageUnavailable"),
    ] {
        let lake = Lake::default();
        lake.0.lock().unwrap().refusal = Some(status);
        let error = run(&lake.start().await, "collect", collect_input()).await.unwrap_err();
        assert_eq!(error.name(), name, "{status}");
        assert!(
            error.to_string().contains(&format!("write s3://wine-lake/raw/{RUN}/part-00000.csv")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn inputs_that_do_not_fit_are_refused_with_their_place() {
    let store = Lake::default().start().await;
    let context = context("any", "training");
    for (task, input, problem) in [
        ("collect", json!({"bellwire": context}), "missing field `request`"),
        (
            "train",
            json!({"marker": {"bucket": "b"}, "bellwire": context}),
            "at `marker`: missing field `key`",
        ),
        (
            "train",
            json!({"marker": {"bucket": "b", "key": "k"}, "trees": "many", "bellwire": context}),
            "at `trees`: invalid type: string \"many\"",
        ),
        (
            "evaluate",
            json!({"artifacts": [{"name": "model", "uri": "models/a"}], "bellwire": context}),
            "at `artifacts[0].uri`: `models/a` is no s3://bucket/key",
        ),
        (
            "predict",
            json!({"artifacts": [{"name": "evaluation", "uri": "s3://b/k"}], "bellwire": context}),
            "no artifact is named `model`; there are: evaluation",
        ),
        ("predict", json!({"artifacts": []}), "missing field `bellwire`"),
    ] {
        let error = run(&store, task, input).await.unwrap_err();
        assert_eq!(error.name(), "InputRefused");
        assert!(
            error.to_string().starts_with(task) && error.to_string().contains(problem),
            "{error}"
        );
    }
}
