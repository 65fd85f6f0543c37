use proptest::prelude::*;

use super::*;

/// A healthy active tenant.
fn healthy() -> HealthInputs {
    HealthInputs {
        status: TenantStatus::Active,
        provisioning_status: PerUpstream::all(ProvisioningState::Ok),
        apps_open: 0,
        domains_needing_attention: 0,
        domains_failed: 0,
        is_past_due: false,
        seats: Seats {
            used: 3,
            bought: Some(3),
        },
        members: PlanUse {
            used: 3,
            granted: Some(3),
        },
        apps: PlanUse::default(),
        domains: PlanUse::default(),
        storage: Some(QuotaState::Nearing),
        members_failing: 0,
    }
}

#[test]
fn each_input_is_a_reason_with_its_own_severity() {
    type Change = fn(&mut HealthInputs);
    let cases: [(Change, ReasonCode, HealthStatus, &str); 14] = [
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
            |inputs| inputs.apps_open = 2,
            ReasonCode::AppsOpen,
            HealthStatus::Critical,
            "2 apps without a restriction to the tenant's members.",
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
        (
            |inputs| inputs.members.used = 4,
            ReasonCode::SeatsOverPlan,
            HealthStatus::Attention,
            "4 seats used, 3 in the plan.",
        ),
        (
            |inputs| {
                inputs.apps = PlanUse {
                    used: 2,
                    granted: Some(1),
                };
            },
            ReasonCode::AppsOverPlan,
            HealthStatus::Attention,
            "2 apps used, 1 in the plan.",
        ),
        (
            |inputs| {
                inputs.domains = PlanUse {
                    used: 1,
                    granted: Some(0),
                };
            },
            ReasonCode::DomainsOverPlan,
            HealthStatus::Attention,
            "1 domain used, 0 in the plan.",
        ),
        (
            |inputs| inputs.members_failing = 2,
            ReasonCode::MembersFailed,
            HealthStatus::Attention,
            "Accounts of 2 members could not be provisioned.",
        ),
        (
            |inputs| inputs.storage = Some(QuotaState::Critical),
            ReasonCode::StorageNearlyFull,
            HealthStatus::Attention,
            "More than 90 % of the storage on the file server is used.",
        ),
        (
            |inputs| inputs.storage = Some(QuotaState::Exceeded),
            ReasonCode::StorageFull,
            HealthStatus::Critical,
            "The storage on the file server is full.",
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
    let storage = prop::option::of(prop::sample::select(vec![
        QuotaState::Normal,
        QuotaState::Nearing,
        QuotaState::Critical,
        QuotaState::Exceeded,
    ]));
    let members = 0_u64..2;
    (
        status,
        steps,
        0_u64..3,
        0_u64..3,
        any::<bool>(),
        seats,
        storage,
        members,
    )
        .prop_map(
            |(
                status,
                (authentik, stalwart, ocis),
                attention,
                failed,
                is_past_due,
                (used, bought),
                storage,
                members_failing,
            )| {
                HealthInputs {
                    status,
                    provisioning_status: PerUpstream {
                        authentik,
                        stalwart,
                        ocis,
                    },
                    apps_open: failed / 2,
                    domains_needing_attention: attention,
                    domains_failed: failed,
                    is_past_due,
                    seats: Seats { used, bought },
                    members: PlanUse {
                        used,
                        granted: bought,
                    },
                    apps: PlanUse {
                        used: failed,
                        granted: Some(attention),
                    },
                    domains: PlanUse::default(),
                    storage,
                    members_failing,
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
