//! Creation of a subscription.

use bson::{DateTime, Document};
use dezky_shared::{
    audit::Action,
    billing::{Cycle, Plan},
    id::{SubscriptionId, TenantId},
    store::VersionedRepository as _,
    subscription::{Subscription, SubscriptionStatus},
    tenant::Tenant,
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    SubscriptionView, audited, respond, target,
    update::{ensure_renewal_after_start, list_price},
};
use crate::{
    config::Config,
    error::{ApiError, FieldError},
    extract::{Operator, Validate},
    response::ApiResponse,
    state::AppState,
    validate::{self, Validator, money},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write, ensure_not_terminating},
};

/// A new subscription.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewSubscription)]
pub(super) struct CreateRequest {
    /// Tenant, by slug or id.
    #[schema(min_length = 3, max_length = 40, example = "acme")]
    tenant: String,
    /// Plan: `starter`, `business` or `enterprise`.
    #[schema(pattern = "^(starter|business|enterprise)$")]
    plan: String,
    /// Billing cycle: `monthly`, `quarterly` or `yearly`.
    #[schema(pattern = "^(monthly|quarterly|yearly)$")]
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
#[utoipa::path(
    post, path = "/subscriptions", operation_id = "createSubscription", tag = "subscriptions",
    request_body = CreateRequest,
    responses((status = 201, body = SubscriptionView)),
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
        Ok(Subscription {
            id: self.id,
            tenant_id: self.tenant.id,
            plan: new.plan,
            cycle: new.cycle,
            seats: new.seats,
            currency: new.currency.clone(),
            price_minor,
            status: SubscriptionStatus::Active,
            started_at: Some(started_at),
            renews_at,
            cancelled_at: None,
            stripe_subscription_id: None,
            stripe_price_id: None,
            revision: 1,
            created_at: now,
            updated_at: now,
        })
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
        let subscription = self.subscription(session, app, now).await?;
        ensure_renewal_after_start(&subscription)?;
        app.db.subscriptions.insert(session, &subscription).await?;
        let target = target(self.id, tenant);
        let event = runner
            .event(now, Action::SubscriptionCreate, target, tenant)
            .with_changes(&Document::new(), &audited(&subscription)?);
        let location = format!("/subscriptions/{}", self.id);
        let mut response = respond(subscription, tenant).at(location);
        response.status = StatusCode::CREATED;
        Ok(CommandOutput::complete(response, event))
    }
}
