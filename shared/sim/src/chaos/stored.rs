//! Contents of MongoDB at the end of a run.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bson::{Bson, Document, doc};
use dezky_shared::{
    app::{App, AppStatus},
    audit::AuditEvent,
    domain::Domain,
    id::TenantId,
    member::{Member, MemberStatus},
    platform::clock,
    queue::{
        args::{ProvisionMember, RecheckDomain, RemoveMember},
        job::{Job, JobArgs as _, JobState},
    },
    store::schedule_ledger::{LedgerEntry, ScheduleState},
    tenant::{DesiredState, PerUpstream, ProvisioningState, Tenant},
    upstream::Upstream,
    user::User,
};
use futures::TryStreamExt as _;
use mongodb::{Client, Collection, Database};
use serde::de::DeserializeOwned;

use super::{DATABASE, drift::is_done};

/// All relevant collections.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) jobs: Vec<Job>,
    pub(super) tenants: Vec<Tenant>,
    pub(super) domains: Vec<Domain>,
    pub(super) members: Vec<Member>,
    pub(super) apps: Vec<App>,
    pub(super) users: Vec<User>,
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
            members: all(&database, "members").await?,
            apps: all(&database, "apps").await?,
            users: all(&database, "users").await?,
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

    /// Slugs of the suspended tenants with open jobs of members. A guest leaves the space of such a tenant once it is resumed:
    /// until then the space is disabled.
    pub(super) async fn suspended_with_member_jobs(
        primary: &Client,
    ) -> mongodb::error::Result<Vec<String>> {
        let database = primary.database(DATABASE);
        let jobs: Collection<Document> = database.collection("jobs");
        let open = doc! {
            "kind": { "$in": [ProvisionMember::KIND, RemoveMember::KIND] },
            "state": { "$in": ["available", "running"] },
        };
        let waiting = jobs.distinct("tenantId", open).await?;
        let tenants: Collection<Document> = database.collection("tenants");
        let suspended = doc! { "_id": { "$in": waiting }, "status": "suspended" };
        let slugs = tenants.distinct("slug", suspended).await?;
        Ok(slugs
            .iter()
            .filter_map(Bson::as_str)
            .map(str::to_owned)
            .collect())
    }

    /// Resources that are not in their desired state although no job is due, by the slug of the tenant.
    pub(super) fn unconverged(&self) -> BTreeMap<String, Vec<String>> {
        let now = clock::now();
        let tenants = self.tenants_by_id();
        let mut left: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut push = |tenant: TenantId, what: String| {
            let slug = &tenants[&tenant].slug;
            let what = format!("{what} of {slug} is not in its desired state");
            left.entry(slug.clone()).or_default().push(what);
        };
        let removing = self.domains.iter().filter(|domain| domain.removing);
        for domain in removing {
            push(domain.tenant_id, format!("the domain {}", domain.name));
        }
        for tenant in &self.tenants {
            let status = &tenant.provisioning_status;
            if !is_converged(*status) {
                push(tenant.id, format!("the document ({status:?})"));
            }
        }
        for member in self.present_members() {
            let status = &member.provisioning_status;
            let desired_state = member.desired_state_in(tenants[&member.tenant_id], now);
            let is_settled =
                member.status != MemberStatus::Pending || desired_state == DesiredState::Suspended;
            if !is_settled || desired_state == DesiredState::Gone || !is_converged(*status) {
                let state = format!("({}, {status:?})", member.status);
                push(member.tenant_id, format!("{} {state}", member.email));
            }
        }
        for app in &self.apps {
            let settled = match tenants[&app.tenant_id].desired_state(now) {
                DesiredState::Active => Some(AppStatus::Active),
                DesiredState::Suspended => Some(AppStatus::Suspended),
                DesiredState::Gone => None,
            };
            if Some(app.status) != settled {
                let state = app.status.name();
                push(app.tenant_id, format!("the app {} ({state})", app.slug));
            }
        }
        left
    }

    /// Members that are not removed.
    pub(super) fn present_members(&self) -> impl Iterator<Item = &Member> {
        let members = self.members.iter();
        members.filter(|member| member.status != MemberStatus::Removed)
    }

    /// Tenants by id.
    pub(super) fn tenants_by_id(&self) -> HashMap<TenantId, &Tenant> {
        self.tenants.iter().map(|it| (it.id, it)).collect()
    }

    /// Jobs by id.
    pub(super) fn jobs_by_id(&self) -> JobsById<'_> {
        let jobs = self.jobs.iter();
        JobsById(jobs.map(|job| (job.id.to_string(), job)).collect())
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

/// Jobs by id.
#[derive(Debug)]
pub(super) struct JobsById<'a>(HashMap<String, &'a Job>);

impl JobsById<'_> {
    pub(super) fn get(&self, id: &str) -> Option<&Job> {
        self.0.get(id).copied()
    }

    /// State of a job, or of the job that superseded it.
    pub(super) fn outcome(&self, id: &str) -> Option<JobState> {
        let mut job = self.get(id)?;
        while let Some(by) = job.superseded_by {
            job = self.get(&by.to_string())?;
        }
        Some(job.state)
    }
}

fn is_converged(status: PerUpstream<ProvisioningState>) -> bool {
    let mut upstreams = Upstream::ALL.into_iter();
    upstreams.all(|upstream| is_done(*status.get(upstream)))
}

pub(super) fn is_item_event(event: &AuditEvent) -> bool {
    let of_whole = ["jobOperationId", "memberImportId"];
    of_whole.iter().any(|field| event.after.contains_key(field))
}

/// All documents of a collection.
pub(super) async fn all<T: DeserializeOwned + Send + Sync>(
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
