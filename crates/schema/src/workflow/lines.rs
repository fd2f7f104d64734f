//! Where in a file its tables stand, for whoever has something to say of them later.

use std::collections::BTreeMap;

/// The lines of a workflow file's tables. They are no part of what the file says: two
/// workflows that differ in nothing else are the same.
#[derive(Debug, Clone, Default)]
pub struct FileLines(BTreeMap<(&'static str, String), usize>);

impl PartialEq for FileLines {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl FileLines {
    pub(super) fn add(&mut self, table: &'static str, name: &str, line: usize) {
        self.0.insert((table, name.to_owned()), line);
    }

    /// The line, the first being 1, of what a table of this name is reached or started by:
    /// of a `trigger` its `start`, of a `subscriber` its `endpoint`, of a `source` its
    /// bucket or resource. `None` for a workflow that was not read from a file.
    #[must_use]
    pub fn line_of(&self, table: &'static str, name: &str) -> Option<usize> {
        self.0.get(&(table, name.to_owned())).copied()
    }

    /// The same as the place of a problem: `line 31, trigger "train"`.
    #[must_use]
    pub fn place(&self, table: &'static str, name: &str) -> String {
        match self.line_of(table, name) {
            Some(line) => format!("line {line}, {table} \"{name}\""),
            None => format!("{table} \"{name}\""),
        }
    }
}
