//! What is wrong with a workflow file, for people and for programs.

use std::fmt;

use serde::Serialize;

/// Columns that place and cause may take before the remedy moves to a line of its own.
const LEFT_CHARS_MAX: usize = 60;

/// Blanks between two columns.
const GAP: &str = "    ";

/// One thing that is wrong with a workflow file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line of the key, value or table that is at fault; the first is 1.
    pub line: usize,
    /// The part of the file: `source "raw"`, `[topic]`, `top level`.
    pub place: String,
    /// What is wrong.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

/// Everything that is wrong with a workflow file, in the order of its lines; never empty.
///
/// It displays as the lines that a person reads, without the `error: ` before them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}", self.display("the workflow file"))]
pub struct Problems {
    /// One or more, by line.
    pub problems: Vec<Problem>,
}

impl Problems {
    /// The text for people, in aligned columns, under the file's name as the user gave it.
    ///
    /// ```
    /// let problems = bellwire_schema::workflow::read("workflow = \"wine\"\nregoin = \"eu-west-1\"").unwrap_err();
    /// assert_eq!(
    ///     problems.display("bellwire.toml").to_string(),
    ///     "bellwire.toml has 1 problem\n\n  line 2  top level: unknown key `regoin`    did you mean `region`?",
    /// );
    /// ```
    pub fn display<'a>(&'a self, file: &'a str) -> impl fmt::Display + 'a {
        ProblemsDisplay { file, problems: &self.problems }
    }
}

struct ProblemsDisplay<'a> {
    file: &'a str,
    problems: &'a [Problem],
}

impl fmt::Display for ProblemsDisplay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        writeln!(f, "{} has {count} {noun}", self.file)?;
        let rows: Vec<[String; 3]> = self.problems.iter().map(row).collect();
        let line_chars = rows.iter().map(|[line, ..]| chars(line)).max().unwrap_or_default();
        let left_chars = rows
            .iter()
            .map(|[_, left, _]| chars(left))
            .filter(|chars| *chars <= LEFT_CHARS_MAX)
            .max();
        let left_chars = left_chars.unwrap_or_default();
        for [line, left, remedy] in &rows {
            write!(f, "\n  {line:line_chars$}  {left:left_chars$}")?;
            if chars(left) > left_chars {
                write!(f, "\n  {:line_chars$}  {:left_chars$}", "", "")?;
            }
            write!(f, "{GAP}{remedy}")?;
        }
        Ok(())
    }
}

fn row(problem: &Problem) -> [String; 3] {
    let Problem { line, place, cause, remedy } = problem;
    [format!("line {line}"), format!("{place}: {cause}"), remedy.clone()]
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// Why a value is refused, and what to write instead: what becomes a [`Problem`]
/// once it is known where the value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) cause: String,
    pub(super) remedy: String,
}

impl Fault {
    pub(super) fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause: cause.into(), remedy: remedy.into() }
    }
}

/// A text of the file as it stands in a message: quoted, escaped, and cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 48;
    if text.chars().count() <= CHARS_MAX {
        return format!("{text:?}");
    }
    let cut: String = text.chars().take(CHARS_MAX).collect();
    format!("{:?}", cut + "…")
}

/// What `text` was probably meant to be, where one of the known words is near.
pub(super) fn nearest<'k>(text: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // Half of a short word may be wrong, a third of a long one: more is another word.
    let distance_max = match text.chars().count() {
        0..=1 => return None,
        2..=4 => 1,
        5..=7 => 2,
        _ => 3,
    };
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(text, word), word))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// The remedy for a word that is none of the known ones.
pub(super) fn known_words(text: &str, known: &[&str]) -> String {
    let list = known.join(", ");
    match nearest(text, known.iter().copied()) {
        Some(word) => format!("did you mean `{word}`? known: {list}"),
        None => format!("known: {list}"),
    }
}
