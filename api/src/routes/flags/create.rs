//! A new flag.

use axum::extract::State;
use bson::{DateTime, Document};
use dezky_shared::{
    audit::Action,
    feature_flag::{Flag, MAX_FLAGS, Rule},
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
    extract::{Object, Operator, QueryParams, RequestInfo, Validate, ValidatedJson},
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    state::{AppState, SharedState},
    validate::{Validator, flag},
};

/// The flag that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = FlagCreate)]
pub(super) struct CreateRequest {
    /// Its name in code: for ever.
    #[schema(pattern = "^[a-z][a-z0-9_]{1,63}$", example = "beta_search")]
    key: String,
    /// What it is for.
    #[schema(min_length = 1, max_length = 500)]
    description: String,
    /// What it is where no rule matches. Unless said otherwise, off.
    #[serde(default)]
    default: bool,
    /// The first that matches decides.
    #[serde(default)]
    #[schema(value_type = Vec<RuleRequest>, max_items = 100)]
    rules: Vec<Object<RuleRequest>>,
    /// Whether it is off for everybody, whatever the rules say.
    #[serde(default)]
    kill_switch: bool,
}

/// A flag to be defined, unless something is wrong with it.
#[derive(Debug)]
pub(super) struct NewFlag {
    key: String,
    description: String,
    default: bool,
    rules: Vec<NamedRule>,
    kill_switch: bool,
    /// What is wrong with the body by itself. It is told with what is wrong beside it.
    wrong: Vec<FieldError>,
}

impl Validate for NewFlag {
    type Raw = CreateRequest;

    fn validate(wire: CreateRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let key = checks.check("/key", flag::key(&wire.key));
        let description = checks.check("/description", flag::description(&wire.description));
        let rules = rules::accept(&mut checks, wire.rules);
        Ok(Self {
            key: key.unwrap_or_default(),
            description: description.unwrap_or_default(),
            default: wire.default,
            rules,
            kill_switch: wire.kill_switch,
            wrong: checks.into_errors(),
        })
    }
}

impl NewFlag {
    fn flag(&self, rules: &[Rule], now: DateTime) -> Flag {
        Flag {
            key: self.key.clone(),
            description: self.description.clone(),
            default: self.default,
            rules: rules.to_vec(),
            kill_switch: self.kill_switch,
            revision: 1,
            created_at: now,
            updated_at: now,
        }
    }
}

/// Defines a feature flag
///
/// Every process knows it within five seconds.
#[utoipa::path(
    post, path = "/flags", operation_id = "createFlag", tag = "flags", request_body = CreateRequest,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = FlagView), (status = "default", response = Problem)),
)]
pub(super) async fn create(
    Operator(caller): Operator,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    submitted: ValidatedJson<NewFlag>,
) -> Result<ApiResponse, ApiError> {
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let new = &submitted.body;
    let change = Create {
        rules: rules::resolve(&app, &new.rules, &new.wrong).await?,
        new,
    };
    let answer = recorder.record(&change).await?.answer;
    app.flags.refresh().await;
    Ok(answer)
}

struct Create<'a> {
    new: &'a NewFlag,
    rules: Vec<Rule>,
}

impl Command for Create<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let flags = &recorder.app.flag_repository;
            let now = recorder.app.store.now();
            let flag = self.new.flag(&self.rules, now);
            flags.bump_revision(session).await?;
            if flags.find_in(session, &flag.key).await?.is_some() {
                return Err(reject(ProblemCode::FlagExists));
            }
            if flags.count_in(session).await? >= MAX_FLAGS {
                return Err(reject(ProblemCode::TooManyFlags));
            }
            flags.insert(session, &flag).await?;
            let event = recorder
                .event(now, Action::FlagCreate, target(&flag), None)
                .with_changes(&Document::new(), &audited(&flag)?);
            let place = format!("/flags/{}", flag.key);
            let answer = answer(StatusCode::CREATED, flag).map_err(reject)?;
            Ok(CommandOutput {
                answer: answer.at(place),
                jobs: Vec::new(),
                changed: Vec::new(),
                events: vec![event],
            })
        }
        .boxed()
    }
}
