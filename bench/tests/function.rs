//! A function on the local Runtime API, in Python's standard library.

use bellwire_bench::function::{FunctionError, Settings, measure};

/// Answers each invocation after it has asked the stub for a start, as an SDK would.
const FUNCTION: &str = r#"
import http.client, json, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
aws = http.client.HTTPConnection(os.environ["AWS_ENDPOINT_URL"].removeprefix("http://"))
base = "/2018-06-01/runtime/invocation/"
workflow = json.load(open(os.environ["LAMBDA_TASK_ROOT"] + "/workflow.json"))
machine = "arn:aws:states:eu-central-1:1:stateMachine:" + workflow["triggers"][0]["name"]
while True:
    api.request("GET", base + "next")
    answer = api.getresponse()
    request_id = answer.headers["Lambda-Runtime-Aws-Request-Id"]
    event = json.loads(json.loads(answer.read())["Records"][0]["Sns"]["Message"])
    body = json.dumps({"stateMachineArn": machine, "name": event["id"], "input": "{}"})
    aws.request("POST", "/", body, {"x-amz-target": "AWSStepFunctions.StartExecution"})
    arn = json.loads(aws.getresponse().read())["executionArn"]
    assert arn == f"arn:aws:states:eu-central-1:1:execution:train:{event['id']}", arn
    api.request("POST", f"{base}{request_id}/response", b"null")
    api.getresponse().read()
"#;

/// Cannot begin, and says so.
const BROKEN: &str = r#"
import http.client, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
api.request("POST", "/2018-06-01/runtime/init/error", b"no settings")
api.getresponse().read()
"#;

fn settings(name: &str, program: &str) -> (tempfile::TempDir, Settings) {
    let folder = tempfile::Builder::new().prefix(name).tempdir().expect("a folder");
    let settings = Settings {
        program: "python3".into(),
        arguments: vec!["-c".to_owned(), program.to_owned()],
        folder: folder.path().to_owned(),
        warm: 5,
    };
    (folder, settings)
}

#[tokio::test]
async fn what_a_function_takes_is_told_for_each_part_of_its_life() {
    let (_folder, settings) = settings("function", FUNCTION);
    let measure = measure(&settings).await.expect("it works");
    for cpu_us in [measure.init_cpu_us, measure.first_cpu_us, measure.warm_cpu_us] {
        assert!(cpu_us > 0.0, "{measure:?}");
    }
    assert!(measure.init_cpu_us > measure.warm_cpu_us, "{measure:?}");
    assert_eq!(
        measure.calls_per_event.into_iter().collect::<Vec<_>>(),
        [("StartExecution".to_owned(), 1.0)]
    );
    assert!(measure.request_bytes_per_event > 50.0 && measure.peak_bytes > 1_000_000);
}

#[tokio::test]
async fn a_function_that_cannot_begin_is_not_measured() {
    let (_folder, settings) = settings("broken", BROKEN);
    let error = measure(&settings).await.expect_err("it cannot");
    assert!(matches!(error, FunctionError::Failed(message) if message == "no settings"));
}
