//! The stub, as the AWS SDK sees it.

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_sdk_sns::types::PublishBatchRequestEntry;
use aws_sdk_sqs::config::{Credentials, Region};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message};
use bellwire_bench::stub::{Faults, Fill, Settings, Stub};

const QUEUE: &str = "bench-ingest";

struct Cloud {
    stub: Stub,
    sqs: aws_sdk_sqs::Client,
    sns: aws_sdk_sns::Client,
    queue_url: String,
}

impl Cloud {
    async fn start(faults: Faults) -> Self {
        let stub = Stub::start(Settings { seed: 7, record: true, ..Settings::default() })
            .await
            .expect("a free port");
        let config = aws_config::defaults(BehaviorVersion::latest())
            .endpoint_url(stub.url())
            .region(Region::new("eu-central-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .load()
            .await;
        let sqs = aws_sdk_sqs::Client::new(&config);
        let answer = sqs.get_queue_url().queue_name(QUEUE).send().await.expect("a URL");
        let queue_url = answer.queue_url.expect("a URL");
        stub.set_faults(faults);
        Self { stub, sqs, sns: aws_sdk_sns::Client::new(&config), queue_url }
    }

    fn fill(&self, count: u64) {
        let queue = QUEUE.to_owned();
        self.stub.fill(&Fill { count, body_kind: Default::default(), queue });
    }

    async fn receive(&self) -> Vec<Message> {
        let request = self.sqs.receive_message().queue_url(&self.queue_url);
        let answer = request.max_number_of_messages(10).wait_time_seconds(0).send().await;
        answer.expect("it answers").messages.unwrap_or_default()
    }

    /// Deletes, and answers with the ids of what was not deleted.
    async fn delete(&self, messages: &[Message]) -> Vec<String> {
        let mut request = self.sqs.delete_message_batch().queue_url(&self.queue_url);
        for (index, message) in messages.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .set_receipt_handle(message.receipt_handle.clone());
            request = request.entries(entry.build().expect("it is whole"));
        }
        let answer = request.send().await.expect("it answers");
        assert_eq!(answer.successful.len() + answer.failed.len(), messages.len());
        answer.failed.into_iter().map(|failed| failed.id).collect()
    }

    /// Publishes; answers with how many were accepted, and how many failed.
    async fn publish(&self, ids: &[&str]) -> (usize, usize) {
        let entries = ids.iter().enumerate().map(|(index, id)| {
            let entry = PublishBatchRequestEntry::builder()
                .id(index.to_string())
                .message(format!(r#"{{"id":"{id}"}}"#));
            entry.build().expect("it is whole")
        });
        let request = self.sns.publish_batch().topic_arn("arn:aws:sns:eu-central-1:1:bench");
        let request = request.set_publish_batch_request_entries(Some(entries.collect()));
        let answer = request.send().await.expect("it answers");
        (answer.successful().len(), answer.failed().len())
    }
}

#[tokio::test]
async fn what_is_received_and_deleted_is_gone_and_counted() {
    let cloud = Cloud::start(Faults::default()).await;
    cloud.fill(12);
    let first = cloud.receive().await;
    let second = cloud.receive().await;
    assert_eq!((first.len(), second.len()), (10, 2));
    let body = first[0].body.as_deref().expect("a body");
    assert!(body.contains(r#""eventVersion":"2.1""#) && (700..900).contains(&body.len()), "{body}");
    assert_ne!(first[0].body, first[1].body, "each tells of another key");
    assert!(cloud.delete(&first).await.is_empty());
    let counts = cloud.stub.counts();
    assert_eq!((counts.received, counts.deleted), (12, 10));
    assert_eq!((counts.queues[QUEUE].ready, counts.queues[QUEUE].in_flight), (0, 2));
    assert_eq!((counts.calls["ReceiveMessage"], counts.calls["DeleteMessageBatch"]), (2, 1));
}

#[tokio::test]
async fn a_long_poll_ends_with_what_arrives_or_comes_back() {
    let cloud = Cloud::start(Faults::default()).await;
    let poll = || {
        let request = cloud.sqs.receive_message().queue_url(&cloud.queue_url);
        request.wait_time_seconds(20).visibility_timeout(1).send()
    };
    let (received, ()) = tokio::join!(poll(), async {
        // Sent once the poll is under way; it is answered either way.
        let send = cloud.sqs.send_message().queue_url(&cloud.queue_url);
        send.message_body("late").send().await.expect("sent");
    });
    let bodies = |answer: Option<Vec<Message>>| {
        answer.unwrap_or_default().into_iter().filter_map(|it| it.body).collect::<Vec<_>>()
    };
    assert_eq!(bodies(received.expect("it answers").messages), ["late"]);
    let again = poll().await.expect("it answers").messages;
    assert_eq!(again.as_ref().and_then(|it| it[0].message_id.as_deref()).map(str::len), Some(36));
    let receipt = again.expect("it came back").remove(0).receipt_handle;
    let request = cloud.sqs.change_message_visibility().queue_url(&cloud.queue_url);
    request.set_receipt_handle(receipt).visibility_timeout(0).send().await.expect("changed");
    assert_eq!(cloud.receive().await.len(), 1, "at once");
}

#[tokio::test]
async fn entries_fail_alone() {
    let faults =
        Faults { publish_entry_failure: 0.5, delete_entry_failure: 0.5, ..Faults::default() };
    let cloud = Cloud::start(faults).await;
    let (accepted, failed) =
        cloud.publish(&["a", "b", "c", "d", "e", "f", "g", "h", "a", "a"]).await;
    assert!(accepted > 0 && failed > 0 && accepted + failed == 10, "{accepted} {failed}");
    assert_eq!(cloud.stub.counts().published, accepted as u64);
    assert_eq!(cloud.stub.events().values().sum::<u64>(), accepted as u64);
    cloud.fill(10);
    let messages = cloud.receive().await;
    let left = cloud.delete(&messages).await;
    assert!(!left.is_empty() && left.len() < 10, "{left:?}");
    assert_eq!(cloud.stub.counts().queues[QUEUE].in_flight, left.len());
}

#[tokio::test]
async fn calls_are_throttled_fail_and_lose_their_answer() {
    let cloud = Cloud::start(Faults::default()).await;
    let topic = "arn:aws:sns:eu-central-1:1:bench";
    let publish = || cloud.sns.publish().topic_arn(topic).message(r#"{"id":"a"}"#).send();
    cloud.stub.set_faults(Faults { throttle: 1.0, ..Faults::default() });
    let error = publish().await.expect_err("throttled").into_service_error();
    assert_eq!(error.meta().code(), Some("Throttled"));
    let request = cloud.sqs.receive_message().queue_url(&cloud.queue_url);
    let error = request.send().await.expect_err("throttled").into_service_error();
    assert_eq!(error.meta().code(), Some("RequestThrottled"));
    cloud.stub.set_faults(Faults { server_error: 1.0, ..Faults::default() });
    let error = publish().await.expect_err("failed").into_service_error();
    assert_eq!(error.meta().code(), Some("InternalError"));
    assert_eq!(cloud.stub.counts().published, 0);
    cloud.stub.set_faults(Faults { lost_response: 1.0, ..Faults::default() });
    assert!(publish().await.expect_err("no answer").as_service_error().is_none());
    assert_eq!(cloud.stub.counts().published, 1, "it was done all the same");
    cloud.stub.reset();
    assert_eq!(cloud.stub.counts().published, 0);
}
