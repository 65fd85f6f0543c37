//! Logins whose accounts are gone at the identity provider: the next account of such a login would be the same user of the
//! file server, and so be in the spaces of the former one.

use dezky_shared::{
    queue::error_code::ErrorCode,
    tenant::{Owner, Tenant},
};

use crate::world::World;

/// Logins in domains that no tenant owns: the account of one is deleted, that of the other renamed.
const LOGINS: [&str; 2] = ["deleted@mail.test", "renamed@mail.test"];

impl World {
    /// A tenant with guests of these logins, whose accounts are gone since.
    async fn with_gone_accounts(&self) -> Tenant {
        let acme = self.active_tenant("acme", &["acme.test"]).await;
        let authentik = &self.upstreams.authentik;
        for login in LOGINS {
            authentik.add_user(login, &[]);
            let guest = self.new_guest(&acme, login).await;
            self.completed(&self.provision_member(&guest).await).await;
            assert!(self.sees_space(&acme, login), "{login}");
        }
        let [deleted, renamed] = LOGINS.map(|login| self.user(login).pk);
        authentik.change(|state| {
            state.users.remove(&deleted);
            let user = state.users.get_mut(&renamed).unwrap();
            "former@mail.test".clone_into(&mut user.username);
        });
        acme
    }

    fn has_account(&self, login: &str) -> bool {
        self.upstreams.authentik.user_named(login).is_some()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenant_gets_no_account_of_such_a_login() {
    let world = World::start().await;
    let acme = world.with_gone_accounts().await;
    let mallory = world.active_tenant("mallory", &[]).await;

    for login in LOGINS {
        let squatter = world.new_guest(&mallory, login).await;
        world
            .refused_account(&world.provision_member(&squatter).await)
            .await;

        assert!(!world.has_account(login), "{login}");
        assert!(!world.sees_space(&mallory, login), "{login}");
        // What the account would have opened.
        assert!(world.sees_space(&acme, login), "{login}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_and_an_owner_get_no_account_of_such_a_login_or_in_a_domain_of_another_tenant() {
    const NEW: &str = "newhire@acme.test";
    let world = World::start().await;
    world.upstreams.authentik.set_recovery_flow(true);
    let acme = world.with_gone_accounts().await;
    let partner = world.add_partner("nordic").await;
    let newco = world.harness.add_tenant("newco", &[]).await;

    for login in [LOGINS[0], LOGINS[1], NEW] {
        let invitation = world.add_invitation(&partner, login).await;
        let invited = world.invite(&invitation).await;
        let invited = world.harness.finished(invited.id).await;
        let with_owner = |tenant: &mut Tenant| {
            tenant.owner = Some(Owner {
                email: login.to_owned(),
                name: "Founder".to_owned(),
                subject: None,
            });
        };
        world.harness.change_tenant(newco.id, with_owner).await;
        world
            .refused_account(&world.provision(newco.id).await)
            .await;

        let error = invited.error.unwrap().code;
        assert_eq!(error, ErrorCode::AccountTaken, "{login}");
        assert!(!world.has_account(login), "{login}");
    }

    // The partner that manages the owner of the domain may.
    world.attach(acme.id, &partner).await;
    let invitation = world.add_invitation(&partner, NEW).await;
    world.completed(&world.invite(&invitation).await).await;
    assert!(world.has_account(NEW));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_the_domain_creates_a_deleted_account_again_and_guests_stay() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.provisioned_member(&acme, "ada").await;
    let globex = world.active_tenant("globex", &[]).await;
    let guest = world.new_guest(&globex, &ada.email).await;
    world.completed(&world.provision_member(&guest).await).await;
    world.until_idle().await;
    let authentik = &world.upstreams.authentik;
    let deleted = world.user(&ada.email).pk;
    authentik.change(|state| state.users.remove(&deleted));

    world.completed(&world.update_member(&ada).await).await;
    world.completed(&world.update_member(&guest).await).await;

    assert_ne!(world.user(&ada.email).pk, deleted);
    for tenant in [&acme, &globex] {
        assert_eq!(world.members_of(&tenant.slug), [&*ada.email]);
        assert!(world.sees_space(tenant, &ada.email));
    }
    world.stop().await;
}
