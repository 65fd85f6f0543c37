//! Error class: the party that has to act on an error.

use serde::{Deserialize, Serialize};

use crate::unknown_name::UnknownName;

/// Class of an error: the party that has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The customer, for instance by correcting a domain name.
    UserAction,
    /// The upstream's operators; the job is retried meanwhile.
    Upstream,
    /// No action needed: we exceeded a rate limit, and wait.
    RateLimited,
    /// Our operators: an upstream rejects our credentials, or a permission is missing.
    Credentials,
    /// Our operators: an object in an upstream belongs to another owner.
    Conflict,
    /// Our developers: a bug.
    Bug,
    /// A class of a newer build.
    #[serde(untagged)]
    Unknown(UnknownName),
}

impl ErrorClass {
    /// Every class that this build defines.
    pub const ALL: [Self; 6] = [
        Self::UserAction,
        Self::Upstream,
        Self::RateLimited,
        Self::Credentials,
        Self::Conflict,
        Self::Bug,
    ];

    /// Name in documents, on the wire and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserAction => "user_action",
            Self::Upstream => "upstream",
            Self::RateLimited => "rate_limited",
            Self::Credentials => "credentials",
            Self::Conflict => "conflict",
            Self::Bug => "bug",
            Self::Unknown(name) => name.as_str(),
        }
    }
}
