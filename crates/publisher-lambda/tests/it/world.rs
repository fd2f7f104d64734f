//! A local cloud, a workflow for it, and what a test asks of both.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::types::QueueAttributeName;
use aws_sdk_sts::config::Credentials;
use bellwire_infra::Provisioner;
use bellwire_infra::inputs::{self, Code};
use bellwire_infra::plan::Plan;
use bellwire_local::LocalCloud;
use bellwire_schema::{DeadLetter, Envelope, Place, workflow};

const WORKFLOW: &str = r#"
workflow = "shop"

[publisher]
run = "RUN"

[ledger]
deletion_protection = false

[[source]]
name = "raw"
kind = "s3"
bucket = "shop-lake"
create = true
prefix = "raw/"
emits = "data.arrived"
dataset = "shop"
context = "metadata"

[[trigger]]
name = "train"
stage = "training"
on = "data.arrived"
start = { step-functions = "pass.asl.json" }
"#;

const DEFINITION: &str = r#"{"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}"#;

/// Whatever a test waits for is there long before.
const PATIENCE: Duration = Duration::from_secs(120);

/// A local cloud of a test's own, and a folder with the workflow's files.
pub(crate) struct World {
    _cloud: LocalCloud,
    folder: PathBuf,
    config: SdkConfig,
    place: Place,
    sqs: aws_sdk_sqs::Client,
}

impl World {
    pub(crate) async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("publisher-lambda-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        std::fs::write(folder.join("pass.asl.json"), DEFINITION).expect("written");
        let cloud = LocalCloud::for_tests();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .endpoint_url(cloud.endpoint_url())
            .region(Region::new(cloud.region()))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .load()
            .await;
        let place = Place::new(cloud.region(), cloud.account_id());
        let sqs = aws_sdk_sqs::Client::new(&config);
        Self { _cloud: cloud, folder, config, place, sqs }
    }

    /// Of the workflow with the publisher that runs so.
    pub(crate) async fn provisioner(&self, run: &str) -> Provisioner {
        let workflow = workflow::read(&WORKFLOW.replace("RUN", run));
        let workflow = workflow.unwrap_or_else(|problems| panic!("{problems:?}"));
        Provisioner::connect(&self.config, workflow, None).await.expect("connected")
    }

    async fn planned(&self, provisioner: &Provisioner) -> (Plan, Code) {
        // The functions' zips, which `cargo xtask build --profile dev` makes.
        let root = target().parent().expect("the target folder lies in one").to_owned();
        let inputs = inputs::read(provisioner.workflow(), &root, &self.folder);
        let inputs = inputs.unwrap_or_else(|problems| panic!("run `cargo xtask test`: {problems}"));
        let plan = provisioner.plan(&inputs).await.unwrap_or_else(|error| panic!("{error}"));
        (plan, inputs.code)
    }

    pub(crate) async fn plan(&self, run: &str) -> Plan {
        self.planned(&self.provisioner(run).await).await.0
    }

    pub(crate) async fn apply(&self, run: &str) -> Plan {
        let provisioner = self.provisioner(run).await;
        let (plan, code) = self.planned(&provisioner).await;
        execute(&provisioner, &plan, &code).await;
        plan
    }

    pub(crate) async fn destroy(&self) -> Plan {
        let provisioner = self.provisioner("lambda").await;
        let data = ["shop-ingest", "shop-dead", "shop-lake", "shop-ledger"].map(str::to_owned);
        let plan = provisioner.plan_destroy(&data).await.expect("planned");
        execute(&provisioner, &plan, &Code::default()).await;
        plan
    }

    async fn url(&self, queue: &str) -> String {
        let url = self.sqs.get_queue_url().queue_name(queue).send().await.expect("a queue");
        url.queue_url.expect("a URL")
    }

    /// Subscribes a queue to all that the topic gets.
    pub(crate) async fn hear_everything(&self) {
        let arn = self.place.queue_arn("heard");
        let policy = serde_json::json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage", "Resource": arn,
        }]});
        let queue = self.sqs.create_queue().queue_name("heard");
        let queue = queue.attributes(QueueAttributeName::Policy, policy.to_string());
        queue.send().await.expect("created");
        let subscribe = aws_sdk_sns::Client::new(&self.config).subscribe();
        let subscribe = subscribe.topic_arn(self.place.topic_arn("shop")).protocol("sqs");
        let subscribe = subscribe.endpoint(arn).attributes("RawMessageDelivery", "true");
        subscribe.send().await.expect("subscribed");
    }

    pub(crate) async fn send_to_ingest(&self, body: &str) {
        let url = self.url("shop-ingest").await;
        self.sqs.send_message().queue_url(url).message_body(body).send().await.expect("sent");
    }

    pub(crate) async fn put_object(&self, key: &str) {
        let put = aws_sdk_s3::Client::new(&self.config).put_object().bucket("shop-lake").key(key);
        let put = put.metadata("correlationid", "c-1").body(b"1,2".to_vec().into());
        put.send().await.expect("put");
    }

    /// The next message of a queue, which leaves it.
    async fn next(&self, queue: &str) -> String {
        let url = self.url(queue).await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let receive = self.sqs.receive_message().queue_url(&url).wait_time_seconds(2);
            let received = receive.send().await.expect("received").messages.unwrap_or_default();
            if let Some(message) = received.into_iter().next() {
                let delete = self.sqs.delete_message().queue_url(&url);
                let receipt = message.receipt_handle.expect("a receipt");
                delete.receipt_handle(receipt).send().await.expect("deleted");
                return message.body.expect("a body");
            }
            assert!(Instant::now() < deadline, "nothing came into {queue}");
        }
    }

    pub(crate) async fn next_event(&self) -> Envelope {
        Envelope::from_json(self.next("heard").await.as_bytes()).expect("an event")
    }

    pub(crate) async fn next_letter(&self) -> DeadLetter {
        serde_json::from_str(&self.next("shop-dead").await).expect("a letter of ours")
    }

    /// Waits until Lambda has deleted what the function did not name as failed.
    pub(crate) async fn until_ingest_is_empty(&self) {
        use QueueAttributeName::{
            ApproximateNumberOfMessages as Waiting, ApproximateNumberOfMessagesNotVisible as Hidden,
        };
        let url = self.url("shop-ingest").await;
        let deadline = Instant::now() + PATIENCE;
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        loop {
            pace.tick().await;
            let asked = self.sqs.get_queue_attributes().queue_url(&url);
            let asked = asked.attribute_names(Waiting).attribute_names(Hidden);
            let counts = asked.send().await.expect("read").attributes.unwrap_or_default();
            if counts.values().all(|count| count == "0") {
                return;
            }
            assert!(Instant::now() < deadline, "{counts:?}");
        }
    }

    async fn mappings_of_ingest(
        &self,
    ) -> Vec<aws_sdk_lambda::types::EventSourceMappingConfiguration> {
        let list = aws_sdk_lambda::Client::new(&self.config).list_event_source_mappings();
        let list = list.event_source_arn(self.place.queue_arn("shop-ingest"));
        list.send().await.expect("listed").event_source_mappings.unwrap_or_default()
    }

    pub(crate) async fn mappings(&self) -> usize {
        self.mappings_of_ingest().await.len()
    }

    pub(crate) async fn change_mapping_by_hand(&self) {
        let uuid = self.mappings_of_ingest().await[0].uuid.clone().expect("an id");
        let update = aws_sdk_lambda::Client::new(&self.config).update_event_source_mapping();
        update.uuid(uuid).batch_size(1).enabled(false).send().await.expect("updated");
    }

    /// Somebody else's function takes messages of our queue too.
    pub(crate) async fn map_their_function(&self) {
        let lambda = aws_sdk_lambda::Client::new(&self.config);
        let ours = lambda.get_function().function_name("shop-publisher").send().await;
        let role = ours.expect("there").configuration.and_then(|one| one.role).expect("a role");
        let zip = std::fs::read(target().join("lambda/wine-worker.zip")).expect("built");
        let code = aws_sdk_lambda::types::FunctionCode::builder().zip_file(zip.into()).build();
        let create = lambda.create_function().function_name("theirs").role(role).code(code);
        let create = create.runtime("provided.al2023".into()).handler("bootstrap");
        create.send().await.expect("created");
        let map = lambda.create_event_source_mapping().function_name("theirs").enabled(false);
        let map = map.event_source_arn(self.place.queue_arn("shop-ingest"));
        map.send().await.expect("mapped");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Cargo's target folder: this test's own binary lies in its `debug/deps`.
fn target() -> PathBuf {
    let this = std::env::current_exe().expect("this binary has a path");
    this.ancestors().nth(3).expect("it lies in target/debug/deps").to_owned()
}

async fn execute(provisioner: &Provisioner, plan: &Plan, code: &Code) {
    let stop = AtomicBool::new(false);
    let applied = provisioner.apply(plan, code, "the test", &|_| {}, &stop).await;
    applied.unwrap_or_else(|error| panic!("{error}\n{plan}"));
}
