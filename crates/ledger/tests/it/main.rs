//! The ledger against the local cloud's DynamoDB.

mod window;

use std::collections::BTreeSet;

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{Credentials, Region};
use bellwire_ledger::{
    Cause, ClaimOutcome, DUE_SHARDS, End, Ledger, LedgerError, Start, StartRow, State,
    TargetDetails, create_table_request,
};
use bellwire_local::LocalCloud;
use bellwire_schema::{Deployment, EventContext, Stage, StartKey};
use jiff::{SignedDuration, Timestamp};

const TABLE: &str = "wine-ledger";
const RETENTION_DAYS: u32 = 400;

struct World {
    client: Client,
    ledger: Ledger,
    _cloud: LocalCloud,
}

async fn world() -> World {
    let cloud = LocalCloud::for_tests();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(cloud.endpoint_url())
        .region(Region::new(cloud.region()))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .load()
        .await;
    let client = Client::new(&config);
    create_table_request(&client, TABLE).send().await.unwrap();
    World { ledger: Ledger::new(client.clone(), TABLE, RETENTION_DAYS), client, _cloud: cloud }
}

fn now() -> Timestamp {
    "2026-11-23T02:14:08.113Z".parse().unwrap()
}

fn start(event_id: &str) -> Start {
    let deployment = Deployment::new("wine", None);
    let start_key = StartKey::of_event(&deployment, "train", "arn:aws:s3:::lake", event_id, 0);
    let name = format!("train-{start_key}");
    Start {
        trigger: "train".to_owned(),
        stage: Stage::Training,
        dataset: Some("wine".to_owned()),
        target: "arn:aws:states:us-east-1:000000000000:stateMachine:wine-train".to_owned(),
        run_arn: Some(format!("arn:aws:states:us-east-1:000000000000:execution:wine-train:{name}")),
        input: format!(r#"{{"claimed by":"{event_id}"}}"#),
        expected_duration_s: 3600,
        details: TargetDetails::default(),
        cause: Cause {
            id: event_id.to_owned(),
            source: "arn:aws:s3:::lake".to_owned(),
            event_type: "data.arrived".parse().unwrap(),
            subject: Some("raw/a.csv".to_owned()),
            time: Some(now()),
        },
        context: EventContext { hop: 1, ..EventContext::default() },
        name,
        start_key,
    }
}

impl World {
    async fn row(&self, start: &Start) -> StartRow {
        match self.ledger.claim(start, now()).await.unwrap() {
            ClaimOutcome::Unfinished(row) | ClaimOutcome::Known(row) => *row,
            other => panic!("the start was not claimed before, or is leased: {other:?}"),
        }
    }

    async fn due(&self, at: Timestamp) -> BTreeSet<String> {
        let mut due = BTreeSet::new();
        for shard in 0..DUE_SHARDS {
            let rows = self.ledger.due(shard, at, 50).await.unwrap();
            due.extend(rows.into_iter().map(|row| row.unwrap().start.cause.id));
        }
        due
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_claims_one_wins_and_fixes_name_and_input() {
    let world = world().await;
    let claims = (0..20).map(|claimant| {
        let ledger = world.ledger.clone();
        let mut claim = start("e-1");
        claim.input = format!("input of {claimant}");
        tokio::spawn(
            async move { (claim.input.clone(), ledger.claim(&claim, now()).await.unwrap()) },
        )
    });
    let mut won = Vec::new();
    let mut seen = BTreeSet::new();
    for claim in claims.collect::<Vec<_>>() {
        match claim.await.unwrap() {
            (input, ClaimOutcome::Claimed) => won.push(input),
            (_, ClaimOutcome::Unfinished(row)) => {
                seen.insert(row.start.input);
            }
            (_, other) => panic!("nobody has started it: {other:?}"),
        }
    }
    assert_eq!(won.len(), 1);
    assert_eq!(seen, BTreeSet::from([won.remove(0)]), "all see the winner's input");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_goes_through_its_states_and_never_back() {
    let world = world().await;
    let start = start("e-1");
    let run_arn = start.run_arn.clone().unwrap();
    assert_eq!(world.ledger.claim(&start, now()).await.unwrap(), ClaimOutcome::Claimed);
    world.ledger.record_started(&start, &run_arn, now(), now()).await.unwrap();
    let row = world.row(&start).await;
    assert_eq!((row.state, row.started_at), (State::Started, Some(now())));

    let end = End {
        status: "SUCCEEDED".to_owned(),
        stopped_at: Some(now()),
        duration_s: Some(1.9),
        metrics: [("accuracy".to_owned(), 0.68)].into(),
        ..End::default()
    };
    world.ledger.close(&start.start_key, State::Completed, &end).await.unwrap();
    let closed = world.row(&start).await;
    assert_eq!((closed.state, closed.end.as_ref()), (State::Completed, Some(&end)));

    let failed = End { status: "FAILED".to_owned(), ..End::default() };
    world.ledger.close(&start.start_key, State::Failed, &failed).await.unwrap();
    world.ledger.record_started(&start, "arn:other", now(), now()).await.unwrap();
    assert_eq!(world.row(&start).await, closed, "what is closed stays as it is");
    assert_eq!(world.ledger.find_by_run(&run_arn).await.unwrap(), Some(closed));
    assert_eq!(world.ledger.find_by_run("arn:other").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_past_its_expiry_counts_as_gone() {
    let world = world().await;
    let start = start("e-1");
    assert_eq!(world.ledger.claim(&start, now()).await.unwrap(), ClaimOutcome::Claimed);
    let day = SignedDuration::from_hours(24);
    let before =
        now() + day * i32::try_from(RETENTION_DAYS).unwrap() - SignedDuration::from_secs(1);
    assert!(matches!(
        world.ledger.claim(&start, before).await.unwrap(),
        ClaimOutcome::Unfinished(_)
    ));
    let after = before + SignedDuration::from_secs(3);
    assert_eq!(world.ledger.claim(&start, after).await.unwrap(), ClaimOutcome::Claimed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_found_when_it_is_and_no_longer() {
    let world = world().await;
    let (unfinished, running, ended) = (start("unfinished"), start("running"), start("ended"));
    for start in [&unfinished, &running, &ended] {
        world.ledger.claim(start, now()).await.unwrap();
    }
    for start in [&running, &ended] {
        let run_arn = start.run_arn.as_deref().unwrap();
        world.ledger.record_started(start, run_arn, now(), now()).await.unwrap();
    }
    world.ledger.close(&ended.start_key, State::Completed, &End::default()).await.unwrap();

    let at = |minutes: i64| now() + SignedDuration::from_mins(minutes);
    assert_eq!(world.due(at(1)).await, BTreeSet::new());
    assert_eq!(world.due(at(5)).await, BTreeSet::from(["unfinished".to_owned()]));
    let both = BTreeSet::from(["unfinished".to_owned(), "running".to_owned()]);
    assert_eq!(world.due(at(61)).await, both);
    world.ledger.put_off(&running.start_key, at(90)).await.unwrap();
    world.ledger.put_off(&ended.start_key, at(90)).await.unwrap();
    assert_eq!(world.due(at(61)).await, BTreeSet::from(["unfinished".to_owned()]));
    assert_eq!(world.due(at(91)).await, both, "what has ended never becomes due again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_days_starts_come_in_the_order_of_their_claims() {
    let world = world().await;
    for minute in [3, 1, 2] {
        let at = now() + SignedDuration::from_mins(minute);
        world.ledger.claim(&start(&format!("e-{minute}")), at).await.unwrap();
    }
    let tomorrow = now() + SignedDuration::from_hours(24);
    world.ledger.claim(&start("tomorrow"), tomorrow).await.unwrap();
    let day = world.ledger.starts_of_day(now()).await.unwrap();
    let ids: Vec<_> = day.iter().map(|row| row.start.cause.id.as_str()).collect();
    assert_eq!(ids, ["e-1", "e-2", "e-3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_says_what_to_do() {
    let world = world().await;
    let ledger = Ledger::new(world.client, "nothing", RETENTION_DAYS);
    let error = ledger.claim(&start("e-1"), now()).await.unwrap_err();
    assert!(matches!(error, LedgerError::NoTable { .. }), "{error:?}");
    assert!(error.to_string().contains("deploy"), "{error}");
}

/// A start of a target that refuses no second one.
fn leased(event_id: &str) -> Start {
    let details = TargetDetails { lease_s: Some(90), ..TargetDetails::default() };
    Start { details, run_arn: None, ..start(event_id) }
}

fn after(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_keeps_others_away_until_it_is_over_and_then_one_of_them_has_it() {
    let world = world().await;
    let start = leased("e-1");
    assert_eq!(world.ledger.claim(&start, now()).await.unwrap(), ClaimOutcome::Claimed);
    let until = after(90).round(jiff::Unit::Second).unwrap();
    for moment in [now(), after(89)] {
        let outcome = world.ledger.claim(&start, moment).await.unwrap();
        assert_eq!(outcome, ClaimOutcome::Leased { until });
    }
    let claims = (0..20).map(|claimant| {
        let (ledger, mut claim) = (world.ledger.clone(), start.clone());
        claim.input = format!("input of {claimant}");
        tokio::spawn(async move { ledger.claim(&claim, after(91)).await.unwrap() })
    });
    let mut taken_over = 0;
    for claim in claims.collect::<Vec<_>>() {
        match claim.await.unwrap() {
            ClaimOutcome::TakenOver(row) => {
                assert_eq!(row.start.input, start.input, "it is started as it was claimed");
                taken_over += 1;
            }
            ClaimOutcome::Leased { until } => assert!(until > after(180), "{until}"),
            other => panic!("it is leased: {other:?}"),
        }
    }
    assert_eq!(taken_over, 1);
    world.ledger.record_started(&start, "arn:job", after(92), after(92)).await.unwrap();
    for moment in [after(93), after(600)] {
        let outcome = world.ledger.claim(&start, moment).await.unwrap();
        assert!(matches!(outcome, ClaimOutcome::Known(_)), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_takes_over_what_it_saw_only_as_long_as_that_is_so() {
    let world = world().await;
    let start = leased("e-1");
    world.ledger.claim(&start, now()).await.unwrap();
    let mut seen = Vec::new();
    for shard in 0..DUE_SHARDS {
        seen.extend(world.ledger.due(shard, after(600), 50).await.unwrap());
    }
    let seen = seen.remove(0).unwrap();
    let early = world.ledger.take_over(&seen, after(60)).await.unwrap();
    assert!(matches!(early, ClaimOutcome::Leased { .. }), "{early:?}");
    let first = world.ledger.take_over(&seen, after(600)).await.unwrap();
    assert!(matches!(first, ClaimOutcome::TakenOver(_)), "{first:?}");
    let second = world.ledger.take_over(&seen, after(601)).await.unwrap();
    assert!(matches!(second, ClaimOutcome::Leased { .. }), "{second:?}");
    world.ledger.record_accepted(&start.start_key, "arn:run", after(602)).await.unwrap();
    let late = world.ledger.take_over(&seen, after(9_000)).await.unwrap();
    assert!(matches!(late, ClaimOutcome::Leased { .. }), "started by now: {late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_is_known_by_its_run_and_never_due() {
    let world = world().await;
    let start = leased("e-1");
    world.ledger.claim(&start, now()).await.unwrap();
    world.ledger.record_accepted(&start.start_key, "arn:run", now()).await.unwrap();
    let row = world.ledger.find_by_run("arn:run").await.unwrap().expect("there");
    assert_eq!((row.state, row.started_at), (State::Accepted, Some(now())));
    assert_eq!(world.due(after(100_000)).await, BTreeSet::new());
    world.ledger.close(&start.start_key, State::Failed, &End::default()).await.unwrap();
    assert_eq!(world.ledger.find_by_run("arn:run").await.unwrap(), Some(row));
}
