//! Recording what a caller wants: the change, the jobs it causes, the audit events and the answer, in one
//! transaction that begins by claiming the idempotency key.
//!
//! A repeated request finds the key claimed, and is given the answer that was stored. Workers and whoever waits are
//! told after the commit, never inside, and nobody waits for that: it is a hint, and losing it is no harm.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bson::DateTime;
use dezky_shared::{
    audit::{self, Action, AuditEvent, Target},
    platform::change_feed::DocumentChange as Changed,
    queue::job::Job,
    store::{
        StoreError, TransactionError,
        domains::{CLAIM_INDEX, OWNED_INDEX},
        duplicate_key_index,
        idempotency::{Claim, IdempotencyKey, StoredAnswer},
        partners,
        prices::PRICE_INDEX,
        subscriptions::LIVE_INDEX,
        tenants::{DOMAIN_INDEX, SLUG_INDEX},
        users::SUBJECT_INDEX,
    },
    tenant::Tenant,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderName, HeaderValue, StatusCode, header};
use mongodb::ClientSession;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    error::{ApiError, FieldError, ProblemCode},
    extract::{Caller, ETag, RequestInfo},
    keyed_mutex::KeyedGuard,
    state::AppState,
};

/// The header of an answer that was given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// After how many seconds looking at a new job makes sense.
const LOOK_AGAIN: u32 = 2;

/// Something a caller wants changed.
pub trait Command: Send + Sync {
    /// Changes it. May be run again when another transaction was in the way.
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>>;
}

/// What was changed.
#[derive(Debug)]
pub struct CommandOutput {
    /// What the caller is told.
    pub answer: ApiResponse,
    /// The jobs that will carry it out, the one the caller is told of first.
    pub jobs: Vec<Job>,
    /// What whoever waits is told of, beside the jobs.
    pub changed: Vec<Changed>,
    /// What the audit trail is told.
    pub events: Vec<AuditEvent>,
}

impl CommandOutput {
    /// Nothing, since all was as it was wanted.
    pub fn unchanged(answer: ApiResponse) -> Self {
        Self {
            answer,
            jobs: Vec::new(),
            changed: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Something that is complete in the database alone.
    pub fn complete(answer: ApiResponse, event: AuditEvent) -> Self {
        Self {
            events: vec![event],
            ..Self::unchanged(answer)
        }
    }
}

/// Why nothing was recorded.
#[derive(Debug)]
pub enum CommandError {
    /// It may not be.
    Refused(Box<ApiError>),
    /// It was before: the answer is there.
    Answered,
}

impl From<ApiError> for CommandError {
    fn from(error: ApiError) -> Self {
        Self::Refused(Box::new(error))
    }
}

/// Ends a transaction because of `error`.
pub fn reject(error: impl Into<ApiError>) -> TransactionError<CommandError> {
    TransactionError::Aborted(error.into().into())
}

/// What a caller is told about a change.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiResponse {
    /// The status.
    pub status: StatusCode,
    /// Where the outcome can be looked up.
    pub location: Option<String>,
    /// The version of what is in the body.
    pub etag: Option<String>,
    /// The resource, as GET shows it.
    pub body: Value,
    /// Whether it is the stored answer to an earlier request.
    pub replayed: bool,
    /// The member of the body that is told once: it is not stored.
    pub secret: Option<&'static str>,
}

impl ApiResponse {
    /// The resource, in this version.
    pub fn new(status: StatusCode, etag: ETag, body: &impl Serialize) -> Result<Self, ApiError> {
        Ok(Self {
            etag: Some(etag.to_string()),
            ..Self::unversioned(status, body)?
        })
    }

    /// A resource that has no versions.
    pub fn unversioned(status: StatusCode, body: &impl Serialize) -> Result<Self, ApiError> {
        Ok(Self {
            status,
            location: None,
            etag: None,
            body: serde_json::to_value(body).map_err(|error| ApiError::internal(error.into()))?,
            replayed: false,
            secret: None,
        })
    }

    /// The same, of which this member is told once: whoever repeats the request finds null, and `secretAlreadyShown`.
    #[must_use]
    pub fn with_one_time_secret(mut self, secret: &'static str) -> Self {
        self.secret = Some(secret);
        self
    }

    /// The same, with the place where the outcome can be looked up.
    #[must_use]
    pub fn at(mut self, location: String) -> Self {
        self.location = Some(location);
        self
    }
}

impl IntoResponse for ApiResponse {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let texts = [(header::LOCATION, self.location), (header::ETAG, self.etag)];
        for (name, value) in texts {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name, value);
            }
        }
        if self.status == StatusCode::ACCEPTED {
            headers.insert(header::RETRY_AFTER, LOOK_AGAIN.into());
        }
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// Records what one request wants.
#[derive(Debug)]
pub struct CommandRunner<'a> {
    /// Where it is recorded.
    pub app: &'a AppState,
    /// Who wants it.
    pub caller: &'a Caller,
    /// The request.
    pub request: &'a RequestInfo,
    /// What makes it safe to ask twice.
    pub key: Option<&'a IdempotencyKey>,
    /// The tenant that the caller has rights to.
    tenant: Option<&'a Tenant>,
    turn: Option<KeyedGuard<'a>>,
}

/// What was recorded, or had been.
#[derive(Debug)]
pub struct CommandResult {
    /// What the caller is told.
    pub answer: ApiResponse,
    /// The job that the answer speaks of; none in a replay.
    pub job: Option<Job>,
}

impl<'a> CommandRunner<'a> {
    /// For a request of `caller`'s.
    pub fn new(
        app: &'a AppState,
        caller: &'a Caller,
        request: &'a RequestInfo,
        key: Option<&'a IdempotencyKey>,
    ) -> Self {
        Self {
            app,
            caller,
            request,
            key,
            tenant: None,
            turn: None,
        }
    }

    /// The same for what the caller may do by their rights to `tenant`.
    #[must_use]
    pub fn on(self, tenant: &'a Tenant) -> Self {
        Self {
            tenant: Some(tenant),
            ..self
        }
    }

    /// The same in the caller's turn in a line, on `tenant` if it is one's. The turn ends with what is returned.
    pub async fn serialized_on<'t>(
        &'t self,
        line: &str,
        tenant: Option<&'t Tenant>,
    ) -> Result<CommandRunner<'t>, ApiError> {
        let turn = self.app.turns.lock(line).await?;
        Ok(CommandRunner {
            tenant,
            turn: Some(turn),
            ..*self
        })
    }

    /// Whether somebody waits for this turn to end.
    pub fn is_waited_for(&self) -> bool {
        self.turn.as_ref().is_some_and(KeyedGuard::has_waiters)
    }

    /// The caller, as jobs name who asked for them.
    pub fn actor_id(&self) -> String {
        self.caller.user.id.to_string()
    }

    /// Records `intent`, or finds the answer to the request that did.
    pub async fn record(&self, intent: &impl Command) -> Result<CommandResult, ApiError> {
        let recorded = self
            .app
            .store
            .transaction((self, intent), |session, (recorder, intent)| {
                async move {
                    let work = async {
                        recorder.claim_key(session).await?;
                        intent.record(session, recorder).await
                    };
                    // The next in line wait meanwhile; nothing is committed, or told, before both are known.
                    let (rights, recorded) = tokio::join!(recorder.check_rights(), work);
                    rights.map_err(reject)?;
                    let mut recorded = recorded?;
                    let is_accepted = recorded.answer.status == StatusCode::ACCEPTED;
                    for event in &mut recorded.events {
                        if is_accepted && event.job_id.is_some() {
                            event.outcome = audit::Outcome::Accepted;
                        }
                    }
                    let audit = &recorder.app.audit;
                    audit.record_all(session, &recorded.events).await?;
                    if let Some(key) = recorder.key {
                        let answer = stored(&recorded.answer);
                        recorder
                            .app
                            .idempotency
                            .answer(session, key, &answer)
                            .await?;
                    }
                    Ok(recorded)
                }
                .boxed()
            })
            .await;
        match recorded {
            Ok(recorded) => {
                self.publish_hints(&recorded);
                Ok(CommandResult {
                    answer: recorded.answer,
                    job: recorded.jobs.into_iter().next(),
                })
            }
            Err(TransactionError::Aborted(CommandError::Answered)) => self.replay().await,
            Err(TransactionError::Aborted(CommandError::Refused(error))) => Err(*error),
            Err(TransactionError::Store(error)) => Err(refused_by_store(error)),
        }
    }

    /// An event of this request.
    pub fn event(
        &self,
        now: DateTime,
        action: Action,
        target: Target,
        tenant: Option<&Tenant>,
    ) -> AuditEvent {
        let mut event = AuditEvent::new(
            now,
            self.caller.actor(tenant),
            action,
            target,
            self.request.origin(),
        );
        event.tenant_id = tenant.map(|tenant| tenant.id);
        event
    }

    /// Whoever waited, for their turn or for their own body, acts with the rights they have after the wait.
    async fn check_rights(&self) -> Result<(), ApiError> {
        let waited = self.turn.as_ref().is_some_and(KeyedGuard::was_contended);
        if waited || self.caller.permissions_stale() {
            self.caller
                .recheck_permissions(self.app, self.tenant)
                .await?;
        }
        Ok(())
    }

    async fn claim_key(
        &self,
        session: &mut ClientSession,
    ) -> Result<(), TransactionError<CommandError>> {
        let Some(key) = self.key else {
            return Ok(());
        };
        let now = self.app.store.now();
        match self.app.idempotency.claim(session, key, now).await? {
            Claim::New => Ok(()),
            Claim::Answered => Err(TransactionError::Aborted(CommandError::Answered)),
            Claim::InProgress => Err(reject(ProblemCode::IdempotencyInProgress)),
        }
    }

    async fn replay(&self) -> Result<CommandResult, ApiError> {
        let key = self.key.ok_or(ProblemCode::IdempotencyInProgress)?;
        let answer = replay(self.app, key).await?;
        Ok(CommandResult { answer, job: None })
    }

    fn publish_hints(&self, recorded: &CommandOutput) {
        let (ready, changes) = (self.app.ready.clone(), self.app.changes.clone());
        let jobs = recorded.jobs.clone();
        let of_jobs = jobs.iter().map(|job| Changed::Job(job.id));
        let news: Vec<Changed> = recorded.changed.iter().copied().chain(of_jobs).collect();
        self.app.background.spawn(async move {
            tokio::join!(ready.notify(&jobs), changes.publish(&news));
        });
    }
}

/// A refusal, as it is stored with its key.
#[derive(Serialize, Deserialize)]
struct StoredRejection {
    code: ProblemCode,
    detail: String,
    errors: Vec<FieldError>,
}

/// Remembers a refusal that followed from the request alone, unless its key was used before.
pub async fn store_rejection(
    app: &AppState,
    key: &IdempotencyKey,
    refusal: ApiError,
) -> Result<ApiError, ApiError> {
    let body = StoredRejection {
        code: refusal.code,
        detail: refusal.detail.clone(),
        errors: refusal.errors.clone(),
    };
    let answer = StoredAnswer {
        status: refusal.code.status().as_u16().into(),
        location: None,
        etag: None,
        body: serde_json::to_string(&body).map_err(|error| ApiError::internal(error.into()))?,
    };
    let now = app.store.now();
    if app.idempotency.remember(key, &answer, now).await? {
        return Ok(refusal);
    }
    // A stored success under this key is of another body, and `replay` says so.
    match replay(app, key).await {
        Ok(_) => Err(ProblemCode::IdempotencyKeyReused.into()),
        Err(stored) => Ok(stored),
    }
}

/// The answer that was stored with a key; a stored refusal is an error once more.
async fn replay(app: &AppState, key: &IdempotencyKey) -> Result<ApiResponse, ApiError> {
    let Some(answered) = app.idempotency.find(key).await? else {
        // It was there a moment ago, and its time was over.
        return Err(ProblemCode::IdempotencyInProgress.into());
    };
    if answered.fingerprint != key.fingerprint {
        return Err(ProblemCode::IdempotencyKeyReused.into());
    }
    let answer = answered.answer;
    let status = u16::try_from(answer.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| ApiError::internal(anyhow::anyhow!("a stored answer has no status")))?;
    let unreadable = |error: serde_json::Error| ApiError::internal(error.into());
    if status.is_success() {
        return Ok(ApiResponse {
            status,
            location: answer.location,
            etag: answer.etag,
            body: serde_json::from_str(&answer.body).map_err(unreadable)?,
            replayed: true,
            secret: None,
        });
    }
    let refusal: StoredRejection = serde_json::from_str(&answer.body).map_err(unreadable)?;
    let mut error = ApiError::new(refusal.code).with_detail(refusal.detail);
    error.errors = refusal.errors;
    error.replayed = true;
    Err(error)
}

fn stored(answer: &ApiResponse) -> StoredAnswer {
    let mut body = answer.body.clone();
    if let Some(secret) = answer.secret {
        body[secret] = Value::Null;
        body["secretAlreadyShown"] = true.into();
    }
    StoredAnswer {
        status: answer.status.as_u16().into(),
        location: answer.location.clone(),
        etag: answer.etag.clone(),
        body: body.to_string(),
    }
}

/// What a unique index has to say is for the caller.
fn refused_by_store(error: StoreError) -> ApiError {
    match duplicate_key_index(&error).as_deref() {
        Some(SLUG_INDEX | partners::SLUG_INDEX) => ProblemCode::SlugTaken.into(),
        Some(DOMAIN_INDEX | OWNED_INDEX) => ProblemCode::DomainTaken.into(),
        Some(CLAIM_INDEX) => ProblemCode::DomainExists.into(),
        Some(SUBJECT_INDEX) => ProblemCode::UserExists.into(),
        Some(LIVE_INDEX) => ProblemCode::SubscriptionExists.into(),
        Some(PRICE_INDEX) => ProblemCode::PriceExists.into(),
        _ => error.into(),
    }
}
