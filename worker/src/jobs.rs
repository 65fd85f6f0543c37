//! Job kinds and their steps.

mod app;
mod apply_allowance;
mod audit_event;
mod billing;
mod check_spaces;
mod domain;
mod import_members;
mod item_work;
mod job_operation;
mod member;
mod mfa;
mod partial_failure;
mod partner;
mod reconcile_tenants;
mod snapshot_subscriptions;
mod step_status;
mod storage;
mod summarize_months;
mod tenant;
mod trim_audit;

use dezky_shared::queue::args::{
    ApplyAllowance, CheckSpaces, ClosePayouts, CreateSetupIntent, DeprovisionTenant,
    FetchStripeEvents, ImportMembers, InvitePartnerMember, InvoiceSubscription, IssueInvoice,
    LookUpMfa, MeasureAllStorage, MeasureStorage, MirrorStripeObject, ProvisionApp,
    ProvisionDomain, ProvisionMember, ProvisionTenant, RecheckDomain, RecheckDueDomains,
    ReconcileTenant, ReconcileTenants, ReleasePayout, RemoveApp, RemoveDomain, RemoveMember,
    ResetMemberPassword, ResetMfa, ResumeMember, ResumeTenant, RotateAppSecret, RunInvoices,
    RunJobOperation, SetDefaultCard, SetDmarc, SettleInvoice, SignOutMember, SnapshotSubscriptions,
    SummarizeMonths, SuspendMember, SuspendTenant, SweepBilling, SyncBilling, SyncPartnerTeam,
    TrimAudit, VoidInvoice,
};

pub use self::tenant::TenantTarget;
use crate::steps::Registry;

/// Registry of all job kinds.
///
/// The five tenant kinds share their steps: each converges the upstreams to the tenant's document as of the run. The
/// kind only records the cause, so a late suspend cannot undo a resume. So do the four kinds that change a member.
pub fn registry() -> Registry {
    Registry::default()
        .register::<ProvisionTenant>(tenant::steps())
        .register::<ReconcileTenant>(tenant::steps())
        .register::<SuspendTenant>(tenant::steps())
        .register::<ResumeTenant>(tenant::steps())
        .register::<DeprovisionTenant>(tenant::steps())
        .register::<ReconcileTenants>(reconcile_tenants::steps())
        .register::<SnapshotSubscriptions>(snapshot_subscriptions::steps())
        .register::<SummarizeMonths>(summarize_months::steps())
        .register::<RunJobOperation>(job_operation::steps())
        .register::<ProvisionDomain>(domain::provision())
        .register::<SetDmarc>(domain::provision())
        .register::<RemoveDomain>(domain::remove())
        .register::<RecheckDomain>(domain::recheck())
        .register::<RecheckDueDomains>(domain::recheck_due())
        .register::<ProvisionApp>(app::provision())
        .register::<RotateAppSecret>(app::provision())
        .register::<RemoveApp>(app::remove())
        .register::<ProvisionMember>(member::steps())
        .register::<SuspendMember>(member::steps())
        .register::<ResumeMember>(member::steps())
        .register::<RemoveMember>(member::steps())
        .register::<SignOutMember>(member::sign_out())
        .register::<ResetMemberPassword>(member::reset_password())
        .register::<ImportMembers>(import_members::steps())
        .register::<InvitePartnerMember>(partner::invite())
        .register::<SyncPartnerTeam>(partner::sync())
        .register::<TrimAudit>(trim_audit::steps())
        .register::<CheckSpaces>(check_spaces::steps())
        .register::<ApplyAllowance>(apply_allowance::steps())
        .register::<MeasureStorage>(storage::measure())
        .register::<MeasureAllStorage>(storage::measure_all())
        .register::<RunInvoices>(billing::run())
        .register::<InvoiceSubscription>(billing::invoice())
        .register::<ClosePayouts>(billing::close_payouts())
        .register::<ReleasePayout>(billing::release_payout())
        .register::<SyncBilling>(billing::sync())
        .register::<SweepBilling>(billing::sweep())
        .register::<IssueInvoice>(billing::issue_invoice())
        .register::<VoidInvoice>(billing::void_invoice())
        .register::<SettleInvoice>(billing::settle_invoice())
        .register::<CreateSetupIntent>(billing::create_setup_intent())
        .register::<SetDefaultCard>(billing::set_default_card())
        .register::<MirrorStripeObject>(billing::mirror())
        .register::<FetchStripeEvents>(billing::fetch_events())
        .register::<LookUpMfa>(mfa::look_up())
        .register::<ResetMfa>(mfa::reset())
}

#[cfg(test)]
mod tests {
    use dezky_shared::queue::args::queue_of;

    use super::registry;

    #[test]
    fn lists_of_jobs_know_the_queue_of_every_kind() {
        let registry = registry();

        let unknown = registry.kinds().filter(|kind| queue_of(kind).is_none());
        let unknown: Vec<&str> = unknown.collect();

        assert!(
            unknown.is_empty(),
            "add to shared/src/queue/args/queues.rs: {unknown:?}"
        );
    }
}
