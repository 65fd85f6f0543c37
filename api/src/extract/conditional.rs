//! Conditional requests (RFC 9110, section 13).

use std::{convert::Infallible, fmt};

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, StatusCode, header, request::Parts};
use serde::Serialize;

use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    response::ApiResponse,
};

/// `If-None-Match`: the versions that the caller has cached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IfNoneMatch(Option<Tags>);

/// `If-Match`: the versions that the caller intends to change (optimistic concurrency).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IfMatch(Option<Tags>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Any,
    These(Vec<String>),
}

impl IfNoneMatch {
    /// Whether the header is present.
    pub fn is_present(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the caller has cached this version. Weak comparison: the `W/` prefix is ignored.
    pub fn matches(&self, etag: impl fmt::Display) -> bool {
        let etag = etag.to_string();
        match &self.0 {
            None => false,
            Some(Tags::Any) => true,
            Some(Tags::These(tags)) => tags
                .iter()
                .any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == etag),
        }
    }
}

impl IfMatch {
    /// Rejects a change to another version. Compares only the generation, since the progress of a job must not reject
    /// an edit. Strong comparison: a weak tag never matches.
    pub fn check(&self, etag: ETag) -> Result<(), ApiError> {
        let generation = |tag: &String| {
            let tag = tag.strip_prefix('"')?.strip_suffix('"')?;
            let (generation, _) = tag.split_once('.')?;
            generation.parse::<i64>().ok()
        };
        let matches = match &self.0 {
            None | Some(Tags::Any) => true,
            Some(Tags::These(tags)) => tags
                .iter()
                .any(|tag| generation(tag) == Some(etag.generation)),
        };
        if matches {
            return Ok(());
        }
        let error = ApiError::new(ProblemCode::PreconditionFailed);
        Err(if self.is_weak() {
            error.with_detail(
                "If-Match requires a strong ETag, and this one is weak (W/). Send it as the API returned it; a proxy that \
                 compresses responses may have changed it.",
            )
        } else {
            error
        })
    }

    /// Whether all tags are weak, as proxies make them. Weak tags match no version.
    fn is_weak(&self) -> bool {
        matches!(&self.0, Some(Tags::These(tags)) if tags.iter().all(|tag| tag.starts_with("W/")))
    }
}

impl ApiResponse {
    /// 304 if the caller has this version of the resource, otherwise 200.
    pub fn conditional(if_none_match: &IfNoneMatch, etag: ETag, body: &impl Serialize) -> Response {
        if if_none_match.matches(etag) {
            let headers = [(header::ETAG, etag.to_string())];
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        Self::new(StatusCode::OK, etag, body).into_response()
    }
}

impl<S: Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(tags(&parts.headers, &header::IF_NONE_MATCH)))
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(tags(&parts.headers, &header::IF_MATCH)))
    }
}

/// The tags of a header. Malformed tags match no version.
fn tags(headers: &HeaderMap, name: &HeaderName) -> Option<Tags> {
    if !headers.contains_key(name) {
        return None;
    }
    let mut tags = Vec::new();
    for value in headers.get_all(name) {
        for tag in value.to_str().unwrap_or_default().split(',') {
            match tag.trim() {
                "*" => return Some(Tags::Any),
                tag => tags.push(tag.to_owned()),
            }
        }
    }
    Some(Tags::These(tags))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: ETag = ETag {
        generation: 3,
        revision: 12,
    };

    fn header_tags(value: &str) -> Option<Tags> {
        let headers = HeaderMap::from_iter([(header::IF_MATCH, value.parse().unwrap())]);
        tags(&headers, &header::IF_MATCH)
    }

    #[test]
    fn if_match_compares_the_generation_only() {
        let check = |value: &str| IfMatch(header_tags(value)).check(NOW).is_ok();

        assert!(check("\"3.12\"") && check("\"3.1\"") && check("*"));
        assert!(check("\"2.1\", \"3.4\""));
        assert!(!check("\"2.12\"") && !check("nonsense") && !check("") && !check("3.12"));
        assert!(!check("W/\"3.12\""));
        let weak = IfMatch(header_tags("W/\"3.12\"")).check(NOW).unwrap_err();
        assert!(weak.detail.contains("strong ETag"), "{}", weak.detail);
        assert!(IfMatch(None).check(NOW).is_ok());
    }

    #[test]
    fn if_none_match_compares_generation_and_revision() {
        let matches = |value: &str| IfNoneMatch(header_tags(value)).matches(NOW);

        assert!(
            matches("\"3.12\"")
                && matches("W/\"3.12\"")
                && matches("\"1.1\",\"3.12\"")
                && matches("*")
        );
        assert!(!matches("\"3.11\"") && !matches("3.12") && !matches(""));
        assert!(!IfNoneMatch(None).matches(NOW));
    }
}
