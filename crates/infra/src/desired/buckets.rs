//! The buckets of S3 sources, and what they notify of.

use std::collections::BTreeMap;

use bellwire_schema::EventType;
use bellwire_schema::workflow::{S3Source, SourceKind, Via, Workflow};

use super::Desired;
use crate::kind::bucket::Bucket;
use crate::kind::bucket_notification::{BucketNotification, Entry};
use crate::resource::{Kind, Owner, Properties, ResourceId};
use crate::{gather, policy};

impl Desired<'_> {
    pub(super) fn buckets(&mut self) {
        for (bucket, sources) in sources_by_bucket(self.workflow) {
            let mut depends_on = Vec::new();
            if sources.iter().any(|(_, source)| source.via == Via::Publisher) {
                depends_on.push(self.ingest_queue_id());
            }
            if sources.iter().any(|(_, source)| source.via == Via::Topic) {
                depends_on.push(self.topic_id());
                // S3 sends a test message, for which the key must admit the bucket.
                depends_on.extend(self.before_topic());
            }
            if sources.iter().any(|(_, source)| source.create) {
                depends_on.push(ResourceId::new(Kind::Bucket, &bucket));
                let properties = Bucket {
                    name: bucket.clone(),
                    region: self.owner.place.region.clone(),
                    public_access_blocked: true,
                    versioned: true,
                    encryption: "AES256".to_owned(),
                    policy: policy::bucket(self.owner, &bucket),
                    tags: self.owner.tags(),
                };
                self.add(Properties::Bucket(properties), vec![]);
            }
            // What is another account's is its owner's to change.
            if sources.iter().any(|(_, source)| source.account.is_some()) {
                continue;
            }
            let entries = notification_entries(self.owner, self.workflow, &bucket);
            let notification = BucketNotification { bucket, entries };
            self.add(Properties::BucketNotification(notification), depends_on);
        }
    }
}

/// The entries of a bucket's notifications, by their Ids.
pub(crate) fn notification_entries(
    owner: &Owner,
    workflow: &Workflow,
    bucket: &str,
) -> BTreeMap<String, Entry> {
    let Owner { deployment, place, .. } = owner;
    let destination_arn = |via: Via| match via {
        Via::Publisher => place.queue_arn(&deployment.ingest_queue()),
        Via::Topic => place.topic_arn(&deployment.topic(workflow.topic.kind)),
    };
    let entry = |(name, source): &(&str, &S3Source)| {
        let entry = Entry {
            events: notified_events(&source.emits),
            prefix: source.prefix.clone(),
            suffix: source.suffix.clone(),
            destination_arn: destination_arn(source.via),
        };
        (owner.entry_id(name), entry)
    };
    let markers = gather::markers(workflow, bucket).into_iter().map(|marker| {
        let entry = Entry {
            events: notified_events(&EventType::data_arrived()),
            prefix: marker.prefix.to_owned(),
            suffix: marker.name.to_owned(),
            destination_arn: destination_arn(marker.via),
        };
        (owner.entry_id(&marker.purpose()), entry)
    });
    let sources = sources_by_bucket(workflow).remove(bucket).unwrap_or_default();
    sources.iter().map(entry).chain(markers).collect()
}

/// The S3 sources, by bucket, each with its name.
pub(crate) fn sources_by_bucket(workflow: &Workflow) -> BTreeMap<String, Vec<(&str, &S3Source)>> {
    let mut buckets: BTreeMap<String, Vec<(&str, &S3Source)>> = BTreeMap::new();
    for source in &workflow.sources {
        if let SourceKind::S3(s3) = &source.kind {
            buckets.entry(s3.bucket.clone()).or_default().push((&source.name, s3));
        }
    }
    buckets
}

/// The buckets of this account that have sources which take this way.
pub(crate) fn buckets_via(workflow: &Workflow, via: Via) -> Vec<String> {
    let takes = |s3: &S3Source| s3.via == via && s3.account.is_none();
    let buckets = sources_by_bucket(workflow).into_iter();
    let buckets = buckets.filter(|(_, sources)| sources.iter().any(|(_, s3)| takes(s3)));
    buckets.map(|(bucket, _)| bucket).collect()
}

/// The S3 events that make events of a type, sorted. What a lifecycle rule removes, S3
/// tells of under a name of its own. Source: Amazon S3 user guide, "Event notification
/// types and destinations".
fn notified_events(emits: &EventType) -> Vec<String> {
    let events: &[&str] = match *emits == EventType::data_removed() {
        true => &["s3:LifecycleExpiration:*", "s3:ObjectRemoved:*"],
        false => &["s3:ObjectCreated:*"],
    };
    events.iter().map(|event| (*event).to_owned()).collect()
}
