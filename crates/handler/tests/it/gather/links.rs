//! The trace of a gathered run: its span is linked to those of all that caused it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span, SpanData, SpanProcessor};
use serde_json::json;
use tracing::instrument::WithSubscriber as _;
use tracing_subscriber::layer::SubscriberExt as _;

use super::{after, label, world};
use crate::world::delivery;

/// Spans that ended.
#[derive(Debug, Clone, Default)]
struct Ended(Arc<Mutex<Vec<SpanData>>>);

impl SpanProcessor for Ended {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn traceparent(number: usize) -> String {
    format!("00-4bf92f3577b34da6a3ce929d0e0e473{number}-00f067aa0ba902b{number}-01")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gathered_run_is_linked_to_each_cause_and_hangs_on_its_own_span() {
    let world = world().await;
    let ended = Ended::default();
    let provider = SdkTracerProvider::builder().with_span_processor(ended.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(layer);
    let dispatch = tracing::Dispatch::new(subscriber);
    for number in 1..=3 {
        let mut event = label("counted", "a", number);
        event.context.traceparent = Some(traceparent(number));
        let event = delivery(&event);
        let handled = world.handler.handle(&event, after(0)).with_subscriber(dispatch.clone());
        handled.await.unwrap();
    }
    let ended = ended.0.lock().unwrap().clone();
    let starts: Vec<_> = ended.iter().filter(|span| span.name == "start counted").collect();
    let [start] = starts[..] else { panic!("one start: {starts:?}") };
    let text = |context: &opentelemetry::trace::SpanContext| {
        format!("00-{}-{}-01", context.trace_id(), context.span_id())
    };
    let mut links: Vec<String> = start.links.iter().map(|link| text(&link.span_context)).collect();
    links.sort();
    assert_eq!(links, [1, 2, 3].map(traceparent), "each cause once");
    let input = world.only_input("counted").await;
    assert_eq!(input["bellwire"]["event"]["traceparent"], json!(text(&start.span_context)));
    // Those that only joined are in the traces of their own causes.
    for number in 1..=3 {
        let of_event = |span: &&SpanData| {
            span.name.starts_with("process")
                && traceparent(number).contains(&span.span_context.trace_id().to_string())
        };
        assert_eq!(ended.iter().filter(of_event).count(), 1, "event {number}");
    }
}
