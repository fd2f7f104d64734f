//! `--check`: whether everything that the settings name can be reached and used,
//! told line by line. It asks and tries; it publishes, receives and changes nothing.

use std::error::Error;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aws_config::SdkConfig;
use aws_sdk_sqs::types::QueueAttributeName;
use bellwire_ledger::{Ledger, LedgerError};
use bellwire_schema::Place;
use bellwire_schema::workflow::{ClaimCheck, Workflow};

use crate::call::CallError;
use crate::connect::{ConnectError, has_http_source, load_config, meaning_of, place_of, queue_url};
use crate::ingest::{Listen, ListenError};
use crate::settings::Settings;
use crate::spool::SpoolError;

/// What a file of redb begins with. Source: redb's design.md, "Super-header".
const REDB_MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

/// What was found: a line for each thing that was looked at.
#[derive(Debug)]
pub struct Report {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    thing: &'static str,
    finding: Result<String, CheckError>,
}

/// Why a thing cannot be used.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    /// Region, credentials, or a queue.
    #[error(transparent)]
    Connect(Box<ConnectError>),
    /// What stands before it failed.
    #[error("not looked at: {0} comes first")]
    NotLookedAt(&'static str),
    /// The topic is not there.
    #[error(
        "there is no topic {arn}: deploy the workflow first (`cargo xtask deploy` or `bellwire apply`), and check --env"
    )]
    NoTopic { arn: String, source: CallError },
    /// The ledger does not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The claim check's bucket is not there.
    #[error("there is no bucket {bucket}: make it, or correct [claim_check] in the workflow file")]
    NoBucket { bucket: String, source: CallError },
    /// It is elsewhere.
    #[error("the bucket {bucket} is in another region: take one of the workflow's own")]
    BucketElsewhere { bucket: String, source: CallError },
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The spool's path is that of something else.
    #[error(
        "{} is no spool: a start would set it aside under another name; check --spool",
        path.display()
    )]
    NotASpool { path: PathBuf },
    /// A folder takes no file.
    #[error("no file can be made in {}: check {flag}", folder.display())]
    Folder { folder: PathBuf, flag: &'static str, source: io::Error },
    /// The address is taken, or not ours.
    #[error(
        "cannot listen on {address}: end what listens there, or choose another one with --listen"
    )]
    Listen { address: Listen, source: ListenError },
}

impl From<ConnectError> for CheckError {
    fn from(error: ConnectError) -> Self {
        Self::Connect(Box::new(error))
    }
}

impl Report {
    /// Whether there is nothing wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.lines.iter().all(|line| line.finding.is_ok())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chars = self.lines.iter().map(|line| line.thing.len()).max().unwrap_or_default();
        for Line { thing, finding } in &self.lines {
            match finding {
                Ok(detail) => writeln!(f, "{thing:<chars$}  ok     {detail}")?,
                Err(error) => {
                    writeln!(f, "{thing:<chars$}  wrong  {error}")?;
                    let mut cause = error.source();
                    while let Some(error) = cause {
                        writeln!(f, "{:chars$}         because {error}", "")?;
                        cause = error.source();
                    }
                }
            }
        }
        Ok(())
    }
}

/// Looks at everything, also where something before it is wrong.
pub async fn check(settings: &Settings) -> Report {
    let workflow = &settings.workflow;
    let mut lines = vec![Line { thing: "settings", finding: Ok(in_words(settings)) }];
    lines.extend(check_aws(settings).await);
    // Nothing else is ever written to it.
    if has_http_source(workflow) {
        lines.push(Line { thing: "spool", finding: check_spool(&settings.spool) });
    }
    if let Some(path) = &settings.address_file {
        let finding = check_folder_of(path, "--address-file").map(|()| path.display().to_string());
        lines.push(Line { thing: "address file", finding });
    }
    lines.push(Line { thing: "listen", finding: check_listen(&settings.listen).await });
    Report { lines }
}

fn in_words(settings: &Settings) -> String {
    let (name, count) = (settings.deployment.prefix(), settings.workflow.sources.len());
    let noun = if count == 1 { "source" } else { "sources" };
    let token = if settings.token.is_some() { ", callers show a token" } else { "" };
    format!("{name}, {count} {noun}{token}")
}

async fn check_aws(settings: &Settings) -> Vec<Line> {
    let failed = |thing, error: ConnectError| {
        let things = aws_things(&settings.workflow).into_iter();
        let rest = things
            .map(move |other| Line { thing: other, finding: Err(CheckError::NotLookedAt(thing)) });
        [Line { thing, finding: Err(error.into()) }].into_iter().chain(rest).collect()
    };
    let config = match load_config(settings).await {
        Ok(config) => config,
        Err(error) => return failed("credentials", error),
    };
    let place = match place_of(settings, &config).await {
        Ok(place) => place,
        Err(error) => return failed("account", error),
    };
    let look = Look { settings, config: &config, place: &place };
    let (ingest, dead, topic, ledger, claims) = tokio::join!(
        look.queue(settings.deployment.ingest_queue()),
        look.queue(settings.deployment.dead_queue()),
        look.topic(),
        look.ledger(),
        look.claims(),
    );
    let account = Ok(format!("{} in {}", place.account, place.region));
    let findings = [
        ("account", Some(account)),
        ("ingest queue", Some(ingest)),
        ("dead queue", Some(dead)),
        ("topic", Some(topic)),
        ("ledger", ledger),
        ("claim check", claims),
    ];
    let lines = findings.into_iter();
    lines.filter_map(|(thing, finding)| Some(Line { thing, finding: finding? })).collect()
}

/// What is in AWS, by the name that its line has.
fn aws_things(workflow: &Workflow) -> Vec<&'static str> {
    let mut things = vec!["ingest queue", "dead queue", "topic"];
    things.extend(uses_ledger(workflow).then_some("ledger"));
    things.extend(workflow.claim_check.is_some().then_some("claim check"));
    things
}

/// Only of what a trigger started is there anything to look up.
fn uses_ledger(workflow: &Workflow) -> bool {
    !workflow.triggers.is_empty()
}

struct Look<'a> {
    settings: &'a Settings,
    config: &'a SdkConfig,
    place: &'a Place,
}

impl Look<'_> {
    async fn queue(&self, name: String) -> Result<String, CheckError> {
        let client = aws_sdk_sqs::Client::new(self.config);
        let url = queue_url(&client, self.config, self.place, &name).await?;
        let count = QueueAttributeName::ApproximateNumberOfMessages;
        let call = client.get_queue_attributes().queue_url(url).attribute_names(count.clone());
        let answer = call.send().await.map_err(|error| {
            meaning_of(CallError::of("sqs:GetQueueAttributes", &error), self.config)
        })?;
        let attributes = answer.attributes.unwrap_or_default();
        let count = attributes.get(&count).map_or("0", String::as_str);
        Ok(format!("{name}, about {count} messages wait in it"))
    }

    async fn topic(&self) -> Result<String, CheckError> {
        let name = self.settings.deployment.topic(self.settings.workflow.topic.kind);
        let arn = self.place.topic_arn(&name);
        let client = aws_sdk_sns::Client::new(self.config);
        let answer = client.get_topic_attributes().topic_arn(&arn).send().await;
        match answer.map_err(|error| CallError::of("sns:GetTopicAttributes", &error)) {
            Ok(_) => Ok(name),
            Err(source)
                if source.code.as_deref().is_some_and(|code| code.starts_with("NotFound")) =>
            {
                Err(CheckError::NoTopic { arn, source })
            }
            Err(error) => Err(meaning_of(error, self.config).into()),
        }
    }

    /// The query that the publisher makes for a completion, for a run that nobody has.
    async fn ledger(&self) -> Option<Result<String, CheckError>> {
        if !uses_ledger(&self.settings.workflow) {
            return None;
        }
        let table = self.settings.deployment.ledger_table();
        let client = aws_sdk_dynamodb::Client::new(self.config);
        let retention_days = self.settings.workflow.ledger.retention_days;
        let ledger = Ledger::new(client, &table, retention_days);
        let found = ledger.find_by_run("arn:none").await;
        Some(found.map(|_| table).map_err(CheckError::from))
    }

    /// S3 answers 404 for a bucket that is not there to everybody, and 403 for one that
    /// is there to whoever may only put objects into it, which is all that the
    /// publisher's role may. Source: Amazon S3 API reference, `HeadBucket`.
    async fn claims(&self) -> Option<Result<String, CheckError>> {
        let ClaimCheck { bucket, prefix } = self.settings.workflow.claim_check.as_ref()?;
        let client = aws_sdk_s3::Client::new(self.config);
        let answer = client.head_bucket().bucket(bucket).send().await;
        let error = match answer {
            Ok(_) => return Some(Ok(format!("s3://{bucket}/{prefix}"))),
            Err(error) => CallError::of("s3:HeadBucket", &error),
        };
        let bucket = bucket.clone();
        Some(match error.http_status {
            Some(403) => Ok(format!("s3://{bucket}/{prefix}")),
            Some(404) => Err(CheckError::NoBucket { bucket, source: error }),
            Some(301 | 400) => Err(CheckError::BucketElsewhere { bucket, source: error }),
            _ => Err(meaning_of(error, self.config).into()),
        })
    }
}

/// Looks without redb, which would make the file, and mend it.
fn check_spool(path: &Path) -> Result<String, CheckError> {
    check_folder_of(path, "--spool")?;
    let of_path = || path.to_owned();
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(format!("{}, which the first start makes", path.display()));
        }
        Err(source) => return Err(SpoolError::Denied { path: of_path(), source }.into()),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(SpoolError::InUse { path: of_path() }.into()),
        Err(TryLockError::Error(source)) => {
            return Err(SpoolError::Io { path: of_path(), source }.into());
        }
    }
    let mut begin = [0; REDB_MAGIC.len()];
    let read = file.read_exact(&mut begin);
    if read.is_err() || begin != REDB_MAGIC {
        return Err(CheckError::NotASpool { path: of_path() });
    }
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    Ok(format!("{}, {bytes} bytes", path.display()))
}

/// Makes a file beside another one, and removes it: no permission bit tells as much.
fn check_folder_of(path: &Path, flag: &'static str) -> Result<(), CheckError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let tried = folder.join(format!(".bellwire-check-{:08x}", fastrand::u32(..)));
    File::create_new(&tried)
        .and_then(|_| std::fs::remove_file(&tried))
        .map_err(|source| CheckError::Folder { folder: folder.to_owned(), flag, source })
}

async fn check_listen(address: &Listen) -> Result<String, CheckError> {
    match address.bind().await {
        Ok(_) => Ok(format!("{address} is free")),
        Err(source) => Err(CheckError::Listen { address: address.clone(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::{Limits, Spool};

    const LIMITS: Limits = Limits { events_max: 10, bytes_max: 1_000_000 };

    fn words(finding: Result<String, CheckError>) -> String {
        Report { lines: vec![Line { thing: "spool", finding }] }.to_string()
    }

    #[tokio::test]
    async fn a_spool_is_looked_at_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool.redb");
        let found = words(check_spool(&path));
        assert!(
            found.starts_with("spool  ok ") && found.contains("the first start makes"),
            "{found}"
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

        let (spool, _) = Spool::open(&path, LIMITS).unwrap();
        let found = words(check_spool(&path));
        assert!(found.contains("is in use by another process"), "{found}");
        spool.close().await;
        let before = std::fs::read(&path).unwrap();
        assert!(words(check_spool(&path)).starts_with("spool  ok "));
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(Spool::open(&path, LIMITS).unwrap());
    }

    #[test]
    fn what_is_no_spool_is_not_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        for content in ["", "redb", "my notes, which nobody wants set aside"] {
            let path = folder.path().join("notes.txt");
            std::fs::write(&path, content).unwrap();
            assert!(words(check_spool(&path)).contains("is no spool"), "{content:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        let found = words(check_spool(&folder.path().join("nowhere/spool.redb")));
        assert!(found.contains("/nowhere: check --spool\n"), "{found}");
        assert!(found.contains("       because No such file"), "{found}");
    }

    #[tokio::test]
    async fn an_address_is_tried_and_let_go() {
        let taken = Listen::Tcp("127.0.0.1:0".parse().unwrap()).bind().await.unwrap();
        let address = taken.address().clone();
        let found = words(check_listen(&address).await);
        assert!(found.contains(&format!("cannot listen on {address}: end what")), "{found}");
        drop(taken);
        assert!(words(check_listen(&address).await).contains("is free"));
        assert!(address.bind().await.is_ok());
    }
}
