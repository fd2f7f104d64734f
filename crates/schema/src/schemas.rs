//! The JSON Schemas of the envelope, of every payload and of the dead letter:
//! generated from the types, committed under `schemas/`, checked for drift.

use schemars::{JsonSchema, Schema, generate::SchemaSettings};

use crate::dead_letter::DeadLetter;
use crate::envelope::Envelope;
use crate::event_type::{Stage, StageVerb};
use crate::gathered::{DataGathered, GATHERED_TYPE};
use crate::payload::{
    DataArrived, DataRemoved, StageCompleted, StageFailed, StageRequested, StageStarted,
};

/// Every schema by its file name: `envelope.json`, `dead-letter.json`, and one
/// `<type>.json` for the payload of each event type.
///
/// ```
/// let names: Vec<_> = bellwire_schema::schemas::all().into_iter().map(|(name, _)| name).collect();
/// assert!(names.contains(&"ml.training.completed.v1.json".to_owned()));
/// ```
#[must_use]
pub fn all() -> Vec<(String, Schema)> {
    let mut schemas = vec![
        ("envelope.json".to_owned(), schema_of::<Envelope>()),
        ("dead-letter.json".to_owned(), schema_of::<DeadLetter>()),
        ("ml.data.arrived.v1.json".to_owned(), schema_of::<DataArrived>()),
        ("ml.data.removed.v1.json".to_owned(), schema_of::<DataRemoved>()),
        (format!("{GATHERED_TYPE}.json"), schema_of::<DataGathered>()),
    ];
    for stage in Stage::ALL {
        for verb in StageVerb::ALL {
            let schema = match verb {
                StageVerb::Requested => schema_of::<StageRequested>(),
                StageVerb::Started => schema_of::<StageStarted>(),
                StageVerb::Completed => schema_of::<StageCompleted>(),
                StageVerb::Failed => schema_of::<StageFailed>(),
            };
            schemas.push((format!("{}.json", stage.event(verb)), schema));
        }
    }
    schemas
}

fn schema_of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>()
}
