//! Health of tenants, from a few queries per page.

use std::collections::{BTreeMap, HashMap};

use dezky_shared::{
    allowance::Allowance,
    billing::Plan,
    domain::DomainStatus,
    id::TenantId,
    storage_report::SpaceUsage,
    subscription::{Subscription, SubscriptionStatus},
    tenant::Tenant,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    state::AppState,
    tenant_health::{HealthInputs, HealthStatus, PlanUse, ReasonCode, Seats, TenantHealth, assess},
};

/// The current health of a tenant.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = TenantHealth)]
pub(super) struct HealthView {
    /// `healthy`, `attention` (usable, but needs attention) or `critical` (unusable, entirely or in part).
    status: HealthStatus,
    /// Reasons for a status other than `healthy`.
    reasons: Vec<ReasonView>,
}

/// A reason why a tenant is not healthy.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = TenantHealthReason)]
struct ReasonView {
    /// Stable reason code: `suspended`, `terminating`, `steps_failed`, `apps_open`, `domains_need_attention`,
    /// `domains_failed`, `past_due`, `seats_over_plan`, `apps_over_plan`, `domains_over_plan`, `members_failed`,
    /// `storage_nearly_full` or `storage_full`.
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
    /// Number of apps.
    apps: HashMap<TenantId, u64>,
    /// Number of open apps.
    apps_open: HashMap<TenantId, u64>,
    /// Allowances of the plans.
    allowances: BTreeMap<Plan, Allowance>,
    /// Number of members.
    members: HashMap<TenantId, u64>,
    /// Spaces, as last measured.
    spaces: HashMap<TenantId, SpaceUsage>,
    /// Number of members whose last attempt failed.
    failing: HashMap<TenantId, u64>,
}

impl HealthData {
    /// Loads the data of several tenants.
    pub(super) async fn load(app: &AppState, tenants: &[TenantId]) -> Result<Self, ApiError> {
        let (domains, apps, apps_open, allowances, subscriptions, members, failing, spaces) = tokio::try_join!(
            app.db.domains.count_by_status(tenants),
            app.db.apps.count_by_tenant(tenants),
            app.db.apps.count_open(tenants),
            app.db.allowances.list_all(),
            app.db.subscriptions.list_live(tenants),
            app.db.users.count_members(tenants),
            app.db.members.count_failing(tenants),
            app.db.storage_reports.list_spaces(tenants),
        )?;
        // A subscription of a newer build cannot be shown.
        let subscriptions = subscriptions.into_iter();
        let subscriptions = subscriptions.filter_map(|(tenant, its)| Some((tenant, its?)));
        Ok(Self {
            domains,
            apps,
            apps_open,
            allowances,
            subscriptions: subscriptions.collect(),
            members,
            failing,
            spaces,
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

    /// Usage of a limit of the plan by a tenant.
    fn plan_use(
        &self,
        tenant: &Tenant,
        limit: impl Fn(&Allowance) -> Option<i32>,
        used: Option<&u64>,
    ) -> PlanUse {
        let granted = self.allowances.get(&tenant.plan).and_then(limit);
        PlanUse {
            used: used.copied().unwrap_or(0),
            granted: granted.and_then(|granted| u64::try_from(granted).ok()),
        }
    }

    /// Health of a tenant.
    pub(super) fn health(&self, tenant: &Tenant) -> TenantHealth {
        let domains = self.domains.get(&tenant.id);
        let domains = domains.map(|counts| counts.values().sum::<u64>());
        let subscription = self.subscriptions.get(&tenant.id);
        assess(&HealthInputs {
            status: tenant.status,
            provisioning_status: tenant.provisioning_status,
            apps_open: self.apps_open.get(&tenant.id).copied().unwrap_or(0),
            domains_needing_attention: self.domains_in(tenant.id, DomainStatus::Attention),
            domains_failed: self.domains_in(tenant.id, DomainStatus::Failed),
            is_past_due: subscription
                .is_some_and(|subscription| subscription.status == SubscriptionStatus::PastDue),
            seats: self.seats(tenant.id),
            members: self.plan_use(tenant, |it| it.seats, self.members.get(&tenant.id)),
            apps: self.plan_use(tenant, |it| it.apps, self.apps.get(&tenant.id)),
            domains: self.plan_use(tenant, |it| it.domains, domains.as_ref()),
            storage: self.spaces.get(&tenant.id).and_then(|space| space.state()),
            members_failing: self.failing.get(&tenant.id).copied().unwrap_or(0),
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
