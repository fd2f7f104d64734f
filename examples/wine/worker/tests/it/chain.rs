//! The four jobs in the order in which events start them, on a lake in memory:
//! what one job says of its objects is all that the next one is told.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wine_worker::{Object, Output, WorkerError, collect, evaluate, predict, train};

use crate::workflow_file::{input, starts_on, trigger};
use crate::{RUN, typed};

/// The objects of a chain, by key, and the outputs of its jobs.
struct Chain {
    lake: BTreeMap<String, Vec<u8>>,
    outputs: BTreeMap<&'static str, Output>,
}

impl Chain {
    fn run(parameters: &Value) -> Self {
        let mut chain = Self { lake: BTreeMap::new(), outputs: BTreeMap::new() };
        chain.put("collect", collect::collect(&collect_input(parameters)).unwrap());

        let arrived = json!({
            "type": "ml.data.arrived.v1",
            "dataset": "wine",
            "data": {"bucket": "wine-lake", "key": format!("raw/{RUN}/_SUCCESS"), "size_bytes": 436},
        });
        let read: train::Input = typed(started_by("train", &arrived));
        let manifest =
            train::read_manifest(&read.marker(), chain.body(&read.marker().key)).unwrap();
        let parts: Vec<Vec<u8>> =
            manifest.parts.iter().map(|key| chain.body(key).to_vec()).collect();
        let trained = train::train(&read, &manifest, &parts).unwrap();
        chain.put("train", trained);

        let read: evaluate::Input =
            typed(started_by("evaluate", &chain.completed("training", "train")));
        let [model, held_out] =
            [read.model(), read.held_out()].map(|at| chain.body(&at.unwrap().key));
        let evaluated = evaluate::evaluate(&read, model, held_out).unwrap();
        chain.put("evaluate", evaluated);

        let read: predict::Input =
            typed(started_by("predict", &chain.completed("evaluation", "evaluate")));
        let [model, unseen] = [read.model(), read.unseen()].map(|at| chain.body(&at.unwrap().key));
        let predicted = predict::predict(&read, model, unseen).unwrap();
        chain.put("predict", predicted);
        chain
    }

    /// Bellwire lifts a run's metrics and artifacts into its completion.
    fn completed(&self, stage: &str, job: &str) -> Value {
        let data = serde_json::to_value(&self.outputs[job]).unwrap();
        json!({"type": format!("ml.{stage}.completed.v1"), "dataset": "wine", "data": data})
    }

    fn put(&mut self, job: &'static str, (objects, output): (Vec<Object>, Output)) {
        for object in objects {
            let before = self.lake.insert(object.location.key.clone(), object.body);
            assert_eq!(before, None, "{} is written twice", object.location);
        }
        self.outputs.insert(job, output);
    }

    fn body(&self, key: &str) -> &[u8] {
        &self.lake[key]
    }

    fn rows(&self, key: &str) -> Vec<&str> {
        std::str::from_utf8(self.body(key)).unwrap().lines().skip(1).collect()
    }

    fn metric(&self, job: &str, name: &str) -> f64 {
        self.outputs[job].metrics[name]
    }
}

fn started_by(name: &str, event: &Value) -> Value {
    let trigger = trigger(name);
    assert!(starts_on(&trigger, event), "{name} does not start on {event}");
    input(&trigger, event)
}

fn collect_input(parameters: &Value) -> collect::Input {
    let data = json!({"parameters": parameters});
    typed(started_by(
        "collect",
        &json!({"id": "r-1", "type": "ml.collection.requested.v1", "data": data}),
    ))
}

fn numbers(row: &str) -> Vec<f64> {
    row.split(',').map(|text| text.parse().unwrap()).collect()
}

#[test]
fn every_wine_has_its_place_and_only_one() {
    let chain = Chain::run(&json!({}));
    let shares = ["training_rows", "held_out_rows", "unseen_rows"]
        .map(|share| chain.metric("collect", share));
    assert_eq!(shares, [959.0, 320.0, 320.0]);
    assert_eq!(chain.metric("collect", "rows"), 1_599.0);

    let parts: Vec<&String> = chain.lake.keys().filter(|key| key.contains("/part-")).collect();
    assert_eq!(parts.len(), 4);
    let training: Vec<&str> = parts.iter().flat_map(|key| chain.rows(key)).collect();
    assert_eq!(training.len(), 959);
    let held_out = chain.rows(&format!("held-out/{RUN}.csv"));
    assert!(held_out.iter().all(|row| !training.contains(row)), "a held-out wine was trained on");
    let unseen = chain.rows(&format!("unseen/{RUN}.csv"));
    assert!(
        unseen.iter().all(|row| row.split(',').count() == 11),
        "the quality of an unseen wine is told"
    );
}

#[test]
fn each_unseen_wine_gets_a_prediction() {
    let chain = Chain::run(&json!({"unseen_rows": 100}));
    let predictions = chain.rows(&format!("predictions/{RUN}.csv"));
    assert_eq!(predictions.len(), 100);
    assert_eq!(chain.metric("predict", "rows"), 100.0);
    for (predicted, wine) in predictions.iter().zip(chain.rows(&format!("unseen/{RUN}.csv"))) {
        let (measurements, quality) = predicted.rsplit_once(',').unwrap();
        assert!((3..=8).contains(&quality.parse::<u8>().unwrap()), "{predicted}");
        assert_eq!(numbers(measurements), numbers(wine));
    }
}

/// `Chain::run` asserts that the trigger `predict` starts: no seed was chosen for it.
#[test]
fn the_model_beats_the_baseline_whatever_the_seed() {
    for seed in [1, 2, 3, 42] {
        let chain = Chain::run(&json!({"seed": seed}));
        let [accuracy, baseline] =
            ["accuracy", "baseline_accuracy"].map(|name| chain.metric("evaluate", name));
        assert!(
            accuracy > baseline + 0.05,
            "seed {seed}: {accuracy} is hardly better than {baseline}"
        );
        assert_eq!(chain.metric("evaluate", "rows"), 320.0);
    }
}

#[test]
fn a_poor_model_predicts_nothing() {
    let event = |accuracy: f64| {
        let data = json!({"metrics": {"accuracy": accuracy}, "artifacts": []});
        json!({"type": "ml.evaluation.completed.v1", "data": data})
    };
    assert!(!starts_on(&trigger("predict"), &event(0.49)));
    assert!(starts_on(&trigger("predict"), &event(0.5)));
}

#[test]
fn the_same_request_gives_the_same_bytes() {
    let parameters = json!({"seed": 7, "parts": 3});
    let [one, two] = [Chain::run(&parameters), Chain::run(&parameters)];
    assert_eq!(one.outputs, two.outputs);
    assert!(one.lake == two.lake, "an object differs");
    let other = Chain::run(&json!({"seed": 8, "parts": 3}));
    assert!(one.lake != other.lake);
}

#[test]
fn a_request_without_data_has_its_defaults() {
    let event = json!({"id": "r-1", "type": "ml.collection.requested.v1"});
    let (_, output) = collect::collect(&typed(started_by("collect", &event))).unwrap();
    assert_eq!(output.metrics["training_rows"], 959.0);
}

#[test]
fn parameters_that_cannot_be_are_refused_with_their_place() {
    for (parameters, place, problem) in [
        (json!({"parts": 0}), "request.data.parameters.parts", "1 to 1000"),
        (json!({"held_out_rows": 0}), "request.data.parameters.held_out_rows", "no score"),
        (
            json!({"held_out_rows": 1_599}),
            "request.data.parameters.held_out_rows",
            "at least 100 must remain",
        ),
    ] {
        let error = collect::collect(&collect_input(&parameters)).unwrap_err();
        assert!(matches!(&error, WorkerError::Input { field, .. } if field == place), "{error}");
        assert!(error.to_string().contains(problem), "{error}");
    }
}
