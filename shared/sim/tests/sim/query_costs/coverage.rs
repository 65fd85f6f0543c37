//! Coverage of the query costs: a new method of a repository has to be measured, or listed as one that reads by id.

use std::{collections::BTreeSet, fs, path::Path};

use dezky_sim::workspace;

/// Methods that read nothing, or documents by their ids or by the keys above only: mostly writes.
const BY_ID: &str = "
    audit.record audit.record_all dependencies.retain dependencies.set_problems dependencies.upsert domains.backfill
    domains.grant domains.make_primary domains.remove domains.remove_all domains.reschedule domains.sync_from_tenant
    flags.bump_revision idempotency.answer idempotency.claim idempotency.remember invitations.delete
    invitations.drop_link invitations.insert invitations.revoke_all invitations.revoke_from invitations.save
    job_operations.finish job_operations.insert job_operations.settle jobs.cancel jobs.discard jobs.enqueue
    jobs.enqueue_many jobs.enqueue_new jobs.fail_open_steps jobs.fence jobs.find_in jobs.finish_available jobs.requeue
    jobs.set_progress linearizable.conceal partners.set_group queues.set_pause schedule_ledger.run_due
    snapshots.add_missing snapshots.renew tenants.compare_and_save_many tenants.lock_by_slug tenants.set_ocis_space
    tenants.set_ocis_space_requested tenants.set_unknown_until upstreams.claim_probe upstreams.mark_accepted
    upstreams.mark_refused upstreams.mark_released upstreams.pause upstreams.register_credentials upstreams.resume
    upstreams.save_breaker_status users.delete_with_tombstone users.grant_ownership users.lock_by_subject
    users.new_user users.set_mfa users.touch_last_seen workers.heartbeat workers.remove
";

#[test]
fn every_query_of_every_repository_is_measured() {
    let this =
        fs::read_to_string(workspace::root().join("shared/sim/tests/sim/query_costs.rs")).unwrap();
    let by_id: BTreeSet<&str> = BY_ID.split_whitespace().collect();
    let mut methods = BTreeSet::new();
    collect(&workspace::root().join("shared/src/store"), &mut methods);

    let unmeasured: Vec<&String> = methods
        .iter()
        .filter(|method| !by_id.contains(method.as_str()) && !this.contains(&format!("{method}(")))
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
