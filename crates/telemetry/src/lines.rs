//! Where log lines go: standard error, at once or together.
//!
//! A line costs a system call, half of what it costs in all, and a thread that
//! works on hundreds of events before it sleeps may as well write theirs together.

use std::cell::RefCell;
use std::io::{self, Write};
use std::panic;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Held lines are written once they are so long, however busy their thread is.
const HELD_BYTES_MAX: usize = 16 * 1024;

thread_local! {
    /// This thread's lines that are not written yet; `None` where none are held.
    static HELD: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Holds this thread's lines below WARN from now on, until [`write_held_lines`] is
/// called on it: as a tokio runtime of one thread can before that thread sleeps
/// (`on_thread_park`). What is WARN or worse is written at once, with all that is held.
pub fn hold_lines() {
    HELD.set(Some(Vec::with_capacity(2 * HELD_BYTES_MAX)));
}

/// Writes the lines that this thread holds.
pub fn write_held_lines() {
    HELD.with(|held| {
        // A panic while a line is being held has nothing to lose but that line.
        let Ok(mut held) = held.try_borrow_mut() else { return };
        if let Some(lines) = held.as_mut().filter(|lines| !lines.is_empty()) {
            // There is nobody left to tell that standard error is gone.
            _ = io::stderr().write_all(lines);
            lines.clear();
        }
    });
}

/// Lets a panic tell what was held before it tells of itself.
pub(crate) fn write_before_panics() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        write_held_lines();
        tell(panic);
    }));
}

/// Standard error, as the log layer writes to it.
pub(crate) struct Lines;

pub(crate) struct LineWriter {
    is_urgent: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter { is_urgent: true }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LineWriter {
        LineWriter { is_urgent: *metadata.level() <= Level::WARN }
    }
}

impl Write for LineWriter {
    /// Takes a whole line: the layer writes each in one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let is_full = HELD.with_borrow_mut(|held| {
            let lines = held.as_mut()?;
            lines.extend_from_slice(line);
            Some(lines.len() >= HELD_BYTES_MAX)
        });
        match is_full {
            None => io::stderr().write_all(line)?,
            Some(is_full) if is_full || self.is_urgent => write_held_lines(),
            Some(_) => {}
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> usize {
        HELD.with_borrow(|held| held.as_ref().map_or(0, Vec::len))
    }

    #[test]
    fn lines_are_held_until_told_or_urgent_or_too_long() {
        let (mut calm, mut urgent) =
            (LineWriter { is_urgent: false }, LineWriter { is_urgent: true });
        calm.write_all(b"").unwrap();
        assert_eq!(held(), 0, "nobody asked to hold any");
        hold_lines();
        calm.write_all(b"\n").unwrap();
        assert_eq!(held(), 1);
        urgent.write_all(b"\n").unwrap();
        assert_eq!(held(), 0);
        calm.write_all(b"\n").unwrap();
        write_held_lines();
        assert_eq!(held(), 0);
        calm.write_all(&[b'\n'; HELD_BYTES_MAX - 1]).unwrap();
        assert_eq!(held(), HELD_BYTES_MAX - 1);
        calm.write_all(b"\n").unwrap();
        assert_eq!(held(), 0);
    }
}
