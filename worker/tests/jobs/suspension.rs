//! Suspension and resumption: the upstreams converge to the last desired state, and resuming restores only what suspending
//! froze.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    id::{DomainId, PartnerId},
    queue::job::{Job, JobState},
    tenant::{ConditionStatus, ProvisioningState, Tenant, TenantStatus, reason},
    upstream::Upstream,
    user::User as Person,
};
use dezky_sim::faults::{Fault, FaultRule};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::json;

use crate::{
    harness::{step, until},
    world::World,
};

/// Our account lacks a permission.
pub(crate) const FORBIDDEN: Fault = Fault::Status {
    status: 403,
    retry_after: None,
};

#[tokio::test(flavor = "multi_thread")]
async fn suspending_blocks_all_access_and_resuming_restores_it() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.add_member("acme", "ada@acme.test");
    world.add_mailbox("ada@acme.test");
    let before = world.upstream_state();

    world.completed(&world.suspend(tenant.id).await).await;
    let suspended = world.tenant(tenant.id).await;
    let frozen = (
        world.user("ada@acme.test").is_active,
        world.mailbox_is_open("ada@acme.test"),
    );
    let space = world.space(&tenant).unwrap();
    let signed_in = world.upstreams.authentik.signed_in_with(ada.pk);
    let resumed = world.completed(&world.resume(tenant.id).await).await;

    assert_eq!(suspended.status, TenantStatus::Suspended);
    assert_eq!(frozen, (false, false));
    assert!(space.trashed);
    assert_eq!(signed_in, 0, "no session or token is left");
    assert_eq!(world.tenant(tenant.id).await.status, TenantStatus::Active);
    assert_eq!(step(&resumed, "ocis").changes, ["space restored"]);
    // As before, except for the ended sessions and the deleted app passwords.
    let mut after = world.upstream_state();
    for sessions in ["sessions", "refreshTokens", "accessTokens", "apiTokens"] {
        after[0][sessions] = before[0][sessions].clone();
    }
    assert_eq!(after, before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resuming_unfreezes_only_what_suspending_froze() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let eve = world.add_member("acme", "eve@acme.test");
    world.add_member("acme", "ada@acme.test");
    world.upstreams.authentik.change(|state| {
        state.users.get_mut(&eve.pk).unwrap().is_active = false;
    });
    for email in ["eve@acme.test", "ada@acme.test"] {
        world.add_mailbox(email);
    }
    let suspended = json!({ "permissions": {
        "@type": "Merge", "enabledPermissions": {}, "disabledPermissions": { "authenticate": true },
    } });
    world
        .upstreams
        .stalwart
        .change_account("eve@acme.test", suspended);

    world.completed(&world.suspend(tenant.id).await).await;
    world.completed(&world.resume(tenant.id).await).await;

    assert!(!world.user("eve@acme.test").is_active);
    assert!(!world.mailbox_is_open("eve@acme.test"));
    assert!(world.user("ada@acme.test").is_active);
    assert!(world.mailbox_is_open("ada@acme.test"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_another_active_tenant_can_still_sign_in() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &[]).await;
    let globex = world.active_tenant("globex", &[]).await;
    world.add_member("acme", "ada@acme.test");
    world.join("ada@acme.test", "globex");
    let effects = world.effects().len();

    world.completed(&world.suspend(acme.id).await).await;
    let spared = world.user("ada@acme.test");
    let touched = world.effects()[effects..]
        .iter()
        .any(|effect| effect.key == "ada@acme.test");
    world.completed(&world.suspend(globex.id).await).await;
    let without_a_tenant = world.user("ada@acme.test");

    assert!(spared.is_active && !touched);
    assert!(!without_a_tenant.is_active, "no tenant grants sign-in");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_two_suspended_tenants_can_sign_in_once_either_is_resumed() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &[]).await;
    let globex = world.active_tenant("globex", &[]).await;
    world.add_member("acme", "ada@acme.test");
    world.join("ada@acme.test", "globex");
    world.completed(&world.suspend(acme.id).await).await;
    world.completed(&world.suspend(globex.id).await).await;
    world.completed(&world.reconcile(acme.id).await).await;
    let frozen = world.user("ada@acme.test");

    world.completed(&world.resume(globex.id).await).await;
    let resumed = world.user("ada@acme.test");
    world.completed(&world.reconcile(acme.id).await).await;
    let reconciled = world.user("ada@acme.test");

    assert!(!frozen.is_active);
    assert_eq!(
        frozen.attributes["dezkyFrozenBy"],
        json!([globex.id.to_string(), acme.id.to_string()])
    );
    assert!(resumed.is_active);
    assert!(
        reconciled.is_active,
        "a suspended tenant does not freeze members of an active one"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_never_deactivated() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let operator = world.add_member("acme", "operator@dezky.test");
    let administrator = world.add_member("acme", "administrator@dezky.test");
    world.add_member("acme", "ada@acme.test");
    let now = world.harness.context.store.now();
    let mut person = Person::first_seen(&operator.uuid.to_string(), "", "Operator", now);
    person.platform_admin = true;
    let people = world.harness.context.store.collection::<Person>("users");
    people.insert_one(&person).await.unwrap();
    let admins = world
        .upstreams
        .authentik
        .add_group("authentik Admins", &json!({}));
    world.upstreams.authentik.change(|state| {
        state.groups.get_mut(&admins.id).unwrap().is_superuser = true;
        state
            .users
            .get_mut(&administrator.pk)
            .unwrap()
            .groups
            .insert(admins.id);
    });

    world.completed(&world.suspend(tenant.id).await).await;

    assert!(world.user("operator@dezky.test").is_active);
    assert!(world.user("administrator@dezky.test").is_active);
    assert!(!world.user("ada@acme.test").is_active);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_newer_build_among_the_members_prevent_no_suspension() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let operator = world.add_member("acme", "operator@dezky.test");
    let staff = world.add_member("acme", "staff@partner.test");
    world.add_member("acme", "ada@acme.test");
    let now = world.harness.context.store.now();
    let users = world.harness.context.store.collection::<Document>("users");
    for (user, of) in [
        (&operator, doc! { "platformAdmin": true }),
        (&staff, doc! { "partnerId": PartnerId::new() }),
    ] {
        let subject = user.uuid.to_string();
        let person = Person::first_seen(&subject, &user.username, "Someone", now);
        let mut stored = bson::serialize_to_document(&person).unwrap();
        stored.extend(of);
        stored.insert("createdAt", "of_the_next_release");
        users.insert_one(stored).await.unwrap();
    }

    world.completed(&world.suspend(tenant.id).await).await;

    assert!(world.user("operator@dezky.test").is_active);
    assert!(
        !world.user("staff@partner.test").is_active,
        "of no active partner"
    );
    assert!(!world.user("ada@acme.test").is_active);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_of_a_newer_build_keeps_no_mailbox_open() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_mailbox("ada@acme.test");
    let store = &world.harness.context.store;
    let claim = doc! { "tenantId": tenant.id, "name": "acme.test" };
    let newer = doc! {
        "$set": { "ownedBy": "of_the_next_release" },
        "$setOnInsert": { "_id": DomainId::new() },
    };
    let domains = store.collection::<Document>("domains");
    domains.update_one(claim, newer).upsert(true).await.unwrap();

    world.completed(&world.suspend(tenant.id).await).await;

    assert!(!world.mailbox_is_open("ada@acme.test"));
    assert_eq!(world.upstreams.stalwart.domains().len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_left_during_a_suspension_is_unfrozen_by_the_resumption() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let ada = world.add_member("acme", "ada@acme.test");
    world.completed(&world.suspend(tenant.id).await).await;
    world.upstreams.authentik.change(|state| {
        state.users.get_mut(&ada.pk).unwrap().groups.clear();
    });

    world.completed(&world.resume(tenant.id).await).await;

    let ada = world.user("ada@acme.test");
    assert!(ada.is_active && ada.attributes.is_empty(), "{ada:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_cannot_be_frozen_does_not_keep_others_signed_in() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    for email in ["ada@acme.test", "bob@acme.test", "cem@acme.test"] {
        world.add_member("acme", email);
        world.add_mailbox(email);
    }
    let refused = Fault::Status {
        status: 400,
        retry_after: None,
    };
    let (authentik, stalwart) = (&world.upstreams.authentik, &world.upstreams.stalwart);
    let faults = &authentik.server.faults;
    faults.add(FaultRule::once("freeze_user", refused));
    // The mail server validates the whole account.
    let set_quota = |quota| {
        let quotas = json!({ "quotas": { "maxDiskQuota": quota } });
        stalwart.change_account("bob@acme.test", quotas);
    };
    set_quota(json!("much"));

    let job = world.suspend(tenant.id).await;
    let job = world.harness.finished(job.id).await;

    assert_eq!(job.state, JobState::Discarded);
    let left = || {
        let people = ["ada@acme.test", "bob@acme.test", "cem@acme.test"].iter();
        let users = people.clone().filter(|email| world.user(email).is_active);
        let mailboxes = people.filter(|email| world.mailbox_is_open(email));
        (users.count(), mailboxes.count())
    };
    assert_eq!(left(), (1, 1));
    set_quota(json!(7));
    world.completed(&world.reconcile(tenant.id).await).await;
    assert_eq!(left(), (0, 0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_is_not_reported_while_a_session_is_open() {
    let world = World::start_with(|_, times| {
        times.hold_backoff = Duration::from_millis(100);
    })
    .await;
    let tenant = world.active_tenant("acme", &[]).await;
    let ada = world.add_member("acme", "ada@acme.test");
    world.add_member("acme", "bob@acme.test");
    world.completed(&world.suspend(tenant.id).await).await;
    // As by a login that was in progress.
    world.sign_in(ada.pk);
    let faults = &world.upstreams.authentik.server.faults;
    faults.add(FaultRule {
        times: None,
        ..FaultRule::once("delete_session", FORBIDDEN)
    });

    let job = world.reconcile(tenant.id).await;
    let refused = |job: &Job| job.state.is_final() || job.snoozes >= 4;
    let waiting = world.harness.job_until(job.id, refused).await;
    let suspended = world.tenant(tenant.id).await;
    let open = world.upstreams.authentik.signed_in_with(ada.pk);
    faults.clear();
    let job = world.completed(&job).await;

    assert!(!waiting.state.is_final(), "{waiting:#?}");
    let condition = suspended.condition(Upstream::Authentik).unwrap();
    assert_eq!(condition.status, ConditionStatus::False);
    assert_eq!(condition.reason, "UpstreamPermissionMissing");
    assert!(open > 0);
    assert_eq!(job.attempt, 1);
    assert_eq!(world.upstreams.authentik.signed_in_with(ada.pk), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_mailboxes_may_not_be_closed_does_not_say_suspended() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_mailbox("ada@acme.test");
    let stalwart = &world.upstreams.stalwart;
    stalwart.withhold("imapAuthenticate");

    world.suspend(tenant.id).await;
    let refused = world
        .harness
        .tenant_until(tenant.id, |tenant| {
            tenant.provisioning_status.stalwart == ProvisioningState::Error
        })
        .await;
    stalwart.grant_all();
    world.completed(&world.reconcile(tenant.id).await).await;
    let closed = world.tenant(tenant.id).await;

    let condition = refused.condition(Upstream::Stalwart).unwrap();
    assert_eq!(condition.status, ConditionStatus::False);
    assert_eq!(condition.reason, "UpstreamPermissionMissing");
    let condition = closed.condition(Upstream::Stalwart).unwrap();
    assert_eq!(condition.reason, reason::SUSPENDED);
    assert!(!world.mailbox_is_open("ada@acme.test"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_domain_is_suspended_and_removed_with_its_tenant() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_mailbox("ada@acme.test");
    let stalwart = &world.upstreams.stalwart;
    // Its name is taken meanwhile, so it does not get it back.
    stalwart.change_domain("acme.test", json!({ "name": "renamed.test" }));
    stalwart.add_domain("acme.test", json!({}));

    world.suspend(tenant.id).await;
    world
        .harness
        .tenant_until(tenant.id, |tenant| {
            tenant.provisioning_errors.stalwart.is_some()
        })
        .await;
    let open = world.mailbox_is_open("ada@renamed.test");
    for job in world.delete(tenant.id, Duration::ZERO).await {
        world.completed(&job).await;
    }

    assert!(!open);
    assert_eq!(stalwart.domains(), ["acme.test"], "the foreign one");
    assert!(stalwart.accounts().is_empty());
    world.stop().await;
}

/// Its id was never stored, and the tenant has no domain any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_domain_of_an_older_build_is_found_by_its_marker() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let marker = json!({ "description": format!("dezky:{}", tenant.id) });
    let stalwart = &world.upstreams.stalwart;
    stalwart.add_domain("renamed.test", marker);
    world.add_mailbox("ada@renamed.test");

    world.completed(&world.suspend(tenant.id).await).await;
    let suspended = world.mailbox_is_open("ada@renamed.test");
    world.completed(&world.resume(tenant.id).await).await;
    let resumed = world.mailbox_is_open("ada@renamed.test");
    for job in world.delete(tenant.id, Duration::ZERO).await {
        world.completed(&job).await;
    }

    assert_eq!((suspended, resumed), (false, true));
    assert!(stalwart.domains().is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_suspend_does_not_undo_a_resume() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_member("acme", "ada@acme.test");
    world.upstreams.ocis.server.faults.go_down();
    let suspend = world.suspend(tenant.id).await;
    world
        .harness
        .job_until(suspend.id, |job| job.snoozes > 0)
        .await;

    let resume = world.resume(tenant.id).await;
    world.upstreams.ocis.server.faults.clear();
    world.completed(&resume).await;
    world.completed(&suspend).await;

    must_be(&world, &tenant, true, "resumed").await;
    world.stop().await;
}

/// The space is disabled late, and the resume is requested either during that write or after its timeout.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_effect_of_a_suspend_does_not_undo_a_resume() {
    for is_given_up in [false, true] {
        let world = World::start_with(|config, times| {
            config.ocis.as_mut().unwrap().timeout = Duration::from_millis(600);
            times.in_doubt_wait = Duration::from_secs(2);
        })
        .await;
        let tenant = world.active_tenant("acme", &[]).await;
        let faults = &world.upstreams.ocis.server.faults;
        faults.add(FaultRule::once(
            "disable_space",
            Fault::SlowEffect { millis: 1_500 },
        ));
        world.suspend(tenant.id).await;
        if is_given_up {
            world
                .harness
                .tenant_until(tenant.id, |tenant| tenant.unknown_until.ocis.is_some())
                .await;
        } else {
            until(async || faults.hits(), |&hits| hits == 1).await;
        }

        world.resume(tenant.id).await;
        world.until_idle().await;
        world.until_effects_landed().await;

        must_be(&world, &tenant, true, "resumed").await;
        world.stop().await;
    }
}

/// Suspend, resume and reconcile in random order, with failures in between.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_desired_state_wins_in_any_order_of_jobs() {
    futures::future::join_all((0..6).map(random_walk)).await;
}

async fn random_walk(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::start_with(|config, times| {
        let timeout = Duration::from_millis(500);
        config.authentik.as_mut().unwrap().timeout = timeout;
        config.stalwart.as_mut().unwrap().timeout = timeout;
        config.ocis.as_mut().unwrap().timeout = timeout;
        times.in_doubt_wait = Duration::from_millis(900);
    })
    .await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_member("acme", "ada@acme.test");
    world.add_member("acme", "bob@acme.test");
    world.add_mailbox("ada@acme.test");
    let faults = [
        Fault::AnswerLost,
        Fault::Reset,
        Fault::Html,
        Fault::SlowEffect { millis: 700 },
        Fault::Status {
            status: 503,
            retry_after: None,
        },
    ];

    let mut is_active = true;
    for _ in 0..8 {
        let servers = [
            &world.upstreams.authentik.server,
            &world.upstreams.stalwart.server,
            &world.upstreams.ocis.server,
        ];
        servers.choose(&mut random).unwrap().faults.add(FaultRule {
            writes_only: true,
            times: Some(1),
            ..FaultRule::every(faults.choose(&mut random).unwrap().clone())
        });
        let job = match random.random_range(0..3) {
            0 => {
                is_active = false;
                world.suspend(tenant.id).await
            }
            1 => {
                is_active = true;
                world.resume(tenant.id).await
            }
            _ => world.reconcile(tenant.id).await,
        };
        if random.random_bool(0.3) {
            world.harness.finished(job.id).await;
        }
    }
    world.until_idle().await;
    world.until_effects_landed().await;

    must_be(&world, &tenant, is_active, &format!("seed {seed}")).await;
    world.stop().await;
}

async fn must_be(world: &World, tenant: &Tenant, is_active: bool, about: &str) {
    let wanted = if is_active {
        TenantStatus::Active
    } else {
        TenantStatus::Suspended
    };
    assert_eq!(world.tenant(tenant.id).await.status, wanted, "{about}");
    let authentik = &world.upstreams.authentik;
    for username in authentik.members(authentik.group_named(&tenant.slug).unwrap().id) {
        assert_eq!(
            world.user(&username).is_active,
            is_active,
            "{about}: {username}"
        );
    }
    for account in world.upstreams.stalwart.accounts() {
        assert_eq!(account.can_sign_in, is_active, "{about}: {}", account.email);
    }
    assert_eq!(world.space(tenant).unwrap().trashed, !is_active, "{about}");
}
