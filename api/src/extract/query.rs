//! The query string: every parameter is one that is known, and stands there once.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

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
    /// Takes a parameter that is not of the wrong kind.
    pub fn take<T>(&mut self, name: &str) -> Result<Option<T>, ApiError>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.text(name)
            .map(|text| {
                text.parse().map_err(|error| {
                    ApiError::shape(FieldError::parameter(
                        name,
                        "invalid",
                        format!("{name} is not valid: {error}"),
                    ))
                })
            })
            .transpose()
    }

    /// Takes a parameter as it is.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    fn parse(parts: &Parts) -> Result<Self, ApiError> {
        let AxumQuery(pairs) = AxumQuery::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| {
                ApiError::shape(FieldError::parameter(
                    "",
                    "invalid",
                    "The query string cannot be read.",
                ))
            })?;
        let mut parameters = BTreeMap::new();
        for (name, value) in pairs {
            if value.contains('\0') || name.contains('\0') {
                return Err(ApiError::values(vec![FieldError::parameter(
                    name.replace('\0', ""),
                    "nul",
                    "NUL is not allowed.",
                )]));
            }
            if let Some(twice) = parameters.insert(name.clone(), value).map(|_| name) {
                let message = format!("{twice} is given twice.");
                return Err(ApiError::shape(FieldError::parameter(
                    twice,
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
                let message = format!("There is no parameter {unknown:?} here.");
                let error = FieldError::parameter(unknown, "unknown_parameter", message);
                Err(ApiError::shape(error))
            }
        }
    }
}
