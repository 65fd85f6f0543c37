//! Health of tenants, from a few queries per page.

use std::collections::{BTreeMap, HashMap};

use dezky_shared::{
    domain::DomainStatus,
    id::TenantId,
    subscription::{Subscription, SubscriptionStatus},
    tenant::Tenant,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    state::AppState,
    tenant_health::{HealthInputs, HealthStatus, ReasonCode, Seats, TenantHealth, assess},
};

/// The current health of a tenant.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = TenantHealth)]
pub(super) struct HealthView {
    /// `healthy`, `attention` (usable, but needs attention) or `critical` (unusable, entirely or in part).
    #[schema(value_type = String, pattern = "^(healthy|attention|critical)$")]
    status: HealthStatus,
    /// Reasons for a status other than `healthy`.
    reasons: Vec<ReasonView>,
}

/// A reason why a tenant is not healthy.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = TenantHealthReason)]
struct ReasonView {
    /// Stable reason code: `suspended`, `terminating`, `steps_failed`, `domains_need_attention`, `domains_failed`,
    /// `past_due` or `seats_over_plan`.
    #[schema(value_type = String, example = "past_due")]
    code: ReasonCode,
    /// Reason in plain text.
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

/// The data that the health of several tenants depends on, besides their documents.
pub(super) struct HealthData {
    /// Number of domains per status.
    domains: HashMap<TenantId, BTreeMap<DomainStatus, u64>>,
    /// Active subscriptions.
    pub(super) subscriptions: HashMap<TenantId, Subscription>,
    /// Number of members.
    members: HashMap<TenantId, u64>,
}

impl HealthData {
    /// Loads the data of several tenants.
    pub(super) async fn load(app: &AppState, tenants: &[TenantId]) -> Result<Self, ApiError> {
        let (domains, subscriptions, members) = tokio::try_join!(
            app.db.domains.count_by_status(tenants),
            app.db.subscriptions.list_live(tenants),
            app.db.users.count_members(tenants),
        )?;
        Ok(Self {
            domains,
            subscriptions,
            members,
        })
    }

    /// Number of a tenant's domains in `status`.
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

    /// Health of a tenant.
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

/// Health by tenant.
pub(crate) async fn health_of(
    app: &AppState,
    tenants: &[Tenant],
) -> Result<HashMap<TenantId, TenantHealth>, ApiError> {
    let ids: Vec<TenantId> = tenants.iter().map(|tenant| tenant.id).collect();
    let data = HealthData::load(app, &ids).await?;
    let health = tenants
        .iter()
        .map(|tenant| (tenant.id, data.health(tenant)));
    Ok(health.collect())
}
