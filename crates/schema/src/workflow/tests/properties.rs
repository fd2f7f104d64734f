//! The reader answers whatever it is given.

use proptest::prelude::*;

use crate::workflow::tests::EXAMPLE;
use crate::workflow::{Workflow, read};

/// A model that survives JSON, or problems: one at least, each on a line of the file, with a
/// place, a cause and a remedy, in order.
fn answers(text: &str) -> Result<(), TestCaseError> {
    match read(text) {
        Ok(workflow) => {
            let json = serde_json::to_string(&workflow).expect("it serialises");
            prop_assert_eq!(
                serde_json::from_str::<Workflow>(&json).expect("it reads again"),
                workflow
            );
        }
        Err(problems) => {
            let lines = text.split('\n').count();
            prop_assert!(!problems.problems.is_empty());
            prop_assert!(problems.problems.is_sorted_by_key(|problem| problem.line));
            for problem in &problems.problems {
                prop_assert!(
                    (1..=lines).contains(&problem.line),
                    "{:?} of {} lines",
                    problem,
                    lines
                );
                prop_assert!(
                    !problem.place.is_empty() && !problem.cause.is_empty(),
                    "{:?}",
                    problem
                );
                prop_assert!(!problem.remedy.is_empty(), "{:?}", problem);
                let is_one_line = ![&problem.place, &problem.cause, &problem.remedy]
                    .iter()
                    .any(|text| text.contains('\n'));
                prop_assert!(is_one_line, "{:?}", problem);
            }
            prop_assert!(problems.to_string().starts_with("the workflow file has "));
        }
    }
    Ok(())
}

/// Pieces of which a workflow file, or nearly one, can be made.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "workflow = \"a\"\n",
        "[topic]\n",
        "[[source]]\n",
        "[[trigger]]\n",
        "[trigger.start]\n",
        "[[function]\n",
        "name = \"a\"\n",
        "name = 1\n",
        "kind = \"s3\"\n",
        "kind = \"http\"\n",
        "on = \"data.arrived\"\n",
        "on = [\n",
        "]\n",
        "}\n",
        "where = { a = [\"b\"] }\n",
        "where = 1\n",
        "gather = { count = 1, quiet = \"1s\" }\n",
        "start = { sns = \"arn:\" }\n",
        "stage = \"training\"\n",
        "\"\"\"\n",
        "environment = { ü = 1 }\n",
        "# [topic]\n",
        "emits = \"data.removed\"\n",
        "input = { a = \"$..[\" }\n",
        "\0",
        "\u{feff}",
        "a.b.c = 1979-05-27\n",
        "'",
        "source = [1, { kind = \"s3\" }]\n",
        "trigger = { name = \"a\" }\n",
        "\r\n",
        "type = \"a.b\"\n",
        "[[event]]\n",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC*|(?s).{0,200}") {
        answers(&text)?;
    }

    #[test]
    fn pieces_of_a_file_are_answered(text in pieces()) {
        answers(&text)?;
    }

    #[test]
    fn a_file_with_a_part_replaced_is_answered(
        at in 0..EXAMPLE.len(),
        length in 0..40_usize,
        insert in prop_oneof![Just(String::new()), "[\\[\\]{}=\"'\\n.,#a-z0-9 ü-]{0,12}"],
    ) {
        // The example is ASCII: every byte is a boundary.
        let end = (at + length).min(EXAMPLE.len());
        answers(&[&EXAMPLE[..at], &insert, &EXAMPLE[end..]].concat())?;
    }

    #[test]
    fn a_file_with_lines_moved_is_answered(from in 0..80_usize, to in 0..80_usize) {
        let mut lines: Vec<&str> = EXAMPLE.lines().collect();
        let line = lines.remove(from % lines.len());
        lines.insert(to % lines.len(), line);
        answers(&lines.join("\n"))?;
    }
}
