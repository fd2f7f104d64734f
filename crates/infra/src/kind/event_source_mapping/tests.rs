use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sts::config::{Credentials, SharedCredentialsProvider};
use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::calls::Calls;

const QUEUE: &str = "arn:aws:sqs:eu-west-1:123456789012:wine-ingest";
const ALIAS: &str = "arn:aws:lambda:eu-west-1:123456789012:function:wine-publisher:live";
const MAPPINGS: &str = "/2015-03-31/event-source-mappings";

fn mapping(queue_arn: &str, batch_size: u32) -> EventSourceMapping {
    EventSourceMapping::new(queue_arn.to_owned(), ALIAS.to_owned(), batch_size, Tags::new())
}

/// An AWS that gives these answers, one after the other, and writes down what it
/// was asked.
async fn answering(answers: Vec<(u16, Value)>) -> (Aws, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let left = Arc::new(Mutex::new(VecDeque::from(answers)));
    let router = Router::new().fallback({
        let asked = asked.clone();
        move |method: Method, uri: Uri| async move {
            let path = uri.path().strip_prefix(MAPPINGS).unwrap_or(uri.path());
            asked.lock().unwrap().push(format!("{method} {path}"));
            let (status, answer) = left.lock().unwrap().pop_front().expect("one answer more");
            let error = answer["error"].as_str().unwrap_or_default().to_owned();
            (
                StatusCode::from_u16(status).unwrap(),
                [("x-amzn-errortype", error)],
                answer.to_string(),
            )
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let credentials = Credentials::new("test", "test", None, None, "test");
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(url)
        .region(Region::from_static("eu-west-1"))
        .retry_config(RetryConfig::disabled())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    (Aws::new(&config, &Calls::default()), asked)
}

fn nothing() -> (u16, Value) {
    (200, json!({"EventSourceMappings": []}))
}

fn found(state: &str) -> (u16, Value) {
    let mapping = json!({
        "UUID": "u-1", "EventSourceArn": QUEUE, "FunctionArn": ALIAS, "State": state,
        "EventSourceMappingArn": "arn:aws:lambda:eu-west-1:123456789012:event-source-mapping:u-1",
    });
    let theirs = json!({"EventSourceArn": QUEUE, "FunctionArn": "theirs", "State": "Creating"});
    (200, json!({"EventSourceMappings": [theirs, mapping]}))
}

fn refused(error: &str, message: &str) -> (u16, Value) {
    (400, json!({"error": error, "Message": message}))
}

fn taken(asked: &Mutex<Vec<String>>) -> Vec<String> {
    asked.lock().unwrap().clone()
}

#[test]
fn a_batch_is_as_large_as_lambda_takes_it_from_that_queue() {
    for (queue, wanted, batch_size, window_s) in
        [("q", 10, 10, 0), ("q", 11, 11, 1), ("q", 100, 100, 1), ("q.fifo", 100, 10, 0)]
    {
        let mapping = mapping(queue, wanted);
        let shown = (mapping.batch_size, mapping.batching_window_s);
        assert_eq!(shown, (batch_size, window_s), "{queue} {wanted}");
        assert_eq!(mapping.window().is_none(), queue.ends_with(".fifo"));
    }
}

#[test]
fn it_is_called_by_both_its_ends() {
    let capped = EventSourceMapping { concurrency_max: Some(8), ..mapping(QUEUE, 100) };
    assert_eq!(capped.display_name(), "wine-ingest -> wine-publisher:live");
    assert_eq!(capped.summary(), "up to 100 messages within 1 s, 8 together at most");
}

#[tokio::test]
async fn it_is_made_once_iam_knows_the_role_and_waited_for_until_it_works() {
    let denied = refused(
        "InvalidParameterValueException",
        "The function execution role does not have permissions to call ReceiveMessage on SQS",
    );
    let answers = vec![nothing(), denied, (202, json!({})), found("Creating"), found("Enabled")];
    let (aws, asked) = answering(answers).await;
    create(&aws, &mapping(QUEUE, 10)).await.unwrap();
    assert_eq!(taken(&asked), ["GET ", "POST ", "POST ", "GET ", "GET "]);
}

#[tokio::test]
async fn what_iam_does_not_explain_is_an_error_at_once() {
    let message = "Queue visibility timeout: 30 seconds is less than Function timeout: 60 seconds";
    let (aws, asked) =
        answering(vec![nothing(), refused("InvalidParameterValueException", message)]).await;
    let error = create(&aws, &mapping(QUEUE, 10)).await.unwrap_err();
    assert!(error.to_string().contains(message), "{error}");
    assert_eq!(taken(&asked).len(), 2);
}

#[tokio::test]
async fn one_that_is_there_is_changed_once_its_last_change_is_through() {
    let answers = vec![
        found("Updating"),
        found("Enabled"),
        refused("ResourceInUseException", "in use"),
        (202, json!({})),
        (204, json!({})),
        found("Enabled"),
    ];
    let (aws, asked) = answering(answers).await;
    update(&aws, &mapping(QUEUE, 10)).await.unwrap();
    let asked = taken(&asked);
    assert_eq!(asked[2..4], ["PUT /u-1", "PUT /u-1"]);
    assert!(asked[4].starts_with("POST /2017-03-31/tags/"), "{asked:?}");
}

#[tokio::test]
async fn it_is_gone_when_it_is_deleted() {
    let answers = vec![
        found("Enabled"),
        refused("ResourceInUseException", "it is being enabled"),
        (202, json!({})),
        found("Deleting"),
        nothing(),
    ];
    let (aws, asked) = answering(answers).await;
    delete(&aws, &mapping(QUEUE, 10)).await.unwrap();
    assert_eq!(taken(&asked)[1..], ["DELETE /u-1", "DELETE /u-1", "GET ", "GET "]);
}
