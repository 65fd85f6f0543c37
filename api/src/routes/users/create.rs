//! Creation of users before they sign in.

use std::collections::BTreeMap;

use bson::{DateTime, Document};
use dezky_shared::{
    audit::Action,
    id::{PartnerId, UserId},
    store::VersionedRepository as _,
    user::{PartnerRole, PlatformRole, User},
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    UserDetail, detail,
    roles::{self, ResolvedRole, Roles},
    update::{two_platform_roles, without_partner},
};
use crate::{
    config::Config,
    error::{ApiError, FieldError},
    extract::{Operator, Validate},
    response::ApiResponse,
    routes::partner_team::{check_team_invariants, sync_team},
    user_audit::{audited, target},
    validate::{self, Validator, unique_keys, user},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// A new user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = UserCreate)]
pub(super) struct CreateRequest {
    /// Id at the identity provider: the `sub` of the user's tokens. The user is identified by it alone.
    #[schema(format = Uuid)]
    authentik_subject_id: String,
    /// E-mail address. A later token can change it.
    #[schema(format = Email, max_length = 254, example = "ada@example.com")]
    email: String,
    /// Name. A later token can change it.
    #[schema(min_length = 1, max_length = 120)]
    name: String,
    /// Roles by tenant id or slug: `member`, `admin` or `owner`.
    #[serde(default, deserialize_with = "unique_keys")]
    tenant_roles: BTreeMap<String, String>,
    /// Role as an operator: `admin`, `support` (reads everything, and requeues jobs) or `viewer` (reads everything).
    #[schema(value_type = Option<PlatformRole>)]
    platform_role: Option<String>,
    /// Whether the user is an operator with all rights. By default, the groups in the token decide. Not together with
    /// `platformRole`.
    platform_admin: Option<bool>,
    /// Partner whose staff the user belongs to.
    #[schema(format = Uuid)]
    partner_id: Option<String>,
    /// Access level at the partner: `owner`, `manager`, `support` or `read-only` (default).
    #[schema(value_type = Option<PartnerRole>)]
    partner_role: Option<String>,
}

/// A validated new user.
#[derive(Debug)]
pub(super) struct NewUser {
    subject: String,
    email: String,
    name: String,
    roles: Roles,
    platform_role: Option<PlatformRole>,
    platform_admin: Option<bool>,
    partner_id: Option<PartnerId>,
    partner_role: Option<PartnerRole>,
}

impl Validate for NewUser {
    type Raw = CreateRequest;

    fn validate(raw: CreateRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let subject = user::subject(&raw.authentik_subject_id);
        let subject = validator.check("/authentikSubjectId", subject);
        let email = validator.check("/email", validate::email(&raw.email));
        let name = validator.check("/name", validate::name(&raw.name));
        let texts = raw.tenant_roles.into_iter();
        let roles = texts.map(|(tenant, role)| (tenant, Some(role))).collect();
        let roles = roles::roles(&mut validator, roles);
        if raw.partner_role.is_some() && raw.partner_id.is_none() {
            validator.push(without_partner());
        }
        if raw.platform_admin.is_some() && raw.platform_role.is_some() {
            validator.push(two_platform_roles());
        }
        let platform_role = raw
            .platform_role
            .and_then(|text| validator.check("/platformRole", user::platform_role(&text)));
        let partner_id = raw
            .partner_id
            .and_then(|id| validator.check("/partnerId", validate::id(&id)));
        let partner_role = raw
            .partner_role
            .and_then(|text| validator.check("/partnerRole", user::partner_role(&text)));
        let whole = subject.zip(email).zip(name);
        validator.finish(whole.map(|((subject, email), name)| Self {
            subject,
            email,
            name,
            roles,
            platform_role,
            platform_admin: raw.platform_admin,
            partner_id,
            partner_role,
        }))
    }
}

/// Creates a user before the first sign-in
///
/// The user is linked to the account with this id. Groups in tokens do not change the permissions set here.
#[utoipa::path(post, path = "/users", operation_id = "createUser", tag = "users", request_body = CreateRequest, responses((status = 201, body = UserDetail)))]
pub(super) async fn create(w: Write<Operator, NewUser>) -> Result<ApiResponse, ApiError> {
    let new = &w.body;
    let roles = roles::resolve(&w.app, &new.roles, new.partner_id).await?;
    let create = Create {
        id: UserId::new(),
        new,
        roles,
    };
    w.run(&create).await
}

struct Create<'a> {
    id: UserId,
    new: &'a NewUser,
    roles: Vec<ResolvedRole>,
}

impl Create<'_> {
    /// `first_seen` with the requested permissions.
    fn user(&self, first_seen: User, now: DateTime) -> User {
        let new = self.new;
        let mut user = User {
            id: self.id,
            partner_id: new.partner_id,
            partner_role: new.partner_role,
            ..first_seen
        };
        for resolved in &self.roles {
            user.set_role(resolved.tenant.id, resolved.role, now);
        }
        if let Some(flag) = new.platform_admin {
            user.set_platform_admin(flag, now);
        }
        if new.platform_role.is_some() {
            user.set_platform_role(new.platform_role, now);
        }
        user
    }
}

impl Command for Create<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let now = app.store.now();
        let NewUser {
            subject,
            email,
            name,
            ..
        } = self.new;
        let first_seen = app.db.users.new_user(session, subject, email, name, now);
        let user = self.user(first_seen.await?, now);
        check_team_invariants(session, app, None, Some(&user)).await?;
        app.db.users.insert(session, &user).await?;
        let event = runner
            .event(now, Action::UserCreate, target(&user), None)
            .with_changes(&Document::new(), &audited(&user));
        let mut jobs = Vec::new();
        if let Some(partner) = user.partner_id {
            jobs.push(sync_team(runner, session, partner).await?);
        }
        let mut response = detail(app, &user).await?;
        response.status = StatusCode::CREATED;
        let response = response.at(format!("/users/{}", user.id));
        Ok(CommandOutput::complete(response, event).with_jobs(jobs))
    }
}
