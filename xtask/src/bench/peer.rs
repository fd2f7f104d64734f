//! A peer at work, and what it took: read from /proc just before it is ended,
//! so that its start counts and its end does not, for all peers alike.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::stub::{Counts, Stub};
use super::{BenchError, file_error};
use crate::interrupt;
use crate::process::Group;

const POLL: Duration = Duration::from_millis(20);

/// A peer whose counts stand still for so long does nothing any more.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// Linux tells CPU time in hundredths of a second, on every architecture that
/// Bellwire is built for. Source: proc_pid_stat(5) and sysconf(3).
const TICKS_PER_SECOND: f64 = 100.0;

/// Settings of the person's own that would change what a peer does.
const OWN_SETTINGS: [&str; 5] = ["AWS_", "OTEL_", "BELLWIRE_", "RUST_LOG", "PYTHON"];

/// One who does the work.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// Of its environment, beside what all have.
    pub(super) variables: Vec<(&'static str, String)>,
}

/// What a peer took for its work.
#[derive(Debug, Clone)]
pub(super) struct Measure {
    pub(super) events: u64,
    pub(super) cpu_s: f64,
    pub(super) wall_s: f64,
    pub(super) peak_bytes: u64,
    pub(super) counts: Counts,
}

impl Measure {
    /// CPU seconds for ten thousand events.
    pub(super) fn cpu_per_10k(&self) -> f64 {
        self.cpu_s * 10_000.0 / self.events as f64
    }

    /// Calls of an action for a thousand events. Polls that only wait, once the
    /// queue is empty, belong to no event.
    pub(super) fn calls_per_1000(&self, action: &str) -> f64 {
        let mut calls = self.counts.calls.get(action).copied().unwrap_or(0);
        if action == "ReceiveMessage" {
            calls = calls.saturating_sub(self.counts.waiting);
        }
        calls as f64 * 1_000.0 / self.events as f64
    }
}

impl Peer {
    /// Lets it move so many events, and ends it.
    pub(super) fn measure(
        &self,
        stub: &Stub,
        folder: &Path,
        events: u64,
        mut note: impl FnMut(&str),
    ) -> Result<Measure, BenchError> {
        stub.begin(events)?;
        let log = folder.join(format!("{}.log", self.name));
        let begin = Instant::now();
        let mut group = self.start(stub, &log)?;
        let mut moved = (0, begin);
        let counts = loop {
            interrupt::check()?;
            let counts = stub.counts()?;
            if counts.published >= events && counts.deleted >= events {
                break counts;
            }
            if let Some(status) = group.poll()? {
                return Err(BenchError::Ended { program: self.name, status, log });
            }
            if counts.published + counts.deleted > moved.0 {
                moved = (counts.published + counts.deleted, Instant::now());
            } else if moved.1.elapsed() > STALLED_AFTER {
                let seconds = STALLED_AFTER.as_secs();
                return Err(BenchError::Stalled { program: self.name, seconds, log });
            }
            note(&format!("{} of {events} events", counts.deleted));
            thread::sleep(POLL);
        };
        let wall_s = begin.elapsed().as_secs_f64();
        let id = group.id();
        let usage = usage_of(id).ok_or(BenchError::Usage { program: self.name, id });
        group.end();
        let (cpu_s, peak_bytes) = usage?;
        // It is of use where something went wrong, and large where nothing did.
        fs::remove_file(&log).map_err(file_error(&log))?;
        Ok(Measure { events, cpu_s, wall_s, peak_bytes, counts })
    }

    fn start(&self, stub: &Stub, log: &Path) -> Result<Group, BenchError> {
        let log_file = File::create(log).map_err(file_error(log))?;
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if OWN_SETTINGS.iter().any(|own| text.starts_with(own)) {
                command.env_remove(&name);
            }
        }
        command
            .args(&self.arguments)
            .env("AWS_ENDPOINT_URL", stub.url())
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_DEFAULT_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "bench")
            .env("AWS_SECRET_ACCESS_KEY", "bench")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdout(log_file.try_clone().map_err(file_error(log))?)
            .stderr(log_file);
        Ok(Group::spawn(&mut command)?)
    }
}

/// CPU seconds, of all threads, and the most memory that was resident.
fn usage_of(id: u32) -> Option<(f64, u64)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    Some((cpu_seconds(&stat)?, peak_bytes(&status)?))
}

/// Fields 14 and 15 of `/proc/<pid>/stat`. The second, the program's name, may
/// have spaces and brackets itself. Source: proc_pid_stat(5).
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / TICKS_PER_SECOND)
}

fn peak_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_past_a_name_with_brackets() {
        let stat = "17 (a (b) c) S 1 17 17 0 -1 4194560 900 0 0 0 150 25 0 0 20 0 3 0 1 1 1";
        assert_eq!(cpu_seconds(stat), Some(1.75));
        assert_eq!(peak_bytes("Name:\tx\nVmHWM:\t    2048 kB\n"), Some(2_097_152));
    }

    #[test]
    fn this_process_has_a_usage() {
        let (_, peak) = usage_of(std::process::id()).expect("it runs");
        assert!(peak > 100_000);
    }
}
