//! A service in small, run as a process of its own (this binary again) with an
//! environment that is the test's alone: [`bellwire_telemetry::init`]
//! works once a process, and the variables are the process's.

use std::process::Command;
use std::time::Instant;

use bellwire_telemetry::{FLUSH_TIMEOUT_DEFAULT, LogFormat, Unexported};
use serde_json::{Value, json};
use tracing::Instrument as _;

const FORMAT: &str = "PROBE_FORMAT";
/// Set where no spans are wanted that nobody exports.
pub(crate) const NO_SPANS: &str = "PROBE_NO_SPANS";
const TRACEPARENT: &str = "PROBE_TRACEPARENT";

/// What one run of [`process`] said.
pub(crate) struct Probe {
    /// Its report, the one line of its standard output that is JSON.
    pub(crate) report: Value,
    /// Its log lines that are JSON.
    pub(crate) log: Vec<Value>,
    /// Its whole standard error.
    pub(crate) stderr: String,
}

impl Probe {
    pub(crate) fn run(format: &str, traceparent: Option<&str>, variables: &[(&str, &str)]) -> Self {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "probe::process", "--ignored", "--nocapture", "--quiet"])
            .env_clear()
            .env(FORMAT, format)
            .envs(traceparent.map(|traceparent| (TRACEPARENT, traceparent)))
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        let stdout = String::from_utf8(output.stdout).unwrap();
        let read = |text: &str| {
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<Value>>()
        };
        let report = read(&stdout).into_iter().find(Value::is_object);
        Self { report: report.unwrap_or_else(|| panic!("{stdout}")), log: read(&stderr), stderr }
    }
}

/// Takes a message's context, does its work in two spans, tells what it would
/// send on, flushes, and ends.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "not a test: the process that the tests run"]
async fn process() {
    let format = match std::env::var(FORMAT).as_deref() {
        Ok("human") => LogFormat::Human,
        Ok("json") => LogFormat::Json,
        _ => LogFormat::Auto,
    };
    let unexported = match std::env::var_os(NO_SPANS) {
        Some(_) => Unexported::NoSpans,
        None => Unexported::PassContext,
    };
    let telemetry = bellwire_telemetry::init("probe", format, unexported).unwrap();

    let process = tracing::info_span!("process", otel.kind = "consumer");
    let has_spans = !process.is_disabled();
    bellwire_telemetry::set_parent(&process, std::env::var(TRACEPARENT).ok().as_deref(), None);
    let sent = async {
        tracing::info!(r#type = "ml.data.arrived.v1", "event handled");
        let publish = tracing::info_span!("publish", otel.kind = "producer");
        bellwire_telemetry::link(
            &publish,
            "00-11111111111111111111111111111111-2222222222222222-01",
        );
        bellwire_telemetry::mark_failed(&publish, &std::io::Error::other("refused"));
        publish.in_scope(|| bellwire_telemetry::context_of(&publish))
    };
    let sent = sent.instrument(process).await;

    let flush_ms = elapsed_ms(|| telemetry.flush(FLUSH_TIMEOUT_DEFAULT));
    // Again: it finds the backend no better, and has nothing new to say.
    telemetry.flush(FLUSH_TIMEOUT_DEFAULT);
    let exports = telemetry.exports();
    let report = json!({
        "exports": exports,
        "has_spans": has_spans,
        "traceparent": sent.as_ref().map(|context| context.traceparent.clone()),
        "tracestate": sent.and_then(|context| context.tracestate),
        "flush_ms": flush_ms,
        "telemetry_threads": telemetry_threads(),
        "shutdown_ms": elapsed_ms(|| telemetry.shutdown()),
    });
    println!("\n{report}");
}

fn elapsed_ms(body: impl FnOnce()) -> u64 {
    let before = Instant::now();
    body();
    u64::try_from(before.elapsed().as_millis()).unwrap()
}

/// By their names, which the kernel cuts at 15 bytes.
fn telemetry_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names
        .filter(|name| {
            ["telemetry", "OpenTelemetry", "reqwest"].iter().any(|ours| name.starts_with(ours))
        })
        .count()
}
