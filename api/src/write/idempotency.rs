//! Idempotency keys: a repeated request gets the stored response, or the stored rejection, of the first one.

use axum::extract::{FromRequestParts as _, MatchedPath, RawPathParams};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dezky_shared::store::{
    StoreError,
    group_commit::Inserts,
    idempotency::{Claim, IdempotencyKey, StoredResponse},
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use mongodb::ClientSession;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::rollback::{CommandError, Rollback};
use crate::{
    error::{ApiError, FieldError, ProblemCode},
    extract::{Caller, media_type},
    response::ApiResponse,
    state::AppState,
};

/// Maximum length of the header's value.
const KEY_LIMIT: usize = 255;

/// The value of the `Idempotency-Key` header.
pub(super) fn header_value(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all("idempotency-key").into_iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let usable = !text.is_empty()
        && text.len() <= KEY_LIMIT
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && values.next().is_none();
    if usable {
        Ok(Some(text))
    } else {
        Err(ProblemCode::InvalidIdempotencyKey.into())
    }
}

/// The stored key: scoped to the caller and the route, however the path is spelled. The fingerprint covers the rest of
/// the request, so that a key reused for another request is detected.
pub(super) async fn key(
    parts: &mut Parts,
    text: &str,
    body: &[u8],
) -> Result<IdempotencyKey, ApiError> {
    let params = RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|_| ProblemCode::NotFound)?;
    let (Some(Caller { user, .. }), Some(route)) = (
        parts.extensions.get::<Caller>(),
        parts.extensions.get::<MatchedPath>(),
    ) else {
        let cause = anyhow::anyhow!("a body was read before its caller and route were known");
        return Err(ApiError::internal(cause));
    };
    // Slugs are lower case, and ids are case-insensitive.
    let params: Vec<String> = params
        .iter()
        .map(|(_, value)| value.to_ascii_lowercase())
        .collect();
    let user = user.id.bytes();
    let mut scope = vec![
        &user[..],
        parts.method.as_str().as_bytes(),
        route.as_str().as_bytes(),
        text.as_bytes(),
    ];
    scope.extend(params.iter().map(String::as_bytes));
    let query = parts.uri.query().unwrap_or_default();
    let media_type = media_type(&parts.headers);
    let mut request = vec![query.as_bytes(), media_type.as_bytes(), body];
    let encodings = parts.headers.get_all(header::CONTENT_ENCODING);
    request.extend(encodings.iter().map(HeaderValue::as_bytes));
    Ok(IdempotencyKey {
        id: digest(&scope),
        fingerprint: digest(&request),
    })
}

/// SHA-256 over length-prefixed parts.
fn digest(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    URL_SAFE_NO_PAD.encode(digest.finalize())
}

/// Claims `key` for the current transaction. Must be its first write.
pub(super) async fn claim(
    app: &AppState,
    session: &mut ClientSession,
    key: &IdempotencyKey,
) -> Result<(), Rollback> {
    match app
        .db
        .idempotency
        .claim(session, key, app.store.now())
        .await?
    {
        Claim::New => Ok(()),
        Claim::Completed => Err(Rollback::Aborted(CommandError::Replay)),
        Claim::InProgress => Err(ProblemCode::IdempotencyInProgress.into()),
    }
}

/// Stores the response to a claimed key, without its one-time secret.
pub(super) async fn store_response(
    app: &AppState,
    session: &mut ClientSession,
    key: &IdempotencyKey,
    response: &ApiResponse,
) -> Result<(), Rollback> {
    let stored = without_secret(response);
    let keys = &app.db.idempotency;
    Ok(keys.store_response(session, key, &stored).await?)
}

/// Claims `key` and stores the response, in a group commit.
pub(super) fn insert_in_group(
    app: &AppState,
    inserts: &mut Inserts,
    key: &IdempotencyKey,
    response: &ApiResponse,
) -> Result<(), StoreError> {
    let (keys, now) = (&app.db.idempotency, app.store.now());
    keys.insert_in_group(inserts, key, &without_secret(response), now)
}

/// A response as it is stored: without its one-time secret.
fn without_secret(response: &ApiResponse) -> StoredResponse {
    let mut body = response.body.clone();
    if let Some(secret) = response.secret {
        body[secret] = Value::Null;
        body["secretAlreadyShown"] = true.into();
    }
    StoredResponse {
        status: response.status.as_u16().into(),
        location: response.location.clone(),
        etag: response.etag.clone(),
        body: body.to_string(),
    }
}

/// The body of a stored rejection.
#[derive(Serialize, Deserialize)]
struct StoredRejection {
    code: ProblemCode,
    detail: String,
    errors: Vec<FieldError>,
}

/// Stores a rejection that follows from the request alone, and returns the error to respond with: another one if the
/// key is taken.
pub(super) async fn store_rejection(
    app: &AppState,
    key: &IdempotencyKey,
    rejection: ApiError,
) -> Result<ApiError, ApiError> {
    let body = StoredRejection {
        code: rejection.code,
        detail: rejection.detail.clone(),
        errors: rejection.errors.clone(),
    };
    let stored = StoredResponse {
        status: rejection.code.status().as_u16().into(),
        location: None,
        etag: None,
        body: serde_json::to_string(&body)?,
    };
    let now = app.store.now();
    if app
        .db
        .idempotency
        .insert_with_response(key, &stored, now)
        .await?
    {
        return Ok(rejection);
    }
    // A success stored under this key is that of another body; `replay` detects it.
    match replay(app, key).await {
        Ok(_) => Err(ProblemCode::IdempotencyKeyReused.into()),
        Err(stored) => Ok(stored),
    }
}

/// The response that is stored for `key`. A stored rejection is returned as the error it was.
pub(super) async fn replay(app: &AppState, key: &IdempotencyKey) -> Result<ApiResponse, ApiError> {
    let Some(stored) = app.db.idempotency.find(key).await? else {
        // It expired since it was claimed.
        return Err(ProblemCode::IdempotencyInProgress.into());
    };
    if stored.fingerprint != key.fingerprint {
        return Err(ProblemCode::IdempotencyKeyReused.into());
    }
    let stored = stored.response;
    let status = u16::try_from(stored.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| ApiError::internal(anyhow::anyhow!("a stored response has no status")))?;
    if status.is_success() {
        return Ok(ApiResponse {
            status,
            location: stored.location,
            etag: stored.etag,
            body: serde_json::from_str(&stored.body)?,
            replayed: true,
            secret: None,
        });
    }
    let rejection: StoredRejection = serde_json::from_str(&stored.body)?;
    let mut error = ApiError::new(rejection.code).with_detail(rejection.detail);
    error.errors = rejection.errors;
    error.replayed = true;
    Err(error)
}
