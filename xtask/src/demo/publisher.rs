//! The publisher, as the demo runs it: on temporary credentials of its own role,
//! which it gets as on a machine of one's own, by `credential_process`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::Agent;

use super::bellwire::{Bellwire, without_own_settings};
use crate::interrupt;
use crate::process::{Group, ProcessError};

const READY_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
const POST_TIMEOUT: Duration = Duration::from_secs(30);
const LOG_LINES_TOLD: usize = 12;

/// How often spans are exported; by default it is every five seconds, which the
/// demo's reader would wait for.
const EXPORT_EVERY_MS: &str = "200";

/// A running publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    group: Group,
    address: String,
    log: PathBuf,
}

/// Where a publisher runs and what it is told.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) program: &'a Path,
    pub(crate) bellwire: &'a Bellwire,
    /// A folder for its settings, its address and its log.
    pub(crate) folder: &'a Path,
    /// `OTEL_*` variables.
    pub(crate) telemetry: &'a [(String, String)],
}

/// Why the publisher does not run or did not take an event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublisherError {
    /// Its files cannot be written.
    #[error("`{}` cannot be written", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// It ended at once, or is not ready.
    #[error("the publisher {what}; its log, {}, ends:\n{}", log.display(), end_of(log))]
    NotReady { what: String, log: PathBuf },
    /// It cannot be started or watched, or the user interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It does not answer.
    #[error("the publisher does not answer; its log, {}, ends:\n{}", log.display(), end_of(log))]
    Silent { log: PathBuf, source: ureq::Error },
    /// It did not take the event.
    #[error("the publisher refused the event ({status}): {answer}")]
    Refused { status: u16, answer: String },
}

impl Publisher {
    /// Starts it and waits until it listens.
    pub(crate) fn start(setting: &Setting<'_>) -> Result<Self, PublisherError> {
        let address_file = address_file(setting.folder);
        let log = setting.folder.join("publisher.log");
        let made = |path: &Path| {
            let path = path.to_owned();
            move |source| PublisherError::File { path, source }
        };
        fs::create_dir_all(setting.folder).map_err(made(setting.folder))?;
        // What an earlier demo may have left is for a cloud that is gone.
        let spool = setting.folder.join("spool.redb");
        match fs::remove_file(&spool) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(made(&spool)(error));
            }
            _ => {}
        }
        let config = setting.folder.join("aws-config");
        fs::write(&config, aws_config(setting.bellwire)).map_err(made(&config))?;
        let log_file = File::create(&log).map_err(made(&log))?;
        let mut command = Command::new(setting.program);
        without_own_settings(&mut command);
        command
            .arg("--workflow")
            .arg(&setting.bellwire.workflow)
            .args(["--listen", "127.0.0.1:0", "--log-format", "json", "--address-file"])
            .arg(&address_file)
            .arg("--spool")
            .arg(&spool)
            .env("AWS_CONFIG_FILE", &config)
            .envs(settings_without_keys(&setting.bellwire.env))
            .env("OTEL_BSP_SCHEDULE_DELAY", EXPORT_EVERY_MS)
            .envs(setting.telemetry.iter().map(|(name, value)| (name, value)))
            .stdout(log_file.try_clone().map_err(made(&log))?)
            .stderr(log_file);
        let mut group = Group::spawn(&mut command)?;
        let address = wait_for_address(&mut group, &address_file, &log)?;
        Ok(Self { group, address, log })
    }

    /// Where it listens, `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Posts an event; returns once SNS has accepted it.
    pub(crate) fn post(&self, event: &Value) -> Result<(), PublisherError> {
        let agent: Agent = Agent::config_builder()
            .timeout_global(Some(POST_TIMEOUT))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let silent = |source| PublisherError::Silent { log: self.log.clone(), source };
        let mut answer = agent
            .post(format!("http://{}/v1/events", self.address))
            .header("content-type", "application/cloudevents+json")
            .send(event.to_string())
            .map_err(silent)?;
        let status = answer.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(());
        }
        let answer = answer.body_mut().read_to_string().map_err(silent)?;
        Err(PublisherError::Refused { status, answer })
    }

    /// Ends it: what it has received is published, and its spans are sent.
    pub(crate) fn stop(mut self) {
        self.group.end();
    }

    /// Lets it run on. [`stop_left_running`] ends it.
    pub(crate) fn leave_running(self, folder: &Path) -> Result<(), PublisherError> {
        let path = process_file(folder);
        fs::write(&path, json!({ "process_id": self.group.id() }).to_string())
            .map_err(|source| PublisherError::File { path, source })?;
        self.group.leave_running();
        Ok(())
    }
}

/// Ends a publisher that was left running, by its folder. Says whether there was one.
pub(crate) fn stop_left_running(folder: &Path) -> bool {
    let Some(id) = left_running(folder) else { return false };
    crate::process::end_group(id, || left_running(folder).is_none());
    // It is gone; what is left of the record is overwritten by the next one.
    let _ = fs::remove_file(process_file(folder));
    true
}

/// The process id of the publisher that was left running, if it still is: process
/// ids come back, so its command line has to name the very same address file.
fn left_running(folder: &Path) -> Option<u32> {
    let record: Value = serde_json::from_slice(&fs::read(process_file(folder)).ok()?).ok()?;
    let id = u32::try_from(record["process_id"].as_u64()?).ok()?;
    let command_line = fs::read(format!("/proc/{id}/cmdline")).ok()?;
    let file = address_file(folder);
    let file = file.as_os_str().as_encoded_bytes();
    command_line.split(|byte| *byte == 0).any(|argument| argument == file).then_some(id)
}

fn address_file(folder: &Path) -> PathBuf {
    folder.join("publisher.address")
}

fn process_file(folder: &Path) -> PathBuf {
    folder.join("publisher.json")
}

/// The end of a log, for an error's message.
pub(super) fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_TOLD)..].join("\n")
}

fn wait_for_address(
    group: &mut Group,
    address_file: &Path,
    log: &Path,
) -> Result<String, PublisherError> {
    let not_ready = |what: String| PublisherError::NotReady { what, log: log.to_owned() };
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        if let Ok(address) = fs::read_to_string(address_file) {
            return Ok(address.trim().to_owned());
        }
        if let Some(status) = group.poll()? {
            return Err(not_ready(format!("ended at once ({status})")));
        }
        if interrupt::requested() {
            return Err(ProcessError::Interrupted.into());
        }
        if Instant::now() > deadline {
            return Err(not_ready(format!("was not ready after {} s", READY_WITHIN.as_secs())));
        }
        thread::sleep(POLL);
    }
}

/// The AWS configuration that leads to the role's credentials. Only the command
/// within it has the local cloud's root key, to assume the role with.
fn aws_config(bellwire: &Bellwire) -> String {
    let command = bellwire.command(&["credentials", "publisher"]);
    let settings = bellwire.env.iter().map(|(name, value)| quoted(&format!("{name}={value}")));
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words = words.map(|word| quoted(&word.to_string_lossy()));
    let line: Vec<String> = settings.chain(words).collect();
    format!("[default]\ncredential_process = /usr/bin/env {}\n", line.join(" "))
}

/// Quoted for the shell, to which the SDK hands the command.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The local cloud's settings without the root's keys, and without the setting
/// that hides the configuration file.
fn settings_without_keys(env: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    let is_own =
        |name: &str| name.contains("KEY") || name.contains("TOKEN") || name == "AWS_CONFIG_FILE";
    env.iter()
        .filter(move |(name, _)| !is_own(name))
        .map(|(name, value)| (name.as_str(), value.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bellwire() -> Bellwire {
        let env = [
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ];
        Bellwire {
            program: "/it's here/bellwire".into(),
            workflow: "w.toml".into(),
            root: "/".into(),
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        }
    }

    #[test]
    fn the_publisher_itself_never_has_the_roots_keys() {
        let env = bellwire().env;
        let settings: Vec<_> = settings_without_keys(&env).collect();
        assert_eq!(settings, [("AWS_ENDPOINT_URL", "http://127.0.0.1:1")]);
    }

    #[test]
    fn credentials_come_from_a_command_that_survives_any_path() {
        let config = aws_config(&bellwire());
        assert!(config.contains(r"'/it'\''s here/bellwire' '--workflow' 'w.toml'"), "{config}");
        assert!(config.contains("/usr/bin/env 'AWS_ACCESS_KEY_ID=test'"), "{config}");
        assert!(config.trim_end().ends_with("'credentials' 'publisher'"), "{config}");
    }
}
