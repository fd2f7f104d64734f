//! The record of the last apply, a row of the ledger: what it left, by which changes that
//! were made by hand are told from changes of the workflow file; which versions served
//! before it, for a rollback; and a number, by which a plan knows that another apply was
//! faster. Nothing depends on it but these three: what there is, AWS itself is asked.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::aws::Aws;
use crate::diff::{SECRET, fields_of};
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::resource::{Properties, ResourceId};

/// The key of the record's row.
pub(crate) const RECORD_KEY: &str = "record#apply";
/// Fields of which the hash is kept: they are long, and shown as changed and no more.
const HASHED: [&str; 2] = ["body", "definition"];
/// The longest text of all resources that a row takes, with room for the rest of it.
/// Source: Amazon DynamoDB developer guide, "Service quotas": an item is 400 KB at most.
const RESOURCES_BYTES_MAX: usize = 380_000;

/// What a plan must know of the record.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct RecordSeen {
    /// How many applies there were; 0: none.
    pub generation: u64,
    /// Whether the last of them was done whole.
    pub is_whole: bool,
}

/// The record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// What a plan must know.
    pub seen: RecordSeen,
    /// Who applied last, and when.
    pub holder: String,
    /// What there is since then, as fields; values that may be secret are hashed.
    pub resources: BTreeMap<ResourceId, Map<String, Value>>,
    /// How many more there are that the row has no room for.
    pub left_out: u64,
    /// By function: the version that its alias served before.
    pub served_before: BTreeMap<String, String>,
}

/// Properties as the record keeps them.
pub(crate) fn recorded(properties: &Properties) -> Map<String, Value> {
    let mut fields = fields_of(properties);
    fields.iter_mut().for_each(|(name, value)| conceal(name, value));
    fields
}

/// Puts hashes in the place of values that may be secret, and of those that are long.
fn conceal(name: &str, value: &mut Value) {
    match value {
        Value::Object(variables) if name == SECRET => {
            variables.values_mut().for_each(|value| *value = hash_of(value));
        }
        value if HASHED.contains(&name) => *value = hash_of(value),
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| conceal(name, value)),
        _ => {}
    }
}

fn hash_of(value: &Value) -> Value {
    let hash = Sha256::digest(value.to_string());
    json!(base64::engine::general_purpose::STANDARD_NO_PAD.encode(&hash[..12]))
}

/// All resources in one text, up to what a row takes; and how many are left out.
fn text_of(wanted: &[Properties]) -> (String, usize) {
    let mut all: Vec<(ResourceId, Map<String, Value>)> =
        wanted.iter().map(|properties| (properties.id(), recorded(properties))).collect();
    let mut text = json!(all).to_string();
    while text.len() > RESOURCES_BYTES_MAX && all.pop().is_some() {
        text = json!(all).to_string();
    }
    (text, wanted.len() - all.len())
}

fn key() -> AttributeValue {
    AttributeValue::S(RECORD_KEY.to_owned())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn number_in(value: &AttributeValue) -> u64 {
    value.as_n().ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn seen_in(row: &HashMap<String, AttributeValue>) -> RecordSeen {
    let generation = row.get("generation").map_or(0, number_in);
    RecordSeen { generation, is_whole: generation > 0 && !row.contains_key("unfinished") }
}

/// What a plan must know; nothing where nothing was applied.
pub(crate) async fn seen(aws: &Aws, table: &str) -> Result<RecordSeen, CallError> {
    let found = aws.dynamodb.get_item().table_name(table).key("pk", key()).consistent_read(true);
    let found = found.projection_expression("generation, unfinished").send().await;
    let found = absent_is_none(found.map_err(failed("dynamodb:GetItem", table)))?;
    let row = found.and_then(|found| found.item);
    Ok(row.map(|row| seen_in(&row)).unwrap_or_default())
}

/// The whole record; `None` where nothing was applied.
pub(crate) async fn read(aws: &Aws, table: &str) -> Result<Option<Record>, CallError> {
    let found = aws.dynamodb.get_item().table_name(table).key("pk", key()).consistent_read(true);
    let found = found.send().await.map_err(failed("dynamodb:GetItem", table));
    let Some(row) = absent_is_none(found)?.and_then(|found| found.item) else {
        return Ok(None);
    };
    let text = |name: &str| row.get(name).and_then(|value| value.as_s().ok()).cloned();
    let served = row.get("served_before").and_then(|value| value.as_m().ok());
    let served = served
        .into_iter()
        .flatten()
        .filter_map(|(function, version)| Some((function.clone(), version.as_s().ok()?.clone())));
    let resources: Vec<(ResourceId, Map<String, Value>)> =
        serde_json::from_str(&text("resources").unwrap_or_default()).unwrap_or_default();
    Ok(Some(Record {
        seen: seen_in(&row),
        holder: text("holder").unwrap_or_default(),
        resources: resources.into_iter().collect(),
        left_out: row.get("left_out").map_or(0, number_in),
        served_before: served.collect(),
    }))
}

/// Writes down that an apply has begun; `false` where another one was faster than the plan
/// that `seen` is of. What served before an apply that was not finished still did.
pub(crate) async fn begin(
    aws: &Aws,
    table: &str,
    seen: &RecordSeen,
    holder: &str,
) -> Result<bool, CallError> {
    let update = aws.dynamodb.update_item().table_name(table).key("pk", key());
    let forget = if seen.is_whole || seen.generation == 0 { ", served_before = :none" } else { "" };
    let mut update = update
        .update_expression(format!(
            "SET generation = :next, holder = :holder, unfinished = :yes{forget}"
        ))
        .expression_attribute_values(":next", number(seen.generation + 1))
        .expression_attribute_values(":holder", AttributeValue::S(holder.to_owned()))
        .expression_attribute_values(":yes", AttributeValue::Bool(true));
    if !forget.is_empty() {
        update = update.expression_attribute_values(":none", AttributeValue::M(HashMap::default()));
    }
    update = match seen.generation {
        0 => update.condition_expression("attribute_not_exists(pk)"),
        generation => update
            .condition_expression("generation = :seen")
            .expression_attribute_values(":seen", number(generation)),
    };
    match update.send().await.map_err(failed("dynamodb:UpdateItem", table)) {
        Err(error) if error.is_code(&["ConditionalCheckFailedException"]) => Ok(false),
        Err(error) => Err(error),
        Ok(_) => Ok(true),
    }
}

/// Writes down which version an alias serves, before it is moved.
pub(crate) async fn served(
    aws: &Aws,
    table: &str,
    function: &str,
    version: &str,
) -> Result<(), CallError> {
    let update = aws.dynamodb.update_item().table_name(table).key("pk", key());
    let update = update
        .update_expression(
            "SET served_before.#function = if_not_exists(served_before.#function, :version)",
        )
        .expression_attribute_names("#function", function)
        .expression_attribute_values(":version", AttributeValue::S(version.to_owned()));
    update.send().await.map_err(failed("dynamodb:UpdateItem", table))?;
    Ok(())
}

/// Writes down what an apply has left that was done whole. Where the table is gone there
/// is nothing to write it to, and nothing left.
pub(crate) async fn finish(aws: &Aws, table: &str, wanted: &[Properties]) -> Result<(), CallError> {
    let update = aws.dynamodb.update_item().table_name(table).key("pk", key());
    let (text, left_out) = text_of(wanted);
    let update = update
        .update_expression("SET resources = :resources, left_out = :left_out REMOVE unfinished")
        .condition_expression("attribute_exists(pk)")
        .expression_attribute_values(":resources", AttributeValue::S(text))
        .expression_attribute_values(":left_out", number(left_out as u64));
    match absent_is_done(update.send().await.map_err(failed("dynamodb:UpdateItem", table))) {
        Err(error) if !error.is_code(&["ConditionalCheckFailedException"]) => Err(error),
        _ => Ok(()),
    }
}

/// Writes down what a rollback has left: what the aliases serve now, before which nothing
/// is known to have served.
pub(crate) async fn rolled_back(
    aws: &Aws,
    table: &str,
    mut record: Record,
    aliases: &[Properties],
) -> Result<(), CallError> {
    for alias in aliases {
        record.resources.insert(alias.id(), recorded(alias));
    }
    let resources: Vec<(&ResourceId, &Map<String, Value>)> = record.resources.iter().collect();
    let update = aws.dynamodb.update_item().table_name(table).key("pk", key());
    let update = update
        .update_expression("SET resources = :resources, served_before = :none")
        .condition_expression("generation = :seen")
        .expression_attribute_values(":resources", AttributeValue::S(json!(resources).to_string()))
        .expression_attribute_values(":none", AttributeValue::M(HashMap::default()))
        .expression_attribute_values(":seen", number(record.seen.generation));
    update.send().await.map_err(failed("dynamodb:UpdateItem", table))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::desired;
    use crate::testing::{inputs, owner, workflow};

    #[test]
    fn no_value_of_an_environment_variable_is_recorded() {
        let mut workflow = workflow();
        workflow.handler.environment.insert("TOKEN".to_owned(), "hush".to_owned());
        let desired = desired(&owner(), &workflow, &inputs());
        let wanted: Vec<Properties> = desired.into_iter().map(|one| one.properties).collect();
        let (text, left_out) = text_of(&wanted);
        assert_eq!(left_out, 0);
        assert!(text.contains("TOKEN"), "that it is set is");
        assert!(!text.contains("hush"), "{text}");
        // Of the handler, and of its alias.
        workflow.handler.environment.insert("TOKEN".to_owned(), "other".to_owned());
        let other = crate::desired::desired(&owner(), &workflow, &inputs());
        let other: Vec<Properties> = other.into_iter().map(|one| one.properties).collect();
        let differ = wanted.iter().zip(&other).filter(|(a, b)| recorded(a) != recorded(b));
        assert_eq!(differ.count(), 2);
    }
}
