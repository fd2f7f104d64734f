//! On the local cloud, through the AWS SDK: the queues and the topic that a
//! deploy makes, here by hand.

use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Event, NotificationConfiguration, QueueConfiguration};
use aws_sdk_sqs::config::Credentials;
use aws_sdk_sqs::types::QueueAttributeName;
use bellwire_local::{ACCOUNT_ID, LocalCloud, REGION};
use serde_json::json;

use crate::samples::WORKFLOW;

/// One for all tests of this binary; each has an environment of its own.
static CLOUD: LazyLock<Mutex<LocalCloud>> = LazyLock::new(|| Mutex::new(LocalCloud::for_tests()));

fn cloud() -> MutexGuard<'static, LocalCloud> {
    CLOUD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a test waits for at most; it goes on as soon as it is there.
const PATIENCE: Duration = Duration::from_secs(30);

/// A deployed environment of the sample workflow, with an own bucket.
pub(crate) struct Deployed {
    pub(crate) environment: String,
    pub(crate) bucket: String,
    pub(crate) workflow_file: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) ingest_url: String,
    pub(crate) dead_url: String,
    /// Subscribed to the topic, with raw delivery.
    pub(crate) heard_url: String,
}

/// One message that a subscriber of the topic got.
pub(crate) struct Heard {
    pub(crate) body: String,
    pub(crate) attributes: Vec<(String, String)>,
}

impl Heard {
    pub(crate) fn event(&self) -> bellwire_schema::Envelope {
        bellwire_schema::Envelope::from_json(self.body.as_bytes()).unwrap()
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }
}

pub(crate) fn config() -> SdkConfig {
    let cloud = cloud();
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(cloud.endpoint_url())
        .region(Region::from_static(cloud.region()))
        .credentials_provider(aws_sdk_sqs::config::SharedCredentialsProvider::new(
            Credentials::new("test", "test", None, None, "test"),
        ))
        .build()
}

pub(crate) fn set_env(command: &mut std::process::Command) {
    cloud().set_env(command);
}

impl Deployed {
    /// Makes everything that the publisher needs, under the environment's name.
    pub(crate) async fn new(environment: &str) -> Self {
        let config = config();
        let sqs = aws_sdk_sqs::Client::new(&config);
        let s3 = aws_sdk_s3::Client::new(&config);
        let sns = aws_sdk_sns::Client::new(&config);
        let ingest_url =
            queue(&sqs, &format!("wine-{environment}-ingest"), "s3.amazonaws.com").await;
        let dead_url = queue(&sqs, &format!("wine-{environment}-dead"), "sns.amazonaws.com").await;
        let heard_url = queue(&sqs, &format!("heard-{environment}"), "sns.amazonaws.com").await;
        let topic = sns.create_topic().name(format!("wine-{environment}")).send().await.unwrap();
        sns.subscribe()
            .topic_arn(topic.topic_arn.unwrap())
            .protocol("sqs")
            .endpoint(arn_of(&sqs, &heard_url).await)
            .attributes("RawMessageDelivery", "true")
            .send()
            .await
            .unwrap();
        let bucket = format!("wine-lake-{environment}");
        s3.create_bucket().bucket(&bucket).send().await.unwrap();
        notify(&s3, &bucket, &arn_of(&sqs, &ingest_url).await).await;
        let folder = std::env::temp_dir()
            .join(format!("bellwire-publisher-{}-{environment}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let workflow_file = folder.join("bellwire.toml");
        let text = WORKFLOW.replace("\"wine-lake\"", &format!("{bucket:?}"));
        std::fs::write(&workflow_file, text).unwrap();
        Self {
            environment: environment.to_owned(),
            bucket,
            workflow_file,
            folder,
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            sqs,
            s3,
            ingest_url,
            dead_url,
            heard_url,
        }
    }

    pub(crate) async fn put(&self, key: &str, metadata: &[(&str, &str)]) {
        let mut put = self.s3.put_object().bucket(&self.bucket).key(key);
        for (name, value) in metadata {
            put = put.metadata(*name, *value);
        }
        put.body(ByteStream::from_static(b"1,2\n")).send().await.unwrap();
    }

    pub(crate) async fn send(&self, body: &str) {
        let send = self.sqs.send_message().queue_url(&self.ingest_url).message_body(body);
        send.send().await.unwrap();
    }

    /// Messages of a queue, once there are so many.
    pub(crate) async fn received(&self, url: &str, count: usize) -> Vec<Heard> {
        let deadline = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        while all.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} messages in {url}", all.len());
            let answer = self
                .sqs
                .receive_message()
                .queue_url(url)
                .max_number_of_messages(10)
                .wait_time_seconds(1)
                .visibility_timeout(600)
                .message_attribute_names("All")
                .send()
                .await
                .unwrap();
            for message in answer.messages.unwrap_or_default() {
                let attributes = message.message_attributes.unwrap_or_default().into_iter();
                let attributes = attributes
                    .map(|(name, value)| (name, value.string_value.unwrap_or_default()))
                    .collect();
                all.push(Heard { body: message.body.unwrap_or_default(), attributes });
            }
        }
        all
    }

    /// Waits until a queue holds nothing, neither visible nor in flight.
    pub(crate) async fn until_empty(&self, url: &str) {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self
                .sqs
                .get_queue_attributes()
                .queue_url(url)
                .set_attribute_names(Some(names.to_vec()))
                .send()
                .await
                .unwrap();
            let attributes = answer.attributes.unwrap_or_default();
            if names.iter().all(|name| attributes.get(name).is_some_and(|count| count == "0")) {
                return;
            }
            assert!(Instant::now() < deadline, "{url} still holds {attributes:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A queue that a service of this account may fill.
async fn queue(sqs: &aws_sdk_sqs::Client, name: &str, service: &str) -> String {
    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "Service": service }, "Action": "sqs:SendMessage",
        "Resource": format!("arn:aws:sqs:{REGION}:{ACCOUNT_ID}:{name}"),
    }] });
    sqs.create_queue()
        .queue_name(name)
        .attributes(QueueAttributeName::Policy, policy.to_string())
        .send()
        .await
        .unwrap()
        .queue_url
        .unwrap()
}

async fn arn_of(sqs: &aws_sdk_sqs::Client, url: &str) -> String {
    let name = QueueAttributeName::QueueArn;
    let answer =
        sqs.get_queue_attributes().queue_url(url).attribute_names(name.clone()).send().await;
    answer.unwrap().attributes.unwrap().remove(&name).unwrap()
}

async fn notify(s3: &aws_sdk_s3::Client, bucket: &str, queue_arn: &str) {
    let queue = QueueConfiguration::builder()
        .queue_arn(queue_arn)
        .events(Event::from("s3:ObjectCreated:*"))
        .build()
        .unwrap();
    let configuration = NotificationConfiguration::builder().queue_configurations(queue).build();
    s3.put_bucket_notification_configuration()
        .bucket(bucket)
        .notification_configuration(configuration)
        .send()
        .await
        .unwrap();
}

/// A deadline for what is no queue.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}
