//! Runs as the ledger knows them, and a line for each as a person reads it.

use std::collections::BTreeMap;
use std::time::Duration;

use console::{Alignment, measure_text_width, pad_str, truncate_str};
use jiff::Timestamp;
use serde::Deserialize;

use crate::steps::{shown_count, shown_duration};

/// The stages, in their order, each with the metrics that stand for it.
pub(crate) const STAGES: [(&str, &[&str]); 4] = [
    ("collection", &["objects", "rows"]),
    ("training", &["trees", "training_rows"]),
    ("evaluation", &["accuracy", "baseline_accuracy"]),
    ("prediction", &["rows", "mean_predicted_quality"]),
];

const STAGE_COLUMNS: usize = 12;
const CAUSE_COLUMNS_MAX: usize = 32;
const CAUSE_COLUMNS_MIN: usize = 12;
/// What a line needs besides its cause and its metrics.
const OTHER_COLUMNS: usize = 53;

/// A row of `bellwire runs --json`, as far as the demo tells it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Run {
    pub(crate) start_key: String,
    pub(crate) stage: String,
    pub(crate) state: String,
    pub(crate) event_type: String,
    pub(crate) event_source: Option<String>,
    pub(crate) event_subject: Option<String>,
    pub(crate) event_time: Option<Timestamp>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) duration_s: Option<f64>,
    pub(crate) status: Option<String>,
    pub(crate) run_arn: Option<String>,
    pub(crate) trace_id: Option<String>,
    #[serde(default)]
    pub(crate) metrics: BTreeMap<String, f64>,
    #[serde(default)]
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) error: Option<String>,
    pub(crate) cause: Option<String>,
}

/// What a run made.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Artifact {
    pub(crate) name: String,
    pub(crate) uri: String,
}

impl Run {
    /// It ended well.
    pub(crate) fn is_completed(&self) -> bool {
        self.state == "completed"
    }

    /// It ended badly, or was never let begin.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.state.as_str(), "failed" | "refused")
    }

    /// The bucket and key of one of its artifacts.
    pub(crate) fn artifact(&self, name: &str) -> Option<&str> {
        let artifact = self.artifacts.iter().find(|artifact| artifact.name == name)?;
        Some(&artifact.uri)
    }

    /// What started it: an object, a request, or the event of another run.
    fn shown_cause(&self) -> String {
        let event_type = self.event_type.strip_prefix("ml.").unwrap_or(&self.event_type);
        let event_type = event_type.strip_suffix(".v1").unwrap_or(event_type);
        let bucket = self.event_source.as_deref().and_then(|source| source.split(":s3:::").nth(1));
        match (event_type, bucket, &self.event_subject) {
            ("data.arrived" | "data.removed", Some(bucket), Some(key)) => {
                format!("s3://{bucket}/{key}")
            }
            (requested, _, _) if requested.ends_with(".requested") => "POST /v1/events".to_owned(),
            _ => event_type.to_owned(),
        }
    }

    /// From its cause to the execution's start.
    fn started_in(&self) -> Option<Duration> {
        let waited = self.started_at?.duration_since(self.event_time?);
        // The clocks of S3 and Step Functions are not one.
        Some(Duration::try_from(waited).unwrap_or_default())
    }

    fn shown_metrics(&self) -> String {
        let headline = STAGES.iter().find(|(stage, _)| *stage == self.stage);
        let names = headline.map_or(&[][..], |(_, names)| names);
        let told: Vec<String> = names
            .iter()
            .filter_map(|name| Some(shown_metric(name, *self.metrics.get(*name)?)))
            .collect();
        told.join(", ")
    }
}

/// `1,279 rows`, but `accuracy 0.68`.
fn shown_metric(name: &str, value: f64) -> String {
    let name = name.replace('_', " ");
    if value.fract() == 0.0 && (0.0..1e15).contains(&value) {
        format!("{} {name}", shown_count(value as u64))
    } else {
        format!("{name} {value:.2}")
    }
}

/// A run that has ended: one line, or two where its metrics do not fit beside it.
pub(crate) fn line(run: &Run, width: usize) -> String {
    let mut text = running_line(run, width);
    let rest = if run.is_completed() {
        let ran =
            run.duration_s.map(Duration::from_secs_f64).map_or_else(String::new, shown_duration);
        text.push_str(&format!("  ran {ran:>7}"));
        run.shown_metrics()
    } else {
        let status = run.status.as_deref().unwrap_or(&run.state).to_lowercase();
        format!("✗ {status} {}", run.error.as_deref().unwrap_or_default())
    };
    let is_beside = measure_text_width(&text) + 2 + measure_text_width(&rest) <= width;
    let gap = if is_beside { "  ".to_owned() } else { format!("\n{:1$}", "", STAGE_COLUMNS + 5) };
    let text = format!("{text}{gap}{rest}");
    let lines = text.lines().map(|line| truncate_str(line.trim_end(), width, "…"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The part of its line that is known when it starts.
pub(crate) fn running_line(run: &Run, width: usize) -> String {
    let columns = width.saturating_sub(OTHER_COLUMNS).clamp(CAUSE_COLUMNS_MIN, CAUSE_COLUMNS_MAX);
    let cause = elided(&run.shown_cause(), columns);
    let cause = pad_str(&cause, columns, Alignment::Left, None);
    let started = match run.started_in() {
        Some(waited) => format!("started in {:>7}", shown_duration(waited)),
        None => "starting".to_owned(),
    };
    format!("  {:<STAGE_COLUMNS$} ▸ {cause} {started:<18}", run.stage)
}

/// A text without its middle, where it is too long: an object's name is at its end.
fn elided(text: &str, columns: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= columns {
        return text.to_owned();
    }
    let kept = columns.saturating_sub(1);
    let (front, back) = (kept - kept / 2, kept / 2);
    let text = |chars: &[char]| chars.iter().collect::<String>();
    format!("{}…{}", text(&chars[..front]), text(&chars[chars.len() - back..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stage: &str, event_type: &str, metrics: &[(&str, f64)]) -> Run {
        Run {
            stage: stage.to_owned(),
            state: "completed".to_owned(),
            event_type: event_type.to_owned(),
            event_time: Some("2026-11-22T02:14:07.000Z".parse().expect("a time")),
            started_at: Some("2026-11-22T02:14:07.063Z".parse().expect("a time")),
            duration_s: Some(1.93),
            metrics: metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            ..Run::default()
        }
    }

    fn four() -> Vec<Run> {
        let mut training =
            run("training", "ml.data.arrived.v1", &[("trees", 100.0), ("training_rows", 959.0)]);
        training.event_source = Some("arn:aws:s3:::wine-lake".to_owned());
        training.event_subject = Some("raw/1dc098be7c522913/_SUCCESS".to_owned());
        let mut failed = run("prediction", "ml.evaluation.completed.v1", &[]);
        failed.state = "failed".to_owned();
        failed.status = Some("FAILED".to_owned());
        failed.error = Some("InputRefused".to_owned());
        vec![
            run(
                "collection",
                "ml.collection.requested.v1",
                &[("objects", 4.0), ("rows", 1_599.0), ("held_out_rows", 320.0)],
            ),
            training,
            run("evaluation", "ml.training.completed.v1", &[("accuracy", 0.6781)]),
            failed,
        ]
    }

    #[test]
    fn runs_are_lines_under_each_other() {
        let lines: Vec<String> = four().iter().map(|run| line(run, 110)).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        collection   ▸ POST /v1/events                  started in   63 ms  ran   1.9 s  4 objects, 1,599 rows
        training     ▸ s3://wine-lake/r…522913/_SUCCESS started in   63 ms  ran   1.9 s
                       100 trees, 959 training rows
        evaluation   ▸ training.completed               started in   63 ms  ran   1.9 s  accuracy 0.68
        prediction   ▸ evaluation.completed             started in   63 ms  ✗ failed InputRefused
        ");
    }

    #[test]
    fn a_narrow_terminal_gets_narrow_lines() {
        let lines: Vec<String> = four().iter().map(|run| line(run, 80)).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        collection   ▸ POST /v1/events             started in   63 ms  ran   1.9 s
                       4 objects, 1,599 rows
        training     ▸ s3://wine-lak…2913/_SUCCESS started in   63 ms  ran   1.9 s
                       100 trees, 959 training rows
        evaluation   ▸ training.completed          started in   63 ms  ran   1.9 s
                       accuracy 0.68
        prediction   ▸ evaluation.completed        started in   63 ms
                       ✗ failed InputRefused
        ");
        for run in four() {
            for line in line(&run, 70).lines() {
                assert!(measure_text_width(line) <= 70, "{line}");
            }
        }
    }

    #[test]
    fn a_run_that_is_only_claimed_has_no_times_yet() {
        let run: Run = serde_json::from_str(
            r#"{"start_key": "k", "trigger": "train", "stage": "training", "state": "claimed",
                "event_type": "ml.data.arrived.v1", "event_id": "e", "event_source": null,
                "event_subject": null, "event_time": null, "started_at": null,
                "stopped_at": null, "duration_s": null, "status": null, "run_arn": null,
                "trace_id": null, "metrics": {}, "artifacts": [], "error": null, "cause": null}"#,
        )
        .expect("a row of `bellwire runs --json`");
        assert!(!run.is_completed() && !run.has_failed());
        assert_eq!(
            running_line(&run, 120).trim_end(),
            "  training     ▸ data.arrived                     starting"
        );
    }
}
