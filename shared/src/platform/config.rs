//! Environment variables. The only module that reads them.
//!
//! An empty variable counts as unset. A missing or invalid variable fails the start with its name.

use std::{fmt::Display, str::FromStr, time::Duration};

use anyhow::{Context as _, anyhow, bail};

/// A required variable.
pub fn required<T>(name: &str) -> anyhow::Result<T>
where
    T: FromStr,
    T::Err: Display,
{
    optional(name)?.with_context(|| format!("{name} must be set"))
}

/// An optional variable.
#[expect(
    clippy::disallowed_methods,
    reason = "the only place that reads the environment"
)]
pub fn optional<T>(name: &str) -> anyhow::Result<Option<T>>
where
    T: FromStr,
    T::Err: Display,
{
    let text = match std::env::var(name) {
        Ok(text) if text.trim().is_empty() => return Ok(None),
        Ok(text) => text,
        Err(std::env::VarError::NotPresent) => return Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => bail!("{name} is not valid UTF-8"),
    };
    let value = text
        .trim()
        .parse()
        .map_err(|error| anyhow!("{name} is not valid: {error}"))?;
    Ok(Some(value))
}

/// A comma-separated list; empty if the variable is unset.
pub fn list(name: &str) -> anyhow::Result<Vec<String>> {
    let text: Option<String> = optional(name)?;
    let items = text.unwrap_or_default();
    Ok(items
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect())
}

/// A number of seconds, fractions allowed; `default` if unset.
pub fn seconds(name: &str, default: Duration) -> anyhow::Result<Duration> {
    let Some(seconds) = optional::<f64>(name)? else {
        return Ok(default);
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| anyhow!("{name} is not valid: {error}"))
}

/// `true` or `false`; `default` if unset.
pub fn boolean(name: &str, default: bool) -> anyhow::Result<bool> {
    Ok(optional(name)?.unwrap_or(default))
}
