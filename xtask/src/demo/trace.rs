//! A trace as a tree that a person reads: what caused what, in which service,
//! and how long it took. Pure: spans in, text out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use bellwire_otlp_receiver::Span;
use console::{Alignment, measure_text_width, pad_str, truncate_str};

use crate::steps::shown_duration;

/// Columns of an indented level, where the tree is not too deep for the width.
const INDENT_COLUMNS: usize = 2;
/// A name is not cut to less than this for the sake of the indentation.
const NAME_COLUMNS_MIN: usize = 16;
const SERVICE_COLUMNS_MAX: usize = 20;
const DURATION_COLUMNS: usize = 8;

/// A trace's spans with what each one caused.
#[derive(Debug)]
pub(crate) struct Trace<'a> {
    spans: Vec<&'a Span>,
    /// Indices of the spans that each span caused, in the order in which they began.
    children: BTreeMap<&'a str, Vec<usize>>,
    roots: Vec<usize>,
}

impl<'a> Trace<'a> {
    /// The spans of one trace.
    pub(crate) fn new(all: &'a [Span], trace_id: &str) -> Self {
        let mut spans: Vec<&Span> = all.iter().filter(|span| span.trace_id == trace_id).collect();
        spans.sort_by_key(|span| (span.started_ns, &span.span_id));
        // An exporter that got no answer sends the same spans again.
        let mut seen = BTreeSet::new();
        spans.retain(|span| seen.insert(span.span_id.as_str()));
        let mut trace = Self { spans, children: BTreeMap::new(), roots: Vec::new() };
        for (index, span) in trace.spans.iter().enumerate() {
            match span.parent_id.as_deref().filter(|parent| seen.contains(parent)) {
                Some(parent) => trace.children.entry(parent).or_default().push(index),
                None => trace.roots.push(index),
            }
        }
        trace
    }

    /// How many spans it has.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// What its spans are called, each once.
    pub(crate) fn names(&self) -> BTreeSet<&'a str> {
        self.spans.iter().map(|span| span.name.as_str()).collect()
    }

    /// Whether every span but the first was caused by another that is here.
    pub(crate) fn is_whole(&self) -> bool {
        self.roots.len() == 1
    }

    /// From the first begin to the last end.
    pub(crate) fn duration(&self) -> Duration {
        let begin = self.spans.iter().map(|span| span.started_ns).min().unwrap_or(0);
        let end = self.spans.iter().map(|span| span.ended_ns).max().unwrap_or(begin);
        Duration::from_nanos(end.saturating_sub(begin))
    }

    /// The tree, a line a span, none wider than `width`.
    pub(crate) fn tree(&self, width: usize) -> String {
        let mut rows = Vec::new();
        for &root in &self.roots {
            self.rows(root, &mut Vec::new(), &mut rows);
        }
        let depth = rows.iter().map(|row| row.ancestors.len()).max().unwrap_or(0);
        let service_columns = rows
            .iter()
            .map(|row| measure_text_width(row.service))
            .max()
            .unwrap_or(0)
            .min(SERVICE_COLUMNS_MAX);
        let right = service_columns + DURATION_COLUMNS + 3;
        let left_max = width.saturating_sub(right);
        let is_deep = depth * INDENT_COLUMNS + NAME_COLUMNS_MIN > left_max;
        let left: Vec<String> = rows.iter().map(|row| row.left(is_deep)).collect();
        let widest = left.iter().map(|text| measure_text_width(text)).max().unwrap_or(0);
        let left_columns = widest.min(left_max);
        let mut text = String::new();
        for (row, left) in rows.iter().zip(left) {
            let left = truncate_str(&left, left_columns, "…");
            let left = pad_str(&left, left_columns, Alignment::Left, None);
            let service = truncate_str(row.service, service_columns, "…");
            let service = pad_str(&service, service_columns, Alignment::Left, None);
            let took = shown_duration(row.took);
            writeln!(text, "{left}  {service} {took:>DURATION_COLUMNS$}")
                .expect("a String takes every write");
        }
        text
    }

    fn rows(&self, index: usize, ancestors: &mut Vec<Place>, rows: &mut Vec<Row<'a>>) {
        let span = self.spans[index];
        let mut row = Row {
            ancestors: ancestors.clone(),
            name: &span.name,
            service: &span.service,
            took: duration_of(span),
            count: 1,
            has_failed: span.has_failed,
        };
        let children = self.children.get(span.span_id.as_str()).map_or(&[][..], Vec::as_slice);
        if children.is_empty()
            && let Some(previous) = rows.last_mut()
            && previous.is_same_as(&row)
        {
            // Many of the same in a row are one line.
            previous.count += 1;
            previous.took += row.took;
            if let (Some(last), Some(place)) = (previous.ancestors.last_mut(), ancestors.last()) {
                *last = *place;
            }
            return;
        }
        row.count = usize::from(children.is_empty());
        rows.push(row);
        for (place, &child) in children.iter().enumerate() {
            let is_last = place + 1 == children.len();
            ancestors.push(if is_last { Place::Last } else { Place::Between });
            self.rows(child, ancestors, rows);
            ancestors.pop();
        }
    }
}

/// Where a span stands among those of the same cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Between,
    Last,
}

/// A line of the tree.
#[derive(Debug)]
struct Row<'a> {
    ancestors: Vec<Place>,
    name: &'a str,
    service: &'a str,
    took: Duration,
    /// How many leaves of the same name the line stands for; 0 for what has children.
    count: usize,
    has_failed: bool,
}

impl Row<'_> {
    fn is_same_as(&self, other: &Self) -> bool {
        self.count > 0
            && !self.ancestors.is_empty()
            && self.ancestors.len() == other.ancestors.len()
            && self.name == other.name
            && self.service == other.service
            && self.has_failed == other.has_failed
    }

    fn left(&self, is_deep: bool) -> String {
        let gap = if is_deep { "" } else { " " };
        let mut text = String::new();
        if let Some((own, above)) = self.ancestors.split_last() {
            for place in above {
                text.push_str(if *place == Place::Between { "│" } else { " " });
                text.push_str(gap);
            }
            text.push_str(if *own == Place::Between { "├ " } else { "└ " });
        }
        if self.has_failed {
            text.push_str("✗ failed: ");
        }
        text.push_str(self.name);
        if self.count > 1 {
            write!(text, " ×{}", self.count).expect("a String takes every write");
        }
        text
    }
}

/// How long a span lasted.
fn duration_of(span: &Span) -> Duration {
    Duration::from_nanos(span.ended_ns.saturating_sub(span.started_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A span `id`, caused by `parent`, from `start_ms` on for `took_ms`.
    fn span(
        id: &str,
        parent: &str,
        name: &str,
        service: &str,
        start_ms: u64,
        took_ms: u64,
    ) -> Span {
        Span {
            trace_id: "t".to_owned(),
            span_id: id.to_owned(),
            parent_id: (!parent.is_empty()).then(|| parent.to_owned()),
            kind: "internal",
            links: Vec::new(),
            name: name.to_owned(),
            service: service.to_owned(),
            started_ns: start_ms * MS,
            ended_ns: (start_ms + took_ms) * MS,
            has_failed: false,
            attributes: BTreeMap::new(),
        }
    }

    fn wine() -> Vec<Span> {
        vec![
            span("b", "a", "ml.collection.requested.v1 create", "bellwire-publisher", 1, 1),
            span("e", "c", "StartExecution wine-collect", "wine-handler", 8, 4),
            span("a", "", "POST /v1/events", "bellwire-publisher", 0, 3),
            span("d", "c", "ledger claim", "wine-handler", 6, 2),
            span("c", "b", "process wine", "wine-handler", 5, 9),
            span("f", "e", "collect", "wine-worker", 15, 1_100),
            span("g", "f", "PutObject", "wine-worker", 20, 3),
            span("h", "f", "PutObject", "wine-worker", 30, 3),
            span("i", "f", "PutObject", "wine-worker", 40, 3),
            span("j", "e", "ml.collection.started.v1 create", "wine-handler", 12, 1),
        ]
    }

    #[test]
    fn a_trace_is_a_tree_in_the_order_of_time() {
        let spans = wine();
        let trace = Trace::new(&spans, "t");
        assert!(trace.is_whole());
        assert_eq!(trace.len(), 10);
        assert_eq!(trace.duration(), Duration::from_millis(1_115));
        insta::assert_snapshot!(trace.tree(100), @r"
        POST /v1/events                          bellwire-publisher     3 ms
        └ ml.collection.requested.v1 create      bellwire-publisher     1 ms
          └ process wine                         wine-handler           9 ms
            ├ ledger claim                       wine-handler           2 ms
            └ StartExecution wine-collect        wine-handler           4 ms
              ├ ml.collection.started.v1 create  wine-handler           1 ms
              └ collect                          wine-worker           1.1 s
                └ PutObject ×3                   wine-worker            9 ms
        ");
    }

    #[test]
    fn a_narrow_terminal_gets_narrow_lines() {
        let spans = wine();
        let tree = Trace::new(&spans, "t").tree(50);
        assert!(tree.lines().all(|line| measure_text_width(line) <= 50), "{tree}");
        insta::assert_snapshot!(tree, @r"
        POST /v1/events        bellwire-publisher     3 ms
        └ ml.collection.requ…  bellwire-publisher     1 ms
         └ process wine        wine-handler           9 ms
          ├ ledger claim       wine-handler           2 ms
          └ StartExecution w…  wine-handler           4 ms
           ├ ml.collection.s…  wine-handler           1 ms
           └ collect           wine-worker           1.1 s
            └ PutObject ×3     wine-worker            9 ms
        ");
    }

    #[test]
    fn a_deep_trace_is_indented_less() {
        let spans: Vec<Span> = (0..30)
            .map(|depth| {
                let parent = if depth == 0 { String::new() } else { (depth - 1).to_string() };
                span(
                    &depth.to_string(),
                    &parent,
                    &format!("step {depth}"),
                    "worker",
                    depth,
                    30 - depth,
                )
            })
            .collect();
        let tree = Trace::new(&spans, "t").tree(80);
        assert!(tree.contains("└ step 29"), "{tree}");
    }

    #[test]
    fn a_failure_has_a_word_and_what_has_lost_its_cause_is_still_there() {
        let mut spans = wine();
        spans.retain(|span| span.span_id != "c");
        spans.iter_mut().filter(|span| span.span_id == "f").for_each(|span| span.has_failed = true);
        spans.push(span("b", "a", "sent twice", "bellwire-publisher", 1, 1));
        spans.push(Span { trace_id: "another".into(), ..span("x", "", "x", "x", 0, 1) });
        let trace = Trace::new(&spans, "t");
        assert!(!trace.is_whole());
        insta::assert_snapshot!(trace.tree(100), @r"
        POST /v1/events                      bellwire-publisher     3 ms
        └ ml.collection.requested.v1 create  bellwire-publisher     1 ms
        ledger claim                         wine-handler           2 ms
        StartExecution wine-collect          wine-handler           4 ms
        ├ ml.collection.started.v1 create    wine-handler           1 ms
        └ ✗ failed: collect                  wine-worker           1.1 s
          └ PutObject ×3                     wine-worker            9 ms
        ");
    }
}
