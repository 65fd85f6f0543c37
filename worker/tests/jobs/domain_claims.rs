//! Domain claims, from the enqueued job to the state of the upstreams and of the claim.

mod enqueue_due;
mod provision;
mod recheck;
mod remove;

use bson::{Document, doc};
use dezky_shared::{
    domain::{Dmarc, Domain, OwnershipProof},
    queue::{
        args::{ProvisionDomain, RecheckDomain, RemoveDomain},
        job::Job,
    },
    store::{TransactionError, VersionedRepository as _},
    tenant::{Condition, Tenant},
};
use futures::{FutureExt as _, TryStreamExt as _};

use crate::world::World;

impl World {
    /// Adds a tenant's claim to a name, as the API does.
    pub(crate) async fn claim(&self, tenant: &Tenant, name: &str) -> Domain {
        self.add_domain(tenant, name, None).await
    }

    /// Adds a domain that an operator granted to a tenant.
    pub(crate) async fn owned_domain(&self, tenant: &Tenant, name: &str) -> Domain {
        self.add_domain(tenant, name, Some(OwnershipProof::Operator))
            .await
    }

    async fn add_domain(
        &self,
        tenant: &Tenant,
        name: &str,
        owned: Option<OwnershipProof>,
    ) -> Domain {
        let context = &self.harness.context;
        let now = context.store.now();
        let domain = Domain::claim(tenant.id, name, Dmarc::default(), now);
        let added: Result<Domain, TransactionError<()>> = context
            .store
            .transaction((context, domain), |session, (context, domain)| {
                async move {
                    if let Some(by) = owned {
                        let tenants = &context.tenants;
                        let tenant = tenants.find_for_update(session, domain.tenant_id).await?;
                        let mut tenant = tenant.unwrap();
                        let domains = &context.domains;
                        domains.grant(session, domain, &mut tenant, by, now).await?;
                        tenants.save(session, &tenant).await?;
                    }
                    context.domains.insert(session, domain).await?;
                    Ok(domain.clone())
                }
                .boxed()
            })
            .await;
        added.unwrap()
    }

    /// Changes a claim as the API does.
    pub(crate) async fn change_claim(&self, claim: &Domain, set: Document) {
        let domains = self.harness.context.store.collection::<Document>("domains");
        let change = doc! { "$set": set, "$inc": { "generation": 1_i64, "revision": 1_i64 } };
        let one = doc! { "_id": claim.id };
        let changed = domains.update_one(one, change).await.unwrap();
        assert_eq!(changed.matched_count, 1);
    }

    pub(crate) async fn find_claim(&self, claim: &Domain) -> Option<Domain> {
        self.harness.context.domains.find(claim.id).await.unwrap()
    }

    /// The current claim.
    pub(crate) async fn reload_claim(&self, claim: &Domain) -> Domain {
        self.find_claim(claim).await.unwrap()
    }

    pub(crate) async fn provision_domain(&self, claim: &Domain) -> Job {
        let args = ProvisionDomain {
            tenant_id: claim.tenant_id,
            domain_id: claim.id,
        };
        self.harness.enqueue(&args).await
    }

    pub(crate) async fn remove_domain(&self, claim: &Domain) -> Job {
        self.change_claim(claim, doc! { "removing": true }).await;
        let args = RemoveDomain {
            tenant_id: claim.tenant_id,
            domain_id: claim.id,
        };
        self.harness.enqueue(&args).await
    }

    /// Revokes a tenant's domain as an operator does.
    pub(crate) async fn revoke_domain(&self, claim: &Domain) -> Job {
        let context = &self.harness.context;
        let now = context.store.now();
        let taken: Result<(), TransactionError<()>> = context
            .store
            .transaction((context, claim), |session, (context, claim)| {
                async move {
                    let tenant = context
                        .tenants
                        .find_for_update(session, claim.tenant_id)
                        .await?;
                    let mut tenant = tenant.unwrap();
                    let before = tenant.domains.clone();
                    tenant.domains.retain(|name| *name != claim.name);
                    tenant.former_domains.push(claim.name.clone());
                    let domains = &context.domains;
                    let followed = domains
                        .sync_from_tenant(session, &mut tenant, &before, now)
                        .await?;
                    assert_eq!(followed.given_up, [claim.id]);
                    Ok(context.tenants.save(session, &tenant).await?)
                }
                .boxed()
            })
            .await;
        taken.unwrap();
        let args = RemoveDomain {
            tenant_id: claim.tenant_id,
            domain_id: claim.id,
        };
        self.harness.enqueue(&args).await
    }

    pub(crate) async fn recheck(&self, claim: &Domain) -> Job {
        let args = RecheckDomain {
            tenant_id: claim.tenant_id,
            domain_id: claim.id,
        };
        self.harness.enqueue(&args).await
    }

    /// Audited actions of this claim.
    pub(crate) async fn audit_actions(&self, claim: &Domain) -> Vec<String> {
        let events = self
            .harness
            .context
            .store
            .collection::<Document>("audit_events");
        let about = doc! { "target.kind": "domain", "target.id": claim.id.to_string() };
        let found = events.find(about).sort(doc! { "_id": 1 }).await.unwrap();
        let found: Vec<Document> = found.try_collect().await.unwrap();
        let actions = found.iter().map(|event| event.get_str("action").unwrap());
        actions.map(str::to_owned).collect()
    }

    /// Number of jobs of this kind.
    pub(crate) async fn count_jobs(&self, kind: &str) -> u64 {
        let jobs = self.harness.jobs();
        jobs.count_documents(doc! { "kind": kind }).await.unwrap()
    }
}

/// The condition of this type.
pub(crate) fn condition<'a>(claim: &'a Domain, kind: &str) -> &'a Condition {
    let mut conditions = claim.conditions.iter();
    conditions.find(|condition| condition.kind == kind).unwrap()
}
