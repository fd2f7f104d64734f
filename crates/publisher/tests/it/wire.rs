//! What the edges make of AWS's answers, given by a stub: the local cloud
//! never fails one entry of a batch.

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use axum::Router;
use axum::http::StatusCode;
use bellwire_publisher::call::Trouble;
use bellwire_publisher::enrich::{Objects, S3Objects};
use bellwire_publisher::pack::Entry;
use bellwire_publisher::publish::{EntryResult, SnsTopic, Topic};
use bellwire_publisher::receive::{IngestQueue, NotDone, SqsIngestQueue};
use bellwire_publisher::route::ObjectRef;
use bellwire_schema::Envelope;
use tokio::net::TcpListener;

use crate::fakes::failed;

/// Settings for a stub that always answers so.
async fn answering(status: u16, body: &'static str) -> SdkConfig {
    let status = StatusCode::from_u16(status).unwrap();
    let router = Router::new().fallback(move || async move { (status, body) });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let credentials = Credentials::new("test", "test", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(url)
        .region(Region::from_static("eu-west-1"))
        .retry_config(RetryConfig::disabled())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

fn topic(config: &SdkConfig) -> SnsTopic {
    let arn = "arn:aws:sns:eu-west-1:123456789012:wine".to_owned();
    SnsTopic::new(aws_sdk_sns::Client::new(config), arn)
}

fn entries() -> Vec<Entry> {
    let entry =
        |id: &str| Entry::of(Envelope::new(id, "/app", "data.arrived".parse().unwrap())).unwrap();
    ["a", "b", "c"].map(entry).into()
}

#[tokio::test]
async fn each_entry_s_own_result_is_read_out_of_a_200() {
    let config = answering(
        200,
        r#"<PublishBatchResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishBatchResult>
        <Failed><member><Id>1</Id><Code>Throttled</Code><Message>scripted</Message>
        <SenderFault>true</SenderFault></member></Failed>
        <Successful><member><Id>2</Id><MessageId>m</MessageId></member></Successful>
        </PublishBatchResult></PublishBatchResponse>"#,
    )
    .await;
    let entries = entries();
    let results = topic(&config).publish(&entries.iter().collect::<Vec<_>>()).await.unwrap();
    let EntryResult::Failed { code, is_sender_fault: false, .. } = &results[0] else { panic!() };
    assert_eq!(code, "NoResult");
    assert_eq!(results[1], failed("Throttled", true));
    assert_eq!(results[2], EntryResult::Accepted);
}

#[tokio::test]
async fn a_failed_call_says_what_it_means() {
    let error = r#"<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error>
        <Type>Sender</Type><Code>AuthorizationError</Code><Message>not yours</Message></Error></ErrorResponse>"#;
    let entries = entries();
    let denied = topic(&answering(403, error).await).publish(&[&entries[0]]).await.unwrap_err();
    assert_eq!(denied.trouble, Trouble::Denied);
    assert_eq!(denied.to_string(), "sns:PublishBatch failed: AuthorizationError: not yours");
    let down = topic(&answering(503, "").await).publish(&[&entries[0]]).await.unwrap_err();
    assert_eq!(down.trouble, Trouble::Unavailable);
}

#[tokio::test]
async fn each_deletion_s_own_result_is_read_out_of_a_200() {
    let config = answering(
        200,
        r#"{"Successful":[{"Id":"2"}],"Failed":[{"Id":"1","Code":"ReceiptHandleIsInvalid","SenderFault":true}]}"#,
    )
    .await;
    let url = config.endpoint_url().unwrap().to_owned() + "/123456789012/wine-ingest";
    let queue = SqsIngestQueue::new(aws_sdk_sqs::Client::new(&config), url);
    let kept =
        |index, code: &str, is_permanent| NotDone { index, code: code.to_owned(), is_permanent };
    assert_eq!(
        queue.delete(&["a", "b", "c"]).await.unwrap(),
        [kept(0, "NoResult", false), kept(1, "ReceiptHandleIsInvalid", true)]
    );
}

#[tokio::test]
async fn an_object_that_is_gone_or_hidden_has_no_metadata_and_a_fault_is_one() {
    let object =
        ObjectRef { bucket: "lake".to_owned(), key: "models/m".to_owned(), version_id: None };
    for (status, is_answer) in [(404, true), (403, true), (405, true), (400, true), (503, false)] {
        let objects = S3Objects::new(aws_sdk_s3::Client::new(&answering(status, "").await));
        let metadata = objects.metadata(&object).await;
        match is_answer {
            true => assert_eq!(metadata.unwrap(), None, "{status}"),
            false => assert_eq!(metadata.unwrap_err().http_status, Some(status), "{status}"),
        }
    }
}
