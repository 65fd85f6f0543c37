//! Indexes of the jobs. The indexes of claims, sweeps and releases are partial: jobs that have ended, which are by far
//! the most, cost them nothing.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::{IndexModel, options::IndexOptions};

use super::JobRepository;
use crate::store::{StoreError, drop_index};

/// Unique index: one running job per lock key.
pub const LOCK_INDEX: &str = "one_running_per_lock";
/// Unique index: one available job per unique key.
pub const UNIQUE_INDEX: &str = "one_available_per_unique_key";
/// Index of available jobs by lock key, for claims.
pub const CLAIM_INDEX: &str = "claim_available";
/// Index of available jobs by priority lane and due time.
pub const DUE_INDEX: &str = "due_by_priority";
/// Index of jobs with steps deferred by an upstream, by priority lane.
pub const HELD_INDEX: &str = "held_steps_by_priority";
/// Index of jobs with steps that wait for a reservation in an upstream's rate budget, in the order of their turns.
pub const WAITING_INDEX: &str = "steps_waiting_for_budget";
/// Index of running jobs by the end of their leases.
pub const LEASE_INDEX: &str = "leases";

/// Index of a tenant's jobs, newest first.
pub(super) const TENANT_INDEX: &str = "tenant_newest_first";
/// Index of the jobs of a kind by state, newest first. It serves the jobs in a state, too, as one scan of each kind.
pub(super) const KIND_INDEX: &str = "kind_and_state_newest_first";
/// Index of failed jobs by state and error code, newest first.
pub(super) const ERROR_INDEX: &str = "error_newest_first";
/// Index of a fan-out's jobs by state, newest first.
pub(super) const CHILDREN_INDEX: &str = "children_by_state";
/// Index of a fan-out's jobs that changed something, newest first.
pub(super) const CHANGED_CHILDREN_INDEX: &str = "changed_children";

/// Indexes of earlier builds, which the ones above replace.
const FORMER_INDEXES: [&str; 6] = [
    "claim",
    "due",
    "children",
    "state_newest_first",
    "retention",
    "held_steps",
];

impl JobRepository {
    /// Creates the indexes. Does not block other clients.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let available = doc! { "state": "available" };
        let running = doc! { "state": "running" };
        let indexes = [
            unique(LOCK_INDEX, doc! { "lockKey": 1 }, running.clone()),
            unique(
                UNIQUE_INDEX,
                doc! { "uniqueKey": 1 },
                doc! { "state": "available", "uniqueKey": { "$exists": true } },
            ),
            partial(
                CLAIM_INDEX,
                doc! { "queue": 1, "state": 1, "lockKey": 1, "priority": 1, "runAt": 1 },
                available.clone(),
            ),
            partial(
                DUE_INDEX,
                doc! { "queue": 1, "state": 1, "priority": 1, "runAt": 1, "lockKey": 1 },
                available,
            ),
            partial(
                HELD_INDEX,
                doc! { "steps.name": 1, "steps.error.code": 1, "priority": 1, "runAt": 1 },
                doc! { "state": "available", "error": { "$exists": true } },
            ),
            partial(
                WAITING_INDEX,
                doc! { "steps.asksAgain": 1, "steps.name": 1, "priority": 1, "_id": 1 },
                doc! { "state": "available", "steps.asksAgain": true },
            ),
            partial(LEASE_INDEX, doc! { "state": 1, "lease.until": 1 }, running),
            index(doc! { "tenantId": 1, "_id": -1 }, named(TENANT_INDEX)),
            index(doc! { "kind": 1, "state": 1, "_id": -1 }, named(KIND_INDEX)),
            partial(
                ERROR_INDEX,
                doc! { "state": 1, "error.code": 1, "_id": -1 },
                doc! { "error": { "$exists": true } },
            ),
            partial(
                CHILDREN_INDEX,
                doc! { "parent": 1, "state": 1, "_id": -1 },
                doc! { "parent": { "$exists": true } },
            ),
            partial(
                CHANGED_CHILDREN_INDEX,
                doc! { "parent": 1, "_id": -1 },
                doc! { "parent": { "$exists": true }, "steps.changes.0": { "$exists": true } },
            ),
            expiring("retention_of_ended", "expireAt"),
        ];
        self.jobs.create_indexes(indexes).await?;
        Ok(())
    }

    /// Drops the indexes that only earlier builds use. To be called once no worker of an earlier build is left: it would
    /// find no work without them.
    pub async fn drop_former_indexes(&self) -> Result<(), StoreError> {
        for name in FORMER_INDEXES {
            drop_index(&self.jobs, name).await?;
        }
        Ok(())
    }
}

fn named(name: &str) -> IndexOptions {
    IndexOptions::builder().name(name.to_owned()).build()
}

fn index(keys: Document, options: IndexOptions) -> IndexModel {
    IndexModel::builder().keys(keys).options(options).build()
}

fn partial(name: &str, keys: Document, filter: Document) -> IndexModel {
    let mut options = named(name);
    options.partial_filter_expression = Some(filter);
    index(keys, options)
}

/// A TTL index: MongoDB deletes a document at the time in `field`.
fn expiring(name: &str, field: &str) -> IndexModel {
    let mut options = named(name);
    options.expire_after = Some(Duration::ZERO);
    options.partial_filter_expression = Some(doc! { field: { "$exists": true } });
    index(doc! { field: 1 }, options)
}

fn unique(name: &str, keys: Document, filter: Document) -> IndexModel {
    let mut options = named(name);
    options.partial_filter_expression = Some(filter);
    options.unique = Some(true);
    index(keys, options)
}
