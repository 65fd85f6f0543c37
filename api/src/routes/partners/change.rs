//! A change to one partner, by operators or by its staff.

use bson::Document;
use dezky_shared::{
    audit::{Action, Target},
    partner::Partner,
    platform::change_feed::DocumentChange,
    store::{TransactionError, to_document},
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;

use crate::{
    error::{ApiError, ProblemCode},
    extract::{ETag, IfMatch},
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    routes::partner_team::sync_team,
};

/// What is to be done to a partner, and how it is shown then.
pub(in crate::routes) struct PartnerChange<'a, V> {
    /// The partner, as it was when the caller was let in.
    pub(in crate::routes) partner: &'a Partner,
    /// Which versions are meant.
    pub(in crate::routes) if_match: &'a IfMatch,
    /// What it is called.
    pub(in crate::routes) action: Action,
    /// Changes the partner as it is now, or refuses.
    pub(in crate::routes) edit: &'a (dyn Fn(&mut Partner) -> Result<(), ApiError> + Send + Sync),
    /// What the caller is shown of it.
    pub(in crate::routes) view: fn(Partner) -> V,
}

impl<V: Serialize> PartnerChange<'_, V> {
    /// Records the change. One that changes nothing is answered and leaves no trace.
    pub(in crate::routes) async fn record(
        &self,
        recorder: &CommandRunner<'_>,
    ) -> Result<ApiResponse, ApiError> {
        // No slug of a tenant holds a colon.
        let line = format!("partner:{}", self.partner.slug);
        let in_turn = recorder.serialized_on(&line, None).await?;
        Ok(in_turn.record(self).await?.answer)
    }

    fn answer(&self, partner: Partner) -> Result<ApiResponse, TransactionError<CommandError>> {
        let etag = ETag::from(&partner);
        ApiResponse::new(StatusCode::OK, etag, &(self.view)(partner)).map_err(reject)
    }
}

impl<V: Serialize> Command for PartnerChange<'_, V> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let app = recorder.app;
            let id = self.partner.id;
            let locked = app.partners.find_for_update(session, id).await?;
            let locked = locked.ok_or_else(|| reject(ProblemCode::NotFound))?;
            let known = Partner {
                revision: locked.revision - 1,
                ..locked
            };
            self.if_match.check(ETag::from(&known)).map_err(reject)?;
            let mut partner = known.clone();
            (self.edit)(&mut partner).map_err(reject)?;
            if partner == known {
                app.partners.unlock(session, id).await?;
                return Ok(CommandOutput {
                    answer: self.answer(known)?,
                    jobs: Vec::new(),
                    changed: Vec::new(),
                    events: Vec::new(),
                });
            }
            let now = app.store.now();
            partner.revision += 1;
            partner.updated_at = now;
            app.partners.save(session, &partner).await?;
            let mut jobs = Vec::new();
            if partner.status != known.status {
                // Its group and the sessions of its staff follow.
                jobs.push(sync_team(recorder, session, id).await?);
            }
            let mut event = recorder
                .event(now, self.action, target(&partner), None)
                .with_changes(&audited(&known)?, &audited(&partner)?);
            event.job_id = jobs.first().map(|job| job.id);
            Ok(CommandOutput {
                answer: self.answer(partner)?,
                jobs,
                changed: vec![DocumentChange::Partner(id)],
                events: vec![event],
            })
        }
        .boxed()
    }
}

/// A partner as the audit trail names it.
pub(super) fn target(partner: &Partner) -> Target {
    Target {
        kind: "partner".to_owned(),
        id: partner.id.to_string(),
        name: partner.slug.clone(),
    }
}

/// What the audit trail shows of a partner: what callers write.
pub(super) fn audited(partner: &Partner) -> Result<Document, TransactionError<CommandError>> {
    let mut document = to_document(partner)?;
    let not_by_callers = [
        "_id",
        "revision",
        "createdAt",
        "updatedAt",
        "authentikGroupId",
    ];
    for field in not_by_callers {
        document.remove(field);
    }
    Ok(document)
}
