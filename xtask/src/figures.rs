//! What was measured: a figure a line, for people and for programs.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use console::{Alignment, pad_str};
use serde::Serialize;

use crate::project::Project;

/// One figure. A bound is the most, or the least, that the ratio to the peer may be,
/// or the value itself where there is no peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) peer: Option<&'static str>,
    pub(crate) ratio: Option<f64>,
    pub(crate) bound: Option<f64>,
    pub(crate) holds: Option<bool>,
}

impl Figure {
    /// A figure by itself.
    pub(crate) fn of(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, peer: None, ratio: None, bound: None, holds: None }
    }

    /// Beside what a peer took of the same.
    pub(crate) fn against(mut self, peer: &'static str, peers_value: f64) -> Self {
        self.peer = Some(peer);
        self.ratio = Some(self.value / peers_value);
        self
    }

    /// With the most that it may be.
    pub(crate) fn at_most(mut self, bound: f64) -> Self {
        self.bound = Some(bound);
        self.holds = Some(self.ratio.unwrap_or(self.value) <= bound);
        self
    }

    /// With the least that it may be.
    pub(crate) fn at_least(mut self, bound: f64) -> Self {
        self.bound = Some(bound);
        self.holds = Some(self.ratio.unwrap_or(self.value) >= bound);
        self
    }

    fn cells(&self) -> [String; 6] {
        let optional = |number: Option<f64>| number.map(shown).unwrap_or_default();
        let holds = match self.holds {
            Some(true) => "holds",
            Some(false) => "does not hold",
            None => "",
        };
        [
            self.name.clone(),
            format!("{} {}", shown(self.value), self.unit),
            self.peer.unwrap_or_default().to_owned(),
            optional(self.ratio),
            optional(self.bound),
            holds.to_owned(),
        ]
    }
}

/// The middle of some values; of two in the middle, the smaller.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().unwrap_or(f64::NAN)
}

/// Figures as a table.
pub(crate) fn table(figures: &[Figure]) -> String {
    let head = ["figure", "value", "peer", "ratio", "bound", ""].map(str::to_owned);
    let rows: Vec<[String; 6]> =
        std::iter::once(head).chain(figures.iter().map(Figure::cells)).collect();
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            let alignment = match column {
                1 | 3 | 4 => Alignment::Right,
                _ => Alignment::Left,
            };
            pad_str(cell, *width, alignment, None).into_owned()
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        // Writing to a text does not fail.
        let _ = writeln!(text, "  {}", line.trim_end());
    }
    text
}

/// Figures that could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("the figures cannot be written to `{}`", path.display())]
pub(crate) struct FiguresError {
    path: PathBuf,
    source: std::io::Error,
}

/// Writes figures for programs to read, into `NAME.json`; answers with where that lies.
pub(crate) fn write(
    project: &Project,
    name: &str,
    figures: &[Figure],
) -> Result<PathBuf, FiguresError> {
    let folder = project.state().join("figures");
    let path = folder.join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(figures).unwrap_or_default() + "\n";
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, text));
    written.map(|()| path.clone()).map_err(|source| FiguresError { path, source })
}

/// Three digits that tell something, and no more.
fn shown(number: f64) -> String {
    match number.abs() {
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        1.0.. => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_of_the_ratio_where_there_is_one() {
        let against = |bound| Figure::of("cpu", 3.0, "s").against("peer", 2.0).at_most(bound);
        assert_eq!(against(1.5).holds, Some(true));
        assert_eq!(against(1.4).holds, Some(false));
        assert_eq!(Figure::of("memory", 26.0, "MB").at_most(25.0).holds, Some(false));
        assert_eq!(Figure::of("rate", 1.0, "1/s").holds, None);
    }

    #[test]
    fn the_median_is_a_value_that_was_measured() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0]), 1.0);
        assert!(median([]).is_nan());
    }

    #[test]
    fn columns_stand_under_one_another() {
        let figures = [
            Figure::of("cpu per 10,000 events", 0.4567, "s").against("bare", 0.3).at_most(1.25),
            Figure::of("rate", 12_345.6, "events/s"),
        ];
        insta::assert_snapshot!(table(&figures), @"
        figure                          value  peer  ratio  bound
        cpu per 10,000 events         0.457 s  bare   1.52   1.25  does not hold
        rate                   12346 events/s
        ");
    }
}
