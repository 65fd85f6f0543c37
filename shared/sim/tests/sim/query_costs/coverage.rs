//! Coverage of the query costs: a new method of a repository has to be measured, or listed as one that reads by id.

use std::{collections::BTreeSet, fs, path::Path};

use dezky_sim::workspace;

/// Methods that read nothing, or documents by their ids or by the keys above only: mostly writes.
const BY_ID: &str = "
    allowances.add_missing audit.follow_job audit.record audit.record_all backlog_peaks.record billing_accounts.save console_sessions.delete
    console_sessions.find console_sessions.insert console_sessions.touch dependencies.retain
    dependencies.set_problems dependencies.upsert domains.grant domains.materialize_conflicts domains.make_primary domains.remove
    domains.reschedule domains.sync_from_tenant flags.bump_revision group_commit.commit group_commit.write
    idempotency.store_response idempotency.claim
    idempotency.insert_with_response invitations.delete invitations.drop_link invitations.insert invitations.save
    invoices.next_number job_operations.finish job_operations.insert job_operations.settle jobs.cancel jobs.discard
    jobs.dismiss jobs.enqueue jobs.enqueue_many jobs.enqueue_new jobs.fence jobs.find_in_transaction jobs.finish_available
    jobs.requeue jobs.set_progress billing_totals.record_entry billing_totals.record_invoice invoice_run.position
    invoice_run.set_position ledger.append ledger.cancel_payout ledger.open_payout linearizable.conceal
    member_imports.add_passwords member_imports.finish member_imports.insert member_imports.settle members.admission
    members.begin_files_account members.set_files_account mfa_reports.replace partners.set_group queues.end_pause
    queues.set_pause schedule_ledger.run_due snapshots.add_missing report_months.add_first_payments
    report_months.replace_month storage_reports.delete storage_reports.set_files storage_reports.set_files_many
    storage_reports.set_mail stripe_calls.begin stripe_calls.end tenants.confirm_missing tenants.lock_by_slug
    tenants.end_freshness
    tenants.set_ocis_space tenants.set_ocis_space_requested tenants.set_unknown_until upstreams.claim_probe
    upstreams.end_pause upstreams.mark_accepted upstreams.mark_refused upstreams.mark_released upstreams.pause
    billing_cursors.events billing_cursors.set_events setup_intents.find setup_intents.hand_over setup_intents.insert
    setup_intents.set_created
    upstreams.register_credentials upstreams.resume upstreams.save_breaker_status upstreams.set_permission
    users.delete_with_tombstone users.grant_ownership users.link_member users.find_by_subject_for_update
    users.materialize_conflict_by_subject users.new_user
    users.set_mfa users.touch_last_seen workers.heartbeat workers.remove webhook_events.find_in_transaction webhook_events.record
    webhook_events.reopen webhook_events.settle
";

#[test]
fn every_query_of_every_repository_is_measured() {
    let parts = workspace::root().join("shared/sim/tests/sim/query_costs");
    let parts = fs::read_dir(parts)
        .unwrap()
        .map(|part| part.unwrap().path());
    // This file names the methods that are not measured.
    let parts = parts.filter(|part| part.is_file() && !part.ends_with("coverage.rs"));
    let measured: String = parts
        .map(|part| fs::read_to_string(part).unwrap())
        .collect();
    let by_id: BTreeSet<&str> = BY_ID.split_whitespace().collect();
    let mut methods = BTreeSet::new();
    collect(&workspace::root().join("shared/src/store"), &mut methods);

    let unmeasured: Vec<&String> = methods
        .iter()
        .filter(|method| {
            !by_id.contains(method.as_str()) && !measured.contains(&format!("{method}("))
        })
        .collect();

    assert!(methods.len() > 100, "{methods:?}");
    assert!(
        unmeasured.is_empty(),
        "measure these queries: {unmeasured:#?}"
    );
    let gone: Vec<_> = by_id
        .iter()
        .filter(|method| !methods.contains(**method))
        .collect();
    assert!(gone.is_empty(), "{gone:?}");
}

/// The public asynchronous methods of the repositories, as `collection.method`.
fn collect(directory: &Path, methods: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, methods);
            continue;
        }
        let store = workspace::root().join("shared/src/store");
        let relative = path.strip_prefix(store).unwrap().with_extension("");
        let collection = relative.iter().next().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let names = text.split("pub async fn ").skip(1);
        let names = names.filter_map(|rest| rest.split(['(', '<']).next());
        let names = names.filter(|name| !name.ends_with("_indexes"));
        methods.extend(names.map(|name| format!("{collection}.{name}")));
    }
}
