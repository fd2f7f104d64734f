//! The model: a random forest of smartcore's.
//!
//! smartcore, because it draws the features anew at each split of a tree (which
//! makes it a random forest and not bagging), takes a seed, writes a fitted forest
//! by serde, predicts the same on every run, needs 0.3 s for 100 trees here, and is
//! kept up. linfa-ensemble (0.8.1) was looked at too: it draws features once a
//! tree, breaks ties in the order of a hash map, which is another on every run, and
//! does not write an ensemble.
//!
//! It is written in postcard's format, which takes a sixth of JSON's bytes (1.1 MB
//! for 100 trees).

use serde::{Deserialize, Serialize};
use smartcore::ensemble::random_forest_classifier::{
    RandomForestClassifier, RandomForestClassifierParameters,
};
use smartcore::linalg::basic::matrix::DenseMatrix;

use crate::error::WorkerError;
use crate::wines::Wines;

type Classifier = RandomForestClassifier<f64, i32, DenseMatrix<f64>, Vec<i32>>;

/// A fitted forest, and what it was fitted with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Forest {
    /// The collection that it was trained on.
    pub(crate) run: String,
    pub(crate) seed: u64,
    pub(crate) trees: u16,
    pub(crate) training_rows: usize,
    /// The names of the features, in their order: a check against another data set.
    pub(crate) features: Vec<String>,
    classifier: Classifier,
}

impl Forest {
    pub(crate) fn fit(
        run: &str,
        seed: u64,
        trees: u16,
        wines: &Wines,
    ) -> Result<Self, WorkerError> {
        let parameters =
            RandomForestClassifierParameters::default().with_n_trees(trees).with_seed(seed);
        let classifier =
            Classifier::fit(&matrix(wines)?, &wines.qualities, parameters).map_err(|error| {
                WorkerError::Forest { action: "be fitted", problem: error.to_string() }
            })?;
        Ok(Self {
            run: run.to_owned(),
            seed,
            trees,
            training_rows: wines.rows(),
            features: crate::wines::FEATURES.map(str::to_owned).to_vec(),
            classifier,
        })
    }

    /// A quality for each wine.
    pub(crate) fn predict(&self, wines: &Wines) -> Result<Vec<i32>, WorkerError> {
        self.classifier
            .predict(&matrix(wines)?)
            .map_err(|error| WorkerError::Forest { action: "predict", problem: error.to_string() })
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, WorkerError> {
        postcard::to_stdvec(self).map_err(|error| WorkerError::Forest {
            action: "be written",
            problem: error.to_string(),
        })
    }

    pub(crate) fn from_bytes(object: &str, bytes: &[u8]) -> Result<Self, WorkerError> {
        let refused = |problem: String| WorkerError::Data { object: object.to_owned(), problem };
        let forest: Self =
            postcard::from_bytes(bytes).map_err(|error| refused(error.to_string()))?;
        if forest.features != crate::wines::FEATURES {
            return Err(refused(format!(
                "it was fitted with other features: {}",
                forest.features.join(", ")
            )));
        }
        Ok(forest)
    }
}

fn matrix(wines: &Wines) -> Result<DenseMatrix<f64>, WorkerError> {
    DenseMatrix::from_2d_vec(&wines.features).map_err(|error| WorkerError::Forest {
        action: "take the wines",
        problem: error.to_string(),
    })
}
