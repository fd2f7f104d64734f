//! What runs, as the system sees it.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// The commands of the living processes of a group.
pub(crate) fn group_members(group: u32) -> Vec<String> {
    let output = Command::new("ps").args(["-A", "-o", "pgid=,stat=,args="]).output().expect("ps");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .filter_map(|line| {
            let (pgid, rest) = line.trim().split_once(' ')?;
            let (state, command) = rest.trim().split_once(' ')?;
            // A zombie waits for its new parent only.
            let alive = !state.starts_with('Z');
            (pgid.parse() == Ok(group) && alive).then(|| command.to_owned())
        })
        .collect()
}

pub(crate) fn expect_none_left(group: u32) {
    wait_until("no process is left", || group_members(group).is_empty());
}

pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        thread::sleep(POLL);
    }
}
