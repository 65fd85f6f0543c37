//! People of a tenant: members, whose accounts at the upstreams are managed here, and people who are known by a group at
//! the identity provider.
//!
//! A member's change is stored with its job in one transaction; jobs change the accounts. Rights are the memberships of
//! the person's user, and change in the same transaction, so that they end at once.

mod actions;
mod address;
mod change;
mod create;
mod import;
mod password;
mod rights;
mod role;
mod update;
mod view;

use std::{collections::HashMap, fmt, str::FromStr};

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use dezky_shared::{
    id::{MemberId, TenantId, UserId},
    member::{Member, MemberStatus},
    queue::job::Job,
    store::{StoreError, VersionedRepository as _, members::MemberFilter, users::UserFilter},
    user::{Role, User},
};
use http::StatusCode;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::outcome::status_of;
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{
        FromQuery, Page, PageOf, Parameters, PathId, QueryParams, ReadPrivate, TenantAccess,
    },
    read::{Get, ListResult},
    response::ApiResponse,
    state::{AppState, SharedState},
    views::{JobLink, job_href},
};

pub(super) use self::{
    rights::{ensure_unmanaged, sync_members},
    view::TenantUserView,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list, create::create))
        .routes(routes!(show, update::update, actions::remove))
        .routes(routes!(actions::suspend))
        .routes(routes!(actions::resume))
        .routes(routes!(actions::force_logout))
        .routes(routes!(actions::restore))
        .routes(routes!(password::reset))
        .merge(import::router())
}

/// A person in a tenant.
pub(super) enum Person {
    /// A member, and their user once it is known.
    Managed(Box<Member>, Option<User>),
    /// A user with this role and without a member.
    Known(User, Role),
}

impl Person {
    fn cursor(&self) -> PersonCursor {
        match self {
            Self::Managed(member, _) => PersonCursor::Member(member.id),
            Self::Known(user, _) => PersonCursor::User(user.id),
        }
    }

    /// The person as a member whose accounts are managed here.
    fn into_member(self) -> Result<Member, ApiError> {
        match self {
            Self::Managed(member, _) => Ok(*member),
            Self::Known(..) => Err(ProblemCode::NotManaged.into()),
        }
    }
}

/// Position in the list: members first, then people without a member.
#[derive(Debug, Clone, Copy)]
enum PersonCursor {
    Member(MemberId),
    User(UserId),
}

impl fmt::Display for PersonCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(id) => write!(f, "m/{id}"),
            Self::User(id) => write!(f, "u/{id}"),
        }
    }
}

impl FromStr for PersonCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once('/').ok_or(())? {
            ("m", id) => id.parse().map(Self::Member).map_err(drop),
            ("u", id) => id.parse().map(Self::User).map_err(drop),
            _ => Err(()),
        }
    }
}

/// Filters of the list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only people with all of these words, at most 8, in the name or an address.
    #[param(value_type = Option<String>, max_length = 200, example = "ada king")]
    q: Vec<String>,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            q: parameters
                .search_words("q")
                .map_err(|error| ApiError::invalid(vec![error]))?,
            page: Page::from_query(parameters)?,
        })
    }
}

/// Lists the people of a tenant
///
/// Members first, oldest first, and then people who are known by a group at the identity provider. Removed members are
/// omitted. For owners and admins of the tenant, staff of its partner, and operators.
#[utoipa::path(
    get, path = "/tenants/{slug}/users", operation_id = "listTenantUsers", tag = "tenant users",
    params(ListQuery, Page),
    responses((status = 200, body = PageOf<TenantUserView>)),
)]
async fn list(
    get: Get<TenantAccess<ReadPrivate>, QueryParams<ListQuery>>,
) -> ListResult<TenantUserView> {
    let QueryParams(query) = get.params;
    let (tenant, page) = (get.access.tenant.id, &query.page);
    let list = format!("tenants/{tenant}/users?{:?}", query.q);
    let after = page.after(&list)?;
    let people = people(&get.app, tenant, query.q.clone(), after, page.fetch_limit()).await?;
    Ok(Json(page.build(
        &list,
        people,
        |person| person.cursor().to_string(),
        |person| TenantUserView::new(&person),
    )))
}

/// At most `limit` people of a tenant after `after`.
async fn people(
    app: &AppState,
    tenant_id: TenantId,
    words: Vec<String>,
    after: Option<PersonCursor>,
    limit: i64,
) -> Result<Vec<Person>, ApiError> {
    let mut people = Vec::new();
    let after_user = if let Some(PersonCursor::User(id)) = after {
        Some(id)
    } else {
        let filter = MemberFilter {
            words: words.clone(),
            after: match after {
                Some(PersonCursor::Member(id)) => Some(id),
                _ => None,
            },
        };
        let members = app.db.members.list(tenant_id, &filter, limit).await?;
        people = with_users(app, members).await?;
        None
    };
    let rest = limit - i64::try_from(people.len()).unwrap_or(limit);
    if rest > 0 {
        let filter = UserFilter {
            tenant_id: Some(tenant_id),
            without_member: true,
            words,
            after: after_user,
            ..UserFilter::default()
        };
        let users = app.db.users.list(&filter, rest).await?.into_iter();
        people.extend(users.filter_map(|user| {
            let role = user.role_in(tenant_id)?;
            Some(Person::Known(user, role))
        }));
    }
    Ok(people)
}

/// The representations of members, in their order.
pub(super) async fn views_of(
    app: &AppState,
    members: Vec<Member>,
) -> Result<Vec<TenantUserView>, StoreError> {
    let people = with_users(app, members).await?;
    Ok(people.iter().map(TenantUserView::new).collect())
}

/// Members with their users.
async fn with_users(app: &AppState, members: Vec<Member>) -> Result<Vec<Person>, StoreError> {
    let ids: Vec<UserId> = members.iter().filter_map(|member| member.user_id).collect();
    let users = app.db.users.list_by_ids(&ids).await?.into_iter();
    let mut users: HashMap<UserId, User> = users.map(|user| (user.id, user)).collect();
    let people = members.into_iter().map(|member| {
        let user = member.user_id.and_then(|id| users.remove(&id));
        Person::Managed(Box::new(member), user)
    });
    Ok(people.collect())
}

/// Returns a person of a tenant
///
/// The id is that of the member, or of the user.
#[utoipa::path(
    get, path = "/tenants/{slug}/users/{id}", operation_id = "getTenantUser", tag = "tenant users",
    responses((status = 200, body = TenantUserView), (status = 304)),
)]
async fn show(get: Get<TenantAccess<ReadPrivate>, PathId<MemberId>>) -> Result<Response, ApiError> {
    let person = find_person(&get.app, get.access.tenant.id, get.params.0).await?;
    let response = respond(&person, None);
    let etag = match &person {
        Person::Managed(member, _) => ETag::from(&**member),
        Person::Known(user, _) => ETag::from(user),
    };
    // What a user document adds (second factors, the last request) is no part of any version.
    let is_versioned = matches!(person, Person::Managed(_, None));
    if is_versioned && get.if_none_match.matches(etag) {
        let body = &response.body;
        return Ok(ApiResponse::conditional(&get.if_none_match, etag, body));
    }
    Ok(response.into_response())
}

/// The person with this id, of the member or of the user; 404 if the tenant has none.
pub(super) async fn find_person(
    app: &AppState,
    tenant: TenantId,
    id: MemberId,
) -> Result<Person, ApiError> {
    let member = app.db.members.find(id).await?;
    let is_hidden = member.is_some();
    if let Some(member) = member.filter(|member| is_present_in(member, tenant)) {
        return with_user(app, member).await;
    }
    let user = app.db.users.find(UserId::from_bytes(id.bytes())).await?;
    let Some(user) = user else {
        return Err(if is_hidden {
            app.access.conceal(0).await
        } else {
            ProblemCode::NotFound.into()
        });
    };
    let membership = user.memberships.get(&tenant);
    if let Some(id) = membership.and_then(|membership| membership.member_id)
        && let Some(member) = app.db.members.find(id).await?
        && is_present_in(&member, tenant)
    {
        return Ok(Person::Managed(Box::new(member), Some(user)));
    }
    match user.role_in(tenant) {
        Some(role) => Ok(Person::Known(user, role)),
        None => Err(app.access.conceal(0).await),
    }
}

async fn with_user(app: &AppState, member: Member) -> Result<Person, ApiError> {
    let user = match member.user_id {
        Some(id) => app.db.users.find(id).await?,
        None => None,
    };
    Ok(Person::Managed(Box::new(member), user))
}

/// Whether the member belongs to this tenant and is not removed.
fn is_present_in(member: &Member, tenant: TenantId) -> bool {
    member.tenant_id == tenant && member.status != MemberStatus::Removed
}

/// The response with a person, and the job that carries a change out.
fn respond(person: &Person, job: Option<&Job>) -> ApiResponse {
    let mut view = TenantUserView::new(person);
    view.job = job.map(JobLink::from);
    let (status, etag) = match person {
        Person::Managed(member, _) => (status_of(job), ETag::from(&**member)),
        Person::Known(user, _) => (StatusCode::OK, ETag::from(user)),
    };
    ApiResponse {
        location: job.map(|job| job_href(job.id)),
        ..ApiResponse::new(status, etag, &view)
    }
}
