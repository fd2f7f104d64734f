//! What EventBridge tells: ends of runs, of every service and origin, and schedules.

use bellwire_schema::completion::{CompletionOrigin, OUTPUT_BYTES_MAX};
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::{EventContext, Stage};
use fastrand::Rng;
use serde_json::{Value, json};

use super::{Event, Forms, Payload, QueueMessage, Wanted};
use crate::plan::pick;
use crate::samples::{
    ACCOUNT, TRAIN, batch_job, pipeline_event, processing_job, run_input, scheduled_event,
    status_event, training_job, transform_job,
};

/// What the name of a run says of which the ledger knows why it was started.
const KNOWN: &str = "known";

/// A state machine that a source watches, and one that nobody knows.
const LABELS: &str = "arn:aws:states:eu-west-1:123456789012:stateMachine:somebody-labels";
const STRANGER: &str = "arn:aws:states:eu-west-1:123456789012:stateMachine:stranger";

/// A run of some service: what EventBridge tells when it ends.
struct End {
    event: Value,
    arn: String,
    has_failed: bool,
    group: Option<&'static str>,
}

/// What the ledger says of a run.
pub(crate) fn origin_of(run_arn: &str) -> Option<CompletionOrigin> {
    let context =
        EventContext { correlationid: Some(format!("of {run_arn}")), ..EventContext::default() };
    run_arn.contains(KNOWN).then(|| CompletionOrigin {
        stage: Stage::Training,
        trigger: Some("train".to_owned()),
        dataset: Some("wine".to_owned()),
        context,
    })
}

/// All that is told of one run that ends: once, again, and after a redrive.
pub(super) fn ends(number: u64, forms: Forms, random: &mut Rng) -> Vec<QueueMessage> {
    if forms.large && random.bool() {
        return repeated(large_output(number, forms), random);
    }
    let end = match random.u8(0..8) {
        0 | 1 => trigger_run(number, random),
        2 => execution(LABELS, number, "SUCCEEDED", Some("labels")),
        3 => {
            // Its redrive ends too: another event of the same run.
            let mut told =
                repeated(message(&execution(LABELS, number, "FAILED", Some("labels"))), random);
            let mut redriven = execution(LABELS, number, "SUCCEEDED", Some("labels"));
            redriven.event["detail"]["redriveCount"] = json!(1);
            told.extend(repeated(message(&redriven), random));
            return told;
        }
        4 | 5 => sagemaker(number, random),
        6 => pipeline(number),
        _ => batch(number, random),
    };
    repeated(message(&end), random)
}

/// Something of a run that is no end that a source wants, or that nobody can read.
pub(super) fn no_end(number: u64, random: &mut Rng) -> QueueMessage {
    match random.u8(0..4) {
        0 => QueueMessage::of(status_event("RUNNING", TRAIN, None), vec![Wanted::Skipped]),
        1 => QueueMessage::of(batch_job("gpu-queue", "FAILED", ":0"), vec![Wanted::Skipped]),
        2 => {
            let body = execution(STRANGER, number, "SUCCEEDED", None).event.to_string();
            QueueMessage::of(body, vec![Wanted::Skipped])
        }
        _ => {
            let mut event = execution(LABELS, number, "FAILED", None).event;
            event["detail"]["executionArn"] = json!(number);
            let records = vec![Wanted::Buried(DeadReason::MalformedRecord)];
            QueueMessage::of(event.to_string(), records)
        }
    }
}

/// A schedule's time: few of them, so that several messages tell of one.
pub(super) fn tick(random: &mut Rng) -> Vec<QueueMessage> {
    let mut event = parsed(&scheduled_event("wine-nightly"));
    let time = format!("2026-11-22T03:{:02}:00Z", random.u8(0..60));
    let name = format!("arn:aws:events:eu-west-1:{ACCOUNT}:rule/wine-nightly {time}");
    event["time"] = json!(time);
    let wanted = Wanted::Published(Event::within(name, Some("wine")));
    repeated(QueueMessage::of(event.to_string(), vec![wanted]), random)
}

/// EventBridge delivers at least once: now and then it tells a thing again, as another
/// event of its own.
fn repeated(message: QueueMessage, random: &mut Rng) -> Vec<QueueMessage> {
    let mut event = parsed(&message.body);
    let is_again = random.u8(0..4) == 0;
    event["id"] = json!(format!("{:x}", random.u64(..)));
    let again = is_again.then(|| QueueMessage {
        body: event.to_string(),
        is_repeated: true,
        ..message.clone()
    });
    [message].into_iter().chain(again).collect()
}

fn message(end: &End) -> QueueMessage {
    let verb = if end.has_failed { "failed" } else { "completed" };
    let event = Event::within(format!("{} {verb}", end.arn), end.group);
    QueueMessage::of(end.event.to_string(), vec![Wanted::Published(event)])
}

/// A run of a trigger's state machine. What its input says counts where the ledger does
/// not know it; without either, only the state machine is known.
fn trigger_run(number: u64, random: &mut Rng) -> End {
    let (is_known, has_input) = (random.bool(), random.bool());
    let status = *pick(random, &["SUCCEEDED", "FAILED", "TIMED_OUT"]);
    let name = if is_known { format!("{KNOWN}-{number}") } else { format!("by-hand-{number}") };
    let input = has_input.then(|| run_input("train"));
    let mut event = parsed(&status_event(status, TRAIN, input));
    let arn = run_of(TRAIN, &name);
    event["detail"]["executionArn"] = json!(arn);
    let group = match (is_known, has_input) {
        (true, _) => None,
        (false, true) => Some("hinted"),
        (false, false) => Some(TRAIN),
    };
    End { event, arn, has_failed: status != "SUCCEEDED", group }
}

fn execution(machine: &str, number: u64, status: &str, group: Option<&'static str>) -> End {
    let mut event = parsed(&status_event(status, machine, None));
    let arn = run_of(machine, &format!("run-{number}"));
    event["detail"]["executionArn"] = json!(arn);
    End { event, arn, has_failed: status != "SUCCEEDED", group }
}

/// The end of a run whose output is as large as an event's may be, of a character that
/// takes twice as much room in the event: that is over SNS's limit.
fn large_output(number: u64, forms: Forms) -> QueueMessage {
    let End { mut event, arn, group, .. } = execution(LABELS, number, "SUCCEEDED", Some("labels"));
    let frame = json!({ "text": "" }).to_string().len();
    let character = '\u{FFFF}';
    let count = (OUTPUT_BYTES_MAX - frame) / character.len_utf8();
    let output = json!({ "text": character.to_string().repeat(count) }).to_string();
    event["detail"]["output"] = json!(output);
    let wanted = match forms.has_claims {
        true => Wanted::Published(Event {
            payload: Payload::ClaimedOutput(output),
            ..Event::within(format!("{arn} completed"), group)
        }),
        false => Wanted::Buried(DeadReason::TooLarge),
    };
    QueueMessage::of(event.to_string(), vec![wanted])
}

fn sagemaker(number: u64, random: &mut Rng) -> End {
    let status = *pick(random, &["Completed", "Failed", "Stopped"]);
    let (kind, event): (_, String) = match (random.u8(0..3), format!("Abalone-{number}")) {
        (0, name) => ("Training", training_job(&name, status)),
        (1, name) => ("Processing", processing_job(&name, status)),
        (_, name) => ("Transform", transform_job(&name, status)),
    };
    let event = parsed(&event);
    let arn = event["detail"][format!("{kind}JobArn")].as_str().unwrap_or_default().to_owned();
    End { event, arn, has_failed: status != "Completed", group: Some("shells") }
}

fn pipeline(number: u64) -> End {
    let mut event = parsed(&pipeline_event("abalone", "Succeeded"));
    let arn =
        format!("arn:aws:sagemaker:eu-west-1:{ACCOUNT}:pipeline/abalone/execution/run-{number}");
    event["detail"]["pipelineExecutionArn"] = json!(arn);
    End { event, arn, has_failed: false, group: Some("shells") }
}

fn batch(number: u64, random: &mut Rng) -> End {
    let status = *pick(random, &["SUCCEEDED", "FAILED"]);
    let mut event = parsed(&batch_job("gpu-queue", status, ""));
    let arn = format!("arn:aws:batch:eu-west-1:{ACCOUNT}:job/job-{number}");
    event["detail"]["jobArn"] = json!(arn);
    End { event, arn, has_failed: status == "FAILED", group: Some("wine") }
}

fn run_of(machine: &str, name: &str) -> String {
    format!("{}:{name}", machine.replace("stateMachine", "execution"))
}

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).expect("JSON of ours")
}
