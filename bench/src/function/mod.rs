//! A Lambda function at work: what it takes until it asks for its first invocation, for
//! that one, and for those that follow.
//!
//! ```text
//! Runtime API (stub) ◄─► function (a process) ─► DynamoDB, Step Functions, SNS (stub)
//! ```

mod runtime_api;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bellwire_schema::workflow;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::event::Objects;
use crate::stub::{self, Stub};
use runtime_api::{Poll, RuntimeApi, Said};

/// What the function is told of its workflow.
const WORKFLOW: &str = include_str!("../../function.toml");

/// Settings of the person's own that would change what the function does.
const OWN_SETTINGS: [&str; 5] = ["AWS_", "OTEL_", "BELLWIRE_", "RUST_LOG", "PYTHON"];

const SAYS_WITHIN: Duration = Duration::from_secs(60);

/// Once it asks for more, a function's threads go to sleep, which is in the figures of
/// all; the kernel counts CPU time where a thread does so.
const SETTLES_IN: Duration = Duration::from_millis(20);

/// What is measured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The function's program.
    pub program: PathBuf,
    /// What it is started with.
    pub arguments: Vec<String>,
    /// A folder of its own.
    pub folder: PathBuf,
    /// Invocations after the first.
    pub warm: u64,
}

/// What it took. CPU time is that of all threads, in user and kernel mode.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// From the process's start until it asks for its first invocation.
    pub init_cpu_us: f64,
    /// The same, by the clock.
    pub init_wall_us: f64,
    /// For the first invocation, until it asks for the next.
    pub first_cpu_us: f64,
    /// The same, by the clock.
    pub first_wall_us: f64,
    /// For one of those that follow, on average.
    pub warm_cpu_us: f64,
    /// The same, by the clock.
    pub warm_wall_us: f64,
    /// The most memory that was resident, in bytes.
    pub peak_bytes: u64,
    /// Calls to AWS for one event.
    pub calls_per_event: BTreeMap<String, f64>,
    /// Bytes of these calls' bodies for one event.
    pub request_bytes_per_event: f64,
}

/// Why nothing is measured.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    /// No stub.
    #[error(transparent)]
    Stub(#[from] stub::StartError),
    /// A file, a port or a process could not be had.
    #[error("the function cannot be run")]
    Io(#[from] std::io::Error),
    /// The function says that it cannot.
    #[error("the function failed: {0}")]
    Failed(String),
    /// It says nothing.
    #[error("the function said nothing for {} s", SAYS_WITHIN.as_secs())]
    Silent,
    /// It answers without being asked, or asks twice.
    #[error("the function does not do as the Runtime API wants it")]
    Protocol,
    /// What the process took is not told.
    #[error("what the function took is not in /proc/{0}; only Linux tells it there")]
    Usage(u32),
}

/// Starts a function, lets it work, and ends it. It is begun once before, which does not
/// count: so its pages are where whatever ran before has left none, for each alike.
///
/// # Errors
///
/// Where it does not work, or nothing tells what it took.
pub async fn measure(settings: &Settings) -> Result<Measure, FunctionError> {
    let aws = Stub::start(stub::Settings::default()).await?;
    begin_once(settings, &aws).await?;
    let mut api = RuntimeApi::start().await?;
    let begin = Instant::now();
    let child = start(settings, &aws, &api)?;
    let id = child.id().unwrap_or_default();
    let mut measure = Measure::default();
    let poll = polls(&mut api).await?;
    measure.init_wall_us = micros(begin.elapsed());
    measure.init_cpu_us = settled_cpu_us(id).await?;
    let objects = Objects::new();
    let begin = Instant::now();
    let mut poll = invoke(&mut api, poll, payload(&objects, 0)).await?;
    measure.first_wall_us = micros(begin.elapsed());
    let first = settled_cpu_us(id).await?;
    measure.first_cpu_us = first - measure.init_cpu_us;
    let before = aws.counts();
    let begin = Instant::now();
    for number in 1..=settings.warm {
        poll = invoke(&mut api, poll, payload(&objects, number)).await?;
    }
    let events = settings.warm.max(1) as f64;
    measure.warm_wall_us = micros(begin.elapsed()) / events;
    measure.warm_cpu_us = (settled_cpu_us(id).await? - first) / events;
    let counts = aws.counts();
    measure.request_bytes_per_event = (counts.request_bytes - before.request_bytes) as f64 / events;
    let calls = counts.calls.into_iter().map(|(name, count)| {
        let earlier = before.calls.get(&name).copied().unwrap_or(0);
        (name, (count - earlier) as f64 / events)
    });
    measure.calls_per_event = calls.filter(|(_, count)| *count > 0.0).collect();
    measure.peak_bytes = peak_bytes(id).ok_or(FunctionError::Usage(id))?;
    Ok(measure)
}

async fn begin_once(settings: &Settings, aws: &Stub) -> Result<(), FunctionError> {
    let mut api = RuntimeApi::start().await?;
    let mut child = start(settings, aws, &api)?;
    let _poll = polls(&mut api).await?;
    Ok(child.kill().await?)
}

fn start(settings: &Settings, aws: &Stub, api: &RuntimeApi) -> Result<Child, FunctionError> {
    fs::create_dir_all(&settings.folder)?;
    let workflow = workflow::read(WORKFLOW).expect("the workflow file is sound");
    let text = serde_json::to_string(&workflow).expect("a workflow is plain JSON");
    fs::write(settings.folder.join("workflow.json"), text)?;
    let log = fs::File::create(settings.folder.join("function.log"))?;
    let mut command = Command::new(&settings.program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if OWN_SETTINGS.iter().any(|own| text.starts_with(own)) {
            command.env_remove(&name);
        }
    }
    command
        .args(&settings.arguments)
        .env("LAMBDA_TASK_ROOT", &settings.folder)
        .env("BELLWIRE_ACCOUNT", "111122223333")
        .env("AWS_LAMBDA_RUNTIME_API", api.address.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", "bench-handler")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .env("AWS_ENDPOINT_URL", aws.url())
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_DEFAULT_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "bench")
        .env("AWS_SECRET_ACCESS_KEY", "bench")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true);
    Ok(command.spawn()?)
}

async fn said(api: &mut RuntimeApi) -> Result<Said, FunctionError> {
    match timeout(SAYS_WITHIN, api.said()).await {
        Ok(Some(Said::Failed(message))) => Err(FunctionError::Failed(message)),
        Ok(Some(said)) => Ok(said),
        _ => Err(FunctionError::Silent),
    }
}

async fn polls(api: &mut RuntimeApi) -> Result<Poll, FunctionError> {
    match said(api).await? {
        Said::Polls(poll) => Ok(poll),
        _ => Err(FunctionError::Protocol),
    }
}

/// One invocation, until the function asks for the next.
async fn invoke(api: &mut RuntimeApi, poll: Poll, payload: String) -> Result<Poll, FunctionError> {
    poll.send(payload).map_err(|_| FunctionError::Protocol)?;
    match said(api).await? {
        Said::Answered => polls(api).await,
        _ => Err(FunctionError::Protocol),
    }
}

/// What SNS invokes a function with: the event of a new object.
fn payload(objects: &Objects, number: u64) -> String {
    let mut event = objects.event(number);
    event.context.correlationid = Some(event.id.clone());
    event.context.traceparent =
        Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".to_owned());
    let topic = "arn:aws:sns:eu-central-1:111122223333:bench";
    let attribute = |value: &str| json!({ "Type": "String", "Value": value });
    let record = json!({
        "EventSource": "aws:sns", "EventVersion": "1.0",
        "EventSubscriptionArn": format!("{topic}:2bcfbf39-05c3-41de-beaa-fcfcc21c8f55"),
        "Sns": {
            "Type": "Notification", "MessageId": "95df01b4-ee98-5cb9-9903-4c221d41eb5e",
            "TopicArn": topic, "Subject": null, "Message": event.to_json(),
            "Timestamp": "2026-03-01T12:00:00.000Z", "SignatureVersion": "1",
            "Signature": "tcc6faL2yUC6dgZdmrwh1Y4cGa/ebXEkAi6RibDsvpi+tE/1+82j...65r==",
            "SigningCertUrl": "https://sns.eu-central-1.amazonaws.com/cert.pem",
            "UnsubscribeUrl": "https://sns.eu-central-1.amazonaws.com/?Action=Unsubscribe",
            "MessageAttributes": {
                "type": attribute(event.event_type.as_str()), "dataset": attribute("bench"),
                "source": attribute(&event.source), "hop": { "Type": "Number", "Value": "0" },
            },
        },
    });
    json!({ "Records": [record] }).to_string()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

async fn settled_cpu_us(id: u32) -> Result<f64, FunctionError> {
    sleep(SETTLES_IN).await;
    cpu_us(id).ok_or(FunctionError::Usage(id))
}

/// The CPU time of a process: the first field of each thread's `schedstat`, in
/// nanoseconds. Source: Linux, Documentation/scheduler/sched-stats.rst.
fn cpu_us(id: u32) -> Option<f64> {
    let mut nanoseconds = 0_u64;
    for thread in fs::read_dir(format!("/proc/{id}/task")).ok()? {
        let Ok(text) = fs::read_to_string(thread.ok()?.path().join("schedstat")) else {
            continue;
        };
        nanoseconds += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(nanoseconds as f64 / 1e3)
}

fn peak_bytes(id: u32) -> Option<u64> {
    let path = Path::new("/proc").join(id.to_string()).join("status");
    let status = fs::read_to_string(path).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
