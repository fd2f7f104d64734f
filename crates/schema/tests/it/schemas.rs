use std::path::Path;

use bellwire_schema::{Envelope, EventType, schemas};
use serde_json::{Value, json};

fn committed(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// With `BELLWIRE_UPDATE_SCHEMAS=1` the committed files are written instead.
#[test]
fn the_committed_schemas_are_the_generated_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let update = std::env::var_os("BELLWIRE_UPDATE_SCHEMAS").is_some();
    let mut names = Vec::new();
    for (name, schema) in schemas::all() {
        if update {
            let text = serde_json::to_string_pretty(&schema).unwrap();
            std::fs::write(folder.join(&name), text + "\n").unwrap();
        }
        assert_eq!(
            committed(&name),
            serde_json::to_value(schema).unwrap(),
            "schemas/{name} is not what the types say; run the test with BELLWIRE_UPDATE_SCHEMAS=1"
        );
        names.push(name);
    }
    let stray: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !names.contains(name))
        .collect();
    assert!(stray.is_empty(), "no type has these schemas: {stray:?}");
}

#[test]
fn every_schema_is_valid_and_every_type_has_one() {
    let names: Vec<String> = schemas::all().into_iter().map(|(name, _)| name).collect();
    for name in &names {
        jsonschema::meta::validate(&committed(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for event_type in EventType::known() {
        assert!(names.contains(&format!("{event_type}.json")), "{event_type}");
    }
}

#[test]
fn an_envelope_validates_against_its_schema() {
    let validator = jsonschema::validator_for(&committed("envelope.json")).unwrap();
    let event = super::envelope::full_event().to_value();
    let errors: Vec<_> = validator.iter_errors(&event).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");

    let payloads = committed("ml.data.arrived.v1.json");
    let payloads = jsonschema::validator_for(&payloads).unwrap();
    assert!(payloads.is_valid(&event["data"]));
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let validator = jsonschema::validator_for(&committed("envelope.json")).unwrap();
    let valid =
        json!({ "specversion": "1.0", "id": "1", "source": "/a", "type": "ml.data.arrived.v1" });
    assert!(validator.is_valid(&valid));
    for (name, value) in [
        ("specversion", json!("0.3")),
        ("id", json!("")),
        ("source", Value::Null),
        ("type", json!("arrived")),
        ("stage", json!("testing")),
        ("hop", json!(-1)),
        ("time", json!(5)),
    ] {
        let mut bad = valid.clone();
        bad[name] = value;
        assert!(!validator.is_valid(&bad), "{name}");
        if name != "time" || bad[name] != Value::Null {
            assert!(Envelope::from_value(bad).is_err(), "{name}");
        }
    }
}
