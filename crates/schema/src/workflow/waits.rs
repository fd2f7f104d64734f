//! Waits that the sweep, once a minute, would end late by as much as they last.

use super::{GatherUntil, Trigger, WhenHeld, Workflow};

/// How often the sweep looks for what is due, in seconds.
pub const SWEEP_EVERY_S: u64 = 60;

impl Trigger {
    /// Whether something of it waits for less than the time between two sweeps: its
    /// windows by their quiet or their deadline, or what its guards hold back by
    /// `cooldown`, or by slots that nothing but time gives back.
    #[must_use]
    pub fn has_short_wait(&self) -> bool {
        let gathers = self.gather.as_ref().is_some_and(|gather| {
            let quiet = match gather.until {
                GatherUntil::QuietS(quiet_s) => quiet_s,
                _ => gather.within_s,
            };
            quiet.min(gather.within_s) < SWEEP_EVERY_S
        });
        let guards = &self.guards;
        let has_short_slots = guards.max_concurrent.is_some()
            && !self.target.kind().tells_the_end()
            && self.expected_duration_s < SWEEP_EVERY_S;
        let cools_soon = guards.cooldown_s.is_some_and(|cooldown_s| cooldown_s < SWEEP_EVERY_S);
        gathers || (guards.when_held == WhenHeld::Wait && (has_short_slots || cools_soon))
    }
}

impl Workflow {
    /// Whether a trigger has a wait under a minute.
    #[must_use]
    pub fn has_short_waits(&self) -> bool {
        self.triggers.iter().any(Trigger::has_short_wait)
    }
}

#[cfg(test)]
mod tests {
    fn has(kind: &str, rest: &str) -> bool {
        let text = format!(
            "workflow = \"w\"\n[handler]\ndelivery = \"queued\"\n[[source]]\nname = \"app\"\nkind = \"http\"\n\
             emits = \"training.requested\"\n[[trigger]]\nname = \"t\"\nstage = \"training\"\n\
             on = \"training.requested\"\nstart = {{ {kind} }}\n{rest}\n"
        );
        let read = crate::workflow::read(&text);
        read.unwrap_or_else(|problems| panic!("{problems}")).has_short_waits()
    }

    #[test]
    fn a_wait_is_short_where_the_sweep_may_come_later_than_it_lasts() {
        let machine = "step-functions = \"t.asl.json\"";
        let function = "lambda = \"scorer\"";
        for (kind, rest, is_short) in [
            (machine, "", false),
            (machine, "gather = { quiet = \"59s\" }", true),
            (machine, "gather = { quiet = \"60s\" }", false),
            (machine, "gather = { count = 5, within = \"30s\" }", true),
            (machine, "gather = { count = 5, within = \"10m\" }", false),
            (machine, "guards = { cooldown = \"30s\" }", true),
            (machine, "guards = { cooldown = \"30s\", when_held = \"drop\" }", false),
            (machine, "guards = { cooldown = \"10m\" }", false),
            (machine, "guards = { max_concurrent = 2 }\nexpected_duration = \"20s\"", false),
            (function, "guards = { max_concurrent = 2 }\nexpected_duration = \"20s\"", true),
            (function, "guards = { max_concurrent = 2 }\nexpected_duration = \"2m\"", false),
            (function, "expected_duration = \"20s\"", false),
        ] {
            assert_eq!(has(kind, rest), is_short, "{kind} {rest}");
        }
    }
}
