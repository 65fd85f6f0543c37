//! Setup checks: whether the premises of the control plane hold at an upstream.
//!
//! A job that meets a missing premise fails with a symptom: a member who is not recognised, a mailbox that stays open. The
//! checks name the cause and the remedy. They only read.

use std::time::Duration;

use dezky_shared::platform::clock;
use http::{StatusCode, header};
use jiff::fmt::rfc2822;

use super::{ClientError, UpstreamResponse};

/// Tolerated difference between the clocks of this machine and an upstream, in seconds: the leeway with which the api
/// verifies tokens.
const CLOCK_TOLERANCE: i64 = 30;

/// One premise and whether it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupCheck {
    /// Name of the premise: `version`, `subject mode of dezky-portal`.
    pub name: String,
    /// Whether it holds.
    pub outcome: SetupOutcome,
}

/// Outcome of a setup check. The texts are for operators and contain no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetupOutcome {
    /// The premise holds, with the finding.
    Ok(String),
    /// The premise does not hold, with the problem and the remedy.
    Failed(String),
    /// The check could not be made, with the reason.
    Unknown(String),
}

impl SetupCheck {
    /// A premise that holds.
    pub fn ok(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, SetupOutcome::Ok(found.into()))
    }

    /// A premise that does not hold.
    pub fn failed(name: &str, problem: impl Into<String>) -> Self {
        Self::new(name, SetupOutcome::Failed(problem.into()))
    }

    /// A check that could not be made.
    pub fn unknown(name: &str, reason: impl Into<String>) -> Self {
        Self::new(name, SetupOutcome::Unknown(reason.into()))
    }

    /// Check of the credentials, which failed with this error. No other check can follow.
    pub(super) fn credentials(error: &ClientError, remedy: &str) -> Self {
        const NAME: &str = "credentials";
        let is_refused = matches!(
            error,
            ClientError::Credentials(_) | ClientError::Permission(_)
        ) || error.call().status == Some(StatusCode::UNAUTHORIZED);
        let remedy = if is_refused {
            remedy
        } else {
            "check its address and whether it runs"
        };
        Self::failed(NAME, format!("{error}; {remedy}"))
    }

    /// Check that ended with this error: unknown, because only a missing permission and an outage end one.
    pub(super) fn of_error(name: &str, error: &ClientError, remedy: &str) -> Self {
        Self::unknown(name, format!("{error}; {remedy}"))
    }

    fn new(name: &str, outcome: SetupOutcome) -> Self {
        Self {
            name: name.to_owned(),
            outcome,
        }
    }
}

/// Compares the upstream's clock with this machine's. Tokens, links and leases depend on both.
pub(super) fn check_clock(response: &UpstreamResponse) -> SetupCheck {
    const NAME: &str = "clock";
    let date = response.headers.get(header::DATE);
    let date = date.and_then(|date| rfc2822::parse(date.to_str().ok()?).ok());
    let Some(date) = date else {
        return SetupCheck::unknown(NAME, "its responses carry no date");
    };
    let ours = clock::now().timestamp_millis() / 1_000;
    let ahead = date.timestamp().as_second() - ours;
    if ahead.abs() <= CLOCK_TOLERANCE {
        return SetupCheck::ok(NAME, format!("within {CLOCK_TOLERANCE} s of ours"));
    }
    let difference = Duration::from_secs(ahead.unsigned_abs());
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    SetupCheck::failed(
        NAME,
        format!("{difference:?} {direction} ours; synchronise both machines by NTP"),
    )
}
