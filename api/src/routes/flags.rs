//! Feature flags: what operators define, and what they are for a tenant.

mod create;
mod delete;
mod evaluate;
mod patch;
mod rules;

use axum::{Json, extract::State, response::IntoResponse as _};
use bson::Document;
use dezky_shared::{
    audit::Target,
    feature_flag::Flag,
    store::{StoreError, to_document},
};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::rules::RuleView;
use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{ETag, Operator, Page, PageOf, PathParam, QueryParams},
    intent::ApiResponse,
    state::SharedState,
    timestamp::Timestamp,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(create::create))
        .routes(routes!(show))
        .routes(routes!(patch::patch))
        .routes(routes!(delete::delete))
        .routes(routes!(evaluate::evaluate))
}

/// A feature flag.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FlagView {
    /// Its name in code.
    #[schema(example = "beta_search")]
    key: String,
    /// What it is for.
    description: String,
    /// What it is where no rule matches.
    default: bool,
    /// The first that matches decides.
    rules: Vec<RuleView>,
    /// Whether it is off for everybody, whatever the rules say.
    kill_switch: bool,
    /// + 1 with every change.
    revision: i64,
    /// When it was defined.
    created_at: Timestamp,
    /// When it last changed.
    updated_at: Timestamp,
}

impl From<Flag> for FlagView {
    fn from(flag: Flag) -> Self {
        Self {
            key: flag.key,
            description: flag.description,
            default: flag.default,
            rules: flag.rules.into_iter().map(RuleView::from).collect(),
            kill_switch: flag.kill_switch,
            revision: flag.revision,
            created_at: flag.created_at.into(),
            updated_at: flag.updated_at.into(),
        }
    }
}

impl From<&Flag> for ETag {
    fn from(flag: &Flag) -> Self {
        Self::of_revision(flag.revision)
    }
}

/// The feature flags, by key
#[utoipa::path(
    get, path = "/flags", operation_id = "listFlags", tag = "flags", params(Page),
    responses((status = 200, body = PageOf<FlagView>), (status = "default", response = Problem)),
)]
async fn list(
    _: Operator,
    QueryParams(page): QueryParams<Page>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<FlagView>>, ApiError> {
    const LIST: &str = "flags";
    let after: Option<String> = page.after(LIST)?;
    let found = app
        .flag_repository
        .list(after.as_deref(), page.fetch_limit())
        .await?;
    let key = |flag: &Flag| flag.key.clone();
    Ok(Json(page.build(LIST, found, key, FlagView::from)))
}

/// A feature flag
#[utoipa::path(
    get, path = "/flags/{key}", operation_id = "getFlag", tag = "flags", params(("key" = String, Path)),
    responses((status = 200, body = FlagView), (status = "default", response = Problem)),
)]
async fn show(
    _: Operator,
    PathParam(key): PathParam<String>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<axum::response::Response, ApiError> {
    let flag = app
        .flag_repository
        .find(&key)
        .await?
        .ok_or(ProblemCode::NotFound)?;
    Ok(answer(StatusCode::OK, flag)?.into_response())
}

fn answer(status: StatusCode, flag: Flag) -> Result<ApiResponse, ApiError> {
    let etag = ETag::from(&flag);
    ApiResponse::new(status, etag, &FlagView::from(flag))
}

fn target(flag: &Flag) -> Target {
    Target {
        kind: "flag".to_owned(),
        id: flag.key.clone(),
        name: flag.key.clone(),
    }
}

/// What the audit trail compares.
fn audited(flag: &Flag) -> Result<Document, StoreError> {
    let mut document = to_document(flag)?;
    for field in ["_id", "revision", "createdAt", "updatedAt"] {
        document.remove(field);
    }
    Ok(document)
}
