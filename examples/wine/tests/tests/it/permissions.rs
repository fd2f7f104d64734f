//! What each component's role may do, and what it does: while the example runs, the local
//! AWS records every call and who made it.

use std::collections::{BTreeMap, BTreeSet};

use bellwire_infra::uses::{Call, is_accounted_for, unused};
use wine_tests::World;

use crate::{TRIGGERS, all_completed, is_of};

/// The roles beside those of the state machines, and what they are in the table of uses.
const ROLES: [(&str, &str); 3] =
    [("handler", "handler"), ("publisher", "publisher"), ("worker", "function")];

#[tokio::test(flavor = "multi_thread")]
async fn no_role_is_denied_anything_or_may_do_what_nobody_does() {
    let mut world = World::deploy().await;
    let (is_well, report) = world.check_publisher();
    assert!(is_well, "{report}");
    world.request_collection("request-1");
    let _ = world.heard_until(is_of("ml.prediction.completed.v1")).await;
    let _ = world.runs_once(all_completed).await;
    world.sweep().await;
    world.stop_publisher();

    let mut calls: BTreeMap<String, BTreeSet<Call>> = BTreeMap::new();
    for call in world.cloud.calls().into_iter().filter(|call| !call.role.is_empty()) {
        assert!(call.decision.is_allowed(), "{call:?}");
        let made = Call { action: call.action, resource: call.resource };
        calls.entry(call.role).or_default().insert(made);
    }
    let mut without_a_reason = Vec::new();
    for (role, component) in ROLES.into_iter().chain(TRIGGERS.map(|one| (one, "state machine"))) {
        let name = world.deployment.function(role);
        let policy = world.policy_of(&name).await;
        let calls = calls.remove(&name).unwrap_or_default();
        assert!(!calls.is_empty(), "{role} was not seen to call anything");
        let unused = unused(&policy, &calls).into_iter();
        without_a_reason
            .extend(unused.filter(|one| !is_accounted_for(component, one)).map(|one| (role, one)));
    }
    assert!(without_a_reason.is_empty(), "nobody calls: {without_a_reason:#?}");
    assert!(calls.is_empty(), "these roles are no component's: {calls:#?}");
}
