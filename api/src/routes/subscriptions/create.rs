//! A new subscription.

use axum::extract::State;
use bson::{DateTime, Document};
use dezky_shared::{
    audit::Action,
    billing::{Cycle, Plan},
    id::{SubscriptionId, TenantId},
    store::TransactionError,
    subscription::{Subscription, SubscriptionStatus},
    tenant::Tenant,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    SubscriptionView, answer, audited,
    change::{check_order, list_price},
    target,
};
use crate::{
    error::{ApiError, FieldError, Problem},
    extract::{Operator, QueryParams, RequestInfo, Validate, ValidatedJson},
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    routes::tenants::ensure_not_terminating,
    state::{AppState, SharedState},
    validate::{self, Validator, money},
};

/// What a tenant has bought.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewSubscription)]
pub(super) struct CreateRequest {
    /// Who: the tenant's slug or id.
    #[schema(min_length = 3, max_length = 40, example = "acme")]
    tenant: String,
    /// What: `starter`, `business` or `enterprise`.
    #[schema(pattern = "^(starter|business|enterprise)$")]
    plan: String,
    /// How often is paid: `monthly`, `quarterly` or `yearly`.
    #[schema(pattern = "^(monthly|quarterly|yearly)$")]
    cycle: String,
    /// For how many people.
    #[schema(minimum = 1, maximum = 100_000)]
    seats: i64,
    /// ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// What a cycle costs, for all seats together, in minor units of the currency. Unless it is said, the plan's price.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    price_minor: Option<i64>,
    /// When it began; now, unless it is said.
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// When the next cycle begins; as the cycles follow from `startedAt`, unless it is said.
    #[schema(format = DateTime)]
    renews_at: Option<String>,
}

/// A subscription to be made.
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

    fn validate(wire: CreateRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let tenant = checks.check("/tenant", slug_or_id(wire.tenant));
        let plan = checks.check("/plan", validate::plan(&wire.plan));
        let cycle = checks.check("/cycle", money::cycle(&wire.cycle));
        let seats = checks.check("/seats", money::seats(wire.seats));
        let currency = checks.check("/currency", money::currency(&wire.currency));
        let price_minor = wire
            .price_minor
            .and_then(|minor| checks.check("/priceMinor", money::price(minor)));
        let started_at = wire
            .started_at
            .and_then(|text| checks.check("/startedAt", money::start_date(&text)));
        let renews_at = wire
            .renews_at
            .and_then(|text| checks.check("/renewsAt", money::start_date(&text)));
        let whole = tenant.zip(plan).zip(cycle).zip(seats).zip(currency);
        checks.finish(
            whole.map(|((((tenant, plan), cycle), seats), currency)| Self {
                tenant,
                plan,
                cycle,
                seats,
                currency,
                price_minor,
                started_at,
                renews_at,
            }),
        )
    }
}

fn slug_or_id(text: String) -> Result<String, (&'static str, String)> {
    if text.parse::<TenantId>().is_ok() || validate::slug(&text, &[]).is_ok() {
        Ok(text)
    } else {
        let message = "This is neither the slug nor the id of a tenant.";
        Err(("invalid_tenant", message.to_owned()))
    }
}

/// Makes a subscription, in force at once
///
/// A tenant has at most one in force. What the tenant has stays as it is: change the plan of the tenant for that.
#[utoipa::path(
    post, path = "/subscriptions", operation_id = "createSubscription", tag = "subscriptions",
    request_body = CreateRequest, params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = SubscriptionView), (status = "default", response = Problem)),
)]
pub(super) async fn create(
    Operator(caller): Operator,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    submitted: ValidatedJson<NewSubscription>,
) -> Result<ApiResponse, ApiError> {
    let new = &submitted.body;
    let tenant = tenant_named(&app, &new.tenant).await?;
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let create = Create {
        id: SubscriptionId::new(),
        new,
        tenant,
    };
    Ok(recorder.record(&create).await?.answer)
}

/// The tenant that a body names. Whether it is there follows not from the request alone, and is not remembered with
/// its key.
async fn tenant_named(app: &AppState, name: &str) -> Result<Tenant, ApiError> {
    let found = match name.parse() {
        Ok(id) => app.tenants.find(id).await?,
        Err(_) => app.tenants.find_by_slug(name).await?,
    };
    found.ok_or_else(|| {
        let message = "There is no such tenant.";
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
    ) -> Result<Subscription, TransactionError<CommandError>> {
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
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let app = recorder.app;
            // Written, not read: else a deletion at the same time would not be noticed.
            let tenant = app.tenants.find_for_update(session, self.tenant.id).await?;
            app.tenants.unlock(session, self.tenant.id).await?;
            let tenant = tenant.as_ref();
            tenant
                .map_or(Ok(()), ensure_not_terminating)
                .map_err(reject)?;
            let now = app.store.now();
            let subscription = self.subscription(session, app, now).await?;
            check_order(&subscription).map_err(reject)?;
            app.subscriptions.insert(session, &subscription).await?;
            let target = target(&subscription, tenant);
            let event = recorder
                .event(now, Action::SubscriptionCreate, target, tenant)
                .with_changes(&Document::new(), &audited(&subscription)?);
            let mut answer = answer(subscription, tenant).map_err(reject)?;
            answer.status = StatusCode::CREATED;
            Ok(CommandOutput::complete(
                answer.at(format!("/subscriptions/{}", self.id)),
                event,
            ))
        }
        .boxed()
    }
}
