//! `docs/workflow-file.md` says what the reader knows.

use crate::workflow::keys::{self, Need};
use crate::workflow::tests::{SMALLEST, accepted, problems};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/workflow-file.md");
const PAGE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/workflow-file.md"));

/// Where the tables begin.
const KEYS: &str = "## Every key";

/// With `BELLWIRE_UPDATE_DOCS=1` the page is written instead.
#[test]
fn the_page_shows_every_key_and_no_other() {
    let (prose, tables) = PAGE.split_once(KEYS).expect("the page has its heading for the keys");
    let wanted = format!("\n\n{}", keys::reference());
    if tables != wanted && std::env::var_os("BELLWIRE_UPDATE_DOCS").is_some() {
        std::fs::write(PATH, format!("{prose}{KEYS}{wanted}")).expect("the page can be written");
        return;
    }
    assert_eq!(tables, wanted, "run this test with BELLWIRE_UPDATE_DOCS=1");
}

#[test]
fn every_key_in_the_table_is_one_that_the_reader_asks_for() {
    // A date is of no key's type, so each key that is read complains of it.
    let elsewhere = |heading: &str, name: &str| {
        let table = match heading {
            "top level" => return format!("{name} = 2026-11-23\n"),
            "`[[source]]` with `kind = \"s3\"`" => "[[source]]\nkind = \"s3\"",
            "`[[source]]` with `kind = \"schedule\"`" => "[[source]]\nkind = \"schedule\"",
            "`[[source]]` with `kind = \"http\"`" => "[[source]]\nkind = \"http\"",
            "`gather` of a `[[trigger]]`" => "[[trigger]]\n[trigger.gather]",
            "`guards` of a `[[trigger]]`" => "[[trigger]]\n[trigger.guards]",
            "`start` of a `[[trigger]]`" => "[[trigger]]\n[trigger.start]",
            "`batch` of a trigger's `start`" => "[[trigger]]\n[trigger.start.batch]",
            heading if heading.contains("sagemaker") => "[[source]]\nkind = \"batch\"",
            heading => heading.trim_matches('`'),
        };
        format!("{table}\n{name} = 2026-11-23\n")
    };
    for table in keys::ALL {
        for key in table.keys {
            let text = elsewhere(table.heading, key.name);
            let line = text.lines().count();
            let problems = problems(&text);
            let is_read = problems.iter().any(|problem| {
                problem.line == line
                    && problem.cause.contains(key.name)
                    && !problem.cause.contains("unknown")
            });
            assert!(is_read, "{} of {} is never read: {problems:#?}", key.name, table.heading);
        }
    }
}

/// Everything that has a default, written out.
fn defaults_of(table: &keys::TableKeys) -> String {
    let written = table.keys.iter().filter_map(|key| match key.need {
        Need::Default(value) => Some(format!("{} = {value}\n", key.name)),
        Need::Required(_) | Need::Optional(_) => None,
    });
    written.collect()
}

#[test]
fn a_default_written_out_means_the_same_as_none() {
    let tables = [
        ("[topic]", &keys::TOPIC),
        ("[publisher]", &keys::PUBLISHER),
        ("[handler]", &keys::HANDLER),
        ("[ledger]", &keys::LEDGER),
        ("[security]", &keys::SECURITY),
        ("[telemetry]", &keys::TELEMETRY),
    ];
    let written: String =
        tables.map(|(header, keys)| format!("{header}\n{}", defaults_of(keys))).concat();
    assert_eq!(accepted(&format!("{SMALLEST}{written}")), accepted(SMALLEST));
    let items = [
        ("[claim_check]\nbucket = \"lake\"\n", &keys::CLAIM_CHECK),
        ("[[source]]\nname = \"a\"\nkind = \"s3\"\nbucket = \"lake\"\n", &keys::SOURCE_S3),
        (
            "[[source]]\nname = \"a\"\nkind = \"schedule\"\nexpression = \"rate(1 day)\"\nemits = \"collection.requested\"\n",
            &keys::SOURCE_SCHEDULE,
        ),
        ("[[function]]\nname = \"a\"\nartifact = \"a.zip\"\n", &keys::FUNCTION),
        (
            "[[subscriber]]\nname = \"a\"\nprotocol = \"email\"\nendpoint = \"a@b.example\"\n",
            &keys::SUBSCRIBER,
        ),
        (
            "[[event]]\ntype = \"a.b\"\n[[trigger]]\nname = \"a\"\nstage = \"training\"\non = \"a.b\"\nstart.step-functions = \"a.asl.json\"\n",
            &keys::TRIGGER,
        ),
        (
            "[[event]]\ntype = \"a.b\"\n[[trigger]]\nname = \"a\"\nstage = \"training\"\non = \"a.b\"\nstart.step-functions = \"a.asl.json\"\n[trigger.gather]\ncount = 3\n",
            &keys::GATHER,
        ),
        (
            "[[event]]\ntype = \"a.b\"\n[[trigger]]\nname = \"a\"\nstage = \"training\"\non = \"a.b\"\nstart.step-functions = \"a.asl.json\"\n[trigger.guards]\n",
            &keys::GUARDS,
        ),
    ];
    for (item, keys) in items {
        let short = format!("{SMALLEST}{item}");
        assert_eq!(accepted(&format!("{short}{}", defaults_of(keys))), accepted(&short), "{item}");
    }
}

#[test]
fn the_example_in_the_page_reads() {
    let (_, rest) = PAGE.split_once("```toml\n").expect("the page begins with an example");
    let (example, _) = rest.split_once("```").expect("the example ends");
    accepted(example);
}
