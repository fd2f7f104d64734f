//! The publisher as a function on the local cloud: deployed as a workflow file asks
//! for it, run by its event source from its real zip, under its own role.

mod world;

use bellwire_infra::outputs::PublisherOutput;
use bellwire_infra::plan::Action;
use bellwire_infra::resource::{Kind, ResourceId};
use bellwire_schema::dead_letter::{DeadReason, Hop};

use crate::world::World;

const MAPPING: &str = "shop-ingest -> shop-publisher:live";

fn step_of(plan: &bellwire_infra::plan::Plan, kind: Kind, name: &str) -> Option<Action> {
    let id = ResourceId::new(kind, name);
    plan.steps.iter().find(|step| step.id == id).map(|step| step.action)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_becomes_an_event_and_what_is_no_event_is_quarantined() {
    let world = World::new().await;
    world.apply("lambda").await;
    let outputs = world.provisioner("lambda").await.outputs().await.expect("outputs");
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:shop-publisher:live".to_owned();
    assert_eq!(outputs.publisher, Some(PublisherOutput::Lambda { arn }));

    world.hear_everything().await;
    world.send_to_ingest("garbage").await;
    world.put_object("raw/a b.csv").await;
    let event = world.next_event().await;
    assert_eq!(event.event_type.as_str(), "ml.data.arrived.v1");
    assert_eq!(event.subject.as_deref(), Some("raw/a b.csv"));
    assert_eq!(event.context.correlationid.as_deref(), Some("c-1"), "read from the object");
    let letter = world.next_letter().await;
    assert_eq!((letter.reason, letter.hop), (DeadReason::Undecodable, Hop::Publisher));
    assert_eq!(letter.body().expect("its bytes"), b"garbage");
    world.until_ingest_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_the_publisher_is_changed_there_and_back() {
    let world = World::new().await;
    let plan = world.apply("sidecar").await;
    assert_eq!(step_of(&plan, Kind::EventSourceMapping, MAPPING), None, "{plan}");

    let plan = world.apply("lambda").await;
    println!("{plan}");
    let group = "/aws/lambda/shop-publisher";
    for (kind, name, action) in [
        (Kind::Function, "shop-publisher", Action::Create),
        (Kind::Alias, "shop-publisher:live", Action::Create),
        (Kind::LogGroup, group, Action::Create),
        (Kind::EventSourceMapping, MAPPING, Action::Create),
        (Kind::Role, "shop-publisher", Action::Update),
        (Kind::Queue, "shop-ingest", Action::Update),
    ] {
        assert_eq!(step_of(&plan, kind, name), Some(action), "{kind} {name}\n{plan}");
    }
    assert!(world.plan("lambda").await.is_empty());

    world.change_mapping_by_hand().await;
    let drift = world.apply("lambda").await;
    assert_eq!(step_of(&drift, Kind::EventSourceMapping, MAPPING), Some(Action::Update), "{drift}");
    assert_eq!(drift.steps.len(), 1, "{drift}");
    assert!(world.plan("lambda").await.is_empty());

    let plan = world.apply("sidecar").await;
    println!("{plan}");
    for (kind, name, action) in [
        (Kind::EventSourceMapping, MAPPING, Action::Delete),
        (Kind::Function, "shop-publisher", Action::Delete),
        (Kind::LogGroup, group, Action::Delete),
        (Kind::Role, "shop-publisher", Action::Update),
    ] {
        assert_eq!(step_of(&plan, kind, name), Some(action), "{kind} {name}\n{plan}");
    }
    assert_eq!(world.mappings().await, 0);
    assert!(world.plan("sidecar").await.is_empty());
    let outputs = world.provisioner("sidecar").await.outputs().await.expect("outputs");
    assert!(matches!(outputs.publisher, Some(PublisherOutput::Sidecar { .. })), "{outputs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destruction_leaves_no_mapping_and_somebody_else_s_is_kept() {
    let world = World::new().await;
    world.apply("lambda").await;
    world.map_their_function().await;
    let plan = world.plan("lambda").await;
    assert!(plan.is_empty(), "{plan}");
    assert!(plan.to_string().contains("kept, not ours: 1 entry (lambda theirs)"), "{plan}");
    let plan = world.destroy().await;
    assert_eq!(step_of(&plan, Kind::EventSourceMapping, MAPPING), Some(Action::Delete), "{plan}");
    assert_eq!(world.mappings().await, 1, "theirs");
}
