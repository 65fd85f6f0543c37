//! Deletion of users.

use bson::Document;
use dezky_shared::{audit::Action, id::UserId, platform::change_feed::DocumentChange};
use mongodb::ClientSession;

use super::{UserDetail, detail, load_for_write, roles::ensure_owner_remains};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{EmptyBody, Operator, PathParam},
    response::ApiResponse,
    routes::{
        members::ensure_unmanaged,
        partner_team::{check_team_invariants, sync_team},
    },
    user_audit::{audited, target},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// Deletes a user and returns it
///
/// All permissions and invitations of the user end at once. The last owner of a tenant or a partner cannot be deleted, nor
/// a managed member of a tenant before the member is removed there: 409 `managed_member`.
/// The account at the identity provider stays: a later sign-in creates a new user with the permissions of the groups in
/// the new token. To lock a user out, remove the user from those groups, or revoke the permissions instead of deleting.
#[utoipa::path(delete, path = "/users/{id}", operation_id = "deleteUser", tag = "users", responses((status = 200, body = UserDetail)))]
pub(super) async fn delete(
    w: Write<Operator, EmptyBody, PathParam<UserId>>,
) -> Result<ApiResponse, ApiError> {
    w.run(&Delete { id: w.params.0 }).await
}

struct Delete {
    id: UserId,
}

impl Command for Delete {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let users = &app.db.users;
        let user = load_for_write(session, runner, self.id, |_| true).await?;
        if self.id == runner.caller.user.id {
            return Err(ProblemCode::OwnUser.into());
        }
        ensure_owner_remains(session, app, &user.owns()).await?;
        check_team_invariants(session, app, Some(&user), None).await?;
        ensure_unmanaged(session, app, &user).await?;
        app.db.invitations.revoke_all(session, &user).await?;
        app.db.saved_reports.delete_of(session, self.id).await?;
        let now = app.store.now();
        users.delete_with_tombstone(session, &user, now).await?;
        let event = runner
            .event(now, Action::UserDelete, target(&user), None)
            .with_changes(&audited(&user), &Document::new());
        let mut jobs = Vec::new();
        if let Some(partner) = user.partner_id {
            jobs.push(sync_team(runner, session, partner).await?);
        }
        let mut response = detail(app, &user).await?;
        response.etag = None;
        Ok(CommandOutput::complete(response, event)
            .with_jobs(jobs)
            .with_changed(DocumentChange::User(self.id)))
    }
}
