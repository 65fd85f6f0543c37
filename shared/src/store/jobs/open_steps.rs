//! Open steps of a job that ends outside its handler: they fail in the conditions of the document that the job reports to.

use bson::{DateTime, Document, doc};
use mongodb::ClientSession;

use super::JobRepository;
use crate::{
    id::MemberId,
    queue::{
        job::{Job, JobFailure, JobState},
        reporting::{others_reporting_to_member, others_reporting_to_tenant},
    },
    store::{StoreError, VersionedRepository as _, is_undecodable},
};

impl JobRepository {
    /// Fails the open steps of a job that ended outside its handler in the conditions of its tenant or member, which would
    /// otherwise stay `pending` without a job. Another job that will still run for them reports for itself.
    pub async fn fail_open_steps(
        &self,
        session: &mut ClientSession,
        job: &Job,
        failure: &JobFailure,
        now: DateTime,
    ) -> Result<(), StoreError> {
        if let Some(member_id) = job.member_id() {
            return self
                .fail_member(session, job, member_id, failure, now)
                .await;
        }
        let Some(tenant_id) = job.tenant_id else {
            return Ok(());
        };
        if !job.reports_to_tenant() {
            return Ok(());
        }
        // Locked before the query for other jobs: two jobs ending concurrently would each rely on the other.
        let tenant = self.tenants.find_for_update(session, tenant_id).await;
        let Some(mut tenant) = if_readable(tenant, job)? else {
            return Ok(());
        };
        let others = others_reporting_to_tenant(tenant_id, job.id);
        if self.any_will_report(session, others).await? {
            return Ok(());
        }
        tenant.provisioning_mut().fail_waiting(failure, now);
        tenant.updated_at = now;
        self.tenants.save(session, &tenant).await
    }

    /// As [`fail_open_steps`](Self::fail_open_steps), for a job about a member.
    async fn fail_member(
        &self,
        session: &mut ClientSession,
        job: &Job,
        member_id: MemberId,
        failure: &JobFailure,
        now: DateTime,
    ) -> Result<(), StoreError> {
        // Locked before the query for other jobs, as a tenant is.
        let member = self.members.find_for_update(session, member_id).await;
        let Some(mut member) = if_readable(member, job)? else {
            return Ok(());
        };
        let others = others_reporting_to_member(member.tenant_id, member_id, job.id);
        if self.any_will_report(session, others).await? {
            return Ok(());
        }
        member.provisioning_mut().fail_waiting(failure, now);
        member.updated_at = now;
        self.members.save(session, &member).await
    }

    /// Whether one of `others` is available, or running with steps to attempt.
    async fn any_will_report(
        &self,
        session: &mut ClientSession,
        mut others: Document,
    ) -> Result<bool, StoreError> {
        let states = vec![
            doc! { "state": JobState::Available.name() },
            doc! { "state": JobState::Running.name(), "$nor": [all_steps_over()] },
        ];
        others.insert("$or", states);
        // Not decoded: a job of a newer build is on its way, too.
        let found = self
            .jobs
            .clone_with_type::<Document>()
            .find_one(others)
            .projection(doc! { "_id": 1 })
            .session(session)
            .await?;
        Ok(found.is_some())
    }
}

/// Matches a job that has begun its steps and attempts none of them again. Running, it only waits for its settlement and
/// reports nothing more, also about a desired state that changed since.
fn all_steps_over() -> Document {
    let done = doc! { "state": { "$in": ["ok", "skipped"] } };
    let permanently_failed =
        doc! { "state": { "$in": ["error", "unknown"] }, "nextAt": { "$exists": false } };
    let open = doc! { "$elemMatch": { "$nor": [done, permanently_failed] } };
    doc! { "steps.0": { "$exists": true }, "steps": { "$not": open } }
}

/// The document that `job` reports to. `None` also if this build cannot read it: otherwise the job could not end, and the
/// lock of a running one would be held for ever.
fn if_readable<T>(
    found: Result<Option<T>, StoreError>,
    job: &Job,
) -> Result<Option<T>, StoreError> {
    match found {
        Err(error) if is_undecodable(&error) => {
            tracing::error!(job.id = %job.id, job.kind = %job.kind, %error, "Cannot read the document of a job; ending the job without a report");
            Ok(None)
        }
        found => found,
    }
}
