//! Indexes of all collections, in one list: the api, the worker and the tests start from the same schema.

use std::sync::Arc;

use super::{
    Store, StoreError, apps::AppRepository, audit::AuditRepository,
    backlog_peaks::BacklogPeakRepository, billing_accounts::BillingAccountRepository,
    billing_totals::BillingTotalsRepository, console_sessions::ConsoleSessionRepository,
    domains::DomainRepository, idempotency::IdempotencyRepository,
    invitations::InvitationRepository, invoices::InvoiceRepository,
    job_operations::JobOperationRepository, jobs::JobRepository, ledger::LedgerRepository,
    member_imports::MemberImportRepository, members::MemberRepository, partners::PartnerRepository,
    payouts::PayoutRepository, prices::PriceRepository, report_months::ReportMonthRepository,
    saved_reports::SavedReportRepository, schedule_ledger::ScheduleLedger,
    setup_intents::SetupIntentRepository, snapshots::SnapshotRepository,
    stripe_calls::StripeCallRepository, subscriptions::SubscriptionRepository,
    tenants::TenantRepository, users::UserRepository, webhook_events::WebhookEventRepository,
    workers::WorkerRepository,
};

/// Creates the missing indexes of every collection. Repeatable, and blocks no other client.
pub async fn ensure_indexes(store: &Arc<Store>) -> Result<(), StoreError> {
    let apps = AppRepository::new(store);
    let audit = AuditRepository::new(store);
    let backlog_peaks = BacklogPeakRepository::new(store);
    let billing_accounts = BillingAccountRepository::new(store);
    let billing_totals = BillingTotalsRepository::new(store);
    let console_sessions = ConsoleSessionRepository::new(store);
    let domains = DomainRepository::new(store);
    let idempotency = IdempotencyRepository::new(store);
    let invitations = InvitationRepository::new(store);
    let invoices = InvoiceRepository::new(store);
    let job_operations = JobOperationRepository::new(store);
    let jobs = JobRepository::new(store);
    let ledger = LedgerRepository::new(store);
    let member_imports = MemberImportRepository::new(store);
    let members = MemberRepository::new(store);
    let partners = PartnerRepository::new(store);
    let payouts = PayoutRepository::new(store);
    let prices = PriceRepository::new(store);
    let report_months = ReportMonthRepository::new(store);
    let saved_reports = SavedReportRepository::new(store);
    let schedule_ledger = ScheduleLedger::new(store);
    let setup_intents = SetupIntentRepository::new(store);
    let snapshots = SnapshotRepository::new(store);
    let stripe_calls = StripeCallRepository::new(store);
    let subscriptions = SubscriptionRepository::new(store);
    let tenants = TenantRepository::new(store);
    let users = UserRepository::new(store);
    let webhook_events = WebhookEventRepository::new(store);
    let workers = WorkerRepository::new(store);
    futures::try_join!(
        apps.ensure_indexes(),
        audit.ensure_indexes(),
        backlog_peaks.ensure_indexes(),
        billing_accounts.ensure_indexes(),
        billing_totals.ensure_indexes(),
        console_sessions.ensure_indexes(),
        domains.ensure_indexes(),
        idempotency.ensure_indexes(),
        invitations.ensure_indexes(),
        invoices.ensure_indexes(),
        job_operations.ensure_indexes(),
        jobs.ensure_indexes(),
        ledger.ensure_indexes(),
        member_imports.ensure_indexes(),
        members.ensure_indexes(),
        partners.ensure_indexes(),
        payouts.ensure_indexes(),
        prices.ensure_indexes(),
        report_months.ensure_indexes(),
        saved_reports.ensure_indexes(),
        schedule_ledger.ensure_indexes(),
        setup_intents.ensure_indexes(),
        snapshots.ensure_indexes(),
        stripe_calls.ensure_indexes(),
        subscriptions.ensure_indexes(),
        tenants.ensure_indexes(),
        users.ensure_indexes(),
        webhook_events.ensure_indexes(),
        workers.ensure_indexes(),
    )?;
    Ok(())
}
