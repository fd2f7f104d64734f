//! The rules, against a table that admits and closes as the ledger's conditions say.

use std::collections::{BTreeMap, BTreeSet};

use bellwire_ledger::{Admission, Fate, GATE_MARGIN, Gate, Member, Previous, Window};
use bellwire_schema::gathered::{GatherEnd, member_id};
use bellwire_schema::workflow::{
    Gather, GatherUntil, Guards, OnDeadline, StateMachine, Target, Trigger, WhenHeld,
};
use bellwire_schema::{Envelope, EventType, Stage};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use super::rules::{GatherRules, Next, Verdict, member_of};

fn rules(until: GatherUntil, on: &[&str], by: Option<&str>) -> GatherRules {
    let trigger = Trigger {
        name: "train".to_owned(),
        stage: Stage::Training,
        on: on.iter().map(|one| one.parse().unwrap()).collect(),
        condition: None,
        gather: Some(Gather {
            until,
            by: by.map(str::to_owned),
            within_s: 3_600,
            on_deadline: OnDeadline::Dead,
        }),
        guards: Guards {
            cooldown_s: None,
            max_concurrent: None,
            max_starts_per_day: None,
            when_held: WhenHeld::Wait,
        },
        target: Target::StepFunctions(StateMachine::Definition("train.asl.json".to_owned())),
        input: None,
        expected_duration_s: 60,
        outputs: Vec::new(),
    };
    GatherRules::compile(&trigger).unwrap().unwrap()
}

fn event(event_type: &str, number: usize) -> Envelope {
    Envelope::new(&format!("{event_type}-{number}"), "/app", event_type.parse().unwrap())
}

fn object(key: &str, second: i64) -> Envelope {
    let mut event = Envelope::new(key, "arn:aws:s3:::lake", EventType::data_arrived());
    event.time = Timestamp::from_millisecond(second * 1_000 + 300).ok();
    event.with_payload(&json!({
        "bucket": "lake", "key": key, "size_bytes": 1, "event_name": "ObjectCreated:Put",
    }))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// The ledger's rows, and its conditions.
#[derive(Default)]
struct Table {
    gates: BTreeMap<u32, Gate>,
    members: BTreeMap<String, (u32, bool)>,
    closed: Vec<(u32, GatherEnd)>,
}

impl Table {
    fn admit(&mut self, admission: &Admission<'_>) -> Result<bool, Box<Option<Gate>>> {
        if self.members.contains_key(admission.member_id) {
            return Ok(false);
        }
        let gate = self.gates.get(&admission.gate).cloned();
        if admission.refusal(gate.as_ref()).is_some() {
            return Err(Box::new(gate));
        }
        let mut gate = gate.unwrap_or_else(|| self.fresh(admission.window, admission.gate, 0));
        gate.count += u64::from(admission.fate == Fate::Gathered);
        gate.opened_at.get_or_insert(admission.now);
        gate.last_at = Some(admission.now);
        gate.types.extend(admission.counted_type().map(str::to_owned));
        if admission.fate == Fate::Marker {
            gate.marker.get_or_insert_with(|| admission.member.clone());
        }
        let row = (gate.generation, admission.fate == Fate::Gathered);
        self.members.insert(admission.member_id.to_owned(), row);
        self.gates.insert(admission.gate, gate);
        Ok(true)
    }

    fn fresh(&self, window: &Window, gate: u32, generation: u32) -> Gate {
        Gate {
            window: window.clone(),
            gate,
            generation,
            count: 0,
            opened_at: None,
            last_at: None,
            types: BTreeSet::new(),
            marker: None,
            previous: None,
            due_at: None,
            expires_at: (at(0) + GATE_MARGIN * 4).as_second(),
        }
    }

    fn gates(&self, window: &Window) -> Vec<Option<Gate>> {
        (0..window.gates).map(|gate| self.gates.get(&gate).cloned()).collect()
    }

    fn settle(&mut self, rules: &GatherRules, window: &Window, now: Timestamp) -> Verdict {
        let gates = self.gates(window);
        let verdict = rules.verdict(&gates, now);
        if let Verdict::Close(ended_by) = verdict {
            let generation = gates.iter().flatten().map(|gate| gate.generation).max().unwrap_or(0);
            self.closed.push((generation, ended_by));
            for gate in 0..window.gates {
                let previous = Previous { ended_by, closed_at: now, listed_until: None };
                let next = self.fresh(window, gate, generation + 1);
                self.gates.insert(gate, Gate { previous: Some(previous), ..next });
            }
        }
        verdict
    }

    fn members_of(&self, generation: u32) -> usize {
        self.members.values().filter(|row| **row == (generation, true)).count()
    }

    /// As the handler does: until it is in, or was. `settles`: whether it lives to
    /// look at the window that it may have ended.
    fn arrive(
        &mut self,
        rules: &GatherRules,
        window: &Window,
        event: &Envelope,
        known: Option<u32>,
        settles: bool,
        now: Timestamp,
    ) {
        let id = member_id("train", &event.source, &event.id);
        let member: Member = member_of(event);
        let is_marker = rules.is_marker(event);
        let known = known.map(|generation| (generation, None));
        let mut attempt = rules.first(window, &id, is_marker, known);
        for _ in 0..30 {
            let fate = rules.fate(&member.event, is_marker, &attempt);
            let admission = Admission {
                window,
                generation: attempt.generation,
                gate: attempt.gate,
                member: &member,
                member_id: &id,
                fate,
                room: rules.room(window, &event.event_type, &attempt),
                is_late: false,
                completes: attempt.completes,
                due_at: now,
                now,
            };
            match self.admit(&admission) {
                Ok(is_new) => {
                    if is_new && attempt.completes && settles {
                        self.settle(rules, window, now);
                    }
                    return;
                }
                Err(gate) => match rules.next(&admission, attempt, (*gate).as_ref()) {
                    Next::Try(next) => attempt = next,
                    Next::Renew => panic!("nothing expires here"),
                    Next::Settle => {
                        self.settle(rules, window, now);
                        attempt = rules.first(window, &id, is_marker, None);
                    }
                },
            }
        }
        panic!("{} did not come in", event.id);
    }
}

proptest! {
    /// In any order, however often, with any guess at what is open, through any number
    /// of gates, and though some die before they close what they filled: so many
    /// events are one window, and each event is in one.
    #[test]
    fn so_many_events_are_one_window_each_of_them_once(
        arrivals in prop::collection::vec((0..40_usize, 0..4_u32, any::<bool>()), 0..200),
        count in 1..9_u64,
        gates in 1..5_u32,
        all_live in any::<bool>(),
    ) {
        let rules = rules(GatherUntil::Count(count), &["label.approved"], Some("$.type"));
        let window = Window::new("train", "x", gates.min(u32::try_from(count).unwrap()));
        let mut table = Table::default();
        let mut distinct = BTreeSet::new();
        for (number, known, settles) in arrivals {
            distinct.insert(number);
            let known = (known < 3).then_some(known);
            let event = event("label.approved", number);
            table.arrive(&rules, &window, &event, known, settles || all_live, at(0));
            if all_live {
                // At once, and by nobody else.
                prop_assert_eq!(table.closed.len() as u64, distinct.len() as u64 / count);
            }
        }
        // The sweep looks at what nobody closed.
        table.settle(&rules, &window, at(1));
        let all = distinct.len() as u64;
        prop_assert_eq!(table.members.len(), distinct.len());
        prop_assert_eq!(table.closed.len() as u64, all / count);
        for (generation, ended_by) in &table.closed {
            prop_assert_eq!(*ended_by, GatherEnd::Complete);
            prop_assert_eq!(table.members_of(*generation) as u64, count);
        }
        let open = u32::try_from(table.closed.len()).unwrap();
        prop_assert_eq!(table.members_of(open) as u64, all % count);
    }

    /// One window ends when one of each type is there, and not before.
    #[test]
    fn one_of_each_type_ends_a_window(
        arrivals in prop::collection::vec((0..3_usize, 0..5_usize, any::<bool>()), 0..40),
    ) {
        let on = ["label.drawn", "label.checked", "label.signed"];
        let types = on.iter().map(|one| one.parse().unwrap()).collect();
        let rules = rules(GatherUntil::AllOf(types), &on, Some("$.source"));
        let window = rules.window_of("/app");
        let mut table = Table::default();
        let (mut open, mut ended, mut seen) = (BTreeSet::new(), 0, BTreeSet::new());
        for (kind, number, settles) in arrivals {
            if seen.insert((kind, number)) {
                // Whoever finds all types there has closed the window, or the sweep has.
                open.insert(kind);
                if open.len() == on.len() {
                    open.clear();
                    ended += 1;
                }
            }
            table.arrive(&rules, &window, &event(on[kind], number), None, settles, at(0));
            table.settle(&rules, &window, at(1));
            prop_assert_eq!(table.closed.len(), ended);
        }
        prop_assert_eq!(table.members.len(), seen.len());
    }

    /// A window is quiet when nothing came for so long, and its deadline is counted
    /// from its first event, through whichever gates they came.
    #[test]
    fn a_window_is_quiet_when_nothing_came_for_so_long(
        seconds in prop::collection::vec(0..3_000_i64, 1..20),
        look in 0..8_000_i64,
    ) {
        let rules = rules(GatherUntil::QuietS(60), &["label.approved"], Some("$.type"));
        let window = rules.window_of("x");
        let mut table = Table::default();
        let mut seconds = seconds;
        seconds.sort_unstable();
        for (number, second) in seconds.iter().enumerate() {
            table.arrive(
                &rules, &window, &event("label.approved", number), None, false, at(*second),
            );
        }
        let (first, last) = (seconds[0], seconds[seconds.len() - 1]);
        let verdict = rules.verdict(&table.gates(&window), at(look));
        let expected = match () {
            () if look >= last + 60 => Verdict::Close(GatherEnd::Complete),
            () if look >= first + 3_600 => Verdict::Close(GatherEnd::Deadline),
            () => Verdict::Wait(at((last + 60).min(first + 3_600))),
        };
        prop_assert_eq!(verdict, expected);
    }
}

#[test]
fn windows_are_told_apart_by_prefix_by_dataset_or_as_asked() {
    let prefixed = rules(GatherUntil::Count(2), &["data.arrived"], None);
    assert_eq!(prefixed.key_of(&object("raw/1/a.csv", 0)).unwrap(), "s3://lake/raw/1/");
    assert_eq!(prefixed.key_of(&object("a.csv", 0)).unwrap(), "s3://lake/");
    let mixed = rules(GatherUntil::Count(2), &["data.arrived", "label.approved"], None);
    let mut labelled = event("label.approved", 1);
    assert_eq!(mixed.key_of(&labelled).unwrap(), "");
    labelled.dataset = Some("wine".to_owned());
    assert_eq!(mixed.key_of(&labelled).unwrap(), "wine");
    let asked = rules(GatherUntil::Count(2), &["data.arrived"], Some("$.data.size_bytes"));
    assert_eq!(asked.key_of(&object("raw/1/a.csv", 0)).unwrap(), "1");
    assert!(asked.key_of(&labelled).is_err());
    let several = rules(GatherUntil::Count(2), &["data.arrived"], Some("$['id', 'source']"));
    let key = several.key_of(&object("k", 0)).unwrap();
    assert_eq!(key, r#"["k","arn:aws:s3:::lake"]"#);
    let long = rules(GatherUntil::Count(2), &["label.approved"], Some("$.dataset"));
    labelled.dataset = Some("x".repeat(1_201));
    assert!(long.key_of(&labelled).is_err());
}

#[test]
fn a_large_window_has_more_gates_and_each_its_share() {
    let gates = |until| rules(until, &["data.arrived"], None).window_of("x").gates;
    assert_eq!(gates(GatherUntil::Count(1)), 1);
    assert_eq!(gates(GatherUntil::Count(2_501)), 2);
    assert_eq!(gates(GatherUntil::Count(100_000)), 8);
    assert_eq!(gates(GatherUntil::Marker("_SUCCESS".to_owned())), 8);
}

#[test]
fn what_a_listing_showed_is_told_from_what_came_after_it() {
    let rules = rules(GatherUntil::Marker("_SUCCESS".to_owned()), &["data.arrived"], None);
    let window = rules.window_of("s3://lake/raw/");
    let previous = |ended_by, listed_until| Previous { ended_by, closed_at: at(0), listed_until };
    let marker = object("raw/_SUCCESS", 10);
    let listed = previous(GatherEnd::Complete, marker.time);
    let fate = |event: &Envelope, previous: Option<Previous>| {
        let attempt = rules.first(&window, "00", rules.is_marker(event), Some((1, previous)));
        let fate = rules.fate(&member_of(event).event, rules.is_marker(event), &attempt);
        (fate, GatherRules::is_late(fate, &attempt))
    };
    assert_eq!(fate(&marker, None), (Fate::Marker, false));
    assert_eq!(fate(&object("raw/a", 10), Some(listed)), (Fate::Listed, false));
    assert_eq!(fate(&object("raw/a", 11), Some(listed)), (Fate::Gathered, true));
    assert_eq!(fate(&object("raw/a", 11), None), (Fate::Gathered, false));
    let missed = previous(GatherEnd::Deadline, None);
    assert_eq!(fate(&object("raw/a", 1), Some(missed)), (Fate::Gathered, true));
    let counted = previous(GatherEnd::Complete, None);
    assert_eq!(fate(&object("raw/a", 1), Some(counted)), (Fate::Gathered, false));
}

#[test]
fn a_manifest_is_asked_again_less_and_less_often() {
    let mut table = Table::default();
    let rules = rules(GatherUntil::Manifest("m.json".to_owned()), &["data.arrived"], None);
    let window = rules.window_of("s3://lake/raw/");
    table.arrive(&rules, &window, &object("raw/m.json", 0), None, false, at(0));
    let gates = table.gates(&window);
    assert_eq!(rules.verdict(&gates, at(5)), Verdict::AskManifest);
    let waits = |second| GatherRules::ask_again_after(&gates, at(second));
    assert_eq!(waits(5), SignedDuration::from_mins(1));
    assert_eq!(waits(200), SignedDuration::from_secs(200));
    assert_eq!(waits(3_000), SignedDuration::from_mins(10));
}
