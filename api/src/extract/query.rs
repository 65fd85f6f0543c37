//! The query string: every parameter is one that is known, and stands there once.

use std::{collections::BTreeMap, str::FromStr};

use axum::extract::{FromRequestParts, Query as AxumQuery};
use http::request::Parts;

use crate::error::{ApiError, FieldError};

/// The parameters of a query string.
#[derive(Debug)]
pub struct QueryParams<T>(pub T);

/// Parameters that are read one by one.
#[derive(Debug, Default)]
pub struct Parameters(BTreeMap<String, String>);

/// Something that is read from a query string.
pub trait FromQuery: Sized {
    /// Takes what it needs from `parameters`.
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError>;
}

impl FromQuery for () {
    fn from_query(_: &mut Parameters) -> Result<Self, ApiError> {
        Ok(())
    }
}

impl Parameters {
    /// Takes a parameter that must be what is `expected`.
    pub fn take<T: FromStr>(&mut self, name: &str, expected: &str) -> Result<Option<T>, ApiError> {
        let wrong = |_| {
            let message = format!("{name} must be {expected}.");
            ApiError::malformed(FieldError::parameter(name, "invalid", message))
        };
        self.text(name)
            .map(|text| text.parse().map_err(wrong))
            .transpose()
    }

    /// Takes a parameter as it is.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    fn parse(parts: &Parts) -> Result<Self, ApiError> {
        let AxumQuery(pairs) = AxumQuery::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| {
                ApiError::malformed(FieldError::parameter(
                    "",
                    "invalid",
                    "The query string cannot be read.",
                ))
            })?;
        let mut parameters = BTreeMap::new();
        for (name, value) in pairs {
            if value.contains('\0') || name.contains('\0') {
                return Err(ApiError::invalid(vec![FieldError::parameter(
                    name.replace('\0', ""),
                    "nul",
                    "NUL is not allowed.",
                )]));
            }
            if parameters.insert(name.clone(), value).is_some() {
                let message = "This parameter is given twice.";
                return Err(ApiError::malformed(FieldError::parameter(
                    name,
                    "duplicate",
                    message,
                )));
            }
        }
        Ok(Self(parameters))
    }
}

impl<S: Sync, T: FromQuery> FromRequestParts<S> for QueryParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut parameters = Parameters::parse(parts)?;
        let value = T::from_query(&mut parameters)?;
        match parameters.0.into_keys().next() {
            None => Ok(Self(value)),
            Some(unknown) => {
                let message = "There is no such parameter here.";
                let error = FieldError::parameter(unknown, "unknown_parameter", message);
                Err(ApiError::malformed(error))
            }
        }
    }
}
