//! Write path: one extractor for everything a write request carries, and one runner for the command that it becomes.

mod command;
mod group;
mod idempotency;
mod resource;
mod rollback;
mod tenant_state;

use axum::extract::{FromRequest, FromRequestParts, Request};
use dezky_shared::store::idempotency::IdempotencyKey;

pub use self::{
    command::{Command, CommandOutput, CommandResult, CommandRunner},
    group::DetachedRequest,
    resource::{Change, Resource, audited_fields},
    rollback::{CommandError, Rollback},
    tenant_state::{ensure_not_terminating, find_open_tenant},
};
use crate::{
    error::ApiError,
    extract::{Access, EmptyBody, FromBody, IfMatch, Prefer, RequestInfo, read_body},
    response::ApiResponse,
    state::SharedState,
};

/// A write request by a caller with access `A`, with a body `B`, and with parameters `P` in the path or the query.
#[derive(Debug)]
pub struct Write<A, B = EmptyBody, P = ()> {
    /// The application.
    pub app: SharedState,
    /// The caller and the object of their access.
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

impl<A: Access, B, P> Write<A, B, P> {
    /// Counts a change of credentials by the caller. 429 beyond the limit.
    pub async fn limit_credentials(&self) -> Result<(), ApiError> {
        let limits = &self.app.access.limits;
        let caller = self.access.caller();
        limits
            .check_credentials(&caller.user.authentik_subject_id)
            .await
    }
}

impl<A, B, P> FromRequest<SharedState> for Write<A, B, P>
where
    A: Access + FromRequestParts<SharedState, Rejection = ApiError>,
    B: FromBody,
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
        let ValidatedBody { body, key } = ValidatedBody::from_request(body, app).await?;
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
pub struct ValidatedBody<T> {
    /// The body.
    pub body: T,
    /// The idempotency key, scoped to caller and route.
    pub key: Option<IdempotencyKey>,
}

impl<T: FromBody> FromRequest<SharedState> for ValidatedBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &SharedState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let text = idempotency::header_value(&parts.headers)?.map(str::to_owned);
        let bytes = read_body(&parts.headers, body, T::LIMIT).await?;
        let key = match text {
            None => None,
            Some(text) => Some(idempotency::key(&mut parts, &text, &bytes).await?),
        };
        match T::from_body(&parts.headers, &bytes, &app.config) {
            Ok(body) => Ok(Self { body, key }),
            Err(rejection) => Err(match &key {
                None => rejection,
                Some(key) => idempotency::store_rejection(app, key, rejection).await?,
            }),
        }
    }
}
