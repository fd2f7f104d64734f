//! The reader, rule by rule.

mod example;
mod mistakes;
mod page;
mod properties;
mod relations;
mod rules;
mod security;
mod syntax;
mod watching;

use super::{Problem, Workflow, read};

/// The wine workflow of the documentation, complete.
pub(super) const EXAMPLE: &str = r#"
workflow = "wine"
region = "eu-west-1"
account = "123456789012"

[topic]
kind = "standard"
display_name = "Wine quality"

[publisher]
run = "sidecar"
trusted_by = ["ecs-tasks.amazonaws.com"]

[handler]
delivery = "direct"
environment = { RUST_LOG = "info" }

[ledger]
deletion_protection = false

[telemetry]
otlp_endpoint = "http://localhost:4318"

[[event]]
type = "label.reviewed"
schema = "schemas/label-reviewed.json"

[[source]]
name = "raw"
kind = "s3"
bucket = "wine-lake"
prefix = "raw/"
suffix = ".csv"
emits = "data.arrived"
dataset = "wine"
context = "metadata"

[[source]]
name = "nightly"
kind = "schedule"
expression = "cron(0 3 * * ? *)"
emits = "collection.requested"
parameters = { rows = 1599, ratio = 0.8, tags = ["red"] }

[[function]]
name = "worker"
artifact = "target/lambda/wine-worker.zip"
access = ["s3:read wine-lake/raw/*", "s3:write wine-lake/models/*"]

[[subscriber]]
name = "on-call"
protocol = "email"
endpoint = "ml-on-call@example.com"
on = ["training.failed", "prediction.failed"]

[[trigger]]
name = "collect"
stage = "collection"
on = "collection.requested"
start = { step-functions = "workflows/collect.asl.json" }

[[trigger]]
name = "train"
stage = "training"
on = "data.arrived"
where = { dataset = ["wine"], data.size_bytes = [{ numeric = [">", 0] }] }
gather = { marker = "_SUCCESS", within = "1h" }
start = { step-functions = "workflows/train.asl.json" }
input = { data = "$.data", model = "champion" }

[[trigger]]
name = "predict"
stage = "prediction"
on = ["training.completed", "label.reviewed"]
guards = { cooldown = "10m", max_concurrent = 1, when_held = "drop" }
start = { sagemaker-pipeline = "predict" }
expected_duration = "15m"
"#;

/// The smallest file: everything else is a default.
pub(super) const SMALLEST: &str = "workflow = \"wine\"\n";

/// The example with one of its texts replaced, which must be there.
pub(super) fn with(old: &str, new: &str) -> String {
    assert!(EXAMPLE.contains(old), "the example has no {old}");
    EXAMPLE.replacen(old, new, 1)
}

/// The example with more at its end.
pub(super) fn and(more: &str) -> String {
    format!("{EXAMPLE}{more}")
}

pub(super) fn accepted(text: &str) -> Workflow {
    read(text).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

pub(super) fn problems(text: &str) -> Vec<Problem> {
    read(text).err().map(|problems| problems.problems).unwrap_or_default()
}

/// Asserts that a file has one problem, on the line that holds `on_line`, with
/// these words in its cause and in its remedy.
#[track_caller]
pub(super) fn refused(text: &str, on_line: &str, cause: &str, remedy: &str) {
    let problems = problems(text);
    let [problem] = &problems[..] else { panic!("not one problem: {problems:#?}\n{text}") };
    let line = text.lines().nth(problem.line - 1).unwrap_or_default();
    assert!(line.contains(on_line), "it is on line {}, `{line}`: {problem:#?}", problem.line);
    assert!(problem.cause.contains(cause), "{problem:#?}");
    assert!(problem.remedy.contains(remedy), "{problem:#?}");
}
