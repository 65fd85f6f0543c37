//! Query parameters. Unknown and duplicate parameters are rejected.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use axum::extract::{FromRequestParts, Query as AxumQuery};
use bson::DateTime;
use dezky_shared::audit::words;
use http::{Uri, request::Parts};
use serde::de::DeserializeOwned;

use crate::{
    error::{ApiError, FieldError},
    validate::{self, EnumName},
};

/// Maximum length of a search text, in characters.
const MAX_SEARCH_LENGTH: usize = 200;
/// Maximum number of words in a search text.
const MAX_SEARCH_WORDS: usize = 8;

/// The parameters of a query string.
#[derive(Debug)]
pub struct QueryParams<T>(pub T);

/// Parameters by name; extractors take those that they read.
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

    /// Takes an enum variant by its stored name. `expected` lists the valid names.
    pub fn variant<T: DeserializeOwned>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, ApiError> {
        let variant = self.take(name, expected)?;
        Ok(variant.map(|EnumName(variant)| variant))
    }

    /// Takes a parameter as text.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Takes a search text: its words, which are empty without the parameter.
    pub fn search_words(&mut self, name: &str) -> Result<Vec<String>, FieldError> {
        let Some(text) = self.text(name) else {
            return Ok(Vec::new());
        };
        if text.chars().count() > MAX_SEARCH_LENGTH {
            let message = format!("{name} must have at most {MAX_SEARCH_LENGTH} characters.");
            return Err(FieldError::parameter(name, "too_long", message));
        }
        let words = words(&text);
        if !(1..=MAX_SEARCH_WORDS).contains(&words.len()) {
            let message =
                format!("{name} must have 1 to {MAX_SEARCH_WORDS} words of letters and digits.");
            return Err(FieldError::parameter(name, "out_of_range", message));
        }
        Ok(words)
    }

    /// Takes a time (RFC 3339).
    pub fn time(&mut self, name: &str) -> Result<Option<DateTime>, FieldError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let time = validate::time(&with_offset(text));
        time.map(Some)
            .map_err(|(code, message)| FieldError::parameter(name, code, message))
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

/// The time with the `+` of its offset: unescaped, a `+` in a query stands for a blank.
fn with_offset(time: String) -> String {
    match time.rsplit_once(' ') {
        Some((time, offset)) if offset.contains(':') && time.contains(['T', 't']) => {
            format!("{time}+{offset}")
        }
        _ => time,
    }
}
