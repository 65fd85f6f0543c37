//! Outcomes of accepted actions: each is remembered until its job ends, which is then recorded as an event of its own.
//!
//! An event does not change, so that the outcome cannot be written into the one of the request. What is remembered is
//! written in the transaction of that event, and deleted in the one of the outcome: each outcome is recorded once.

use bson::{DateTime, doc};
use futures::{FutureExt as _, TryStreamExt as _};
use mongodb::ClientSession;
use serde::{Deserialize, Serialize};

use super::{AuditRepository, StoreError};
use crate::{
    audit::{Action, Actor, AuditEvent, Origin, Outcome},
    id::{AuditEventId, JobId},
    queue::job::JobState,
    store::{TransactionError, jobs::JobEnd, lenient::skip_undecodable},
};

/// An accepted action whose outcome is not recorded yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedAction {
    /// Event of the request.
    #[serde(rename = "_id")]
    pub event_id: AuditEventId,
    /// Job that carries the action out.
    pub job_id: JobId,
}

/// Another process recorded the outcomes meanwhile.
struct AlreadyRecorded;

impl AcceptedAction {
    /// The action of an event that a job carries out.
    pub(super) fn of(event: &AuditEvent) -> Option<Self> {
        let job_id = event
            .job_id
            .filter(|_| event.outcome == Outcome::Accepted)?;
        Some(Self {
            event_id: event.id,
            job_id,
        })
    }
}

impl AuditRepository {
    /// Remembers accepted actions, in the transaction of their events.
    pub(super) async fn await_outcomes(
        &self,
        session: &mut ClientSession,
        accepted: Vec<AcceptedAction>,
    ) -> Result<(), StoreError> {
        if !accepted.is_empty() {
            let inserted = self.accepted.insert_many(accepted);
            inserted.session(session).await?;
        }
        Ok(())
    }

    /// At most `limit` accepted actions after `after`, oldest first.
    pub async fn list_accepted(
        &self,
        after: Option<AuditEventId>,
        limit: i64,
    ) -> Result<Vec<AcceptedAction>, StoreError> {
        let filter = match after {
            Some(after) => doc! { "_id": { "$gt": after } },
            None => doc! {},
        };
        let found = self.accepted.find(filter).sort(doc! { "_id": 1 });
        found.limit(limit).await?.try_collect().await
    }

    /// Follows an action to the job that superseded its own.
    pub async fn follow_job(&self, action: &AcceptedAction, to: JobId) -> Result<(), StoreError> {
        let filter = doc! { "_id": action.event_id };
        let update = doc! { "$set": { "jobId": to } };
        self.accepted.update_one(filter, update).await?;
        Ok(())
    }

    /// Records the outcomes of these actions, whose jobs have ended, in one transaction. An action without an end, whose job
    /// was deleted, is forgotten. One of a newer build is left to that, or until its job is deleted.
    pub async fn record_outcomes(
        &self,
        ended: &[(AcceptedAction, Option<JobEnd>)],
        now: DateTime,
    ) -> Result<(), StoreError> {
        let ids: Vec<AuditEventId> = ended.iter().map(|(action, _)| action.event_id).collect();
        let found = self.events.clone_with_type();
        let found = found.find(doc! { "_id": { "$in": ids } }).await?;
        let mut events: Vec<AuditEvent> = skip_undecodable(found).try_collect().await?;
        events.retain(|event| event.action != Action::Unknown);
        let (mut ids, mut outcomes) = (Vec::new(), Vec::new());
        for (action, end) in ended {
            let event = events.iter().find(|event| event.id == action.event_id);
            match (event, end) {
                (Some(event), Some(end)) => {
                    outcomes.push(outcome_of(event, action.job_id, end, now));
                }
                (None, Some(_)) => continue,
                (_, None) => {}
            }
            ids.push(action.event_id);
        }
        if ids.is_empty() {
            return Ok(());
        }
        let written =
            self.store
                .transaction((self, &ids, &outcomes), |session, (this, ids, outcomes)| {
                    async move {
                        let ended = doc! { "_id": { "$in": (*ids).clone() } };
                        let deleted = this.accepted.delete_many(ended).session(&mut *session);
                        if deleted.await?.deleted_count
                            != u64::try_from(ids.len()).unwrap_or(u64::MAX)
                        {
                            return Err(TransactionError::Aborted(AlreadyRecorded));
                        }
                        this.record_all(session, outcomes).await?;
                        Ok(())
                    }
                    .boxed()
                });
        match written.await {
            Ok(()) | Err(TransactionError::Aborted(AlreadyRecorded)) => Ok(()),
            Err(TransactionError::Store(error)) => Err(error),
        }
    }
}

/// The event of the end of an action's job.
fn outcome_of(accepted: &AuditEvent, job_id: JobId, end: &JobEnd, now: DateTime) -> AuditEvent {
    let outcome = match end.state {
        JobState::Discarded => Outcome::Failed,
        JobState::Cancelled => Outcome::Cancelled,
        _ => Outcome::Done,
    };
    let target = accepted.target.clone();
    let mut event = AuditEvent::new(
        now,
        Actor::system(),
        accepted.action,
        target,
        Origin::default(),
    );
    event.tenant_id = accepted.tenant_id;
    event.job_id = Some(job_id);
    event.outcome = outcome;
    event
        .origin
        .request_id
        .clone_from(&accepted.origin.request_id);
    if let Some(error) = end.error.as_ref().filter(|_| outcome != Outcome::Done) {
        let error = doc! { "code": error.code.name(), "message": &error.message };
        event.after.insert("error", error);
    }
    event
}
