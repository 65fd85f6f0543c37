//! Environment variables. The only module that reads them.
//!
//! An empty variable counts as unset. A missing or invalid variable fails the start with its name.

use std::{
    fmt::Display,
    net::{SocketAddr, ToSocketAddrs as _, UdpSocket},
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use secrecy::SecretString;

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
        Ok(text) => text,
        Err(std::env::VarError::NotPresent) => return Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => bail!("{name} is not valid UTF-8"),
    };
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    ensure!(
        !text.contains(char::is_control),
        "{name} is not valid: it contains a line break or another control character"
    );
    let value = text
        .parse()
        .map_err(|error| anyhow!("{name} is not valid: {error}"))?;
    Ok(Some(value))
}

/// A comma-separated list; empty if the variable is unset.
pub fn list(name: &str) -> anyhow::Result<Vec<String>> {
    let text: Option<String> = optional(name)?;
    items(&text.unwrap_or_default()).map_err(|expected| anyhow!("{name} is not valid: {expected}"))
}

/// Items of a comma-separated list. Quotation marks are part of the value wherever no shell removes them, and would make
/// the first and the last item ineffective.
fn items(text: &str) -> Result<Vec<String>, &'static str> {
    let items = text.split(',').map(str::trim);
    let items: Vec<String> = items
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect();
    let is_quoted = |item: &String| item.starts_with(['"', '\'']) || item.ends_with(['"', '\'']);
    if items.iter().any(is_quoted) {
        return Err("remove the quotation marks");
    }
    Ok(items)
}

/// A number within a range; `default` if unset.
pub fn number<T>(name: &str, default: T, range: RangeInclusive<T>) -> anyhow::Result<T>
where
    T: FromStr + PartialOrd + Display,
    T::Err: Display,
{
    let number = optional(name)?.unwrap_or(default);
    ensure!(
        range.contains(&number),
        "{name} is not valid: expected {} to {}",
        range.start(),
        range.end()
    );
    Ok(number)
}

/// A number of seconds within a range, fractions allowed; `default` if unset.
pub fn seconds(
    name: &str,
    default: Duration,
    range: RangeInclusive<f64>,
) -> anyhow::Result<Duration> {
    let seconds = number(name, default.as_secs_f64(), range)?;
    Duration::try_from_secs_f64(seconds).map_err(|error| anyhow!("{name} is not valid: {error}"))
}

/// `true` or `false`; `default` if unset.
pub fn boolean(name: &str, default: bool) -> anyhow::Result<bool> {
    Ok(optional(name)?.unwrap_or(default))
}

/// A token for the header `Authorization: Bearer`, if the variable is set.
pub fn bearer_token(name: &str) -> anyhow::Result<Option<SecretString>> {
    let token: Option<String> = optional(name)?;
    let is_valid = |token: &String| token.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(
        token.iter().all(is_valid),
        "{name} is not valid: expected the token alone, without blanks and without `Bearer`"
    );
    Ok(token.map(Into::into))
}

/// A user name for HTTP Basic authentication, if the variable is set. It ends at the first colon (RFC 7617).
pub fn login_name(name: &str) -> anyhow::Result<Option<String>> {
    let user: Option<String> = optional(name)?;
    ensure!(
        user.iter().all(|user| !user.contains(':')),
        "{name} is not valid: expected a name without a colon"
    );
    Ok(user)
}

/// A listen address; `default` if unset. A host name stands for the one of its addresses that this machine has, so that a
/// container can listen in one of its networks only.
pub fn listen_address(name: &str, default: SocketAddr) -> anyhow::Result<SocketAddr> {
    let Some(text) = optional::<String>(name)? else {
        return Ok(default);
    };
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let addresses = text.to_socket_addrs().with_context(|| {
        format!("{name} is not valid: expected an address and port such as 0.0.0.0:3001, or a host name and port")
    })?;
    let is_local = |address: &SocketAddr| UdpSocket::bind((address.ip(), 0)).is_ok();
    addresses
        .into_iter()
        .find(is_local)
        .with_context(|| format!("{name} is not valid: {text} is no address of this machine"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotation_marks_in_a_list_are_refused() {
        assert_eq!(
            items(" a, ,b c,"),
            Ok(vec!["a".to_owned(), "b c".to_owned()])
        );
        for text in ["\"a,b\"", "'a'", "a,b\""] {
            assert!(items(text).is_err(), "{text}");
        }
    }
}
