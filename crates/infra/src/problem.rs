//! What stands in the way of a deploy: all of it at once, each with its remedy.

use std::fmt;

/// One thing that must be mended before anything is deployed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where: `trigger "train"`, `sns topic wine`.
    pub place: String,
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
}

impl Problem {
    /// A problem.
    #[must_use]
    pub fn new(
        place: impl Into<String>,
        cause: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { place: place.into(), cause: cause.into(), remedy: remedy.into() }
    }
}

/// All problems that were found, at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    /// The problems, in the order in which they were found.
    pub problems: Vec<Problem>,
}

impl Problems {
    /// `Ok` where there are none.
    ///
    /// # Errors
    /// All the problems, where there are some.
    pub fn none_of(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        writeln!(f, "{count} problem{} in the way of a deploy", if count == 1 { "" } else { "s" })?;
        let what: Vec<String> = self
            .problems
            .iter()
            .map(|problem| format!("{}: {}", problem.place, problem.cause))
            .collect();
        // One line each where that is readable; a remedy of its own line otherwise.
        let width = what.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        let is_wide = width > 72;
        for (problem, what) in self.problems.iter().zip(&what) {
            if is_wide {
                write!(f, "\n  {what}\n      {}", problem.remedy)?;
            } else {
                write!(f, "\n  {what:<width$}   {}", problem.remedy)?;
            }
        }
        Ok(())
    }
}
