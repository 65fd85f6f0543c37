//! Path parameters.

use std::str::FromStr;

use crate::domain_name;
use axum::extract::{FromRequestParts, Path as AxumPath, RawPathParams};
use http::request::Parts;

use crate::error::{ApiError, ProblemCode};

/// The only parameter of the path. A malformed id is 404.
#[derive(Debug)]
pub struct PathParam<T>(pub T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for PathParam<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let AxumPath(text) = AxumPath::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| ProblemCode::NotFound)?;
        text.parse()
            .map(Self)
            .map_err(|_| ProblemCode::NotFound.into())
    }
}

/// The parameter `id` of a path with several parameters. A malformed id is 404.
#[derive(Debug)]
pub struct PathId<T>(pub T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for PathId<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = parameter(parts, state, "id").await?;
        text.parse()
            .map(Self)
            .map_err(|_| ProblemCode::NotFound.into())
    }
}

/// The parameter `domain`, normalized. An invalid domain name is 404.
#[derive(Debug)]
pub struct PathDomain(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathDomain {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = parameter(parts, state, "domain").await?;
        let name = domain_name::normalise(&text).map_err(|_| ProblemCode::NotFound)?;
        Ok(Self(name))
    }
}

async fn parameter<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    key: &str,
) -> Result<String, ApiError> {
    let parameters = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| ProblemCode::NotFound)?;
    let mut parameters = parameters.iter();
    let (_, text) = parameters
        .find(|(name, _)| *name == key)
        .ok_or(ProblemCode::NotFound)?;
    Ok(text.to_owned())
}
