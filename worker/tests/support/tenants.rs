//! Tenants, written to the database as the API does.

use bson::{DateTime, Document, doc};
use dezky_shared::{
    billing::{BillingInfo, Plan},
    branding::TenantBranding,
    domain::Domain,
    id::{JobId, TenantId},
    queue::{args::ProvisionTenant, job::Job},
    security_policy::SecurityPolicy,
    store::{TransactionError, VersionedRepository as _, jobs::NewJob},
    tenant::{Owner, PerUpstream, ProvisioningState, Tenant, TenantStatus},
    upstream::Upstream,
};
use futures::FutureExt as _;

use super::Harness;

impl Harness {
    /// Adds a tenant that has not been provisioned, as of an older build: it is fresh for no job.
    pub(crate) async fn add_tenant(&self, slug: &str, domains: &[&str]) -> Tenant {
        let tenant = new_tenant(slug, domains, self.context.store.now());
        self.insert_tenant(tenant).await
    }

    /// Adds a new tenant, with an owner if `owner` is an address. Its [first job](Self::enqueue_first) is still to come.
    pub(crate) async fn add_fresh_tenant(
        &self,
        slug: &str,
        domains: &[&str],
        owner: Option<&str>,
    ) -> Tenant {
        let tenant = Tenant {
            owner: owner.map(|email| Owner {
                email: email.to_owned(),
                name: "Olive Owner".to_owned(),
                subject: None,
            }),
            ocis_space_absent: false,
            fresh_for: PerUpstream::all(Some(JobId::new())),
            ..new_tenant(slug, domains, self.context.store.now())
        };
        self.insert_tenant(tenant).await
    }

    /// Enqueues the job for which a new tenant is fresh.
    pub(crate) async fn enqueue_first(&self, tenant: &Tenant) -> Job {
        self.enqueue_first_with(tenant, |_| ()).await
    }

    /// As [`enqueue_first`](Self::enqueue_first), with a history of earlier attempts.
    pub(crate) async fn enqueue_first_with(
        &self,
        tenant: &Tenant,
        history: impl FnOnce(&mut Job),
    ) -> Job {
        let args = ProvisionTenant {
            tenant_id: tenant.id,
        };
        let new = NewJob::new(&args, "test", self.context.store.now()).unwrap();
        let mut job = new.job().clone();
        job.id = tenant.fresh_for.ocis.unwrap();
        history(&mut job);
        let jobs = self.context.store.collection::<Job>("jobs");
        jobs.insert_one(&job).await.unwrap();
        self.context.ready.notify(std::slice::from_ref(&job)).await;
        job
    }

    async fn insert_tenant(&self, mut tenant: Tenant) -> Tenant {
        let now = self.context.store.now();
        tenant.set_pending(&Upstream::ALL, now);
        let added: Result<(), TransactionError<()>> = self
            .context
            .store
            .transaction(
                (&self.context.tenants, &tenant),
                |session, (tenants, tenant)| {
                    async move { Ok(tenants.insert(session, tenant).await?) }.boxed()
                },
            )
            .await;
        added.unwrap();
        tenant
    }

    /// Adds tenants with a domain each, and the jobs that provision them.
    pub(crate) async fn add_provisioning(&self, count: usize) -> Vec<(Tenant, JobId)> {
        let mut added = Vec::new();
        for n in 0..count {
            let tenant = self
                .add_tenant(&format!("acme-{n}"), &[&format!("acme-{n}.test")])
                .await;
            let tenant_id = tenant.id;
            let job = self
                .enqueue_unannounced(&ProvisionTenant { tenant_id })
                .await;
            added.push((tenant, job.id));
        }
        added
    }

    /// Inserts the documents of a tenant's domains.
    pub(crate) async fn backfill_domains(&self, id: TenantId) -> Vec<Domain> {
        let now = self.context.store.now();
        let backfilled: Result<Vec<Domain>, TransactionError<()>> = self
            .context
            .store
            .transaction(&self.context, |session, context| {
                async move {
                    let mut tenant = context.tenants.find_for_update(session, id).await?.unwrap();
                    let domains = context.domains.backfill(session, &mut tenant, now).await?;
                    context.tenants.save(session, &tenant).await?;
                    Ok(domains)
                }
                .boxed()
            })
            .await;
        backfilled.unwrap()
    }

    /// Changes a tenant as the API does: a new generation with pending steps.
    pub(crate) async fn change_tenant(
        &self,
        id: TenantId,
        change: impl Fn(&mut Tenant) + Send,
    ) -> Tenant {
        let now = self.context.store.now();
        let changed: Result<Tenant, TransactionError<()>> = self
            .context
            .store
            .transaction(
                (&self.context.tenants, change),
                |session, (tenants, change)| {
                    async move {
                        let mut tenant = tenants.find_for_update(session, id).await?.unwrap();
                        change(&mut tenant);
                        tenant.generation += 1;
                        tenant.set_pending(&Upstream::ALL, now);
                        tenants.save(session, &tenant).await?;
                        Ok(tenant)
                    }
                    .boxed()
                },
            )
            .await;
        changed.unwrap()
    }

    /// Removes what the tenant's document says about its space, as after a crash between the create and its record.
    pub(crate) async fn forget_space(&self, id: TenantId) {
        let tenants = self.context.store.collection::<Document>("tenants");
        let forgotten = doc! {
            "$unset": { "ocisSpaceId": "", "ocisSpaceAbsent": "", "freshFor": "" },
            "$inc": { "revision": 1_i64 },
        };
        let updated = tenants.update_one(doc! { "_id": id }, forgotten).await;
        assert_eq!(updated.unwrap().matched_count, 1);
    }

    pub(crate) async fn tenant(&self, id: TenantId) -> Tenant {
        self.context.tenants.find(id).await.unwrap().unwrap()
    }
}

fn new_tenant(slug: &str, domains: &[&str], now: DateTime) -> Tenant {
    Tenant {
        id: TenantId::new(),
        slug: slug.to_owned(),
        name: format!("{slug} Ltd"),
        status: TenantStatus::Pending,
        status_before: None,
        purge_at: None,
        plan: Plan::Business,
        domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
        primary_domain: None,
        former_domains: Vec::new(),
        words: Vec::new(),
        partner_id: None,
        industry: None,
        brand_color: None,
        owner: None,
        authentik_group_id: None,
        ocis_space_id: None,
        ocis_space_absent: true,
        fresh_for: PerUpstream::default(),
        stalwart_domain: None,
        mail_domains: Vec::new(),
        stripe_customer_id: None,
        billing_info: BillingInfo::default(),
        branding: TenantBranding::default(),
        security_policy: SecurityPolicy::default(),
        generation: 1,
        provisioning_status: PerUpstream::all(ProvisioningState::Pending),
        provisioning_errors: PerUpstream::default(),
        conditions: Vec::new(),
        unknown_until: PerUpstream::default(),
        revision: 1,
        created_at: now,
        updated_at: now,
    }
}
