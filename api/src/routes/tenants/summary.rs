//! A tenant at a glance.

use crate::tenant_health::Seats;
use axum::{Json, extract::State};
use dezky_shared::{
    audit::{Action, AuditEvent, Outcome},
    billing::Plan,
    billing::monthly_minor,
    domain::DomainStatus,
    subscription::Subscription,
    tenant::{ProvisioningState, TenantStatus},
    upstream::Upstream,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::health::{HealthView, Known};
use crate::{
    error::{ApiError, Problem},
    extract::{Caller, Permission as _, QueryParams, Read, ReadPrivate, TenantAccess},
    routes::domains::adopt,
    state::SharedState,
    timestamp::Timestamp,
};

/// How many audit events are shown.
const EVENTS: i64 = 10;

/// A tenant at a glance.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TenantSummary {
    /// Its name in URLs.
    slug: String,
    /// Where it stands: `pending`, `active`, `suspended`, `terminating` or `terminated`.
    #[schema(value_type = String)]
    status: TenantStatus,
    /// What it has bought: `starter`, `business` or `enterprise`.
    #[schema(value_type = String)]
    plan: Plan,
    /// How well it is.
    health: HealthView,
    /// Its seats.
    seats: SeatsView,
    /// What it pays a month, by currency; empty where no subscription is in force.
    monthly_spend: Vec<Spend>,
    /// When the next cycle of its subscription begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    renews_at: Option<Timestamp>,
    /// Its domains, claims included.
    domains: DomainCounts,
    /// Those of them that were in order and are not now.
    domains_needing_attention: Vec<String>,
    /// The upstreams in which the last try failed.
    #[schema(value_type = Vec<String>)]
    failed_steps: Vec<Upstream>,
    /// What was done last, latest first. For its owners and admins, partner staff, operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_events: Option<Vec<EventOnALine>>,
}

/// Seats of a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TenantSeats)]
struct SeatsView {
    /// How many people have a role in it.
    used: u64,
    /// How many its subscription is for; missing where none is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    bought: Option<u64>,
}

impl From<Seats> for SeatsView {
    fn from(Seats { used, bought }: Seats) -> Self {
        Self { used, bought }
    }
}

/// What is paid a month.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MonthlySpend)]
struct Spend {
    /// ISO 4217.
    #[schema(example = "DKK")]
    currency: String,
    /// In minor units of the currency: a twelfth of what a year costs, to the nearest.
    amount_minor: i64,
}

impl From<&Subscription> for Spend {
    fn from(subscription: &Subscription) -> Self {
        Self {
            currency: subscription.currency.clone(),
            amount_minor: monthly_minor(subscription.price_minor, subscription.cycle),
        }
    }
}

/// How many domains stand where.
#[derive(Debug, Serialize, ToSchema)]
struct DomainCounts {
    /// All of them.
    total: u64,
    /// In order.
    verified: u64,
    /// Not all in place yet.
    pending: u64,
    /// Once in order, and something is off now: the number on a badge.
    attention: u64,
    /// Not proved in time, or another tenant's.
    failed: u64,
}

/// An audit event on one line.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EventOnALine {
    /// Its id.
    #[schema(format = Uuid)]
    id: String,
    /// When.
    at: Timestamp,
    /// What was done.
    #[schema(value_type = String, example = "tenant.suspend")]
    action: Action,
    /// What became of it: `accepted` or `done`.
    #[schema(value_type = String)]
    outcome: Outcome,
    /// The address of who did it; missing where it was the service itself. An operator's is shown to operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor_email: Option<String>,
    /// The name of what it was done to.
    target: String,
}

impl EventOnALine {
    /// As `caller` may see it.
    fn new(event: AuditEvent, caller: &Caller) -> Self {
        let is_shown = caller.may_see_origin(&event.actor);
        Self {
            id: event.id.to_string(),
            at: event.at.into(),
            action: event.action,
            outcome: event.outcome,
            actor_email: event.actor.email.filter(|_| is_shown),
            target: event.target.name,
        }
    }
}

/// A tenant at a glance
///
/// What it has bought and pays, how well it is and why, and what was done last.
#[utoipa::path(
    get, path = "/tenants/{slug}/summary", operation_id = "getTenantSummary", tag = "tenants",
    params(("slug" = String, Path)),
    responses((status = 200, body = TenantSummary), (status = "default", response = Problem)),
)]
pub(super) async fn summary(
    access: TenantAccess<Read>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<Json<TenantSummary>, ApiError> {
    let tenant = access.tenant;
    adopt(&app, &tenant).await?;
    let known = Known::about(&app, &[tenant.id]).await?;
    let count = |status| known.domains_in(tenant.id, status);
    let subscription = known.subscriptions.get(&tenant.id);
    let has_failed = |upstream: &Upstream| {
        *tenant.provisioning_status.get(*upstream) == ProvisioningState::Error
    };
    let needing_attention = DomainStatus::Attention;
    let last_events = if ReadPrivate::allows(&access.caller, &tenant) {
        let events = app.audit.latest(tenant.id, EVENTS).await?;
        let line = |event| EventOnALine::new(event, &access.caller);
        Some(events.into_iter().map(line).collect())
    } else {
        None
    };
    Ok(Json(TenantSummary {
        status: tenant.status,
        plan: tenant.plan,
        health: known.health(&tenant).into(),
        seats: known.seats(tenant.id).into(),
        monthly_spend: subscription.map(Spend::from).into_iter().collect(),
        renews_at: subscription
            .and_then(|subscription| subscription.renews_at.map(Timestamp::from)),
        domains: DomainCounts {
            total: DomainStatus::ALL.into_iter().map(count).sum(),
            verified: count(DomainStatus::Verified),
            pending: count(DomainStatus::Pending),
            attention: count(needing_attention),
            failed: count(DomainStatus::Failed),
        },
        domains_needing_attention: app.domains.list_names(tenant.id, needing_attention).await?,
        failed_steps: Upstream::ALL.into_iter().filter(has_failed).collect(),
        last_events,
        slug: tenant.slug,
    }))
}
