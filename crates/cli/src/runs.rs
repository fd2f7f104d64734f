//! `bellwire runs`: what was started, why, and what became of it.

use bellwire_infra::{check_place, place_of};
use bellwire_ledger::{Ledger, StartRow, State};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::args::{Global, RunsOptions};
use crate::error::CommandError;
use crate::load;

pub(crate) async fn runs(global: &Global, options: &RunsOptions) -> Result<(), CommandError> {
    let workflow = load::workflow(global)?;
    let config = load::aws().await;
    check_place(&workflow, &place_of(&config).await?)?;
    let table = load::deployment(global, &workflow).ledger_table();
    let client = aws_sdk_dynamodb::Client::new(&config);
    let ledger = Ledger::new(client, &table, workflow.ledger.retention_days);
    let rows = rows_since(&ledger, options).await?;
    if global.json {
        let rows: Vec<Value> = rows.iter().map(as_json).collect();
        anstream::println!("{:#}", json!(rows));
    } else {
        anstream::println!("{}", as_text(&rows, options.hours));
    }
    Ok(())
}

async fn rows_since(ledger: &Ledger, options: &RunsOptions) -> Result<Vec<StartRow>, CommandError> {
    let now = Timestamp::now();
    let since = now - SignedDuration::from_hours(options.hours.into());
    let day = SignedDuration::from_hours(24);
    let days = i64::from(options.hours.div_ceil(24));
    let mut rows = Vec::new();
    // One day more than the hours make: they begin within a day.
    for back in (0..=days).rev() {
        let instant = now - day * i32::try_from(back).unwrap_or(i32::MAX);
        rows.extend(ledger.starts_of_day(instant).await?);
    }
    let is_wanted = |row: &StartRow| {
        row.claimed_at >= since
            && options.trigger.as_ref().is_none_or(|trigger| row.start.trigger == *trigger)
    };
    rows.retain(is_wanted);
    Ok(rows)
}

fn as_json(row: &StartRow) -> Value {
    let end = row.end.clone().unwrap_or_default();
    json!({
        "start_key": row.start.start_key,
        "trigger": row.start.trigger,
        "stage": row.start.stage,
        "dataset": row.start.dataset,
        "state": row.state,
        "event_type": row.start.cause.event_type,
        "event_id": row.start.cause.id,
        "event_source": row.start.cause.source,
        "event_subject": row.start.cause.subject,
        "event_time": row.start.cause.time,
        "claimed_at": row.claimed_at,
        "started_at": row.started_at,
        "stopped_at": end.stopped_at,
        "duration_s": end.duration_s,
        "status": row.end.as_ref().map(|end| &end.status),
        "run_arn": row.start.run_arn,
        "trace_id": trace_id(row),
        "correlationid": row.start.context.correlationid,
        "metrics": end.metrics,
        "artifacts": end.artifacts,
        "error": end.error,
        "cause": end.cause,
        "held": row.held,
    })
}

/// The second of the four parts of a W3C `traceparent`.
fn trace_id(row: &StartRow) -> Option<&str> {
    row.start.context.traceparent.as_deref()?.split('-').nth(1)
}

fn as_text(rows: &[StartRow], hours: u32) -> String {
    if rows.is_empty() {
        return format!("Nothing was started in the last {hours} hours.");
    }
    let trigger_width = rows.iter().map(|row| row.start.trigger.len()).max().unwrap_or(0).max(7);
    let heading = format!(
        "{:<20}  {:<trigger_width$}  {:<9}  {:>9}  {:<32}  run",
        "claimed", "trigger", "state", "duration", "trace"
    );
    let lines = rows.iter().map(|row| {
        let duration = row.end.as_ref().and_then(|end| end.duration_s);
        let duration = duration.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1} s"));
        let mark = match row.state {
            State::Failed | State::Refused | State::Dropped => " ✗",
            _ => "",
        };
        let text = format!(
            "{:<20}  {:<trigger_width$}  {:<9}  {duration:>9}  {:<32}  {}{mark}",
            format!("{:.0}", row.claimed_at),
            row.start.trigger,
            row.state.as_str(),
            trace_id(row).unwrap_or("-"),
            row.start.run_arn.as_deref().unwrap_or("-"),
        );
        text.trim_end().to_owned()
    });
    [heading].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}
