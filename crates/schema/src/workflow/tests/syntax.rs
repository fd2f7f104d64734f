//! What is said of a file that is no TOML.

use crate::workflow::tests::{EXAMPLE, and, problems, refused, with};

#[test]
fn each_broken_table_is_told_and_the_others_are_judged() {
    let text = with("kind = \"standard\"", "kind = standard")
        .replace("run = \"sidecar\"", "runn = \"sidecar\"")
        .replace("[[function]]", "[[function]")
        .replace("trusted_by = [\"ecs-tasks.amazonaws.com\"]", "trusted_by = []");
    let found: Vec<_> = problems(&text)
        .into_iter()
        .map(|problem| (problem.line, problem.place, problem.cause, problem.remedy))
        .collect();
    let line = |text_of_line: &str| {
        1 + text.lines().position(|line| line == text_of_line).expect("a line")
    };
    let problem = |at: &str, place: &str, cause: &str, remedy: &str| {
        (line(at), place.to_owned(), cause.to_owned(), remedy.to_owned())
    };
    assert_eq!(
        found,
        [
            problem(
                "kind = standard",
                "TOML",
                "string values must be quoted",
                "put the value in double quotes"
            ),
            problem(
                "runn = \"sidecar\"",
                "[publisher]",
                "unknown key `runn`",
                "did you mean `run`?"
            ),
            problem("[[function]", "TOML", "unclosed array table", "expected `]`"),
        ]
    );
}

#[test]
fn an_unclosed_bracket_is_one_problem_and_hides_nothing_after_its_table() {
    let text =
        with("on = [\"training.failed\", \"prediction.failed\"]", "on = [\"training.failed\"")
            .replace("stage = \"prediction\"", "stage = \"predictoin\"");
    let problems = problems(&text);
    let [first, second] = &problems[..] else { panic!("{problems:#?}") };
    assert_eq!((first.place.as_str(), second.place.as_str()), ("TOML", "trigger \"predict\""));
    assert!(second.remedy.contains("did you mean `prediction`?"));
}

#[test]
fn what_an_unclosed_bracket_swallows_of_its_table_is_no_problem_of_its_own() {
    let text = with(
        "prefix = \"raw/\"\nsuffix = \".csv\"",
        "prefix = [\"raw/\"\nsuffix = \".csv\"\ndataset = { a = 1 }",
    );
    let problems = problems(&text);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert_eq!(problems[0].place, "TOML");
}

#[test]
fn a_broken_table_leaves_open_what_is_emitted() {
    for (sound, broken) in [
        ("bucket = \"wine-lake\"", "bucket = wine-lake"),
        ("stage = \"training\"", "stage = training"),
        ("type = \"label.reviewed\"", "type = label"),
    ] {
        let text = with(sound, broken);
        refused(&text, broken, "", "double quotes");
    }
}

#[test]
fn a_broken_sub_table_hides_only_itself() {
    refused(&and("[trigger.gather]\ncount = = 1\n"), "count = =", "", "");
    refused(
        &and("[[trigger]\nname = \"x\"\n[trigger.start]\nsns = \"x\"\n"),
        "[[trigger]",
        "unclosed array table",
        "expected `]`",
    );
}

#[test]
fn a_repeated_key_or_table_is_one_problem() {
    refused(
        &with("bucket = \"wine-lake\"", "bucket = \"wine-lake\"\nbucket = \"other\""),
        "\"other\"",
        "duplicate key",
        "keep one",
    );
    refused(&and("[topic]\nkind = \"fifo\"\n"), "[topic]", "duplicate key", "keep one");
}

#[test]
fn a_broken_beginning_hides_no_table() {
    let text =
        with("workflow = \"wine\"", "workflow = wine").replace("run = \"sidecar\"", "run = \"x\"");
    let places: Vec<_> = problems(&text).into_iter().map(|problem| problem.place).collect();
    assert_eq!(places, ["TOML", "[publisher]"]);
}

#[test]
fn windows_lines_and_other_alphabets_keep_their_lines() {
    let text = with("display_name = \"Wine quality\"", "display_name = \"Weingüte 🍷\"\nkms = 1");
    let line = 1 + text.lines().position(|line| line == "kms = 1").expect("a line");
    assert_eq!(problems(&text)[0].line, line);
    assert_eq!(problems(&text.replace('\n', "\r\n"))[0].line, line);
    assert_eq!(
        problems(&format!("{text}x = ü")).last().map(|problem| problem.place.as_str()),
        Some("TOML")
    );
}

#[test]
fn depth_does_not_overflow() {
    for text in [
        format!("workflow = \"a\"\n{}x = 1", "a.".repeat(100_000)),
        format!("workflow = \"a\"\nx = {}", "[".repeat(100_000)),
        format!("workflow = \"a\"\nx = {}", "{ a = ".repeat(100_000)),
    ] {
        assert!(!problems(&text).is_empty());
    }
    assert!(problems(EXAMPLE).is_empty());
}
