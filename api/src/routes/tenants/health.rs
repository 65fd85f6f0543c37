//! How well tenants are, from a few queries for a whole page of them.

use std::collections::{BTreeMap, HashMap};

use crate::tenant_health::{HealthInputs, HealthStatus, ReasonCode, Seats, TenantHealth, assess};
use dezky_shared::{
    domain::DomainStatus,
    id::TenantId,
    subscription::{Subscription, SubscriptionStatus},
    tenant::Tenant,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{error::ApiError, state::AppState};

/// How well a tenant is, at the moment.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = TenantHealth)]
pub(super) struct HealthView {
    /// `healthy`, `attention` (it can be used, and somebody should look) or `critical` (it cannot, or not all of it).
    #[schema(value_type = String, pattern = "^(healthy|attention|critical)$")]
    status: HealthStatus,
    /// Why it is not better.
    reasons: Vec<ReasonView>,
}

/// Why a tenant is not healthy.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = TenantHealthReason)]
struct ReasonView {
    /// A stable name: `suspended`, `terminating`, `steps_failed`, `domains_need_attention`, `domains_failed`,
    /// `past_due` or `seats_over_plan`.
    #[schema(value_type = String, example = "past_due")]
    code: ReasonCode,
    /// The same, for a person.
    message: String,
}

impl From<TenantHealth> for HealthView {
    fn from(health: TenantHealth) -> Self {
        let reasons = health.reasons.into_iter().map(|reason| ReasonView {
            code: reason.code,
            message: reason.message,
        });
        Self {
            status: health.status,
            reasons: reasons.collect(),
        }
    }
}

/// What is known about some tenants beside their documents.
pub(super) struct Known {
    /// How many of their domains stand where.
    domains: HashMap<TenantId, BTreeMap<DomainStatus, u64>>,
    /// The subscriptions that they have in force.
    pub(super) subscriptions: HashMap<TenantId, Subscription>,
    /// How many people have a role there.
    members: HashMap<TenantId, u64>,
}

impl Known {
    /// Asks for all of it, for all of them.
    pub(super) async fn about(app: &AppState, tenants: &[TenantId]) -> Result<Self, ApiError> {
        let (domains, subscriptions, members) = tokio::try_join!(
            app.domains.count_by_status(tenants),
            app.subscriptions.list_live(tenants),
            app.users.count_members(tenants),
        )?;
        Ok(Self {
            domains,
            subscriptions,
            members,
        })
    }

    /// How many of a tenant's domains are in `status`.
    pub(super) fn domains_in(&self, tenant: TenantId, status: DomainStatus) -> u64 {
        let counts = self.domains.get(&tenant);
        counts
            .and_then(|counts| counts.get(&status).copied())
            .unwrap_or(0)
    }

    /// A tenant's seats.
    pub(super) fn seats(&self, tenant: TenantId) -> Seats {
        let subscription = self.subscriptions.get(&tenant);
        Seats {
            used: self.members.get(&tenant).copied().unwrap_or(0),
            bought: subscription.map(|subscription| u64::try_from(subscription.seats).unwrap_or(0)),
        }
    }

    /// How well one of them is.
    pub(super) fn health(&self, tenant: &Tenant) -> TenantHealth {
        let subscription = self.subscriptions.get(&tenant.id);
        assess(&HealthInputs {
            status: tenant.status,
            provisioning_status: tenant.provisioning_status,
            domains_needing_attention: self.domains_in(tenant.id, DomainStatus::Attention),
            domains_failed: self.domains_in(tenant.id, DomainStatus::Failed),
            is_past_due: subscription
                .is_some_and(|subscription| subscription.status == SubscriptionStatus::PastDue),
            seats: self.seats(tenant.id),
        })
    }
}

/// How well each of these tenants is.
pub(crate) async fn health_of(
    app: &AppState,
    tenants: &[Tenant],
) -> Result<HashMap<TenantId, TenantHealth>, ApiError> {
    let ids: Vec<TenantId> = tenants.iter().map(|tenant| tenant.id).collect();
    let known = Known::about(app, &ids).await?;
    let health = tenants
        .iter()
        .map(|tenant| (tenant.id, known.health(tenant)));
    Ok(health.collect())
}
