//! What a caller submits: a JSON body that holds nothing unexpected, and perhaps an `Idempotency-Key`.
//!
//! A request that is refused for its body alone is remembered with its key, like one that was carried out. So this
//! comes after the extractor that authorises.

mod strict_json;

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts as _, MatchedPath, RawPathParams, Request},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dezky_shared::store::idempotency::IdempotencyKey;
use http::{HeaderMap, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

pub(crate) use self::strict_json::Object;
use super::Caller;
use crate::{
    error::{ApiError, FieldError, ProblemCode},
    intent,
    state::{AppState, SharedState},
};

/// The largest body that is read.
const BODY_LIMIT: usize = 256 * 1024;
/// How long a body may take to arrive: less than a request may take, so that it is known who was slow.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest idempotency key.
const KEY_LIMIT: usize = 255;

/// A body that was accepted, and the key it came with.
#[derive(Debug)]
pub struct ValidatedJson<T> {
    /// What is asked for.
    pub body: T,
    /// What makes it safe to ask twice.
    pub key: Option<IdempotencyKey>,
}

/// Something that a body can ask for.
pub trait Validate: Sized + Send {
    /// The body's shape.
    type Raw: DeserializeOwned;
    /// Whether no body is the same as an empty object.
    const MAY_BE_EMPTY: bool = false;

    /// Takes the values, or says all that is wrong with them.
    fn validate(wire: Self::Raw, app: &AppState) -> Result<Self, Vec<FieldError>>;
}

/// No body, or an empty object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmptyBody {}

impl Validate for EmptyBody {
    type Raw = Self;
    const MAY_BE_EMPTY: bool = true;

    fn validate(wire: Self, _: &AppState) -> Result<Self, Vec<FieldError>> {
        Ok(wire)
    }
}

impl<T: Validate> FromRequest<SharedState> for ValidatedJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &SharedState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let text = key_text(&parts.headers)?.map(str::to_owned);
        let bytes = read(&parts.headers, body, BODY_TIMEOUT).await?;
        let key = match text {
            None => None,
            Some(text) => Some(key(&mut parts, &text, &bytes).await?),
        };
        match parse::<T>(&parts.headers, &bytes, app) {
            Ok(body) => Ok(Self { body, key }),
            Err(refusal) => Err(match &key {
                None => refusal,
                Some(key) => intent::store_rejection(app, key, refusal).await?,
            }),
        }
    }
}

async fn read(headers: &HeaderMap, body: Body, patience: Duration) -> Result<Bytes, ApiError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_LIMIT) {
        return Err(ProblemCode::PayloadTooLarge.into());
    }
    let Ok(body) = timeout(patience, Limited::new(body, BODY_LIMIT).collect()).await else {
        return Err(ProblemCode::BodyTimeout.into());
    };
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ProblemCode::PayloadTooLarge.into()),
        Err(_) => {
            Err(ApiError::new(ProblemCode::InvalidRequest).with_detail("The body broke off."))
        }
    }
}

fn parse<T: Validate>(headers: &HeaderMap, bytes: &[u8], app: &AppState) -> Result<T, ApiError> {
    let bytes = if bytes.is_empty() && T::MAY_BE_EMPTY {
        b"{}"
    } else {
        if !is_json(headers) {
            return Err(ProblemCode::UnsupportedMediaType.into());
        }
        bytes
    };
    let wire = strict_json::read(bytes).map_err(ApiError::malformed)?;
    if let Some(nul) = strict_json::find_nul(bytes) {
        return Err(ApiError::invalid(vec![nul]));
    }
    T::validate(wire, app).map_err(ApiError::invalid)
}

fn is_json(headers: &HeaderMap) -> bool {
    ["application/json", "application/merge-patch+json"].contains(&media_type(headers).as_str())
}

/// The type of a body without its parameters, in lower case; empty where none is told.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok());
    let essence = text.and_then(|text| text.split(';').next());
    essence.unwrap_or_default().trim().to_ascii_lowercase()
}

fn key_text(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
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

/// The key is its caller's and its route's own, however the path is spelled. The rest of the request is what it was
/// used for.
async fn key(parts: &mut Parts, text: &str, body: &[u8]) -> Result<IdempotencyKey, ApiError> {
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
    // Slugs are lower case, and ids the same in both.
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
    Ok(IdempotencyKey {
        id: digest(&scope),
        fingerprint: digest(&[
            query.as_bytes(),
            media_type(&parts.headers).as_bytes(),
            body,
        ]),
    })
}

/// A digest that tells apart where one part ends and the next begins.
fn digest(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    URL_SAFE_NO_PAD.encode(digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_that_does_not_arrive_is_not_waited_for() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());

        let read = read(&HeaderMap::new(), never, Duration::from_millis(20)).await;

        assert_eq!(read.unwrap_err().code.status(), 408);
    }
}
