//! Seed data: the default tenant with its subscription, the allowances of the plans, and the built-in feature flags.

mod flags;

use bson::{DateTime, Document};
use dezky_shared::{
    audit::{Action, Actor, AuditEvent, Origin, Target},
    billing::{Cycle, Plan},
    id::TenantId,
    queue::{args::ProvisionTenant, job::Job},
    store::{
        StoreError, TransactionError, VersionedRepository as _, duplicate_key_index, jobs::NewJob,
        to_document,
    },
    subscription::{NewTerms, Subscription},
    tenant::Tenant,
};
use futures::FutureExt as _;

use crate::{routes::tenants::create::pending, state::AppState};

/// Slug of the default tenant, which is Dezky's own.
pub const DEFAULT_TENANT: &str = "dezky";

/// Creates missing seed data. Safe to run in several processes at once.
pub async fn seed(app: &AppState) -> Result<(), StoreError> {
    app.db.allowances.add_missing(app.store.now()).await?;
    seed_default_tenant(app).await?;
    flags::seed(app).await?;
    app.flags.refresh().await;
    Ok(())
}

async fn seed_default_tenant(app: &AppState) -> Result<(), StoreError> {
    let found = app.db.tenants.find_by_slug(DEFAULT_TENANT).await?;
    if let Some(tenant) = &found
        && !app
            .db
            .subscriptions
            .list_for(&[tenant.id])
            .await?
            .is_empty()
    {
        return Ok(());
    }
    let id = found
        .as_ref()
        .map_or_else(TenantId::new, |tenant| tenant.id);
    let seeded = app
        .store
        .transaction((app, id, found.is_none()), |session, (app, id, is_new)| {
            async move {
                let now = app.store.now();
                let mut jobs = Vec::new();
                if *is_new {
                    let args = ProvisionTenant { tenant_id: *id };
                    let job = NewJob::new(&args, "system", now)?;
                    let (plan, first_job) = (Plan::Enterprise, job.job().id);
                    let tenant = pending(*id, DEFAULT_TENANT, "Dezky", plan, first_job, now);
                    app.db.tenants.insert(session, &tenant).await?;
                    let job = app.db.jobs.enqueue_new(session, &job).await?;
                    let event = created(&tenant, &job, now);
                    app.db.audit.record(session, &event).await?;
                    jobs.push(job);
                }
                let subscription = free_of_charge(*id, now);
                app.db.subscriptions.insert(session, &subscription).await?;
                let event = subscribed(&subscription, now)?;
                app.db.audit.record(session, &event).await?;
                Ok::<_, TransactionError<StoreError>>(jobs)
            }
            .boxed()
        })
        .await;
    match seeded {
        Ok(jobs) => {
            app.hints.ready.notify(&jobs).await;
            tracing::info!(tenant = DEFAULT_TENANT, "Seeded the default tenant");
            Ok(())
        }
        // Another process has inserted it concurrently.
        Err(TransactionError::Store(error)) if duplicate_key_index(&error).is_some() => Ok(()),
        Err(TransactionError::Store(error) | TransactionError::Aborted(error)) => Err(error),
    }
}

fn free_of_charge(tenant_id: TenantId, now: DateTime) -> Subscription {
    let terms = NewTerms {
        plan: Plan::Enterprise,
        cycle: Cycle::Yearly,
        seats: 50,
        currency: "DKK".to_owned(),
        price_minor: 0,
    };
    Subscription::new(tenant_id, terms, now)
}

fn created(tenant: &Tenant, job: &Job, now: DateTime) -> AuditEvent {
    let target = Target::new("tenant", tenant.id, &tenant.slug);
    let mut event = event(now, Action::TenantCreate, target, tenant.id).with_changes(
        &Document::new(),
        &bson::doc! { "slug": &tenant.slug, "name": &tenant.name },
    );
    event.job_id = Some(job.id);
    event
}

fn subscribed(subscription: &Subscription, now: DateTime) -> Result<AuditEvent, StoreError> {
    let target = Target::new("subscription", subscription.id, DEFAULT_TENANT);
    let event = event(
        now,
        Action::SubscriptionCreate,
        target,
        subscription.tenant_id,
    );
    Ok(event.with_changes(&Document::new(), &to_document(subscription)?))
}

fn event(now: DateTime, action: Action, target: Target, tenant: TenantId) -> AuditEvent {
    let mut event = AuditEvent::new(now, Actor::system(), action, target, Origin::default());
    event.tenant_id = Some(tenant);
    event
}
