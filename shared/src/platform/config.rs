//! Reading the environment: the only place that does.
//!
//! A variable that is set but empty counts as not set. A bad or missing one stops the start with its name.

use std::{fmt::Display, str::FromStr, time::Duration};

use anyhow::{Context as _, anyhow, bail};

/// A variable that must be set.
pub fn required<T>(name: &str) -> anyhow::Result<T>
where
    T: FromStr,
    T::Err: Display,
{
    optional(name)?.with_context(|| format!("{name} must be set"))
}

/// A variable that may be missing.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one door to the environment"
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

/// A list separated by commas; the empty list when the variable is missing.
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

/// A number of seconds, fractions allowed, or `default`.
pub fn seconds(name: &str, default: Duration) -> anyhow::Result<Duration> {
    let Some(seconds) = optional::<f64>(name)? else {
        return Ok(default);
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| anyhow!("{name} is not valid: {error}"))
}

/// `true` or `false`, or `default`.
pub fn boolean(name: &str, default: bool) -> anyhow::Result<bool> {
    Ok(optional(name)?.unwrap_or(default))
}
