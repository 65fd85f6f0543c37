//! Write path: one extractor for everything a write request carries, and one runner for the command that it becomes.

mod command;
mod idempotency;
mod preconditions;
mod resource;

use axum::extract::{FromRequest, FromRequestParts, Request};
use dezky_shared::store::idempotency::IdempotencyKey;

pub use self::{
    command::{Command, CommandError, CommandOutput, CommandResult, CommandRunner, Rollback},
    preconditions::ensure_not_terminating,
    resource::{Change, Resource, list, show},
};
use crate::{
    error::ApiError,
    extract::{Access, EmptyBody, IfMatch, Prefer, RequestInfo, Validate, parse, read_body},
    response::ApiResponse,
    state::SharedState,
};

/// A write request by a caller with access `A`, with a body `B`, and with parameters `P` in the path or the query.
#[derive(Debug)]
pub struct Write<A, B = EmptyBody, P = ()> {
    /// The application.
    pub app: SharedState,
    /// The caller and what they have access to.
    pub access: A,
    /// Path and query parameters.
    pub params: P,
    /// The validated body.
    pub body: B,
    /// `If-Match`.
    pub if_match: IfMatch,
    /// `Prefer`.
    pub prefer: Prefer,
    request: RequestInfo,
    key: Option<IdempotencyKey>,
}

impl<A, B, P> FromRequest<SharedState> for Write<A, B, P>
where
    A: Access + FromRequestParts<SharedState, Rejection = ApiError>,
    B: Validate,
    P: FromRequestParts<SharedState> + Send,
    ApiError: From<P::Rejection>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &SharedState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        // In this order: an unauthorized caller learns nothing from the parameters or the body.
        let access = A::from_request_parts(&mut parts, app).await?;
        let params = P::from_request_parts(&mut parts, app).await?;
        let if_match = IfMatch::from_request_parts(&mut parts, app).await?;
        let prefer = Prefer::from_request_parts(&mut parts, app).await?;
        let info = RequestInfo::from_request_parts(&mut parts, app).await?;
        let body = Request::from_parts(parts, body);
        let ValidatedJson { body, key } = ValidatedJson::from_request(body, app).await?;
        Ok(Self {
            app: app.clone(),
            access,
            params,
            body,
            if_match,
            prefer,
            request: info,
            key,
        })
    }
}

impl<A: Access, B: Sync, P: Sync> Write<A, B, P> {
    /// The runner of this request's commands.
    pub fn runner(&self) -> CommandRunner<'_> {
        CommandRunner {
            app: &self.app,
            caller: self.access.caller(),
            request: &self.request,
            if_match: &self.if_match,
            prefer: self.prefer,
            key: self.key.as_ref(),
            tenant: self.access.tenant(),
            guard: None,
        }
    }

    /// Runs a command without the keyed mutex, and without waiting for its job.
    pub async fn run(&self, command: &impl Command) -> Result<ApiResponse, ApiError> {
        Ok(self.runner().run(command).await?.response)
    }
}

/// A validated body and its idempotency key. A rejection of the body is stored with the key, as a response is; so this
/// comes after the extractor that authorizes.
#[derive(Debug)]
pub struct ValidatedJson<T> {
    /// The body.
    pub body: T,
    /// The idempotency key, scoped to caller and route.
    pub key: Option<IdempotencyKey>,
}

impl<T: Validate> FromRequest<SharedState> for ValidatedJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &SharedState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let text = idempotency::header_value(&parts.headers)?.map(str::to_owned);
        let bytes = read_body(&parts.headers, body).await?;
        let key = match text {
            None => None,
            Some(text) => Some(idempotency::key(&mut parts, &text, &bytes).await?),
        };
        match parse::<T>(&parts.headers, &bytes, &app.config) {
            Ok(body) => Ok(Self { body, key }),
            Err(rejection) => Err(match &key {
                None => rejection,
                Some(key) => idempotency::store_rejection(app, key, rejection).await?,
            }),
        }
    }
}
