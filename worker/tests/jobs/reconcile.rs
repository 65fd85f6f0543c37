//! Reconciliation: every kind of drift is repaired and reported; a dry run only reports it.

use dezky_shared::tenant::{Tenant, TenantStatus};
use futures::{FutureExt as _, future::LocalBoxFuture};
use serde_json::json;

use crate::{harness::step, world::World};

/// An external change to a tenant's resources.
struct Drift {
    what: &'static str,
    happen: for<'a> fn(&'a World, &'a Tenant) -> LocalBoxFuture<'a, ()>,
    /// The step that repairs it.
    step: &'static str,
    /// The changes that it reports.
    repairs: &'static [&'static str],
}

/// A drift that is effective immediately.
macro_rules! drift {
    ($what:literal, $step:literal, $repairs:expr, |$world:ident, $tenant:ident| $happen:expr) => {
        Drift {
            what: $what,
            happen: |$world, $tenant| {
                async move {
                    $happen;
                }
                .boxed_local()
            },
            step: $step,
            repairs: &$repairs,
        }
    };
}

fn drifts() -> Vec<Drift> {
    vec![
        drift!(
            "the group was deleted",
            "authentik",
            ["group created"],
            |world, _tenant| {
                world
                    .upstreams
                    .authentik
                    .change(|state| state.groups.clear());
            }
        ),
        drift!(
            "the group was renamed",
            "authentik",
            ["group name restored"],
            |world, _tenant| {
                world.upstreams.authentik.change(|state| {
                    let group = state.groups.values_mut().next().unwrap();
                    "renamed".clone_into(&mut group.name);
                });
            }
        ),
        drift!(
            "the group lost its attributes",
            "authentik",
            ["group attributes restored"],
            |world, _tenant| {
                world.upstreams.authentik.change(|state| {
                    state.groups.values_mut().next().unwrap().attributes.clear();
                });
            }
        ),
        drift!(
            "the group became a superuser group",
            "authentik",
            ["superuser status removed from group"],
            |world, _tenant| {
                world.upstreams.authentik.change(|state| {
                    state.groups.values_mut().next().unwrap().is_superuser = true;
                });
            }
        ),
        drift!(
            "the domain was deleted",
            "stalwart",
            ["domain created"],
            |world, tenant| {
                world.purge_mail_domains(tenant.id).await;
            }
        ),
        drift!(
            "the domain was set to manual signing",
            "stalwart",
            ["automatic DKIM keys switched on"],
            |world, _tenant| {
                let manual = json!({ "dkimManagement": { "@type": "Manual" } });
                world.upstreams.stalwart.change_domain("acme.test", manual);
            }
        ),
        drift!(
            "the domain was renamed",
            "stalwart",
            ["domain name restored"],
            |world, _tenant| {
                let renamed = json!({ "name": "renamed.test" });
                world.upstreams.stalwart.change_domain("acme.test", renamed);
            }
        ),
        drift!(
            "the domain lost its description",
            "stalwart",
            ["domain description restored"],
            |world, _tenant| {
                world.upstreams.stalwart.describe_domain("acme.test", "");
            }
        ),
        drift!(
            "the space was disabled",
            "ocis",
            ["space restored"],
            |world, tenant| {
                edit_space(world, tenant, |space| space.trashed = true);
            }
        ),
        drift!(
            "the space was renamed",
            "ocis",
            ["space renamed"],
            |world, tenant| {
                edit_space(world, tenant, |space| "Renamed".clone_into(&mut space.name));
            }
        ),
        drift!(
            "the space lost its marker",
            "ocis",
            ["marker restored"],
            |world, tenant| {
                edit_space(world, tenant, |space| {
                    "project/acme".clone_into(&mut space.alias);
                });
            }
        ),
        drift!(
            "the space got another quota",
            "ocis",
            ["quota changed"],
            |world, tenant| {
                edit_space(world, tenant, |space| space.quota = 1);
            }
        ),
        drift!(
            "the space was purged",
            "ocis",
            ["space created"],
            |world, tenant| {
                let space = world.space(tenant).unwrap();
                world.upstreams.ocis.remove_space(&space.id);
            }
        ),
    ]
}

/// Drifts of a suspended tenant with a member and a mailbox.
fn thaws() -> Vec<Drift> {
    vec![
        drift!(
            "the user was activated",
            "authentik",
            ["user deactivated", "user marked as frozen"],
            |world, _tenant| {
                world.upstreams.authentik.change(|state| {
                    let user = state.users.values_mut().next().unwrap();
                    user.is_active = true;
                    user.attributes.clear();
                });
            }
        ),
        drift!(
            "the mailbox was opened",
            "stalwart",
            ["mailbox ada@acme.test frozen"],
            |world, _tenant| {
                let open = json!({ "permissions": { "@type": "Inherit" } });
                world
                    .upstreams
                    .stalwart
                    .change_account("ada@acme.test", open);
            }
        ),
        drift!(
            "the space was enabled",
            "ocis",
            ["space disabled"],
            |world, tenant| {
                edit_space(world, tenant, |space| space.trashed = false);
            }
        ),
    ]
}

fn edit_space(world: &World, tenant: &Tenant, edit: impl FnOnce(&mut dezky_sim::ocis::SimSpace)) {
    let space = world.space(tenant).unwrap();
    world.upstreams.ocis.edit_space(&space.id, edit);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_drift_is_reported_by_a_dry_run_and_then_repaired() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;

    for drift in drifts() {
        must_be_repaired(&world, &tenant, &drift).await;
    }

    assert_eq!(world.tenant(tenant.id).await.status, TenantStatus::Active);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_of_a_suspended_tenant_is_repaired() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_member("acme", "ada@acme.test");
    world.add_mailbox("ada@acme.test");
    world.completed(&world.suspend(tenant.id).await).await;

    for drift in thaws() {
        must_be_repaired(&world, &tenant, &drift).await;
    }

    assert_eq!(
        world.tenant(tenant.id).await.status,
        TenantStatus::Suspended
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_new_tenant_lists_the_resources_to_create() {
    let world = World::start().await;
    let tenant = world.harness.add_tenant("acme", &["acme.test"]).await;

    let job = world.completed(&world.dry_run(tenant.id).await).await;

    assert_eq!(step(&job, "authentik").changes, ["group created"]);
    assert_eq!(step(&job, "stalwart").changes, ["domain created"]);
    assert_eq!(step(&job, "ocis").changes, ["space created"]);
    assert_eq!(world.effects(), []);
    assert_eq!(world.tenant(tenant.id).await, tenant);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_deleted_tenant_lists_the_resources_to_remove() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_mailbox("ada@acme.test");
    let before = world.upstream_state();
    let now = world.harness.context.store.now();
    let gone = world
        .harness
        .change_tenant(tenant.id, |tenant| {
            tenant.status = TenantStatus::Terminating;
            tenant.purge_at = Some(now);
        })
        .await;

    let job = world.completed(&world.dry_run(tenant.id).await).await;

    assert_eq!(step(&job, "authentik").changes, ["group deleted"]);
    assert_eq!(
        step(&job, "stalwart").changes,
        ["1 account removed", "2 DKIM keys removed", "domain removed"]
    );
    assert_eq!(step(&job, "ocis").changes, ["space purged"]);
    assert_eq!(world.upstream_state(), before);
    assert_eq!(world.tenant(tenant.id).await, gone);
    world.stop().await;
}

async fn must_be_repaired(world: &World, tenant: &Tenant, drift: &Drift) {
    let Drift {
        what,
        happen,
        step: name,
        repairs,
    } = drift;
    let sound = world.upstream_state();
    happen(world, tenant).await;
    let (drifted, effects) = (world.upstream_state(), world.effects().len());
    let known = world.tenant(tenant.id).await;

    let announced = world.completed(&world.dry_run(tenant.id).await).await;
    let after_dry_run = (
        world.upstream_state(),
        world.effects().len(),
        world.tenant(tenant.id).await,
    );
    let repaired = world.completed(&world.reconcile(tenant.id).await).await;
    let after_repair = world.upstream_state();
    let again = world.completed(&world.reconcile(tenant.id).await).await;

    assert_ne!(drifted, sound, "{what}");
    assert_eq!(after_dry_run, (drifted, effects, known), "{what}");
    for job in [&announced, &repaired] {
        for step in &job.steps {
            let said: &[&str] = if step.name == *name { repairs } else { &[] };
            assert_eq!(step.changes, said, "{what}: {job:#?}");
        }
    }
    assert_eq!(after_repair, sound, "{what}");
    assert!(
        again.steps.iter().all(|step| step.changes.is_empty()),
        "{what}: {again:#?}"
    );
}
