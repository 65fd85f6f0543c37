//! Tenant health: computed on each read, never stored.
//!
//! A critical workspace cannot be used, at least in part. One that needs attention can, but requires action. All lists
//! and views use [`assess`], so that they agree.

use std::str::FromStr;

use serde::Serialize;
use utoipa::ToSchema;

use dezky_shared::{
    storage_report::QuotaState,
    tenant::{PerUpstream, ProvisioningState, TenantStatus},
    upstream::Upstream,
};

/// Health status, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No action is required.
    Healthy,
    /// The workspace works, and action is required.
    Attention,
    /// The workspace cannot be used, at least in part.
    Critical,
}

impl FromStr for HealthStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "healthy" => Ok(Self::Healthy),
            "attention" => Ok(Self::Attention),
            "critical" => Ok(Self::Critical),
            _ => Err("expected healthy, attention or critical".to_owned()),
        }
    }
}

/// Stable code of a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = TenantHealthCode)]
pub enum ReasonCode {
    /// The tenant is suspended.
    Suspended,
    /// The tenant is being terminated.
    Terminating,
    /// The last attempt in an upstream failed.
    StepsFailed,
    /// An app is open to every user of the identity provider, not only to the tenant's members.
    AppsOpen,
    /// The DNS records of a verified domain are no longer correct, or the mail server lacks its DKIM keys.
    DomainsNeedAttention,
    /// A domain was not verified in time, or belongs to another tenant.
    DomainsFailed,
    /// An invoice is overdue.
    PastDue,
    /// More members than seats that were bought, or that the plan grants.
    SeatsOverPlan,
    /// More apps than the plan grants.
    AppsOverPlan,
    /// More domains than the plan grants.
    DomainsOverPlan,
    /// More than 90 % of the space is used.
    StorageNearlyFull,
    /// The space is full.
    StorageFull,
    /// Accounts of members could not be provisioned.
    MembersFailed,
}

impl ReasonCode {
    const fn status(self) -> HealthStatus {
        match self {
            Self::Suspended
            | Self::Terminating
            | Self::StepsFailed
            | Self::AppsOpen
            | Self::StorageFull => HealthStatus::Critical,
            Self::DomainsNeedAttention
            | Self::DomainsFailed
            | Self::PastDue
            | Self::SeatsOverPlan
            | Self::AppsOverPlan
            | Self::DomainsOverPlan
            | Self::MembersFailed
            | Self::StorageNearlyFull => HealthStatus::Attention,
        }
    }
}

/// Reason why a tenant is not healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Stable code.
    pub code: ReasonCode,
    /// Explanation, for a human reader. Safe to display.
    pub message: String,
}

/// Health of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantHealth {
    /// Status of the most severe reason.
    pub status: HealthStatus,
    /// Reasons. Empty for a healthy tenant.
    pub reasons: Vec<Reason>,
}

/// Seats of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seats {
    /// Number of members.
    pub used: u64,
    /// Seats of the subscription. `None` without an active one.
    pub bought: Option<u64>,
}

/// Usage of a limit of the plan by a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlanUse {
    /// Used number.
    pub used: u64,
    /// Granted number. `None` is unlimited.
    pub granted: Option<u64>,
}

impl PlanUse {
    /// Both numbers, if more is used than granted.
    fn excess(self) -> Option<(u64, u64)> {
        let granted = self.granted?;
        (self.used > granted).then_some((self.used, granted))
    }
}

/// Inputs of the assessment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthInputs {
    /// Status of the tenant.
    pub status: TenantStatus,
    /// Provisioning state per upstream.
    pub provisioning_status: PerUpstream<ProvisioningState>,
    /// Number of apps that every user of the identity provider can sign in to.
    pub apps_open: u64,
    /// Number of verified domains whose DNS records are no longer correct, and of domains without DKIM keys.
    pub domains_needing_attention: u64,
    /// Number of domains that were not verified in time, or lost.
    pub domains_failed: u64,
    /// Whether an invoice is overdue.
    pub is_past_due: bool,
    /// Seats.
    pub seats: Seats,
    /// Members of the plan.
    pub members: PlanUse,
    /// Apps of the plan.
    pub apps: PlanUse,
    /// Domains of the plan, claims included.
    pub domains: PlanUse,
    /// Fill level of the space. `None` if it was not measured, or is disabled.
    pub storage: Option<QuotaState>,
    /// Number of members whose last attempt failed in any upstream.
    pub members_failing: u64,
}

/// Assesses the health of a tenant. A terminated tenant is always healthy.
pub fn assess(inputs: &HealthInputs) -> TenantHealth {
    let mut reasons = Vec::new();
    let mut note = |code, message: String| reasons.push(Reason { code, message });
    match inputs.status {
        TenantStatus::Suspended => note(
            ReasonCode::Suspended,
            format!("The tenant is suspended. {}", access_of(inputs)),
        ),
        TenantStatus::Terminating => note(
            ReasonCode::Terminating,
            format!("The tenant is being terminated. {}", access_of(inputs)),
        ),
        TenantStatus::Terminated => {
            return TenantHealth {
                status: HealthStatus::Healthy,
                reasons: Vec::new(),
            };
        }
        TenantStatus::Pending | TenantStatus::Active => {}
    }
    let failed: Vec<&str> = Upstream::ALL
        .into_iter()
        .filter(|upstream| *inputs.provisioning_status.get(*upstream) == ProvisioningState::Error)
        .map(Upstream::name)
        .collect();
    if !failed.is_empty() {
        note(
            ReasonCode::StepsFailed,
            format!("Provisioning failed in {}.", failed.join(", ")),
        );
    }
    if inputs.apps_open > 0 {
        note(
            ReasonCode::AppsOpen,
            format!(
                "{} without a restriction to the tenant's members.",
                counted(inputs.apps_open, "app")
            ),
        );
    }
    if inputs.domains_needing_attention > 0 {
        note(
            ReasonCode::DomainsNeedAttention,
            format!(
                "{} with incorrect DNS records or without DKIM keys.",
                counted(inputs.domains_needing_attention, "domain")
            ),
        );
    }
    if inputs.domains_failed > 0 {
        note(
            ReasonCode::DomainsFailed,
            format!(
                "{} could not be verified.",
                counted(inputs.domains_failed, "domain")
            ),
        );
    }
    if inputs.is_past_due {
        note(ReasonCode::PastDue, "An invoice is overdue.".to_owned());
    }
    for (code, message) in over_plan(inputs) {
        note(code, message);
    }
    if inputs.members_failing > 0 {
        note(
            ReasonCode::MembersFailed,
            format!(
                "Accounts of {} could not be provisioned.",
                counted(inputs.members_failing, "member")
            ),
        );
    }
    match inputs.storage {
        Some(QuotaState::Exceeded) => note(
            ReasonCode::StorageFull,
            "The storage on the file server is full.".to_owned(),
        ),
        Some(QuotaState::Critical) => note(
            ReasonCode::StorageNearlyFull,
            "More than 90 % of the storage on the file server is used.".to_owned(),
        ),
        Some(QuotaState::Normal | QuotaState::Nearing) | None => {}
    }
    let worst = reasons.iter().map(|reason| reason.code.status()).max();
    TenantHealth {
        status: worst.unwrap_or(HealthStatus::Healthy),
        reasons,
    }
}

/// Limits that are exceeded: of the subscription, or else of the plan.
fn over_plan(inputs: &HealthInputs) -> Vec<(ReasonCode, String)> {
    let in_words = |noun: &str, (used, granted): (u64, u64), how: &str| {
        format!("{} used, {granted} {how}.", counted(used, noun))
    };
    let Seats { used, bought } = inputs.seats;
    let bought = PlanUse {
        used,
        granted: bought,
    };
    let of_plan = "in the plan";
    let seats = match (bought.excess(), inputs.members.excess()) {
        (Some(excess), _) => Some(in_words("seat", excess, "bought")),
        (None, excess) => excess.map(|excess| in_words("seat", excess, of_plan)),
    };
    let apps = inputs.apps.excess();
    let domains = inputs.domains.excess();
    let exceeded = [
        (ReasonCode::SeatsOverPlan, seats),
        (
            ReasonCode::AppsOverPlan,
            apps.map(|excess| in_words("app", excess, of_plan)),
        ),
        (
            ReasonCode::DomainsOverPlan,
            domains.map(|excess| in_words("domain", excess, of_plan)),
        ),
    ];
    let exceeded = exceeded.into_iter();
    exceeded
        .filter_map(|(code, message)| Some((code, message?)))
        .collect()
}

/// Whether the members of a tenant whose access is to be blocked can still use a service.
fn access_of(inputs: &HealthInputs) -> String {
    let is_open = |upstream: &Upstream| {
        let state = inputs.provisioning_status.get(*upstream);
        !matches!(state, ProvisioningState::Ok | ProvisioningState::Skipped)
    };
    let open: Vec<&str> = Upstream::ALL
        .into_iter()
        .filter(is_open)
        .map(Upstream::service)
        .collect();
    if open.is_empty() {
        "Sign-in is disabled.".to_owned()
    } else {
        format!("Access is not blocked yet: {}.", open.join(", "))
    }
}

fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests;
