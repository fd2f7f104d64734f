//! `[alarms]`, `expected`, and what subscribers and buckets of others say.

use serde_json::json;

use super::{accepted, problems};
use crate::workflow::{AlarmKind, Alarms, LookBack, Protocol, SourceKind};

const BEGIN: &str = "workflow = \"wine\"\n";
const TRIGGER: &str = r#"
[[trigger]]
name = "train"
stage = "training"
on = "data.arrived"
start = { step-functions = "train.asl.json" }
"#;

fn source(keys: &str) -> String {
    format!(
        "{BEGIN}[[source]]\nname = \"raw\"\nkind = \"s3\"\nbucket = \"lake\"\n{keys}\n{TRIGGER}"
    )
}

fn subscriber(keys: &str) -> String {
    format!("{BEGIN}[[subscriber]]\nname = \"labels\"\n{keys}\n")
}

/// The only problem's cause and remedy.
fn problem(text: &str) -> String {
    let problems = problems(text);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    format!("{}; {}", problems[0].cause, problems[0].remedy)
}

#[test]
fn alarms_are_on_unless_they_are_switched_off() {
    assert_eq!(accepted(BEGIN).alarms, Alarms::default());
    assert!(AlarmKind::ALL.iter().all(|kind| Alarms::default().has(*kind)));
    let text = format!(
        "{BEGIN}[alarms]\nemail = \"a@example.com\"\nqueue_age = \"1h\"\nskip = [\"runs\"]\ndashboard = false\n"
    );
    let alarms = accepted(&text).alarms;
    assert_eq!(alarms.email.as_deref(), Some("a@example.com"));
    assert_eq!((alarms.queue_age_s, alarms.dashboard), (3_600, false));
    assert!(!alarms.has(AlarmKind::Runs) && alarms.has(AlarmKind::DeadQueue));
    let off = accepted(&format!("{BEGIN}[alarms]\nenabled = false\n")).alarms;
    assert!(AlarmKind::ALL.iter().all(|kind| !off.has(*kind)));
}

#[test]
fn alarms_tell_one_standard_topic_or_one_address() {
    let topic = "arn:aws:sns:eu-west-1:123456789012:on-call";
    for (keys, expected) in [
        (format!("email = \"a@b.example\"\ntopic = \"{topic}\""), "keep one of the two"),
        (format!("topic = \"{topic}.fifo\""), "standard topics only"),
        ("topic = \"on-call\"".to_owned(), "it takes an ARN"),
        ("skip = [\"run\"]".to_owned(), "runs"),
        ("queue_age = \"10s\"".to_owned(), "from 1m to 14d"),
    ] {
        let found = problem(&format!("{BEGIN}[alarms]\n{keys}\n"));
        assert!(found.contains(expected), "{keys}: {found}");
    }
}

#[test]
fn expected_is_what_cloudwatch_looks_back_on() {
    for (text, period_s, periods) in [
        ("5m", 300, 1),
        ("7m", 60, 7),
        ("24h", 300, 288),
        ("1439m", 60, 1_439),
        ("25h", 3_600, 25),
        ("7d", 3_600, 168),
    ] {
        let workflow = accepted(&source(&format!("expected = \"{text}\"")));
        let back = LookBack::over(workflow.sources[0].expected_s.expect("it is expected"));
        assert_eq!(back, Some(LookBack { period_s, periods }), "{text}");
        let total_s = period_s * periods;
        let most_s = if period_s < 3_600 { 86_400 } else { 604_800 };
        assert!(total_s <= most_s, "{text}: {total_s}");
    }
    for (text, expected) in [("4m", "5m or more"), ("301s", "`6m`"), ("8d", "7d at most")] {
        let found = problem(&source(&format!("expected = \"{text}\"")));
        assert!(found.contains(expected), "{text}: {found}");
    }
    let found = problem(&source("expected = \"90060s\""));
    assert!(found.contains("whole hours there: `26h`"), "{found}");
}

#[test]
fn what_no_trigger_starts_on_is_not_expected() {
    let text = source("expected = \"24h\"\nemits = \"data.removed\"");
    let found = problems(&text);
    assert!(
        found.iter().any(|one| one.cause.contains("no trigger starts on data.removed")),
        "{found:#?}"
    );
}

#[test]
fn a_subscriber_has_an_endpoint_or_a_queue_of_its_own() {
    let made = accepted(&subscriber("protocol = \"sqs\"\ncreate = true\nraw = true"));
    let made = &made.subscribers[0];
    assert_eq!((made.protocol, made.create, made.raw), (Protocol::Sqs, true, true));
    let queue = "endpoint = \"arn:aws:sqs:eu-west-1:123456789012:labels\"";
    for (keys, expected) in [
        ("protocol = \"sqs\"".to_owned(), "`endpoint` is missing"),
        (format!("protocol = \"sqs\"\ncreate = true\n{queue}"), "drop `endpoint`, or `create`"),
        (
            "protocol = \"email\"\nendpoint = \"a@b.example\"\nraw = true".to_owned(),
            "for https and sqs",
        ),
        ("protocol = \"email\"\nendpoint = \"a@b.example\"\ncreate = true".to_owned(), "for sqs"),
        (
            format!("protocol = \"sqs\"\n{queue}\nwhere = {{ type = [\"x\"] }}"),
            "name the types in `on`",
        ),
    ] {
        let found = problem(&subscriber(&keys));
        assert!(found.contains(expected), "{keys}: {found}");
    }
    let filtered = accepted(&subscriber(&format!(
        "protocol = \"sqs\"\n{queue}\nwhere = {{ dataset = [\"wine\"] }}"
    )));
    assert_eq!(filtered.subscribers[0].condition, Some(json!({"dataset": ["wine"]})));
}

#[test]
fn a_bucket_of_another_account_is_told_of_and_not_made() {
    let key = "arn:aws:kms:eu-west-1:210987654321:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let text = source(&format!("account = \"210987654321\"\nkms_key = \"{key}\""));
    let SourceKind::S3(s3) = &accepted(&text).sources[0].kind else { panic!("no bucket") };
    assert_eq!((s3.account.as_deref(), s3.kms_key.as_deref()), (Some("210987654321"), Some(key)));
    let account = "account = \"210987654321\"";
    for (keys, expected) in [
        (format!("{account}\ncreate = true"), "in its own account only"),
        (format!("{account}\nvia = \"topic\""), "the ingest queue only"),
        ("kms_key = \"alias/x\"".to_owned(), "is no ARN"),
    ] {
        let found = problems(&source(&keys));
        assert!(
            found.iter().any(|one| format!("{} {}", one.cause, one.remedy).contains(expected)),
            "{keys}: {found:#?}"
        );
    }
    let two = format!(
        "{}\n[[source]]\nname = \"other\"\nkind = \"s3\"\nbucket = \"lake\"\nprefix = \"b/\"\n",
        source(&format!("prefix = \"a/\"\n{account}"))
    );
    assert!(problem(&two).contains("is another than in source"), "{}", problem(&two));
}

#[test]
fn a_problem_found_later_has_its_line() {
    let workflow = accepted(&source(""));
    assert_eq!(workflow.lines.line_of("trigger", "train"), Some(12));
    assert_eq!(workflow.lines.line_of("source", "raw"), Some(5));
    assert_eq!(workflow.lines.place("trigger", "train"), "line 12, trigger \"train\"");
    assert_eq!(workflow.lines.place("trigger", "other"), "trigger \"other\"");
}
