//! The real program, killed again and again: a smaller run of `cargo xtask chaos publisher`.

use bellwire_bench::chaos::{Settings, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_is_killed_again_and_again_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        publisher: env!("CARGO_BIN_EXE_bellwire-publisher").into(),
        folder: folder.path().to_owned(),
        kills: 15,
        seed: 20_261_124,
    };
    let verdict = run(&settings, |_| {}).await.unwrap();
    assert_eq!(verdict.kills, settings.kills);
    assert!(verdict.is_sound(), "{verdict:?}");
    assert!(
        verdict.messages > 0 && verdict.bad_messages > 0 && verdict.accepted > 0,
        "{verdict:?}"
    );
}
