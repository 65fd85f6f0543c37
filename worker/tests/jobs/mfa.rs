//! Look-up and reset of second factors.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    id::{TenantId, UserId},
    mfa::{Enrolment, MfaTotals},
    queue::{
        args::{LookUpMfa, ResetMfa},
        job::{Job, JobState, StepState},
    },
    store::to_document,
    user::{Membership, MembershipSource, Role, User},
};
use dezky_sim::{
    authentik::User as Account,
    faults::{Fault, FaultRule},
};

use crate::{harness::step, world::World};

const STEP: &str = "mfa_devices";
/// People of a tenant whose look-up takes several attempts.
const PEOPLE: i64 = 150;
const VIEW_TOTP: &str = "authentik_stages_authenticator_totp.view_totpdevice";

impl World {
    /// Adds a person with a role in the tenant and an account in its group.
    pub(crate) async fn add_person(&self, slug: &str, tenant: TenantId, email: &str) -> Account {
        let account = self.add_member(slug, email);
        self.add_user_of(&account, tenant).await;
        account
    }

    async fn add_user_of(&self, account: &Account, tenant: TenantId) {
        let now = self.harness.context.store.now();
        let subject = account.uuid.to_string();
        let mut user = User::first_seen(&subject, &account.email, "A Person", now);
        let membership = Membership {
            role: Some(Role::Member),
            source: MembershipSource::Local,
            changed_at: now,
            member_id: None,
        };
        user.memberships.insert(tenant, membership);
        let users = self.harness.context.store.collection::<Document>("users");
        users.insert_one(to_document(&user).unwrap()).await.unwrap();
    }

    pub(crate) async fn person(&self, account: &Account) -> User {
        let subject = account.uuid.to_string();
        let found = self.harness.context.users.find_by_subject(&subject).await;
        found.unwrap().unwrap()
    }

    async fn enrolment(&self, account: &Account) -> Enrolment {
        self.person(account).await.mfa.unwrap().enrolment()
    }

    async fn look_up(&self, tenant: TenantId) -> Job {
        let args = LookUpMfa { tenant_id: tenant };
        let job = self.harness.enqueue(&args).await;
        self.completed(&job).await
    }

    async fn totals(&self, tenant: TenantId) -> MfaTotals {
        let report = self.harness.context.mfa_reports.find(tenant).await;
        report.unwrap().unwrap().totals
    }

    pub(crate) async fn reset_mfa(&self, tenant: TenantId, user: UserId, by_operator: bool) -> Job {
        let args = ResetMfa {
            tenant_id: tenant,
            user_id: user,
            by_operator,
        };
        self.harness.enqueue(&args).await
    }

    async fn set_person(&self, account: &Account, set: Document) {
        let users = self.harness.context.store.collection::<Document>("users");
        let one = doc! { "authentikSubjectId": account.uuid.to_string() };
        let updated = users.update_one(one, doc! { "$set": set }).await.unwrap();
        assert_eq!(updated.matched_count, 1);
    }
}

fn totals(enrolled: i64, not_enrolled: i64, unknown: i64) -> MfaTotals {
    MfaTotals {
        enrolled,
        not_enrolled,
        unknown,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_looked_up_by_type_and_counted() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let ada = world.add_person("acme", tenant.id, "ada@acme.test").await;
    let bob = world.add_person("acme", tenant.id, "bob@acme.test").await;
    let gone = world.add_person("acme", tenant.id, "gone@acme.test").await;
    let authentik = &world.upstreams.authentik;
    authentik.add_device(ada.pk, "TOTPDevice", true);
    authentik.add_device(ada.pk, "StaticDevice", true);
    authentik.add_device(bob.pk, "StaticDevice", true);
    authentik.add_device(bob.pk, "WebAuthnDevice", false);
    authentik.change(|state| state.users.remove(&gone.pk));
    let before = world.tenant(tenant.id).await;

    world.look_up(tenant.id).await;

    let check = world.person(&ada).await.mfa.unwrap();
    let types: Vec<_> = check
        .by_type
        .iter()
        .map(|(kind, n)| (kind.name(), *n))
        .collect();
    assert_eq!(types, [("totp", 1), ("static", 1)]);
    assert_eq!(check.enrolment(), Enrolment::Yes);
    assert_eq!(world.enrolment(&bob).await, Enrolment::No);
    assert_eq!(world.enrolment(&gone).await, Enrolment::Unknown);
    assert_eq!(world.totals(tenant.id).await, totals(1, 1, 1));
    assert_eq!(world.tenant(tenant.id).await, before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_may_not_be_seen_are_unknown_and_not_absent() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let ada = world.add_person("acme", tenant.id, "ada@acme.test").await;
    let bob = world.add_person("acme", tenant.id, "bob@acme.test").await;
    let authentik = &world.upstreams.authentik;
    authentik.add_device(ada.pk, "TOTPDevice", true);
    authentik.add_device(bob.pk, "WebAuthnDevice", true);
    authentik.withhold(VIEW_TOTP);

    world.look_up(tenant.id).await;

    assert_eq!(world.enrolment(&ada).await, Enrolment::Unknown);
    assert_eq!(world.enrolment(&bob).await, Enrolment::Yes);
    assert_eq!(world.totals(tenant.id).await, totals(1, 0, 1));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ignored_filter_shows_no_one_the_devices_of_others() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let ada = world.add_person("acme", tenant.id, "ada@acme.test").await;
    let authentik = &world.upstreams.authentik;
    let other = authentik.add_user("other@globex.test", &[]);
    authentik.add_device(other.pk, "TOTPDevice", true);
    authentik.ignore_filters();
    let args = LookUpMfa {
        tenant_id: tenant.id,
    };

    let job = world.harness.enqueue(&args).await;
    let job = world.harness.finished(job.id).await;

    assert_eq!(job.state, JobState::Discarded);
    assert_eq!(world.person(&ada).await.mfa, None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_longer_than_an_attempt_is_continued_where_it_stopped() {
    let world = World::start_with(|_, times| times.yield_after = Duration::from_millis(500)).await;
    let tenant = world.active_tenant("acme", &[]).await;
    for n in 0..PEOPLE {
        let email = format!("p{n}@acme.test");
        world.add_person("acme", tenant.id, &email).await;
    }
    let faults = &world.upstreams.authentik.server.faults;
    faults.add(FaultRule::every(Fault::SlowAnswer { millis: 40 }));

    let job = world.look_up(tenant.id).await;

    assert_eq!(world.totals(tenant.id).await, totals(0, PEOPLE, 0));
    assert!(job.snoozes > 0, "{job:#?}");
    // One control for each attempt.
    let controls = u64::try_from(job.snoozes + 1).unwrap();
    let listed = faults.requests()["list_devices"];
    assert_eq!(listed, u64::try_from(PEOPLE).unwrap() + controls);
    world.stop().await;
}

/// The failure of one person, in the first attempt of several, makes the look-up incomplete.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_with_a_failure_before_its_last_attempt_stores_no_totals() {
    let world = World::start_with(|_, times| times.yield_after = Duration::from_millis(500)).await;
    let tenant = world.active_tenant("acme", &[]).await;
    for n in 0..PEOPLE {
        let email = format!("p{n}@acme.test");
        world.add_person("acme", tenant.id, &email).await;
    }
    let refused = Fault::Status {
        status: 400,
        retry_after: None,
    };
    let faults = &world.upstreams.authentik.server.faults;
    // The first is the positive control.
    faults.add(FaultRule::once_after("list_devices", 1, refused));
    faults.add(FaultRule::every(Fault::SlowAnswer { millis: 40 }));
    let args = LookUpMfa {
        tenant_id: tenant.id,
    };

    let job = world.harness.enqueue(&args).await;
    let job = world.harness.finished(job.id).await;

    assert!(job.snoozes > 0, "{job:#?}");
    assert_eq!(job.state, JobState::Discarded);
    let report = world.harness.context.mfa_reports.find(tenant.id).await;
    assert!(report.unwrap().is_none());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_deletes_the_devices_of_one_person_and_keeps_later_ones() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let ada = world.add_person("acme", tenant.id, "ada@acme.test").await;
    let bob = world.add_person("acme", tenant.id, "bob@acme.test").await;
    let authentik = &world.upstreams.authentik;
    for (user, device, confirmed) in [
        (ada.pk, "TOTPDevice", true),
        (ada.pk, "StaticDevice", true),
        (ada.pk, "WebAuthnDevice", false),
        (ada.pk, "SMSDevice", true),
        (bob.pk, "TOTPDevice", true),
    ] {
        authentik.add_device(user, device, confirmed);
    }
    authentik.change(|state| {
        let later = state
            .devices
            .values_mut()
            .find(|it| it.r#type == "SMSDevice");
        "2099-01-01T00:00:00Z".clone_into(&mut later.unwrap().created);
    });
    let user = world.person(&ada).await.id;

    let job = world.reset_mfa(tenant.id, user, false).await;
    let job = world.completed(&job).await;

    assert_eq!(authentik.devices(ada.pk), ["SMSDevice"]);
    assert_eq!(authentik.devices(bob.pk), ["TOTPDevice"]);
    assert_eq!(step(&job, STEP).changes.len(), 3);
    let check = world.person(&ada).await.mfa.unwrap();
    assert_eq!(check.devices, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_with_access_elsewhere_is_reset_for_operators_only() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let other = world.active_tenant("globex", &[]).await;
    let authentik = &world.upstreams.authentik;
    let mut people = Vec::new();
    for name in ["operator", "staff", "member", "group", "suspended", "admin"] {
        let account = world
            .add_person("acme", tenant.id, &format!("{name}@acme.test"))
            .await;
        authentik.add_device(account.pk, "TOTPDevice", true);
        people.push(account);
    }
    world
        .set_person(&people[0], doc! { "platformAdmin": true })
        .await;
    let partner = world.add_partner("nordic").await;
    world
        .set_person(&people[1], doc! { "partnerId": partner.id })
        .await;
    let elsewhere = doc! { "tenantId": other.id, "role": "member", "source": "claim", "changedAt": world.harness.context.store.now() };
    let here = doc! { "tenantId": tenant.id, "role": "member", "source": "claim", "changedAt": world.harness.context.store.now() };
    world
        .set_person(&people[2], doc! { "memberships": [here, elsewhere] })
        .await;
    // Not known here: their tokens were not seen since they joined.
    world.join("group@acme.test", "globex");
    let suspended = world.active_tenant("hooli", &[]).await;
    world.join("suspended@acme.test", "hooli");
    world.completed(&world.suspend(suspended.id).await).await;
    authentik.change(|state| {
        let admins = dezky_sim::authentik::Group {
            is_superuser: true,
            ..dezky_sim::authentik::Group::new("admins", serde_json::Map::new())
        };
        let user = state.users.get_mut(&people[5].pk).unwrap();
        user.groups.insert(admins.id);
        state.groups.insert(admins.id, admins);
    });

    for account in &people {
        let user = world.person(account).await.id;
        let job = world.reset_mfa(tenant.id, user, false).await;
        let job = world.completed(&job).await;

        let state = step(&job, STEP).state;
        assert_eq!(state, StepState::Skipped, "{}", account.username);
        assert_eq!(
            authentik.devices(account.pk),
            ["TOTPDevice"],
            "{}",
            account.username
        );
    }
    assert_eq!(authentik.server.effects.count("delete_device"), 0);
    let operator = world.person(&people[0]).await.id;
    let job = world.reset_mfa(tenant.id, operator, true).await;
    world.completed(&job).await;
    assert!(authentik.devices(people[0].pk).is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_left_the_tenant_is_not_reset() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let ada = world.add_person("acme", tenant.id, "ada@acme.test").await;
    let authentik = &world.upstreams.authentik;
    authentik.add_device(ada.pk, "TOTPDevice", true);
    let user = world.person(&ada).await.id;
    world.set_person(&ada, doc! { "memberships": [] }).await;

    let job = world.reset_mfa(tenant.id, user, true).await;
    world.completed(&job).await;

    assert_eq!(authentik.devices(ada.pk), ["TOTPDevice"]);
    world.stop().await;
}
