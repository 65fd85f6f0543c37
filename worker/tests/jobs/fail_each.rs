//! Failure of each call: for every job kind, every upstream call fails once with every failure. The job is retried or ends
//! by the class of the failure, and upstreams and tenant end as without failures, with no effect happening twice.
//!
//! In one run all calls fail with the same failure, one after another, once each: the first call of an operation, then
//! each that follows an answered one. That is stricter than one failure at a time, and a hundred times as fast.

mod documents;
mod driver;
mod failure;
mod members;
mod operator;

use std::collections::BTreeSet;

use dezky_shared::queue::{
    args::{
        ApplyAllowance, ClosePayouts, ImportMembers, InvoiceSubscription, RecheckDomain,
        RecheckDueDomains, ReconcileTenants, ReleasePayout, RunInvoices, RunJobOperation,
        SnapshotSubscriptions, SummarizeMonths, SweepBilling, TrimAudit,
    },
    job::JobArgs as _,
};
use futures::{StreamExt as _, stream};

use self::driver::each_call_fails;
use crate::{answer_lost::writes_in_the_sources, scenarios};

/// Kinds that call none of these upstreams.
const SILENT: [&str; 14] = [
    ApplyAllowance::KIND,
    ClosePayouts::KIND,
    ImportMembers::KIND,
    InvoiceSubscription::KIND,
    RunInvoices::KIND,
    ReconcileTenants::KIND,
    ReleasePayout::KIND,
    RunJobOperation::KIND,
    RecheckDomain::KIND,
    RecheckDueDomains::KIND,
    SnapshotSubscriptions::KIND,
    SummarizeMonths::KIND,
    SweepBilling::KIND,
    TrimAudit::KIND,
];
/// Writes that may happen twice, where the second replaces the first. Their jobs have their own tests.
const REPLACED: [&str; 1] = ["create_recovery_link"];

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::PROVISION).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_after_unknown_attempts_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::PROVISION_UNKNOWN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_a_change_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::PROVISION_CHANGED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reconciling_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::RECONCILE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reconciling_a_suspended_tenant_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::RECONCILE_SUSPENDED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspending_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SUSPEND).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resuming_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::RESUME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deprovisioning_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::DEPROVISION).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_a_domain_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::PROVISION_DOMAIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changing_the_dmarc_policy_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SET_DMARC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_domain_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::REMOVE_DOMAIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inviting_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::INVITE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn synchronising_a_team_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SYNC_TEAM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_an_app_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::PROVISION_APP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_an_app_of_a_suspended_tenant_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::PROVISION_APP_SUSPENDED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rotating_an_apps_secret_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::ROTATE_APP_SECRET).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_an_app_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::REMOVE_APP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reconciling_apps_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::RECONCILE_APPS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspending_apps_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SUSPEND_APPS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resuming_apps_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::RESUME_APPS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deprovisioning_apps_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::DEPROVISION_APPS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checking_all_spaces_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::CHECK_SPACES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn measuring_a_tenant_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::MEASURE_STORAGE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn measuring_all_tenants_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::MEASURE_ALL_STORAGE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_up_second_factors_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::LOOK_UP_MFA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resetting_second_factors_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::RESET_MFA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn creating_a_customer_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SYNC_BILLING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changing_a_customer_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SYNC_BILLING_CHANGED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn selling_by_card_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SELL_BY_CARD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changing_a_card_subscription_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::CHANGE_BY_CARD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_a_card_subscription_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::END_BY_CARD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mirroring_a_subscription_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::MIRROR_SUBSCRIPTION).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn creating_a_setup_intent_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::CREATE_SETUP_INTENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_a_card_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SET_DEFAULT_CARD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mirroring_a_customer_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::MIRROR_CUSTOMER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mirroring_an_invoice_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::MIRROR_INVOICE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn issuing_an_invoice_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::ISSUE_INVOICE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn voiding_an_invoice_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::VOID_INVOICE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_and_every_write_is_covered() {
    let kinds: BTreeSet<&str> = dezky_worker::jobs::registry().kinds().collect();
    let writes = writes_in_the_sources();

    let mut reached = BTreeSet::new();
    let mut undisturbed = stream::iter(scenarios::ALL)
        .map(|scenario| driver::run(scenario, None))
        .buffer_unordered(4);
    while let Some(run) = undisturbed.next().await {
        reached.extend(run.calls.into_keys().map(|(_, operation)| operation));
    }

    let spoken = scenarios::ALL.map(|scenario| scenario.kind);
    let tabled: BTreeSet<&str> = spoken.into_iter().chain(SILENT).collect();
    assert_eq!(tabled, kinds);
    reached.extend(REPLACED.map(str::to_owned));
    let missed: Vec<&String> = writes.difference(&reached).collect();
    assert_eq!(missed, [""; 0]);
}
