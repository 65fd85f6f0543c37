//! Readiness: the checks of the stores and of the identity provider.

use dezky_shared::{
    platform::coalescer::{Coalescer, Limits},
    queue::ready_set::ReadySet,
    readiness,
    store::Store,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::{SubjectCheck, TokenVerifier},
    error::ProblemCode,
};

/// Readiness checks. Concurrent requests share one, so that no number of them loads the stores.
pub(crate) type ReadinessChecks = Coalescer<(), Readiness>;

/// Coalesces the checks of a process.
pub(crate) fn readiness_checks() -> ReadinessChecks {
    Coalescer::new(Limits {
        in_flight: 1,
        slot_timeout: None,
        pause: |_, took| took,
    })
}

/// Whether the process can serve requests.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ReadinessStatus {
    /// Everything works.
    Ready,
    /// Works with more delay.
    Degraded,
    /// Cannot serve requests.
    Unready,
}

/// Readiness.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready`, `degraded` (works with more delay) or `unready`.
    status: ReadinessStatus,
    /// Database.
    mongodb: Check,
    /// Redis, which carries hints between processes.
    redis: Check,
    /// The identity provider. Only if its tokens are refused: the service is then `degraded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Check>,
}

impl Readiness {
    /// While the process starts.
    pub(crate) fn starting() -> Self {
        Self::new(readiness::Readiness::starting(), None)
    }

    /// Checks both stores. `identity` is the check of the identity provider.
    pub(crate) async fn check(store: &Store, ready: &ReadySet, identity: Option<Check>) -> Self {
        let stores = readiness::Readiness::check(store, ready).await;
        Self::new(stores, identity)
    }

    /// Whether the process can serve requests.
    pub(crate) const fn can_serve(&self) -> bool {
        self.mongodb.ok
    }

    fn new(stores: readiness::Readiness, identity: Option<Check>) -> Self {
        Self {
            status: match stores.status() {
                "ready" if identity.is_none() => ReadinessStatus::Ready,
                "ready" | "degraded" => ReadinessStatus::Degraded,
                _ => ReadinessStatus::Unready,
            },
            mongodb: stores.mongodb.into(),
            redis: stores.redis.into(),
            identity,
        }
    }
}

/// Result of a check.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = HealthCheck)]
pub(crate) struct Check {
    /// Whether the check passed.
    ok: bool,
    /// Error.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl From<anyhow::Result<()>> for Check {
    fn from(result: anyhow::Result<()>) -> Self {
        Self {
            ok: result.is_ok(),
            detail: result.err().map(|error| error.to_string()),
        }
    }
}

/// The issuers whose tokens are refused, if any.
pub(crate) fn identity(tokens: &TokenVerifier) -> Option<Check> {
    let refused: Vec<&str> = tokens
        .subject_checks()
        .filter_map(|(issuer, check)| (check == SubjectCheck::Other).then_some(issuer))
        .collect();
    let detail = || {
        let what = ProblemCode::TokenWrongSubject.detail();
        format!("Tokens of {} are refused. {what}", refused.join(", "))
    };
    (!refused.is_empty()).then(|| Check {
        ok: false,
        detail: Some(detail()),
    })
}
