//! Log lines: for people on a terminal, JSON for everyone else. Both on standard
//! error, so that a command's output stays its own.

use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::Filter;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use crate::lines::Lines;
use crate::propagation::with_causes;

/// What is logged where `RUST_LOG` says nothing: ours, and the warnings of the
/// AWS SDK's configuration, which is talkative.
const FILTER_DEFAULT: &str = "info,aws_config=warn,aws_credential_types=warn";

const MESSAGE: &str = "message";

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// [`Self::Human`] where standard error is a terminal, else [`Self::Json`].
    #[default]
    Auto,
    /// One aligned line an event: time (UTC), level, message, fields, trace.
    Human,
    /// One JSON object a line, with `trace_id` and `span_id` where there is a trace.
    Json,
}

/// What is logged.
pub(crate) type LogFilter<S> = Box<dyn Filter<S> + Send + Sync>;

/// The filter that `RUST_LOG` asks for, and what is wrong with it.
pub(crate) fn filter_from_env<S>() -> (LogFilter<S>, Option<String>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let problem = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Err(_) => None,
        Ok(directives) => match EnvFilter::try_new(&directives) {
            // It may name spans.
            Ok(filter) => return (Box::new(filter), None),
            Err(error) => Some(error.to_string()),
        },
    };
    // Lines tell nothing of spans but their ids, which are OpenTelemetry's: a span
    // that nobody else wants need not be made.
    // With a hint, since without one every level would count as wanted.
    let events = filter_fn(is_event).with_max_level_hint(LevelFilter::TRACE);
    (Box::new(EnvFilter::new(FILTER_DEFAULT).and(events)), problem)
}

fn is_event(metadata: &Metadata<'_>) -> bool {
    metadata.is_event()
}

pub(crate) fn layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let is_terminal = std::io::stderr().is_terminal();
    let is_human = match format {
        LogFormat::Auto => is_terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let has_colour =
        is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = tracing_subscriber::fmt::layer().with_writer(Lines);
    if is_human {
        layer.with_ansi(has_colour).event_format(Human).boxed()
    } else {
        layer.with_ansi(false).event_format(Json).boxed()
    }
}

/// `02:14:08.113  INFO  event published  type=ml.data.arrived.v1 trace=4bf9…`.
struct Human;

/// `{"timestamp":"2026-11-22T02:14:08.113Z","level":"INFO","message":"event published",…}`.
struct Json;

impl<S, N> FormatEvent<S, N> for Human
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let time = jiff::Timestamp::now().strftime("%H:%M:%S%.3f").to_string();
        let has_colour = writer.has_ansi_escapes();
        write_human(writer, &time, *event.metadata().level(), &fields, &span_context(), has_colour)
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let time = format!("{:.3}", jiff::Timestamp::now());
        let metadata = event.metadata();
        write_json(writer, &time, *metadata.level(), metadata.target(), &fields, &span_context())
    }
}

/// Of the entered span, whatever the log filter thinks of that span.
fn span_context() -> SpanContext {
    Context::current().span().span_context().clone()
}

fn write_human(
    mut writer: impl fmt::Write,
    time: &str,
    level: Level,
    fields: &Fields,
    span: &SpanContext,
    has_colour: bool,
) -> fmt::Result {
    let (open, close) = if has_colour { (colour(level), "\x1b[0m") } else { ("", "") };
    write!(writer, "{time}  {open}{level:<5}{close} {}", fields.message)?;
    let mut separator = "  ";
    for (name, value) in &fields.others {
        write!(writer, "{separator}{name}={}", human_value(value))?;
        separator = " ";
    }
    if span.is_valid() {
        write!(writer, "{separator}trace={}", span.trace_id())?;
    }
    writeln!(writer)
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG | Level::TRACE => "\x1b[2m",
    }
}

/// Texts stand bare where that is unambiguous; control characters never do, so
/// that a field cannot forge a line.
fn human_value(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let is_bare = !text.is_empty()
                && !text.contains(|c: char| {
                    c.is_whitespace() || c.is_control() || c == '"' || c == '='
                });
            if is_bare { text.clone() } else { format!("{text:?}") }
        }
        other => other.to_string(),
    }
}

fn write_json(
    mut writer: impl fmt::Write,
    time: &str,
    level: Level,
    target: &str,
    fields: &Fields,
    span: &SpanContext,
) -> fmt::Result {
    // By hand, so that what a person looks for first stands first, and so that an
    // event's line costs little beside the event.
    write!(writer, r#"{{"timestamp":"{time}","level":"{level}","message":"#)?;
    write_text(&mut writer, &fields.message)?;
    let has_span = span.is_valid();
    for (name, value) in &fields.others {
        // A key stands once: the line's own win.
        let is_reserved = match *name {
            "timestamp" | "level" | "target" => true,
            "trace_id" | "span_id" => has_span,
            _ => false,
        };
        write!(writer, ",\"{}{name}\":", if is_reserved { "field." } else { "" })?;
        match value {
            Value::String(text) => write_text(&mut writer, text)?,
            other => write!(writer, "{other}")?,
        }
    }
    writer.write_str(",\"target\":")?;
    write_text(&mut writer, target)?;
    if has_span {
        let (trace_id, span_id) = (span.trace_id(), span.span_id());
        write!(writer, r#","trace_id":"{trace_id}","span_id":"{span_id}""#)?;
    }
    writer.write_str("}\n")
}

/// A text in JSON; most have nothing to escape.
fn write_text(writer: &mut impl fmt::Write, text: &str) -> fmt::Result {
    if text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        return write!(writer, "{}", Value::from(text));
    }
    writer.write_char('"')?;
    writer.write_str(text)?;
    writer.write_char('"')
}

/// An event's fields, by type.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    /// In the order in which they were written.
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        // `r#type` is the field `type`: a keyword may name one.
        let name = field.name().trim_start_matches("r#");
        match value {
            Value::String(text) if name == MESSAGE => self.message = text,
            other => self.others.push((name, other)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, with_causes(value).into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.put(field, text.into());
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    fn fields() -> Fields {
        let others = [
            ("type", Value::from("ml.data.arrived.v1")),
            ("key", Value::from("raw/2026/part 3.csv")),
            ("forged", Value::from("a\n02:14:08 ERROR b")),
            ("lag_ms", Value::from(912)),
            ("level", Value::from("mine")),
        ];
        Fields { message: "event published".to_owned(), others: others.into() }
    }

    fn span() -> SpanContext {
        SpanContext::new(
            TraceId::from(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736),
            SpanId::from(0x00f0_67aa_0ba9_02b7),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        )
    }

    #[test]
    fn a_line_for_people() {
        let mut line = String::new();
        write_human(&mut line, "02:14:08.113", Level::INFO, &fields(), &span(), false).unwrap();
        for part in [
            "02:14:08.113  INFO  event published  ",
            r#" key="raw/2026/part 3.csv" "#,
            " lag_ms=912 ",
            r#"forged="a\n02:14:08 ERROR b""#,
            "  type=ml.data.arrived.v1 ",
            " trace=4bf92f3577b34da6a3ce929d0e0e4736\n",
        ] {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn a_line_for_machines() {
        let mut line = String::new();
        write_json(
            &mut line,
            "2026-11-22T02:14:08.113Z",
            Level::INFO,
            "bellwire",
            &fields(),
            &span(),
        )
        .unwrap();
        let start = r#"{"timestamp":"2026-11-22T02:14:08.113Z","level":"INFO","message":"event published","#;
        assert!(line.starts_with(start), "{line}");
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(read["span_id"], "00f067aa0ba902b7");
        assert_eq!(read["lag_ms"], 912);
        assert_eq!(read["field.level"], "mine");
        assert_eq!(read["forged"], "a\n02:14:08 ERROR b");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn without_a_trace_there_are_no_ids() {
        let mut line = String::new();
        write_json(&mut line, "", Level::WARN, "t", &Fields::default(), &SpanContext::NONE)
            .unwrap();
        let read: Value = serde_json::from_str(&line).unwrap();
        assert!(read.get("trace_id").is_none() && read.get("span_id").is_none());
    }
}
