mod blocks;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::committer::{Committer, Request};
use super::torn_disk::TornDisk;
use super::{
    Admission, AppendError, Blocking, Limits, Record, RemoveError, Spool, SpoolError, Store, Stored,
};

const LIMITS: Limits = Limits { events_max: 100_000, bytes_max: 1 << 30 };

/// For what must happen.
const DEADLINE: Duration = Duration::from_secs(30);

/// How often the power goes in one run of the torn disk.
const POWER_LOSSES: usize = 3;

/// How many commits go before the power goes at last.
const COMMITS_MAX: usize = 100;

fn record(body: impl Into<Vec<u8>>) -> Record {
    Record { lane: None, body: body.into() }
}

fn numbered(numbers: std::ops::Range<u32>) -> Vec<Record> {
    numbers.map(|number| record(format!("{{\"number\":{number}}}"))).collect()
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn all(store: &Store) -> Vec<Stored> {
    store.read_after(0, usize::MAX, usize::MAX).unwrap()
}

fn bodies(stored: &[Stored]) -> Vec<String> {
    stored.iter().map(|stored| String::from_utf8(stored.body.clone()).unwrap()).collect()
}

fn append(store: &Store, records: &[Record]) -> Admission {
    store.commit(&[records], &[], now()).unwrap()[0]
}

/// A spool's file in a folder of its own.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("spool.redb")
    }

    fn store(&self) -> Store {
        let opened = Store::open(&self.file(), LIMITS).unwrap();
        assert_eq!(opened.recovery, None);
        opened.store
    }
}

/// Queues requests before the committer starts, so that the grouping is certain.
/// Answers with the number of commits.
async fn commits_for(store: Arc<Store>, requests: u32, records_per_commit_max: usize) -> u64 {
    let (sender, waiting) = mpsc::channel(1000);
    let (newest, _) = watch::channel(0);
    let mut answers = Vec::new();
    for number in 0..requests {
        let (answer, answered) = oneshot::channel();
        let records = numbered(number..number + 1);
        sender.try_send(Request::Append { records, answer }).unwrap();
        answers.push(answered);
    }
    // The last handle is gone before anything was committed.
    drop(sender);
    let committer =
        Committer { store: Arc::clone(&store), waiting, newest, records_per_commit_max };
    committer.start(Blocking::OffRuntime).unwrap();
    for answer in answers {
        assert_eq!(answer.await.unwrap().result, Ok(()));
    }
    assert_eq!(all(&store).len(), requests as usize);
    store.commits()
}

#[tokio::test]
async fn what_waits_shares_a_commit_and_an_fsync() {
    let mut syncs = Vec::new();
    for requests in [1, 300] {
        let disk = TornDisk::new();
        // Held until the syncs are counted: what closes the database syncs too.
        let store = Arc::new(Store::with_backend(disk.clone(), LIMITS).unwrap());
        append(&store, &[]);
        let before = disk.syncs();
        assert_eq!(commits_for(Arc::clone(&store), requests, 1024).await, 2);
        syncs.push(disk.syncs() - before);
    }
    assert_eq!(syncs[0], syncs[1], "300 requests cost the syncs of one");
}

#[test]
fn those_whom_a_full_spool_turns_away_cost_no_fsync() {
    let disk = TornDisk::new();
    let limits = Limits { events_max: 1, ..LIMITS };
    let store = Store::with_backend(disk.clone(), limits).unwrap();
    append(&store, &numbered(0..1));
    let before = disk.syncs();
    let full = append(&store, &numbered(1..2));
    assert!(matches!(full, Admission::Full { events: 1, .. }), "{full:?}");
    assert_eq!(disk.syncs(), before);
    store.commit(&[], &[1], now()).unwrap();
    append(&store, &numbered(1..2));
    assert_eq!(bodies(&all(&store)), [r#"{"number":1}"#]);
}

#[tokio::test]
async fn a_commit_takes_no_more_than_it_may() {
    let store = || Arc::new(Store::with_backend(TornDisk::new(), LIMITS).unwrap());
    assert_eq!(commits_for(store(), 20, 1).await, 20);
    assert_eq!(commits_for(store(), 20, 10).await, 2);
}

#[tokio::test]
async fn events_come_back_in_order_with_what_was_said_of_them() {
    let spool = Spool::in_memory(LIMITS).unwrap();
    let mut appended = spool.subscribe();
    assert_eq!(*appended.borrow_and_update(), 0);
    let lane = Record { lane: Some("wine".to_owned()), body: b"{}".to_vec() };
    spool.append(vec![lane, record("")]).await.unwrap();
    spool.append(numbered(0..3)).await.unwrap();
    appended.changed().await.unwrap();

    let read = spool.read_after(0, 3, usize::MAX).await.unwrap();
    assert_eq!(read.iter().map(|stored| stored.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(read[0].lane.as_deref(), Some("wine"));
    assert_eq!((read[0].body.as_slice(), &read[1].lane), (b"{}".as_slice(), &None));
    assert_eq!(spool.depth().oldest_at, Some(read[0].admitted_at));
    let rest = spool.read_after(3, 10, usize::MAX).await.unwrap();
    assert_eq!(bodies(&rest), [r#"{"number":1}"#, r#"{"number":2}"#]);
    // One that is larger than the bound comes alone rather than never.
    assert_eq!(spool.read_after(2, 10, 1).await.unwrap().len(), 1);
    assert_eq!(spool.read_after(2, 10, 24).await.unwrap().len(), 2);
    assert_eq!(spool.read_after(5, 10, 24).await.unwrap(), []);
}

#[tokio::test]
async fn a_full_spool_takes_none_of_a_request_until_something_is_removed() {
    let spool = Spool::in_memory(Limits { events_max: 3, ..LIMITS }).unwrap();
    spool.append(numbered(0..2)).await.unwrap();
    let bytes = spool.depth().bytes;
    assert_eq!(bytes, numbered(0..2).iter().map(Record::encoded_bytes).sum::<u64>());
    let full = AppendError::Full { events: 2, bytes };
    assert_eq!(spool.append(numbered(2..4)).await, Err(full));
    assert_eq!(spool.depth().events, 2);
    spool.remove(vec![1, 77]).await.unwrap();
    spool.append(numbered(4..6)).await.unwrap();
    let kept = spool.read_after(0, 9, usize::MAX).await.unwrap();
    assert_eq!(kept.iter().map(|stored| stored.sequence).collect::<Vec<_>>(), [2, 3, 4]);
}

#[test]
fn bytes_are_bounded_too_and_a_removal_makes_room_in_its_own_commit() {
    let bytes_max = record(vec![b'x'; 1000]).encoded_bytes() * 2;
    let limits = Limits { bytes_max, ..LIMITS };
    let store = Store::with_backend(TornDisk::new(), limits).unwrap();
    let large = [record(vec![b'x'; 1000])];
    assert_eq!(append(&store, &large), Admission::Admitted { newest: 1 });
    assert_eq!(append(&store, &large), Admission::Admitted { newest: 2 });
    let full = Admission::Full { events: 2, bytes: bytes_max };
    assert_eq!(append(&store, &[record("")]), full);
    let admissions = store.commit(&[&large, &large], &[1], now()).unwrap();
    assert_eq!(admissions, [Admission::Admitted { newest: 3 }, full]);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening_and_sequences_go_on() {
    let place = Place::new();
    let (spool, recovery) = Spool::open(&place.file(), LIMITS).unwrap();
    assert_eq!(recovery, None);
    spool.append(numbered(0..10)).await.unwrap();
    spool.remove(vec![1, 2, 5]).await.unwrap();
    let (before, depth) = (spool.read_after(0, 99, usize::MAX).await.unwrap(), spool.depth());
    spool.close().await;

    let (spool, _) = Spool::open(&place.file(), LIMITS).unwrap();
    assert_eq!(spool.read_after(0, 99, usize::MAX).await.unwrap(), before);
    assert_eq!(spool.depth(), depth);
    spool.remove((1..=10).collect()).await.unwrap();
    assert_eq!(spool.depth(), super::Depth::default());
    spool.close().await;

    let (spool, _) = Spool::open(&place.file(), LIMITS).unwrap();
    spool.append(numbered(0..1)).await.unwrap();
    assert_eq!(spool.read_after(0, 9, usize::MAX).await.unwrap()[0].sequence, 11);
}

#[test]
fn a_file_that_somebody_holds_or_that_cannot_be_is_an_error_not_damage() {
    let place = Place::new();
    let store = place.store();
    append(&store, &numbered(0..1));
    let held = Store::open(&place.file(), LIMITS).unwrap_err();
    assert!(matches!(held, SpoolError::InUse { .. }), "{held:?}");
    let folder = Store::open(place.folder.path(), LIMITS).unwrap_err();
    assert!(matches!(folder, SpoolError::Io { .. }), "{folder:?}");
    let nowhere = place.folder.path().join("missing").join("spool.redb");
    let missing = Store::open(&nowhere, LIMITS).unwrap_err();
    assert!(matches!(missing, SpoolError::Io { .. }), "{missing:?}");
    assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 1);
}

#[test]
fn an_emptied_file_gives_its_space_back() {
    let place = Place::new();
    let store = place.store();
    let large: Vec<Record> = (0..200).map(|_| record(vec![b'x'; 20_000])).collect();
    append(&store, &large);
    append(&store, &numbered(0..2));
    assert!(!store.compact_if_over(1 << 20).unwrap(), "it is full of what is live");
    store.commit(&[], &(1..=200).collect::<Vec<_>>(), now()).unwrap();
    assert!(!store.compact_if_worthwhile().unwrap(), "it is small");
    let before = fs::metadata(place.file()).unwrap().len();
    assert!(store.compact_if_over(1 << 20).unwrap());
    let after = fs::metadata(place.file()).unwrap().len();
    assert!(after < before / 2, "{after} of {before} bytes are left");
    assert_eq!(bodies(&all(&store)).len(), 2);
    assert_eq!(append(&store, &numbered(3..4)), Admission::Admitted { newest: 203 });
}

#[test]
fn a_failed_commit_admits_nothing_and_the_next_one_works() {
    for operations in 0.. {
        let disk = TornDisk::new();
        let store = Store::with_backend(disk.clone(), LIMITS).unwrap();
        append(&store, &numbered(0..3));
        disk.fail_once_after(operations);
        let result = store.commit(&[&numbered(3..9)], &[], now());
        let before = [r#"{"number":0}"#, r#"{"number":1}"#, r#"{"number":2}"#];
        if result.is_ok() {
            assert!(operations > 1, "no fault was met");
            break;
        }
        assert_eq!(bodies(&all(&store)), before, "after {operations} operations");
        assert_eq!(store.depth().events, 3);
        append(&store, &numbered(9..10));
        let kept = all(&store);
        assert_eq!(kept[3].body, numbered(9..10)[0].body);
        assert!(kept[3].sequence > 9, "a sequence that may have been seen is not given again");
    }
}

#[tokio::test]
async fn who_goes_away_while_it_waits_keeps_nobody_from_its_answer() {
    for gone in 0..4 {
        let disk = TornDisk::new();
        let store = Arc::new(Store::with_backend(disk, LIMITS).unwrap());
        let (sender, waiting) = mpsc::channel(1000);
        let mut answers = Vec::new();
        for number in 0..4 {
            let (answer, answered) = oneshot::channel();
            let records = numbered(number..number + 1);
            sender.try_send(Request::Append { records, answer }).unwrap();
            answers.push(answered);
        }
        drop(sender);
        drop(answers.remove(gone));
        let (newest, _) = watch::channel(0);
        Committer { store, waiting, newest, records_per_commit_max: 1024 }
            .start(Blocking::OffRuntime)
            .unwrap();
        let first = answers.remove(0);
        // One that goes away with its answer passes the others' on.
        drop(timeout(DEADLINE, first).await.unwrap());
        for answer in answers {
            assert_eq!(timeout(DEADLINE, answer).await.unwrap().unwrap().result, Ok(()));
        }
    }
}

#[tokio::test]
async fn those_of_a_failed_commit_are_told() {
    let disk = TornDisk::new();
    let store = Store::with_backend(disk.clone(), LIMITS).unwrap();
    let spool = Spool::over(store, 1024).unwrap();
    spool.append(numbered(0..1)).await.unwrap();
    disk.lose_power_after(0);
    let error = spool.append(numbered(1..2)).await.unwrap_err();
    assert!(matches!(error, AppendError::Storage(_)), "{error}");
    let error = spool.remove(vec![1]).await.unwrap_err();
    assert!(matches!(error, RemoveError::Storage(_)), "{error}");
    disk.restore_power(&mut fastrand::Rng::with_seed(1));
    spool.append(numbered(2..3)).await.unwrap();
    let kept = spool.read_after(0, 9, usize::MAX).await.unwrap();
    assert_eq!(bodies(&kept), [r#"{"number":0}"#, r#"{"number":2}"#]);
}

/// A spool's file with records of many sizes, of which the first half was removed.
struct Filled {
    bytes: Vec<u8>,
    kept: Vec<String>,
}

impl Filled {
    /// As an orderly end leaves it, or as a crash does.
    fn new(is_crashed: bool) -> Self {
        let place = Place::new();
        let mut random = fastrand::Rng::with_seed(1);
        let store = place.store();
        for number in 0..40_u32 {
            let body = format!("<{number}>{}", "x".repeat(random.usize(0..6000)));
            append(&store, &[record(body)]);
        }
        store.commit(&[], &(1..=20).collect::<Vec<_>>(), now()).unwrap();
        append(&store, &[record("<last>")]);
        let kept = bodies(&all(&store));
        let crashed = fs::read(place.file()).unwrap();
        drop(store);
        let bytes = if is_crashed { crashed } else { fs::read(place.file()).unwrap() };
        Self { bytes, kept }
    }

    /// Damages the file, opens it, and proves that all was there or it was told; that
    /// what is missing are at most `lost_max` records; and that nothing was deleted.
    /// Answers with what was not there, and with how many removed ones were.
    fn recover(
        &self,
        lost_max: usize,
        name: &str,
        damage: impl FnOnce(&mut Vec<u8>),
    ) -> (Vec<&str>, usize) {
        let place = Place::new();
        let mut bytes = self.bytes.clone();
        damage(&mut bytes);
        fs::write(place.file(), &bytes).unwrap();
        let opened = Store::open(&place.file(), LIMITS).unwrap();
        let found = bodies(&all(&opened.store));
        let is_there = |body: &&String| found.contains(body);
        let missing: Vec<&str> =
            self.kept.iter().filter(|body| !is_there(body)).map(String::as_str).collect();
        let Some(recovery) = opened.recovery else {
            assert_eq!(found, self.kept, "{name}: it was lost, and nobody was told");
            return (missing, 0);
        };
        assert!(missing.len() <= lost_max, "{name}: lost {}: {recovery:?}", missing.len());
        assert_eq!(recovery.records, found.len() as u64);
        assert_eq!(opened.store.depth().events, recovery.records);
        let in_order: Vec<_> = self.kept.iter().filter(is_there).collect();
        let recovered: Vec<_> = found.iter().filter(|body| self.kept.contains(body)).collect();
        assert_eq!(recovered, in_order, "{name}");
        let set_aside = fs::read(&recovery.set_aside).unwrap();
        assert!(set_aside == bytes, "{name}: the damaged file was changed");
        // The new file is whole, and alone beside the old one.
        drop(opened.store);
        assert_eq!(bodies(&all(&place.store())), found, "{name}");
        assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 2);
        (missing, found.len() - recovered.len())
    }
}

#[test]
fn a_damaged_file_is_set_aside_and_what_is_whole_recovered() {
    for is_crashed in [false, true] {
        let filled = Filled::new(is_crashed);
        filled.recover(0, "zeros", |bytes| bytes[..512].fill(0));
        filled.recover(0, "ones", |bytes| bytes[..4096].fill(0xff));
        filled.recover(21, "half", |bytes| bytes.truncate(bytes.len() / 2));
        filled.recover(21, "stump", |bytes| bytes.truncate(100));
        filled.recover(21, "empty", Vec::clear);
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let position = random.usize(0..filled.bytes.len());
            let name = format!("crashed {is_crashed}, seed {seed}, bit at {position}");
            filled.recover(1, &name, |bytes| bytes[position] ^= 1 << random.u8(0..8));
        }
    }
}

#[test]
fn one_wrong_bit_in_a_record_costs_that_record_and_brings_no_removed_one_back() {
    for is_crashed in [false, true] {
        let filled = Filled::new(is_crashed);
        for wanted in ["<20>", "<30>", "<last>"] {
            let (missing, returned) = filled.recover(1, wanted, |bytes| {
                for position in 0..bytes.len() - wanted.len() {
                    if bytes[position..].starts_with(wanted.as_bytes()) {
                        bytes[position + 1] ^= 1;
                    }
                }
            });
            assert!(missing.len() == 1 && missing[0].starts_with(wanted), "{missing:?}");
            // Only the newest record knows of the removal before it.
            assert_eq!(returned == 0, wanted != "<last>", "{wanted}: {returned} came back");
        }
    }
}

/// A request that was under way when the power went.
#[derive(Default)]
struct InFlight {
    first: u64,
    appends: Vec<Record>,
    removals: Vec<u64>,
}

type Kept = BTreeMap<u64, Record>;

impl InFlight {
    fn applied_to(self, kept: &Kept) -> Kept {
        let mut after = kept.clone();
        after.retain(|sequence, _| !self.removals.contains(sequence));
        after.extend((self.first..).zip(self.appends));
        after
    }
}

/// Appends and removes at random until the power goes.
fn work_until_the_power_goes(
    disk: &TornDisk,
    kept: &mut Kept,
    random: &mut fastrand::Rng,
) -> InFlight {
    let Ok(store) = Store::with_backend(disk.clone(), LIMITS) else {
        return InFlight::default();
    };
    for _ in 0..COMMITS_MAX {
        let mut flight = InFlight { first: store.next_sequence(), ..InFlight::default() };
        for _ in 0..random.usize(0..6) {
            let mut body = vec![0; random_size(random)];
            random.fill(&mut body);
            let lane = random.bool().then(|| "lane".to_owned());
            flight.appends.push(Record { lane, body });
        }
        flight.removals = kept.keys().copied().filter(|_| random.u8(0..3) == 0).collect();
        match store.commit(&[&flight.appends], &flight.removals, now()) {
            Ok(_) => *kept = flight.applied_to(kept),
            Err(_) => return flight,
        }
    }
    disk.lose_power_after(0);
    InFlight::default()
}

fn random_size(random: &mut fastrand::Rng) -> usize {
    if random.u8(0..8) == 0 { random.usize(0..20_000) } else { random.usize(0..300) }
}

/// What a store holds, as the model has it.
fn contents(store: &Store) -> Kept {
    let stored = all(store);
    assert!(stored.is_sorted_by_key(|stored| stored.sequence));
    let record = |stored: Stored| Record { lane: stored.lane, body: stored.body };
    stored.into_iter().map(|stored| (stored.sequence, record(stored))).collect()
}

fn lose_power_and_look(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let disk = TornDisk::new();
    drop(Store::with_backend(disk.clone(), LIMITS).unwrap());
    let mut kept = Kept::new();
    for loss in 0..POWER_LOSSES {
        disk.lose_power_after(random.u64(0..80));
        let flight = work_until_the_power_goes(&disk, &mut kept, &mut random);
        disk.restore_power(&mut random);
        let store = Store::with_backend(disk.clone(), LIMITS)
            .unwrap_or_else(|error| panic!("seed {seed}, loss {loss}: {error}"));
        let found = contents(&store);
        let with_flight = flight.applied_to(&kept);
        assert!(
            found == kept || found == with_flight,
            "seed {seed}, loss {loss}: kept {:?}, or {:?}; found {:?}",
            kept.keys(),
            with_flight.keys(),
            found.keys(),
        );
        assert_eq!(store.depth().events, found.len() as u64, "seed {seed}, loss {loss}");
        kept = found;
        if random.bool() {
            // No orderly end: the next opening has something to repair.
            disk.lose_power_after(0);
        }
        drop(store);
        disk.restore_power(&mut random);
    }
}

#[test]
fn what_was_acknowledged_survives_any_loss_of_power() {
    for seed in 0..300 {
        lose_power_and_look(seed);
    }
}
