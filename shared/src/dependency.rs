//! Dependency checks: the last known status of the infrastructure, as recorded by a worker.

use std::{fmt, time::Duration};

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::upstream::Upstream;

/// A checked dependency.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// MongoDB.
    Mongodb,
    /// Redis.
    Redis,
    /// An upstream.
    Upstream(Upstream),
    /// A DNS resolver, as configured.
    Resolver(String),
}

impl Dependency {
    /// Kind of dependency: `store`, `upstream` or `resolver`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Mongodb | Self::Redis => "store",
            Self::Upstream(_) => "upstream",
            Self::Resolver(_) => "resolver",
        }
    }

    /// Display name.
    pub fn name(&self) -> &str {
        match self {
            Self::Mongodb => "mongodb",
            Self::Redis => "redis",
            Self::Upstream(upstream) => upstream.name(),
            Self::Resolver(name) => name,
        }
    }
}

/// Id under which the status is stored.
impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.name())
    }
}

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckResult {
    /// Healthy, with the response time.
    Answered(Duration),
    /// Unhealthy, with a reason that is safe to show.
    Failed(String),
    /// The integration is disabled; no check was made.
    Disabled,
}

/// Outcome of a check, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// Healthy.
    Ok,
    /// Unhealthy.
    Failed,
    /// The integration is disabled; no check was made.
    Disabled,
}

/// Status of a dependency at the last check, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DependencyStatus {
    /// Dependency id.
    #[serde(rename = "_id")]
    pub id: String,
    /// Kind of dependency.
    pub kind: String,
    /// Display name.
    pub name: String,
    /// Time of the check.
    pub checked_at: DateTime,
    /// Outcome of the check.
    pub outcome: CheckState,
    /// Response time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<i64>,
    /// Failure reason, safe to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Time of the last successful check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<DateTime>,
    /// Failed setup checks of an upstream, each with its remedy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}
