//! Editing a flag.

use axum::extract::State;
use dezky_shared::{
    audit::Action,
    feature_flag::{Flag, Rule},
    store::TransactionError,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    FlagView, answer, audited,
    rules::{self, NamedRule, RuleRequest},
    target,
};
use crate::{
    error::{ApiError, FieldError, Problem, ProblemCode},
    extract::{
        ETag, IfMatch, Object, Operator, PathParam, QueryParams, RequestInfo, Validate,
        ValidatedJson,
    },
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    state::{AppState, SharedState},
    validate::{Validator, double_option, flag},
};

/// The fields that are to change. What is missing stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = FlagPatch)]
pub(super) struct PatchRequest {
    /// What it is for.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, min_length = 1, max_length = 500)]
    description: Option<String>,
    /// What it is where no rule matches.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = bool)]
    default: Option<bool>,
    /// All its rules: they take the place of those that are there.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Vec<RuleRequest>, max_items = 100)]
    rules: Option<Vec<Object<RuleRequest>>>,
    /// Whether it is off for everybody, whatever the rules say.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = bool)]
    kill_switch: Option<bool>,
}

/// What is to change.
#[derive(Debug)]
pub(super) struct Patch {
    description: Option<String>,
    default: Option<bool>,
    rules: Option<Vec<NamedRule>>,
    kill_switch: Option<bool>,
    /// What is wrong with the body by itself. It is told with what is wrong beside it.
    wrong: Vec<FieldError>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(wire: PatchRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        Ok(Self {
            description: wire
                .description
                .and_then(|text| checks.check("/description", flag::description(&text))),
            default: wire.default,
            rules: wire.rules.map(|rules| rules::accept(&mut checks, rules)),
            kill_switch: wire.kill_switch,
            wrong: checks.into_errors(),
        })
    }
}

/// Edits a feature flag
///
/// Every process knows it within five seconds.
#[utoipa::path(
    patch, path = "/flags/{key}", operation_id = "updateFlag", tag = "flags", request_body = PatchRequest,
    params(("key" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = FlagView), (status = "default", response = Problem)),
)]
pub(super) async fn patch(
    Operator(caller): Operator,
    PathParam(key): PathParam<String>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<Patch>,
) -> Result<ApiResponse, ApiError> {
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let patch = &submitted.body;
    let named = patch.rules.as_deref().unwrap_or_default();
    let rules = rules::resolve(&app, named, &patch.wrong).await?;
    let change = FlagChange {
        key,
        patch,
        rules: patch.rules.is_some().then_some(rules),
        if_match: &if_match,
    };
    let answer = recorder.record(&change).await?.answer;
    app.flags.refresh().await;
    Ok(answer)
}

struct FlagChange<'a> {
    key: String,
    patch: &'a Patch,
    rules: Option<Vec<Rule>>,
    if_match: &'a IfMatch,
}

impl FlagChange<'_> {
    fn apply(&self, flag: &mut Flag) {
        if let Some(description) = &self.patch.description {
            flag.description.clone_from(description);
        }
        if let Some(default) = self.patch.default {
            flag.default = default;
        }
        if let Some(rules) = &self.rules {
            flag.rules.clone_from(rules);
        }
        if let Some(kill_switch) = self.patch.kill_switch {
            flag.kill_switch = kill_switch;
        }
    }
}

impl Command for FlagChange<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let flags = &recorder.app.flag_repository;
            let found = flags.find_in(session, &self.key).await?;
            let before = found.ok_or_else(|| reject(ProblemCode::NotFound))?;
            self.if_match.check(ETag::from(&before)).map_err(reject)?;
            let mut flag = before.clone();
            self.apply(&mut flag);
            let mut events = Vec::new();
            if flag != before {
                let now = recorder.app.store.now();
                flag.revision += 1;
                flag.updated_at = now;
                flags.bump_revision(session).await?;
                flags.save(session, &flag).await?;
                let event = recorder
                    .event(now, Action::FlagUpdate, target(&flag), None)
                    .with_changes(&audited(&before)?, &audited(&flag)?);
                events.push(event);
            }
            Ok(CommandOutput {
                answer: answer(StatusCode::OK, flag).map_err(reject)?,
                jobs: Vec::new(),
                changed: Vec::new(),
                events,
            })
        }
        .boxed()
    }
}
