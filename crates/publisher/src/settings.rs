//! `settings`: what the publisher is told, read once, with every problem reported.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bellwire_schema::Deployment;
use bellwire_schema::names::parse_environment;
use bellwire_schema::workflow::{Problems, Workflow, read};
use clap::{Parser, ValueEnum};

use crate::ingest::Listen;
use crate::ingest::auth::{Token, TokenError};
use crate::ingest::listen::{SOCKET_PATH_BYTES_MAX, UNIX_PREFIX};
use crate::probe::Question;
use crate::spool::Limits;

/// Pipelines that a publisher may have.
const CONCURRENCY_MAX: usize = 64;

/// The largest spool, in events and in MiB: ten million, and 64 GiB.
const SPOOL_EVENTS_MAX: u64 = 10_000_000;
const SPOOL_MIB_MAX: u64 = 64 * 1024;

/// The longest drain, in seconds: past it messages come back by themselves.
const DRAIN_S_MAX: u64 = 110;

/// Publishes what happens in S3, Step Functions and your applications as events
/// on the workflow's SNS topic.
///
/// AWS settings (region, credentials, endpoint) are those of the AWS SDKs:
/// environment variables, profiles, container and instance roles. Traces go
/// where the standard OTEL_* variables say; RUST_LOG filters the logs.
///
/// Exit codes: 0 stopped as asked, or all well with --check and --probe; 1 failed,
/// or not well; 2 wrong settings.
#[derive(Debug, Clone, Parser)]
#[command(name = "bellwire-publisher", version)]
pub struct Flags {
    /// Check the settings, and whether the queues, the topic and everything else that
    /// they name can be reached and used; print a line for each, and end. Publishes,
    /// receives and changes nothing.
    #[arg(long, conflicts_with = "probe")]
    pub check: bool,
    /// Ask the publisher that runs, and listens on --listen, whether it lives (healthz)
    /// or can do its work (readyz); print its answer, and end. For health checks in
    /// containers.
    #[arg(long, value_name = "WHAT")]
    pub probe: Option<Question>,
    /// The workflow file.
    #[arg(long, value_name = "FILE", env = "BELLWIRE_WORKFLOW", default_value = "bellwire.toml")]
    pub workflow: PathBuf,
    /// The environment that the workflow was deployed to.
    #[arg(long, value_name = "NAME", env = "BELLWIRE_ENVIRONMENT")]
    pub env: Option<String>,
    /// Where to take events over HTTP: an address, whose port 0 takes a free one, or
    /// `unix:/run/bellwire/ingest.sock`, which owner and group may connect to.
    #[arg(
        long,
        value_name = "HOST:PORT|unix:PATH",
        env = "BELLWIRE_LISTEN",
        default_value = "127.0.0.1:8787"
    )]
    pub listen: String,
    /// Let --listen be an address that other machines reach. Whoever reaches it
    /// may publish events: set --token-file, or put something that checks callers
    /// before it.
    #[arg(long, env = "BELLWIRE_ALLOW_REMOTE")]
    pub allow_remote: bool,
    /// A file with a token that callers must send: `Authorization: Bearer …`.
    #[arg(long, value_name = "FILE", env = "BELLWIRE_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Write host:port, or unix:path, into this file once listening.
    #[arg(long, value_name = "FILE", env = "BELLWIRE_ADDRESS_FILE")]
    pub address_file: Option<PathBuf>,
    /// Where events that came in over HTTP wait for SNS: a file on a disk that
    /// outlives the process. Used only where the workflow has an http source.
    #[arg(
        long,
        value_name = "FILE",
        env = "BELLWIRE_SPOOL",
        default_value = "bellwire-spool.redb"
    )]
    pub spool: PathBuf,
    /// How many events the spool holds at most; then callers get 503.
    #[arg(long, value_name = "N", env = "BELLWIRE_SPOOL_EVENTS_MAX", default_value = "1000000")]
    pub spool_events_max: String,
    /// How many MiB of events it holds at most.
    #[arg(long, value_name = "MIB", env = "BELLWIRE_SPOOL_MIB_MAX", default_value = "512")]
    pub spool_mib_max: String,
    /// How many batches of messages are worked on together, 1 to 64.
    #[arg(long, value_name = "N", env = "BELLWIRE_CONCURRENCY", default_value = "16")]
    pub concurrency: String,
    /// How long to wait, when asked to stop, for what was received; in seconds.
    #[arg(long, value_name = "SECONDS", env = "BELLWIRE_DRAIN_TIMEOUT_S", default_value = "20")]
    pub drain_timeout_s: String,
    /// How log lines look: for people, for machines, or as standard error is.
    #[arg(long, value_name = "FORMAT", env = "BELLWIRE_LOG_FORMAT", default_value = "auto")]
    pub log_format: LogStyle,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogStyle {
    /// For people on a terminal, else for machines.
    Auto,
    /// For people.
    Human,
    /// For machines.
    Json,
}

/// Settings that were found sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The workflow.
    pub workflow: Workflow,
    /// The workflow in its environment: what gives names.
    pub deployment: Deployment,
    /// Where to listen.
    pub listen: Listen,
    /// What callers must show.
    pub token: Option<Token>,
    /// Where to write the address that was taken.
    pub address_file: Option<PathBuf>,
    /// The spool's file.
    pub spool: PathBuf,
    /// How much it may hold.
    pub spool_limits: Limits,
    /// Pipelines of the bridge.
    pub concurrency: usize,
    /// How long a stop waits for what was received.
    pub drain: Duration,
}

/// One setting that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingProblem {
    /// The flag.
    pub flag: &'static str,
    /// What is wrong with it.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

/// Everything that is wrong with the settings, the workflow file included.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingsError {
    /// What is wrong with flags.
    pub flags: Vec<SettingProblem>,
    /// What is wrong with the workflow file, by the name under which it was given.
    pub workflow: Option<(PathBuf, Problems)>,
}

impl std::error::Error for SettingsError {}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.flags.is_empty() {
            let count = self.flags.len();
            let noun = if count == 1 { "problem" } else { "problems" };
            writeln!(f, "the settings have {count} {noun}")?;
            let flag_chars = self.flags.iter().map(|problem| problem.flag.len()).max().unwrap_or(0);
            for SettingProblem { flag, cause, remedy } in &self.flags {
                write!(f, "\n  {flag:<flag_chars$}  {cause}\n  {:flag_chars$}  {remedy}", "")?;
            }
        }
        let Some((file, problems)) = &self.workflow else { return Ok(()) };
        if !self.flags.is_empty() {
            write!(f, "\n\n")?;
        }
        write!(f, "{}", problems.display(&file.display().to_string()))
    }
}

impl Settings {
    /// Checks flags and reads the workflow file.
    ///
    /// # Errors
    ///
    /// With everything that is wrong.
    pub fn of(flags: Flags) -> Result<Self, SettingsError> {
        let mut found = Found::default();
        let listen = found.listen(&flags.listen, flags.allow_remote);
        let token = flags.token_file.as_deref().and_then(|path| found.token(path));
        let concurrency = found.number("--concurrency", &flags.concurrency, 1..=CONCURRENCY_MAX);
        let events_max =
            found.number("--spool-events-max", &flags.spool_events_max, 1..=SPOOL_EVENTS_MAX);
        let mib_max = found.number("--spool-mib-max", &flags.spool_mib_max, 1..=SPOOL_MIB_MAX);
        let limits = events_max
            .zip(mib_max)
            .map(|(events_max, mib)| Limits { events_max, bytes_max: mib * 1024 * 1024 });
        let drain_s = found.number("--drain-timeout-s", &flags.drain_timeout_s, 0..=DRAIN_S_MAX);
        let environment = found.environment(flags.env.as_deref());
        let workflow = found.workflow(&flags.workflow);
        let Found { problems, workflow_problems } = found;
        let wrong = SettingsError {
            flags: problems,
            workflow: workflow_problems.map(|p| (flags.workflow, p)),
        };
        match (listen, concurrency, limits, drain_s, workflow) {
            (Some(listen), Some(concurrency), Some(limits), Some(drain_s), Some(workflow))
                if wrong.flags.is_empty() =>
            {
                Ok(Self {
                    deployment: Deployment::new(&workflow.name, environment.as_deref()),
                    workflow,
                    listen,
                    token,
                    address_file: flags.address_file,
                    spool: flags.spool,
                    spool_limits: limits,
                    concurrency,
                    drain: Duration::from_secs(drain_s),
                })
            }
            _ => Err(wrong),
        }
    }

    /// Where a publisher with these flags listens, for who asks it something: nothing
    /// else of them needs to be right.
    ///
    /// # Errors
    ///
    /// With what is wrong with it.
    pub fn listen_of(flags: &Flags) -> Result<Listen, SettingsError> {
        let mut found = Found::default();
        let is_asking = true;
        match found.listen(&flags.listen, is_asking) {
            Some(listen) => Ok(listen),
            None => Err(SettingsError { flags: found.problems, workflow: None }),
        }
    }
}

/// Takes settings one after the other, and notes what is wrong.
#[derive(Default)]
struct Found {
    problems: Vec<SettingProblem>,
    workflow_problems: Option<Problems>,
}

impl Found {
    fn wrong<T>(&mut self, flag: &'static str, cause: String, remedy: &str) -> Option<T> {
        self.problems.push(SettingProblem { flag, cause, remedy: remedy.to_owned() });
        None
    }

    fn listen(&mut self, text: &str, allow_remote: bool) -> Option<Listen> {
        if let Some(path) = text.strip_prefix(UNIX_PREFIX) {
            return self.socket(path);
        }
        let text = text.replace("localhost:", "127.0.0.1:");
        let Ok(address) = text.parse::<SocketAddr>() else {
            let cause = format!("`{text}` is no address");
            let remedy = "give an IP address and a port, 127.0.0.1:8787, or unix: and a path";
            return self.wrong("--listen", cause, remedy);
        };
        if !is_loopback(address.ip()) && !allow_remote {
            let cause = format!("{address} can be reached from other machines");
            let remedy = "listen on 127.0.0.1, or add --allow-remote";
            return self.wrong("--listen", cause, remedy);
        }
        Some(Listen::Tcp(address))
    }

    fn socket(&mut self, path: &str) -> Option<Listen> {
        if path.is_empty() || path.ends_with('/') || path.len() > SOCKET_PATH_BYTES_MAX {
            let cause = format!("`{path}` is no path of a socket");
            let remedy = format!(
                "give one of at most {SOCKET_PATH_BYTES_MAX} bytes: unix:/run/bellwire/ingest.sock"
            );
            return self.wrong("--listen", cause, &remedy);
        }
        Some(Listen::Unix(path.into()))
    }

    fn token(&mut self, path: &Path) -> Option<Token> {
        let error = match Token::read(path) {
            Ok(token) => return Some(token),
            Err(error) => error,
        };
        let remedy = match error {
            TokenError::Unreadable { .. } => "give the path of a file with a token",
            TokenError::TooShort { .. } | TokenError::NotOneWord { .. } => {
                "write one word into it, such as `openssl rand -hex 32` prints"
            }
        };
        self.wrong("--token-file", error.to_string(), remedy)
    }

    fn number<T>(&mut self, flag: &'static str, text: &str, range: RangeInclusive<T>) -> Option<T>
    where
        T: std::str::FromStr + PartialOrd + fmt::Display,
    {
        let number = text.trim().parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let cause =
                format!("`{text}` is no whole number from {} to {}", range.start(), range.end());
            return self.wrong(flag, cause, "correct it, or leave it out for the default");
        }
        number
    }

    fn environment(&mut self, name: Option<&str>) -> Option<String> {
        let name = name.filter(|name| !name.is_empty())?;
        match parse_environment(name) {
            Ok(name) => Some(name),
            Err(error) => {
                let cause = format!("`{name}` is no environment's name");
                self.wrong("--env", cause, &error.to_string())
            }
        }
    }

    fn workflow(&mut self, path: &Path) -> Option<Workflow> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let cause = format!("{} cannot be read: {error}", path.display());
                return self.wrong("--workflow", cause, "give the path of your bellwire.toml");
            }
        };
        match read(&text) {
            Err(problems) => {
                self.workflow_problems = Some(problems);
                None
            }
            Ok(workflow) => Some(workflow),
        }
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(arguments: &[&str]) -> Flags {
        Flags::parse_from([&["bellwire-publisher"], arguments].concat())
    }

    #[test]
    fn every_wrong_setting_is_reported_at_once() {
        let arguments = [
            "--listen",
            "0.0.0.0:8787",
            "--concurrency",
            "0",
            "--drain-timeout-s",
            "soon",
            "--env",
            "Prod",
            "--workflow",
            "/nowhere/bellwire.toml",
            "--token-file",
            "/nowhere/token",
        ];
        let error = Settings::of(flags(&arguments)).unwrap_err();
        insta::assert_snapshot!(error, @r"
        the settings have 6 problems

          --listen           0.0.0.0:8787 can be reached from other machines
                             listen on 127.0.0.1, or add --allow-remote
          --token-file       /nowhere/token cannot be read: No such file or directory (os error 2)
                             give the path of a file with a token
          --concurrency      `0` is no whole number from 1 to 64
                             correct it, or leave it out for the default
          --drain-timeout-s  `soon` is no whole number from 0 to 110
                             correct it, or leave it out for the default
          --env              `Prod` is no environment's name
                             an environment's name takes lower-case letters, digits and hyphens, begins with a letter, does not end in a hyphen, and has at most 16 characters
          --workflow         /nowhere/bellwire.toml cannot be read: No such file or directory (os error 2)
                             give the path of your bellwire.toml
        ");
    }

    #[test]
    fn only_loopback_is_listened_on_unless_told_otherwise() {
        for (address, allow_remote, is_taken) in [
            ("127.0.0.1:0", false, true),
            ("localhost:80", false, true),
            ("[::1]:80", false, true),
            ("[::ffff:127.0.0.1]:80", false, true),
            ("0.0.0.0:80", false, false),
            ("[::]:80", false, false),
            ("192.168.0.4:80", false, false),
            ("192.168.0.4:80", true, true),
        ] {
            let taken = Found::default().listen(address, allow_remote);
            assert_eq!(taken.is_some(), is_taken, "{address} {allow_remote}");
        }
    }

    #[test]
    fn a_unix_socket_is_listened_on_where_its_path_fits() {
        let listen = |text: &str| Found::default().listen(text, false);
        let path = "/run/bellwire/ingest.sock";
        assert_eq!(listen(&format!("unix:{path}")), Some(Listen::Unix(path.into())));
        let long = "x".repeat(SOCKET_PATH_BYTES_MAX);
        assert!(listen(&format!("unix:{long}")).is_some());
        for wrong in ["unix:", "unix:/run/", &format!("unix:{long}x")] {
            assert_eq!(listen(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_token_is_one_word_that_nobody_guesses_and_nobody_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        for (text, is_taken) in [
            (" 0123456789abcdef\n", true),
            ("0123456789abcde", false),
            ("\n", false),
            ("0123456789 abcdef", false),
            ("0123456789\nabcdef", false),
            ("0123456789abcde\u{e9}", false),
        ] {
            std::fs::write(&file, text).unwrap();
            let mut found = Found::default();
            assert_eq!(found.token(&file).is_some(), is_taken, "{text:?}");
            assert_eq!(found.problems.is_empty(), is_taken);
            assert!(!format!("{:?}", found.problems).contains("0123"), "{text:?}");
        }
    }
}
