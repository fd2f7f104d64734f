//! What gathering takes on AWS: notifications of markers, which the sources' suffixes
//! would hide, and what the handler may do for it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bellwire_ledger::BY_DAY_INDEX;
use bellwire_schema::workflow::{GatherUntil, S3Source, SourceKind, Trigger, Via, Workflow};
use serde_json::{Value, json};

use crate::desired::sources_by_bucket;
use crate::plan::Note;
use crate::policy::allow;
use crate::problem::Problem;
use crate::resource::{Kind, Owner, ResourceId};

/// Objects of which a list fits into a run's input, whatever their keys: at 400 bytes
/// each, within Step Functions' 256 KB.
const LIST_OBJECTS_SAFE: u64 = 600;

/// A notification entry of its own for a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker<'a> {
    /// The source whose suffix hides it.
    source: &'a str,
    /// What its key begins with.
    pub(crate) prefix: &'a str,
    /// What its key ends with.
    pub(crate) name: &'a str,
    /// The way it takes, with its source.
    pub(crate) via: Via,
}

impl Marker<'_> {
    /// What the entry is for: a source's name has no dot.
    pub(crate) fn purpose(&self) -> String {
        format!("{}.{}", self.source, self.name)
    }

    fn covers(&self, other: &Self) -> bool {
        other.prefix.starts_with(self.prefix) && other.name.ends_with(self.name)
    }
}

/// The entries for the markers of a bucket's sources, each of which S3 tells of once.
pub(crate) fn markers<'a>(workflow: &'a Workflow, bucket: &str) -> Vec<Marker<'a>> {
    let mut all: Vec<Marker<'a>> = Vec::new();
    for source in &workflow.sources {
        let SourceKind::S3(s3) = &source.kind else { continue };
        if s3.bucket != bucket {
            continue;
        }
        let names = workflow.hidden_markers(s3).into_iter();
        let marker = |name| Marker { source: &source.name, prefix: &s3.prefix, name, via: s3.via };
        all.extend(names.map(marker));
    }
    // The widest first, so that whatever it covers is left out.
    all.sort_by_key(|marker| {
        let Marker { source, prefix, name, .. } = *marker;
        (prefix.len() + name.len(), source, prefix, name)
    });
    let mut kept: Vec<Marker<'a>> = Vec::new();
    for marker in all {
        if !kept.iter().any(|other| other.covers(&marker)) {
            kept.push(marker);
        }
    }
    kept
}

/// Entries for markers that S3 would refuse, since it would tell of an object twice.
/// Source: Amazon S3 user guide, "Configuring event notifications using object key
/// name filtering".
pub(crate) fn problems(workflow: &Workflow) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (bucket, sources) in sources_by_bucket(workflow) {
        let markers = markers(workflow, &bucket);
        let created = |(_, s3): &&(&str, &S3Source)| s3.emits.as_str() == "ml.data.arrived.v1";
        let own = sources.iter().filter(created).map(|(source, s3)| Marker {
            source,
            prefix: &s3.prefix,
            name: &s3.suffix,
            via: s3.via,
        });
        let others: Vec<Marker<'_>> = own.chain(markers.iter().copied()).collect();
        for marker in &markers {
            let Some(other) =
                others.iter().find(|other| *other != marker && overlap(marker, other))
            else {
                continue;
            };
            let cause = format!(
                "the notification for `{}*{}`, which a gather waits for, would overlap with that for `{}*{}`, which S3 refuses",
                marker.prefix, marker.name, other.prefix, other.name
            );
            let remedy = "name the marker so that neither name ends in the other, or the suffix";
            problems.push(Problem::new(format!("source \"{}\"", marker.source), cause, remedy));
        }
    }
    problems
}

fn overlap(one: &Marker<'_>, other: &Marker<'_>) -> bool {
    let prefixes = one.prefix.starts_with(other.prefix) || other.prefix.starts_with(one.prefix);
    let suffixes = one.name.ends_with(other.name) || other.name.ends_with(one.name);
    prefixes && suffixes
}

/// What a person should know before windows are lost to it.
pub(crate) fn notes(owner: &Owner, workflow: &Workflow) -> Vec<Note> {
    if workflow.claim_check.is_some() {
        return Vec::new();
    }
    let may_be_long = |trigger: &&Trigger| match trigger.gather.as_ref().map(|one| &one.until) {
        None | Some(GatherUntil::AllOf(_)) => false,
        Some(GatherUntil::Count(count)) => *count > LIST_OBJECTS_SAFE,
        Some(_) => true,
    };
    let note = |trigger: &Trigger| Note {
        id: ResourceId::new(Kind::Function, owner.deployment.handler()),
        text: format!(
            "trigger \"{}\" may gather more than a run's input takes: add [claim_check], where a long list goes; without it such a window goes to the dead queue",
            trigger.name
        ),
    };
    workflow.triggers.iter().filter(may_be_long).map(note).collect()
}

/// What the handler's role may do for the triggers that gather: a transaction takes
/// the permissions of what it does. Source: Amazon DynamoDB developer guide, "IAM
/// policies and transactions".
pub(crate) fn statements(owner: &Owner, workflow: &Workflow) -> Vec<Value> {
    if workflow.triggers.iter().all(|trigger| trigger.gather.is_none()) {
        return Vec::new();
    }
    let table = owner.place.table_arn(&owner.deployment.ledger_table());
    let index = format!("{table}/index/{BY_DAY_INDEX}");
    let mut statements = vec![
        allow("ReadGates", &["dynamodb:BatchGetItem"], &[table]),
        allow("ListGathered", &["dynamodb:Query"], &[index]),
    ];
    let mut prefixes: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut manifests: BTreeSet<String> = BTreeSet::new();
    for (trigger, s3) in gathered_by_name(workflow) {
        prefixes.entry(&s3.bucket).or_default().insert(format!("{}*", s3.prefix));
        if let Some(GatherUntil::Manifest(_)) = trigger.gather.as_ref().map(|one| &one.until) {
            let bucket = owner.place.bucket_arn(&s3.bucket);
            manifests.insert(format!("{bucket}/{}*", s3.prefix));
        }
    }
    for (index, (bucket, prefixes)) in prefixes.into_iter().enumerate() {
        // A manifest that is gone is "not found" only to who may list.
        let actions = ["s3:ListBucket", "s3:ListBucketVersions"];
        let arn = owner.place.bucket_arn(bucket);
        let mut list = allow(&format!("ListObjects{index}"), &actions, &[arn]);
        list["Condition"] = json!({"StringLike": {"s3:prefix": prefixes}});
        statements.push(list);
    }
    if !manifests.is_empty() {
        let manifests: Vec<String> = manifests.into_iter().collect();
        // A HEAD, which tells the checksums of members, takes what a GET takes. Source:
        // Amazon S3 API reference, `HeadObject`, "Permissions".
        let actions = ["s3:GetObject", "s3:GetObjectVersion"];
        statements.push(allow("ReadManifests", &actions, &manifests));
    }
    if let Some(check) = &workflow.claim_check {
        let keys = format!("{}/{}gathered/*", owner.place.bucket_arn(&check.bucket), check.prefix);
        statements.push(allow("PutLists", &["s3:PutObject"], &[keys]));
    }
    statements
}

/// The triggers that wait for a marker or manifest, with each source of theirs.
fn gathered_by_name(workflow: &Workflow) -> impl Iterator<Item = (&Trigger, &S3Source)> {
    let waiting = workflow.triggers.iter().filter(|trigger| {
        let until = trigger.gather.as_ref().map(|gather| &gather.until);
        matches!(until, Some(GatherUntil::Marker(_) | GatherUntil::Manifest(_)))
    });
    waiting.flat_map(|trigger| {
        workflow.sources.iter().filter_map(move |source| match &source.kind {
            SourceKind::S3(s3) if trigger.on.contains(&s3.emits) => Some((trigger, s3)),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use bellwire_schema::workflow::{ClaimCheck, Gather, OnDeadline};

    use super::*;
    use crate::check::check;
    use crate::desired::desired;
    use crate::resource::Properties;
    use crate::testing::{inputs, owner, workflow};

    /// The workflow like wine's, whose training waits for this.
    fn gathering(until: GatherUntil, suffix: &str) -> Workflow {
        let mut workflow = workflow();
        for source in &mut workflow.sources {
            if let SourceKind::S3(s3) = &mut source.kind {
                s3.suffix = suffix.to_owned();
            }
        }
        workflow.triggers[1].gather =
            Some(Gather { until, by: None, within_s: 3_600, on_deadline: OnDeadline::Dead });
        workflow
    }

    fn marker(name: &str) -> GatherUntil {
        GatherUntil::Marker(name.to_owned())
    }

    fn entries(workflow: &Workflow) -> Vec<(String, String, String)> {
        let resources = desired(&owner(), workflow, &inputs());
        let notifications = resources.into_iter().filter_map(|one| match one.properties {
            Properties::BucketNotification(notification) => Some(notification.entries),
            _ => None,
        });
        let entries = notifications.flatten();
        entries.map(|(id, entry)| (id, entry.prefix, entry.suffix)).collect()
    }

    #[test]
    fn a_marker_that_the_suffix_hides_has_an_entry_of_its_own() {
        let entry = |id: &str, suffix: &str| (id.to_owned(), "raw/".to_owned(), suffix.to_owned());
        let workflow = gathering(marker("_SUCCESS"), ".csv");
        assert_eq!(
            entries(&workflow),
            [entry("bellwire-wine-raw", ".csv"), entry("bellwire-wine-raw._SUCCESS", "_SUCCESS")]
        );
        check(&owner(), &workflow, &inputs()).unwrap_or_else(|problems| panic!("{problems}"));
        for suffix in ["", "SS"] {
            let workflow = gathering(marker("_SUCCESS"), suffix);
            assert_eq!(entries(&workflow), [entry("bellwire-wine-raw", suffix)], "{suffix}");
        }
    }

    #[test]
    fn what_s3_would_tell_of_twice_is_one_entry_or_a_problem() {
        let mut workflow = gathering(marker("_SUCCESS"), ".csv");
        let mut deeper = workflow.sources[0].clone();
        deeper.name = "deeper".to_owned();
        if let SourceKind::S3(s3) = &mut deeper.kind {
            (s3.prefix, s3.suffix) = ("raw/deeper/".to_owned(), ".json".to_owned());
        }
        workflow.sources.push(deeper);
        assert_eq!(entries(&workflow).len(), 3, "the wider one tells of both");
        check(&owner(), &workflow, &inputs()).unwrap_or_else(|problems| panic!("{problems}"));

        let workflow = gathering(marker("_SUCCESS"), "final_SUCCESS");
        let problems = check(&owner(), &workflow, &inputs()).expect_err("they overlap");
        assert!(problems.to_string().contains("which S3 refuses"), "{problems}");
    }

    fn sids(workflow: &Workflow) -> Vec<(String, Value)> {
        let sid = |statement: Value| (statement["Sid"].as_str().unwrap().to_owned(), statement);
        statements(&owner(), workflow).into_iter().map(sid).collect()
    }

    #[test]
    fn the_handler_may_do_what_its_gathers_do_and_no_more() {
        assert_eq!(statements(&owner(), &workflow()), Vec::<Value>::new());
        let names = |workflow: &Workflow| -> Vec<String> {
            sids(workflow).into_iter().map(|(sid, _)| sid).collect()
        };
        let counting = gathering(GatherUntil::Count(3), ".csv");
        assert_eq!(names(&counting), ["ReadGates", "ListGathered"]);
        let check = ClaimCheck { bucket: "wine-lake".to_owned(), prefix: "claims/".to_owned() };
        let listing = gathering(GatherUntil::Manifest("manifest.json".to_owned()), ".csv");
        let listing = Workflow { claim_check: Some(check), ..listing };
        let statements = sids(&listing);
        let of = |wanted: &str| {
            let found = statements.iter().find(|(sid, _)| sid == wanted);
            found.unwrap_or_else(|| panic!("no {wanted}: {statements:?}")).1.clone()
        };
        assert_eq!(
            of("ListObjects0")["Condition"],
            json!({"StringLike": {"s3:prefix": ["raw/*"]}})
        );
        assert_eq!(of("ReadManifests")["Resource"], json!(["arn:aws:s3:::wine-lake/raw/*"]));
        assert_eq!(of("PutLists")["Resource"], json!(["arn:aws:s3:::wine-lake/claims/gathered/*"]));
        let marked = names(&gathering(marker("_SUCCESS"), ".csv"));
        assert_eq!(marked, ["ReadGates", "ListGathered", "ListObjects0"]);
    }

    #[test]
    fn a_long_list_without_a_claim_check_is_said() {
        let noted = |workflow: &Workflow| notes(&owner(), workflow).len();
        assert_eq!(noted(&gathering(marker("_SUCCESS"), ".csv")), 1);
        assert_eq!(noted(&gathering(GatherUntil::Count(100_000), ".csv")), 1);
        assert_eq!(noted(&gathering(GatherUntil::Count(12), ".csv")), 0);
        let check = ClaimCheck { bucket: "wine-lake".to_owned(), prefix: "claims/".to_owned() };
        let workflow = gathering(marker("_SUCCESS"), ".csv");
        assert_eq!(noted(&Workflow { claim_check: Some(check), ..workflow }), 0);
    }
}
