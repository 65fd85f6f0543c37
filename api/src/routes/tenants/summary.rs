//! Summary of a tenant.

use axum::Json;
use dezky_shared::{
    audit::{Action, AuditEvent, Outcome},
    billing::{Plan, monthly_minor},
    domain::DomainStatus,
    subscription::Subscription,
    tenant::{ProvisioningState, TenantStatus},
    upstream::Upstream,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::health::{HealthData, HealthView};
use crate::{
    error::ApiError,
    extract::{Caller, Permission as _, Read, ReadPrivate, TenantAccess},
    read::Get,
    routes::domains::ownership::backfill_domains,
    tenant_health::Seats,
    timestamp::Timestamp,
};

/// Number of audit events in the summary.
const EVENTS: i64 = 10;

/// A summary of a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TenantSummary {
    /// Name in URLs.
    slug: String,
    /// Status: `pending`, `active`, `suspended`, `terminating` or `terminated`.
    status: TenantStatus,
    /// Plan: `starter`, `business` or `enterprise`.
    plan: Plan,
    /// Health.
    health: HealthView,
    /// Seats.
    seats: SeatsView,
    /// Monthly price by currency. Empty without an active subscription.
    monthly_spend: Vec<Spend>,
    /// Start of the next billing cycle.
    #[serde(skip_serializing_if = "Option::is_none")]
    renews_at: Option<Timestamp>,
    /// Number of domains, including claims.
    domains: DomainCounts,
    /// Domains in status `attention`.
    domains_needing_attention: Vec<String>,
    /// Upstreams in which provisioning failed.
    failed_steps: Vec<Upstream>,
    /// Last audit events, newest first. Visible to owners and admins, partner staff, and operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_events: Option<Vec<EventSummary>>,
}

/// Seats of a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TenantSeats)]
struct SeatsView {
    /// Number of members.
    used: u64,
    /// Number of seats in the subscription. Missing without an active one.
    #[serde(skip_serializing_if = "Option::is_none")]
    bought: Option<u64>,
}

impl From<Seats> for SeatsView {
    fn from(Seats { used, bought }: Seats) -> Self {
        Self { used, bought }
    }
}

/// A monthly price.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MonthlySpend)]
struct Spend {
    /// Currency (ISO 4217).
    #[schema(example = "DKK")]
    currency: String,
    /// Amount in minor units: a twelfth of the yearly price, rounded.
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

/// Number of domains per status.
#[derive(Debug, Serialize, ToSchema)]
struct DomainCounts {
    /// All domains.
    total: u64,
    /// All checks pass.
    verified: u64,
    /// Setup is incomplete.
    pending: u64,
    /// Checks passed before and fail now.
    attention: u64,
    /// Ownership was not proved in time, or belongs to another tenant.
    failed: u64,
}

/// A short audit event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEventSummary)]
struct EventSummary {
    /// Id.
    #[schema(format = Uuid)]
    id: String,
    /// Time.
    at: Timestamp,
    /// Action.
    action: Action,
    /// Outcome: `accepted` or `done`.
    outcome: Outcome,
    /// E-mail address of the actor. Missing for the service itself. Operators' addresses are visible to operators only.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor_email: Option<String>,
    /// Name of the target.
    target: String,
}

impl EventSummary {
    /// The representation for `caller`.
    fn new(event: AuditEvent, caller: &Caller) -> Self {
        let is_visible = caller.may_see_origin(&event.actor);
        Self {
            id: event.id.to_string(),
            at: event.at.into(),
            action: event.action,
            outcome: event.outcome,
            actor_email: event.actor.email.filter(|_| is_visible),
            target: event.target.name,
        }
    }
}

/// Returns the summary of a tenant
///
/// Plan and price, health with reasons, and the last audit events.
#[utoipa::path(get, path = "/tenants/{slug}/summary", operation_id = "getTenantSummary", tag = "tenants", responses((status = 200, body = TenantSummary)))]
pub(super) async fn summary(get: Get<TenantAccess<Read>>) -> Result<Json<TenantSummary>, ApiError> {
    let tenant = get.access.tenant;
    backfill_domains(&get.app, &tenant).await?;
    let data = HealthData::load(&get.app, &[tenant.id]).await?;
    let count = |status| data.domains_in(tenant.id, status);
    let subscription = data.subscriptions.get(&tenant.id);
    let has_failed = |upstream: &Upstream| {
        *tenant.provisioning_status.get(*upstream) == ProvisioningState::Error
    };
    let last_events = if ReadPrivate::allows(&get.access.caller, &tenant) {
        let events = get.app.db.audit.latest(tenant.id, EVENTS).await?;
        let line = |event| EventSummary::new(event, &get.access.caller);
        Some(events.into_iter().map(line).collect())
    } else {
        None
    };
    Ok(Json(TenantSummary {
        status: tenant.status,
        plan: tenant.plan,
        health: data.health(&tenant).into(),
        seats: data.seats(tenant.id).into(),
        monthly_spend: subscription.map(Spend::from).into_iter().collect(),
        renews_at: subscription
            .and_then(|subscription| subscription.renews_at.map(Timestamp::from)),
        domains: DomainCounts {
            total: DomainStatus::ALL.into_iter().map(count).sum(),
            verified: count(DomainStatus::Verified),
            pending: count(DomainStatus::Pending),
            attention: count(DomainStatus::Attention),
            failed: count(DomainStatus::Failed),
        },
        domains_needing_attention: get.app.db.domains.list_needing_attention(tenant.id).await?,
        failed_steps: Upstream::ALL.into_iter().filter(has_failed).collect(),
        last_events,
        slug: tenant.slug,
    }))
}
