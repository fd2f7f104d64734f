//! The steps of a command as a person sees them: a line each, with a moving
//! sign on a terminal while it lasts, and its outcome and duration at its end.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use console::{Alignment, Term, pad_str, truncate_str};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::interrupt;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const FAINT: Style = Style::new().dimmed();

const NAME_COLUMNS: usize = 10;
const WHAT_COLUMNS: usize = 32;

/// What is printed to a file or a pipe: wide enough for everything.
const WIDTH_ELSEWHERE: usize = 120;
const WIDTH_MIN: usize = 40;

const TICK: Duration = Duration::from_millis(100);

/// Prints steps.
#[derive(Debug)]
pub(crate) struct Steps {
    is_terminal: bool,
}

/// A step that is going on.
#[derive(Debug)]
pub(crate) struct Step {
    name: &'static str,
    what: String,
    started: Instant,
    bar: Option<ProgressBar>,
    width: usize,
    ended: bool,
}

impl Steps {
    /// For standard output.
    pub(crate) fn new() -> Self {
        Self { is_terminal: std::io::stdout().is_terminal() }
    }

    /// How many columns a line may take.
    pub(crate) fn width(&self) -> usize {
        if !self.is_terminal {
            return WIDTH_ELSEWHERE;
        }
        let (_, columns) = Term::stdout().size();
        usize::from(columns).max(WIDTH_MIN)
    }

    /// Begins a step.
    pub(crate) fn begin(&self, name: &'static str, what: impl Into<String>) -> Step {
        let what = what.into();
        let bar = self.moving_line();
        match &bar {
            Some(bar) => bar.set_message(running_line(name, &what, "")),
            // The rest of the line follows at the step's end: whoever reads a
            // log sees what is being waited for.
            None => {
                anstream::print!("{}", columns(name, &what));
                flush();
            }
        }
        Step { name, what, started: Instant::now(), bar, width: self.width(), ended: false }
    }

    /// A line that moves while something lasts, on a terminal.
    pub(crate) fn moving_line(&self) -> Option<ProgressBar> {
        let bar = self.is_terminal.then(|| {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout()).with_style(
                ProgressStyle::with_template("{wide_msg} {spinner} {elapsed:>5}")
                    .expect("a constant template")
                    .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "),
            )
        })?;
        bar.enable_steady_tick(TICK);
        Some(bar)
    }

    /// Prints lines, above a moving line if there is one.
    pub(crate) fn lines(&self, bar: Option<&ProgressBar>, text: &str) {
        match bar {
            Some(bar) => bar.suspend(|| anstream::println!("{text}")),
            None => anstream::println!("{text}"),
        }
    }
}

impl Step {
    /// Says what is going on within the step, where there is a terminal.
    pub(crate) fn note(&self, note: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(running_line(self.name, &self.what, note));
        }
    }

    /// Ends the step as its result says; `detail` is told after the duration.
    pub(crate) fn end<T, E>(self, result: &Result<T, E>, detail: impl FnOnce(&T) -> String) {
        match result {
            Ok(value) => self.end_as("done", GOOD, &detail(value)),
            Err(_) if interrupt::requested() => self.end_as("ended", Style::new(), ""),
            Err(_) => self.end_as("failed", BAD, ""),
        }
    }

    /// Ends the step well, with a word of its own.
    pub(crate) fn end_well(self, word: &str, detail: &str) {
        self.end_as(word, GOOD, detail);
    }

    fn end_as(mut self, word: &str, style: Style, detail: &str) {
        self.ended = true;
        let took = shown_duration(self.started.elapsed());
        let mut outcome = format!("{style}{word:<6}{style:#}{took:>7}");
        if !detail.is_empty() {
            outcome.push_str(&format!("  {FAINT}{detail}{FAINT:#}"));
        }
        match &self.bar {
            Some(bar) => {
                bar.finish_and_clear();
                let line = format!("{}{outcome}", columns(self.name, &self.what));
                anstream::println!("{}", truncate_str(&line, self.width, "…"));
            }
            None => anstream::println!("{outcome}"),
        }
        flush();
    }
}

impl Drop for Step {
    /// A step that was left early: by an error, or an interrupt.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            None if interrupt::requested() => println!("ended"),
            None => anstream::println!("{BAD}failed{BAD:#}"),
        }
    }
}

fn columns(name: &str, what: &str) -> String {
    let what = pad_str(what, WHAT_COLUMNS, Alignment::Left, None);
    format!("  {name:<NAME_COLUMNS$} {what} ")
}

fn running_line(name: &str, what: &str, note: &str) -> String {
    format!("{}{FAINT}{note}{FAINT:#}", columns(name, what))
}

fn flush() {
    // A closed pipe shows at the next line; nothing is lost by not knowing now.
    let _ = std::io::stdout().flush();
}

/// A duration as a person reads it: `41 ms`, `1.9 s`, `2 min 05 s`.
pub(crate) fn shown_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "<1 ms".to_owned(),
        1..1_000 => format!("{millis} ms"),
        1_000..59_950 => format!("{:.1} s", duration.as_secs_f64()),
        _ => {
            let seconds = (duration.as_secs_f64()).round() as u64;
            format!("{} min {:02} s", seconds / 60, seconds % 60)
        }
    }
}

/// A size as a person reads it: `12.1 kB`.
pub(crate) fn shown_bytes(size_bytes: u64) -> String {
    match size_bytes {
        0..1_000 => format!("{size_bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", size_bytes as f64 / 1e3),
        _ => format!("{:.1} MB", size_bytes as f64 / 1e6),
    }
}

/// A count as a person reads it: `1,279`.
pub(crate) fn shown_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_short() {
        let shown = |millis| shown_duration(Duration::from_millis(millis));
        assert_eq!(shown(0), "<1 ms");
        assert_eq!(shown(999), "999 ms");
        assert_eq!(shown(1_049), "1.0 s");
        assert_eq!(shown(59_949), "59.9 s");
        assert_eq!(shown(59_950), "1 min 00 s");
        assert_eq!(shown(125_000), "2 min 05 s");
        assert_eq!(shown_bytes(999), "999 B");
        assert_eq!(shown_bytes(12_100), "12.1 kB");
        assert_eq!(shown_bytes(7_900_000), "7.9 MB");
    }

    #[test]
    fn counts_have_thousands() {
        let shown: Vec<String> = [0, 999, 1_000, 1_279, 1_234_567].map(shown_count).into();
        assert_eq!(shown, ["0", "999", "1,000", "1,279", "1,234,567"]);
    }
}
