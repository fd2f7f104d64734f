//! *train*: fits a random forest to what a collection's marker names.

use bellwire_schema::RunContext;
use serde::Deserialize;

use crate::collect::Manifest;
use crate::error::WorkerError;
use crate::forest::Forest;
use crate::lake::{Location, Object, Output, passed_on};
use crate::run::{Task, input_refused};
use crate::wines::{Wines, read_rated};

/// What the artifacts are called in `training.completed`.
pub(crate) const MODEL: &str = "model";
pub(crate) const HELD_OUT: &str = "held-out";
pub(crate) const UNSEEN: &str = "unseen";

/// The input of *train*.
#[derive(Debug, Clone, Deserialize)]
pub struct Input {
    /// Of the `data.arrived` event, the object that arrived: the marker.
    pub marker: Arrived,
    /// How many trees the forest has.
    pub trees: u16,
    /// Why the run runs.
    pub bellwire: RunContext,
}

/// An object, as `data.arrived` tells of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Arrived {
    /// The bucket's name.
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
}

impl Input {
    /// Where the marker is.
    #[must_use]
    pub fn marker(&self) -> Location {
        Location { bucket: self.marker.bucket.clone(), key: self.marker.key.clone() }
    }
}

/// Reads the marker's body.
///
/// # Errors
///
/// Where the object is no marker of *collect*'s.
pub fn read_manifest(marker: &Location, body: &[u8]) -> Result<Manifest, WorkerError> {
    serde_json::from_slice(body).map_err(|error| WorkerError::Data {
        object: marker.to_string(),
        problem: error.to_string(),
    })
}

/// The model, and what the run says of it. `parts` are the bodies of the
/// manifest's parts, in its order.
///
/// # Errors
///
/// Where a part is not readable, or the forest cannot be fitted.
pub fn train(
    input: &Input,
    manifest: &Manifest,
    parts: &[Vec<u8>],
) -> Result<(Vec<Object>, Output), WorkerError> {
    if !(1..=1_000).contains(&input.trees) {
        let problem = format!("{} trees; 1 to 1000 are possible", input.trees);
        return Err(input_refused(Task::Train, "trees", problem));
    }
    let marker = input.marker();
    let mut wines = Wines::default();
    for (key, part) in manifest.parts.iter().zip(parts) {
        wines.append(read_rated(key, part)?);
    }
    let forest = Forest::fit(&manifest.run, manifest.seed, input.trees, &wines)?;
    let model = Object {
        location: marker.beside(format!("models/{}/forest.postcard", manifest.run)),
        body: forest.to_bytes()?,
        content_type: "application/octet-stream",
        is_marker: false,
    };
    let output = Output {
        metrics: [("training_rows", wines.rows() as f64), ("trees", f64::from(input.trees))].into(),
        artifacts: vec![
            model.artifact(MODEL),
            passed_on(HELD_OUT, &marker.beside(manifest.held_out.as_str())),
            passed_on(UNSEEN, &marker.beside(manifest.unseen.as_str())),
        ],
    };
    Ok((vec![model], output))
}
