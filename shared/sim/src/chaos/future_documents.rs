//! Documents of a future build: they cannot be read by this one, as a whole or in a part, until they are repaired.
//!
//! Each concerns a tenant of its own. They stay until the faults are removed and everything else is final.

mod checks;
mod user;

use std::time::Duration;

use anyhow::Context as _;
use bson::{Bson, Document, doc, serialize_to_document};
use dezky_shared::{
    id::{JobId, TenantId},
    platform::clock,
    queue::{
        args::ReconcileTenant,
        job::{JobArgs as _, JobState},
        new_job::NewJob,
    },
};
use tokio::time::{Instant, sleep};

use super::{
    fault_injector::InjectionLog,
    fault_kind::{FaultKind, FutureDocument},
    load::LoadGenerator,
    primary::Primary,
    schedule::PlannedFault,
};
use crate::authentik::AuthentikSim;

/// Value that this build does not know.
const UNKNOWN: &str = "of_a_future_build";
/// Time limit for a job to be repaired while it is not running.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A document that was placed.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    kind: FutureDocument,
    tenant: TenantId,
    /// The job that is of a future build, or that meets a document which is.
    job: JobId,
    /// Original value of the changed field, or the id of the added document.
    original: Bson,
    /// State of the job when it was repaired.
    state_before_repair: Option<JobState>,
}

/// Documents of a future build, and the way to them.
#[derive(Debug)]
pub(super) struct FutureDocuments {
    primary: Primary,
    placed: Vec<Placed>,
}

impl FutureDocuments {
    pub(super) fn new(primary: Primary) -> Self {
        Self {
            primary,
            placed: Vec::new(),
        }
    }

    /// Places the documents of the schedule.
    pub(super) async fn place(
        &mut self,
        track: &[PlannedFault],
        load: &LoadGenerator,
        authentik: &AuthentikSim,
        log: &InjectionLog,
    ) -> anyhow::Result<()> {
        for planned in track {
            let FaultKind::FutureDocument(kind) = planned.fault else {
                continue;
            };
            log.until(planned.at).await;
            let placed = match kind {
                FutureDocument::User => self.place_user(load, authentik).await,
                _ => self.place_one(kind, load).await,
            };
            let placed = placed.with_context(|| planned.fault.to_string())?;
            log.record(planned.fault, u64::from(placed.is_some()));
            self.placed.extend(placed);
        }
        Ok(())
    }

    async fn place_one(
        &self,
        kind: FutureDocument,
        load: &LoadGenerator,
    ) -> anyhow::Result<Option<Placed>> {
        let Some(created) = load.create_tenant("future").await else {
            return Ok(None);
        };
        let (tenant, created_at) = self.place_tenant(kind, &created.slug).await?;
        if kind == FutureDocument::Upstream {
            self.place_upstream().await?;
        }
        let (job, lock_key) = self.place_job(kind, tenant).await?;
        // A job behind the first, with the same lock. A tenant that cannot be read has no further requests.
        if kind != FutureDocument::Tenant {
            load.reconcile(&created.slug).await;
        }
        Ok(Some(Placed {
            kind,
            tenant,
            job,
            original: match kind {
                FutureDocument::Tenant => created_at,
                _ => lock_key,
            },
            state_before_repair: None,
        }))
    }

    async fn place_upstream(&self) -> anyhow::Result<()> {
        let unknown = doc! { "$set": { "paused": UNKNOWN } };
        self.primary
            .run(async |database| {
                let upstreams = database.collection::<Document>("upstreams");
                upstreams
                    .update_one(doc! { "_id": UNKNOWN }, unknown.clone())
                    .upsert(true)
                    .await
            })
            .await?;
        Ok(())
    }

    /// Id of the tenant, and the value that its field has had.
    async fn place_tenant(
        &self,
        kind: FutureDocument,
        slug: &str,
    ) -> anyhow::Result<(TenantId, Bson)> {
        let by_slug = doc! { "slug": slug };
        let tenant = self
            .primary
            .run(async |database| {
                let tenants = database.collection::<Document>("tenants");
                let found = tenants.find_one(by_slug.clone()).await?;
                found.ok_or_else(|| mongodb::error::Error::custom("the tenant is not replicated"))
            })
            .await?;
        if kind == FutureDocument::Tenant {
            // With a new revision: a write that has read the tenant before would replace the field again.
            let change = doc! { "$set": { "createdAt": UNKNOWN }, "$inc": { "revision": 1_i64 } };
            self.primary
                .run(async |database| {
                    let tenants = database.collection::<Document>("tenants");
                    tenants.update_one(by_slug.clone(), change.clone()).await
                })
                .await?;
        }
        let id = tenant.get("_id").context("a document has an id")?;
        let original = tenant.get("createdAt").cloned().unwrap_or(Bson::Null);
        Ok((bson::deserialize_from_bson(id.clone())?, original))
    }

    /// Id of the job, and the lock key that it should have.
    async fn place_job(
        &self,
        kind: FutureDocument,
        tenant: TenantId,
    ) -> anyhow::Result<(JobId, Bson)> {
        let args = ReconcileTenant {
            tenant_id: tenant,
            dry_run: false,
        };
        let new = NewJob::new(&args, "chaos", clock::now())?;
        let id = new.job().id;
        let mut job = serialize_to_document(new.job())?;
        // The request behind it is a job of its own.
        job.remove("uniqueKey");
        let lock_key = job.get("lockKey").cloned().unwrap_or(Bson::Null);
        match kind {
            FutureDocument::Tenant | FutureDocument::Upstream | FutureDocument::User => {}
            FutureDocument::LockKey => {
                job.insert("lockKey", doc! { "kind": UNKNOWN });
            }
            FutureDocument::Queue => {
                job.insert("queue", UNKNOWN);
            }
            FutureDocument::JobKind => {
                job.insert("kind", UNKNOWN);
            }
            FutureDocument::JobField => {
                job.insert("createdBy", doc! { "kind": UNKNOWN });
            }
            FutureDocument::JobCounter => {
                job.insert("attempt", UNKNOWN);
            }
            FutureDocument::ErrorCode => {
                job.insert("error", error_with_unknown_code());
            }
            FutureDocument::Step => {
                let step = doc! { "name": UNKNOWN, "state": "pending", "attempts": 0 };
                job.insert("steps", [step]);
            }
        }
        job.remove("_id");
        self.primary
            .run(async |database| {
                let jobs = database.collection::<Document>("jobs");
                let insert = doc! { "$setOnInsert": &job };
                jobs.update_one(doc! { "_id": id }, insert)
                    .upsert(true)
                    .await
            })
            .await?;
        Ok((id, lock_key))
    }

    /// Filter of the jobs that may stay open: those of a future build, and those of a tenant of a future build.
    pub(super) fn may_stay_open(&self) -> Document {
        let jobs = self.placed.iter().map(|placed| placed.job);
        let of_tenant = |placed: &&Placed| placed.kind == FutureDocument::Tenant;
        let tenants = self.placed.iter().filter(of_tenant);
        let tenants = tenants.map(|placed| placed.tenant);
        doc! { "$or": [
            { "_id": { "$in": jobs.collect::<Vec<_>>() } },
            { "tenantId": { "$in": tenants.collect::<Vec<_>>() } },
        ] }
    }

    /// Repairs all documents, as an operator would, and makes their jobs due.
    pub(super) async fn repair(&mut self) -> anyhow::Result<()> {
        for placed in &mut self.placed {
            placed.state_before_repair = Some(repair(&self.primary, placed).await?);
        }
        Ok(())
    }
}

fn error_with_unknown_code() -> Document {
    doc! {
        "code": UNKNOWN,
        "class": "upstream",
        "message": "A failure of a future build.",
        "detail": "",
        "retryable": true,
    }
}

/// Repairs a document. Returns the state that its job had before.
async fn repair(primary: &Primary, placed: &Placed) -> anyhow::Result<JobState> {
    let state = state_of(primary, placed.job).await?;
    repair_other(primary, placed).await?;
    let mut change = match placed.kind {
        FutureDocument::Tenant | FutureDocument::Upstream | FutureDocument::User => doc! {},
        FutureDocument::LockKey => doc! { "$set": { "lockKey": &placed.original } },
        FutureDocument::Queue => doc! { "$set": { "queue": ReconcileTenant::QUEUE.name() } },
        FutureDocument::JobKind => doc! { "$set": { "kind": ReconcileTenant::KIND } },
        FutureDocument::JobField => doc! { "$set": { "createdBy": "chaos" } },
        FutureDocument::JobCounter => doc! { "$set": { "attempt": 0 } },
        FutureDocument::ErrorCode => doc! { "$unset": { "error": "" } },
        FutureDocument::Step => doc! { "$pull": { "steps": { "name": UNKNOWN } } },
    };
    change.insert("$min", doc! { "runAt": clock::now() });
    let deadline = Instant::now() + REPAIR_TIMEOUT;
    while !state_of(primary, placed.job).await?.is_final() {
        // A running job belongs to its worker; one that no worker gives back is repaired all the same.
        let mut states = vec![JobState::Available.name()];
        if Instant::now() > deadline {
            states.push(JobState::Running.name());
        }
        let repaired = primary
            .run(async |database| {
                let jobs = database.collection::<Document>("jobs");
                let filter = doc! { "_id": placed.job, "state": { "$in": &states } };
                jobs.update_one(filter, change.clone()).await
            })
            .await?;
        if repaired.matched_count > 0 {
            break;
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(state)
}

/// Repairs a document that is not the job.
async fn repair_other(primary: &Primary, placed: &Placed) -> anyhow::Result<()> {
    let (collection, id, change) = match placed.kind {
        FutureDocument::Tenant => {
            let restore = doc! { "$set": { "createdAt": &placed.original } };
            ("tenants", placed.tenant.into(), Some(restore))
        }
        FutureDocument::Upstream => ("upstreams", Bson::from(UNKNOWN), None),
        FutureDocument::User => ("users", placed.original.clone(), None),
        _ => return Ok(()),
    };
    let by_id = doc! { "_id": id };
    primary
        .run(async |database| {
            let documents = database.collection::<Document>(collection);
            match &change {
                Some(change) => documents
                    .update_one(by_id.clone(), change.clone())
                    .await
                    .map(drop),
                None => documents.delete_one(by_id.clone()).await.map(drop),
            }
        })
        .await
}

async fn state_of(primary: &Primary, job: JobId) -> anyhow::Result<JobState> {
    let found = primary
        .run(async |database| {
            let jobs = database.collection::<Document>("jobs");
            jobs.find_one(doc! { "_id": job }).await
        })
        .await?;
    let job = found.context("the job was removed")?;
    job.get_str("state")?.parse().map_err(anyhow::Error::msg)
}
