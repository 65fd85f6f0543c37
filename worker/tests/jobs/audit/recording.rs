//! Changes made by jobs are audited in the same transaction.

use dezky_shared::{
    audit::AuditEvent,
    domain::Domain,
    tenant::{Owner, Tenant},
};
use serde_json::json;

use crate::world::World;

/// A new tenant with an owner.
async fn with_owner(world: &World) -> Tenant {
    let tenant = world.harness.add_tenant("acme", &[]).await;
    let owner = Owner {
        email: "olive@acme.test".to_owned(),
        name: "Olive".to_owned(),
        subject: None,
    };
    world
        .harness
        .change_tenant(tenant.id, |tenant| tenant.owner = Some(owner.clone()))
        .await
}

async fn events(world: &World, kind: &str) -> Vec<AuditEvent> {
    let found = world.harness.events_about(kind).await.into_iter();
    found
        .map(|event| bson::deserialize_from_document(event).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_the_owner_is_audited_once_in_the_tenants_trail() {
    let world = World::start().await;
    let tenant = with_owner(&world).await;

    let job = world.provision(tenant.id).await;
    world.completed(&job).await;
    world.completed(&world.reconcile(tenant.id).await).await;

    let found = events(&world, "user").await;
    assert_eq!(found.len(), 1);
    let event = &found[0];
    assert_eq!(event.action.to_string(), "user.create");
    assert_eq!(event.target.name, "olive@acme.test");
    assert_eq!(event.tenant_id, Some(tenant.id));
    assert_eq!(event.job_id, Some(job.id));
    let roles = |document: &bson::Document| serde_json::to_value(document).unwrap();
    assert_eq!(roles(&event.before), json!({ "tenantRoles": {} }));
    let owner = json!({ "tenantRoles": { tenant.id.to_string(): "owner" } });
    assert_eq!(roles(&event.after), owner);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_domain_removal_is_audited() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let claim: Domain = world.owned_domain(&tenant, "acme.test").await;
    world.completed(&world.provision_domain(&claim).await).await;
    world.add_mailbox("ada@acme.test");

    let job = world.remove_domain(&claim).await;
    world.harness.finished(job.id).await;
    world.until_idle().await;

    let found = events(&world, "domain").await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].action.to_string(), "domain.update");
    assert_eq!(found[0].job_id, Some(job.id));
    assert_eq!(found[0].before, bson::doc! { "removing": true });
    assert_eq!(found[0].after, bson::doc! { "removing": false });
    world.stop().await;
}
