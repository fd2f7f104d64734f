//! What a plan or an apply took: its calls, and how its time compares with that of the
//! calls that had to follow one another. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::calls::Call;
use crate::plan::{Action, Plan};
use crate::resource::{Kind, ResourceId};

/// What a plan took.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanTimings {
    /// The calls to AWS, each as often as it was sent.
    pub calls: u32,
    /// Those of them that change something: none.
    pub writes: u32,
    /// The resources that the plan tells of: to be changed, unchanged, or kept.
    pub lines: usize,
    /// How often each operation was called: `SQS GetQueueUrl`.
    pub operations: BTreeMap<String, u32>,
    /// How long it took.
    pub took: Duration,
}

impl PlanTimings {
    /// Sums up the calls that a plan took.
    #[must_use]
    pub fn of(plan: &Plan, calls: &[Call], took: Duration) -> Self {
        let writes = calls.iter().filter(|call| !call.is_read()).map(|call| call.attempts).sum();
        let mut operations = BTreeMap::new();
        for call in calls {
            let name = format!("{} {}", call.service, call.operation);
            *operations.entry(name).or_default() += call.attempts;
        }
        Self {
            calls: calls.iter().map(|call| call.attempts).sum(),
            writes,
            lines: plan.steps.len() + plan.unchanged.len() + plan.kept.len(),
            operations,
            took,
        }
    }

    /// Calls for each line of the plan.
    #[must_use]
    pub fn calls_per_line(&self) -> f64 {
        f64::from(self.calls) / (self.lines.max(1) as f64)
    }

    /// The form for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "calls": self.calls,
            "writes": self.writes,
            "lines": self.lines,
            "calls_per_line": self.calls_per_line(),
            "operations": self.operations,
            "took_s": self.took.as_secs_f64(),
        })
    }
}

impl fmt::Display for PlanTimings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, writes, lines, took, .. } = self;
        let kind = match writes {
            0 => "all of them reads".to_owned(),
            writes => format!("{writes} of them writes"),
        };
        write!(
            f,
            "timings  plan {:.2} s, {calls} calls for {lines} resources ({:.2} each), {kind}",
            took.as_secs_f64(),
            self.calls_per_line()
        )
    }
}

/// What an apply took.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplyTimings {
    /// The calls to AWS, each as often as it was sent.
    pub calls: u32,
    /// How long it took.
    pub took: Duration,
    /// The calls of the steps that had to follow one another and took longest, with
    /// those for the lease and the record, which all steps wait for.
    pub longest_chain: Duration,
    /// Those steps, in their order, and what the calls of each took.
    pub chain: Vec<(ResourceId, Duration)>,
}

impl ApplyTimings {
    /// Sums up the calls that an apply took.
    #[must_use]
    pub fn of(plan: &Plan, calls: &[Call], took: Duration) -> Self {
        let mut by_step: BTreeMap<Option<&ResourceId>, Vec<(Duration, Duration)>> = BTreeMap::new();
        for call in calls {
            by_step.entry(call.step.as_ref()).or_default().push((call.began, call.ended));
        }
        let mut time_of: BTreeMap<Option<&ResourceId>, Duration> =
            by_step.into_iter().map(|(step, spans)| (step, covered(spans))).collect();
        let for_all = time_of.remove(&None).unwrap_or_default();
        let chain = longest_chain(plan, &time_of);
        Self {
            calls: calls.iter().map(|call| call.attempts).sum(),
            took,
            longest_chain: for_all + chain.iter().map(|(_, time)| *time).sum::<Duration>(),
            chain,
        }
    }

    /// How many times as long as the longest chain it took.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.took.as_secs_f64() / self.longest_chain.as_secs_f64().max(f64::EPSILON)
    }

    /// The form for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let chain = self.chain.iter().map(
            |(id, time)| json!({"kind": id.kind, "name": id.name, "calls_s": time.as_secs_f64()}),
        );
        json!({
            "calls": self.calls,
            "took_s": self.took.as_secs_f64(),
            "longest_chain_s": self.longest_chain.as_secs_f64(),
            "ratio": self.ratio(),
            "chain": chain.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for ApplyTimings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "timings  apply {:.2} s, {} calls; {:.2} times the longest chain of calls, {:.2} s:",
            self.took.as_secs_f64(),
            self.calls,
            self.ratio(),
            self.longest_chain.as_secs_f64()
        )?;
        for (id, time) in &self.chain {
            write!(f, "\n         {id}  {:.2} s", time.as_secs_f64())?;
        }
        Ok(())
    }
}

/// The time within any of some spans: what a step calls side by side counts once.
fn covered(mut spans: Vec<(Duration, Duration)>) -> Duration {
    spans.sort();
    let (mut sum, mut until) = (Duration::ZERO, Duration::ZERO);
    for (began, ended) in spans {
        sum += ended.saturating_sub(began.max(until));
        until = until.max(ended);
    }
    sum
}

/// Of all chains of steps that had to follow one another, the one whose calls took longest.
fn longest_chain(
    plan: &Plan,
    time_of: &BTreeMap<Option<&ResourceId>, Duration>,
) -> Vec<(ResourceId, Duration)> {
    // Of each step: the time until it is done, and the step before it on the way there.
    let mut until: BTreeMap<&ResourceId, (Duration, Option<&ResourceId>)> = BTreeMap::new();
    // The lease is in the table: what makes the table comes before everything else.
    let table = plan
        .steps
        .iter()
        .find(|step| step.id.kind == Kind::Table && step.action == Action::Create)
        .map(|step| &step.id);
    for step in &plan.steps {
        let own = time_of.get(&Some(&step.id)).copied().unwrap_or_default();
        let before = step.after.iter().chain(table.filter(|id| **id != step.id));
        let before = before.filter_map(|id| until.get_key_value(id)).max_by_key(|(_, at)| at.0);
        let since = before.map_or(Duration::ZERO, |(_, at)| at.0);
        until.insert(&step.id, (since + own, before.map(|(id, _)| *id)));
    }
    let mut chain = Vec::new();
    let mut at = until.iter().max_by_key(|(_, (time, _))| *time).map(|(id, _)| *id);
    while let Some(id) = at {
        let time = time_of.get(&Some(id)).copied().unwrap_or_default();
        chain.push((id.clone(), time));
        at = until.get(id).and_then(|(_, before)| *before);
    }
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Step;
    use crate::testing::owner;

    fn id(name: &str) -> ResourceId {
        ResourceId::new(Kind::Queue, name)
    }

    fn step(name: &str, after: &[&str]) -> Step {
        Step {
            id: id(name),
            action: Action::Update,
            changes: Vec::new(),
            reason: None,
            desired: None,
            observed: None,
            with_data: false,
            adopts: false,
            after: after.iter().map(|name| id(name)).collect(),
        }
    }

    fn call(operation: &str, step: Option<&str>, from_ms: u64, to_ms: u64) -> Call {
        Call {
            service: "SQS".to_owned(),
            operation: operation.to_owned(),
            step: step.map(id),
            attempts: 1,
            began: Duration::from_millis(from_ms),
            ended: Duration::from_millis(to_ms),
        }
    }

    #[test]
    fn the_longest_chain_is_of_time_and_not_of_steps() {
        let mut plan = Plan::empty(&owner());
        plan.steps =
            vec![step("a", &[]), step("b", &["a"]), step("c", &["b"]), step("long", &["a"])];
        let calls = [
            call("PutItem", None, 0, 5),
            call("SetQueueAttributes", Some("a"), 5, 15),
            call("SetQueueAttributes", Some("b"), 15, 20),
            call("SetQueueAttributes", Some("c"), 20, 30),
            // Side by side: 40 ms in all.
            call("TagQueue", Some("long"), 15, 45),
            call("SetQueueAttributes", Some("long"), 25, 55),
        ];
        let timings = ApplyTimings::of(&plan, &calls, Duration::from_millis(66));
        assert_eq!(timings.longest_chain, Duration::from_millis(5 + 10 + 40));
        let names: Vec<&str> = timings.chain.iter().map(|(id, _)| id.name.as_str()).collect();
        assert_eq!(names, ["a", "long"]);
        assert!((timings.ratio() - 1.2).abs() < 1e-9, "{}", timings.ratio());
    }

    #[test]
    fn repetitions_count_and_writes_are_told() {
        let mut plan = Plan::empty(&owner());
        plan.unchanged = vec![id("a"), id("b")];
        let mut calls = vec![call("GetQueueUrl", None, 0, 1), call("ListQueueTags", None, 0, 1)];
        calls[0].attempts = 3;
        let timings = PlanTimings::of(&plan, &calls, Duration::ZERO);
        assert_eq!((timings.calls, timings.writes, timings.lines), (4, 0, 2));
        assert!(timings.to_string().contains("(2.00 each), all of them reads"), "{timings}");
        calls.push(call("SetQueueAttributes", None, 0, 1));
        let timings = PlanTimings::of(&plan, &calls, Duration::ZERO);
        assert!(timings.to_string().contains("1 of them writes"), "{timings}");
    }
}
