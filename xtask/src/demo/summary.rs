//! What the demo tells at its end. Pure: facts in, text out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bellwire_otlp_receiver::Span;

use super::runs::Run;
use crate::steps::shown_duration;

/// Attributes of spans, by OpenTelemetry's semantic conventions.
const OPERATION_TYPE: &str = "messaging.operation.type";
const EVENT_TYPE: &str = "cloudevents.event_type";
const EVENT_ID: &str = "cloudevents.event_id";

/// How many events of a type went the way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventCount {
    /// Made for the topic, each counted once however often it was sent.
    pub(crate) published: usize,
    /// Taken up by the handler, each delivery counted.
    pub(crate) delivered: usize,
}

/// Counts events by type, from the spans that publisher and handler make of them.
pub(crate) fn count_events(spans: &[Span]) -> BTreeMap<String, EventCount> {
    let mut counts: BTreeMap<String, EventCount> = BTreeMap::new();
    let (mut made, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for span in spans {
        let attribute = |name: &str| span.attributes.get(name).map(String::as_str);
        let (Some(operation), Some(event_type)) =
            (attribute(OPERATION_TYPE), attribute(EVENT_TYPE))
        else {
            continue;
        };
        let count = counts.entry(event_type.to_owned()).or_default();
        match operation {
            "create" if made.insert((event_type, attribute(EVENT_ID))) => count.published += 1,
            // An exporter that got no answer sends the same span again.
            "process" if seen.insert(&span.span_id) => count.delivered += 1,
            _ => {}
        }
    }
    counts
}

/// The events' lines: all in all, then by type.
pub(crate) fn events(
    counts: Option<&BTreeMap<String, EventCount>>,
    duplicates: usize,
    dead: u64,
) -> String {
    let rest = format!("{duplicates} duplicates, {dead} dead");
    let Some(counts) = counts else { return format!("  events       {rest}\n") };
    let total = |of: fn(&EventCount) -> usize| counts.values().map(of).sum::<usize>();
    let published = total(|count| count.published);
    let delivered = total(|count| count.delivered);
    let mut text = format!("  events       {published} published, {delivered} delivered, {rest}\n");
    for (event_type, count) in counts {
        let EventCount { published, delivered } = count;
        let event_type = event_type.strip_prefix("ml.").unwrap_or(event_type);
        let event_type = event_type.strip_suffix(".v1").unwrap_or(event_type);
        let note = if *delivered == 0 { "   the filter keeps it from the handler" } else { "" };
        line(
            &mut text,
            &format!("{event_type:<22} {published} published   {delivered} delivered{note}"),
        );
    }
    text
}

/// The runs' lines.
pub(crate) fn runs(runs: &[Run]) -> String {
    let mut text = String::new();
    for (place, run) in runs.iter().enumerate() {
        let took = run.duration_s.map_or_else(String::new, |seconds| {
            shown_duration(std::time::Duration::from_secs_f64(seconds))
        });
        let arn = run.run_arn.as_deref().unwrap_or("no ARN");
        let head = if place == 0 { "runs" } else { "" };
        writeln!(text, "  {head:<12} {took:>7}   {arn}").expect("a String takes every write");
    }
    text
}

fn line(text: &mut String, rest: &str) {
    writeln!(text, "               {rest}").expect("a String takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, operation: &str, event_type: &str, event_id: &str) -> Span {
        let attributes =
            [(OPERATION_TYPE, operation), (EVENT_TYPE, event_type), (EVENT_ID, event_id)];
        Span {
            trace_id: "t".to_owned(),
            span_id: id.to_owned(),
            parent_id: None,
            kind: "internal",
            links: Vec::new(),
            name: operation.to_owned(),
            service: "s".to_owned(),
            started_ns: 0,
            ended_ns: 0,
            has_failed: false,
            attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        }
    }

    #[test]
    fn an_event_is_published_once_and_delivered_as_often_as_it_came() {
        let spans = [
            span("1", "create", "ml.data.arrived.v1", "e"),
            span("2", "create", "ml.data.arrived.v1", "e"),
            span("3", "process", "ml.data.arrived.v1", "e"),
            span("4", "process", "ml.data.arrived.v1", "e"),
            span("4", "process", "ml.data.arrived.v1", "e"),
            span("5", "create", "ml.training.started.v1", "f"),
            span("6", "send", "ml.training.started.v1", "f"),
        ];
        let counts = count_events(&spans);
        insta::assert_snapshot!(events(Some(&counts), 1, 0), @r"
        events       2 published, 2 delivered, 1 duplicates, 0 dead
                     data.arrived           1 published   2 delivered
                     training.started       1 published   0 delivered   the filter keeps it from the handler
        ");
        assert_eq!(events(None, 1, 2), "  events       1 duplicates, 2 dead\n");
    }
}
