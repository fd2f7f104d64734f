//! The buckets of S3 sources, and what they notify of.

use std::collections::BTreeMap;

use bellwire_schema::EventType;
use bellwire_schema::workflow::{S3Source, SourceKind, Via, Workflow};

use super::Desired;
use crate::kind::bucket::Bucket;
use crate::kind::bucket_notification::{BucketNotification, Entry};
use crate::resource::{Kind, Properties, ResourceId};
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
            let queue_arn = self.owner.place.queue_arn(&self.owner.deployment.ingest_queue());
            let destination_arn = |via: Via| match via {
                Via::Publisher => queue_arn.clone(),
                Via::Topic => self.topic_arn(),
            };
            let entry = |(name, source): &(&str, &S3Source)| {
                let entry = Entry {
                    events: notified_events(&source.emits),
                    prefix: source.prefix.clone(),
                    suffix: source.suffix.clone(),
                    destination_arn: destination_arn(source.via),
                };
                (self.owner.entry_id(name), entry)
            };
            let markers = gather::markers(self.workflow, &bucket).into_iter().map(|marker| {
                let entry = Entry {
                    events: notified_events(&EventType::data_arrived()),
                    prefix: marker.prefix.to_owned(),
                    suffix: marker.name.to_owned(),
                    destination_arn: destination_arn(marker.via),
                };
                (self.owner.entry_id(&marker.purpose()), entry)
            });
            let entries = sources.iter().map(entry).chain(markers).collect();
            let notification = BucketNotification { bucket, entries };
            self.add(Properties::BucketNotification(notification), depends_on);
        }
    }
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

/// The buckets that have sources which take this way.
pub(crate) fn buckets_via(workflow: &Workflow, via: Via) -> Vec<String> {
    let buckets = sources_by_bucket(workflow).into_iter();
    let buckets = buckets.filter(|(_, sources)| sources.iter().any(|(_, s3)| s3.via == via));
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
