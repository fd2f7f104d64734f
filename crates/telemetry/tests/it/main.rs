//! The crate as a service uses it: a process of its own, configured by its
//! environment alone, against a receiver of OTLP in this process.

mod probe;
mod receiver;

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use probe::Probe;
use receiver::Receiver;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traceparent() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_arrive_in_the_trace_of_their_cause() {
    let receiver = Receiver::start().await;
    let probe = Probe::run(
        "json",
        Some(&traceparent()),
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint)],
    );

    let spans = receiver.spans();
    let [publish, process] = ["publish", "process"].map(|name| {
        let named: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
        assert_eq!(named.len(), 1, "{name} arrives once");
        named[0]
    });
    assert_eq!(receiver::hex(&process.trace_id), TRACE);
    assert_eq!(receiver::hex(&process.parent_span_id), PARENT);
    assert_eq!(process.kind, SpanKind::Consumer as i32);
    assert_eq!(receiver::hex(&publish.trace_id), TRACE);
    assert_eq!(publish.parent_span_id, process.span_id);
    assert_eq!(receiver::hex(&publish.links[0].span_id), "2222222222222222");
    assert_eq!(publish.status.as_ref().unwrap().message, "refused");
    assert_eq!(receiver::text(&publish.attributes, "service.name").as_deref(), Some("probe"));

    assert!(probe.report["telemetry_threads"].as_u64().unwrap() > 0);
    let sent = format!("00-{TRACE}-{}-01", receiver::hex(&publish.span_id));
    assert_eq!(probe.report["traceparent"], sent.as_str());
    assert!(probe.report["tracestate"].is_null(), "never empty: {}", probe.report);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_standard_variables_are_heeded() {
    let receiver = Receiver::start().await;
    let traces = format!("{}/v1/traces", receiver.endpoint);
    Probe::run(
        "json",
        None,
        &[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &traces),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=se%20cret"),
            ("OTEL_SERVICE_NAME", "renamed"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod"),
            ("AWS_LAMBDA_FUNCTION_NAME", "wine-handler"),
            // The filter of the logs has no say in traces.
            ("RUST_LOG", "off"),
        ],
    );
    assert_eq!(receiver.spans().len(), 2);
    assert_eq!(receiver.header("x-api-key").as_deref(), Some("se cret"));
    let resource = receiver.resource();
    for (key, value) in [
        ("service.name", "renamed"),
        ("deployment.environment.name", "prod"),
        ("faas.name", "wine-handler"),
    ] {
        assert_eq!(receiver::text(&resource, key).as_deref(), Some(value), "{key}");
    }

    let sampled_out = Receiver::start().await;
    let probe = Probe::run(
        "json",
        None,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &sampled_out.endpoint),
            ("OTEL_TRACES_SAMPLER", "always_off"),
        ],
    );
    assert!(sampled_out.spans().is_empty());
    assert!(probe.report["traceparent"].as_str().unwrap().ends_with("-00"), "{}", probe.report);
}

#[test]
fn a_backend_that_is_down_is_said_once_and_holds_nothing_up() {
    // Bound and dropped: nothing listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // Accepts (by the backlog), and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [closed, silent.local_addr().unwrap()] {
        let endpoint = format!("http://user:secret@{address}");
        let probe = Probe::run("json", None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
        let flush = Duration::from_millis(probe.report["flush_ms"].as_u64().unwrap());
        let shutdown = Duration::from_millis(probe.report["shutdown_ms"].as_u64().unwrap());
        // Half of the exporter's own timeout of 10 s, which an unbounded wait takes:
        // far above the bounds, and what a busy machine needs.
        assert!(flush < Duration::from_secs(5), "flush took {flush:?}");
        assert!(shutdown < Duration::from_secs(5), "shutdown took {shutdown:?}");
        let said = |begin: &str| {
            let is_said = |line: &&serde_json::Value| {
                line["message"].as_str().is_some_and(|message| message.starts_with(begin))
            };
            probe.log.iter().filter(is_said).collect::<Vec<_>>()
        };
        let traces = said("traces are not exported");
        assert_eq!(traces.len(), 1, "{:?}", probe.log);
        assert_eq!(traces[0]["endpoint"], format!("http://{address}"));
        // There is one to send where lost spans were counted.
        assert!(said("metrics are not exported").len() <= 1, "{:?}", probe.log);
        assert!(!probe.stderr.contains("secret"), "{}", probe.stderr);
    }
}

#[test]
fn without_an_endpoint_nothing_runs_and_context_passes_through() {
    let off: [&[(&str, &str)]; 3] = [
        &[],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_SDK_DISABLED", "true")],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_METRICS_EXPORTER", "none"),
        ],
    ];
    for variables in off {
        let probe = Probe::run("json", Some(&traceparent()), variables);
        assert_eq!(probe.report["exports"], false);
        assert_eq!(probe.report["traceparent"], traceparent());
        assert_eq!(probe.report["flush_ms"], 0);
        assert_eq!(probe.report["telemetry_threads"], 0);
    }
    let orphan = Probe::run("json", None, &[]);
    assert!(orphan.report["traceparent"].is_null(), "{}", orphan.report);
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_nobody_exports_are_not_made_where_none_are_wanted() {
    let no_spans = (probe::NO_SPANS, "1");
    for (filter, has_spans) in [(None, false), (Some(("RUST_LOG", "info,[process]=debug")), true)] {
        let variables: Vec<_> = [no_spans].into_iter().chain(filter).collect();
        let probe = Probe::run("json", Some(&traceparent()), &variables);
        assert_eq!(probe.report["has_spans"], has_spans, "{filter:?}: a filter may name spans");
        assert!(probe.report["traceparent"].is_null(), "{}", probe.report);
        assert!(
            probe.log.iter().any(|line| line["message"] == "event handled"),
            "{}",
            probe.stderr
        );
    }
    let receiver = Receiver::start().await;
    let exporter = ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint.as_str());
    let probe = Probe::run("json", Some(&traceparent()), &[no_spans, exporter]);
    assert_eq!(probe.report["has_spans"], true);
    assert_eq!(receiver.spans().len(), 2);
}

#[test]
fn settings_that_cannot_be_used_are_said_and_fail_nothing() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    for (variables, problem) in [
        ([endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "http/protobuf"),
        (
            [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@no host"), ("RUST_LOG", "info")],
            "endpoint",
        ),
        ([("OTEL_SDK_DISABLED", "true"), ("RUST_LOG", "in=fo=")], "level filter"),
    ] {
        let probe = Probe::run("json", Some(&traceparent()), &variables);
        assert_eq!(probe.report["exports"], false);
        assert_eq!(probe.report["traceparent"], traceparent());
        let said = probe
            .log
            .iter()
            .any(|line| line["error"].as_str().is_some_and(|error| error.contains(problem)));
        assert!(said, "{}", probe.stderr);
        assert!(!probe.stderr.contains("secret"), "{}", probe.stderr);
    }
}

#[test]
fn log_lines_carry_the_trace() {
    let machine = Probe::run("json", Some(&traceparent()), &[]);
    assert_eq!(machine.log.len(), 1, "{}", machine.stderr);
    assert_eq!(machine.log[0]["message"], "event handled");
    assert_eq!(machine.log[0]["type"], "ml.data.arrived.v1");
    assert_eq!(machine.log[0]["trace_id"], TRACE);
    assert_eq!(machine.log[0]["span_id"], PARENT);

    let person = Probe::run("human", Some(&traceparent()), &[]);
    let expected = format!("  INFO  event handled  type=ml.data.arrived.v1 trace={TRACE}\n");
    assert!(person.stderr.ends_with(&expected), "{:?}", person.stderr);

    // Standard error is a pipe here.
    let auto = Probe::run("auto", None, &[]);
    assert_eq!(auto.log.len(), 1, "{}", auto.stderr);
}
