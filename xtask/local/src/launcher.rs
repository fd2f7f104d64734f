//! The launcher's process, and the JSON lines in which it reports.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use crate::calls::CALLS_FILE;
use crate::environment::Environment;

/// The launcher forces its own stop before this; after it, the process group is killed.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(10);

/// One line of the launcher's standard output.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    Listening { port: u16 },
    Healthy,
    Check(Check),
    Ready { passed: u32, total: u32 },
    Stopped,
    Error { code: String, message: String },
}

#[derive(Debug, Deserialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) passed: bool,
    pub(crate) detail: String,
}

/// A behaviour of the local AWS that is not that of AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCheck {
    /// The check's name in `selfcheck.py`.
    pub name: String,
    /// What it saw instead.
    pub detail: String,
}

/// How the launcher is started.
pub(crate) struct Arguments<'path> {
    pub(crate) port: Option<u16>,
    pub(crate) folder: &'path Path,
    pub(crate) log: &'path Path,
    pub(crate) persist: bool,
    pub(crate) record_calls: bool,
    pub(crate) self_check: bool,
}

/// A running launcher. The process group has its process id.
#[derive(Debug)]
pub(crate) struct Launcher {
    child: Child,
    /// Its end stops the launcher.
    input: Option<ChildStdin>,
    events: Receiver<Event>,
}

impl Launcher {
    pub(crate) fn spawn(
        environment: &Environment,
        arguments: &Arguments<'_>,
    ) -> io::Result<Launcher> {
        let log = OpenOptions::new().create(true).append(true).open(arguments.log)?;
        let mut command = Command::new(&environment.python);
        command.arg(&environment.launcher);
        command.arg("--state-dir").arg(arguments.folder);
        if let Some(port) = arguments.port {
            command.args(["--port", &port.to_string()]);
        }
        if arguments.persist {
            command.arg("--persist");
        }
        if !arguments.self_check {
            command.arg("--no-self-check");
        }
        // Whatever is in its environment is in that of every Lambda.
        command.env_clear();
        command.env("LANG", "C.UTF-8");
        command.env("PATH", env::var_os("PATH").unwrap_or_default());
        if arguments.record_calls {
            command.env("BELLWIRE_LOCAL_CALLS", arguments.folder.join(CALLS_FILE));
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let input = child.stdin.take();
        let (sender, events) = mpsc::channel();
        let output = child.stdout.take();
        thread::spawn(move || {
            for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()) {
                // An unknown line is none of ours; the end of the pipe ends the channel.
                let Ok(line) = line else { return };
                if let Ok(event) = serde_json::from_str(&line)
                    && sender.send(event).is_err()
                {
                    return;
                }
            }
        });
        Ok(Launcher { child, input, events })
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// The next event; `Disconnected` when the launcher has ended.
    pub(crate) fn next_event(&self, deadline: Instant) -> Result<Event, RecvTimeoutError> {
        let remaining = deadline.saturating_duration_since(Instant::now());
        self.events.recv_timeout(remaining)
    }

    /// Lets the launcher run on when this process ends.
    pub(crate) fn detach(&mut self) -> io::Result<()> {
        self.input.take().map_or(Ok(()), |mut input| input.write_all(b"detach\n"))
    }

    /// Stops it and all that it started, unless it was detached; says whether it stopped by
    /// itself, with its state saved.
    pub(crate) fn stop(&mut self) -> bool {
        if self.input.take().is_none() {
            return true;
        }
        let deadline = Instant::now() + STOP_LIMIT;
        let mut stopped = false;
        while let Ok(event) = self.next_event(deadline) {
            stopped |= matches!(event, Event::Stopped);
        }
        self.kill();
        stopped
    }

    fn kill(&mut self) {
        // Not yet waited for, so the id is still this process group's.
        kill_group(self.child.id());
        let _ = self.child.wait();
    }
}

pub(crate) fn kill_group(process_id: u32) {
    let group = i32::try_from(process_id).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        // No such group is what is wanted.
        let _ = kill_process_group(group, Signal::KILL);
    }
}
