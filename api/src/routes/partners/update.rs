//! Update of a partner, by operators or by its team.

use dezky_shared::{
    audit::Action,
    partner::Partner,
    platform::change_feed::DocumentChange,
    store::{Updated, VersionedRepository as _, partners::PartnerRepository},
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;

use super::{
    PartnerView, find,
    patch::{Patch, PatchRequest},
};
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{Operator, PathParam},
    keyed_mutex::partner_key,
    response::ApiResponse,
    routes::partner_team::sync_team,
    write::{Command, CommandError, CommandOutput, CommandRunner, Resource, Rollback, Write},
};

/// A change of a partner.
pub(in crate::routes) struct PartnerChange<'a, V> {
    /// The partner, as the request was authorized.
    pub(in crate::routes) partner: &'a Partner,
    /// Audited action.
    pub(in crate::routes) action: Action,
    /// Edits the stored partner, or rejects the change.
    pub(in crate::routes) edit: &'a (dyn Fn(&mut Partner) -> Result<(), ApiError> + Send + Sync),
    /// Representation in the response.
    pub(in crate::routes) view: fn(Partner) -> V,
}

impl<V: Serialize> PartnerChange<'_, V> {
    /// Runs the change, one at a time per partner.
    pub(in crate::routes) async fn execute(
        &self,
        runner: &CommandRunner<'_>,
    ) -> Result<ApiResponse, ApiError> {
        // The colon separates the key from those of tenants, which are slugs.
        let key = partner_key(self.partner.id);
        Ok(runner.run_serialized(&key, None, self).await?.response)
    }

    fn response(&self, partner: Partner) -> ApiResponse {
        let etag = ETag::from(&partner);
        ApiResponse::new(StatusCode::OK, etag, &(self.view)(partner))
    }
}

impl<V: Serialize> Command for PartnerChange<'_, V> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let id = self.partner.id;
        let partners = &app.db.partners;
        let now = app.store.now();
        let edit = |partner: &mut Partner| {
            runner.if_match.check(partner.etag())?;
            (self.edit)(partner).map_err(CommandError::from)
        };
        let updated = partners.update(session, id, now, edit).await?;
        let Updated { before, after } = updated.ok_or(ProblemCode::NotFound)?;
        if before == after {
            return Ok(CommandOutput::unchanged(self.response(after)));
        }
        let mut jobs = Vec::new();
        if after.status != before.status {
            jobs.push(sync_team(runner, session, id).await?);
        }
        let event = runner
            .event(now, self.action, after.target(), None)
            .with_changes(&before.audited()?, &after.audited()?);
        Ok(CommandOutput::complete(self.response(after), event)
            .with_jobs(jobs)
            .with_changed(DocumentChange::Partner(id)))
    }
}

impl Resource for Partner {
    const KIND: &'static str = "partner";
    const PATH: &'static str = "/partners";
    type View = PartnerView;
    type Repository = PartnerRepository;

    fn name(&self) -> String {
        self.slug.clone()
    }
}

/// Updates a partner
#[utoipa::path(
    patch, path = "/partners/{slug}", operation_id = "updatePartner", tag = "partners", request_body = PatchRequest,
    responses((status = 200, body = PartnerView)),
)]
pub(super) async fn update(
    w: Write<Operator, Patch, PathParam<String>>,
) -> Result<ApiResponse, ApiError> {
    let change = PartnerChange {
        partner: &find(&w.app, &w.params.0).await?,
        action: Action::PartnerUpdate,
        edit: &|partner| w.body.apply(partner),
        view: PartnerView::from,
    };
    change.execute(&w.runner()).await
}
