//! The file as TOML: its syntax errors, several at once, and what of it can be read all the same.
//!
//! A TOML parser that goes on after an unclosed bracket takes the rest of the file for
//! part of it. So where a file does not parse, it is cut at its table headers, each
//! block is parsed alone, and the broken ones are blanked out: every other block is
//! then read as if nothing had happened, on its own lines.

use std::borrow::Cow;
use std::ops::Range;

use toml::de::{DeTable, Error};

use super::problem::Problem;

/// Passes over the file: each one blanks at least one block, nearly always all that are broken.
const PASSES_MAX: usize = 16;

/// What could be saved of a file.
pub(super) struct Recovered<'t> {
    /// The file, of the same length and lines, with its broken blocks blanked.
    pub(super) text: Cow<'t, str>,
    /// The syntax errors.
    pub(super) problems: Vec<Problem>,
    /// The tables that were blanked, by the first part of their name; the top level is empty.
    pub(super) lost: Vec<String>,
    /// Whether `text` parses: where not, there is nothing more to say of the file.
    pub(super) readable: bool,
}

/// Finds the syntax errors of a file, and blanks the blocks that have any.
pub(super) fn recover(text: &str) -> Recovered<'_> {
    if DeTable::parse(text).is_ok() {
        return Recovered {
            text: Cow::Borrowed(text),
            problems: Vec::new(),
            lost: Vec::new(),
            readable: true,
        };
    }
    let lines = Lines::of(text);
    let blocks = blocks(text);
    let mut broken = vec![false; blocks.len()];
    let mut problems = Vec::new();
    for (block, broken) in blocks.iter().zip(&mut broken) {
        let errors = DeTable::parse_recoverable(&text[block.range.clone()]).1;
        *broken = !errors.is_empty();
        problems.extend(block_problems(&lines, block.range.start, errors));
    }
    // What is left may still contradict itself between blocks: one table twice.
    for _ in 0..PASSES_MAX {
        blank_orphans(&blocks, &mut broken);
        let rest = blanked(text, &blocks, &broken);
        let errors = DeTable::parse_recoverable(&rest).1;
        if errors.is_empty() {
            let lost = blocks.iter().zip(&broken).filter(|(_, broken)| **broken);
            let lost = lost.map(|(block, _)| block.root().to_owned()).collect();
            return Recovered { text: Cow::Owned(rest), problems, lost, readable: true };
        }
        let mut judged = broken.clone();
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            let index = blocks.iter().rposition(|block| block.range.start <= at).unwrap_or(0);
            // What follows the first error of a block may follow from it.
            if !judged[index] {
                problems.push(problem(&lines, at, &error));
            }
            judged[index] = true;
        }
        broken = judged;
    }
    if problems.is_empty() {
        let (cause, remedy) =
            ("cannot be read".to_owned(), "see https://toml.io for what TOML takes".to_owned());
        problems.push(Problem { line: 1, place: "TOML".to_owned(), cause, remedy });
    }
    Recovered { text: Cow::Borrowed(""), problems, lost: Vec::new(), readable: false }
}

/// A table header with what follows it, up to the next one.
struct Block<'t> {
    range: Range<usize>,
    /// `trigger`, `trigger.where`; empty for what stands before the first header.
    name: &'t str,
}

impl Block<'_> {
    fn root(&self) -> &str {
        self.name.split('.').next().unwrap_or_default().trim()
    }
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = vec![Block { range: 0..text.len(), name: "" }];
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some(name) = header(line) {
            blocks.last_mut().expect("there is one from the beginning").range.end = start;
            blocks.push(Block { range: start..text.len(), name });
        }
        start += line.len();
    }
    blocks
}

/// The name in a line that looks like a table header: a bracket, or two, and a letter.
fn header(line: &str) -> Option<&str> {
    let line = line.trim_start().strip_prefix('[')?;
    let name = line.strip_prefix('[').unwrap_or(line).trim_start();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || "_-. ".contains(c)));
    Some(name[..end.unwrap_or(name.len())].trim())
}

/// A sub-table whose own table is lost would become part of the table before it.
fn blank_orphans(blocks: &[Block<'_>], broken: &mut [bool]) {
    let mut lost: Option<&str> = None;
    for (block, broken) in blocks.iter().zip(broken) {
        let is_sub_table = block.name.contains('.');
        if is_sub_table {
            *broken |= lost == Some(block.root());
        } else {
            lost = broken.then_some(block.name);
        }
    }
}

fn blanked(text: &str, blocks: &[Block<'_>], broken: &[bool]) -> String {
    let mut rest = String::with_capacity(text.len());
    for (block, broken) in blocks.iter().zip(broken) {
        let body = &text[block.range.clone()];
        if *broken {
            rest.extend(body.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        } else {
            rest.push_str(body);
        }
    }
    rest
}

/// The errors of one block: the first of each line, and only the first of all where a
/// bracket is never closed, since everything after it is then misread.
fn block_problems(lines: &Lines, start: usize, mut errors: Vec<Error>) -> Vec<Problem> {
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let runs_on = |error: &Error| {
        ["unclosed array,", "unclosed inline table"]
            .iter()
            .any(|what| error.message().starts_with(what))
    };
    if errors.iter().any(runs_on) {
        errors.truncate(1);
    }
    let at = |error: &Error| start + error.span().map_or(0, |span| span.start);
    let mut problems: Vec<Problem> =
        errors.iter().map(|error| problem(lines, at(error), error)).collect();
    problems.dedup_by_key(|problem| problem.line);
    problems
}

fn problem(lines: &Lines, at: usize, error: &Error) -> Problem {
    let (cause, expected) = match error.message().split_once(", expected ") {
        Some((cause, expected)) => (cause, Some(expected)),
        None => (error.message(), None),
    };
    let remedy = match (cause, expected) {
        ("string values must be quoted", _) => "put the value in double quotes".to_owned(),
        // A word without quotes that begins like one of these is taken for it.
        (
            "invalid boolean" | "invalid float",
            Some(expected @ ("`true`" | "`false`" | "`nan`" | "`inf`")),
        ) => {
            format!("write {expected}, or put a text in double quotes")
        }
        ("duplicate key", _) => "keep one of the two".to_owned(),
        ("extra comma in array", _) => "take one comma out".to_owned(),
        ("recursion limit", _) => "nest it less deep".to_owned(),
        (_, Some(expected)) => format!("expected {expected}"),
        (_, None) => "see https://toml.io for what TOML takes".to_owned(),
    };
    Problem { line: lines.line(at), place: "TOML".to_owned(), cause: cause.to_owned(), remedy }
}

/// Where the lines of a text end.
pub(super) struct Lines {
    ends: Vec<usize>,
}

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        Self { ends: text.match_indices('\n').map(|(at, _)| at).collect() }
    }

    /// The line of a byte, the first being 1; what lies past the end is on the last line.
    pub(super) fn line(&self, at: usize) -> usize {
        1 + self.ends.partition_point(|end| *end < at)
    }
}
