//! A segment of the path that is an id.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path as AxumPath};
use http::request::Parts;

use crate::error::{ApiError, Code};

/// The path's one parameter. What is not an id is the id of nothing: 404.
#[derive(Debug)]
pub struct PathParam<T>(pub T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for PathParam<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let AxumPath(text) = AxumPath::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| Code::NotFound)?;
        text.parse().map(Self).map_err(|_| Code::NotFound.into())
    }
}
