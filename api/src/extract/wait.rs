//! Wait times of long polling: `?wait=` and `Prefer: wait`.

use std::{convert::Infallible, time::Duration};

use axum::extract::FromRequestParts;
use http::{HeaderMap, request::Parts};
use tokio::time::Instant;
use utoipa::IntoParams;

use super::{FromQuery, Parameters};
use crate::error::{ApiError, FieldError};

/// Maximum wait time.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// `?wait=25s`.
#[derive(Debug, Clone, Copy, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wait {
    /// Long polling: wait for a change, up to this time. At most `30s`.
    #[param(value_type = Option<String>, example = "25s")]
    pub wait: Option<Duration>,
}

/// `Prefer: wait=25` (RFC 7240).
#[derive(Debug, Clone, Copy, Default)]
pub struct Prefer {
    /// Maximum time to wait for the final state.
    pub wait: Option<Duration>,
}

impl Wait {
    /// End of the wait, if any.
    pub fn deadline(self) -> Option<Instant> {
        self.wait.map(|wait| Instant::now() + wait)
    }
}

impl Prefer {
    /// End of the wait, if any.
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
            let message = "wait must be a number of seconds, such as 25s.";
            ApiError::malformed(FieldError::parameter("wait", "invalid", message))
        })?;
        if wait > MAX_WAIT {
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

/// Maximum wait time of a request, in addition to its processing time.
pub fn max_wait(headers: &HeaderMap, query: Option<&str>) -> Duration {
    let has_wait = query.is_some_and(|query| query.contains("wait="));
    if has_wait || preferred(headers).is_some() {
        MAX_WAIT
    } else {
        Duration::ZERO
    }
}

/// `Prefer: wait`. A malformed preference is ignored, and a long one is capped (RFC 7240, section 2).
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
    Some(wait.min(MAX_WAIT))
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
        for invalid in ["", "s", "-1", "+1", "1.5s", "1m", " 1"] {
            assert_eq!(seconds(invalid), None, "{invalid:?}");
        }
    }

    #[test]
    fn a_preference_is_found_among_others_and_capped() {
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
        assert_eq!(preferred("wait=600"), Some(MAX_WAIT));
        assert_eq!(preferred("wait=soon"), None);
    }
}
