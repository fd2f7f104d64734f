//! DynamoDB tables.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::operation::describe_table::DescribeTableOutput;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, CreateGlobalSecondaryIndexAction,
    DeleteGlobalSecondaryIndexAction, GlobalSecondaryIndex, GlobalSecondaryIndexUpdate,
    IndexStatus, KeySchemaElement, KeyType, PointInTimeRecoverySpecification,
    PointInTimeRecoveryStatus, Projection, ProjectionType, ScalarAttributeType, TableDescription,
    TableStatus, Tag, TimeToLiveSpecification, TimeToLiveStatus,
};
use bellwire_ledger::PROBE_KEY_PREFIX;
use serde::{Deserialize, Serialize};

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::lease::LEASE_KEY;
use crate::record::RECORD_KEY;
use crate::resource::{Kind, Observed, Owner, Properties, ResourceId, Tags, own_tags};
use crate::wait::{Patience, poll};

/// A table and its indexes take seconds to become active, at AWS a minute at times.
const ACTIVE_WITHIN: Patience = Patience {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(5),
    total: Duration::from_secs(600),
};

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// Its key.
    pub key: Key,
    /// Its global secondary indexes, by name.
    pub indexes: BTreeMap<String, Key>,
    /// The attribute that holds a row's expiry, as epoch seconds.
    pub expiry_attribute: Option<String>,
    /// Whether it can be restored to any second of the last 35 days.
    pub point_in_time_recovery: bool,
    /// Whether it refuses to be deleted.
    pub deletion_protection: bool,
    /// Its tags, as far as they are ours.
    pub tags: Tags,
}

/// The key of a table or of an index, which projects all attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The attribute that it is partitioned by.
    pub hash: KeyAttribute,
    /// The attribute that it is sorted by.
    pub range: Option<KeyAttribute>,
}

/// An attribute of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyAttribute {
    /// Its name.
    pub name: String,
    /// Its type: `S` or `N`.
    pub scalar: String,
}

impl KeyAttribute {
    /// A text.
    #[must_use]
    pub fn text(name: &str) -> Self {
        Self { name: name.to_owned(), scalar: "S".to_owned() }
    }

    /// A number.
    #[must_use]
    pub fn number(name: &str) -> Self {
        Self { name: name.to_owned(), scalar: "N".to_owned() }
    }
}

impl Key {
    fn schema(&self) -> Vec<KeySchemaElement> {
        let element = |attribute: &KeyAttribute, key_type: KeyType| {
            KeySchemaElement::builder()
                .attribute_name(&attribute.name)
                .key_type(key_type)
                .build()
                .expect("name and type are set")
        };
        let range = self.range.iter().map(|attribute| element(attribute, KeyType::Range));
        [element(&self.hash, KeyType::Hash)].into_iter().chain(range).collect()
    }

    fn attributes(&self) -> impl Iterator<Item = &KeyAttribute> {
        [&self.hash].into_iter().chain(&self.range)
    }
}

impl Table {
    pub(crate) fn summary(&self) -> String {
        let mut facts = vec![format!("{} indexes", self.indexes.len())];
        facts.extend(self.point_in_time_recovery.then(|| "point-in-time recovery".to_owned()));
        facts.extend(self.deletion_protection.then(|| "protected".to_owned()));
        facts.join(", ")
    }

    fn attribute_definitions(&self) -> Vec<AttributeDefinition> {
        let keys = [&self.key].into_iter().chain(self.indexes.values());
        let attributes: BTreeMap<&str, &str> = keys
            .flat_map(Key::attributes)
            .map(|attribute| (attribute.name.as_str(), attribute.scalar.as_str()))
            .collect();
        let definition = |(name, scalar)| {
            AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::from(scalar))
                .build()
                .expect("name and type are set")
        };
        attributes.into_iter().map(definition).collect()
    }

    fn tag_list(&self) -> Vec<Tag> {
        let tag = |(key, value): (&String, &String)| {
            Tag::builder().key(key).value(value).build().expect("key and value are set")
        };
        self.tags.iter().map(tag).collect()
    }
}

fn project_all() -> Projection {
    Projection::builder().projection_type(ProjectionType::All).build()
}

async fn describe(aws: &Aws, name: &str) -> Result<Option<DescribeTableOutput>, CallError> {
    let table = aws.dynamodb.describe_table().table_name(name).send().await;
    absent_is_none(table.map_err(failed("dynamodb:DescribeTable", name)))
}

pub(crate) async fn observe(
    aws: &Aws,
    owner: &Owner,
    name: &str,
) -> Result<Option<Observed>, CallError> {
    let Some(table) = describe(aws, name).await?.and_then(|found| found.table) else {
        return Ok(None);
    };
    if table.table_status() == Some(&TableStatus::Deleting) {
        return Ok(None);
    }
    let arn = owner.place.table_arn(name);
    let expiry = aws.dynamodb.describe_time_to_live().table_name(name).send().await;
    let expiry = expiry.map_err(failed("dynamodb:DescribeTimeToLive", name))?;
    let expiry = expiry.time_to_live_description.filter(|expiry| {
        use TimeToLiveStatus::{Enabled, Enabling};
        matches!(expiry.time_to_live_status(), Some(Enabled | Enabling))
    });
    let backups = aws.dynamodb.describe_continuous_backups().table_name(name).send().await;
    let backups = backups.map_err(failed("dynamodb:DescribeContinuousBackups", name))?;
    let recovery = backups
        .continuous_backups_description
        .and_then(|backups| backups.point_in_time_recovery_description)
        .and_then(|recovery| recovery.point_in_time_recovery_status);
    let tags = match aws.known.tags_of(&arn) {
        Some(tags) => tags,
        None => tags_of(aws, &arn).await?,
    };
    let owned = owner.owns(&tags);
    let is_asked = owned && aws.known.data_matters(&ResourceId::new(Kind::Table, name));
    let data = (is_asked && has_rows(aws, name).await?).then(|| "rows".to_owned());
    let table = Table {
        name: name.to_owned(),
        arn,
        key: key_of(&table, table.key_schema()),
        indexes: indexes_of(&table),
        expiry_attribute: expiry.and_then(|expiry| expiry.attribute_name),
        point_in_time_recovery: recovery == Some(PointInTimeRecoveryStatus::Enabled),
        deletion_protection: table.deletion_protection_enabled() == Some(true),
        tags,
    };
    Ok(Some(Observed { owned, data, ..Observed::ours(Properties::Table(table)) }))
}

async fn tags_of(aws: &Aws, arn: &str) -> Result<Tags, CallError> {
    let tags = aws.dynamodb.list_tags_of_resource().resource_arn(arn).send().await;
    let tags = tags.map_err(failed("dynamodb:ListTagsOfResource", arn))?;
    Ok(own_tags(tags.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned()))))
}

fn key_of(table: &TableDescription, schema: &[KeySchemaElement]) -> Key {
    let attribute = |key_type: &KeyType| {
        let element = schema.iter().find(|element| element.key_type() == key_type)?;
        let name = element.attribute_name();
        let definitions = table.attribute_definitions();
        let scalar = definitions.iter().find(|definition| definition.attribute_name() == name);
        let scalar = scalar.map_or("?", |definition| definition.attribute_type().as_str());
        Some(KeyAttribute { name: name.to_owned(), scalar: scalar.to_owned() })
    };
    let hash = attribute(&KeyType::Hash).unwrap_or_else(|| KeyAttribute::text("?"));
    Key { hash, range: attribute(&KeyType::Range) }
}

fn indexes_of(table: &TableDescription) -> BTreeMap<String, Key> {
    let indexes = table.global_secondary_indexes().iter();
    indexes
        .filter(|index| index.index_status() != Some(&IndexStatus::Deleting))
        .filter_map(|index| {
            let mut key = key_of(table, index.key_schema());
            let projection = index.projection().and_then(Projection::projection_type);
            if projection != Some(&ProjectionType::All) {
                // An index of ours that projects less is not the index we need.
                key.hash.name.push_str(" (projects less than all)");
            }
            Some((index.index_name()?.to_owned(), key))
        })
        .collect()
}

/// Rows that are looked at to find one that is data: more than there are of ours.
const ROWS_LOOKED_AT: i32 = 20;

/// Whether there is any row but those of applies, which are ours.
async fn has_rows(aws: &Aws, name: &str) -> Result<bool, CallError> {
    let rows = aws.dynamodb.scan().table_name(name).limit(ROWS_LOOKED_AT);
    let rows = rows.projection_expression("pk").send().await;
    let rows = rows.map_err(failed("dynamodb:Scan", name))?;
    let is_ours = |row: &std::collections::HashMap<String, AttributeValue>| {
        let key = row.get("pk").and_then(|key| key.as_s().ok());
        key.is_some_and(|key| {
            [LEASE_KEY, RECORD_KEY].contains(&key.as_str()) || key.starts_with(PROBE_KEY_PREFIX)
        })
    };
    Ok(rows.items().iter().any(|row| !is_ours(row)))
}

pub(crate) async fn create(aws: &Aws, table: &Table) -> Result<(), CallError> {
    let index = |(name, key): (&String, &Key)| {
        GlobalSecondaryIndex::builder()
            .index_name(name)
            .set_key_schema(Some(key.schema()))
            .projection(project_all())
            .build()
            .expect("name and key are set")
    };
    let created = aws
        .dynamodb
        .create_table()
        .table_name(&table.name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_key_schema(Some(table.key.schema()))
        .set_attribute_definitions(Some(table.attribute_definitions()))
        .set_global_secondary_indexes(Some(table.indexes.iter().map(index).collect()))
        .deletion_protection_enabled(table.deletion_protection)
        .set_tags(Some(table.tag_list()))
        .send()
        .await;
    match created.map_err(failed("dynamodb:CreateTable", &table.name)) {
        Err(error) if !error.is_code(&["ResourceInUseException"]) => return Err(error),
        _ => {}
    }
    wait_until_active(aws, &table.name).await?;
    set_expiry(aws, table).await?;
    set_recovery(aws, table).await
}

async fn wait_until_active(aws: &Aws, name: &str) -> Result<(), CallError> {
    let is_active = async || {
        let table = describe(aws, name).await?.and_then(|found| found.table);
        Ok(table.is_some_and(|table| {
            let indexes = table.global_secondary_indexes();
            table.table_status() == Some(&TableStatus::Active)
                && indexes.iter().all(|index| index.index_status() == Some(&IndexStatus::Active))
        }))
    };
    if poll(&ACTIVE_WITHIN, is_active).await? {
        return Ok(());
    }
    let message = "it did not become active in time; apply again";
    Err(CallError::unexpected("dynamodb:DescribeTable", name, message))
}

async fn set_expiry(aws: &Aws, table: &Table) -> Result<(), CallError> {
    let Some(attribute) = &table.expiry_attribute else {
        return Ok(());
    };
    let specification =
        TimeToLiveSpecification::builder().attribute_name(attribute).enabled(true).build();
    let specification = specification.expect("attribute and switch are set");
    let set = aws.dynamodb.update_time_to_live().table_name(&table.name);
    let set = set.time_to_live_specification(specification).send().await;
    match set.map_err(failed("dynamodb:UpdateTimeToLive", &table.name)) {
        Err(error) if !error.says("already enabled") => Err(error),
        _ => Ok(()),
    }
}

async fn set_recovery(aws: &Aws, table: &Table) -> Result<(), CallError> {
    let specification = PointInTimeRecoverySpecification::builder()
        .point_in_time_recovery_enabled(table.point_in_time_recovery)
        .build()
        .expect("the switch is set");
    // Backups are not ready for a while after the table is.
    let set = async || {
        let set = aws.dynamodb.update_continuous_backups().table_name(&table.name);
        let set = set.point_in_time_recovery_specification(specification.clone()).send().await;
        match set.map_err(failed("dynamodb:UpdateContinuousBackups", &table.name)) {
            Ok(_) => Ok(true),
            Err(error) if error.is_code(&["ContinuousBackupsUnavailableException"]) => Ok(false),
            Err(error) => Err(error),
        }
    };
    if poll(&ACTIVE_WITHIN, set).await? {
        return Ok(());
    }
    let message = "backups did not become available in time; apply again";
    Err(CallError::unexpected("dynamodb:UpdateContinuousBackups", &table.name, message))
}

async fn set_protection(aws: &Aws, name: &str, protect: bool) -> Result<(), CallError> {
    let set = aws.dynamodb.update_table().table_name(name).deletion_protection_enabled(protect);
    set.send().await.map_err(failed("dynamodb:UpdateTable", name))?;
    Ok(())
}

pub(crate) async fn update(aws: &Aws, table: &Table, observed: &Table) -> Result<(), CallError> {
    wait_until_active(aws, &table.name).await?;
    if table.deletion_protection != observed.deletion_protection {
        set_protection(aws, &table.name, table.deletion_protection).await?;
    }
    if table.expiry_attribute != observed.expiry_attribute {
        set_expiry(aws, table).await?;
    }
    if table.point_in_time_recovery != observed.point_in_time_recovery {
        set_recovery(aws, table).await?;
    }
    if table.tags != observed.tags {
        let tagged = aws.dynamodb.tag_resource().resource_arn(&table.arn);
        let tagged = tagged.set_tags(Some(table.tag_list())).send().await;
        tagged.map_err(failed("dynamodb:TagResource", &table.arn))?;
    }
    // DynamoDB takes one change of an index at a time.
    for (name, key) in &observed.indexes {
        if table.indexes.get(name) != Some(key) {
            let delete = DeleteGlobalSecondaryIndexAction::builder().index_name(name).build();
            let delete = delete.expect("the name is set");
            let change = GlobalSecondaryIndexUpdate::builder().delete(delete).build();
            change_index(aws, table, change).await?;
        }
    }
    for (name, key) in &table.indexes {
        if observed.indexes.get(name) != Some(key) {
            let create = CreateGlobalSecondaryIndexAction::builder()
                .index_name(name)
                .set_key_schema(Some(key.schema()))
                .projection(project_all())
                .build()
                .expect("name and key are set");
            let change = GlobalSecondaryIndexUpdate::builder().create(create).build();
            change_index(aws, table, change).await?;
        }
    }
    Ok(())
}

async fn change_index(
    aws: &Aws,
    table: &Table,
    change: GlobalSecondaryIndexUpdate,
) -> Result<(), CallError> {
    aws.dynamodb
        .update_table()
        .table_name(&table.name)
        .set_attribute_definitions(Some(table.attribute_definitions()))
        .global_secondary_index_updates(change)
        .send()
        .await
        .map_err(failed("dynamodb:UpdateTable", &table.name))?;
    wait_until_active(aws, &table.name).await
}

/// Deletes a table; one that has rows only where `with_data` says so.
pub(crate) async fn delete(aws: &Aws, table: &Table, with_data: bool) -> Result<(), CallError> {
    let name = &table.name;
    if describe(aws, name).await?.is_none() {
        return Ok(());
    }
    if !with_data && has_rows(aws, name).await? {
        let message = "it holds rows by now; name it to delete it all the same";
        return Err(CallError::unexpected("dynamodb:DeleteTable", name, message));
    }
    if table.deletion_protection {
        set_protection(aws, name, false).await?;
    }
    let deleted = aws.dynamodb.delete_table().table_name(name).send().await;
    absent_is_done(deleted.map_err(failed("dynamodb:DeleteTable", name)))?;
    let is_gone = async || Ok(describe(aws, name).await?.is_none());
    if poll(&ACTIVE_WITHIN, is_gone).await? {
        return Ok(());
    }
    let message = "it was not gone in time; destroy again";
    Err(CallError::unexpected("dynamodb:DescribeTable", name, message))
}
