//! Readiness check: whether the stores are reachable and correctly configured.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bson::{Bson, doc};
use tokio::time::timeout;

use crate::{queue::ready_set::ReadySet, store::Store};

/// Response timeout of a store.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum transaction lifetime, in seconds: an orphaned transaction must release its locks soon.
const TRANSACTION_LIFETIME: i64 = 5;

/// Readiness of each store, with the reason if it is not ready.
#[derive(Debug)]
pub struct Readiness {
    /// MongoDB. Required.
    pub mongodb: anyhow::Result<()>,
    /// Redis. Optional: without it, jobs start with some delay.
    pub redis: anyhow::Result<()>,
}

impl Readiness {
    /// Checks both stores.
    pub async fn check(store: &Store, ready: &ReadySet) -> Self {
        let mongodb = async {
            match timeout(RESPONSE_TIMEOUT, check_mongodb(store)).await {
                Ok(outcome) => outcome,
                Err(_) => bail!("MongoDB does not respond"),
            }
        };
        let redis = async {
            match timeout(RESPONSE_TIMEOUT, ready.ping()).await {
                Ok(Ok(())) => Ok(()),
                _ => bail!("Redis does not respond; jobs start with some delay"),
            }
        };
        let (mongodb, redis) = tokio::join!(mongodb, redis);
        Self { mongodb, redis }
    }

    /// Readiness before MongoDB is connected.
    pub fn starting() -> Self {
        let failed = |detail: &'static str| Err(anyhow::Error::msg(detail));
        Self {
            mongodb: failed("MongoDB does not respond, or the indexes are not created yet"),
            redis: failed("Redis is not checked before MongoDB is connected"),
        }
    }

    /// Whether the process can do its work.
    pub fn is_ready(&self) -> bool {
        self.mongodb.is_ok()
    }

    /// `ready`; `degraded`: working, with more delay than usual; `unready`.
    pub fn status(&self) -> &'static str {
        match (&self.mongodb, &self.redis) {
            (Ok(()), Ok(())) => "ready",
            (Ok(()), Err(_)) => "degraded",
            (Err(_), _) => "unready",
        }
    }
}

async fn check_mongodb(store: &Store) -> anyhow::Result<()> {
    const LIMIT: &str = "transactionLifetimeLimitSeconds";
    let admin = store.database().client().database("admin");
    let hello = admin
        .run_command(doc! { "hello": 1 })
        .await
        .context("MongoDB does not respond")?;
    ensure!(
        hello.contains_key("setName"),
        "MongoDB is not a replica set, which transactions require"
    );
    let parameters = admin
        .run_command(doc! { "getParameter": 1, LIMIT: 1 })
        .await
        .context("Cannot read MongoDB's parameters: our user needs the role clusterMonitor")?;
    let limit = match parameters.get(LIMIT) {
        Some(Bson::Int32(seconds)) => i64::from(*seconds),
        Some(Bson::Int64(seconds)) => *seconds,
        _ => bail!("MongoDB does not return {LIMIT}"),
    };
    ensure!(
        limit <= TRANSACTION_LIFETIME,
        "MongoDB's {LIMIT} is {limit}; it must be at most {TRANSACTION_LIFETIME}"
    );
    Ok(())
}
