//! A new subscription.

use axum::extract::State;
use bson::{DateTime, Document};
use dezky_shared::{
    audit::Action,
    id::{SubscriptionId, TenantId},
    store::Abort,
    subscription::{Cycle, Subscription, SubscriptionStatus},
    tenant::{Plan, Tenant},
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
    extract::{Accept, Operator, QueryParams, RequestInfo, Submitted},
    fields::{self, Checks, money},
    intent::{Answer, Intent, Recorded, Recorder, Stop, refuse},
    routes::tenants::refuse_if_ending,
    state::{App, AppState},
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

impl Accept for NewSubscription {
    type Wire = CreateRequest;

    fn accept(wire: CreateRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Checks::default();
        let tenant = checks.check("/tenant", slug_or_id(wire.tenant));
        let plan = checks.check("/plan", fields::plan(&wire.plan));
        let cycle = checks.check("/cycle", money::cycle(&wire.cycle));
        let seats = checks.check("/seats", money::seats(wire.seats));
        let currency = checks.check("/currency", money::currency(&wire.currency));
        let price_minor = wire
            .price_minor
            .and_then(|minor| checks.check("/priceMinor", money::price(minor)));
        let started_at = wire
            .started_at
            .and_then(|text| checks.check("/startedAt", money::beginning(&text)));
        let renews_at = wire
            .renews_at
            .and_then(|text| checks.check("/renewsAt", money::beginning(&text)));
        let whole = tenant.zip(plan).zip(cycle).zip(seats).zip(currency);
        checks.done(
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
    if text.parse::<TenantId>().is_ok() || fields::slug(&text, &[]).is_ok() {
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
    State(app): State<App>,
    request: RequestInfo,
    submitted: Submitted<NewSubscription>,
) -> Result<Answer, ApiError> {
    let new = &submitted.body;
    let tenant = tenant_named(&app, &new.tenant).await?;
    let recorder = Recorder::new(&app, &caller, &request, submitted.key.as_ref());
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
        ApiError::values(vec![FieldError::at("/tenant", "unknown_tenant", message)])
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
    ) -> Result<Subscription, Abort<Stop>> {
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

impl Intent for Create<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s Recorder<'_>,
    ) -> BoxFuture<'s, Result<Recorded, Abort<Stop>>> {
        async move {
            let app = recorder.app;
            // Written, not read: else a deletion at the same time would not be noticed.
            let tenant = app.tenants.lock(session, self.tenant.id).await?;
            app.tenants.unlock(session, self.tenant.id).await?;
            let tenant = tenant.as_ref();
            tenant.map_or(Ok(()), refuse_if_ending).map_err(refuse)?;
            let now = app.store.now();
            let subscription = self.subscription(session, app, now).await?;
            check_order(&subscription).map_err(refuse)?;
            app.subscriptions.insert(session, &subscription).await?;
            let target = target(&subscription, tenant);
            let event = recorder
                .event(now, Action::SubscriptionCreate, target, tenant)
                .with_changes(&Document::new(), &audited(&subscription)?);
            let mut answer = answer(subscription, tenant).map_err(refuse)?;
            answer.status = StatusCode::CREATED;
            Ok(Recorded::complete(
                answer.at(format!("/subscriptions/{}", self.id)),
                event,
            ))
        }
        .boxed()
    }
}
