//! Objects under KMS keys: whoever reads or writes them does so with the key. Pure.
//!
//! What a role may do with a key follows from what it may do with the objects, so that no
//! component has a key that it never uses.

use std::collections::{BTreeMap, BTreeSet};

use bellwire_schema::workflow::{Source, SourceKind, Workflow};
use serde_json::{Value, json};

use crate::policy::{allow, document};
use crate::resource::{Owner, Properties, Resource};

/// What reading and writing take of a key. Source: AWS KMS developer guide, "How Amazon S3
/// uses AWS KMS": an upload in parts decrypts, too.
const READS: [&str; 2] = ["s3:GetObject", "s3:GetObjectVersion"];
const WRITES: [&str; 1] = ["s3:PutObject"];

/// The keys of the buckets whose objects are under one, by bucket.
fn keys(workflow: &Workflow) -> BTreeMap<&str, &str> {
    workflow.sources.iter().filter_map(key_of).collect()
}

fn key_of(source: &Source) -> Option<(&str, &str)> {
    match &source.kind {
        SourceKind::S3(s3) => Some((s3.bucket.as_str(), s3.kms_key.as_deref()?)),
        _ => None,
    }
}

/// Lets every role that reads or writes objects under a key use it, through S3; and makes
/// the buckets of the deploy encrypt with theirs.
pub(crate) fn settle(owner: &Owner, workflow: &Workflow, resources: &mut [Resource]) {
    let keys = keys(workflow);
    if keys.is_empty() {
        return;
    }
    for resource in resources {
        match &mut resource.properties {
            Properties::Role(role) => {
                let added = statements(owner, &keys, &role.policy);
                if !added.is_empty() {
                    let own = role.policy["Statement"].as_array().cloned().unwrap_or_default();
                    role.policy = document(&[own, added].concat());
                }
            }
            Properties::Bucket(bucket) => {
                if let Some(key) = keys.get(bucket.name.as_str()) {
                    bucket.encryption = (*key).to_owned();
                }
            }
            _ => {}
        }
    }
}

/// What a role's policy lacks to do what it allows.
fn statements(owner: &Owner, keys: &BTreeMap<&str, &str>, policy: &Value) -> Vec<Value> {
    let allowed = policy["Statement"].as_array().into_iter().flatten();
    let (mut read, mut written) = (BTreeSet::new(), BTreeSet::new());
    for statement in allowed.filter(|one| one["Effect"] == "Allow") {
        let does = |actions: &[&str]| {
            texts(&statement["Action"]).iter().any(|action| actions.contains(&action.as_str()))
        };
        for arn in texts(&statement["Resource"]) {
            let bucket = arn.split(":::").nth(1).and_then(|rest| rest.split('/').next());
            let Some(key) = bucket.and_then(|bucket| keys.get(bucket)) else { continue };
            if does(&READS) {
                read.insert((*key).to_owned());
            }
            if does(&WRITES) {
                written.insert((*key).to_owned());
            }
        }
    }
    let read: Vec<String> = read.difference(&written).cloned().collect();
    let written: Vec<String> = written.into_iter().collect();
    let uses = [
        ("DecryptObjects", &["kms:Decrypt"][..], read),
        ("EncryptObjects", &["kms:Decrypt", "kms:GenerateDataKey"][..], written),
    ];
    let used = uses.into_iter().filter(|(_, _, keys)| !keys.is_empty());
    used.map(|(sid, actions, keys)| {
        let mut statement = allow(sid, actions, &keys);
        let via = format!("s3.{}.amazonaws.com", owner.place.region);
        statement["Condition"] = json!({"StringEquals": {"kms:ViaService": via}});
        statement
    })
    .collect()
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        _ => Vec::new(),
    }
}
