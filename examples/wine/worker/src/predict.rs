//! *predict*: tells the quality of wines that nobody has rated.

use bellwire_schema::RunContext;
use serde::Deserialize;

use crate::error::WorkerError;
use crate::forest::Forest;
use crate::lake::{Artifacts, Location, Object, Output};
use crate::run::{Task, input_refused};
use crate::train::{MODEL, UNSEEN};
use crate::wines::{FEATURES, read_unrated, write_csv};

/// The column that the predictions have beside the measurements.
const PREDICTED: &str = "predicted quality";

/// The input of *predict*.
#[derive(Debug, Clone, Deserialize)]
pub struct Input {
    /// The artifacts of `evaluation.completed`.
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

    /// Where the wines are that nobody has rated.
    ///
    /// # Errors
    ///
    /// See [`Self::model`].
    pub fn unseen(&self) -> Result<&Location, WorkerError> {
        self.artifact(UNSEEN)
    }

    fn artifact(&self, name: &str) -> Result<&Location, WorkerError> {
        self.artifacts
            .location(name)
            .map_err(|problem| input_refused(Task::Predict, "artifacts", problem))
    }
}

/// The predictions, and what the run says of them.
///
/// # Errors
///
/// Where an object is not readable.
pub fn predict(
    input: &Input,
    model: &[u8],
    unseen: &[u8],
) -> Result<(Vec<Object>, Output), WorkerError> {
    let (model_at, unseen_at) = (input.model()?, input.unseen()?);
    let forest = Forest::from_bytes(&model_at.to_string(), model)?;
    let wines = read_unrated(&unseen_at.to_string(), unseen)?;
    // smartcore refuses an empty matrix; nothing to predict is no error.
    let predicted = if wines.rows() == 0 { Vec::new() } else { forest.predict(&wines)? };
    let header =
        FEATURES.iter().map(ToString::to_string).chain([PREDICTED.to_owned()]).collect::<Vec<_>>();
    let rows = wines.features.iter().zip(&predicted).map(|(features, quality)| {
        features.iter().map(ToString::to_string).chain([quality.to_string()]).collect()
    });
    let predictions = Object {
        location: model_at.beside(format!("predictions/{}.csv", forest.run)),
        body: write_csv(header, rows),
        content_type: "text/csv",
        is_marker: false,
    };
    let mut output =
        Output { artifacts: vec![predictions.artifact("predictions")], ..Output::default() };
    output.metrics.insert("rows", predicted.len() as f64);
    if !predicted.is_empty() {
        let sum: f64 = predicted.iter().copied().map(f64::from).sum();
        output.metrics.insert("mean_predicted_quality", sum / predicted.len() as f64);
    }
    Ok((vec![predictions], output))
}
