//! Tenant health: computed on each read, never stored.
//!
//! A critical workspace cannot be used, at least in part. One that needs attention can, but requires action. All lists
//! and views use [`assess`], so that they agree.

use serde::Serialize;

use dezky_shared::{
    tenant::{PerUpstream, ProvisioningState, TenantStatus},
    upstream::Upstream,
};

/// Health status, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No action is required.
    Healthy,
    /// The workspace works, and action is required.
    Attention,
    /// The workspace cannot be used, at least in part.
    Critical,
}

/// Stable code of a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// The tenant is suspended.
    Suspended,
    /// The tenant is being terminated.
    Terminating,
    /// The last attempt in an upstream failed.
    StepsFailed,
    /// The DNS records of a verified domain are no longer correct, or the mail server lacks its DKIM keys.
    DomainsNeedAttention,
    /// A domain was not verified in time, or belongs to another tenant.
    DomainsFailed,
    /// An invoice is overdue.
    PastDue,
    /// More members than seats.
    SeatsOverPlan,
}

impl ReasonCode {
    const fn status(self) -> HealthStatus {
        match self {
            Self::Suspended | Self::Terminating | Self::StepsFailed => HealthStatus::Critical,
            Self::DomainsNeedAttention
            | Self::DomainsFailed
            | Self::PastDue
            | Self::SeatsOverPlan => HealthStatus::Attention,
        }
    }
}

/// Why a tenant is not healthy.
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

/// Inputs of the assessment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthInputs {
    /// Status of the tenant.
    pub status: TenantStatus,
    /// Provisioning state per upstream.
    pub provisioning_status: PerUpstream<ProvisioningState>,
    /// Number of verified domains whose DNS records are no longer correct, and of domains without DKIM keys.
    pub domains_needing_attention: u64,
    /// Number of domains that were not verified in time, or lost.
    pub domains_failed: u64,
    /// Whether an invoice is overdue.
    pub is_past_due: bool,
    /// Seats.
    pub seats: Seats,
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
    let Seats { used, bought } = inputs.seats;
    if let Some(bought) = bought.filter(|bought| used > *bought) {
        note(
            ReasonCode::SeatsOverPlan,
            format!("{} used, {bought} bought.", counted(used, "seat")),
        );
    }
    let worst = reasons.iter().map(|reason| reason.code.status()).max();
    TenantHealth {
        status: worst.unwrap_or(HealthStatus::Healthy),
        reasons,
    }
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A healthy active tenant.
    fn healthy() -> HealthInputs {
        HealthInputs {
            status: TenantStatus::Active,
            provisioning_status: PerUpstream::all(ProvisioningState::Ok),
            domains_needing_attention: 0,
            domains_failed: 0,
            is_past_due: false,
            seats: Seats {
                used: 3,
                bought: Some(3),
            },
        }
    }

    #[test]
    fn each_input_is_a_reason_with_its_own_severity() {
        type Change = fn(&mut HealthInputs);
        let cases: [(Change, ReasonCode, HealthStatus, &str); 7] = [
            (
                |inputs| inputs.status = TenantStatus::Suspended,
                ReasonCode::Suspended,
                HealthStatus::Critical,
                "The tenant is suspended. Sign-in is disabled.",
            ),
            (
                |inputs| inputs.status = TenantStatus::Terminating,
                ReasonCode::Terminating,
                HealthStatus::Critical,
                "The tenant is being terminated. Sign-in is disabled.",
            ),
            (
                |inputs| inputs.provisioning_status = PerUpstream::all(ProvisioningState::Error),
                ReasonCode::StepsFailed,
                HealthStatus::Critical,
                "Provisioning failed in authentik, stalwart, ocis.",
            ),
            (
                |inputs| inputs.domains_needing_attention = 1,
                ReasonCode::DomainsNeedAttention,
                HealthStatus::Attention,
                "1 domain with incorrect DNS records or without DKIM keys.",
            ),
            (
                |inputs| inputs.domains_failed = 2,
                ReasonCode::DomainsFailed,
                HealthStatus::Attention,
                "2 domains could not be verified.",
            ),
            (
                |inputs| inputs.is_past_due = true,
                ReasonCode::PastDue,
                HealthStatus::Attention,
                "An invoice is overdue.",
            ),
            (
                |inputs| inputs.seats.used = 4,
                ReasonCode::SeatsOverPlan,
                HealthStatus::Attention,
                "4 seats used, 3 bought.",
            ),
        ];
        for (change, code, status, message) in cases {
            let mut inputs = healthy();
            change(&mut inputs);

            let health = assess(&inputs);

            assert_eq!(health.status, status, "{code:?}");
            let message = message.to_owned();
            assert_eq!(health.reasons, [Reason { code, message }]);
        }
    }

    #[test]
    fn a_suspended_tenant_names_the_services_that_are_not_blocked_yet() {
        let mut inputs = healthy();
        inputs.status = TenantStatus::Suspended;
        inputs.provisioning_status.stalwart = ProvisioningState::Error;
        inputs.provisioning_status.ocis = ProvisioningState::Pending;

        let health = assess(&inputs);

        assert_eq!(
            health.reasons[0].message,
            "The tenant is suspended. Access is not blocked yet: mail, files."
        );
    }

    #[test]
    fn a_tenant_without_reasons_is_healthy() {
        let mut unpaid = healthy();
        unpaid.seats.bought = None;
        let mut new = healthy();
        new.status = TenantStatus::Pending;
        new.provisioning_status = PerUpstream::default();

        for inputs in [healthy(), unpaid, new] {
            let health = assess(&inputs);

            assert_eq!(
                (health.status, health.reasons.len()),
                (HealthStatus::Healthy, 0)
            );
        }
    }

    fn any_inputs() -> impl Strategy<Value = HealthInputs> {
        let status = prop::sample::select(vec![
            TenantStatus::Pending,
            TenantStatus::Active,
            TenantStatus::Suspended,
            TenantStatus::Terminating,
            TenantStatus::Terminated,
        ]);
        let step = || {
            prop::sample::select(vec![
                ProvisioningState::Pending,
                ProvisioningState::Ok,
                ProvisioningState::Skipped,
                ProvisioningState::Error,
            ])
        };
        let steps = (step(), step(), step());
        let seats = (0_u64..4, prop::option::of(0_u64..4));
        (status, steps, 0_u64..3, 0_u64..3, any::<bool>(), seats).prop_map(
            |(
                status,
                (authentik, stalwart, ocis),
                attention,
                failed,
                is_past_due,
                (used, bought),
            )| {
                HealthInputs {
                    status,
                    provisioning_status: PerUpstream {
                        authentik,
                        stalwart,
                        ocis,
                    },
                    domains_needing_attention: attention,
                    domains_failed: failed,
                    is_past_due,
                    seats: Seats { used, bought },
                }
            },
        )
    }

    proptest! {
        #[test]
        fn the_status_is_that_of_the_most_severe_reason(inputs in any_inputs()) {
            let health = assess(&inputs);

            prop_assert_eq!(health.status == HealthStatus::Healthy, health.reasons.is_empty());
            prop_assert!(health.reasons.iter().all(|reason| reason.code.status() <= health.status));
        }

        #[test]
        fn a_worse_input_never_improves_the_status(inputs in any_inputs()) {
            let mut worse = inputs.clone();
            worse.is_past_due = true;
            worse.domains_failed += 1;
            worse.seats.used += 1;
            worse.provisioning_status.stalwart = ProvisioningState::Error;

            prop_assert!(assess(&worse).status >= assess(&inputs).status);
        }
    }
}
