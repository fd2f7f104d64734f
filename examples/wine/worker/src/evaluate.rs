//! *evaluate*: scores a model on the wines that were held out.

use bellwire_schema::RunContext;
use serde::{Deserialize, Serialize};

use crate::error::WorkerError;
use crate::forest::Forest;
use crate::lake::{Artifacts, Location, Object, Output, passed_on};
use crate::run::{Task, input_refused};
use crate::train::{HELD_OUT, MODEL, UNSEEN};
use crate::wines::read_rated;

/// The input of *evaluate*.
#[derive(Debug, Clone, Deserialize)]
pub struct Input {
    /// The artifacts of `training.completed`.
    pub(crate) artifacts: Artifacts,
    /// Why the run runs.
    pub bellwire: RunContext,
}

impl Input {
    /// Where the model is.
    ///
    /// # Errors
    ///
    /// Where no artifact has that name; likewise below.
    pub fn model(&self) -> Result<&Location, WorkerError> {
        self.artifact(MODEL)
    }

    /// Where the wines are that were held out.
    ///
    /// # Errors
    ///
    /// See [`Self::model`].
    pub fn held_out(&self) -> Result<&Location, WorkerError> {
        self.artifact(HELD_OUT)
    }

    fn artifact(&self, name: &str) -> Result<&Location, WorkerError> {
        self.artifacts
            .location(name)
            .map_err(|problem| input_refused(Task::Evaluate, "artifacts", problem))
    }
}

/// How good a model is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Scores {
    /// How many wines it was asked for.
    pub(crate) rows: usize,
    /// The share of wines whose quality it told exactly.
    pub(crate) accuracy: f64,
    /// The share that it told to within one.
    pub(crate) accuracy_within_one: f64,
    /// How far it was off, on average.
    pub(crate) mean_absolute_error: f64,
    /// The share that the most frequent quality would have told: what is no art.
    pub(crate) baseline_accuracy: f64,
}

/// The scores, and what the run says of them.
///
/// # Errors
///
/// Where an object is not readable, or the input names no unseen wines to pass on.
pub fn evaluate(
    input: &Input,
    model: &[u8],
    held_out: &[u8],
) -> Result<(Vec<Object>, Output), WorkerError> {
    let (model_at, held_out_at) = (input.model()?, input.held_out()?);
    let forest = Forest::from_bytes(&model_at.to_string(), model)?;
    let wines = read_rated(&held_out_at.to_string(), held_out)?;
    if wines.rows() == 0 {
        return Err(WorkerError::Data {
            object: held_out_at.to_string(),
            problem: "it has no wines".to_owned(),
        });
    }
    let scores = scores(&wines.qualities, &forest.predict(&wines)?);
    let report = Object {
        location: model_at.beside(format!("evaluations/{}.json", forest.run)),
        body: serde_json::to_vec_pretty(&scores).expect("scores are plain JSON"),
        content_type: "application/json",
        is_marker: false,
    };
    let output = Output {
        metrics: [
            ("rows", scores.rows as f64),
            ("accuracy", scores.accuracy),
            ("accuracy_within_one", scores.accuracy_within_one),
            ("mean_absolute_error", scores.mean_absolute_error),
            ("baseline_accuracy", scores.baseline_accuracy),
        ]
        .into(),
        artifacts: vec![
            report.artifact("evaluation"),
            passed_on(MODEL, model_at),
            passed_on(UNSEEN, input.artifact(UNSEEN)?),
        ],
    };
    Ok((vec![report], output))
}

/// Scores predictions against what the experts said; both are as long, and not empty.
fn scores(told: &[i32], predicted: &[i32]) -> Scores {
    let rows = told.len() as f64;
    let distances =
        || told.iter().zip(predicted).map(|(told, predicted)| told.abs_diff(*predicted));
    let share_within = |distance: u32| distances().filter(|d| *d <= distance).count() as f64 / rows;
    let of_quality = |quality: i32| told.iter().filter(|told| **told == quality).count();
    let most_frequent = told.iter().map(|quality| of_quality(*quality)).max().unwrap_or(0);
    Scores {
        rows: told.len(),
        accuracy: share_within(0),
        accuracy_within_one: share_within(1),
        mean_absolute_error: distances().map(f64::from).sum::<f64>() / rows,
        baseline_accuracy: most_frequent as f64 / rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_what_their_names_say() {
        let expected = Scores {
            rows: 4,
            accuracy: 0.5,
            accuracy_within_one: 0.75,
            mean_absolute_error: 0.75,
            baseline_accuracy: 0.75,
        };
        assert_eq!(scores(&[5, 5, 5, 7], &[5, 5, 6, 5]), expected);
    }
}
