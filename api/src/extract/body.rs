//! What a caller submits: a JSON body that holds nothing unexpected, and perhaps an `Idempotency-Key`.
//!
//! A request that is refused for its body alone is remembered with its key, like one that was carried out. So this
//! comes after the extractor that authorises.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dezky_shared::{id::UserId, store::idempotency::IdempotencyKey};
use http::{HeaderMap, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Caller;
use crate::{
    error::{ApiError, Code, FieldError},
    intent,
    state::{App, AppState},
};

/// The largest body that is read.
const BODY_LIMIT: usize = 256 * 1024;
/// The longest idempotency key.
const KEY_LIMIT: usize = 255;

/// A body that was accepted, and the key it came with.
#[derive(Debug)]
pub struct Submitted<T> {
    /// What is asked for.
    pub body: T,
    /// What makes it safe to ask twice.
    pub key: Option<IdempotencyKey>,
}

/// Something that a body can ask for.
pub trait Accept: Sized + Send {
    /// The body's shape.
    type Wire: DeserializeOwned;
    /// Whether no body is the same as an empty object.
    const MAY_BE_EMPTY: bool = false;

    /// Takes the values, or says all that is wrong with them.
    fn accept(wire: Self::Wire, app: &AppState) -> Result<Self, Vec<FieldError>>;
}

/// No body, or an empty object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoBody {}

impl Accept for NoBody {
    type Wire = Self;
    const MAY_BE_EMPTY: bool = true;

    fn accept(wire: Self, _: &AppState) -> Result<Self, Vec<FieldError>> {
        Ok(wire)
    }
}

impl<T: Accept> FromRequest<App> for Submitted<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let text = key_text(&parts.headers)?;
        let bytes = read(&parts.headers, body).await?;
        let key = match text {
            None => None,
            Some(text) => Some(key(&parts, text, &bytes)?),
        };
        match parse::<T>(&parts.headers, &bytes, app) {
            Ok(body) => Ok(Self { body, key }),
            Err(refusal) => Err(match &key {
                None => refusal,
                Some(key) => intent::remember_refusal(app, key, refusal).await?,
            }),
        }
    }
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_LIMIT) {
        return Err(Code::PayloadTooLarge.into());
    }
    match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Code::PayloadTooLarge.into()),
        Err(_) => Err(ApiError::new(Code::InvalidRequest).with_detail("The body broke off.")),
    }
}

fn parse<T: Accept>(headers: &HeaderMap, bytes: &[u8], app: &AppState) -> Result<T, ApiError> {
    let bytes = if bytes.is_empty() && T::MAY_BE_EMPTY {
        b"{}"
    } else {
        if !is_json(headers) {
            return Err(Code::UnsupportedMediaType.into());
        }
        bytes
    };
    expect_object(bytes)?;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let wire: T::Wire = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| ApiError::shape(shape_error(&error)))?;
    reader
        .end()
        .map_err(|error| ApiError::shape(FieldError::at("", "invalid_json", error.to_string())))?;

    let mut nuls = Vec::new();
    if let Ok(value) = serde_json::from_slice(bytes) {
        find_nuls(&value, "", &mut nuls);
    }
    if !nuls.is_empty() {
        return Err(ApiError::values(nuls));
    }
    T::accept(wire, app).map_err(ApiError::values)
}

/// Fields are named: serde would take an array of their values as well.
fn expect_object(bytes: &[u8]) -> Result<(), ApiError> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_none_or(|first| *first == b'{') {
        return Ok(());
    }
    let (code, message) = match serde_json::from_slice::<IgnoredAny>(bytes) {
        Ok(_) => ("wrong_type", "The body must be an object.".to_owned()),
        Err(error) => ("invalid_json", error.to_string()),
    };
    Err(ApiError::shape(FieldError::at("", code, message)))
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    ["application/json", "application/merge-patch+json"]
        .iter()
        .any(|json| essence.eq_ignore_ascii_case(json))
}

/// The first thing that is wrong with a body's shape, and where.
fn shape_error(error: &serde_path_to_error::Error<serde_json::Error>) -> FieldError {
    let inner = error.inner();
    let message = inner.to_string();
    let mut pointer = String::new();
    for segment in error.path() {
        use serde_path_to_error::Segment;
        match segment {
            Segment::Map { key } => push(&mut pointer, key),
            Segment::Seq { index } => push(&mut pointer, &index.to_string()),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    let code = if !inner.is_data() {
        "invalid_json"
    } else if let Some(field) = quoted_after(&message, "unknown field `") {
        if !pointer.ends_with(&escaped(field)) {
            push(&mut pointer, field);
        }
        "unknown_field"
    } else if let Some(field) = quoted_after(&message, "missing field `") {
        push(&mut pointer, field);
        "missing_field"
    } else if let Some(field) = quoted_after(&message, "duplicate field `") {
        push(&mut pointer, field);
        "duplicate_field"
    } else {
        "wrong_type"
    };
    FieldError::at(pointer, code, message)
}

fn quoted_after<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    let (name, _) = message.strip_prefix(before)?.split_once('`')?;
    Some(name)
}

fn push(pointer: &mut String, segment: &str) {
    pointer.push('/');
    pointer.push_str(&escaped(segment));
}

/// RFC 6901, section 3.
fn escaped(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

fn find_nuls(value: &Value, at: &str, found: &mut Vec<FieldError>) {
    let mut check = |text: &str| {
        if text.contains('\0') {
            let at = at.replace('\0', "");
            found.push(FieldError::at(at, "nul", "NUL is not allowed."));
        }
    };
    match value {
        Value::String(text) => check(text),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_nuls(item, &format!("{at}/{index}"), found);
            }
        }
        Value::Object(fields) => {
            fields.keys().for_each(|name| check(name));
            for (name, field) in fields {
                find_nuls(field, &format!("{at}/{}", escaped(name)), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
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
        Err(Code::InvalidIdempotencyKey.into())
    }
}

fn key(parts: &Parts, text: &str, body: &[u8]) -> Result<IdempotencyKey, ApiError> {
    let caller: &Caller = parts.extensions.get().ok_or_else(|| {
        ApiError::internal(anyhow::anyhow!(
            "a body was read before its caller was known"
        ))
    })?;
    Ok(IdempotencyKey {
        id: id(caller.user.id, parts, text),
        fingerprint: digest(&[parts.uri.query().unwrap_or_default().as_bytes(), body]),
    })
}

/// Whose key it is, and for which route.
fn id(caller: UserId, parts: &Parts, text: &str) -> String {
    digest(&[
        &caller.bytes(),
        parts.method.as_str().as_bytes(),
        parts.uri.path().as_bytes(),
        text.as_bytes(),
    ])
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
