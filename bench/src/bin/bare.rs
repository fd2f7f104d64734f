//! `bellwire-bench-bare`: the least that an AWS SDK can do. Sixteen tasks receive,
//! publish and delete; they look into no message, and send for each the bytes and
//! attributes that the publisher would. What the publisher takes more than this is
//! its own work.

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, MessageSystemAttributeName};
use bellwire_bench::event::{Sample, sample};
use clap::Parser;
use tokio::task::JoinSet;

/// The publisher's own allocator, so that what differs is the work.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Moves messages from a queue to a topic until the queue has none for a while.
#[derive(Debug, Clone, Parser)]
#[command(name = "bellwire-bench-bare")]
struct Flags {
    /// The queue's name.
    #[arg(long, default_value = "bench-ingest")]
    queue: String,
    /// The topic's ARN.
    #[arg(long, default_value = "arn:aws:sns:eu-central-1:111122223333:bench")]
    topic: String,
    /// How many batches are worked on together.
    #[arg(long, default_value_t = 16)]
    tasks: usize,
    /// How long the queue has none before this ends, in seconds.
    #[arg(long, default_value_t = 2)]
    idle_s: i32,
}

#[derive(Clone)]
struct Worker {
    sqs: aws_sdk_sqs::Client,
    sns: aws_sdk_sns::Client,
    queue_url: String,
    topic: String,
    idle_s: i32,
    sample: Sample,
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let flags = Flags::parse();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::standard())
        .load()
        .await;
    let sqs = aws_sdk_sqs::Client::new(&config);
    let answer = sqs.get_queue_url().queue_name(&flags.queue).send().await?;
    let worker = Worker {
        sns: aws_sdk_sns::Client::new(&config),
        queue_url: answer.queue_url.unwrap_or_default(),
        topic: flags.topic,
        idle_s: flags.idle_s,
        sample: sample(),
        sqs,
    };
    let mut tasks = JoinSet::new();
    for _ in 0..flags.tasks {
        tasks.spawn(worker.clone().run());
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

impl Worker {
    async fn run(self) -> Result<(), AnyError> {
        loop {
            let receipts = self.receive().await?;
            if receipts.is_empty() {
                return Ok(());
            }
            self.publish(receipts.len()).await?;
            self.delete(receipts).await?;
        }
    }

    async fn receive(&self) -> Result<Vec<String>, AnyError> {
        let answer = self
            .sqs
            .receive_message()
            .queue_url(&self.queue_url)
            .max_number_of_messages(10)
            .wait_time_seconds(self.idle_s)
            .visibility_timeout(120)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .send()
            .await?;
        let messages = answer.messages.unwrap_or_default();
        Ok(messages.into_iter().filter_map(|message| message.receipt_handle).collect())
    }

    async fn publish(&self, count: usize) -> Result<(), AnyError> {
        let entries = (0..count).map(|index| self.entry(index)).collect::<Result<_, _>>()?;
        let answer = self
            .sns
            .publish_batch()
            .topic_arn(&self.topic)
            .set_publish_batch_request_entries(Some(entries))
            .send()
            .await?;
        match answer.failed().first() {
            Some(failed) => Err(format!("an entry was not published: {failed:?}").into()),
            None => Ok(()),
        }
    }

    fn entry(&self, index: usize) -> Result<PublishBatchRequestEntry, AnyError> {
        let mut entry =
            PublishBatchRequestEntry::builder().id(index.to_string()).message(&self.sample.body);
        for attribute in &self.sample.attributes {
            let value = MessageAttributeValue::builder()
                .data_type(attribute.data_type.as_str())
                .string_value(&attribute.value)
                .build()?;
            entry = entry.message_attributes(&attribute.name, value);
        }
        Ok(entry.build()?)
    }

    async fn delete(&self, receipts: Vec<String>) -> Result<(), AnyError> {
        let mut request = self.sqs.delete_message_batch().queue_url(&self.queue_url);
        for (index, receipt) in receipts.into_iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(receipt)
                .build()?;
            request = request.entries(entry);
        }
        let answer = request.send().await?;
        match answer.failed().first() {
            Some(failed) => Err(format!("a message was not deleted: {failed:?}").into()),
            None => Ok(()),
        }
    }
}
