//! How well a tenant is: computed from what is known about it whenever somebody asks, and stored nowhere.
//!
//! Critical is a workspace that cannot be used, or not all of it; one that needs attention can, and somebody should
//! look. Whoever shows a tenant's health asks [`health`], so that no two lists disagree.

use serde::Serialize;

use dezky_shared::{
    tenant::{PerUpstream, ProvisioningState, TenantStatus},
    upstream::Upstream,
};

/// How well a tenant is, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// There is nothing to be done.
    Healthy,
    /// It can be used, and somebody should look.
    Attention,
    /// It cannot be used, or not all of it.
    Critical,
}

/// Why a tenant is not healthy, as a stable name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// It is frozen.
    Suspended,
    /// It is frozen, and to be removed.
    Terminating,
    /// The last try in an upstream failed.
    StepsFailed,
    /// The DNS of a domain was in order, and something is off now.
    DomainsNeedAttention,
    /// A domain was not proved in time, or is another tenant's.
    DomainsFailed,
    /// An invoice is overdue.
    PastDue,
    /// More people have a role than seats were bought.
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
    /// As a stable name.
    pub code: ReasonCode,
    /// For a person; safe to show.
    pub message: String,
}

/// How well a tenant is, and why it is not better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantHealth {
    /// How well: as well as the worst of the reasons lets it be.
    pub status: HealthStatus,
    /// Why not better; none for a healthy one.
    pub reasons: Vec<Reason>,
}

/// Seats of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seats {
    /// How many people have a role in it.
    pub used: u64,
    /// How many its subscription is for; nothing where none is in force.
    pub bought: Option<u64>,
}

/// What a tenant's health follows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthInputs {
    /// Where it stands.
    pub status: TenantStatus,
    /// How it stands in each upstream.
    pub provisioning_status: PerUpstream<ProvisioningState>,
    /// How many of its domains were in order and are not now.
    pub domains_needing_attention: u64,
    /// How many of its domains were not proved in time, or lost.
    pub domains_failed: u64,
    /// Whether an invoice is overdue.
    pub is_past_due: bool,
    /// Its seats.
    pub seats: Seats,
}

/// How well a tenant is of which this is known. One that was removed is never unwell: nothing is left of it.
pub fn assess(facts: &HealthInputs) -> TenantHealth {
    let mut reasons = Vec::new();
    let mut note = |code, message: String| reasons.push(Reason { code, message });
    match facts.status {
        TenantStatus::Suspended => {
            note(ReasonCode::Suspended, "Nobody can sign in.".to_owned());
        }
        TenantStatus::Terminating => note(
            ReasonCode::Terminating,
            "Nobody can sign in, and it is to be removed.".to_owned(),
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
        .filter(|upstream| *facts.provisioning_status.get(*upstream) == ProvisioningState::Error)
        .map(Upstream::name)
        .collect();
    if !failed.is_empty() {
        note(
            ReasonCode::StepsFailed,
            format!("Not as it should be in {}.", failed.join(", ")),
        );
    }
    if facts.domains_needing_attention > 0 {
        note(
            ReasonCode::DomainsNeedAttention,
            format!(
                "The DNS of {} is not in order any more.",
                counted(facts.domains_needing_attention, "domain")
            ),
        );
    }
    if facts.domains_failed > 0 {
        note(
            ReasonCode::DomainsFailed,
            format!(
                "{} could not be proved.",
                counted(facts.domains_failed, "domain")
            ),
        );
    }
    if facts.is_past_due {
        note(ReasonCode::PastDue, "An invoice is overdue.".to_owned());
    }
    let Seats { used, bought } = facts.seats;
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

fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An active tenant of which nothing bad is known.
    fn well() -> HealthInputs {
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
    fn each_fact_is_a_reason_of_its_own_weight() {
        type Change = fn(&mut HealthInputs);
        let cases: [(Change, ReasonCode, HealthStatus, &str); 7] = [
            (
                |facts| facts.status = TenantStatus::Suspended,
                ReasonCode::Suspended,
                HealthStatus::Critical,
                "Nobody can sign in.",
            ),
            (
                |facts| facts.status = TenantStatus::Terminating,
                ReasonCode::Terminating,
                HealthStatus::Critical,
                "Nobody can sign in, and it is to be removed.",
            ),
            (
                |facts| facts.provisioning_status = PerUpstream::all(ProvisioningState::Error),
                ReasonCode::StepsFailed,
                HealthStatus::Critical,
                "Not as it should be in authentik, stalwart, ocis.",
            ),
            (
                |facts| facts.domains_needing_attention = 1,
                ReasonCode::DomainsNeedAttention,
                HealthStatus::Attention,
                "The DNS of 1 domain is not in order any more.",
            ),
            (
                |facts| facts.domains_failed = 2,
                ReasonCode::DomainsFailed,
                HealthStatus::Attention,
                "2 domains could not be proved.",
            ),
            (
                |facts| facts.is_past_due = true,
                ReasonCode::PastDue,
                HealthStatus::Attention,
                "An invoice is overdue.",
            ),
            (
                |facts| facts.seats.used = 4,
                ReasonCode::SeatsOverPlan,
                HealthStatus::Attention,
                "4 seats used, 3 bought.",
            ),
        ];
        for (change, code, status, message) in cases {
            let mut facts = well();
            change(&mut facts);

            let found = assess(&facts);

            assert_eq!(found.status, status, "{code:?}");
            let message = message.to_owned();
            assert_eq!(found.reasons, [Reason { code, message }]);
        }
    }

    #[test]
    fn a_tenant_of_which_nothing_bad_is_known_is_healthy() {
        let mut unpaid = well();
        unpaid.seats.bought = None;
        let mut new = well();
        new.status = TenantStatus::Pending;
        new.provisioning_status = PerUpstream::default();

        for facts in [well(), unpaid, new] {
            let found = assess(&facts);

            assert_eq!(
                (found.status, found.reasons.len()),
                (HealthStatus::Healthy, 0)
            );
        }
    }

    fn any_facts() -> impl Strategy<Value = HealthInputs> {
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
        fn a_tenant_is_as_well_as_its_worst_reason_says_and_healthy_without_one(facts in any_facts()) {
            let found = assess(&facts);

            prop_assert_eq!(found.status == HealthStatus::Healthy, found.reasons.is_empty());
            prop_assert!(found.reasons.iter().all(|reason| reason.code.status() <= found.status));
        }

        #[test]
        fn nothing_that_gets_worse_makes_a_tenant_better(facts in any_facts()) {
            let mut worse = facts.clone();
            worse.is_past_due = true;
            worse.domains_failed += 1;
            worse.seats.used += 1;
            worse.provisioning_status.stalwart = ProvisioningState::Error;

            prop_assert!(assess(&worse).status >= assess(&facts).status);
        }
    }
}
