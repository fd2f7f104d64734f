//! What one start costs.

use std::collections::BTreeMap;

use super::{at, wanted, world};
use crate::world::World;

fn calls_since(world: &World, before: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    // What SNS itself calls to deliver is not ours.
    let is_ours = |principal: &str| !principal.ends_with(".amazonaws.com");
    // Of the ledger the cloud tells permissions: each part of a transaction has one.
    let is_other = |action: &str| !action.starts_with("dynamodb:");
    let calls = world.cloud.calls().into_iter().skip(before);
    for call in calls.filter(|call| is_ours(&call.principal) && is_other(&call.action)) {
        *counts.entry(call.action).or_default() += 1;
    }
    counts
}

/// Two writes of the ledger, no read of it, one start, one event: whatever is started.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_two_writes_of_the_ledger_no_read_and_one_call() {
    let (world, stub) = world().await;
    for (what, call, stubbed) in [
        ("collect", Some("states:StartExecution"), None),
        ("fit", None, Some("StartPipelineExecution")),
        ("score", None, Some("submitjob")),
    ] {
        let before = world.cloud.calls().len();
        world.calls.take();
        assert!(world.queued(&wanted(what, what), at(0)).await);
        // The claim, in which the guards count it; and the record.
        assert_eq!(world.calls.take(), ["TransactWriteItems", "UpdateItem"], "{what}");
        let mut expected = BTreeMap::from([("sns:Publish".to_owned(), 1)]);
        expected.extend(call.map(|call| (call.to_owned(), 1)));
        assert_eq!(calls_since(&world, before), expected, "{what}");
        if let Some(call) = stubbed {
            assert_eq!(stub.count_of(call), 1);
        }
        // A duplicate is one write that is refused.
        let before = world.cloud.calls().len();
        assert!(world.queued(&wanted(what, what), at(0)).await);
        assert_eq!(world.calls.take(), ["TransactWriteItems"], "{what}");
        assert_eq!(calls_since(&world, before), BTreeMap::new(), "{what}");
    }
    assert_eq!(stub.count_of("listjobs"), 0, "only who takes over looks");
}
