//! Role changes and removal of people without a member: rights alone.

use axum::response::{IntoResponse as _, Response};
use dezky_shared::{
    audit::Action,
    id::UserId,
    platform::change_feed::DocumentChange,
    store::VersionedRepository as _,
    tenant::Tenant,
    user::{Role, User},
};
use mongodb::ClientSession;

use super::{Person, respond, rights::ensure_may_manage};
use crate::{
    error::{ApiError, ProblemCode},
    routes::users::{ensure_owner_remains, load_for_write},
    user_audit::{audited_in, target},
    write::{Command, CommandOutput, CommandRunner, Rollback},
};

/// A change of the role of a person without a member.
pub(super) struct RoleChange<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) id: UserId,
    /// The new role; `None` removes the person.
    pub(super) role: Option<Role>,
}

impl RoleChange<'_> {
    /// Runs the change. `held` is the current role.
    pub(super) async fn execute(
        &self,
        runner: &CommandRunner<'_>,
        held: Role,
    ) -> Result<Response, ApiError> {
        // Checked here too, because a replay does not run the command.
        self.allow(runner, held)?;
        Ok(runner.run(self).await?.response.into_response())
    }

    fn allow(&self, runner: &CommandRunner<'_>, held: Role) -> Result<(), ApiError> {
        if self.role == Some(held) {
            return Ok(());
        }
        if self.role.is_none() && self.id == runner.caller.user.id {
            return Err(ProblemCode::OwnAccount.into());
        }
        ensure_may_manage(runner.caller, self.tenant.id, Some(held), self.role)
    }
}

impl Command for RoleChange<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let users = &app.db.users;
        let has_role = |user: &User| user.role_in(self.tenant.id).is_some();
        let before = load_for_write(session, runner, self.id, has_role).await?;
        let held = before.role_in(self.tenant.id);
        let held = held.ok_or(ProblemCode::NotFound)?;
        self.allow(runner, held)?;
        let now = app.store.now();
        let mut user = before.clone();
        user.set_role(self.tenant.id, self.role, now);
        if user.memberships == before.memberships {
            let response = respond(&Person::Known(before, held), None);
            return Ok(CommandOutput::unchanged(response));
        }
        let membership = before.memberships.get(&self.tenant.id);
        if membership.is_some_and(|membership| membership.member_id.is_some()) {
            // Adopted since the request began.
            return Err(ProblemCode::ManagedMember.into());
        }
        ensure_owner_remains(session, app, &(&before.owns() - &user.owns())).await?;
        users.save_changed(session, &before, &mut user, now).await?;

        let event = runner
            .event(now, Action::UserUpdate, target(&user), Some(self.tenant))
            .with_changes(
                &audited_in(self.tenant, &before),
                &audited_in(self.tenant, &user),
            );
        let response = respond(&Person::Known(user, self.role.unwrap_or(held)), None);
        Ok(CommandOutput::complete(response, event).with_changed(DocumentChange::User(self.id)))
    }
}
