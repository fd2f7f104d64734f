//! What all tests of the workspace had called on local clouds, held against what the roles
//! may do. `cargo xtask test` runs it when all others have run.

use std::collections::BTreeSet;
use std::path::Path;

use bellwire_local::{CALLS_OF_TESTS, calls_of_tests};

use super::least_privilege::allowed_of_roles;
use crate::uses::{BESIDE_THE_EXAMPLE, By};

/// Components whose roles tests take: those of the user's own are the example's alone.
const COMPONENTS: [&str; 2] = ["handler", "publisher"];

/// The actions of a component that no call on a local cloud can be of.
fn not_recorded(component: &str) -> BTreeSet<&'static str> {
    let uses = BESIDE_THE_EXAMPLE.iter().filter(|(of, _)| *of == component);
    let uses = uses.flat_map(|(_, uses)| uses.iter());
    uses.filter(|one| one.by != By::Rarely).flat_map(|one| one.actions.iter().copied()).collect()
}

#[test]
#[ignore = "looks at what all other tests called: cargo xtask test runs it after them"]
fn in_all_tests_nothing_is_denied_and_every_action_is_called() {
    let folder = std::env::var_os(CALLS_OF_TESTS).expect("run it by `cargo xtask test`");
    let tests = calls_of_tests(Path::new(&folder)).expect("calls were kept");
    let mut denied = Vec::new();
    let mut called: BTreeSet<(&str, String)> = BTreeSet::new();
    for test in tests {
        for call in test.calls {
            let of = |component: &&&str| call.role.ends_with(&format!("-{component}"));
            let Some(component) = COMPONENTS.iter().find(of) else { continue };
            if call.decision.is_allowed() {
                called.insert((component, call.action));
            } else if !test.denies_on_purpose {
                denied.push(call);
            }
        }
    }
    assert!(denied.is_empty(), "{denied:#?}");
    let mut uncalled = Vec::new();
    for component in COMPONENTS {
        let of_aws = not_recorded(component);
        let allowed = allowed_of_roles(component).into_iter().map(|allowed| allowed.action);
        uncalled.extend(
            allowed
                .filter(|action| !of_aws.contains(action.as_str()))
                .map(|action| (component, action))
                .filter(|one| !called.contains(one)),
        );
    }
    assert!(uncalled.is_empty(), "{uncalled:#?}");
}
