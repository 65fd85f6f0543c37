//! What operators say somebody may do.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use bson::{DateTime, Document};
use dezky_shared::{
    audit::Action,
    changes::Change,
    id::{TenantId, UserId},
    store::Abort,
    tenant::Tenant,
    user::{Membership, MembershipSource, Role, User},
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    UserView,
    sync::{audited, target},
};
use crate::{
    error::{ApiError, Code, FieldError, Problem},
    extract::{Accept, ETag, IfMatch, Operator, PathParam, QueryParams, RequestInfo, Submitted},
    fields::{Checks, distinct, present},
    intent::{Answer, Intent, Recorded, Recorder, Stop, refuse},
    state::{App, AppState},
};

/// The most tenants in one request.
const TENANTS: usize = 100;

/// The rights that are to change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = UserPatch)]
pub(super) struct PatchRequest {
    /// Roles by tenant, which is named by its id or slug: `member`, `admin`, `owner`, or null for none.
    #[serde(default, deserialize_with = "distinct")]
    tenant_roles: BTreeMap<String, Option<String>>,
    /// Whether they are an operator.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = bool)]
    platform_admin: Option<bool>,
}

/// What is to change.
#[derive(Debug)]
pub(super) struct Patch {
    /// By tenant, as it was named.
    roles: BTreeMap<String, Option<Role>>,
    platform_admin: Option<bool>,
}

impl Accept for Patch {
    type Wire = PatchRequest;

    fn accept(wire: PatchRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Checks::default();
        if wire.tenant_roles.len() > TENANTS {
            let message = format!("At most {TENANTS} tenants at a time.");
            checks.note(FieldError::at("/tenantRoles", "too_many", message));
        }
        let roles = wire.tenant_roles.into_iter().filter_map(|(tenant, text)| {
            let role = match text {
                None => None,
                Some(text) => Some(checks.check(&pointer(&tenant), role(&text))?),
            };
            Some((tenant, role))
        });
        let roles = roles.collect();
        checks.done(Some(Self {
            roles,
            platform_admin: wire.platform_admin,
        }))
    }
}

fn role(text: &str) -> Result<Role, (&'static str, String)> {
    match text {
        "member" => Ok(Role::Member),
        "admin" => Ok(Role::Admin),
        "owner" => Ok(Role::Owner),
        _ => Err((
            "invalid_role",
            "A role is member, admin or owner.".to_owned(),
        )),
    }
}

fn pointer(tenant: &str) -> String {
    format!(
        "/tenantRoles/{}",
        tenant.replace('~', "~0").replace('/', "~1")
    )
}

/// Says what somebody may do
#[utoipa::path(
    patch, path = "/users/{id}", operation_id = "updateUser", tag = "users", request_body = PatchRequest,
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = UserView), (status = "default", response = Problem)),
)]
pub(super) async fn patch(
    Operator(caller): Operator,
    PathParam(id): PathParam<UserId>,
    _: QueryParams<()>,
    State(app): State<App>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: Submitted<Patch>,
) -> Result<Answer, ApiError> {
    let roles = by_tenant(&app, &submitted.body.roles).await?;
    let recorder = Recorder::new(&app, &caller, &request, submitted.key.as_ref());
    let change = UserChange {
        id,
        roles,
        platform_admin: submitted.body.platform_admin,
        if_match: &if_match,
    };
    Ok(recorder.record(&change).await?.answer)
}

/// The roles by the tenants' ids. That a tenant does not exist follows not from the request alone, and is not
/// remembered with its key.
async fn by_tenant(
    app: &AppState,
    roles: &BTreeMap<String, Option<Role>>,
) -> Result<BTreeMap<TenantId, Option<Role>>, ApiError> {
    let ids: Vec<TenantId> = roles.keys().filter_map(|name| name.parse().ok()).collect();
    let slugs: Vec<String> = roles.keys().cloned().collect();
    let mut tenants = app.tenants.list_by_ids(&ids).await?;
    tenants.extend(app.tenants.list_by_slugs(&slugs).await?);

    let mut errors = Vec::new();
    let mut by_tenant = BTreeMap::new();
    for (name, role) in roles {
        let is_named = |tenant: &&Tenant| tenant.slug == *name || tenant.id.to_string() == *name;
        match tenants.iter().find(is_named) {
            None => {
                let message = "There is no such tenant.";
                errors.push(FieldError::at(pointer(name), "unknown_tenant", message));
            }
            Some(tenant) => {
                if by_tenant.insert(tenant.id, *role).is_some() {
                    let message = "This tenant is named twice.";
                    errors.push(FieldError::at(pointer(name), "duplicate_field", message));
                }
            }
        }
    }
    if errors.is_empty() {
        Ok(by_tenant)
    } else {
        Err(ApiError::values(errors))
    }
}

struct UserChange<'a> {
    id: UserId,
    roles: BTreeMap<TenantId, Option<Role>>,
    platform_admin: Option<bool>,
    if_match: &'a IfMatch,
}

impl UserChange<'_> {
    /// Changes `user`, and says in which tenants they cease to be an owner.
    fn apply(&self, user: &mut User, now: DateTime) -> BTreeSet<TenantId> {
        let mut given_up = BTreeSet::new();
        for (&tenant, &role) in &self.roles {
            let known = user.memberships.get(&tenant);
            let is_set_here = known
                .is_some_and(|known| known.role == role && known.source == MembershipSource::Local);
            if is_set_here || (known.is_none() && role.is_none()) {
                continue;
            }
            if user.role_in(tenant) == Some(Role::Owner) && role != Some(Role::Owner) {
                given_up.insert(tenant);
            }
            let membership = Membership {
                role,
                source: MembershipSource::Local,
                changed_at: now,
            };
            user.memberships.insert(tenant, membership);
        }
        if let Some(flag) = self.platform_admin
            && (flag != user.platform_admin
                || user.platform_admin_source != MembershipSource::Local)
        {
            user.platform_admin = flag;
            user.platform_admin_source = MembershipSource::Local;
            user.platform_admin_changed_at = now;
        }
        given_up
    }
}

impl Intent for UserChange<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s Recorder<'_>,
    ) -> BoxFuture<'s, Result<Recorded, Abort<Stop>>> {
        async move {
            let app = recorder.app;
            let mut tenants = Vec::new();
            for &id in self.roles.keys() {
                // Written, not read: else two who take away one of two owners each would see the other.
                if let Some(mut tenant) = app.tenants.lock(session, id).await? {
                    app.tenants.unlock(session, id).await?;
                    tenant.revision -= 1;
                    tenants.push(tenant);
                }
            }
            let mut user = app
                .users
                .lock(session, self.id)
                .await?
                .ok_or_else(|| refuse(Code::NotFound))?;
            let now = app.store.now();
            let known = User {
                revision: user.revision - 1,
                ..user.clone()
            };
            self.if_match.check(ETag::from(&known)).map_err(refuse)?;
            let given_up = self.apply(&mut user, now);
            if user.memberships == known.memberships
                && user.platform_admin_changed_at == known.platform_admin_changed_at
            {
                app.users.unlock(session, self.id).await?;
                return Ok(Recorded {
                    answer: answer(known, tenants_of(app, &user).await?).map_err(refuse)?,
                    jobs: Vec::new(),
                    changed: Vec::new(),
                    events: Vec::new(),
                });
            }
            if known.platform_admin && !user.platform_admin && self.id == recorder.caller.user.id {
                return Err(refuse(Code::OwnAdminFlag));
            }
            for tenant in given_up {
                if app.users.count_owners(session, tenant).await? <= 1 {
                    return Err(refuse(Code::LastOwner));
                }
            }
            user.updated_at = now;
            app.users.save(session, &user).await?;
            // In the tenant's own trail, where only one is concerned; else in the platform's.
            let trail = match &tenants[..] {
                [only] if user.platform_admin == known.platform_admin => Some(only),
                _ => None,
            };
            let shown = |user: &User| match trail {
                None => audited(user),
                Some(only) => audited_in(only, user),
            };
            let event = recorder
                .event(now, Action::UserUpdate, target(&user), trail)
                .with_changes(&shown(&known), &shown(&user));
            let tenants = tenants_of(app, &user).await?;
            Ok(Recorded {
                answer: answer(user, tenants).map_err(refuse)?,
                jobs: Vec::new(),
                changed: vec![Change::User(self.id)],
                events: vec![event],
            })
        }
        .boxed()
    }
}

/// What a tenant's own trail shows of a user: of their roles, the one there.
fn audited_in(tenant: &Tenant, user: &User) -> Document {
    let mut user = user.clone();
    user.memberships.retain(|id, _| *id == tenant.id);
    audited(&user)
}

async fn tenants_of(app: &AppState, user: &User) -> Result<Vec<Tenant>, Abort<Stop>> {
    Ok(app.tenants.list_by_ids(&user.tenant_ids()).await?)
}

fn answer(user: User, tenants: Vec<Tenant>) -> Result<Answer, ApiError> {
    let etag = ETag::from(&user);
    Answer::new(StatusCode::OK, etag, &UserView::new(user, tenants))
}
