//! Each of the handler's metrics, moved once. Others of this process move them too, so
//! that what is asked is whether one has grown by what was done here.

use bellwire_handler::Call;
use bellwire_schema::Envelope;
use bellwire_telemetry::metrics::{install_scraped, scraped};
use jiff::Timestamp;
use serde_json::json;

use crate::gather::{after, label};
use crate::world::{World, delivery, requested, sns};
use crate::{gather, guards, moment_at};

/// The sum of all samples of a name that have this label.
fn value(name: &str, label: &str) -> f64 {
    let text = scraped().unwrap();
    let is_of = |line: &&str| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        rest.starts_with(['{', ' ']) && line.contains(label)
    };
    let samples = text.lines().filter(is_of).filter_map(|line| line.rsplit(' ').next());
    samples.map(|sample| sample.parse::<f64>().unwrap()).sum()
}

fn assert_moved(moved: &[(&str, &str)], before: &[f64]) {
    for ((name, label), before) in moved.iter().zip(before) {
        let now = value(name, label);
        assert!(now > *before, "{name} {label}: {before} became {now}");
    }
}

fn values(moved: &[(&str, &str)]) -> Vec<f64> {
    moved.iter().map(|(name, label)| value(name, label)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_starts_is_counted() {
    install_scraped();
    let world = World::new().await;
    let moved = [
        ("bellwire_event_received_total", r#"event_type="ml.collection.requested.v1""#),
        ("bellwire_event_published_total", r#"event_type="ml.collection.started.v1""#),
        ("bellwire_event_skipped_total", r#"reason="no-trigger""#),
        ("bellwire_event_quarantined_total", r#"reason="undecodable""#),
        ("bellwire_event_duplicates_total", r#"trigger="collect""#),
        ("bellwire_start_total", r#"outcome="started",bellwire_trigger="collect""#),
        ("bellwire_start_total", r#"outcome="duplicate",bellwire_trigger="collect""#),
        ("bellwire_start_lag_seconds_count", r#"trigger="collect""#),
        ("faas_coldstarts_total", ""),
        ("rpc_client_call_duration_seconds_count", r#"rpc_method="SFN/StartExecution""#),
    ];
    let before = values(&moved);
    let mut event = requested("e-1");
    event.time = Some(Timestamp::now());
    let call = Call { is_cold: true, ..Call::default() };
    world.handler.handle_call(&delivery(&event), moment_at(0), &call).await.unwrap();
    world.handler.handle(&delivery(&event), moment_at(0)).await.unwrap();
    let unwanted = Envelope::new("e-2", "/app", "ml.data.sighted.v1".parse().unwrap());
    world.handler.handle(&delivery(&unwanted), moment_at(0)).await.unwrap();
    world.handler.handle(&sns("not JSON"), moment_at(0)).await.unwrap();
    assert_moved(&moved, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_start_from_a_run_is_counted() {
    install_scraped();
    let of = |outcome: &str, trigger: &str| {
        format!(r#"outcome="{outcome}",bellwire_trigger="{trigger}""#)
    };
    let labels = [
        of("held", "label"),
        of("dropped", "label"),
        of("refused", "train"),
        of("failed", "collect"),
    ];
    let moved = labels.each_ref().map(|label| ("bellwire_start_total", label.as_str()));
    let before = values(&moved);
    for guards in ["max_starts_per_day = 1", "max_starts_per_day = 1, when_held = \"drop\""] {
        let (world, noon) = guards::world(guards).await;
        for id in ["e-1", "e-2"] {
            world.approve(id, noon).await;
        }
    }
    let world = World::new().await;
    let event = Envelope::new("e-1", "/app", "training.requested".parse().unwrap());
    let event = event.with_payload(&json!({ "parameters": {} }));
    world.handler.handle(&delivery(&event), moment_at(0)).await.unwrap();
    world.calls.fail(Some("UpdateItem"));
    world.handler.handle(&delivery(&requested("e-2")), moment_at(0)).await.unwrap_err();
    assert_moved(&moved, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_are_counted_open_and_closed() {
    install_scraped();
    let world = gather::world().await;
    let complete = r#"ended_by="complete",bellwire_trigger="counted""#;
    let timed_out = r#"ended_by="deadline",bellwire_trigger="timed""#;
    let closed = "bellwire_gather_windows_closed_total";
    let moved = [(closed, complete), (closed, timed_out)];
    let before = values(&moved);
    for number in 0..3 {
        let event = label("counted", "metered", number);
        world.handler.handle(&delivery(&event), after(0)).await.unwrap();
    }
    world.handler.handle(&delivery(&label("timed", "metered", 0)), after(0)).await.unwrap();
    let sweep = json!({ "bellwire": "sweep" });
    world.handler.handle(&sweep, after(1)).await.unwrap();
    assert!(value("bellwire_gather_windows_open", "") > 0.0);
    world.calls.fail(Some(r#""COUNT""#));
    world.handler.handle(&sweep, after(3_600)).await.unwrap();
    assert_moved(&moved, &before);
}
