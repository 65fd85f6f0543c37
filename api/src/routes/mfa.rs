//! Second factors (MFA) of a tenant's people: status and reset.

use std::collections::BTreeMap;

use axum::response::Response;
use dezky_shared::{
    audit::Action,
    id::{MemberId, TenantId, UserId},
    mfa::{DeviceType, Enrolment, MfaCheck, MfaTotals},
    queue::args::{LookUpMfa, ResetMfa},
    store::{VersionedRepository as _, jobs::NewJob, members::Place, users::UserFilter},
    tenant::Tenant,
    user::{Role, User},
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    members::{Person, find_person},
    outcome::run_and_respond,
    refresh_on_read::{Refresh, RefreshOnRead},
};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{EmptyBody, OwnersOnly, Page, PageOf, PathId, QueryParams, TenantAccess},
    response::ApiResponse,
    state::SharedState,
    timestamp::Timestamp,
    user_audit::target,
    views::JobLink,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write, find_open_tenant},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(reset))
}

/// Second factors of a user, as of the last look-up by a job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SecondFactors)]
pub(in crate::routes) struct MfaView {
    /// Number of confirmed devices, without recovery codes.
    #[schema(minimum = 0)]
    devices: i32,
    /// Whether the user has a second factor: `yes`, `no` or `unknown`.
    enrolled: Enrolment,
    /// Time of the look-up.
    looked_up_at: Timestamp,
}

impl From<MfaCheck> for MfaView {
    fn from(check: MfaCheck) -> Self {
        Self {
            devices: check.devices,
            enrolled: check.enrolment(),
            looked_up_at: check.looked_up_at.into(),
        }
    }
}

/// Second factors of a tenant's people, with a page of them, oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MfaStatus)]
struct StatusView {
    /// Time at which the last complete look-up began. Missing until one was complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<Timestamp>,
    /// Number of people by enrolment, as of the last complete look-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    totals: Option<TotalsView>,
    /// People of the page.
    items: Vec<PersonView>,
    /// Cursor of the next page. Null on the last page.
    #[schema(required)]
    next_cursor: Option<String>,
    /// The job that looks again, because the last look-up is older than five minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
}

/// Number of people by enrolment.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MfaTotals)]
struct TotalsView {
    /// People with a second factor.
    #[schema(minimum = 0)]
    enrolled: i64,
    /// People without one.
    #[schema(minimum = 0)]
    not_enrolled: i64,
    /// People whose enrolment is not known.
    #[schema(minimum = 0)]
    unknown: i64,
}

/// Second factors of a person.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MfaPerson)]
struct PersonView {
    /// User id.
    #[schema(value_type = String, format = Uuid)]
    user_id: UserId,
    /// Member id. Missing for a person whose accounts are not managed here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    member_id: Option<MemberId>,
    /// E-mail address.
    email: String,
    /// Name.
    name: String,
    /// Role: `member`, `admin` or `owner`.
    role: Role,
    /// `yes`: at least one confirmed device that is not a recovery code. `no`: none. `unknown`: not looked up, or none is
    /// visible and the service may not see every type of device.
    enrolled: Enrolment,
    /// Number of confirmed devices by type: `totp`, `webauthn`, `duo`, `sms`, `email`, `static` (recovery codes) or
    /// `other`.
    #[schema(value_type = BTreeMap<String, i32>, example = json!({ "totp": 1, "static": 1 }))]
    devices: BTreeMap<DeviceType, i32>,
    /// Time of the look-up. Missing before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    looked_up_at: Option<Timestamp>,
}

impl From<MfaTotals> for TotalsView {
    fn from(totals: MfaTotals) -> Self {
        Self {
            enrolled: totals.enrolled,
            not_enrolled: totals.not_enrolled,
            unknown: totals.unknown,
        }
    }
}

impl PersonView {
    fn new(tenant: TenantId, user: User, role: Role) -> Self {
        let membership = user.memberships.get(&tenant);
        let member_id = membership.and_then(|membership| membership.member_id);
        let check = user.mfa;
        Self {
            user_id: user.id,
            member_id,
            email: user.email,
            name: user.name,
            role,
            enrolled: check
                .as_ref()
                .map_or(Enrolment::Unknown, MfaCheck::enrolment),
            looked_up_at: check.as_ref().map(|check| check.looked_up_at.into()),
            devices: check.map(|check| check.by_type).unwrap_or_default(),
        }
    }
}

/// Returns the second factors of a tenant's people
///
/// As a job last looked them up. A look-up that is older than five minutes is repeated: `job` is its job, and `Prefer:
/// wait` waits for it. For owners and admins of the tenant, staff of its partner, and operators.
#[utoipa::path(
    get, path = "/tenants/{slug}/mfa-status", operation_id = "getTenantMfaStatus", tag = "tenant users", params(Page),
    responses((status = 200, body = StatusView)),
)]
async fn status(
    fresh: RefreshOnRead,
    QueryParams(page): QueryParams<Page>,
) -> Result<Response, ApiError> {
    let (app, tenant) = (&fresh.app, &fresh.access.tenant);
    let list = format!("tenants/{}/mfa-status", tenant.id);
    let filter = UserFilter {
        tenant_id: Some(tenant.id),
        after: page.after(&list)?,
        ..UserFilter::default()
    };
    let mut report = app.db.mfa_reports.find(tenant.id).await?;
    let args = LookUpMfa {
        tenant_id: tenant.id,
    };
    let as_of = report.map(|report| report.as_of);
    let refresh = fresh.request(&args, as_of).await?;
    if refresh.as_ref().is_some_and(|refresh| refresh.waited) {
        report = app.db.mfa_reports.find(tenant.id).await?;
    }
    let users = app.db.users.list(&filter, page.fetch_limit()).await?;
    let people: Vec<(User, Role)> = users
        .into_iter()
        .filter_map(|user| user.role_in(tenant.id).map(|role| (user, role)))
        .collect();
    let id = |(user, _): &(User, Role)| user.id.to_string();
    let people: PageOf<PersonView> = page.build(&list, people, id, |(user, role)| {
        PersonView::new(tenant.id, user, role)
    });
    let view = StatusView {
        as_of: report.map(|report| report.as_of.into()),
        totals: report.map(|report| report.totals.into()),
        items: people.items,
        next_cursor: people.next_cursor,
        job: refresh.as_ref().map(|refresh| JobLink::from(&refresh.job)),
    };
    Ok(Refresh::respond(refresh.as_ref(), &view))
}

/// A requested reset.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MfaReset)]
struct ResetView {
    /// The user whose devices are deleted.
    #[schema(value_type = String, format = Uuid)]
    user_id: UserId,
    /// The job that deletes them.
    job: JobLink,
}

/// Resets the second factors of a person
///
/// A job deletes all their devices, recovery codes included, except those that they enrol after this request. For owners
/// of the tenant and operators; only operators can reset a member who had the account before, and a person who also has a
/// role in another tenant, in a partner's team or on the platform (409 `shared_account`). A member with a login in a domain
/// of the tenant may be in other tenants, too.
#[utoipa::path(
    post, path = "/tenants/{slug}/users/{id}/reset-mfa", operation_id = "resetTenantUserMfa", tag = "tenant users",
    responses((status = 202, body = ResetView), (status = 200, body = ResetView)),
)]
async fn reset(
    w: Write<TenantAccess<OwnersOnly>, EmptyBody, PathId<MemberId>>,
) -> Result<Response, ApiError> {
    w.limit_credentials().await?;
    let tenant = &w.access.tenant;
    let user = match find_person(&w.app, tenant.id, w.params.0).await? {
        Person::Managed(_, Some(user)) | Person::Known(user, _) => user,
        Person::Managed(_, None) => {
            let detail = "The member has no account at the identity provider yet.";
            return Err(ApiError::new(ProblemCode::NotFound).with_detail(detail));
        }
    };
    let reset = Reset {
        tenant,
        id: user.id,
    };
    run_and_respond(&w.runner(), &reset).await
}

struct Reset<'a> {
    tenant: &'a Tenant,
    id: UserId,
}

impl Command for Reset<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let (tenant, by_operator) = (self.tenant, runner.caller.is_operator());
        let user = app.db.users.find_in_transaction(session, self.id).await?;
        let user = user.ok_or(ProblemCode::NotFound)?;
        if user.role_in(tenant.id).is_none() {
            let places = app.db.members.list_places(session, user.id).await?;
            let is_member = places.iter().any(|place| place.tenant_id == tenant.id);
            return Err(if is_member {
                ProblemCode::MemberSuspended.into()
            } else {
                ProblemCode::NotFound.into()
            });
        }
        if user.id == runner.caller.user.id {
            return Err(ProblemCode::OwnAccount.into());
        }
        let places = app.db.members.list_places(session, user.id).await?;
        let (here, elsewhere): (Vec<Place>, Vec<Place>) = places
            .into_iter()
            .filter(Place::has_account)
            .partition(|place| place.tenant_id == tenant.id);
        let is_elsewhere = !elsewhere.is_empty();
        let member = match here.first() {
            Some(place) => {
                app.db
                    .members
                    .find_in_transaction(session, place.id)
                    .await?
            }
            None => None,
        };
        let is_ours = if let Some(member) = member {
            member.owns_account(member.has_address_of(tenant), Some(&user), is_elsewhere)
        } else {
            let has_role_elsewhere = user.has_role_outside(tenant.id);
            !(is_elsewhere || has_role_elsewhere || user.is_privileged())
        };
        if !(is_ours || by_operator) {
            return Err(ProblemCode::SharedAccount.into());
        }
        find_open_tenant(session, runner, tenant.id).await?;
        let now = app.store.now();
        let args = ResetMfa {
            tenant_id: tenant.id,
            user_id: user.id,
            by_operator,
        };
        let job = NewJob::new(&args, &runner.actor_id(), now)?;
        let job = runner.enqueue(session, job).await?;
        let event = runner.event(now, Action::UserResetMfa, target(&user), Some(tenant));
        let view = ResetView {
            user_id: user.id,
            job: JobLink::from(&job),
        };
        let response = ApiResponse::unversioned(StatusCode::ACCEPTED, &view);
        let response = response.at(view.job.href);
        Ok(CommandOutput::complete(response, event).with_jobs(vec![job]))
    }
}
