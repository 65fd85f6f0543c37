//! Creation of a subscription.

use bson::{DateTime, Document};
use dezky_shared::{
    audit::{Action, AuditEvent},
    billing::{Cycle, Plan},
    id::{SubscriptionId, TenantId},
    invoicing::Enrolment,
    queue::args::{InvoiceSubscription, SyncBilling},
    store::{VersionedRepository as _, jobs::NewJob},
    subscription::{Biller, CollectionMethod, NewTerms, Subscription},
    tenant::Tenant,
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    SubscriptionView, respond, target,
    update::{ensure_collectable, ensure_has_partner, ensure_renewal_after_start, list_price},
};
use crate::{
    config::Config,
    error::{ApiError, FieldError},
    etag::ETag,
    extract::{Operator, Validate},
    response::ApiResponse,
    routes::billing::is_billed,
    state::AppState,
    validate::{self, Validator, money},
    views::job_href,
    write::{
        Command, CommandOutput, CommandRunner, Rollback, Write, audited_fields,
        ensure_not_terminating,
    },
};

/// A new subscription.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = SubscriptionCreate)]
pub(super) struct CreateRequest {
    /// Tenant, by slug or id.
    #[schema(min_length = 3, max_length = 40, example = "acme")]
    tenant: String,
    /// Plan: `starter`, `business` or `enterprise`.
    #[schema(value_type = Plan)]
    plan: String,
    /// Billing cycle: `monthly`, `quarterly` or `yearly`.
    #[schema(value_type = Cycle)]
    cycle: String,
    /// Number of seats.
    #[schema(minimum = 1, maximum = 100_000)]
    seats: i64,
    /// Currency (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// Price per billing cycle for all seats, in minor units. Default: the plan's price.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    price_minor: Option<i64>,
    /// Whether the invoices are billed to the tenant's partner, which then has no share in them. Default: false.
    #[serde(default)]
    partner_billed: bool,
    /// Collection of its invoices: `manual`, `send_invoice`, by which Stripe sends them, or `charge_automatically`, by which
    /// Stripe bills the subscription to the card. Default: `manual`.
    #[schema(value_type = Option<CollectionMethod>)]
    collection_method: Option<String>,
    /// Start time. Default: now.
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// Start of the next billing cycle. Default: derived from `startedAt` and the cycle.
    #[schema(format = DateTime)]
    renews_at: Option<String>,
}

/// A validated new subscription.
#[derive(Debug)]
pub(super) struct NewSubscription {
    tenant: String,
    plan: Plan,
    cycle: Cycle,
    seats: i32,
    currency: String,
    price_minor: Option<i64>,
    partner_billed: bool,
    collection_method: Option<CollectionMethod>,
    started_at: Option<DateTime>,
    renews_at: Option<DateTime>,
}

impl Validate for NewSubscription {
    type Raw = CreateRequest;

    fn validate(raw: CreateRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let tenant = validator.check("/tenant", slug_or_id(raw.tenant));
        let plan = validator.check("/plan", validate::plan(&raw.plan));
        let cycle = validator.check("/cycle", money::cycle(&raw.cycle));
        let seats = validator.check("/seats", money::seats(raw.seats));
        let currency = validator.check("/currency", money::currency(&raw.currency));
        let price_minor = raw
            .price_minor
            .and_then(|minor| validator.check("/priceMinor", money::price(minor)));
        let collection_method = raw
            .collection_method
            .and_then(|text| validator.check("/collectionMethod", money::collection_method(&text)));
        let started_at = raw
            .started_at
            .and_then(|text| validator.check("/startedAt", money::start_date(&text)));
        let renews_at = raw
            .renews_at
            .and_then(|text| validator.check("/renewsAt", money::start_date(&text)));
        validator.build(|| {
            Some(Self {
                tenant: tenant?,
                plan: plan?,
                cycle: cycle?,
                seats: seats?,
                currency: currency?,
                price_minor,
                partner_billed: raw.partner_billed,
                collection_method,
                started_at,
                renews_at,
            })
        })
    }
}

fn slug_or_id(text: String) -> Result<String, (&'static str, String)> {
    if text.parse::<TenantId>().is_ok() || validate::slug(&text, &[]).is_ok() {
        Ok(text)
    } else {
        let message = "This must be the slug or the id of a tenant.";
        Err(("invalid_tenant", message.to_owned()))
    }
}

/// Creates a subscription
///
/// A tenant has at most one live subscription. The provisioned plan does not change: update the tenant for that.
///
/// 202 if the tenant is invoiced here (flag `new_billing_engine`): a job issues the invoice of the current period, or has
/// Stripe bill the subscription to the card, once there is one. Otherwise 201.
#[utoipa::path(
    post, path = "/subscriptions", operation_id = "createSubscription", tag = "subscriptions",
    request_body = CreateRequest,
    responses((status = 201, body = SubscriptionView), (status = 202, body = SubscriptionView)),
)]
pub(super) async fn create(w: Write<Operator, NewSubscription>) -> Result<ApiResponse, ApiError> {
    let create = Create {
        id: SubscriptionId::new(),
        new: &w.body,
        tenant: find_tenant(&w.app, &w.body.tenant).await?,
    };
    w.run(&create).await
}

/// The tenant that the body names. Its existence depends on stored data, so a rejection is not stored with the
/// idempotency key.
async fn find_tenant(app: &AppState, name: &str) -> Result<Tenant, ApiError> {
    let found = match name.parse() {
        Ok(id) => app.db.tenants.find(id).await?,
        Err(_) => app.db.tenants.find_by_slug(name).await?,
    };
    found.ok_or_else(|| {
        let message = "The tenant does not exist.";
        ApiError::invalid(vec![FieldError::at("/tenant", "unknown_tenant", message)])
    })
}

struct Create<'a> {
    id: SubscriptionId,
    new: &'a NewSubscription,
    tenant: Tenant,
}

impl Create<'_> {
    async fn subscription(
        &self,
        session: &mut ClientSession,
        app: &AppState,
        now: DateTime,
    ) -> Result<Subscription, Rollback> {
        let new = self.new;
        let price_minor = match new.price_minor {
            Some(minor) => minor,
            None => list_price(session, app, new.plan, new.cycle, &new.currency).await?,
        };
        let started_at = new.started_at.unwrap_or(now);
        let renews_at = new.renews_at.or_else(|| new.cycle.renewal(started_at, now));
        let terms = NewTerms {
            plan: new.plan,
            cycle: new.cycle,
            seats: new.seats,
            currency: new.currency.clone(),
            price_minor,
        };
        Ok(Subscription {
            id: self.id,
            partner_billed: new.partner_billed,
            collection_method: new.collection_method.unwrap_or_default(),
            started_at: Some(started_at),
            renews_at,
            ..Subscription::new(self.tenant.id, terms, now)
        })
    }
}

impl Create<'_> {
    /// 202 with the job that issues the first invoice, or has Stripe issue it.
    async fn invoiced(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
        subscription: Subscription,
        event: AuditEvent,
    ) -> Result<CommandOutput, Rollback> {
        let (by, now) = (runner.actor_id(), runner.app.store.now());
        let tenant_id = self.tenant.id;
        let job = if subscription.biller == Biller::Stripe {
            let args = SyncBilling {
                tenant_id,
                dry_run: false,
            };
            let job = NewJob::new(&args, &by, now)?;
            runner.enqueue(session, job).await?
        } else {
            let args = InvoiceSubscription {
                tenant_id,
                subscription_id: self.id,
                as_of: now,
                dry_run: false,
                periods: None,
                skip_to: None,
            };
            let job = NewJob::new(&args, &by, now)?;
            runner.enqueue_new(session, job).await?
        };
        let etag = ETag::of_revision(subscription.revision);
        let view = SubscriptionView::new(subscription, Some(&self.tenant)).with_job(&job);
        let response = ApiResponse::new(StatusCode::ACCEPTED, etag, &view).at(job_href(job.id));
        Ok(CommandOutput::complete(response, event).with_jobs(vec![job]))
    }
}

impl Command for Create<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        // Writes the tenant, so that a concurrent deletion conflicts.
        let tenants = &app.db.tenants;
        let tenant = tenants.materialize_conflict(session, self.tenant.id);
        let tenant = tenant.await?;
        let tenant = tenant.as_ref();
        tenant.map_or(Ok(()), ensure_not_terminating)?;
        let now = app.store.now();
        let mut subscription = self.subscription(session, app, now).await?;
        ensure_renewal_after_start(&subscription)?;
        ensure_has_partner(&subscription, tenant)?;
        ensure_collectable(app, &subscription)?;
        let is_billed = match tenant {
            Some(tenant) => is_billed(app, tenant, now).await?,
            None => false,
        };
        // A person asks for the subscription at Stripe by the sale, also if it is created later.
        subscription.may_recreate = subscription.is_by_card();
        if is_billed {
            subscription.enrol(Enrolment::Sale, now);
            if subscription.is_by_card() {
                subscription.biller = Biller::Stripe;
            }
        }
        app.db.subscriptions.insert(session, &subscription).await?;
        let target = target(self.id, tenant);
        let event = runner
            .event(now, Action::SubscriptionCreate, target, tenant)
            .with_changes(&Document::new(), &audited_fields(&subscription)?);
        if is_billed {
            return self.invoiced(session, runner, subscription, event).await;
        }
        let location = format!("/subscriptions/{}", self.id);
        let mut response = respond(subscription, tenant).at(location);
        response.status = StatusCode::CREATED;
        Ok(CommandOutput::complete(response, event))
    }
}
