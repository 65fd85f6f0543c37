//! How long a caller is ready to wait.

use std::{convert::Infallible, time::Duration};

use axum::extract::FromRequestParts;
use http::{HeaderMap, request::Parts};
use tokio::time::Instant;
use utoipa::IntoParams;

use super::{FromQuery, Parameters};
use crate::error::{ApiError, FieldError};

/// The longest that anybody waits.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// `?wait=25s`.
#[derive(Debug, Clone, Copy, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wait {
    /// Answer when something changes, or after so many seconds (at most `30s`).
    #[param(value_type = Option<String>, example = "25s")]
    pub wait: Option<Duration>,
}

/// `Prefer: wait=25` (RFC 7240).
#[derive(Debug, Clone, Copy, Default)]
pub struct Prefer {
    /// How long the final state is worth waiting for.
    pub wait: Option<Duration>,
}

impl Wait {
    /// When the wait ends, if there is one.
    pub fn deadline(self) -> Option<Instant> {
        self.wait.map(|wait| Instant::now() + wait)
    }
}

impl Prefer {
    /// When the wait ends, if there is one.
    pub fn deadline(self) -> Option<Instant> {
        self.wait.map(|wait| Instant::now() + wait)
    }
}

impl FromQuery for Wait {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let Some(text) = parameters.text("wait") else {
            return Ok(Self { wait: None });
        };
        let wait = seconds(&text).ok_or_else(|| {
            let message = "wait is a number of seconds, such as 25s.";
            ApiError::malformed(FieldError::parameter("wait", "invalid", message))
        })?;
        if wait > LONGEST_WAIT {
            let error = FieldError::parameter("wait", "out_of_range", "wait must be at most 30s.");
            return Err(ApiError::invalid(vec![error]));
        }
        Ok(Self { wait: Some(wait) })
    }
}

impl<S: Sync> FromRequestParts<S> for Prefer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self {
            wait: preferred(&parts.headers),
        })
    }
}

/// How long this request may wait, beside the time it needs.
pub fn max_wait(headers: &HeaderMap, query: Option<&str>) -> Duration {
    let asks = query.is_some_and(|query| query.contains("wait="));
    if asks || preferred(headers).is_some() {
        LONGEST_WAIT
    } else {
        Duration::ZERO
    }
}

/// A preference that makes no sense is ignored, and one that is too long is cut short (RFC 7240, section 2).
fn preferred(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all("prefer").into_iter();
    let wait = preferences
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .find_map(|preference| {
            let (name, value) = preference.split_once('=')?;
            let value = value.trim().trim_matches('"');
            (name.trim().eq_ignore_ascii_case("wait")).then(|| seconds(value))?
        })?;
    Some(wait.min(LONGEST_WAIT))
}

/// `25` or `25s`.
fn seconds(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Duration::from_secs(number.parse().unwrap_or(u64::from(u32::MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_number_of_seconds() {
        assert_eq!(seconds("25s"), Some(Duration::from_secs(25)));
        assert_eq!(seconds("25"), Some(Duration::from_secs(25)));
        for wrong in ["", "s", "-1", "+1", "1.5s", "1m", " 1"] {
            assert_eq!(seconds(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_preference_is_found_among_others_and_cut_short() {
        let preferred = |value: &str| {
            preferred(&HeaderMap::from_iter([(
                "prefer".parse().unwrap(),
                value.parse().unwrap(),
            )]))
        };

        assert_eq!(preferred("wait=5"), Some(Duration::from_secs(5)));
        assert_eq!(
            preferred("respond-async, wait=5"),
            Some(Duration::from_secs(5))
        );
        assert_eq!(preferred("wait=600"), Some(LONGEST_WAIT));
        assert_eq!(preferred("wait=soon"), None);
    }
}
