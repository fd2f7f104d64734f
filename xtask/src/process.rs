//! Child processes, each in a group of its own, so that it is ended together
//! with all that it started.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::interrupt;

const POLL: Duration = Duration::from_millis(20);

/// What a group gets to end by itself before it is ended by force.
const GRACE: Duration = Duration::from_secs(5);

/// A child process and all that it starts. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    program: String,
    ended: bool,
}

/// Why a child process did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// It could not be started at all.
    #[error("`{program}` cannot be started")]
    Start { program: String, source: std::io::Error },
    /// Its state or output could not be read.
    #[error("`{program}` cannot be watched")]
    Watch { program: String, source: std::io::Error },
    /// It ended with an error, which it told in its own words.
    #[error("`{program}` failed ({status}){}", paragraph(stderr))]
    Failed { program: String, status: ExitStatus, stderr: String },
    /// The user interrupted: the group has been ended.
    #[error("interrupted")]
    Interrupted,
}

fn paragraph(text: &str) -> String {
    let text = text.trim_end();
    if text.is_empty() { String::new() } else { format!(":\n{text}") }
}

/// One line of a child's output.
#[derive(Debug)]
pub(crate) enum Line {
    Stdout(String),
    Stderr(String),
}

impl Group {
    /// Starts a command in a group of its own, reading nothing from the terminal:
    /// a background group that reads from it would be stopped.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self, ProcessError> {
        let program = short_name(command.get_program());
        let spawned = command.stdin(Stdio::null()).process_group(0).spawn();
        let child =
            spawned.map_err(|source| ProcessError::Start { program: program.clone(), source })?;
        Ok(Self { child, program, ended: false })
    }

    /// The process id, which is the group's id as well.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself, and how.
    pub(crate) fn poll(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        let status = self
            .child
            .try_wait()
            .map_err(|source| ProcessError::Watch { program: self.program.clone(), source })?;
        self.ended |= status.is_some();
        Ok(status)
    }

    /// Waits for its end, or ends it where the user interrupts.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus, ProcessError> {
        loop {
            if let Some(status) = self.poll()? {
                return Ok(status);
            }
            if interrupt::requested() {
                self.end();
                return Err(ProcessError::Interrupted);
            }
            thread::sleep(POLL);
        }
    }

    /// Asks the group to end, and ends it by force where it does not.
    pub(crate) fn end(&mut self) {
        if self.ended {
            return;
        }
        end_group(self.id(), || !matches!(self.child.try_wait(), Ok(None)));
        self.ended = true;
    }

    /// Lets it run on after this program's own end.
    pub(crate) fn leave_running(mut self) {
        self.ended = true;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ends a process group: politely first, by force after a grace period.
/// `has_ended` says whether its leader is gone.
pub(crate) fn end_group(id: u32, mut has_ended: impl FnMut() -> bool) {
    let Some(group) = i32::try_from(id).ok().and_then(Pid::from_raw) else { return };
    // A group that is already gone is what was wanted.
    let _ = kill_process_group(group, Signal::TERM);
    let deadline = Instant::now() + GRACE;
    while !has_ended() && Instant::now() < deadline {
        thread::sleep(POLL);
    }
    // Also after a polite end: whoever the leader left behind.
    let _ = kill_process_group(group, Signal::KILL);
    while !has_ended() && Instant::now() < deadline + GRACE {
        thread::sleep(POLL);
    }
}

/// Runs a command that has the terminal to itself, questions and Ctrl-C included, to
/// its end: it is in this program's own group, so that the terminal lets it read, and
/// tells it of an interrupt as well. How it ends then is its own affair.
pub(crate) fn run_on_terminal(command: &mut Command) -> Result<ExitStatus, ProcessError> {
    let program = short_name(command.get_program());
    let mut child = command
        .spawn()
        .map_err(|source| ProcessError::Start { program: program.clone(), source })?;
    loop {
        let ended = child.try_wait();
        match ended.map_err(|source| ProcessError::Watch { program: program.clone(), source })? {
            // The interrupt ended it; nothing failed.
            Some(status) if status.code().is_none() && interrupt::requested() => {
                return Err(ProcessError::Interrupted);
            }
            Some(status) => return Ok(status),
            None => {}
        }
        if interrupt::terminated() {
            // Only we were told of this.
            let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            let _ = id.map(|id| kill_process(id, Signal::TERM));
        }
        thread::sleep(POLL);
    }
}

/// Runs a command to its end and hands over its output line by line.
pub(crate) fn run_with_lines(
    command: &mut Command,
    mut each: impl FnMut(Line),
) -> Result<ExitStatus, ProcessError> {
    let mut group = Group::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let (sender, lines) = mpsc::channel();
    if let Some(stdout) = group.child.stdout.take() {
        read_lines(stdout, sender.clone(), Line::Stdout);
    }
    if let Some(stderr) = group.child.stderr.take() {
        read_lines(stderr, sender, Line::Stderr);
    }
    loop {
        match lines.recv_timeout(POLL) {
            Ok(line) => each(line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return group.wait(),
        }
        if interrupt::requested() {
            group.end();
            return Err(ProcessError::Interrupted);
        }
    }
}

/// Runs a command to its end and returns its standard output; its standard
/// error is told only where it fails.
pub(crate) fn output_of(command: &mut Command) -> Result<String, ProcessError> {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let program = short_name(command.get_program());
    let status = run_with_lines(command, |line| match line {
        Line::Stdout(text) => push_line(&mut stdout, &text),
        Line::Stderr(text) => push_line(&mut stderr, &text),
    })?;
    if status.success() {
        return Ok(stdout);
    }
    Err(ProcessError::Failed { program, status, stderr })
}

pub(crate) fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn read_lines(stream: impl Read + Send + 'static, sender: Sender<Line>, wrap: fn(String) -> Line) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { return };
            let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if sender.send(wrap(text)).is_err() {
                return;
            }
        }
    });
}

fn short_name(program: &OsStr) -> String {
    let name = std::path::Path::new(program).file_name().unwrap_or(program);
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_tells_its_own_words() {
        let error = output_of(Command::new("sh").args(["-c", "echo no room >&2; exit 3"]))
            .expect_err("it exits with 3");
        assert_eq!(error.to_string(), "`sh` failed (exit status: 3):\nno room");
    }

    #[test]
    fn a_command_that_does_not_exist_is_named() {
        let error = output_of(&mut Command::new("/nowhere/bellwire-none")).expect_err("no such");
        assert_eq!(error.to_string(), "`bellwire-none` cannot be started");
    }

    #[test]
    fn a_command_on_the_terminal_has_its_own_exit_code() {
        let status = run_on_terminal(Command::new("sh").args(["-c", "exit 3"])).expect("sh starts");
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn ending_a_group_ends_what_its_leader_started() {
        // The leader ignores the polite request's effect on its child: `sleep` is
        // in the group and goes with it.
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo $!; wait"]).stdout(Stdio::piped());
        let mut group = Group::spawn(&mut command).expect("sh starts");
        let mut first = String::new();
        let stdout = group.child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut first).expect("a line");
        let sleeper: i32 = first.trim().parse().expect("a process id");
        group.end();
        let deadline = Instant::now() + Duration::from_secs(5);
        let is_alive = || {
            // A zombie whose new parent has not reaped it yet is dead as well.
            std::fs::read_to_string(format!("/proc/{sleeper}/stat"))
                .is_ok_and(|stat| !stat.contains(") Z "))
        };
        while is_alive() && Instant::now() < deadline {
            thread::yield_now();
        }
        assert!(!is_alive(), "process {sleeper} still runs");
    }
}
