//! Update of users.

use std::collections::BTreeMap;

use bson::DateTime;
use dezky_shared::{
    audit::Action,
    id::{PartnerId, UserId},
    platform::change_feed::DocumentChange,
    store::VersionedRepository as _,
    tenant::Tenant,
    user::{PartnerRole, PlatformRole, User},
};
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    UserDetail, detail, load_for_write,
    roles::{self, ResolvedRole, Roles, ensure_owner_remains},
};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{Operator, PathParam, Validate},
    response::ApiResponse,
    routes::{
        members::sync_members,
        partner_team::{check_team_invariants, sync_team},
    },
    user_audit::{audited, audited_in, target},
    validate::{self, FieldPatch, Validator, double_option, unique_keys, user},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// Fields to change. Missing fields stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = UserPatch)]
pub(super) struct PatchRequest {
    /// E-mail address. A newer token can change it.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, format = Email, max_length = 254)]
    email: Option<String>,
    /// Name. A newer token can change it.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, min_length = 1, max_length = 120)]
    name: Option<String>,
    /// Roles by tenant id or slug: `member`, `admin`, `owner`, or null for none.
    #[serde(default, deserialize_with = "unique_keys")]
    tenant_roles: BTreeMap<String, Option<String>>,
    /// Role as an operator: `admin`, `support` (reads everything, and requeues jobs) or `viewer` (reads everything); null for
    /// none.
    #[serde(default)]
    #[schema(value_type = Option<PlatformRole>)]
    platform_role: FieldPatch<String>,
    /// Whether the user is an operator with all rights. Not together with `platformRole`.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = bool)]
    platform_admin: Option<bool>,
    /// Partner whose staff the user belongs to; null for none.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Uuid)]
    partner_id: FieldPatch<String>,
    /// Access level at the partner: `owner`, `manager`, `support` or `read-only` (default at a new partner).
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = PartnerRole)]
    partner_role: Option<String>,
}

/// A validated patch.
#[derive(Debug)]
pub(super) struct Patch {
    email: Option<String>,
    name: Option<String>,
    roles: Roles,
    platform_role: FieldPatch<PlatformRole>,
    platform_admin: Option<bool>,
    partner_id: FieldPatch<PartnerId>,
    partner_role: Option<PartnerRole>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(raw: PatchRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        if raw.platform_admin.is_some() && !raw.platform_role.is_keep() {
            validator.push(two_platform_roles());
        }
        let patch = Self {
            email: raw
                .email
                .and_then(|text| validator.check("/email", validate::email(&text))),
            name: raw
                .name
                .and_then(|text| validator.check("/name", validate::name(&text))),
            roles: roles::roles(&mut validator, raw.tenant_roles),
            platform_role: raw
                .platform_role
                .check(&mut validator, "/platformRole", |role| {
                    user::platform_role(&role)
                }),
            platform_admin: raw.platform_admin,
            partner_id: raw
                .partner_id
                .check(&mut validator, "/partnerId", |id| validate::id(&id)),
            partner_role: raw
                .partner_role
                .and_then(|text| validator.check("/partnerRole", user::partner_role(&text))),
        };
        validator.finish(Some(patch))
    }
}

/// Updates a user
///
/// Groups in tokens do not change the permissions set here. A change of `partnerId` revokes every invitation of the
/// user. The last owner of a tenant or a partner cannot be removed: 409 `last_owner`. The role of a managed member can be
/// changed, and not taken away or given back: 409 `managed_member`.
#[utoipa::path(
    patch, path = "/users/{id}", operation_id = "updateUser", tag = "users", request_body = PatchRequest,
    responses((status = 200, body = UserDetail)),
)]
pub(super) async fn update(
    w: Write<Operator, Patch, PathParam<UserId>>,
) -> Result<ApiResponse, ApiError> {
    let PathParam(id) = w.params;
    let patch = &w.body;
    let roles = roles::resolve(&w.app, &patch.roles, patch.partner_id.value().copied()).await?;
    let change = UserChange { id, patch, roles };
    w.run(&change).await
}

struct UserChange<'a> {
    id: UserId,
    patch: &'a Patch,
    roles: Vec<ResolvedRole>,
}

impl UserChange<'_> {
    fn apply(&self, user: &mut User, now: DateTime) -> Result<(), ApiError> {
        let patch = self.patch;
        if let Some(email) = &patch.email {
            user.email.clone_from(email);
        }
        if let Some(name) = &patch.name {
            user.name.clone_from(name);
        }
        for resolved in &self.roles {
            user.set_role(resolved.tenant.id, resolved.role, now);
        }
        if let Some(flag) = patch.platform_admin {
            user.set_platform_admin(flag, now);
        }
        if !patch.platform_role.is_keep() {
            user.set_platform_role(patch.platform_role.value().copied(), now);
        }
        let partner_before = user.partner_id;
        patch.partner_id.apply(&mut user.partner_id);
        if user.partner_id != partner_before {
            user.partner_role = None;
        }
        if patch.partner_role.is_some() {
            if user.partner_id.is_none() {
                return Err(ApiError::invalid(vec![without_partner()]));
            }
            user.partner_role = patch.partner_role;
        }
        Ok(())
    }

    /// The tenant whose trail records the change: if only a role in it changed. Otherwise the platform's trail does.
    fn trail(&self, before: &User, user: &User) -> Option<&Tenant> {
        let without_roles = |user: &User| {
            let mut fields = audited(user);
            fields.remove("tenantRoles");
            fields
        };
        match &self.roles[..] {
            [only] if without_roles(before) == without_roles(user) => Some(&only.tenant),
            _ => None,
        }
    }
}

/// The error of two fields for one role.
pub(super) fn two_platform_roles() -> FieldError {
    let message = "Set platformRole or platformAdmin, not both.";
    FieldError::at("/platformAdmin", "conflicts_with_platform_role", message)
}

/// The error of an access level without a partner.
pub(super) fn without_partner() -> FieldError {
    let message = "partnerRole requires partnerId.";
    FieldError::at("/partnerRole", "needs_partner", message)
}

impl Command for UserChange<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let users = &app.db.users;
        let before = load_for_write(session, runner, self.id, |_| true).await?;
        let now = app.store.now();
        let mut user = before.clone();
        self.apply(&mut user, now)?;
        if user == before {
            let response = detail(app, &before).await?;
            return Ok(CommandOutput::unchanged(response));
        }
        if before.platform_admin && !user.platform_admin && self.id == runner.caller.user.id {
            return Err(ProblemCode::OwnAdminFlag.into());
        }
        ensure_owner_remains(session, app, &(&before.owns() - &user.owns())).await?;
        if user.partner_id != before.partner_id {
            // Open invitations of the previous partner must not override this change.
            app.db.invitations.revoke_all(session, &before).await?;
        }
        check_team_invariants(session, app, Some(&before), Some(&user)).await?;
        sync_members(session, app, &before, &user, now).await?;
        users.save_changed(session, &before, &mut user, now).await?;

        let trail = self.trail(&before, &user);
        let fields = |user: &User| match trail {
            None => audited(user),
            Some(tenant) => audited_in(tenant, user),
        };
        let event = runner
            .event(now, Action::UserUpdate, target(&user), trail)
            .with_changes(&fields(&before), &fields(&user));
        let mut jobs = Vec::new();
        if user.partner_id != before.partner_id {
            for partner in [before.partner_id, user.partner_id].into_iter().flatten() {
                jobs.push(sync_team(runner, session, partner).await?);
            }
        }
        let response = detail(app, &user).await?;
        Ok(CommandOutput::complete(response, event)
            .with_jobs(jobs)
            .with_changed(DocumentChange::User(self.id)))
    }
}
