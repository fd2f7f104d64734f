//! `docs/metrics.md`, from the table.

use std::fmt::Write as _;

use super::{Component, Kind, TABLE};
use crate::metrics::scrape::prometheus_name;

const HEAD: &str = "# Metrics

Written from the table in `crates/telemetry/src/metrics/table.rs`; a test fails where the two differ
(`BELLWIRE_UPDATE_DOCS=1 cargo test -p bellwire-telemetry` writes this file). How they are exported,
[telemetry.md](telemetry.md) tells. Beside a metric's own name stands the one under which `/metrics` shows it.
What a backend shows as one more series for each value of an attribute is bounded, as the last table says.

| Metric | At `/metrics` | Kind | Unit | Moved by | Attributes | What it tells |
| --- | --- | --- | --- | --- | --- | --- |
";

/// The whole text of `docs/metrics.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    let mut attributes: Vec<(&str, &str)> = Vec::new();
    for metric in TABLE {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let by = metric.moved_by.iter().map(|component| match component {
            Component::Publisher => "publisher",
            Component::Handler => "handler",
        });
        let by = by.collect::<Vec<_>>().join(", ");
        let names: Vec<_> = metric.attributes.iter().map(|one| format!("`{}`", one.name)).collect();
        let (name, scraped) = (metric.name, prometheus_name(metric.name, metric.unit, kind));
        let (unit, names, description) = (metric.unit, names.join(", "), metric.description);
        let _ = writeln!(
            text,
            "| `{name}` | `{scraped}` | {kind} | `{unit}` | {by} | {names} | {description} |"
        );
        for attribute in metric.attributes {
            let row = (attribute.name, attribute.values);
            if !attributes.contains(&row) {
                attributes.push(row);
            }
        }
    }
    text.push_str("\n| Attribute | Values |\n| --- | --- |\n");
    for (name, values) in attributes {
        let _ = writeln!(text, "| `{name}` | {values} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dashboard_asks_for_each_metric_by_its_name() {
        let board = include_str!("../../../../deploy/grafana-dashboard.json");
        for metric in TABLE {
            let kind = if metric.kind == Kind::Counter { "counter" } else { "" };
            let name = prometheus_name(metric.name, metric.unit, kind);
            assert!(board.contains(&name), "{name} is not on the dashboard");
        }
    }

    #[test]
    fn the_page_says_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        if std::env::var_os("BELLWIRE_UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page == markdown(), "docs/metrics.md is not of this table: see its first lines");
    }
}
