//! `[[trigger]]`: on which event, where, gathered how, starting what.

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::json;
use super::keys;
use super::model::{
    BatchTarget, Gather, GatherUntil, Guards, OnDeadline, StateMachine, Target, Trigger, WhenHeld,
};
use super::problem::{Fault, quoted};
use super::source::STAGES;
use super::spelling;
use super::table::{At, Section};
use super::types::KnownTypes;
use crate::context::RUN_CONTEXT_KEY;
use crate::event_type::EventType;
use crate::filter::{FilterPolicy, Scope};
use crate::limits::{EXPECTED_DURATION_S_DEFAULT, STARTS_PER_DAY_DEFAULT};

/// Events of one gather window: more would not fit in the list that a run is given a pointer to.
const GATHER_COUNT_MAX: u64 = 100_000;

/// The most that `max_concurrent` may be: each run's slot is some 80 bytes of one row of
/// the ledger, and what a write of it costs grows with its size.
const RUNS_MAX: u32 = 1_000;

/// Where a trigger sets none, a gather window's deadline, in seconds after its first event.
const GATHER_WITHIN_S_DEFAULT: u64 = 3_600;

/// What `gather` can wait for, `start` can start: exactly one of each.
const GATHER_UNTIL: [&str; 5] = ["marker", "manifest", "count", "quiet", "all_of"];
const TARGETS: [&str; 6] =
    ["step-functions", "sagemaker-pipeline", "batch", "lambda", "sns", "sqs"];

pub(super) fn trigger(section: &Section<'_>, types: &KnownTypes) -> Option<Trigger> {
    let name = section.checked("name", spelling::name);
    let stage = section.choice("stage", &STAGES);
    let on = section.one_or_more("on", |text| types.resolve(text));
    let condition = condition(section);
    let gather = optional(section.child("gather", &keys::GATHER), |table| {
        gather(table, types, on.as_deref())
    });
    let guards = match section.child("guards", &keys::GUARDS) {
        Some(table) => guards(&table),
        None => no_guards(),
    };
    let target = section.child("start", &keys::START).and_then(|table| target(&table));
    let input = optional(section.free_table("input"), |table| input(section, table));
    let expected_duration_s = section.duration_s("expected_duration");
    let outputs = optional(section.has("outputs").then_some(()), |()| {
        section.list("outputs", spelling::object_prefix)
    });
    section.finish(&[]);
    Some(Trigger {
        name: name?,
        stage: stage?,
        on: on?,
        condition: condition?,
        gather: gather?,
        guards,
        target: target?,
        input: input?,
        expected_duration_s: expected_duration_s.unwrap_or(EXPECTED_DURATION_S_DEFAULT),
        outputs: outputs?.unwrap_or_default(),
    })
}

/// What is not there is nothing; what is there and was refused has no value at all.
fn optional<T, V>(there: Option<T>, read: impl FnOnce(&T) -> Option<V>) -> Option<Option<V>> {
    match there {
        None => Some(None),
        Some(there) => read(&there).map(Some),
    }
}

/// `where`, as JSON that the filter engine takes.
pub(super) fn condition(section: &Section<'_>) -> Option<Option<Value>> {
    let Some(table) = section.free_table("where") else { return Some(None) };
    let problems_before = section.report().count();
    let policy = Value::Object(json::object(section, "where", table.value));
    let is_json = section.report().count() == problems_before;
    match FilterPolicy::parse(&policy, Scope::Body) {
        // No condition at all is the same as no `where`.
        Ok(parsed) if parsed.is_empty() => Some(None),
        Ok(_) => is_json.then_some(Some(policy)),
        Err(problems) => {
            for problem in problems {
                let found = at_path(table.value, &problem.path);
                let place =
                    if found.is_some() { format!(" at `{}`", problem.path) } else { String::new() };
                let at = found.unwrap_or(table.at);
                let cause = format!("`where`{place}: {}", problem.cause);
                section.fault(at, Fault::new(cause, problem.cause.remedy()));
            }
            None
        }
    }
}

/// The byte where a path of the filter engine, such as `data.size_bytes[0].numeric`, leads to:
/// as far down as the file follows it.
fn at_path(table: &DeTable<'_>, path: &str) -> Option<usize> {
    let is_whole = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
    let (key, value, rest) = table.iter().find_map(|(key, value)| {
        let rest = path.strip_prefix(key.get_ref().as_ref()).filter(|rest| is_whole(rest))?;
        Some((key, value, rest))
    })?;
    let deeper = match value.get_ref() {
        DeValue::Table(table) => rest.strip_prefix('.').and_then(|rest| at_path(table, rest)),
        DeValue::Array(_) => at_element(value, rest),
        _ => None,
    };
    Some(deeper.unwrap_or(key.span().start))
}

fn at_element(list: &Spanned<DeValue<'_>>, path: &str) -> Option<usize> {
    let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
    let element = list.get_ref().as_array()?.get(index.parse::<usize>().ok()?)?;
    let deeper = match element.get_ref() {
        DeValue::Table(table) => rest.strip_prefix('.').and_then(|rest| at_path(table, rest)),
        DeValue::Array(_) => at_element(element, rest),
        _ => None,
    };
    Some(deeper.unwrap_or(element.span().start))
}

fn gather(section: &Section<'_>, types: &KnownTypes, on: Option<&[EventType]>) -> Option<Gather> {
    let until = section.exactly_one(&GATHER_UNTIL).map(|kind| gather_until(section, kind, types));
    let by =
        optional(section.has("by").then_some(()), |()| section.checked("by", spelling::json_path));
    let within_s = if section.has("within") {
        section.duration_s("within")
    } else {
        Some(GATHER_WITHIN_S_DEFAULT)
    };
    let on_deadline =
        section.choice("on_deadline", &[("dead", OnDeadline::Dead), ("start", OnDeadline::Start)]);
    section.finish(&[]);
    let gather = Gather {
        until: until??,
        by: by?,
        within_s: within_s?,
        on_deadline: on_deadline.unwrap_or(OnDeadline::Dead),
    };
    gather_holds(section, &gather, on);
    Some(gather)
}

fn gather_until(section: &Section<'_>, kind: &str, types: &KnownTypes) -> Option<GatherUntil> {
    match kind {
        "marker" => section.checked("marker", spelling::object_name).map(GatherUntil::Marker),
        "manifest" => section.checked("manifest", spelling::object_name).map(GatherUntil::Manifest),
        "count" => section.integer("count", 1..=GATHER_COUNT_MAX, "events").map(GatherUntil::Count),
        "quiet" => section.duration_s("quiet").map(GatherUntil::QuietS),
        _ => section.list("all_of", |text| types.resolve(text)).map(GatherUntil::AllOf),
    }
}

/// What a gather's keys must be to each other, and to the trigger's `on`.
fn gather_holds(section: &Section<'_>, gather: &Gather, on: Option<&[EventType]>) {
    match &gather.until {
        GatherUntil::Marker(_) | GatherUntil::Manifest(_) => {
            let key =
                if matches!(gather.until, GatherUntil::Marker(_)) { "marker" } else { "manifest" };
            if on.is_some_and(|on| !on.contains(&EventType::data_arrived())) {
                let cause =
                    format!("`gather.{key}` waits for an object, and `on` lists no `data.arrived`");
                let remedy = "add data.arrived to `on`, or gather by count, quiet or all_of";
                section.fault_of(key, Fault::new(cause, remedy));
            }
        }
        GatherUntil::QuietS(quiet_s) if *quiet_s >= gather.within_s => {
            let cause = format!(
                "`gather.quiet` is {quiet_s} s, and the deadline is at {} s",
                gather.within_s
            );
            section
                .fault_of("quiet", Fault::new(cause, "make `quiet` shorter, or `within` longer"));
        }
        GatherUntil::AllOf(types) => {
            if types.len() < 2 {
                let cause = format!(
                    "`gather.all_of` lists {} of the two or more that it takes",
                    types.len()
                );
                section.fault_of("all_of", Fault::new(cause, "list them, or drop `gather`"));
            }
            for (index, event_type) in types.iter().enumerate() {
                if on.is_some_and(|on| !on.contains(event_type)) {
                    let cause = format!(
                        "`gather.all_of` waits for {}, and `on` does not list it",
                        event_type.short()
                    );
                    section.fault_of_element("all_of", index, Fault::new(cause, "add it to `on`"));
                }
            }
        }
        GatherUntil::QuietS(_) | GatherUntil::Count(_) => {}
    }
}

fn no_guards() -> Guards {
    Guards {
        cooldown_s: None,
        max_concurrent: None,
        max_starts_per_day: Some(STARTS_PER_DAY_DEFAULT),
        when_held: WhenHeld::Wait,
    }
}

fn guards(section: &Section<'_>) -> Guards {
    let default = no_guards();
    let guards = Guards {
        cooldown_s: section.duration_s("cooldown"),
        max_concurrent: section.integer_u32("max_concurrent", 1..=RUNS_MAX, "runs"),
        max_starts_per_day: section
            .integer_u32("max_starts_per_day", 1..=1_000_000_000, "starts")
            .or(default.max_starts_per_day),
        when_held: section
            .choice("when_held", &[("wait", WhenHeld::Wait), ("drop", WhenHeld::Drop)])
            .unwrap_or(default.when_held),
    };
    section.finish(&[]);
    guards
}

fn target(section: &Section<'_>) -> Option<Target> {
    let kind = section.exactly_one(&TARGETS);
    section.finish(&[]);
    let name_or_arn = |key: &str, service: &str, resource: &str| {
        section.checked(key, |text| spelling::aws_name_or_arn(text, service, &[resource]))
    };
    match kind? {
        "step-functions" => {
            section.checked("step-functions", state_machine).map(Target::StepFunctions)
        }
        "sagemaker-pipeline" => name_or_arn("sagemaker-pipeline", "sagemaker", "pipeline/")
            .map(Target::SagemakerPipeline),
        "batch" => section.child("batch", &keys::START_BATCH).and_then(|table| batch(&table)),
        "lambda" => name_or_arn("lambda", "lambda", "function:").map(Target::Lambda),
        "sns" => section.checked("sns", |text| spelling::arn(text, "sns", &[""])).map(Target::Sns),
        _ => section.checked("sqs", |text| spelling::arn(text, "sqs", &[""])).map(Target::Sqs),
    }
}

fn state_machine(text: &str) -> Result<StateMachine, Fault> {
    if text.starts_with("arn:") {
        return spelling::state_machine_arn(text).map(StateMachine::Arn);
    }
    let definition = spelling::file(text, ".asl.json").map_err(|fault| {
        Fault::new(
            fault.cause,
            format!("{}; or write the ARN of an existing state machine", fault.remedy),
        )
    });
    definition.map(StateMachine::Definition)
}

fn batch(section: &Section<'_>) -> Option<Target> {
    let job_queue = section
        .checked("job_queue", |text| spelling::aws_name_or_arn(text, "batch", &["job-queue/"]));
    let job_definition = section.checked("job_definition", |text| {
        spelling::aws_name_or_arn(text, "batch", &["job-definition/"])
    });
    section.finish(&[]);
    Some(Target::Batch(BatchTarget { job_queue: job_queue?, job_definition: job_definition? }))
}

/// `input`: its queries are tried here, since a run would fail by them much later.
fn input(section: &Section<'_>, table: &At<&DeTable<'_>>) -> Option<Value> {
    let problems = section.report().count();
    check_queries(section, table.value);
    if let Some((key, _)) = table.value.get_key_value(RUN_CONTEXT_KEY) {
        let cause = format!("`input.{RUN_CONTEXT_KEY}` is Bellwire's own");
        section.fault(key.span().start, Fault::new(cause, "name it otherwise"));
    }
    let input = Value::Object(json::object(section, "input", table.value));
    (section.report().count() == problems).then_some(input)
}

fn check_queries(section: &Section<'_>, table: &DeTable<'_>) {
    for (key, value) in table {
        check_query(section, key.get_ref(), value);
    }
}

fn check_query(section: &Section<'_>, key: &str, value: &Spanned<DeValue<'_>>) {
    match value.get_ref() {
        DeValue::String(text) if text.starts_with('$') => {
            if let Err(Fault { cause, remedy }) = spelling::json_path(text) {
                let cause = format!("`input`: {} = {} {cause}", quoted(key), quoted(text));
                section.fault(value.span().start, Fault::new(cause, remedy));
            }
        }
        DeValue::Array(elements) => {
            for element in elements {
                check_query(section, key, element);
            }
        }
        DeValue::Table(table) => check_queries(section, table),
        _ => {}
    }
}
