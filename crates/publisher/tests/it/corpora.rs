//! What fuzzing has found, and what AWS and applications really send, run through
//! the very functions that the fuzz targets call.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use bellwire_publisher::decode::decode;
use bellwire_publisher::receive::Message;

use crate::decoders::DECODERS;
use crate::fakes::World;

/// A corpus is read by every test run, and by everyone who clones.
const FILES_MAX: usize = 300;
const BYTES_MAX: usize = 500_000;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The files of a decoder's corpus, by name.
fn corpus(decoder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz_folder().join("corpus").join(decoder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let files = entries.map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

#[test]
fn every_decoder_keeps_its_word_on_its_whole_corpus() {
    for (decoder, check) in DECODERS {
        let files = corpus(decoder);
        let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!((20..=FILES_MAX).contains(&files.len()), "{decoder}: {} files", files.len());
        assert!(bytes <= BYTES_MAX, "{decoder}: {bytes} bytes");
        for (name, bytes) in files {
            let kept = catch_unwind(|| check(&bytes));
            assert!(kept.is_ok(), "see above: fuzz/corpus/{decoder}/{name}");
        }
    }
}

#[test]
fn every_decoder_has_a_target_and_every_target_a_decoder() {
    let files = fs::read_dir(fuzz_folder().join("fuzz_targets")).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let texts = files.map(|path| {
        let target = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (target, fs::read_to_string(path).unwrap())
    });
    // The handler has one of its own.
    let mut targets: Vec<_> =
        texts.filter(|(_, text)| text.contains("crates/publisher/tests/it/decoders.rs")).collect();
    targets.sort();
    let mut decoders = DECODERS.map(|(name, _)| name);
    decoders.sort_unstable();
    let names: Vec<&String> = targets.iter().map(|(target, _)| target).collect();
    assert_eq!(names, decoders);
    for (target, text) in &targets {
        assert!(text.contains(&format!("decoders::{target}(")), "{target}");
    }
}

/// No ledger, object or topic is in the way: then nothing is left to be tried again.
#[tokio::test]
async fn the_bridge_is_done_with_every_body_and_keeps_what_it_rejects() {
    for (name, bytes) in corpus("queue_body") {
        let world = World::default();
        let body = String::from_utf8_lossy(&bytes).into_owned();
        let message = Message {
            id: name.clone(),
            receipt: name.clone(),
            body: body.clone(),
            sent_at: None,
            receives: 1,
        };
        let round = world.bridge().work(&[message]).await;
        assert_eq!((round.deleted, round.left), (1, 0), "{name}");
        let records = decode(&body).len() as u64;
        let count = |outcome: &str| world.counts.of(outcome);
        assert_eq!(count("published") + count("skipped") + count("quarantined"), records, "{name}");
        let letters = world.letters();
        assert_eq!(letters.len() as u64, count("quarantined"), "{name}");
        for letter in letters {
            assert_eq!(letter.body().as_deref(), Some(body.as_bytes()), "{name}");
            assert!(!letter.message.is_empty(), "{name}");
        }
    }
}
