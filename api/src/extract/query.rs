//! Query parameters. Unknown and duplicate parameters are rejected.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use axum::extract::{FromRequestParts, Query as AxumQuery};
use http::{Uri, request::Parts};

use crate::error::{ApiError, FieldError};

/// The parameters of a query string.
#[derive(Debug)]
pub struct QueryParams<T>(pub T);

/// Parameters by name; extractors take what they read.
#[derive(Debug, Default)]
pub struct Parameters(BTreeMap<String, String>);

/// Reads a value from a query string.
pub trait FromQuery: Sized {
    /// Takes its parameters out of `parameters`.
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError>;
}

impl Parameters {
    /// Takes and parses a parameter. `expected` describes a valid value.
    pub fn take<T: FromStr>(&mut self, name: &str, expected: &str) -> Result<Option<T>, ApiError> {
        let invalid = |_| {
            let message = format!("{name} must be {expected}.");
            ApiError::malformed(FieldError::parameter(name, "invalid", message))
        };
        self.text(name)
            .map(|text| text.parse().map_err(invalid))
            .transpose()
    }

    /// Takes a parameter as text.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Rejects a parameter that is not in `known`.
    pub(crate) fn reject_unknown(self, known: &BTreeSet<String>) -> Result<(), ApiError> {
        match self.0.into_keys().find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(unknown) => {
                let message = "Unknown parameter.";
                let error = FieldError::parameter(unknown, "unknown_parameter", message);
                Err(ApiError::malformed(error))
            }
        }
    }

    /// Parses a query string.
    pub(crate) fn parse(uri: &Uri) -> Result<Self, ApiError> {
        let AxumQuery(pairs) =
            AxumQuery::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| {
                ApiError::malformed(FieldError::parameter(
                    "",
                    "invalid",
                    "Malformed query string.",
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
                let message = "Duplicate parameter.";
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
        let mut parameters = Parameters::parse(&parts.uri)?;
        let value = T::from_query(&mut parameters)?;
        // A documented parameter that this endpoint does not read. Undocumented ones were rejected before.
        parameters.reject_unknown(&BTreeSet::new())?;
        Ok(Self(value))
    }
}
