//! Partner teams: group synchronisation and invitations.

mod faults;
mod invitations;

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    id::{PartnerId, TenantId, UserId},
    invitation::Invitation,
    mfa::Enrolment,
    partner::Partner,
    queue::{
        args::{InvitePartnerMember, SyncPartnerTeam},
        job::{Job, JobState},
    },
    store::{TransactionError, to_document},
    tenant::Tenant,
    user::{PartnerRole, User},
};
use dezky_sim::{
    authentik::User as Account,
    faults::{Fault, FaultRule},
};
use futures::FutureExt as _;

use crate::{harness::until, world::World};

/// The inviting operator.
const INVITER: [u8; 16] = [7; 16];

impl World {
    /// Adds an active partner.
    pub(crate) async fn add_partner(&self, slug: &str) -> Partner {
        let store = &self.harness.context.store;
        let (id, now) = (PartnerId::new(), store.now());
        let partner = doc! {
            "_id": id, "slug": slug, "name": slug, "status": "active", "marginBasisPoints": 1_250,
            "revision": 1_i64, "createdAt": now, "updatedAt": now,
        };
        let partners = store.collection::<Document>("partners");
        partners.insert_one(partner).await.unwrap();
        self.partner(id).await
    }

    async fn partner(&self, id: PartnerId) -> Partner {
        let found = self.harness.context.partners.find(id).await;
        found.unwrap().unwrap()
    }

    async fn terminate(&self, partner: &Partner) {
        let partners = self
            .harness
            .context
            .store
            .collection::<Document>("partners");
        let set = doc! { "$set": { "status": "terminated" } };
        let one = doc! { "_id": partner.id };
        partners.update_one(one, set).await.unwrap();
    }

    /// Attaches a tenant to the partner.
    pub(crate) async fn attach(&self, tenant: TenantId, partner: &Partner) {
        let partner_id = Some(partner.id);
        let attach = |tenant: &mut Tenant| tenant.partner_id = partner_id;
        self.harness.change_tenant(tenant, attach).await;
    }

    /// Removes a user from all groups.
    fn leave_all(&self, username: &str) {
        let user = self.user(username).pk;
        let authentik = &self.upstreams.authentik;
        authentik.change(|state| state.users.get_mut(&user).unwrap().groups.clear());
    }

    async fn set_user(&self, id: UserId, set: Document) {
        let users = self.harness.context.store.collection::<Document>("users");
        let (one, set) = (doc! { "_id": id }, doc! { "$set": set });
        users.update_one(one, set).await.unwrap();
    }

    /// Adds an operator, who may invite to any team.
    async fn add_inviter(&self) -> UserId {
        let id = UserId::from_bytes(INVITER);
        let now = self.harness.context.store.now();
        let mut user =
            to_document(&User::first_seen("inviter", "op@dezky.test", "Op", now)).unwrap();
        user.extend(doc! { "_id": id, "platformAdmin": true });
        let users = self.harness.context.store.collection::<Document>("users");
        let known = users.replace_one(doc! { "_id": id }, user);
        known.upsert(true).await.unwrap();
        id
    }

    /// Adds an invitation as the API does.
    pub(crate) async fn add_invitation(&self, partner: &Partner, email: &str) -> Invitation {
        let now = self.harness.context.store.now();
        let by = self.add_inviter().await;
        let role = PartnerRole::Support;
        let invitation = Invitation::new(partner.id, email, "Nea", role, by, now);
        let store = &self.harness.context.store;
        let invitations = store.collection::<Invitation>("invitations");
        invitations.insert_one(&invitation).await.unwrap();
        invitation
    }

    /// An invitation that the owner of the invited account has accepted.
    pub(crate) async fn add_accepted_invitation(
        &self,
        partner: &Partner,
        email: &str,
    ) -> Invitation {
        let invitation = self.add_invitation(partner, email).await;
        self.accept(&invitation).await;
        invitation
    }

    /// Accepts an invitation as the API does, as the owner of the account that has the username now.
    pub(crate) async fn accept(&self, invitation: &Invitation) {
        let store = &self.harness.context.store;
        let invitations = store.collection::<Invitation>("invitations");
        let account = self.upstreams.authentik.user_named(&invitation.email);
        let subject = account.map(|account| account.uuid.to_string());
        let accepted = doc! { "state": "pending", "subject": subject, "acceptedAt": store.now() };
        let one = doc! { "_id": invitation.id };
        let updated = invitations.update_one(one, doc! { "$set": accepted }).await;
        assert_eq!(updated.unwrap().matched_count, 1);
    }

    pub(crate) async fn invite(&self, invitation: &Invitation) -> Job {
        let args = InvitePartnerMember {
            partner_id: invitation.partner_id,
            invitation_id: invitation.id,
        };
        self.harness.enqueue(&args).await
    }

    pub(crate) async fn sync_team(&self, partner_id: PartnerId) -> Job {
        self.harness.enqueue(&SyncPartnerTeam { partner_id }).await
    }

    /// Adds an account and a team member in MongoDB, but not in the group.
    pub(crate) async fn add_team_member(&self, partner: &Partner, username: &str) -> Account {
        let account = self.upstreams.authentik.add_user(username, &[]);
        let now = self.harness.context.store.now();
        let mut user = User::first_seen(&account.uuid.to_string(), username, "Nea", now);
        user.partner_id = Some(partner.id);
        user.partner_role = Some(PartnerRole::Manager);
        let users = self.harness.context.store.collection::<User>("users");
        users.insert_one(&user).await.unwrap();
        account
    }

    /// Removes a team member as the API does.
    pub(crate) async fn remove_team_member(&self, account: &Account) {
        let users = self.harness.context.store.collection::<Document>("users");
        let one = doc! { "authentikSubjectId": account.uuid.to_string() };
        let unset = doc! { "$unset": { "partnerId": "", "partnerRole": "" } };
        users.update_one(one, unset).await.unwrap();
    }

    pub(crate) async fn find_user(&self, account: &Account) -> Option<User> {
        let subject = account.uuid.to_string();
        let found = self.harness.context.users.find_by_subject(&subject).await;
        found.unwrap()
    }

    /// The members of the partner's group.
    fn team_in_group(&self, partner: &Partner) -> Vec<String> {
        let authentik = &self.upstreams.authentik;
        let group = authentik.group_named(&partner.group_name()).unwrap();
        authentik.members(group.id)
    }

    pub(crate) async fn find_invitation(&self, invitation: &Invitation) -> Option<Invitation> {
        let found = self.harness.context.invitations.find(invitation.id).await;
        found.unwrap()
    }

    /// Revokes an invitation as the API does.
    async fn revoke(&self, invitation: &Invitation) {
        let (partner_id, email) = (invitation.partner_id, invitation.email.as_str());
        let context = &self.harness.context;
        let withdrawn: Result<(), TransactionError<()>> = context
            .store
            .transaction((context, email), |session, (context, email)| {
                async move {
                    let invitations = &context.invitations;
                    Ok(invitations.revoke(session, partner_id, email).await?)
                }
                .boxed()
            })
            .await;
        withdrawn.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_is_synchronised_with_the_team() {
    let world = World::start().await;
    let partner = world.add_partner("nordic").await;
    let (ada, bob) = (
        world.add_team_member(&partner, "ada@nordic.test").await,
        world.add_team_member(&partner, "bob@nordic.test").await,
    );
    world.completed(&world.sync_team(partner.id).await).await;
    assert_eq!(
        world.team_in_group(&partner),
        ["ada@nordic.test", "bob@nordic.test"]
    );
    world.sign_in(ada.pk);
    world.sign_in(bob.pk);

    world.remove_team_member(&ada).await;
    world.completed(&world.sync_team(partner.id).await).await;

    let authentik = &world.upstreams.authentik;
    assert_eq!(world.team_in_group(&partner), ["bob@nordic.test"]);
    assert_eq!(authentik.signed_in_with(ada.pk), 0);
    assert!(authentik.signed_in_with(bob.pk) > 0);
    let group = authentik.group_named("partner:nordic").unwrap();
    assert_eq!(group.attributes["partnerId"], partner.id.to_string());
    assert!(!group.attributes.contains_key("tenantId"));
    assert_eq!(
        world.partner(partner.id).await.authentik_group_id,
        Some(group.id.to_string())
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_was_removed_and_added_again_stays_in_the_group() {
    let world = World::start().await;
    let partner = world.add_partner("nordic").await;
    let ada = world.add_team_member(&partner, "ada@nordic.test").await;
    world.completed(&world.sync_team(partner.id).await).await;
    world.sign_in(ada.pk);

    // Removed and invited again before any job ran.
    world.completed(&world.sync_team(partner.id).await).await;

    assert_eq!(world.team_in_group(&partner), ["ada@nordic.test"]);
    assert!(world.upstreams.authentik.signed_in_with(ada.pk) > 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_team_of_a_terminated_partner_is_removed_from_the_group_and_signed_out() {
    let world = World::start().await;
    let partner = world.add_partner("nordic").await;
    let ada = world.add_team_member(&partner, "ada@nordic.test").await;
    world.completed(&world.sync_team(partner.id).await).await;
    world.sign_in(ada.pk);

    world.terminate(&partner).await;
    world.completed(&world.sync_team(partner.id).await).await;

    assert!(world.team_in_group(&partner).is_empty());
    assert_eq!(world.upstreams.authentik.signed_in_with(ada.pk), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_team_is_synchronised_across_attempts_of_which_none_is_charged() {
    const TEAM: usize = 60;
    let world = World::start_with(|_, times| times.yield_after = Duration::from_millis(500)).await;
    let partner = world.add_partner("nordic").await;
    let mut team = Vec::new();
    for number in 0..TEAM {
        let name = format!("m{number}@nordic.test");
        team.push(world.add_team_member(&partner, &name).await);
    }
    let faults = &world.upstreams.authentik.server.faults;
    faults.add(FaultRule::every(Fault::SlowAnswer { millis: 100 }));

    let job = world.sync_team(partner.id).await;
    let job = world.completed(&job).await;

    assert!(job.snoozes > 0, "{job:#?}");
    assert_eq!(job.attempt, 1, "no attempt is charged: {job:#?}");
    assert_eq!(world.team_in_group(&partner).len(), TEAM);
    for account in &team {
        assert!(world.find_user(account).await.unwrap().mfa.is_some());
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_codes_and_unconfirmed_devices_are_not_counted() {
    let world = World::start().await;
    let partner = world.add_partner("nordic").await;
    let ada = world.add_team_member(&partner, "ada@nordic.test").await;
    let bob = world.add_team_member(&partner, "bob@nordic.test").await;
    let authentik = &world.upstreams.authentik;
    authentik.add_device(ada.pk, "TOTPDevice", true);
    authentik.add_device(ada.pk, "WebAuthnDevice", true);
    authentik.add_device(ada.pk, "WebAuthnDevice", false);
    authentik.add_device(ada.pk, "StaticDevice", true);
    let before = world.harness.context.store.now();

    world.completed(&world.sync_team(partner.id).await).await;

    let [ada, bob] = [world.find_user(&ada).await, world.find_user(&bob).await];
    let mfa = ada.unwrap().mfa.unwrap();
    assert_eq!(mfa.devices, 2);
    assert!(mfa.looked_up_at >= before);
    assert_eq!(mfa.enrolment(), Enrolment::Yes);
    assert_eq!(bob.unwrap().mfa.unwrap().enrolment(), Enrolment::No);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspending_a_tenant_does_not_block_the_team_of_an_active_partner() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let partner = world.add_partner("nordic").await;
    let former = world.add_partner("former").await;
    let staff = world.add_team_member(&partner, "staff@nordic.test").await;
    let leaver = world.add_team_member(&former, "leaver@former.test").await;
    world.terminate(&former).await;
    world.add_member("acme", "member@acme.test");
    world.join(&staff.username, "acme");
    world.join(&leaver.username, "acme");

    world.completed(&world.suspend(tenant.id).await).await;

    assert!(world.user("staff@nordic.test").is_active);
    assert!(!world.user("leaver@former.test").is_active);
    assert!(!world.user("member@acme.test").is_active);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_a_team_restores_the_sign_in_blocked_by_a_suspended_tenant() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.add_member("acme", "ada@acme.test");
    world.completed(&world.suspend(tenant.id).await).await;
    assert!(!world.user("ada@acme.test").is_active);
    let partner = world.add_partner("nordic").await;

    world.attach(tenant.id, &partner).await;
    let invitation = world
        .add_accepted_invitation(&partner, "ada@acme.test")
        .await;
    world.completed(&world.invite(&invitation).await).await;

    assert!(world.user("ada@acme.test").is_active);
    world.completed(&world.reconcile(tenant.id).await).await;
    assert!(world.user("ada@acme.test").is_active);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_a_team_blocks_sign_in_again_for_a_suspended_tenant() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let partner = world.add_partner("nordic").await;
    let ada = world.add_team_member(&partner, "ada@nordic.test").await;
    world.join("ada@nordic.test", "acme");
    world.completed(&world.sync_team(partner.id).await).await;
    world.completed(&world.suspend(tenant.id).await).await;
    assert!(world.user("ada@nordic.test").is_active);

    world.remove_team_member(&ada).await;
    world.completed(&world.sync_team(partner.id).await).await;

    let is_active = async || world.user("ada@nordic.test").is_active;
    assert!(!until(is_active, |active| !active).await);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_cannot_be_changed_does_not_block_other_members() {
    let world = World::start().await;
    let partner = world.add_partner("nordic").await;
    let (ada, bob) = (
        world.add_team_member(&partner, "ada@nordic.test").await,
        world.add_team_member(&partner, "bob@nordic.test").await,
    );
    world.completed(&world.sync_team(partner.id).await).await;
    for leaver in [&ada, &bob] {
        world.sign_in(leaver.pk);
        world.remove_team_member(leaver).await;
    }
    world.add_team_member(&partner, "new@nordic.test").await;
    let refused = Fault::Status {
        status: 400,
        retry_after: None,
    };
    let faults = &world.upstreams.authentik.server.faults;
    faults.add(FaultRule::once("delete_session", refused));

    let job = world.sync_team(partner.id).await;
    let job = world.harness.finished(job.id).await;

    assert_eq!(faults.hits(), 1);
    assert_eq!(job.state, JobState::Discarded);
    // A leaver whose sessions could not be ended stays in the group, to be found by the retry.
    let group = world.team_in_group(&partner);
    assert!(group.contains(&"new@nordic.test".to_owned()), "{group:?}");
    assert_eq!(group.len(), 2, "{group:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_a_newer_build_stays_in_the_team_and_keeps_no_leaver_in_it() {
    let world = World::start().await;
    let partner = world.add_partner("nordic").await;
    let newer = world.add_team_member(&partner, "newer@nordic.test").await;
    let leaver = world.add_team_member(&partner, "leaver@nordic.test").await;
    world.completed(&world.sync_team(partner.id).await).await;
    let user = world.find_user(&newer).await.unwrap().id;
    let source = |name: &str| doc! { "platformAdminSource": name };
    world.set_user(user, source("of_a_newer_build")).await;
    world.remove_team_member(&leaver).await;

    let job = world.sync_team(partner.id).await;
    let is_failed = |job: &Job| job.steps.iter().any(|step| step.error.is_some());
    world.harness.job_until(job.id, is_failed).await;
    let meanwhile = world.team_in_group(&partner);
    world.set_user(user, source("claim")).await;
    world.completed(&job).await;

    assert_eq!(meanwhile, ["newer@nordic.test"]);
    assert_eq!(world.team_in_group(&partner), ["newer@nordic.test"]);
    world.stop().await;
}
