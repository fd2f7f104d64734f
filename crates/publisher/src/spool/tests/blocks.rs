//! What stands together in the file, and is settled one by one.

use redb::{Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _};

use super::*;
use crate::spool::blocks::{EVENTS, SETTLED};
use crate::spool::record::View;
use crate::spool::store::{META, NEXT_SEQUENCE};

/// Blocks and notes in a file that nobody has open.
fn rows(place: &Place) -> (u64, u64) {
    let database = Database::open(place.file()).unwrap();
    let transaction = database.begin_read().unwrap();
    let events = transaction.open_table(EVENTS).unwrap().len().unwrap();
    (events, transaction.open_table(SETTLED).unwrap().len().unwrap())
}

fn sequences(store: &Store) -> Vec<u64> {
    all(store).iter().map(|stored| stored.sequence).collect()
}

fn settle(store: &Store, sequences: impl IntoIterator<Item = u64>) {
    let sequences: Vec<u64> = sequences.into_iter().collect();
    store.commit(&[], &sequences, now()).unwrap();
}

#[tokio::test]
async fn what_is_committed_together_is_one_block() {
    let place = Place::new();
    let store = Arc::new(place.store());
    assert_eq!(commits_for(Arc::clone(&store), 100, 1024).await, 1);
    assert_eq!(commits_for_more(&store, 5), 6);
    drop(store);
    assert_eq!(rows(&place), (6, 0));
}

/// Commits so many more, one by one.
fn commits_for_more(store: &Store, count: u32) -> u64 {
    (0..count).for_each(|number| _ = append(store, &numbered(number..number + 1)));
    store.commits()
}

#[test]
fn a_block_is_no_larger_than_it_may_be_unless_its_record_is() {
    let place = Place::new();
    let store = place.store();
    let mut records = numbered(0..3);
    records.insert(1, record(vec![b'x'; 200_000]));
    append(&store, &records);
    append(&store, &numbered(0..3_000));
    let kept = all(&store);
    drop(store);
    let (blocks, _) = rows(&place);
    let bytes = numbered(0..3_000).iter().map(Record::encoded_bytes).sum::<u64>();
    assert_eq!(blocks, 3 + bytes.div_ceil(63 * 1024));
    assert_eq!(all(&place.store()), kept);
}

#[test]
fn records_of_a_block_are_settled_one_by_one_and_stay_so() {
    let place = Place::new();
    let store = place.store();
    append(&store, &numbered(0..10));
    append(&store, &numbered(10..20));
    // Of both blocks, twice the same, and some that never were.
    settle(&store, [2, 4, 4, 12, 77]);
    settle(&store, [4, 13]);
    let kept = [1, 3, 5, 6, 7, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20];
    assert_eq!(sequences(&store), kept);
    assert_eq!(store.read_after(3, 2, usize::MAX).unwrap()[0].sequence, 5);
    assert_eq!(store.read_after(11, 1, usize::MAX).unwrap()[0].sequence, 14);
    let depth = store.depth();
    assert_eq!(depth.events, 16);
    drop(store);

    assert_eq!(rows(&place), (2, 2));
    let store = place.store();
    assert_eq!(sequences(&store), kept);
    assert_eq!(store.depth(), depth);
    settle(&store, 1..=20);
    assert_eq!(store.depth(), super::super::Depth::default());
    drop(store);
    assert_eq!(rows(&place), (0, 0));
}

#[test]
fn a_block_of_which_half_is_settled_is_written_anew_without() {
    let place = Place::new();
    let store = place.store();
    append(&store, &vec![record(vec![b'x'; 100]); 10]);
    let whole = store.block_bytes();
    settle(&store, [1, 2, 3, 9]);
    assert_eq!(store.block_bytes(), whole);
    settle(&store, [5]);
    assert_eq!(store.block_bytes(), whole / 2);
    assert_eq!(sequences(&store), [4, 6, 7, 8, 10]);
    drop(store);
    assert_eq!(rows(&place), (1, 0));
    let store = place.store();
    // Its first record is gone, and it is found all the same.
    settle(&store, [6]);
    assert_eq!(sequences(&store), [4, 7, 8, 10]);
    drop(store);
    assert_eq!(rows(&place), (1, 1));
}

#[test]
fn the_oldest_is_the_first_that_is_not_settled() {
    let store = Store::with_backend(TornDisk::new(), LIMITS).unwrap();
    let at = |second| Timestamp::from_second(second).unwrap();
    store.commit(&[&numbered(0..3), &numbered(3..5)], &[], at(100)).unwrap();
    store.commit(&[&numbered(5..6)], &[], at(200)).unwrap();
    store.commit(&[], &[1, 2, 3, 4], at(300)).unwrap();
    assert_eq!(store.depth().oldest_at, Some(at(100)));
    store.commit(&[&numbered(6..7)], &[5], at(300)).unwrap();
    assert_eq!(store.depth().oldest_at, Some(at(200)));
    store.commit(&[&numbered(7..8)], &[6, 7], at(400)).unwrap();
    assert_eq!(store.depth().oldest_at, Some(at(400)));
}

#[test]
fn a_spool_of_before_there_were_blocks_is_read_as_it_is() {
    let place = Place::new();
    let database = Database::create(place.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut events = transaction.open_table(EVENTS).unwrap();
        for sequence in 5..8_u64 {
            let (mut row, lane) = (Vec::new(), Some("lane"));
            let (oldest, admitted_at, body) = (5, now(), b"{}".as_slice());
            View { sequence, oldest, admitted_at, lane, body }.append_to(&mut row);
            events.insert(sequence, row.as_slice()).unwrap();
        }
        transaction.open_table(META).unwrap().insert(NEXT_SEQUENCE, 9).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let store = place.store();
    assert_eq!(sequences(&store), [5, 6, 7]);
    settle(&store, [6]);
    assert_eq!(append(&store, &numbered(0..2)), Admission::Admitted { newest: 10 });
    assert_eq!(sequences(&store), [5, 7, 9, 10]);
}

/// Twelve blocks of thirty records, settled in part; what is left of them.
fn settled_in_part(place: &Place) -> Vec<String> {
    let store = place.store();
    for block in 0..12 {
        let records = (0..30).map(|number| record(format!("<{block}-{number}>")));
        append(&store, &records.collect::<Vec<_>>());
    }
    // All of the first two, and every fourth of the others but the last.
    settle(&store, 1..=60);
    settle(&store, (61..=330).filter(|sequence| sequence % 4 == 0));
    append(&store, &[record("<last>")]);
    bodies(&all(&store))
}

#[test]
fn a_damaged_block_costs_the_damaged_record_and_brings_no_settled_one_back() {
    for wanted in ["<2-6>", "<11-0>", "<11-29>", "<last>"] {
        let place = Place::new();
        let mut kept = settled_in_part(&place);
        let mut bytes = fs::read(place.file()).unwrap();
        for position in 0..bytes.len() - wanted.len() {
            if bytes[position..].starts_with(wanted.as_bytes()) {
                bytes[position + 1] ^= 1;
            }
        }
        fs::write(place.file(), &bytes).unwrap();
        let opened = Store::open(&place.file(), LIMITS).unwrap();
        assert!(opened.recovery.is_some(), "{wanted}");
        let mut found = bodies(&all(&opened.store));
        // Without the newest record nothing knows of the blocks that went before it.
        let returned = found.len() - found.iter().filter(|body| kept.contains(body)).count();
        assert!(returned == 0 || wanted == "<last>", "{wanted}: {returned} came back");
        assert_eq!(opened.store.depth().events, found.len() as u64);
        found.retain(|body| kept.contains(body));
        kept.retain(|body| body != wanted);
        assert_eq!(found, kept, "{wanted}");
    }
}

#[test]
fn a_damaged_note_costs_no_event() {
    let place = Place::new();
    let kept = settled_in_part(&place);
    let database = Database::open(place.file()).unwrap();
    let transaction = database.begin_read().unwrap();
    let settled = transaction.open_table(SETTLED).unwrap();
    let note = settled.first().unwrap().unwrap().1.value().to_vec();
    drop((settled, transaction, database));
    let mut bytes = fs::read(place.file()).unwrap();
    let position = bytes.windows(note.len()).rposition(|window| window == note).unwrap();
    bytes[position + note.len() - 1] ^= 1;
    fs::write(place.file(), &bytes).unwrap();
    let opened = Store::open(&place.file(), LIMITS).unwrap();
    assert!(opened.recovery.is_some());
    let found = bodies(&all(&opened.store));
    assert!(kept.iter().all(|body| found.contains(body)));
}

#[test]
fn no_file_holds_more_than_twice_what_is_kept() {
    let mut random = fastrand::Rng::with_seed(7);
    let disk = TornDisk::new();
    let mut store = Store::with_backend(disk.clone(), LIMITS).unwrap();
    let mut kept = Kept::new();
    for round in 0..200 {
        let first = store.next_sequence();
        let sizes: Vec<usize> = (0..random.usize(0..40)).map(|_| random.usize(0..3_000)).collect();
        let appends: Vec<Record> = sizes.into_iter().map(|size| record(vec![7; size])).collect();
        let chance = random.u8(1..6);
        let removals: Vec<u64> =
            kept.keys().copied().filter(|_| random.u8(0..6) < chance).collect();
        store.commit(&[&appends], &removals, now()).unwrap();
        kept = InFlight { first, appends, removals }.applied_to(&kept);
        let depth = store.depth();
        let bytes = kept.values().map(Record::encoded_bytes).sum::<u64>();
        assert_eq!((depth.events, depth.bytes), (kept.len() as u64, bytes), "round {round}");
        assert!(store.block_bytes() <= 2 * bytes, "round {round}");
        if random.u8(0..8) == 0 {
            let before = (depth, store.block_bytes());
            drop(store);
            store = Store::with_backend(disk.clone(), LIMITS).unwrap();
            assert_eq!((store.depth(), store.block_bytes()), before, "round {round}");
        }
    }
    assert_eq!(contents(&store), kept);
}
