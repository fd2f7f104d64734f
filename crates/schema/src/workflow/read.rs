//! The whole file: its tables, one after the other, and then what they are to each other.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::alarms::{self, Alarms};
use super::check;
use super::keys::{self, TableKeys};
use super::lines::FileLines;
use super::model::{
    ClaimCheck, CustomEventType, Function, Handler, Ledger, Publisher, Source, Subscriber,
    Telemetry, Topic, Trigger, Workflow,
};
use super::problem::{Fault, Problems, quoted};
use super::security::Security;
use super::syntax::{self, Recovered};
use super::table::{Report, Section};
use super::types::KnownTypes;
use super::{party, security, settings, source, spelling, trigger};

/// Reads a workflow file's text. Every key, its type, its default and its meaning
/// is in the [module's documentation](super).
///
/// ```
/// let workflow = bellwire_schema::workflow::read("workflow = \"wine\"")?;
/// assert_eq!(workflow.handler.memory_mb, 256);
/// # Ok::<(), bellwire_schema::workflow::Problems>(())
/// ```
///
/// # Errors
/// All that is wrong with it, at once, in the order of its lines. Where its syntax is broken, the tables
/// that are sound are judged all the same; only what a broken table may have said is not held against them.
pub fn read(text: &str) -> Result<Workflow, Problems> {
    let Recovered { text, problems, lost, readable } = syntax::recover(text);
    let report = Report::new(&text, problems, lost);
    let (table, _) = DeTable::parse_recoverable(&text);
    let workflow = if readable { read_table(&report, table.get_ref()) } else { None };
    let problems = report.into_problems();
    match workflow {
        Some(workflow) if problems.is_empty() => Ok(workflow),
        _ => Err(Problems { problems }),
    }
}

/// A table of the file, what was made of it, and whether nothing was wrong with it.
pub(super) struct Item<'r, T> {
    pub(super) section: Section<'r>,
    /// What it says, as far as that is known.
    pub(super) value: Option<T>,
    pub(super) is_sound: bool,
}

/// All tables of a file, read, and not yet held against each other.
pub(super) struct Tables<'r> {
    pub(super) name: Option<String>,
    pub(super) topic: Item<'r, Topic>,
    pub(super) publisher: Item<'r, Publisher>,
    pub(super) handler: Item<'r, Handler>,
    pub(super) ledger: Item<'r, Ledger>,
    pub(super) security: Item<'r, Security>,
    pub(super) claim_check: Item<'r, Option<ClaimCheck>>,
    pub(super) telemetry: Item<'r, Telemetry>,
    pub(super) alarms: Item<'r, Alarms>,
    pub(super) events: Vec<Item<'r, CustomEventType>>,
    pub(super) sources: Vec<Item<'r, Source>>,
    pub(super) functions: Vec<Item<'r, Function>>,
    pub(super) subscribers: Vec<Item<'r, Subscriber>>,
    pub(super) triggers: Vec<Item<'r, Trigger>>,
}

fn read_table<'r>(report: &'r Report, table: &'r DeTable<'r>) -> Option<Workflow> {
    let root = Section::new(report, (table, 0), "top level".to_owned(), "", &keys::ROOT);
    let name = root.checked("workflow", spelling::workflow_name);
    let region = root.checked("region", spelling::region);
    let account = root.checked("account", spelling::account);
    let events = list(&root, "event", "type", &keys::EVENT, |section| source::event(section));
    let types = KnownTypes {
        declared: events
            .iter()
            .filter_map(|event| Some(event.value.as_ref()?.event_type.clone()))
            .collect(),
        is_incomplete: report.has_lost("event") || events.iter().any(|event| event.value.is_none()),
    };
    let tables = Tables {
        name,
        topic: single(&root, "topic", &keys::TOPIC, settings::topic),
        publisher: single(&root, "publisher", &keys::PUBLISHER, settings::publisher),
        handler: single(&root, "handler", &keys::HANDLER, settings::handler),
        ledger: single(&root, "ledger", &keys::LEDGER, settings::ledger),
        security: single(&root, "security", &keys::SECURITY, security::security),
        claim_check: single(&root, "claim_check", &keys::CLAIM_CHECK, settings::claim_check),
        telemetry: single(&root, "telemetry", &keys::TELEMETRY, settings::telemetry),
        alarms: single(&root, "alarms", &keys::ALARMS, alarms::alarms),
        events,
        sources: list(&root, "source", "name", &keys::SOURCE, |section| {
            source::source(section, &types)
        }),
        functions: list(&root, "function", "name", &keys::FUNCTION, |section| {
            party::function(section)
        }),
        subscribers: list(&root, "subscriber", "name", &keys::SUBSCRIBER, |section| {
            party::subscriber(section, &types)
        }),
        triggers: list(&root, "trigger", "name", &keys::TRIGGER, |section| {
            trigger::trigger(section, &types)
        }),
    };
    root.finish(&[]);
    check::check(report, &tables);
    let lines = lines_of(&tables);
    Some(Workflow {
        lines,
        name: tables.name?,
        region,
        account,
        topic: tables.topic.value.unwrap_or_else(settings::default_topic),
        publisher: tables.publisher.value.unwrap_or_else(settings::default_publisher),
        handler: tables.handler.value.unwrap_or_else(settings::default_handler),
        ledger: tables.ledger.value.unwrap_or_else(settings::default_ledger),
        security: tables.security.value.unwrap_or_default(),
        claim_check: tables.claim_check.value.flatten(),
        telemetry: tables.telemetry.value.unwrap_or_default(),
        alarms: tables.alarms.value.unwrap_or_default(),
        event_types: values(tables.events)?,
        sources: values(tables.sources)?,
        functions: values(tables.functions)?,
        subscribers: values(tables.subscribers)?,
        triggers: values(tables.triggers)?,
    })
}

/// Where the tables stand of which more is known only on AWS.
fn lines_of(tables: &Tables<'_>) -> FileLines {
    let mut lines = FileLines::default();
    for item in &tables.triggers {
        if let Some(trigger) = &item.value {
            lines.add("trigger", &trigger.name, item.section.line_of("start"));
        }
    }
    for item in &tables.subscribers {
        if let Some(subscriber) = &item.value {
            lines.add("subscriber", &subscriber.name, item.section.line_of("endpoint"));
        }
    }
    for item in &tables.sources {
        if let Some(source) = &item.value {
            let key = if item.section.has("bucket") { "bucket" } else { "resource" };
            lines.add("source", &source.name, item.section.line_of(key));
        }
    }
    lines
}

fn values<T>(items: Vec<Item<'_, T>>) -> Option<Vec<T>> {
    items.into_iter().map(|item| item.value).collect()
}

/// A table that a file has once, `[topic]`; without a value where it has none.
fn single<'r, T>(
    root: &Section<'r>,
    name: &'static str,
    keys: &'static TableKeys,
    read: impl FnOnce(&Section<'r>) -> T,
) -> Item<'r, T> {
    let report = root.report();
    let absent = |is_sound| Item { section: root.clone(), value: None, is_sound };
    let Some(value) = root.peek(name) else { return absent(!report.has_lost(name)) };
    let DeValue::Table(table) = value.get_ref() else {
        let cause = format!("`{name}` is no table, or there is more than one");
        root.fault_of(name, Fault::new(cause, format!("write it once, as [{name}]")));
        return absent(false);
    };
    let problems = report.count();
    let section =
        Section::new(report, (table, value.span().start), format!("[{name}]"), name, keys);
    let value = read(&section);
    section.finish(&[]);
    Item {
        section,
        value: Some(value),
        is_sound: report.count() == problems && !report.has_lost(name),
    }
}

/// The tables of which a file may have many, `[[source]]`.
fn list<'r, T>(
    root: &Section<'r>,
    name: &'static str,
    name_key: &str,
    keys: &'static TableKeys,
    read: impl Fn(&mut Section<'r>) -> Option<T>,
) -> Vec<Item<'r, T>> {
    let report = root.report();
    let Some(value) = root.peek(name) else { return Vec::new() };
    let DeValue::Array(elements) = value.get_ref() else {
        root.fault_of(
            name,
            Fault::new(format!("`{name}` is no list of tables"), format!("write it as [[{name}]]")),
        );
        return Vec::new();
    };
    let item = |(index, element): (usize, &'r Spanned<DeValue<'r>>)| {
        let DeValue::Table(table) = element.get_ref() else {
            let cause = format!("`{name}` lists what is no table");
            root.fault(element.span().start, Fault::new(cause, format!("write it as [[{name}]]")));
            return None;
        };
        let given = table
            .get(name_key)
            .and_then(|given| given.get_ref().as_str())
            .filter(|given| !given.is_empty());
        let place = match given {
            Some(given) => format!("{name} {}", quoted(given)),
            None => format!("{name} {}", index + 1),
        };
        let mut section = Section::new(report, (table, element.span().start), place, name, keys);
        let problems = report.count();
        let value = read(&mut section);
        let is_sound = report.count() == problems && !report.has_lost(name);
        Some(Item { section, value, is_sound })
    };
    elements.iter().enumerate().filter_map(item).collect()
}
