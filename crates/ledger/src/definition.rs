use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};

use crate::table::{BY_DAY_INDEX, BY_DUE_INDEX, BY_RUN_INDEX};

/// The attribute that DynamoDB's time to live looks at, in epoch seconds.
pub const EXPIRY_ATTRIBUTE: &str = "expires_at";

/// The table's key.
pub const KEY: &str = "pk";

/// The table's indexes: name, hash key, range key.
pub const INDEXES: [(&str, &str, Option<&str>); 3] = [
    (BY_RUN_INDEX, "run_arn", None),
    (BY_DUE_INDEX, "due_shard", Some("due_at")),
    (BY_DAY_INDEX, "day_shard", Some("claimed_at")),
];

/// The request that makes a ledger's table: its keys and indexes, paid per
/// request. Whoever sends it adds tags and protection of their own.
#[must_use]
pub fn create_table_request(client: &Client, table: &str) -> CreateTableFluentBuilder {
    let mut request = client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key(KEY, KeyType::Hash))
        .attribute_definitions(attribute(KEY));
    for (name, hash, range) in INDEXES {
        let mut index = GlobalSecondaryIndex::builder()
            .index_name(name)
            .key_schema(key(hash, KeyType::Hash))
            .projection(Projection::builder().projection_type(ProjectionType::All).build());
        request = request.attribute_definitions(attribute(hash));
        if let Some(range) = range {
            index = index.key_schema(key(range, KeyType::Range));
            request = request.attribute_definitions(attribute(range));
        }
        request = request.global_secondary_indexes(index.build().expect("name and keys are set"));
    }
    request
}

fn key(name: &str, kind: KeyType) -> KeySchemaElement {
    let element = KeySchemaElement::builder().attribute_name(name).key_type(kind);
    element.build().expect("name and type are set")
}

/// Keys are text, but for the instant at which something is due.
fn attribute(name: &str) -> AttributeDefinition {
    let kind = match name {
        "due_at" => ScalarAttributeType::N,
        _ => ScalarAttributeType::S,
    };
    let definition = AttributeDefinition::builder().attribute_name(name).attribute_type(kind);
    definition.build().expect("name and type are set")
}
