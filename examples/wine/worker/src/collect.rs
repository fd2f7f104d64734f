//! *collect*: splits the wines into those to train on, those held out to score the
//! model with, and those whose quality is to be predicted; the marker comes last.

use bellwire_schema::RunContext;
use serde::{Deserialize, Serialize};

use crate::error::WorkerError;
use crate::lake::{Location, Object, Output, passed_on};
use crate::run::{Task, input_refused};
use crate::split::split;
use crate::wines::{self, QUALITY};

/// The data set itself: the example's stand-in for wherever data is collected from.
const WINES: &[u8] = include_bytes!("../../data/winequality-red.csv");

/// The name of the marker; everything of a collection is there once it is.
pub const MARKER: &str = "_SUCCESS";

/// Fewer rows are no training set.
const TRAINING_ROWS_MIN: usize = 100;

/// The input of *collect*.
#[derive(Debug, Clone, Deserialize)]
pub struct Input {
    /// The `collection.requested` event.
    pub request: Request,
    /// The lake.
    pub bucket: String,
    /// Why the run runs.
    pub bellwire: RunContext,
}

/// Of the `collection.requested` event, what the job reads.
#[derive(Debug, Clone, Deserialize)]
pub struct Request {
    /// Its payload, which an event may lack.
    #[serde(default)]
    pub data: RequestData,
}

/// The payload of `collection.requested`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RequestData {
    /// Absent ones have their defaults.
    #[serde(default)]
    pub parameters: Parameters,
}

/// What may be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// Decides which wine goes where, and how the forest grows.
    pub seed: u64,
    /// Into how many objects the training set is cut.
    pub parts: usize,
    /// How many wines are held out.
    pub held_out_rows: usize,
    /// How many wines are to be predicted.
    pub unseen_rows: usize,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { seed: 42, parts: 4, held_out_rows: 320, unseen_rows: 320 }
    }
}

/// The marker's body: what the collection is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The collection's run: its start key.
    pub run: String,
    /// The request's seed.
    pub seed: u64,
    /// Keys of the training set's parts.
    pub parts: Vec<String>,
    /// Key of the wines held out.
    pub held_out: String,
    /// Key of the wines to predict.
    pub unseen: String,
}

/// What the job writes, in this order, and what the run says of it.
///
/// # Errors
///
/// Where the parameters ask for more wines than there are.
pub fn collect(input: &Input) -> Result<(Vec<Object>, Output), WorkerError> {
    let parameters = &input.request.data.parameters;
    let table = Table::read()?;
    check(parameters, table.rows.len())?;
    let split =
        split(&table.texts(), parameters.seed, parameters.held_out_rows, parameters.unseen_rows);
    let run = &input.bellwire.start_key;
    let object = |key: String, body, content_type, is_marker| Object {
        location: Location { bucket: input.bucket.clone(), key },
        body,
        content_type,
        is_marker,
    };
    let csv = |key: String, body| object(key, body, "text/csv", false);

    let part_rows = split.training.len().div_ceil(parameters.parts);
    let mut objects: Vec<Object> = split
        .training
        .chunks(part_rows)
        .enumerate()
        .map(|(number, rows)| csv(format!("raw/{run}/part-{number:05}.csv"), table.rated(rows)))
        .collect();
    let manifest = Manifest {
        run: run.clone(),
        seed: parameters.seed,
        parts: objects.iter().map(|part| part.location.key.clone()).collect(),
        held_out: format!("held-out/{run}.csv"),
        unseen: format!("unseen/{run}.csv"),
    };
    objects.push(csv(manifest.held_out.clone(), table.rated(&split.held_out)));
    objects.push(csv(manifest.unseen.clone(), table.unrated(&split.unseen)));
    let body = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain JSON");
    let marker = object(format!("raw/{run}/{MARKER}"), body, "application/json", true);

    let output = output(&split, &objects, &marker);
    objects.push(marker);
    Ok((objects, output))
}

fn output(split: &crate::split::Split, objects: &[Object], marker: &Object) -> Output {
    let count = |rows: usize| rows as f64;
    let rows = split.training.len() + split.held_out.len() + split.unseen.len();
    Output {
        metrics: [
            ("rows", count(rows)),
            ("training_rows", count(split.training.len())),
            ("held_out_rows", count(split.held_out.len())),
            ("unseen_rows", count(split.unseen.len())),
            ("objects", count(objects.len() + 1)),
        ]
        .into(),
        artifacts: vec![passed_on("collection", &marker.location)],
    }
}

fn check(parameters: &Parameters, rows: usize) -> Result<(), WorkerError> {
    let refused = |field: &str, problem: String| {
        Err(input_refused(Task::Collect, &format!("request.data.parameters.{field}"), problem))
    };
    if !(1..=1_000).contains(&parameters.parts) {
        return refused("parts", format!("{} parts; 1 to 1000 are possible", parameters.parts));
    }
    if parameters.held_out_rows == 0 {
        return refused(
            "held_out_rows",
            "0; a model without held-out wines has no score".to_owned(),
        );
    }
    let taken = parameters.held_out_rows.saturating_add(parameters.unseen_rows);
    if taken.saturating_add(TRAINING_ROWS_MIN) > rows {
        let problem = format!(
            "{taken} of {rows} wines held out or unseen; at least {TRAINING_ROWS_MIN} must remain"
        );
        return refused("held_out_rows", problem);
    }
    Ok(())
}

/// The data set as texts, so that rows are written as they were read.
struct Table {
    header: csv::StringRecord,
    rows: Vec<csv::StringRecord>,
}

impl Table {
    fn read() -> Result<Self, WorkerError> {
        let refused = |problem: csv::Error| WorkerError::Data {
            object: "the wine data in the worker".to_owned(),
            problem: problem.to_string(),
        };
        let mut reader = csv::Reader::from_reader(WINES);
        let header = reader.headers().map_err(refused)?.clone();
        let rows = reader.records().collect::<Result<_, _>>().map_err(refused)?;
        Ok(Self { header, rows })
    }

    fn texts(&self) -> Vec<String> {
        self.rows.iter().map(|row| row.iter().collect::<Vec<_>>().join(",")).collect()
    }

    fn rated(&self, rows: &[usize]) -> Vec<u8> {
        wines::write_csv(
            self.header.iter().collect::<Vec<_>>(),
            rows.iter().map(|row| self.rows[*row].iter().collect()),
        )
    }

    fn unrated(&self, rows: &[usize]) -> Vec<u8> {
        let is_kept: Vec<bool> = self.header.iter().map(|column| column != QUALITY).collect();
        let kept = |row: &'_ csv::StringRecord| -> Vec<String> {
            row.iter()
                .zip(&is_kept)
                .filter(|(_, is_kept)| **is_kept)
                .map(|(text, _)| text.to_owned())
                .collect()
        };
        wines::write_csv(kept(&self.header), rows.iter().map(|row| kept(&self.rows[*row])))
    }
}
