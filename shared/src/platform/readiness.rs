//! Whether the stores are there and set up as we need them.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bson::{Bson, doc};
use tokio::time::timeout;

use crate::{queue::ready_set::ReadySet, store::Store};

/// How long a store may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that a transaction of somebody who died may hold its locks.
const TRANSACTION_LIFETIME: i64 = 5;

/// What is wrong with each store, if anything.
#[derive(Debug)]
pub struct Readiness {
    /// The database: without it nothing can be done.
    pub mongodb: anyhow::Result<()>,
    /// The hints: without them everything takes a little longer.
    pub redis: anyhow::Result<()>,
}

impl Readiness {
    /// Asks both stores.
    pub async fn check(store: &Store, ready: &ReadySet) -> Self {
        let mongodb = async {
            match timeout(ANSWER_TIMEOUT, look_at_mongodb(store)).await {
                Ok(outcome) => outcome,
                Err(_) => bail!("MongoDB does not answer"),
            }
        };
        let redis = async {
            match timeout(ANSWER_TIMEOUT, ready.ping()).await {
                Ok(Ok(())) => Ok(()),
                _ => bail!("Redis does not answer; jobs start with some delay"),
            }
        };
        let (mongodb, redis) = tokio::join!(mongodb, redis);
        Self { mongodb, redis }
    }

    /// Before MongoDB was there.
    pub fn starting() -> Self {
        let failed = |detail: &'static str| Err(anyhow::Error::msg(detail));
        Self {
            mongodb: failed("MongoDB does not answer, or the indexes are not made yet"),
            redis: failed("Redis is not looked at before MongoDB is there"),
        }
    }

    /// Whether work can be done.
    pub fn is_ready(&self) -> bool {
        self.mongodb.is_ok()
    }

    /// `ready`; `degraded`: it works, with more delay than usual; `unready`.
    pub fn status(&self) -> &'static str {
        match (&self.mongodb, &self.redis) {
            (Ok(()), Ok(())) => "ready",
            (Ok(()), Err(_)) => "degraded",
            (Err(_), _) => "unready",
        }
    }
}

async fn look_at_mongodb(store: &Store) -> anyhow::Result<()> {
    const LIMIT: &str = "transactionLifetimeLimitSeconds";
    let admin = store.database().client().database("admin");
    let hello = admin
        .run_command(doc! { "hello": 1 })
        .await
        .context("MongoDB does not answer")?;
    ensure!(
        hello.contains_key("setName"),
        "MongoDB is not a replica set, which transactions need"
    );
    let parameters = admin
        .run_command(doc! { "getParameter": 1, LIMIT: 1 })
        .await
        .context("MongoDB does not show its parameters: our user needs the role clusterMonitor")?;
    let limit = match parameters.get(LIMIT) {
        Some(Bson::Int32(seconds)) => i64::from(*seconds),
        Some(Bson::Int64(seconds)) => *seconds,
        _ => bail!("MongoDB does not say what {LIMIT} is"),
    };
    ensure!(
        limit <= TRANSACTION_LIFETIME,
        "MongoDB's {LIMIT} is {limit}; it must be at most {TRANSACTION_LIFETIME}"
    );
    Ok(())
}
