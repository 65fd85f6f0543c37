//! Idempotence: for every job kind, each step of a completed job is repeated, then the whole job. Neither upstreams nor
//! documents change.

use bson::{Bson, Document, doc};
use dezky_shared::queue::job::{Job, JobState, Step};
use futures::{StreamExt as _, stream};
use serde_json::Value;

use crate::{
    scenarios::{self, Scenario, Scene},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_every_kind_is_idempotent() {
    stream::iter(scenarios::ALL)
        .for_each_concurrent(3, repeat_each)
        .await;
}

async fn repeat_each(scenario: &Scenario) {
    let world = World::start().await;
    let scene = (scenario.prepare)(&world).await;
    let job = (scenario.enqueue)(&world, &scene).await;
    let job = world.completed(&job).await;
    world.until_idle().await;
    let once = Held::by(&world, &scene).await;
    assert!(!job.steps.is_empty(), "{}", scenario.kind);

    for step in &job.steps {
        let repeated = repeat(&world, &job, step).await;
        world.until_idle().await;

        let about = format!("{} of {}", step.name, scenario.kind);
        let changes = &repeated.step(&step.name).unwrap().changes;
        assert!(changes.is_empty(), "{about}: {changes:?}");
        assert_eq!(Held::by(&world, &scene).await, once, "{about}");
    }
    // A job whose secrets were deleted cannot be repeated as a whole.
    if !job.had_secrets {
        let again = world.harness.requeue(job.id).await.unwrap().job;
        let announced = std::slice::from_ref(&again);
        world.harness.context.ready.notify(announced).await;
        world.completed(&again).await;
        world.until_idle().await;

        assert_ne!(again.id, job.id);
        assert_eq!(Held::by(&world, &scene).await, once, "{}", scenario.kind);
    }
    world.stop().await;
}

/// Repeats one step of a job, as after a lost write to the job.
async fn repeat(world: &World, job: &Job, step: &Step) -> Job {
    let harness = &world.harness;
    let steps = job.steps.iter().map(|other| {
        if other.name == step.name {
            Step::pending(&step.name)
        } else {
            other.clone()
        }
    });
    let steps: Vec<Step> = steps.collect();
    let set = doc! {
        "state": JobState::Available.name(),
        "attempt": 0,
        "steps": dezky_shared::store::to_bson(&steps).unwrap(),
    };
    harness.edit_job(job.id, set).await;
    let available = harness.job(job.id).await;
    let announced = std::slice::from_ref(&available);
    harness.context.ready.notify(announced).await;
    world.completed(job).await
}

/// The state that a job may change.
#[derive(Debug, PartialEq)]
struct Held {
    effects: Vec<String>,
    holdings: Value,
    documents: Vec<Document>,
}

impl Held {
    async fn by(world: &World, scene: &Scene) -> Self {
        let store = &world.harness.context.store;
        let mut documents = Vec::new();
        for (name, id) in [
            ("tenants", Some(Bson::from(scene.tenant))),
            ("billing_accounts", Some(Bson::from(scene.tenant))),
            ("domains", scene.claim.as_ref().map(|claim| claim.id.into())),
            ("apps", scene.app.as_ref().map(|app| app.id.into())),
            ("partners", scene.partner.map(Bson::from)),
            (
                "invitations",
                scene.invitation.as_ref().map(|it| it.id.into()),
            ),
            ("members", scene.member.as_ref().map(|it| it.id.into())),
        ] {
            let Some(id) = id else { continue };
            let found = store.collection::<Document>(name);
            let found = found.find_one(doc! { "_id": id }).await.unwrap();
            documents.extend(found.map(without_times));
        }
        Self {
            effects: world.sorted_effects(),
            holdings: world.upstream_state(),
            documents,
        }
    }
}

/// Ignores revisions, times, the difference between done and skipped, and what a request to sign out ended: a second
/// request ends nothing.
fn without_times(document: Document) -> Document {
    let is_ignored = |key: &str| matches!(key, "revision" | "signedOut");
    document
        .into_iter()
        .filter(|(key, value)| !is_ignored(key) && !matches!(value, Bson::DateTime(_)))
        .map(|(key, value)| (key, settled(value)))
        .collect()
}

fn settled(value: Bson) -> Bson {
    match value {
        Bson::Document(document) => Bson::Document(without_times(document)),
        Bson::Array(values) => values.into_iter().map(settled).collect(),
        Bson::String(state) if state == "skipped" => "ok".into(),
        other => other,
    }
}
