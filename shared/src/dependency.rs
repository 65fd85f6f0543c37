//! How the infrastructure stood when a worker last looked.

use std::{fmt, time::Duration};

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::upstream::Upstream;

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// The database.
    Mongodb,
    /// The hints.
    Redis,
    /// An upstream.
    Upstream(Upstream),
    /// A DNS resolver, as it was configured.
    Resolver(String),
}

impl Dependency {
    /// What it is a part of: `store`, `upstream` or `resolver`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Mongodb | Self::Redis => "store",
            Self::Upstream(_) => "upstream",
            Self::Resolver(_) => "resolver",
        }
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Mongodb => "mongodb",
            Self::Redis => "redis",
            Self::Upstream(upstream) => upstream.name(),
            Self::Resolver(name) => name,
        }
    }
}

/// The name under which its probe is stored.
impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.name())
    }
}

/// What a look at something found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckResult {
    /// It answered, after so long.
    Answered(Duration),
    /// It did not, or not as it should. Why, safe to show.
    Failed(String),
    /// Its integration is switched off: nobody asked it.
    Disabled,
}

/// How a look at something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// It answered.
    Ok,
    /// It did not, or not as it should.
    Failed,
    /// Its integration is switched off: nobody asked it.
    Disabled,
}

/// The last look at something, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DependencyStatus {
    /// What was looked at.
    #[serde(rename = "_id")]
    pub id: String,
    /// What that is a part of.
    pub kind: String,
    /// What people call it.
    pub name: String,
    /// When.
    pub checked_at: DateTime,
    /// How it ended.
    pub outcome: CheckState,
    /// How long the answer took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<i64>,
    /// What went wrong, safe to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<DateTime>,
}
