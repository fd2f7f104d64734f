//! `export`: the desired state as an AWS CloudFormation template, for teams that have to
//! deploy through it. Pure.
//!
//! Names and ARNs are the same as those that an apply gives, so that what a stack has made
//! is what a plan would make. Source of types and properties: AWS CloudFormation template
//! reference.

mod logical;
mod storage;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwire_schema::workflow::Workflow;
use serde_json::{Map, Value, json};

use self::logical::LogicalIds;
use crate::kind::bucket_notification::BucketNotification;
use crate::resource::{Kind, Owner, Properties, Resource, ResourceId, Tags};

/// The template's parameter that names the bucket in which the functions' zips are.
pub const CODE_BUCKET: &str = "CodeBucket";
/// Under which prefix of that bucket they are.
pub const CODE_PREFIX: &str = "bellwire/";
/// What `CreateStack` takes in the call itself; a larger template comes from S3.
/// Source: AWS CloudFormation user guide, "CloudFormation quotas".
pub const TEMPLATE_BODY_BYTES_MAX: usize = 51_200;

/// A template, and what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// The template.
    pub body: Value,
    /// The zips that must be in the code bucket: the SHA-256 of each in base64, by its key.
    pub code: BTreeMap<String, String>,
    /// What CloudFormation cannot make, each as what somebody has to do.
    pub left_out: Vec<String>,
}

/// The template of what a workflow needs.
#[must_use]
pub fn cloudformation(owner: &Owner, workflow: &Workflow, desired: &[Resource]) -> Template {
    let ids: Vec<ResourceId> = desired.iter().map(Resource::id).collect();
    let mut export = Export {
        logical: LogicalIds::of(&ids),
        notifications: notifications_of(desired),
        resources: Map::new(),
        code: BTreeMap::new(),
        left_out: Vec::new(),
    };
    for resource in desired {
        export.add(resource);
    }
    let environment = owner.deployment.environment.as_deref();
    let environment = environment.map(|name| format!(", environment {name}")).unwrap_or_default();
    let body = json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": format!("Bellwire workflow {}{environment}", workflow.name),
        "Parameters": { CODE_BUCKET: {
            "Type": "String",
            "Description": format!("The bucket that has the functions' zips under {CODE_PREFIX}"),
        } },
        "Rules": { "Place": { "Assertions": [{
            "Assert": { "Fn::And": [
                { "Fn::Equals": [{ "Ref": "AWS::AccountId" }, owner.place.account] },
                { "Fn::Equals": [{ "Ref": "AWS::Region" }, owner.place.region] },
            ] },
            "AssertDescription": format!(
                "this template is for account {} in {}: export another one",
                owner.place.account, owner.place.region
            ),
        }] } },
        "Resources": export.resources,
    });
    Template { body, code: export.code, left_out: export.left_out }
}

/// A template that grows.
struct Export<'a> {
    logical: LogicalIds,
    /// Those of buckets that the workflow makes: a property of the bucket.
    notifications: BTreeMap<&'a str, (&'a BucketNotification, &'a [ResourceId])>,
    resources: Map<String, Value>,
    code: BTreeMap<String, String>,
    left_out: Vec<String>,
}

/// The notifications of buckets that are made here, each with what must be there before.
fn notifications_of(desired: &[Resource]) -> BTreeMap<&str, (&BucketNotification, &[ResourceId])> {
    let made: BTreeSet<String> = desired
        .iter()
        .map(Resource::id)
        .filter(|id| id.kind == Kind::Bucket)
        .map(|id| id.name)
        .collect();
    let mut notifications = BTreeMap::new();
    for resource in desired {
        if let Properties::BucketNotification(found) = &resource.properties
            && made.contains(&found.bucket)
        {
            let before = resource.depends_on.as_slice();
            notifications.insert(found.bucket.as_str(), (found, before));
        }
    }
    notifications
}

impl Export<'_> {
    fn add(&mut self, resource: &Resource) {
        let id = resource.id();
        let after = &resource.depends_on;
        match &resource.properties {
            Properties::Key(key) => self.key(&id, key, after),
            Properties::Topic(topic) => self.topic(&id, topic, after),
            Properties::Queue(queue) => self.queue(&id, queue, after),
            Properties::Bucket(bucket) => self.bucket(&id, bucket, after),
            Properties::BucketNotification(notification) => self.notification(notification),
            Properties::Table(table) => self.table(&id, table, after),
            Properties::LogGroup(group) => self.log_group(&id, group, after),
            Properties::Role(role) => self.role(&id, role, after),
            Properties::Function(function) => self.function(&id, function, after),
            Properties::Alias(alias) => self.alias(&id, alias, after),
            Properties::InvokeConfig(config) => self.invoke_config(&id, config, after),
            Properties::Permission(permission) => self.permission(&id, permission, after),
            Properties::StateMachine(machine) => self.state_machine(&id, machine, after),
            Properties::Rule(rule) => self.rule(&id, rule, after),
            Properties::EventSourceMapping(mapping) => self.mapping(&id, mapping, after),
            Properties::FunctionPolicy(policy) => self.function_policy(&id, policy, after),
            Properties::Subscription(subscription) => self.subscription(&id, subscription, after),
            Properties::Alarm(alarm) => self.alarm(&id, alarm, after),
            Properties::Dashboard(dashboard) => self.dashboard(&id, dashboard, after),
        }
    }

    /// Puts a resource under its own logical id.
    fn put(&mut self, id: &ResourceId, of_type: &str, properties: Value, after: &[ResourceId]) {
        let logical = self.logical.of_id(id);
        let mut after = self.logical.of_all(after);
        // A property of the bucket, which so comes after what it names.
        after.remove(&logical);
        let mut resource = json!({ "Type": of_type, "Properties": without_nulls(properties) });
        if !after.is_empty() {
            resource["DependsOn"] = json!(after);
        }
        if id.kind.may_hold_data() {
            // As no apply deletes it, no stack does.
            resource["DeletionPolicy"] = json!("Retain");
            resource["UpdateReplacePolicy"] = json!("Retain");
        }
        self.resources.insert(logical, resource);
    }

    /// Puts what goes with a resource, and refers to it, under a logical id of its own.
    fn put_part(&mut self, id: &ResourceId, part: &str, of_type: &str, properties: Value) {
        let resource = json!({ "Type": of_type, "Properties": without_nulls(properties) });
        self.resources.insert(self.logical.part_of(id, part), resource);
    }

    fn reference(&self, id: &ResourceId) -> Value {
        json!({ "Ref": self.logical.of_id(id) })
    }

    /// The code of a function, which lies in the code bucket under its hash.
    fn code(&mut self, code_sha256: &str) -> Value {
        let bytes = STANDARD.decode(code_sha256).unwrap_or_default();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = format!("{CODE_PREFIX}{hex}.zip");
        self.code.insert(key.clone(), code_sha256.to_owned());
        json!({ "S3Bucket": { "Ref": CODE_BUCKET }, "S3Key": key })
    }
}

fn tag_list(tags: &Tags) -> Value {
    tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

/// CloudFormation takes no nulls: what is not set is not there.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            fields.map(|(name, value)| (name, without_nulls(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_not_in_the_template() {
        let value = json!({ "a": null, "b": { "c": null, "d": [{ "e": null, "f": 1 }] } });
        assert_eq!(without_nulls(value), json!({ "b": { "d": [{ "f": 1 }] } }));
    }
}
