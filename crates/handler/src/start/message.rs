//! What a message to another team carries beside its body: by what they filter, trace,
//! and tell that they had it before. Pure.

use bellwire_ledger::Start;

/// The message's attributes: at most eight of the ten that SNS delivers.
pub(super) fn attributes_of(start: &Start) -> impl Iterator<Item = (&'static str, String)> {
    let context = &start.context;
    let attributes = [
        ("type", Some(start.cause.event_type.to_string())),
        ("source", Some(start.cause.source.clone())),
        ("stage", Some(start.stage.to_string())),
        ("dataset", start.dataset.clone()),
        ("trigger", Some(start.trigger.clone())),
        ("startkey", Some(start.start_key.to_string())),
        ("traceparent", context.traceparent.clone()),
        ("tracestate", context.tracestate.clone()),
    ];
    // Neither service takes an empty one.
    attributes
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.filter(|v| !v.is_empty())?)))
}

/// The name by which a message's start is known.
pub(super) fn run_arn(start: &Start, message_id: Option<&str>) -> String {
    format!("{}/message/{}", start.target, message_id.unwrap_or(start.start_key.as_str()))
}
