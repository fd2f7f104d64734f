//! A local cloud with the wine example deployed to it, and its publisher
//! running: everything as a user has it, by the commands that a user runs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::Credentials;
use bellwire_local::LocalCloud;
use bellwire_otlp_receiver::Receiver;
use bellwire_schema::workflow::TopicKind;
use bellwire_schema::{Deployment, Envelope, Place};
use serde_json::{Value, json};

/// How long anything may take before a test gives up.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until a look finds what it looks for.
///
/// # Panics
///
/// Where it does not within [`DEADLINE`]; with what the last look saw instead.
pub async fn until<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + DEADLINE;
    let mut pace = tokio::time::interval(LOOK_EVERY);
    loop {
        pace.tick().await;
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "{what}; seen instead: {seen}"),
        }
    }
}

/// The deployed example.
#[derive(Debug)]
pub struct World {
    /// The local AWS.
    pub cloud: LocalCloud,
    /// What publisher, handler and worker export their traces to.
    pub receiver: Receiver,
    /// Root credentials on the local AWS: those of set-up, not of any component.
    pub config: SdkConfig,
    /// The names of everything.
    pub deployment: Deployment,
    /// The region and account.
    pub place: Place,
    publisher: Option<Child>,
    publisher_url: String,
    listener_url: String,
    folder: tempfile::TempDir,
}

impl World {
    /// Deploys the example, starts its publisher, and subscribes a queue to
    /// everything on the topic.
    ///
    /// # Panics
    ///
    /// Where any of it fails.
    pub async fn deploy() -> Self {
        let cloud = LocalCloud::for_tests();
        let receiver = Receiver::start().expect("traces can be received");
        let config = aws_config::defaults(BehaviorVersion::latest())
            .endpoint_url(cloud.endpoint_url())
            .region(Region::new(cloud.region()))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .load()
            .await;
        let mut world = Self {
            deployment: Deployment::new("wine", None),
            place: Place::new(cloud.region(), cloud.account_id()),
            publisher: None,
            publisher_url: String::new(),
            listener_url: String::new(),
            folder: tempfile::tempdir().expect("a folder"),
            cloud,
            receiver,
            config,
        };
        world.bellwire_ok(&["apply", "--yes", "--otlp-endpoint", &world.receiver.endpoint()]);
        world.listener_url = world.listen().await;
        world.start_publisher().await;
        world
    }

    /// Runs `bellwire` on the example as the account's root.
    ///
    /// # Panics
    ///
    /// Where it cannot be run.
    #[must_use]
    pub fn bellwire(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary("bellwire"));
        self.cloud.set_env(&mut command);
        command.arg("--workflow").arg(workflow_file()).arg("--root").arg(artifact_root());
        command.args(arguments).output().expect("bellwire runs")
    }

    /// What `bellwire` prints.
    ///
    /// # Panics
    ///
    /// Where it fails.
    pub fn bellwire_ok(&self, arguments: &[&str]) -> String {
        let output = self.bellwire(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "bellwire {arguments:?} failed:\n{out}{err}");
        out
    }

    /// The publisher on credentials of its own role alone: its environment has no
    /// key, and its profile asks `bellwire credentials` for them.
    fn publisher(&self) -> Command {
        let profile = self.folder.path().join("config");
        let credentials = format!(
            "/usr/bin/env AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_CONFIG_FILE=/dev/null \
             {} --workflow {} credentials publisher",
            binary("bellwire").display(),
            workflow_file().display()
        );
        let text = format!("[default]\ncredential_process = {credentials}\n");
        std::fs::write(&profile, text).expect("the profile is written");
        let mut command = Command::new(binary("bellwire-publisher"));
        self.cloud.set_env(&mut command);
        command
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .env("AWS_CONFIG_FILE", profile)
            .arg("--workflow")
            .arg(workflow_file())
            .args(["--listen", "127.0.0.1:0"]);
        command
    }

    /// Whether all is well, by the publisher's `--check`, and its report.
    ///
    /// # Panics
    ///
    /// Where it cannot be started.
    #[must_use]
    pub fn check_publisher(&self) -> (bool, String) {
        let mut command = self.publisher();
        command.arg("--check").arg("--spool").arg(self.folder.path().join("check.redb"));
        let output = command.output().expect("the publisher starts");
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    }

    async fn start_publisher(&mut self) {
        let address_file = self.folder.path().join("address");
        let mut command = self.publisher();
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", self.receiver.endpoint())
            .env("OTEL_SERVICE_NAME", self.deployment.publisher())
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            .arg("--address-file")
            .arg(&address_file)
            .arg("--spool")
            .arg(self.folder.path().join("spool.redb"));
        let log = std::fs::File::create(self.folder.path().join("publisher.log"));
        command.stderr(log.expect("the publisher has a log"));
        self.publisher = Some(command.spawn().expect("the publisher starts"));
        let address = until("the publisher listens", async || {
            std::fs::read_to_string(&address_file).map_err(|error| error.to_string())
        })
        .await;
        self.publisher_url = format!("http://{}/v1/events", address.trim());
    }

    /// Posts an event to the publisher, and returns the answer's status and body.
    ///
    /// # Panics
    ///
    /// Where the publisher does not answer.
    #[must_use]
    pub fn post(&self, event: &Value) -> (u16, String) {
        let agent = ureq::Agent::new_with_config(
            ureq::Agent::config_builder().http_status_as_error(false).build(),
        );
        let request = agent
            .post(&self.publisher_url)
            .header("content-type", "application/cloudevents+json")
            .send(event.to_string());
        let mut response = request.expect("the publisher answers");
        let body = response.body_mut().read_to_string().expect("the answer is text");
        (response.status().as_u16(), body)
    }

    /// What the publisher answers who asks whether it is ready: status and body.
    ///
    /// # Panics
    ///
    /// Where the publisher does not answer.
    #[must_use]
    pub fn ready(&self) -> (u16, String) {
        let agent = ureq::Agent::new_with_config(
            ureq::Agent::config_builder().http_status_as_error(false).build(),
        );
        let url = self.publisher_url.replace("/v1/events", "/readyz");
        let mut response = agent.get(&url).call().expect("the publisher answers");
        let body = response.body_mut().read_to_string().expect("the answer is text");
        (response.status().as_u16(), body)
    }

    /// Asks for a collection.
    ///
    /// # Panics
    ///
    /// Where the publisher does not accept the event.
    pub fn request_collection(&self, id: &str) {
        self.request(&collection_requested(id));
    }

    /// Posts an event.
    ///
    /// # Panics
    ///
    /// Where the publisher does not accept it.
    pub fn request(&self, event: &Value) {
        let (status, body) = self.post(event);
        assert_eq!(status, 202, "{body}");
    }

    /// A queue of somebody else's that hears everything on the topic.
    async fn listen(&self) -> String {
        let sqs = aws_sdk_sqs::Client::new(&self.config);
        let create = sqs.create_queue().queue_name("listener").send().await;
        let url = create.expect("the queue is made").queue_url.expect("it has a URL");
        let queue_arn = self.place.queue_arn("listener");
        let policy = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": { "Service": "sns.amazonaws.com" },
            "Action": "sqs:SendMessage", "Resource": queue_arn,
        }] });
        let attribute = aws_sdk_sqs::types::QueueAttributeName::Policy;
        let set = sqs.set_queue_attributes().queue_url(&url);
        set.attributes(attribute, policy.to_string()).send().await.expect("it has a policy");
        let sns = aws_sdk_sns::Client::new(&self.config);
        let topic_arn = self.place.topic_arn(&self.deployment.topic(TopicKind::Standard));
        let subscribe = sns.subscribe().topic_arn(topic_arn).protocol("sqs").endpoint(queue_arn);
        let raw = subscribe.attributes("RawMessageDelivery", "true");
        raw.send().await.expect("it listens");
        url
    }

    /// Waits for events on the topic until one satisfies the condition; returns
    /// all that came, that one last.
    ///
    /// # Panics
    ///
    /// Where none comes.
    pub async fn heard_until(&self, is_last: impl Fn(&Envelope) -> bool) -> Vec<Envelope> {
        let deadline = Instant::now() + DEADLINE;
        let mut heard = Vec::new();
        while Instant::now() < deadline {
            for body in self.receive(&self.listener_url, 1).await {
                heard.push(Envelope::from_json(body.as_bytes()).expect("events are envelopes"));
                if heard.last().is_some_and(&is_last) {
                    return heard;
                }
            }
        }
        let types: Vec<_> = heard.iter().map(|event| event.event_type.as_str()).collect();
        panic!("the event did not come; these did: {types:?}");
    }

    /// Waits for a message in a queue and takes it.
    ///
    /// # Panics
    ///
    /// Where none comes.
    pub async fn take(&self, queue: &str) -> String {
        let sqs = aws_sdk_sqs::Client::new(&self.config);
        let get = sqs.get_queue_url().queue_name(queue).send().await;
        let url = get.expect("the queue is there").queue_url.expect("it has a URL");
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(body) = self.receive(&url, 1).await.pop() {
                return body;
            }
        }
        panic!("nothing came to {queue}");
    }

    /// Long-polls a queue, and deletes what it gives.
    async fn receive(&self, url: &str, count: i32) -> Vec<String> {
        let sqs = aws_sdk_sqs::Client::new(&self.config);
        let receive = sqs.receive_message().queue_url(url).max_number_of_messages(count);
        let received = receive.wait_time_seconds(5).send().await.expect("the queue answers");
        let mut bodies = Vec::new();
        for message in received.messages.unwrap_or_default() {
            let handle = message.receipt_handle.expect("a message has a handle");
            let delete = sqs.delete_message().queue_url(url).receipt_handle(handle);
            delete.send().await.expect("the message is deleted");
            bodies.push(message.body.expect("a message has a body"));
        }
        bodies
    }

    /// The starts in the ledger, as `bellwire runs --json` shows them, once they
    /// satisfy the condition.
    ///
    /// # Panics
    ///
    /// Where they do not.
    pub async fn runs_once(&self, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        until("the runs became so", async || {
            let runs = self.bellwire_ok(&["--json", "runs"]);
            let runs: Vec<Value> = serde_json::from_str(&runs).expect("runs are a JSON list");
            if is_so(&runs) { Ok(runs) } else { Err(format!("{runs:#?}")) }
        })
        .await
    }

    /// Waits until the handler has said a thing so many times in its log.
    ///
    /// # Panics
    ///
    /// Where it does not, or the log cannot be read.
    pub async fn handler_has_said(&self, words: &str, times: usize) {
        until(&format!("the handler said `{words}` {times} times"), async || {
            let said = self.handler_said(words).await;
            if said == times { Ok(()) } else { Err(format!("{said} times")) }
        })
        .await;
    }

    /// How often the handler has said a thing in its log.
    ///
    /// # Panics
    ///
    /// Where the log cannot be read.
    pub async fn handler_said(&self, words: &str) -> usize {
        let logs = aws_sdk_cloudwatchlogs::Client::new(&self.config);
        let group = format!("/aws/lambda/{}", self.deployment.handler());
        let mut pages = logs.filter_log_events().log_group_name(&group).into_paginator().send();
        let mut said = 0;
        while let Some(page) = pages.next().await {
            let events = page.expect("the log is read").events.unwrap_or_default();
            let lines = events.iter().filter_map(|event| event.message.as_deref());
            said += lines.filter(|line| line.contains(words)).count();
        }
        said
    }

    /// What AWS itself still has of the deployment, whoever is asked about it.
    ///
    /// # Panics
    ///
    /// Where AWS cannot be asked.
    pub async fn left_over(&self) -> Vec<String> {
        let prefix = self.deployment.prefix();
        let is_ours = |name: &String| name.contains(&prefix);
        let iam = aws_sdk_iam::Client::new(&self.config).list_roles().send().await;
        let sfn = aws_sdk_sfn::Client::new(&self.config).list_state_machines().send().await;
        let sns = aws_sdk_sns::Client::new(&self.config).list_topics().send().await;
        let sqs = aws_sdk_sqs::Client::new(&self.config).list_queues().send().await;
        let s3 = aws_sdk_s3::Client::new(&self.config).list_buckets().send().await;
        let logs = aws_sdk_cloudwatchlogs::Client::new(&self.config);
        let logs = logs.describe_log_groups().send().await.expect("log groups are listed");
        let roles = iam.expect("roles are listed").roles.into_iter().map(|role| role.arn);
        let machines = sfn.expect("state machines are listed").state_machines.into_iter();
        let topics = sns.expect("topics are listed").topics.unwrap_or_default().into_iter();
        let queues = sqs.expect("queues are listed").queue_urls.unwrap_or_default();
        let buckets = s3.expect("buckets are listed").buckets.unwrap_or_default().into_iter();
        let groups = logs.log_groups.unwrap_or_default().into_iter();
        roles
            .chain(machines.map(|machine| machine.state_machine_arn))
            .chain(topics.filter_map(|topic| topic.topic_arn))
            .chain(queues)
            .chain(buckets.filter_map(|bucket| bucket.name))
            .chain(groups.filter_map(|group| group.log_group_name))
            .filter(is_ours)
            .collect()
    }

    /// The executions of a trigger's state machine.
    ///
    /// # Panics
    ///
    /// Where they cannot be listed.
    pub async fn executions(&self, trigger: &str) -> usize {
        let arn = self.place.state_machine_arn(&self.deployment.state_machine(trigger));
        let sfn = aws_sdk_sfn::Client::new(&self.config);
        let list = sfn.list_executions().state_machine_arn(arn).send().await;
        list.expect("executions are listed").executions.len()
    }

    /// The policy that a role was deployed with; `null` where it has none.
    ///
    /// # Panics
    ///
    /// Where there is no such role.
    pub async fn policy_of(&self, role: &str) -> Value {
        let iam = aws_sdk_iam::Client::new(&self.config);
        iam.get_role().role_name(role).send().await.expect("the role is there");
        let get = iam.get_role_policy().role_name(role).policy_name("bellwire").send().await;
        let Ok(found) = get else { return Value::Null };
        serde_json::from_str(&percent_decoded(&found.policy_document)).expect("a policy is JSON")
    }

    /// Has the handler look at what is due, as its rule does once a minute.
    ///
    /// # Panics
    ///
    /// Where it fails.
    pub async fn sweep(&self) {
        let lambda = aws_sdk_lambda::Client::new(&self.config);
        let invoke = lambda.invoke().function_name(self.deployment.handler()).qualifier("live");
        let event = aws_sdk_lambda::primitives::Blob::new(r#"{"bellwire":"sweep"}"#);
        let answer = invoke.payload(event).send().await.expect("the handler is invoked");
        assert_eq!(answer.function_error, None, "{answer:?}");
    }

    /// Takes an action out of a role's policy.
    ///
    /// # Panics
    ///
    /// Where the role does not have it.
    pub async fn take_permission(&self, role: &str, action: &str) {
        let iam = aws_sdk_iam::Client::new(&self.config);
        let list = iam.list_role_policies().role_name(role).send().await;
        let policies = list.expect("the role is there").policy_names;
        let mut taken = 0;
        for name in policies {
            let get = iam.get_role_policy().role_name(role).policy_name(&name).send().await;
            let document = get.expect("the policy is there").policy_document;
            let document = percent_decoded(&document);
            let mut document: Value = serde_json::from_str(&document).expect("a policy is JSON");
            taken += without(&mut document, action);
            if document["Statement"].as_array().is_some_and(Vec::is_empty) {
                let delete = iam.delete_role_policy().role_name(role).policy_name(&name);
                delete.send().await.expect("the policy is deleted");
                continue;
            }
            let put = iam.put_role_policy().role_name(role).policy_name(&name);
            put.policy_document(document.to_string()).send().await.expect("the policy is put");
        }
        assert!(taken > 0, "{role} does not have {action}");
    }

    /// Ends the publisher as a service manager does, and waits for it.
    ///
    /// # Panics
    ///
    /// Where it does not end well.
    pub fn stop_publisher(&mut self) {
        let mut publisher = self.publisher.take().expect("the publisher runs");
        let kill = Command::new("kill").arg(publisher.id().to_string()).status();
        assert!(kill.is_ok_and(|status| status.success()));
        let status = publisher.wait().expect("the publisher ends");
        assert!(status.success(), "the publisher ended with {status}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(publisher) = &mut self.publisher {
            // The test is over: whether it still runs does not matter any more.
            let _ = publisher.kill();
            let _ = publisher.wait();
        }
    }
}

/// The event that begins everything.
#[must_use]
pub fn collection_requested(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/wine-tests",
        "type": "ml.collection.requested.v1", "data": { "parameters": { "seed": 7 } },
    })
}

/// Takes every mention of an action out of a policy; a statement that would
/// have none left goes too.
fn without(document: &mut Value, action: &str) -> usize {
    let mut taken = 0;
    let statements = document["Statement"].as_array_mut().expect("a policy has statements");
    statements.retain_mut(|statement| match &mut statement["Action"] {
        Value::Array(actions) => {
            let before = actions.len();
            actions.retain(|other| other != action);
            taken += before - actions.len();
            !actions.is_empty()
        }
        only => {
            taken += usize::from(only == action);
            only != action
        }
    });
    taken
}

/// IAM returns policy documents URL-encoded.
fn percent_decoded(text: &str) -> String {
    bellwire_schema::s3::decode_key(&text.replace('+', "%2B")).expect("a policy is UTF-8")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    root.canonicalize().expect("the workspace is there")
}

fn workflow_file() -> PathBuf {
    root().join("examples/wine/bellwire.toml")
}

/// Cargo's target folder: this test's own binary lies in its `debug/deps`.
fn target() -> PathBuf {
    let this = std::env::current_exe().expect("this binary has a path");
    this.ancestors().nth(3).expect("it lies in target/debug/deps").to_owned()
}

/// The folder below which `target/lambda` is found.
fn artifact_root() -> PathBuf {
    target().parent().expect("the target folder lies in one").to_owned()
}

fn binary(name: &str) -> PathBuf {
    let path = target().join("debug").join(name);
    assert!(path.exists(), "{} is not built: run `cargo xtask test`", path.display());
    path
}
