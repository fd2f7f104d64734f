//! Markers and manifests: what S3 itself shows decides what a window holds.

use std::time::{Duration, Instant};

use aws_sdk_s3::types::{BucketVersioningStatus, ChecksumAlgorithm, VersioningConfiguration};
use bellwire_handler::Moment;
use bellwire_schema::Envelope;
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::id::ObjectChange;
use bellwire_schema::s3::ObjectEvent;
use bellwire_schema::workflow::{SourceKind, read};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{DATA, WORKFLOW, after, ids, world};
use crate::world::World;

/// Objects in a bucket.
struct Lake<'a>(&'a World);

impl<'a> Lake<'a> {
    async fn new(world: &'a World, is_versioned: bool) -> Self {
        let s3 = &world.clients.s3;
        s3.create_bucket().bucket(DATA).send().await.unwrap();
        if is_versioned {
            let enabled = BucketVersioningStatus::Enabled;
            let versions = VersioningConfiguration::builder().status(enabled).build();
            let put = s3.put_bucket_versioning().bucket(DATA).versioning_configuration(versions);
            put.send().await.unwrap();
        }
        Self(world)
    }

    /// Puts an object; answers with the event that tells of it.
    async fn put(&self, key: &str, body: &str) -> Envelope {
        let s3 = &self.0.clients.s3;
        let put = s3.put_object().bucket(DATA).key(key).body(body.as_bytes().to_vec().into());
        put.send().await.unwrap();
        let head = s3.head_object().bucket(DATA).key(key).send().await.unwrap();
        let time = head.last_modified.unwrap().as_nanos();
        let object = ObjectEvent {
            change: ObjectChange::Created,
            event_name: "ObjectCreated:Put".to_owned(),
            time: Timestamp::from_nanosecond(time).unwrap(),
            region: bellwire_local::REGION.to_owned(),
            bucket: DATA.to_owned(),
            key: key.to_owned(),
            size_bytes: body.len() as u64,
            etag: head.e_tag.map(|etag| etag.trim_matches('"').to_owned()),
            sequencer: head.version_id.is_none().then(|| "0A".to_owned()),
            version_id: head.version_id,
        };
        let workflow = read(WORKFLOW).unwrap();
        let is_of = |prefix: &str| key.starts_with(prefix);
        let source = workflow
            .sources
            .iter()
            .find(|source| matches!(&source.kind, SourceKind::S3(s3) if is_of(&s3.prefix)));
        let source = source.unwrap();
        let SourceKind::S3(s3) = &source.kind else { unreachable!() };
        object.to_envelope(source, s3)
    }

    /// Puts an object that S3 says was written in a later second than another.
    async fn put_after(&self, key: &str, body: &str, other: &Envelope) -> Envelope {
        let deadline = Instant::now() + Duration::from_secs(20);
        let second = |event: &Envelope| event.time.unwrap().as_second();
        while second(&self.put("raw/clock/hand.csv", "x").await) <= second(other) {
            assert!(Instant::now() < deadline, "S3's clock stands still");
        }
        self.put(key, body).await
    }
}

fn keys(input: &Value) -> Vec<&str> {
    let members = input["data"]["members"].as_array().expect("it has its members");
    members.iter().map(|member| member["key"].as_str().unwrap()).collect()
}

fn version(event: &Envelope) -> &Value {
    &event.data.as_ref().unwrap()["version_id"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_that_comes_first_starts_with_what_its_prefix_holds() {
    let world = world().await;
    let lake = Lake::new(&world, true).await;
    let old = lake.put("raw/1/a.csv", "old").await;
    let a = lake.put("raw/1/a.csv", "new").await;
    let b = lake.put("raw/1/b.csv", "b").await;
    for (key, body) in
        [("raw/1/empty.csv", ""), ("raw/1/notes.txt", "x"), ("raw/1/deep/c.csv", "c")]
    {
        lake.put(key, body).await;
    }
    let gone = lake.put("raw/1/gone.csv", "gone").await;
    world.clients.s3.delete_object().bucket(DATA).key("raw/1/gone.csv").send().await.unwrap();
    let marker = lake.put_after("raw/1/_SUCCESS", "", &gone).await;
    world.arrives(&marker, after(0)).await;

    let input = world.only_input("marked").await;
    assert_eq!(keys(&input), ["raw/1/a.csv", "raw/1/b.csv"], "where, suffix, prefix and time hold");
    let members = &input["data"]["members"];
    assert_eq!((&members[0]["version_id"], &members[1]["version_id"]), (version(&a), version(&b)));
    assert_eq!(ids(&input).len(), 2);
    assert!(ids(&input).contains(&a.id), "a member has its own event's id");
    assert_eq!((&input["dataset"], &input["data"]["size_bytes"]), (&json!("wine"), &json!(4)));

    world.calls.take();
    for event in [&old, &a, &b, &marker] {
        world.arrives(event, after(1)).await;
    }
    assert!(world.calls.take().len() <= 5, "what a listing had is one call an event");
    let row = world.member_row("marked", &a.source, &a.id).await;
    assert_eq!((&row["fate"], &row["generation"]), (&json!("listed"), &json!(0)));
    world.sweep(after(4_000)).await;
    assert_eq!(world.inputs("marked").await.len(), 1);
    world.assert_no_dead_letter().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_the_marker_is_late_and_in_the_next_run() {
    let world = world().await;
    let lake = Lake::new(&world, true).await;
    let first = lake.put("raw/1/a.csv", "first").await;
    let marker = lake.put("raw/1/_SUCCESS", "").await;
    let late = lake.put_after("raw/1/a.csv", "late", &marker).await;
    for event in [&first, &marker, &late] {
        world.arrives(event, after(0)).await;
    }
    let pinned = world.only_input("marked").await["data"]["members"][0]["version_id"].clone();
    assert_eq!(&pinned, version(&first), "it was the newest when the marker was written");
    let row = world.member_row("marked", &late.source, &late.id).await;
    assert_eq!((&row["is_late"], &row["generation"]), (&json!(true), &json!(1)));

    let marker = lake.put_after("raw/1/_SUCCESS", "", &late).await;
    world.arrives(&marker, after(1)).await;
    let inputs = world.inputs("marked").await;
    assert_eq!(inputs.len(), 2);
    let of_late = |input: &&Value| &input["data"]["members"][0]["version_id"] == version(&late);
    assert_eq!(inputs.iter().filter(of_late).count(), 1, "each version is in one run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_whose_marker_never_comes_is_dead_with_its_objects() {
    let world = world().await;
    let lake = Lake::new(&world, true).await;
    let a = lake.put("raw/1/a.csv", "a").await;
    world.arrives(&a, after(0)).await;
    world.sweep(after(3_500)).await;
    world.assert_no_dead_letter().await;
    world.sweep(after(3_700)).await;
    let letter = world.dead_letter().await;
    assert_eq!(letter.reason, DeadReason::GatherDeadline);
    let body: Value = serde_json::from_slice(&letter.body().unwrap()).unwrap();
    assert_eq!(ids(&body), [a.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_starts_no_other_trigger_and_no_member_of_its_own() {
    let world = world().await;
    let lake = Lake::new(&world, false).await;
    let a = lake.put("raw/1/a.csv", "a").await;
    let marker = lake.put("raw/1/_SUCCESS", "").await;
    let unlisted = lake.put("lists/1/_SUCCESS", "").await;
    for event in [&a, &marker, &unlisted] {
        world.arrives(event, after(0)).await;
    }
    let input = world.only_input("marked").await;
    let member = &input["data"]["members"][0];
    assert_eq!(keys(&input), ["raw/1/a.csv"]);
    assert_eq!((member.get("version_id"), member.get("event_id")), (None, None), "unversioned");
    // The one that gathers by a manifest has gathered no marker.
    world.sweep(after(4_000)).await;
    world.assert_no_dead_letter().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_waits_for_what_it_lists_and_is_held_to_it() {
    let world = world().await;
    let lake = Lake::new(&world, true).await;
    let a = lake.put("lists/1/a.csv", "aaa").await;
    let manifest = json!({ "files": [
        { "key": "a.csv", "size_bytes": 3, "etag": a.data.as_ref().unwrap()["etag"] },
        { "key": "lists/1/b.bin" },
    ] });
    let manifest = lake.put("lists/1/manifest.json", &manifest.to_string()).await;
    for event in [&manifest, &a] {
        world.arrives(event, after(0)).await;
    }
    world.sweep(after(61)).await;
    assert_eq!(world.inputs("listed").await.len(), 0, "b is not there");
    let b = lake.put("lists/1/b.bin", "b").await;
    world.sweep(after(62)).await;
    assert_eq!(world.inputs("listed").await.len(), 0, "it was asked a moment ago");
    world.sweep(after(200)).await;
    let input = world.only_input("listed").await;
    assert_eq!(keys(&input), ["lists/1/a.csv", "lists/1/b.bin"]);
    assert_eq!(&input["data"]["members"][1]["version_id"], version(&b));
    world.assert_no_dead_letter().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_lies_is_dead_with_the_reason() {
    let world = world().await;
    let lake = Lake::new(&world, true).await;
    lake.put("lists/1/a.csv", "aaa").await;
    for (folder, text, cause) in [
        ("1", "a.csv,4\n", "is 4 bytes, and it is 3"),
        ("2", "s3://wine-data/raw/1/a.csv\ns3://wine-data/secret/a.csv\n", "no source watches"),
        ("3", "{ not json", "no JSON"),
    ] {
        let manifest = lake.put(&format!("lists/{folder}/manifest.json"), text).await;
        world.arrives(&manifest, after(0)).await;
        let letter = world.dead_letter().await;
        assert_eq!(
            (letter.reason, letter.trigger.as_deref()),
            (DeadReason::ManifestUntrue, Some("listed"))
        );
        assert!(letter.message.contains(cause), "{}", letter.message);
    }
    assert_eq!(world.inputs("listed").await.len(), 0);
}

/// S3 keeps the checksum that an object was uploaded with, and tells it by a HEAD.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_gives_checksums_has_them_held_to_what_s3_keeps() {
    const OF_AAA: &str = "9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0";
    let world = world().await;
    let lake = Lake::new(&world, true).await;
    let put = world.clients.s3.put_object().bucket(DATA).key("lists/1/a.csv");
    let put = put.checksum_algorithm(ChecksumAlgorithm::Sha256).body(b"aaa".to_vec().into());
    put.send().await.unwrap();
    for (folder, given, cause) in [
        ("2", json!({ "sha256": OF_AAA.replace("98", "99") }), "has the sha256 9934"),
        ("3", json!({ "sha256": OF_AAA, "sha1": "b".repeat(40) }), "S3 keeps none"),
        ("4", json!({ "sha256": "aaa" }), "what is no sha256"),
    ] {
        let mut entry = given;
        entry["key"] = json!("s3://wine-data/lists/1/a.csv");
        let text = json!([entry]).to_string();
        let manifest = lake.put(&format!("lists/{folder}/manifest.json"), &text).await;
        world.arrives(&manifest, after(0)).await;
        let letter = world.dead_letter().await;
        assert_eq!(letter.reason, DeadReason::ManifestUntrue, "{folder}");
        assert!(letter.message.contains(cause), "{}", letter.message);
    }
    assert_eq!(world.inputs("listed").await.len(), 0);

    let text = json!([{ "key": "a.csv", "size_bytes": 3, "sha256": OF_AAA }]).to_string();
    let manifest = lake.put("lists/1/manifest.json", &text).await;
    world.arrives(&manifest, after(0)).await;
    assert_eq!(keys(&world.only_input("listed").await), ["lists/1/a.csv"]);
    world.assert_no_dead_letter().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_whose_objects_never_come_is_dead_and_says_which() {
    let world = world().await;
    let lake = Lake::new(&world, true).await;
    let manifest = lake.put("lists/1/manifest.json", "a.csv\nb.csv\n").await;
    world.arrives(&manifest, after(0)).await;
    world.sweep(after(3_700)).await;
    let letter = world.dead_letter().await;
    assert_eq!(letter.reason, DeadReason::GatherDeadline);
    assert!(letter.message.contains("2 of the 2 objects"), "{}", letter.message);
}

/// The marker's listing is of two pages; its start fails, and the sweeps that go on
/// with it have time for a page each.
#[tokio::test(flavor = "multi_thread")]
async fn a_completion_that_is_interrupted_goes_on_page_by_page() {
    let world = world().await;
    let lake = Lake::new(&world, false).await;
    for chunk in (0..1_100).collect::<Vec<usize>>().chunks(50) {
        let puts = chunk.iter().map(|number| {
            let put = world.clients.s3.put_object().bucket(DATA);
            put.key(format!("raw/1/{number:05}.csv")).body(b"x".to_vec().into()).send()
        });
        for put in futures::future::join_all(puts).await {
            put.unwrap();
        }
    }
    let marker = lake.put("raw/1/_SUCCESS", "").await;
    world.calls.fail(Some("guard#"));
    world.arrives(&marker, after(0)).await;
    world.calls.fail(None);
    assert_eq!(world.inputs("marked").await.len(), 0, "nothing starts without a claim");

    let short = |seconds: i64| {
        let now = Timestamp::now() + SignedDuration::from_secs(seconds);
        Moment { now, deadline: now + SignedDuration::from_secs(1) }
    };
    world.sweep(short(62)).await;
    assert_eq!(world.inputs("marked").await.len(), 0, "one page of two was read");
    let list = world.clients.s3.list_objects_v2().bucket("wine-lake").send().await.unwrap();
    let partial = list.contents().iter().filter(|one| one.key().unwrap().ends_with(".partial"));
    assert_eq!(partial.count(), 1, "and put by");
    world.sweep(short(70)).await;
    let input = world.only_input("marked").await;
    assert_eq!(input["data"]["count"], 1_100);
    let list = world.list_of(&input).await;
    let all: std::collections::BTreeSet<_> =
        list.iter().map(|member| member["key"].as_str().unwrap()).collect();
    assert_eq!((list.len(), all.len()), (1_100, 1_100));
}
