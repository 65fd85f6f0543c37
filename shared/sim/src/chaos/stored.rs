//! Contents of MongoDB at the end of a run.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Document, doc};
use dezky_shared::{
    audit::AuditEvent,
    domain::Domain,
    id::TenantId,
    platform::clock,
    queue::{
        args::RecheckDomain,
        job::{Job, JobArgs as _},
    },
    store::schedule_ledger::{LedgerEntry, ScheduleState},
    tenant::{ProvisioningState, Tenant},
    upstream::Upstream,
};
use futures::TryStreamExt as _;
use mongodb::{Client, Collection, Database};
use serde::de::DeserializeOwned;

use super::DATABASE;

/// All relevant collections.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) jobs: Vec<Job>,
    pub(super) tenants: Vec<Tenant>,
    pub(super) domains: Vec<Domain>,
    pub(super) schedules: Vec<ScheduleState>,
    pub(super) instants: Vec<LedgerEntry>,
    pub(super) events: Vec<AuditEvent>,
}

impl Stored {
    /// Reads everything from the primary, bypassing the proxies.
    pub(super) async fn read(primary: &Client) -> mongodb::error::Result<Self> {
        let database = primary.database(DATABASE);
        Ok(Self {
            jobs: all(&database, "jobs").await?,
            tenants: all(&database, "tenants").await?,
            domains: all(&database, "domains").await?,
            schedules: all(&database, "schedules").await?,
            instants: all(&database, "schedule_instants").await?,
            events: all(&database, "audit_events").await?,
        })
    }

    /// Descriptions of the jobs that are not final. Without rechecks of domains that are not due: each one schedules
    /// the next. Without those that match `except`.
    pub(super) async fn open_jobs(
        primary: &Client,
        except: Option<&Document>,
    ) -> mongodb::error::Result<Vec<String>> {
        let is_due = doc! { "runAt": { "$lte": clock::now() } };
        let is_not_recheck = doc! { "kind": { "$ne": RecheckDomain::KIND } };
        let mut open = doc! { "$or": [
            { "state": "running" },
            { "state": "available", "$or": [is_due, is_not_recheck] },
        ] };
        if let Some(except) = except {
            open.insert("$nor", [except]);
        }
        let jobs: Collection<Job> = primary.database(DATABASE).collection("jobs");
        let jobs: Vec<Job> = jobs.find(open).await?.try_collect().await?;
        Ok(jobs.iter().map(describe).collect())
    }

    /// Slugs of tenants that are not in their desired state although no job is due.
    pub(super) fn unconverged(&self) -> Vec<String> {
        let removing: BTreeSet<TenantId> = self
            .domains
            .iter()
            .filter(|domain| domain.removing)
            .map(|domain| domain.tenant_id)
            .collect();
        let is_left = |tenant: &&Tenant| {
            let is_done = |upstream| {
                let state = tenant.provisioning_status.get(upstream);
                matches!(state, ProvisioningState::Ok | ProvisioningState::Skipped)
            };
            removing.contains(&tenant.id) || !Upstream::ALL.into_iter().all(is_done)
        };
        let left = self.tenants.iter().filter(is_left);
        left.map(|tenant| tenant.slug.clone()).collect()
    }

    /// Names of domains that are being removed; their upstream state is undefined.
    pub(super) fn removing(&self) -> BTreeSet<String> {
        let removing = self.domains.iter().filter(|domain| domain.removing);
        removing.map(|domain| domain.name.clone()).collect()
    }

    /// Number of jobs by state.
    pub(super) fn count_by_state(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for job in &self.jobs {
            *counts.entry(job.state.name()).or_default() += 1;
        }
        counts
    }

    /// Audit events of bulk operations, one per item.
    pub(super) fn item_events(&self) -> impl Iterator<Item = &AuditEvent> {
        self.events.iter().filter(|event| is_item_event(event))
    }
}

pub(super) fn is_item_event(event: &AuditEvent) -> bool {
    event.after.contains_key("jobOperationId")
}

async fn all<T: DeserializeOwned + Send + Sync>(
    database: &Database,
    collection: &str,
) -> mongodb::error::Result<Vec<T>> {
    let collection: Collection<T> = database.collection(collection);
    collection.find(Document::new()).await?.try_collect().await
}

pub(super) fn describe(job: &Job) -> String {
    let steps: Vec<String> = job
        .steps
        .iter()
        .map(|step| format!("{} {:?}", step.name, step.state).to_lowercase())
        .collect();
    format!(
        "{} {} is {}, {} attempts, next at {} ({})",
        job.kind,
        job.id,
        job.state.name(),
        job.total_attempts(),
        job.run_at,
        steps.join(", ")
    )
}
