//! Feature flags: definition by operators, evaluation for a tenant.

mod create;
mod evaluate;
mod rules;
mod update;

use dezky_shared::{
    audit::Action,
    feature_flag::{Flag, MAX_FLAGS, NEW_BILLING_ENGINE},
    store::{VersionedRepository as _, flags::FlagRepository},
};
use mongodb::ClientSession;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::rules::RuleView;
use crate::{
    error::{ApiError, ProblemCode},
    extract::{EmptyBody, Operator, Page, PageOf, PathParam, PlatformReader, QueryParams},
    read::{Get, ListResult},
    response::ApiResponse,
    state::{Repositories, SharedState},
    timestamp::Timestamp,
    write::{Change, Resource, Rollback, Write},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list, create::create))
        .routes(routes!(show, update::update, delete))
        .routes(routes!(evaluate::evaluate))
}

/// A feature flag.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Flag)]
pub struct FlagView {
    /// Key, as code refers to it.
    #[schema(example = "beta_search")]
    key: String,
    /// Purpose.
    description: String,
    /// Value if no rule matches.
    default: bool,
    /// Rules; the first that matches decides.
    rules: Vec<RuleView>,
    /// Turns the flag off, regardless of the rules.
    kill_switch: bool,
    /// Incremented by every change.
    revision: i64,
    /// Creation time.
    created_at: Timestamp,
    /// Time of the last change.
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

impl Resource for Flag {
    const KIND: &'static str = "flag";
    const PATH: &'static str = "/flags";
    type View = FlagView;
    type Repository = FlagRepository;

    fn name(&self) -> String {
        self.key.clone()
    }

    async fn check(
        &self,
        session: &mut ClientSession,
        db: &Repositories,
        change: Change,
    ) -> Result<(), Rollback> {
        // Every process reloads its cache when this revision changes.
        db.flags.bump_revision(session).await?;
        if change == Change::Create {
            let key = self.key.clone();
            if db.flags.find_in_transaction(session, key).await?.is_some() {
                return Err(ProblemCode::FlagExists.into());
            }
            if db.flags.count_in(session).await? >= MAX_FLAGS {
                return Err(ProblemCode::TooManyFlags.into());
            }
        }
        Ok(())
    }
}

/// Lists feature flags, by key
#[utoipa::path(get, path = "/flags", operation_id = "listFlags", tag = "flags", params(Page), responses((status = 200, body = PageOf<FlagView>)))]
async fn list(get: Get<PlatformReader, QueryParams<Page>>) -> ListResult<FlagView> {
    get.list::<Flag>().await
}

/// Returns a feature flag
#[utoipa::path(get, path = "/flags/{key}", operation_id = "getFlag", tag = "flags", responses((status = 200, body = FlagView)))]
async fn show(get: Get<PlatformReader, PathParam<String>>) -> Result<ApiResponse, ApiError> {
    get.show::<Flag>().await
}

/// Deletes a feature flag and returns it
///
/// A deleted flag evaluates to off. `new_billing_engine` cannot be deleted.
#[utoipa::path(delete, path = "/flags/{key}", operation_id = "deleteFlag", tag = "flags", responses((status = 200, body = FlagView)))]
async fn delete(w: Write<Operator, EmptyBody, PathParam<String>>) -> Result<ApiResponse, ApiError> {
    let PathParam(key) = &w.params;
    if key == NEW_BILLING_ENGINE {
        return Err(ProblemCode::FlagBuiltIn.into());
    }
    let response = w.delete::<Flag>(Action::FlagDelete, key.clone()).await?;
    w.app.flags.refresh().await;
    Ok(response)
}
