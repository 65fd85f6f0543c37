//! Death of a worker before and after each write that begins a purge.

use std::time::Duration;

use dezky_shared::member::MemberStatus;
use dezky_sim::proxy::{Death, Proxy, is_command, is_commit_after};
use dezky_worker::{engine::EngineTimings, jobs};
use futures::future::join_all;

use crate::{harness::until, world::World};

/// A write, by the way in which it kills its worker.
type Kill = fn(&Proxy, Death);

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_is_finished_whenever_its_worker_dies_as_it_begins() {
    let writes: [(&str, Kill); 2] = [
        ("purgeStartedAt", |proxy, death| {
            proxy.die_at(death, is_command("update", "members", "purgeStartedAt"));
        }),
        ("its commit", |proxy, death| {
            let begins = is_command("update", "members", "purgeStartedAt");
            proxy.die_at(death, is_commit_after(begins));
        }),
    ];
    let deaths = [Death::BeforeRequest, Death::AfterRequest];
    let rows = writes
        .into_iter()
        .flat_map(|write| deaths.map(|death| (write, death)));
    join_all(rows.map(|((name, kill), death)| is_finished(name, kill, death))).await;
}

async fn is_finished(name: &str, kill: Kill, death: Death) {
    let mut world = World::start_with(|_, times| {
        *times = EngineTimings {
            rescue_grace: Duration::from_millis(300),
            rescue_every: Duration::from_millis(100),
            rescue_spread: Duration::from_millis(1),
            sweep_every: Duration::from_millis(100),
            pop_block: Duration::from_millis(100),
            ..EngineTimings::with_lease(Duration::from_secs(3))
        };
    })
    .await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    world.only_lead().await;
    let purge = world.remove_member_now(&member).await;
    let proxy = world.harness.proxy().await;
    kill(&proxy, death);
    let dying = world
        .harness
        .worker_through(&proxy, jobs::registry(), 1)
        .await;
    until(async || proxy.is_cut(), |is_cut| *is_cut).await;

    world.replace_worker().await;
    world.completed(&purge).await;

    let member = world.member(member.id).await;
    assert_eq!(member.status, MemberStatus::Removed, "{name} {death:?}");
    assert!(member.purge_started_at.is_some(), "{name} {death:?}");
    assert!(world.upstreams.authentik.users().is_empty());
    assert!(world.upstreams.ocis.accounts().is_empty());
    let effects = world.effects();
    let of = |operation| {
        effects
            .iter()
            .filter(|it| it.operation == operation)
            .count()
    };
    assert_eq!(
        (of("delete_user"), of("destroy_accounts")),
        (2, 1),
        "{name} {death:?}"
    );
    proxy.mend();
    dying.stop().await;
    world.stop().await;
}
